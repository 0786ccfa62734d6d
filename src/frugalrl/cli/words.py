"""Numbers and records in words, shared by the screen, the plain lines and the end of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frugalrl.run.evaluate import Score
    from frugalrl.run.status import Header


def first_line(header: Header) -> str:
    """What runs where, in one line."""
    return " | ".join(
        (
            header.env,
            f"protocol {header.protocol}",
            f"recipe {header.recipe}",
            f"explorer {header.explorer}",
            f"sampler {header.sampler}",
            f"seed {header.seed}",
            f"{header.threads} thread{'' if header.threads == 1 else 's'}",
            f"device {header.device}",
        )
    )


def second_line(header: Header) -> str:
    """Where it goes on from, how long it runs, where it is kept."""
    resumed = "" if header.resumed_at is None else f"resumed at step {header.resumed_at:,} | "
    return f"{resumed}budget {header.budget} | folder {header.folder}"


def short(value: float) -> str:
    """Four significant digits, three below 0.01; no exponent for everyday sizes."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}" if size < 1e9 else f"{value:.3g}"
    if 0 < size < 1e-4:
        return f"{value:.1e}"
    if size < 0.01:
        return f"{value:.3g}"
    return f"{value:.4g}" if size < 100 else f"{value:.1f}"


def count(number: int) -> str:
    """``12,345``, ``12.35 M``: for places that are narrow."""
    return f"{number:,}" if number < 1_000_000 else f"{number / 1e6:.4g} M"


def interval(score: Score) -> str:
    """The interval of a score in square brackets; nothing for a single episode."""
    return "" if score.interval is None else f"[{short(score.interval[0])}, {short(score.interval[1])}]"


def episodes(score: Score) -> str:
    """``1 episode``, ``10 episodes``."""
    return f"{score.episodes} episode{'' if score.episodes == 1 else 's'}"


def score_in_words(score: Score) -> str:
    """A score with all that it depends on."""
    from frugalrl.envs.protocols import EXACT_MATCH

    between = f" {interval(score)}" if score.interval is not None else ""
    if score.protocol == EXACT_MATCH:
        about = f"over {score.episodes} prompts, protocol {score.protocol}, answers sampled at temperature 1"
    else:
        how = "actions sampled" if score.actions == "sampled" else f"epsilon {score.epsilon:g}"
        about = f"over {episodes(score)}, protocol {score.protocol}, {how}"
    return f"{short(score.mean_return)}{between} {about}"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h"


def euros(value: float) -> str:
    """Money; small sums keep two significant digits."""
    return f"{value:,.2f} EUR" if value >= 1 else f"{value:.2g} EUR"


def score_to_json(score: Score) -> dict[str, Any]:
    """Keys of a score for machines; without its clock, so that equal scores print equal lines."""
    from frugalrl.run.evaluator import score_to_json as whole

    return {key: value for key, value in whole(score).items() if key != "cpu_s"}


def one_line(document: Any) -> str:
    """A JSON document on one line; numbers JSON has no word for become null.

    In ASCII: stdout may have any encoding, and a path that is printed must lead to its file.
    """
    return json.dumps(_finite(document), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    return value
