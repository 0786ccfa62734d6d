"""The levers in sentences: what each saves of what, or that nothing can be said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from frugalrl.report.levers import TITLES
from frugalrl.report.numbers import plain
from frugalrl.report.results import EnvResult, Figure, Lever, LeverEffect, LeverLine, Levers, LeverTarget
from frugalrl.report.titles import headline_target
from frugalrl.report.words import between, listed, short

_ROUNDING = 1e-9
"""Effects that are closer to none differ by rounding."""


def lever_sentences(env: EnvResult) -> Iterator[str]:
    """One per lever, then one about interactions; about the main target."""
    levers = env.levers
    assert levers is not None
    main = headline_target(env)
    found = None if main is None else next((t for t in levers.targets if t.target == main[0]), None)
    for lever in levers.levers:
        yield f"{change(lever)} on {env.env}{_costs(lever, found)}; {_score(lever, levers)}."
    if found is not None and (said := [step_words(line) for line in found.by_step if any(line.high)]):
        yield f"On {env.env}, if a step of the environment cost more or less (modelled): {'; '.join(said)}."
    yield from _interactions(env.env, levers, found)


def change(lever: Lever) -> str:
    """``Sampling: central instead of inline``."""
    return f"{lever.name.capitalize()}: {lever.high} instead of {lever.low}"


def shown_effect(found: LeverEffect) -> tuple[Figure, bool]:
    """The figure to show, and whether it is the one that the budget bounds."""
    if found.effect.value is None and found.restricted is not None and found.restricted.value is not None:
        return found.restricted, True
    return found.effect, False


def verdict(figure: Figure, none: float) -> str:
    """``less``, ``more``, or nothing where the interval holds ``none``, which is no difference."""
    if figure.interval is None:
        return ""
    low, high = figure.interval
    return "less" if high < none - _ROUNDING else "more" if low > none + _ROUNDING else ""


def step_words(line: LeverLine) -> str:
    """For which costs of an environment step a lever saves time and money, and for which it takes more."""
    known = [
        (ms, "saves" if high < 1.0 - _ROUNDING else "costs more" if low > 1.0 + _ROUNDING else "")
        for ms, low, high in zip(line.step_ms, line.low, line.high, strict=True)
        if low is not None and high is not None
    ]
    parts = []
    for word, group in groupby(known, key=itemgetter(1)):
        if word:
            within = [ms for ms, _ in group]
            parts.append(f"{word} {_where(within[0], within[-1], known[0][0], known[-1][0])}")
    said = ", ".join(parts) if parts else "no difference shown at any cost of a step" if known else "not known"
    return f"{line.lever} {said}" if parts else f"{line.lever}: {said}"


def _where(low: float, high: float, least: float, most: float) -> str:
    if low == least and high == most:
        return "whatever a step costs"
    if low == least:
        costs = f"at most {short(high)}"
    else:
        costs = f"{short(low)} to {short(high)}" if high < most else f"at least {short(low)}"
    return f"while a step costs {costs} CPU-ms"


def main_effects(effects: Sequence[LeverEffect], lever: str) -> list[LeverEffect]:
    """Of one lever alone."""
    return [e for e in effects if e.levers == (lever,)]


def _costs(lever: Lever, found: LeverTarget | None) -> str:
    if found is None:
        return ": no target was set, so nothing is said about costs"
    known = []
    for effect in main_effects(found.effects, lever.name):
        figure, short_of_it = shown_effect(effect)
        if figure.value is not None:
            known.append((TITLES[effect.quantity], figure, short_of_it))
    goal = f", to a score of {plain(found.target)} ({found.reached} of {found.runs} runs)"
    if not known:
        return f"{goal}: nothing can be said, {_why(found, lever.name)}"
    bounded = " (until the target or the end of the budget)" if any(b for _, _, b in known) else ""
    if all(figure.interval is None for _, figure, _ in known):
        return f"{goal}: nothing can be said, one seed has no interval"
    less, more = ([_ratio(t, f) for t, f, _ in known if verdict(f, 1.0) == way] for way in ("less", "more"))
    open_ = [t for t, f, _ in known if not verdict(f, 1.0)]
    if not less and not more:
        figure = known[0][1]
        return (
            f"{goal}{bounded}: nothing can be said, every interval holds 1 ({known[0][0]} "
            f"{short(figure.value)}{between(figure.interval)} times)"
        )
    parts = [f"saves {listed(less)}" if less else "", f"takes more {listed(more)}" if more else ""]
    parts.append(f"no difference shown in {listed(open_)}" if open_ else "")
    return f"{goal}{bounded}: {'; '.join(p for p in parts if p)}"


def _why(found: LeverTarget, lever: str) -> str:
    source = main_effects(found.effects, lever)[0].effect.source
    return "no run reached it" if not found.reached else source.rpartition("not known: ")[2].partition(";")[0]


def _ratio(title: str, figure: Figure) -> str:
    return f"{title} ({short(figure.value)}{between(figure.interval)} times)"


def _score(lever: Lever, levers: Levers) -> str:
    (effect,) = main_effects(levers.score, lever.name)
    figure = effect.effect
    if figure.value is None:
        return "its final score is not known"
    sign = "+" if figure.value > 0 else ""
    if figure.interval is None:
        return f"final score {sign}{short(figure.value)}, without an interval"
    words = {"less": "it is lower", "more": "it is higher", "": "no difference shown"}[verdict(figure, 0.0)]
    return f"final score {sign}{short(figure.value)}{between(figure.interval)}: {words}"


def _interactions(env: str, levers: Levers, found: LeverTarget | None) -> Iterator[str]:
    clear: dict[tuple[str, ...], list[str]] = {}
    intervals = 0
    for effect in (*(found.effects if found else ()), *levers.score):
        figure, _ = shown_effect(effect)
        if len(effect.levers) < 2 or figure.value is None or figure.interval is None:
            continue
        intervals += 1
        of_score = effect.quantity == "score"
        if verdict(figure, 0.0 if of_score else 1.0):
            times = "" if of_score else " times"
            words = f"{TITLES[effect.quantity]} ({short(figure.value)}{between(figure.interval)}{times})"
            clear.setdefault(effect.levers, []).append(words)
    if clear:
        said = "; ".join(f"{' x '.join(names)} in {listed(words)}" for names, words in clear.items())
        yield (
            f"On {env} what one lever does may depend on another: {said}. There read the cells, not the averages; of "
            f"{intervals} such intervals about {max(1, round(0.05 * intervals))} would exclude no effect by chance."
        )
    elif intervals:
        yield f"On {env} no interaction of the levers is shown, which does not mean that there is none."
