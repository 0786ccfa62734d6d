"""Where the interpreter with vLLM is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from frugalrl.types import UserError

PLACE = Path(".venvs") / "vllm" / "bin" / "python"
_SOURCE = Path(__file__).resolve().parents[4]


def find_python(named: str | None) -> Path:
    """The interpreter of vLLM's virtual environment.

    Args:
        named: ``sampler.vllm_python``: a file, a name on the search path, or None for ``.venvs/vllm`` below the current
            folder or beside this package's sources.

    Raises:
        UserError: there is none.
    """
    if named is not None:
        found = shutil.which(named)
        if found is None and (Path(named) / "bin" / "python").exists():
            raise UserError(f"sampler.vllm_python={named} is a folder; use sampler.vllm_python={named}/bin/python.")
        if found is None:
            raise UserError(
                f"sampler.vllm_python={named} cannot be run; name the Python of an environment that "
                f"scripts/vllm_env made."
            )
        # not resolved: a virtual environment is known by the path of its link
        return Path(found).absolute()
    places = [(folder / PLACE).absolute() for folder in dict.fromkeys((Path.cwd(), _SOURCE))]
    for place in places:
        if os.access(place, os.X_OK):
            return place
    raise UserError(
        f"sampler.engine=vllm needs vLLM in an environment of its own, and there is none at {PLACE}; make it with "
        f"scripts/vllm_env, or name its Python with sampler.vllm_python."
    )
