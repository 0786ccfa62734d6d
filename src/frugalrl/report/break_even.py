"""Break-even: what a cheaper method saves, in sampler cores of the other one. Modelled, by Amdahl's law.

The dearer method's serial time to the target is S + L, S the sampler's CPU-seconds (environment and inference), L all
others. With its sampler spread over k cores without loss it is S / k + L. The cheaper method takes the share r of
S + L, so k = S / (r (S + L) - L); where r (S + L) <= L, no number of cores does it.
"""

from __future__ import annotations

from frugalrl.report.numbers import plain
from frugalrl.report.results import ToTarget
from frugalrl.report.shared import no_interval
from frugalrl.report.words import between, short


def sampler_cores(sampler_s: float, rest_s: float, ratio: float) -> float | None:
    """Cores of the sampler with which ``sampler_s / k + rest_s`` is ``ratio`` of the whole; None where none does.

    ``ratio`` lies above 0. At 1 the answer is 1 core: nothing has to be saved.
    """
    left = ratio * (sampler_s + rest_s) - rest_s
    return sampler_s / left if left > 0 else None


def break_even(env: str, method: str, baseline: str, mine: ToTarget, theirs: ToTarget) -> str:
    """One sentence on CPU time; it says that break-even is refused, and why, where a difference is not shown.

    Both methods reached the target.
    """
    ratio = mine.ratio["cpu_s"]
    goal = f"{plain(mine.target)} on {env}"
    if ratio.value is None:
        return f"Break-even in sampler cores of {method} and {baseline} for {goal} is refused: {ratio.source}."
    told = (
        f"{method} reaches {goal} with {short(ratio.value)}{between(ratio.interval)} times the CPU time of {baseline}"
    )
    if ratio.interval is None:
        return f"{told}; break-even in sampler cores is refused: {no_interval(ratio)}."
    low, high = ratio.interval
    if low <= 1 <= high:
        return f"{told}: no difference shown, so break-even in sampler cores is refused (the interval contains 1)."
    if high < 1:
        return _sentence(goal, method, baseline, theirs, ratio.value, ratio.interval)
    return _sentence(goal, baseline, method, mine, 1 / ratio.value, (1 / high, 1 / low))


def _sentence(goal: str, cheap: str, dear: str, expected: ToTarget, ratio: float, interval: tuple[float, float]) -> str:
    sampler, whole = expected.expected["sampler_s"].value, expected.expected["cpu_s"].value
    told = f"{cheap} reaches {goal} with {short(ratio)}{between(interval)} times the CPU time of {dear}"
    if sampler is None or whole is None:
        return f"{told}; break-even in sampler cores is refused: its CPU time by role is not known."
    rest = whole - sampler
    cores = sampler_cores(sampler, rest, ratio)
    if cores is None:
        return (
            f"{told}: no number of sampler cores saves {dear} as much (modelled): the learner and everything else "
            f"alone take {short(rest)} of its {short(whole)} CPU-s."
        )
    most, least = (sampler_cores(sampler, rest, end) for end in interval)
    assert least is not None
    ends = f"[{short(least - 1)}, {'no number' if most is None else short(most - 1)}]"
    return (
        f"{told}: as much as {short(cores - 1)} {ends} more sampler cores would save {dear} (modelled: its sampler "
        f"takes {short(sampler)} of {short(whole)} CPU-s and would spread over cores without loss)."
    )
