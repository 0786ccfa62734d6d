"""Estimates of the mismatch grid in words."""

from __future__ import annotations

from mismatch_results import shown

from frugalrl.stats import Estimate


def number(x: float) -> str:
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}" if abs(x) >= 1 else f"{x:.3f}"


def in_words(found: Estimate | None, full: int, sign: bool = False) -> str:
    """Mean and interval; the number of seeds where it is not the full one."""
    if found is None:
        return "-"
    value = f"{'+' if sign and found.value > 0 else ''}{number(found.value)}"
    ends = "" if found.interval is None else f" [{number(found.interval[0])}, {number(found.interval[1])}]"
    return f"{value}{ends}" + (f" ({found.n})" if found.n != full else "")


def label(sampler: str) -> str:
    return "fp32" if sampler == "none" else sampler


def verdicts(found: dict[str, Estimate | None], good: str, bad: str) -> str:
    """One sentence over samplers."""
    parts = []
    for sign, word in ((1, good), (-1, bad)):
        hits = [f"{label(s)} ({in_words(e, e.n, sign=True)})" for s, e in found.items() if e and shown(e) == sign]
        if hits:
            parts.append(f"{word} at {', '.join(hits)}")
    silent = [label(s) for s, e in found.items() if e is not None and not shown(e)]
    few = [label(s) for s, e in found.items() if e is None]
    if silent:
        parts.append(f"no difference shown at {', '.join(silent)}")
    if few:
        parts.append(f"too few seeds yet at {', '.join(few)}")
    return "; ".join(parts) + "."
