"""``export_run``: the last policy of a run as a checked file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from frugalrl.envs import RowEnv
from frugalrl.envs.rows import say_error
from frugalrl.export.check import Checked, collect, compare, compare_episodes
from frugalrl.export.describe import describe, describe_state
from frugalrl.export.file_player import FilePlayer
from frugalrl.export.formats import FORMATS, Format, Played, hushed
from frugalrl.export.program import Names, StateDescription, example, program_of
from frugalrl.policies.acting import Player
from frugalrl.run.last_policy import LastPolicy, last_policy
from frugalrl.run.record import write_json
from frugalrl.types import RunFailed, UserError

_ROWS, _STEPS = 4, 64
_ONE = {"q": "Q-value", "logits": "logit"}
_AFTER_AN_END, _MOST_STEPS = 32, 2_000
"""Steps that a policy with memory is compared for after the first end of an episode, and at most."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    description: Path
    format: str
    preferences: str
    """What was compared, and comes out beside the action: ``q`` or ``logits``."""
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
    env = last.env(rows=_ROWS, seed=last.config.evaluation.seed)
    try:
        cpu = torch.device("cpu")
        ours, written = (last.policy(env.spec, device=cpu, precision="fp32") for _ in range(2))
        program = program_of(written)
        names = program.names
        state = describe_state(ours, names, last.protocol)
        try:
            with hushed():
                form.write(program, example(torch.tensor(env.reset().obs[:2]), ours), part)
                checked = _check(last, env, ours, form.read(part, names), names, state)
        except (OSError, RunFailed):
            raise
        except FloatingPointError as error:
            raise RunFailed(f"the policy of step {last.step:,} is of no use: {error}") from error
        except Exception as error:
            raise RunFailed(f"the network cannot be exported to {form.name}: {say_error(error)[:300]}") from error
        if not checked.agrees:
            raise RunFailed(
                f"the exported policy is not the run's: a {_ONE[names.preferences]} differs by "
                f"{checked.max_abs_difference:.3g}, more than the {checked.allowed:.3g} allowed; nothing was written"
            )
        sha256 = hashlib.sha256(part.read_bytes()).hexdigest()
        description = path.with_name(f"{path.name}.json")
        document = describe(last, env, form, checked, names, state, file=path.name, sha256=sha256)
        write_json(description, document)
        os.replace(part, path)
        return Exported(path, description, form.name, names.preferences, checked, last.step, env.spec.id)
    finally:
        env.close()


def _check(
    last: LastPolicy, env: RowEnv, ours: Player, played: Played, names: Names, state: StateDescription
) -> Checked:
    if names.state:
        theirs = FilePlayer(played, names, state)
        return compare_episodes(
            env,
            ours,
            theirs,
            env.seed,
            least=_STEPS,
            after=_AFTER_AN_END,
            most=_MOST_STEPS,
            clip_reward=last.protocol.clip_reward,
        )

    def preferences(obs: NDArray[Any]) -> NDArray[Any]:
        return ours.values(obs, {})[0]

    return compare(collect(env, preferences, _STEPS, env.seed), preferences, played)
