"""How far a sampler was from its learner: from a file of log-probabilities, or from what a run has logged."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.importance import Correction, Finding, apply, find
from frugalrl.math.importance.diagnostics import PREFIX
from frugalrl.types import UserError

Floats = NDArray[np.floating[Any]]
_PI, _MU = ("log_pi", "log_pi_old"), ("log_mu",)
_OTHER_NAMES = {"ratio_mean": "ratio_mean", "ratio_max": "ratio_max", "ess": "ess"}
"""Metrics that V-trace and PPO log without the prefix."""
_OF_CORRECTION = frozenset(
    PREFIX + name
    for name in (
        "clipped_high_share", "clipped_low_share", "masked_share", "masked_sequence_share", "weight_mean", "ess_weight",
    )
)  # fmt: skip
"""Metrics of the correction with which they were logged; all others are of raw ratios."""
RECENT = 0.25
"""Share of a run's log that warnings are about: a mismatch grows or is mended as a run goes on."""
DEFAULT = "token-tis:2"


@dataclass(frozen=True, kw_only=True, slots=True)
class MismatchReport:
    """Metrics, warnings and one sentence."""

    source: str
    about: str
    """What was read."""
    correction: str
    """Short name of the correction that shares of clipped and masked tokens belong to."""
    metrics: Mapping[str, float]
    """By name, as `frugalrl.importance.Mismatch.metrics` has them; of a run the mean of its recent lines."""
    findings: Sequence[Finding]
    summary: str


def report_of(place: Path, correction: str | None = None) -> MismatchReport:
    """The report on a run's folder or on an .npz file.

    Args:
        place: a folder, or a file with ``log_pi`` (or ``log_pi_old``), ``log_mu`` and perhaps ``mask`` and
            ``advantage``, [B, T] with sequences in rows, or [N] without sequences.
        correction: short name; None: the run's own, or `DEFAULT` for a file. Of a run, another than its own is what
            warnings are about; what that would clip and mask nobody knows.

    Raises:
        UserError: no such place, nothing to read there, or numbers that are no log-probabilities.
    """
    if correction is not None:
        _parse(correction)
    if place.is_dir():
        return _of_run(place, correction)
    return _of_file(place, correction or DEFAULT)


def _parse(name: str) -> Correction:
    try:
        return Correction.parse(name)
    except ValueError as error:
        raise UserError(f"--correction: {error}") from None


# -- a file ------------------------------------------------------------------------------------------------------------


def _of_file(path: Path, name: str) -> MismatchReport:
    arrays = read_arrays(path)
    log_pi, log_mu = arrays[next(n for n in _PI if n in arrays)], arrays["log_mu"]
    correction = _parse(name)
    try:
        corrected = apply(correction, log_pi, log_mu, arrays.get("mask"))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    metrics = dict(corrected.metrics)
    if "advantage" in arrays:
        metrics |= by_sign(corrected.log_ratio, corrected.mask, arrays["advantage"])
    tokens = f"{int(corrected.mask.sum()):,} tokens"
    about = tokens if log_mu.ndim == 1 else f"{tokens} in {int(corrected.mask.any(1).sum()):,} sequences"
    return _report(str(path), about, correction, metrics, corrected.warnings)


def by_sign(log_ratio: Floats, mask: NDArray[np.bool_], advantage: Floats) -> dict[str, float]:
    """Mean log-ratio of tokens by the sign of their advantage; NaN where there is none.

    Tokens with advantages below 0 that pi has given up and mu still draws (log-ratios far below 0) are punished again
    and again: the part of a mismatch that does the harm (Yao, Liu et al. 2025).
    """
    parts = {"positive": mask & (advantage > 0), "negative": mask & (advantage < 0)}
    return {
        f"{PREFIX}log_ratio_of_{sign}": float(log_ratio[part].mean()) if part.any() else math.nan
        for sign, part in parts.items()
    }


def read_arrays(path: Path) -> dict[str, Floats]:
    """The arrays of an .npz file by name; objects are not read. Raises UserError, one sentence."""
    try:
        # numpy leaves a damaged file open when it opens it itself
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise UserError(f"{path} holds one array without a name; save log_pi and log_mu with numpy.savez")
            found = {name: _numbers(path, name, file) for name in _known(path, file.files)}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give the folder of a run, or an .npz file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or 'it is no .npz file'}") from None
    except MemoryError:
        raise UserError(f"{path} names arrays that do not fit into memory; it is damaged, or save fewer rows") from None
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        # RuntimeError: an archive with a password, or packed in a way that Python cannot unpack
        raise UserError(f"{path} is not an .npz file of arrays, or it is damaged or cut short") from None
    shapes = {name: list(x.shape) for name, x in found.items()}
    if len({tuple(s) for s in shapes.values()}) > 1:
        raise UserError(f"{path}: the arrays must have one shape, but got {_joined(shapes)}")
    if found["log_mu"].ndim not in (1, 2):
        raise UserError(f"{path}: expected arrays [B, T] or [N], but got {_joined(shapes)}")
    return found


def _known(path: Path, names: Sequence[str]) -> list[str]:
    """Names of arrays to read. Raises UserError when one is missing."""
    for wanted in (_PI, _MU):
        if not any(name in names for name in wanted):
            near = get_close_matches(wanted[0], names, n=1, cutoff=0.5)
            hint = f"; is {near[0]!r} meant?" if near else ""
            there = ", ".join(sorted(names)) or "nothing"
            raise UserError(f"{path} has no array {' or '.join(map(repr, wanted))}; it holds {there}{hint}")
    pi = next(name for name in _PI if name in names)
    return [pi, "log_mu", *(name for name in ("mask", "advantage") if name in names)]


def _numbers(path: Path, name: str, file: Mapping[str, Floats]) -> Floats:
    try:
        x = file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UserError(f"{path}: {name} holds Python objects, which are not read; save it as floats") from None
    if not isinstance(x, np.ndarray):
        raise ValueError(f"{name} is no array")  # a member of another format
    if x.dtype.kind not in ("fiub" if name == "mask" else "fiu"):
        raise UserError(f"{path}: {name} holds {x.dtype}, not numbers")
    return x


def _joined(shapes: Mapping[str, list[int]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


# -- a run -------------------------------------------------------------------------------------------------------------


def _of_run(folder: Path, name: str | None) -> MismatchReport:
    from frugalrl.run.record import RunFolder, read_json

    run = RunFolder.open(folder)
    lines = [mismatch_of(line) for line in run.lines() if line.get("kind") == "progress"]
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(
            f"{folder} has logged no mismatch between sampler and learner: value-based agents need no correction and "
            f"log none; runs with the agents ppo, impala and grpo do"
        )
    agent = read_json(folder / "config.json").get("agent") or {}
    own = _of_config(agent)
    correction = own if name is None else _parse(name)
    recent = lines[-max(1, round(RECENT * len(lines))) :]
    metrics = joined(recent)
    about = f"the last {len(recent)} of {len(lines)} progress lines"
    if correction != own:  # the log has no ratios of single tokens, of which another correction could be asked
        metrics = {name: value for name, value in metrics.items() if name not in _OF_CORRECTION}
        about += f" (what {own.name()}, with which it ran, clipped and masked is left out)"
    return _report(str(folder), about, correction, metrics, find(metrics, correction))


def _of_config(agent: Mapping[str, Any]) -> Correction:
    """The correction in a run's configuration; an agent with V-trace truncates at ``pg_rho_bar``."""
    named = agent.get("correction")
    if isinstance(named, str) and named != "vtrace":
        return _parse(named)
    if agent.get("pg_rho_bar") is not None:
        return Correction(level="token", mode="truncate", high=float(agent["pg_rho_bar"]))
    return Correction(level=None)


def mismatch_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The mismatch metrics of a progress line, each with the prefix; numbers only."""
    found = {PREFIX + ours: line[theirs] for theirs, ours in _OTHER_NAMES.items() if theirs in line}
    found |= {name: value for name, value in line.items() if name.startswith(PREFIX)}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def joined(lines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over lines, largest values of what is a maximum; NaN counts for nothing."""
    names = dict.fromkeys(name for line in lines for name in line)
    found = {}
    for name in names:
        values = [line[name] for line in lines if name in line and not math.isnan(line[name])]
        joining = max if name.endswith("_max") else min if name.endswith("_min") else _mean
        found[name] = joining(values) if values else math.nan
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# -- in words ----------------------------------------------------------------------------------------------------------


def _report(
    source: str, about: str, correction: Correction, metrics: Mapping[str, float], findings: Sequence[Finding]
) -> MismatchReport:
    return MismatchReport(
        source=source,
        about=about,
        correction=correction.name(),
        metrics=metrics,
        findings=tuple(findings),
        summary=summary(metrics, findings),
    )


def summary(metrics: Mapping[str, float], findings: Sequence[Finding]) -> str:
    """One sentence: what is wrong, or how large the mismatch is and whether a correction matters."""
    if findings:
        others = f"; see also: {', '.join(f.name for f in findings[1:])}" if len(findings) > 1 else ""
        return f"Most likely cause: {findings[0].name}{others}."
    k3 = metrics.get(PREFIX + "k3", math.nan)
    if math.isnan(k3):
        return "Nothing in what was logged points to a mistake."
    if k3 < 1e-7:
        size = "Sampler and learner are the same policy; a correction changes nothing."
    elif k3 < 1e-3:
        size = "The mismatch is as small as that of a bf16 engine; a correction hardly changes anything."
    elif k3 < 1e-2:
        size = "The mismatch is moderate, like that of 8 bits in a large model; truncate the ratio."
    else:
        size = "The mismatch is large, like that of 3 bits or of old weights; truncate the ratio, and watch the ESS."
    return f"Nothing points to a mistake. {size}"


ROWS = (
    ("k1", "KL(mu, pi), estimate k1", "about 0.001; never clearly negative"),
    ("k3", "KL(mu, pi), estimate k3", "below 0.001; 0.01 and more is large"),
    ("js", "Jensen-Shannon divergence", "below 0.001"),
    ("tv", "total variation", "below 0.01"),
    ("abs_log_diff", "mean abs log-ratio", "0.001 to 0.02"),
    ("prob_diff", "mean probability difference", "below 0.01"),
    ("prob_diff_max", "largest probability difference", "below 0.4"),
    ("ratio_mean", "mean ratio pi/mu", "1"),
    ("ratio_p01", "ratio, 1 % below", ""),
    ("ratio_p99", "ratio, 99 % below", ""),
    ("ratio_max", "largest ratio", ""),
    ("ess", "effective sample size, per token", "above 0.5"),
    ("ess_sequence", "effective sample size, per sequence", "above 0.5 where a product is used"),
    ("slope", "slope of log pi on log mu", "1"),
    ("correlation", "correlation of log pi and log mu", "above 0.9"),
    ("odds_gap", "log-odds of pi less those of mu, where both are sure", "0"),
    ("odds_share", "share of these gaps on one line", "below 0.5"),
    ("length", "tokens of a sequence", ""),
    ("clipped_high_share", "ratios above the bound", "below 0.1"),
    ("clipped_low_share", "ratios below the bound", "below 0.1"),
    ("masked_share", "tokens of weight 0", "below 0.1"),
    ("missing_share", "tokens without a log-probability", "0"),
    ("weight_mean", "mean weight", "0.5 to 1.1"),
    ("log_ratio_of_positive", "mean log-ratio, advantage above 0", ""),
    ("log_ratio_of_negative", "mean log-ratio, advantage below 0", "far below 0 does harm"),
)
"""Metric, what it is, and what is healthy; see docs/importance.md."""
