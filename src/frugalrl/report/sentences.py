"""What the figures say, in sentences; where they say nothing, the sentence says so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from frugalrl.report.break_even import break_even
from frugalrl.report.lever_words import lever_sentences
from frugalrl.report.numbers import plain
from frugalrl.report.results import Crossing, EnvResult, Figure, MethodResult, Overall, ToTarget
from frugalrl.report.shared import no_interval
from frugalrl.report.titles import headline_target
from frugalrl.report.use import unit_of
from frugalrl.report.words import between, listed, plural, short

_VIEWS = {"env_steps": "equal samples", "flop": "equal FLOPs", "eur": "equal money"}


def sentences_of(envs: Sequence[EnvResult], overall: Sequence[Overall], baseline: str) -> tuple[str, ...]:
    """The verdicts: over all environments first, then by environment, on its main target and in the fair views.

    The other targets are in the tables; a sentence for each would bury the answer.
    """
    found = [_overall(entry, baseline, len(envs)) for entry in overall if entry.improvement is not None]
    for env in envs:
        found += _env(env, baseline)
    return tuple(found)


def _overall(entry: Overall, baseline: str, envs: int) -> str:
    figure = entry.improvement
    assert figure is not None
    words = (
        f"Over all environments a run of {entry.method} beats a run of {baseline} with probability "
        f"{short(figure.value)}{between(figure.interval)}"
    )
    if figure.interval is None:
        return f"{words}; one seed has no interval, so no difference is shown."
    low, high = figure.interval
    if low > 0.5:
        return f"{words}: it is better."
    return f"{words}: it is worse." if high < 0.5 else f"{words}: no difference shown."


def _env(env: EnvResult, baseline: str) -> Iterator[str]:
    base = next((m for m in env.methods if m.method == baseline), None)
    others = [m for m in env.methods if m.method != baseline]
    if env.levers is not None:
        yield from lever_sentences(env)
        others = []  # of a factorial each lever is in half of the pairs, which are in the tables
    main = headline_target(env)
    if base is not None and main is not None:
        for other in others:
            yield from _target(env.env, other, base, main[0])
    yield from _unreached(env)
    for other in others:
        yield from _views(env, other.method, baseline)
    for crossover in env.crossovers:
        if main is not None and crossover.quantity == "wall_s" and crossover.target == main[0]:
            for crossing in crossover.crossings:
                yield from _crossing(env.env, crossover.target, crossing)


def _unreached(env: EnvResult) -> Iterator[str]:
    missed = [t for t in env.targets if not any(f.reached for m in env.methods for f in m.targets if f.target == t)]
    if missed:
        yield _nobody(env, missed)


def _nobody(env: EnvResult, targets: Sequence[float]) -> str:
    """Of targets that no run reached every run used the same: all it had."""
    said = []
    for method in env.methods:
        for found in (t for t in method.targets if t.target == targets[0]):
            interval = found.expected["env_steps"].interval
            floor = "" if interval is None else f", so it takes more than {short(interval[0])} samples"
            said.append(f"0 of {found.runs} runs of {method.method}{floor}")
    goals = listed([plain(t) for t in targets])
    return (
        f"Nobody reached {goals} on {env.env} ({'; '.join(said) or 'no run has an evaluation'}): nothing else is said "
        f"about the cost, and break-even is refused."
    )


def _target(env: str, other: MethodResult, base: MethodResult, target: float) -> Iterator[str]:
    mine = next((t for t in other.targets if t.target == target), None)
    theirs = next((t for t in base.targets if t.target == target), None)
    if mine is None or theirs is None or not (mine.reached or theirs.reached):
        return
    ratio = mine.ratio["env_steps"]
    if ratio.value is None or ratio.value in (0.0, float("inf")):
        yield _one_side(env, other.method, base.method, mine, theirs)
        return
    yield _ratio(env, other.method, base.method, mine, theirs)
    if _all_shared(mine, theirs, ratio):
        yield break_even(env, other.method, base.method, mine, theirs)
    else:  # it joins the ratio with the costs of all runs of a method
        yield (
            f"Break-even in sampler cores of {other.method} and {base.method} for {plain(target)} on {env} is refused: "
            f"they share only {plural(ratio.n, 'seed')}."
        )


def _one_side(env: str, method: str, baseline: str, mine: ToTarget, theirs: ToTarget) -> str:
    """Only one of the two reached the target on the seeds that they are compared on."""
    ratio = mine.ratio["env_steps"]
    winner_first = (mine, theirs) if ratio.value in (0.0, None) else (theirs, mine)
    runs = _runs(*winner_first, ratio)
    goal = f"{plain(mine.target)} on {env}"
    refused = "break-even in sampler cores is refused"
    if ratio.value is None:
        return f"On the seeds that {method} and {baseline} share nobody reaches {goal} {runs}: {refused}."
    winner, loser = (method, baseline) if ratio.value == 0 else (baseline, method)
    told = f"{winner} reaches {goal}, {loser} does not on the same seeds {runs}"
    if ratio.interval is None:
        return f"{told}; without an interval no difference is shown, and {refused}."
    most = ratio.interval[1] if ratio.value == 0 else 1 / ratio.interval[0] if ratio.interval[0] > 0 else float("inf")
    if most < 1:
        return f"{told}: it saves at least {_percent(1 - most)} of the samples; {refused}, {loser} never gets there."
    return f"{told}: no difference shown, and {refused}."


def _ratio(env: str, method: str, baseline: str, mine: ToTarget, theirs: ToTarget) -> str:
    ratio = mine.ratio["env_steps"]
    times = f"{short(ratio.value)}{between(ratio.interval)} times the samples of {baseline}"
    told = f"{method} reaches {plain(mine.target)} on {env} with {times} {_runs(mine, theirs, ratio)}"
    if ratio.interval is None:
        return f"{told}; there is no interval with one seed, so no difference is shown."
    low, high = ratio.interval
    if high < 1:
        return f"{told}: it saves at least {_percent(1 - high)} of the samples{_amounts(mine, theirs)}."
    if low > 1:
        return f"{told}: it takes at least {_percent(low - 1)} more samples{_amounts(mine, theirs)}."
    return f"{told}: no difference shown."


def _runs(mine: ToTarget, theirs: ToTarget, ratio: Figure) -> str:
    few = "" if _all_shared(mine, theirs, ratio) else f"; compared on the {plural(ratio.n, 'seed')} that both have"
    return f"({mine.reached} of {mine.runs} runs, {theirs.reached} of {theirs.runs}{few})"


def _all_shared(mine: ToTarget, theirs: ToTarget, ratio: Figure) -> bool:
    """Whether the ratio is of the same runs as the counts and amounts of each method."""
    return ratio.value is None or ratio.n == mine.runs == theirs.runs


def _percent(share: float) -> str:
    """Rounded down, since it stands behind "at least"; with as many decimals as it takes to be more than 0."""
    percent = 100 * share
    decimals = 1 if percent < 1 or 99 < percent < 100 else 0
    while decimals < 6 and percent * 10**decimals < 1:
        decimals += 1
    return f"{math.floor(percent * 10**decimals * (1 + 1e-12)) / 10**decimals:.{decimals}f} %"


def _amounts(mine: ToTarget, theirs: ToTarget) -> str:
    if not _all_shared(mine, theirs, mine.ratio["env_steps"]):
        return ""
    a, b = (t.expected["env_steps"].value for t in (mine, theirs))
    if a is None or b is None or float("inf") in (a, b):
        return ""
    return f" ({short(a)} against {short(b)} expected)"


def _views(env: EnvResult, method: str, baseline: str) -> Iterator[str]:
    """The differences of one method in all fair views."""
    said = []
    for view in env.views:
        for row in view.rows:
            if row.method == method and row.difference is not None and row.difference.value is not None:
                figure = row.difference
                sign = "+" if (row.difference.value or 0.0) > 0 else ""
                why = "" if figure.interval is not None or row.verdict == "one seed" else f", {no_interval(figure)}"
                verdict = "one seed, so no difference is shown" if row.verdict == "one seed" else f"{row.verdict}{why}"
                where = f"{_VIEWS[view.axis]} ({short(view.amount)} {unit_of(view.axis)})"
                said.append(f"{sign}{short(figure.value)}{between(figure.interval)} at {where}: {verdict}")
    if said:
        yield f"Score of {method} on {env.env} against {baseline}: {'; '.join(said)}."


def _crossing(env: str, target: float, crossing: Crossing) -> Iterator[str]:
    """Where the cheaper method changes; nothing where the intervals decide on neither side."""
    if crossing.interval is None:
        return
    low, high = crossing.interval
    ends = [f"below {short(low)} ms" for _ in range(low > 0)] + [f"above {short(high)} ms" for _ in range(high < 1e9)]
    if ends:
        yield (
            f"To reach {plain(target)} on {env}, {crossing.left} is cheaper while a step of the environment costs less "
            f"than {short(crossing.step_ms)} ms, {crossing.right} where it costs more (modelled: samples x cost of a "
            f"step + everything else); shown {listed(ends)}."
        )
