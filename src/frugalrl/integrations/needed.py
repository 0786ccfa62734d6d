"""Other people's packages, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from frugalrl.types import UserError


def needed(package: str, user: str, extra: str) -> Any:
    """The module ``package``.

    Raises:
        UserError: it is not installed; says that ``user`` needs it and which extra of FrugalRL brings it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        # a package that is there and misses one of its own is another story
        if error.name != package:
            raise
        raise UserError(f"{user} needs the package {package}; run: pip install 'frugalrl[{extra}]'") from None
