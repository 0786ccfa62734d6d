"""The chain study in plain sentences: who learns faster and by how much, or that no difference is shown."""

from __future__ import annotations

from frugalrl.report.numbers import count
from frugalrl.study.chain_grid import COACT, EPS_GREEDY, METHODS
from frugalrl.study.chain_result import EARLY, Against, Estimate, Study

NAMES = {COACT: "CoAct", EPS_GREEDY: "epsilon-greedy"}
"""How a method is called in a sentence, where it is not called by its name."""


def sentences(study: Study) -> list[str]:
    """One for each setting: CoAct against epsilon-greedy, and which method has the highest mean."""
    found, lines = study.against, []
    for setting in dict.fromkeys(a.setting for a in found):
        here = {a.method: a for a in found if a.setting == setting}
        coact, base = here[COACT], here[EPS_GREEDY]
        best = max(here.values(), key=lambda a: a.score.mean)
        lines.append(
            f"{setting}: {_speed(coact, base)}; {_end(coact, base)}. "
            f"Highest mean of all methods: {NAMES.get(best.method, best.method)} ({_short(best.score.mean)})."
        )
    return lines


def _speed(coact: Against, base: Against) -> str:
    gain = coact.score_gain
    means = f"mean return {_short(coact.score.mean)} against {_short(base.score.mean)}"
    if gain.sign > 0:
        return f"CoAct learns faster than epsilon-greedy by {_in_words(gain)} ({means})"
    if gain.sign < 0:
        return f"epsilon-greedy learns faster than CoAct by {_in_words(_flipped(gain))} (CoAct's {means})"
    return f"no difference shown between CoAct and epsilon-greedy: {_in_words(gain)} ({means})"


def _end(coact: Against, base: Against) -> str:
    gain = coact.final_gain
    ends = f"{_short(coact.final.mean)} against {_short(base.final.mean)}"
    if gain.sign == 0:
        return f"at the end no difference shown: {_in_words(gain)} ({ends})"
    which = f"CoAct is {_in_words(gain)} higher" if gain.sign > 0 else f"CoAct is {_in_words(_flipped(gain))} lower"
    return f"at the end {which} ({ends})"


def summary(study: Study) -> list[str]:
    """What holds over all settings."""
    found, correlation = study.against, study.td_and_speed
    settings = list(dict.fromkeys(a.setting for a in found))
    of = {method: [a for a in found if a.method == method] for method in METHODS}
    lines = [
        f"{NAMES.get(m, m)} against epsilon-greedy, mean return: {_counts([a.score_gain for a in of[m]])}."
        for m in METHODS
        if m != EPS_GREEDY
    ]
    best = [max((a for a in found if a.setting == s), key=lambda a: a.score.mean).method for s in settings]
    named = ", ".join(f"{NAMES.get(m, m)} {best.count(m)}" for m in METHODS if m in best)
    lines.append(f"Highest mean return of all methods: {named} (of {count(len(settings), 'setting')}).")
    for t in study.tuned:
        verdict = {1: "CoAct is higher by", -1: "CoAct is lower by", 0: "no difference shown:"}[t.score_gain.sign]
        lines.append(
            f"With the best eps for each, gamma {t.gamma:g}, alpha {t.alpha:g}: CoAct ({t.eps_coact:g}) against "
            f"epsilon-greedy ({t.eps_epsilon_greedy:g}), mean return: {verdict} "
            f"{_in_words(_flipped(t.score_gain) if t.score_gain.sign < 0 else t.score_gain)}."
        )
    lines.append(
        f"Early signed TD error (iterations 1 to {EARLY}), CoAct against epsilon-greedy: "
        f"{_counts([a.early_td_gain for a in of[COACT]])}."
    )
    higher = [a for a in of[COACT] if a.early_td_gain.sign > 0]
    slower = sum(a.score_gain.sign < 0 for a in higher)
    of_the = count(len(higher), "setting")
    lines.append(f"CoAct learns slower in {slower} of the {of_the} where its early TD error is higher.")
    if correlation.rho is None:
        lines.append("Early TD gain and gain in mean return: too few settings for a rank correlation.")
    else:
        lines.append(
            f"Early TD gain and gain in mean return, rank correlation over {count(len(settings), 'setting')}: "
            f"{correlation.rho:.2f} [{correlation.low:.2f}, {correlation.high:.2f}] (bootstrap over seeds)."
        )
    lines.append("Intervals are 95 % over seeds: where nothing differs, about 1 in 20 excludes 0 by chance.")
    return lines


def _counts(gains: list[Estimate]) -> str:
    signs = [gain.sign for gain in gains]
    return (
        f"higher in {signs.count(1)}, lower in {signs.count(-1)}, no difference shown in {signs.count(0)} "
        f"of {count(len(signs), 'setting')}"
    )


def _flipped(gain: Estimate) -> Estimate:
    return Estimate(-gain.mean, -gain.high, -gain.low)


def _in_words(e: Estimate) -> str:
    return f"{_short(e.mean)} [{_short(e.low)}, {_short(e.high)}]"


def _short(value: float) -> str:
    text = f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
    return "0.00" if float(text) == 0 else text
