"""The figure of the chain study: learning curves, TD errors, and the difference in every setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frugalrl.study.chain_grid import COACT, EPS_GREEDY, Results, Setting
from frugalrl.study.chain_result import Against, half_width
from frugalrl.study.chain_words import NAMES

STYLES: dict[str, dict[str, Any]] = {
    COACT: {"color": "#d55e00", "linestyle": "-", "linewidth": 1.8},
    EPS_GREEDY: {"color": "#0072b2", "linestyle": "-", "linewidth": 1.8},
    "mixed-0.5": {"color": "#009e73", "linestyle": "--", "linewidth": 1.4},
    "ucb-0.05": {"color": "#8a63a8", "linestyle": "-.", "linewidth": 1.2},
    "ucb-2": {"color": "#7f7f7f", "linestyle": ":", "linewidth": 1.4},
}
"""Methods that are drawn; all are in the CSV. Colours after Okabe and Ito, told apart by line style as well."""
PANELS = 4


def draw(path: Path, results: Results, found: list[Against]) -> None:
    """Write a PNG. Above: settings from the one most against CoAct to the one most for it; below: all settings."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    coact = [a for a in found if a.method == COACT]
    shown = spread(coact)
    width = max(8.0, 3.4 * len(shown) + 0.6, 0.45 * len(coact))
    figure = Figure(figsize=(width, 9.6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(2.0, 1.1)))
    axes: Any = above.subplots(2, len(shown), sharey="row", squeeze=False)
    for column, setting in enumerate(shown):
        _curves(axes[:, column], results, setting)
    axes[0, 0].set_ylabel("return of the greedy policy\nin 100 steps (best: 11)")
    axes[1, 0].set_ylabel("mean signed TD error\nof the training steps")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    above.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    above.supxlabel(
        f"iteration (100 training steps); mean and 95 % interval over {results.seeds:,} seeds", fontsize="medium"
    )
    _differences(below.subplots(), coact)
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})


def spread(coact: list[Against]) -> list[Setting]:
    """Up to four settings, evenly spaced in the order of CoAct's gain in mean return, both ends among them."""
    ordered = sorted(coact, key=lambda a: a.score_gain.mean)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(PANELS, len(ordered))).round().astype(int))
    return [ordered[i].setting for i in places]


def _curves(axes: Sequence[Any], results: Results, setting: Setting) -> None:
    iteration = np.arange(1, len(results.returns) + 1)
    for axis, values in zip(axes, (results.returns.astype(np.float64), results.td.astype(np.float64)), strict=True):
        for method, style in STYLES.items():
            mine = values[:, results.at(setting, method)]
            mean, half = mine.mean(axis=1), half_width(mine)
            axis.plot(iteration, mean, label=NAMES.get(method, method), **style)
            axis.fill_between(iteration, mean - half, mean + half, color=style["color"], alpha=0.18, linewidth=0)
        axis.grid(alpha=0.3)
        axis.set_xlim(1, len(iteration))
    axes[0].set_title(str(setting), fontsize="medium")
    axes[0].set_ylim(-0.3, 11.5)
    axes[1].set_xscale("log")  # the early phase, which the theorem is about, would be a sliver
    axes[1].set_xticks([1, 3, 10, 30, 100], labels=["1", "3", "10", "30", "100"])
    axes[1].minorticks_off()
    axes[1].axhline(0.0, color="black", linewidth=0.6)


def _differences(axis: Any, coact: list[Against]) -> None:
    """CoAct minus epsilon-greedy in mean return and in last return, for every setting."""
    place = np.arange(len(coact))
    for shift, color, marker, label, gains in (
        (-0.14, "#d55e00", "o", "mean return over all iterations", [a.score_gain for a in coact]),
        (0.14, "#555555", "s", "return at the last iteration", [a.final_gain for a in coact]),
    ):
        mean = np.asarray([g.mean for g in gains])
        reach = np.abs(np.asarray([(g.low, g.high) for g in gains]).T - mean)
        axis.errorbar(
            place + shift, mean, yerr=reach, fmt=marker, color=color, label=label, markersize=4.5, capsize=2.5
        )
    axis.axhline(0.0, color="black", linewidth=0.8)
    labels = [f"{a.setting.gamma:g}\n{a.setting.alpha:g}\n{a.setting.eps:g}" for a in coact]
    axis.set_xticks(place, labels=labels, fontsize="small")
    axis.set_xlim(-0.6, len(coact) - 0.4)
    axis.set_xlabel("setting: gamma, alpha, eps from top to bottom")
    axis.set_ylabel("CoAct minus\nepsilon-greedy")
    axis.set_title("Paired differences with 95 % intervals: above 0 CoAct is better", fontsize="medium")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False, loc="best", fontsize="small")
