"""``export_run``: the last policy of a run as a checked file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from frugalrl.envs.rows import say_error
from frugalrl.export.check import Checked, collect, compare
from frugalrl.export.describe import describe
from frugalrl.export.formats import FORMATS, Format, hushed
from frugalrl.run.last_policy import LastPolicy, last_policy
from frugalrl.run.record import write_json
from frugalrl.types import RunFailed, UserError

_ROWS, _STEPS = 4, 64


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    description: Path
    format: str
    checked: Checked
    env_steps: int
    """Agent step of the checkpoint."""
    env_id: str


def export_run(
    folder: Path, to: str, out: Path | None = None, *, note: Callable[[str], None] = lambda text: None
) -> Exported:
    """Write the policy network of the last checkpoint, and a description beside it.

    Args:
        folder: of the run.
        to: ``torch`` or ``onnx``, see ``FORMATS``.
        out: the file; by default ``policy.pt2`` or ``policy.onnx`` in the run's folder. Replaced if it exists.
        note: hears one sentence per damaged checkpoint.

    The file is read back and compared with the run's policy before it gets its name. Raises UserError, and RunFailed
    when the network cannot be exported or the file does not agree; then no file is left behind.
    """
    form = FORMATS[to]
    form.require()
    path = _place(folder, form, out)
    last = last_policy(folder)
    for sentence in last.damaged:
        note(sentence)
    torch.set_num_threads(last.config.threads)
    part = path.with_name(f".part-{path.name}")
    try:
        return _export(last, form, path, part)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _place(folder: Path, form: Format, out: Path | None) -> Path:
    path = folder / f"policy{form.suffix}" if out is None else out
    if path.suffix != form.suffix:
        raise UserError(f"--out {path}: a file for --to {form.name} ends in {form.suffix}, not in {path.suffix!r}")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder; name a file in it")
    if out is not None and not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}; make it, or choose another place")
    return path


def _export(last: LastPolicy, form: Format, path: Path, part: Path) -> Exported:
    seed = last.config.evaluation.seed
    env = last.env(rows=_ROWS, seed=seed)
    try:
        cpu = torch.device("cpu")
        ours, written = (last.policy(env.spec, device=cpu, precision="fp32") for _ in range(2))
        try:
            obs = collect(env, ours.q_values, _STEPS, seed)
        except FloatingPointError as error:
            raise RunFailed(f"the policy of step {last.step:,} is of no use: {error}") from error
        try:
            with hushed():
                form.write(written.network, torch.from_numpy(obs[:2]), part)
                checked = compare(obs, ours.q_values, form.read(part))
        except OSError:
            raise
        except Exception as error:
            raise RunFailed(f"the network cannot be exported to {form.name}: {say_error(error)[:300]}") from error
        if not checked.agrees:
            raise RunFailed(
                f"the exported policy is not the run's: a Q-value differs by {checked.max_abs_difference:.3g}, more "
                f"than the {checked.allowed:.3g} allowed; nothing was written"
            )
        sha256 = hashlib.sha256(part.read_bytes()).hexdigest()
        description = path.with_name(f"{path.name}.json")
        write_json(description, describe(last, env, form, checked, file=path.name, sha256=sha256))
        os.replace(part, path)
        return Exported(path, description, form.name, checked, last.step, env.spec.id)
    finally:
        env.close()
