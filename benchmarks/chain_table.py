"""Tables of docs/chain.md from the files of ``frugal reproduce chain``, nothing typed by hand but the others' numbers.

python benchmarks/chain_table.py evidence/chain
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

Key = tuple[str, float, float, float | None]

# Return of CoAct and of epsilon-greedy at iterations 30, 60 and 100 by gamma, alpha, eps: a simulation of the same
# choices that was written separately; 200 seeds, one decimal.
SECOND = """
.9  .1 .05  0.1 0.3 0.6   0.1 0.6 1.3
.9  .1 .15  0.2 0.8 1.8   0.3 1.7 4.0
.9  .1 .25  0.2 0.5 2.0   0.5 2.7 6.0
.9  .3 .05  0.9 2.1 3.6   1.2 2.3 4.0
.9  .3 .25  2.6 6.7 9.4   4.6 8.4 9.9
.9  .5 .05  2.5 4.6 6.5   2.0 3.8 5.4
.9  .5 .15  5.7 8.7 9.9   5.1 7.6 9.3
.9  .9 .05  3.6 7.1 9.0   2.2 3.6 5.8
.9  .9 .15  7.3 10.2 10.8 5.4 8.4 10.1
.9  .9 .25  8.1 10.9 11.0 7.0 10.1 10.9
.99 .3 .15  0.3 1.7 4.5   0.3 1.8 5.5
.99 .3 .25  0.1 1.6 5.4   0.6 2.9 7.0
.99 .5 .15  1.1 4.6 8.6   1.0 4.5 8.0
.99 .9 .05  0.9 3.6 7.8   0.3 1.5 3.5
.99 .9 .15  2.2 7.2 10.3  1.2 4.6 9.1
.99 .9 .25  1.6 7.8 10.6  1.6 7.1 10.4
"""
# Figure 2 of the paper, read by eye: CoAct, epsilon-greedy and UCB at iterations 40, 60 and 99 in its panels 1, 2 and 3
# (panel 4 shows the curves of panel 3).
PAPER = (
    ((3.7, 7.5, 10.6), (0.8, 2.3, 7.6), (3.4, 5.8, 6.8)),
    ((3.9, 7.8, 10.6), (1.2, 2.8, 7.1), (3.4, 6.0, 7.2)),
    ((5.0, 9.3, 10.8), (1.3, 3.9, 8.0), (3.3, 6.5, 7.4)),
)
SECOND_AT, PAPER_AT = (30, 60, 100), (40, 60, 99)
LEFT_OUT = ("greedy", "ucb-2")  # of the table of results: they learn next to nothing; the CSV has them
COACT, EPS_GREEDY = "counteractive", "epsilon-greedy"


def read_curves(folder: Path) -> dict[Key, dict[int, tuple[float, float]]]:
    """(return, half of its 95 % interval) by learner and iteration."""
    path = folder / "curves.csv"
    text = path.read_text() if path.exists() else gzip.decompress((folder / "curves.csv.gz").read_bytes()).decode()
    found: dict[Key, dict[int, tuple[float, float]]] = {}
    for row in csv.DictReader(text.splitlines()):
        key = (row["method"], float(row["gamma"]), float(row["alpha"]), float(row["eps"]) if row["eps"] else None)
        found.setdefault(key, {})[int(row["iteration"])] = (float(row["return"]), float(row["return_half"]))
    return found


def against_the_second(curves: dict[Key, dict[int, tuple[float, float]]], seeds: int) -> Iterator[str]:
    """Ours against theirs; z with both standard errors, theirs as large as ours would be with 200 seeds."""
    yield "| gamma | alpha | eps | CoAct 30/60/100: ours | s.e. | second | epsilon-greedy: ours | s.e. | second |"
    yield "|---|---|---|---|---|---|---|---|---|"
    scores = []
    for line in SECOND.split("\n"):
        if not line:
            continue
        gamma, alpha, eps, *theirs = (float(x) for x in line.split())
        cells = [f"{gamma:g}", f"{alpha:g}", f"{eps:g}"]
        for method, known in ((COACT, theirs[:3]), (EPS_GREEDY, theirs[3:])):
            ours = [curves[method, gamma, alpha, eps][i] for i in SECOND_AT]
            errors = [half / 1.96 for _, half in ours]
            scores += [
                (mean - value) / (error**2 * (1 + seeds / 200) + 0.03**2) ** 0.5  # 0.03: rounding to one decimal
                for (mean, _), value, error in zip(ours, known, errors, strict=True)
            ]
            cells.append(" / ".join(f"{mean:.1f}" for mean, _ in ours))
            cells.append(" / ".join(f"{error:.2f}" for error in errors))
            cells.append(" / ".join(f"{value:.1f}" for value in known))
        yield f"| {' | '.join(cells)} |"
    mean = sum(scores) / len(scores)
    spread = (sum(s * s for s in scores) / len(scores)) ** 0.5
    yield ""
    yield f"{len(scores)} differences in standard errors: mean {mean:.2f}, root mean square {spread:.2f}, "
    yield f"largest {max(scores, key=abs):.1f}."


def against_the_paper(curves: dict[Key, dict[int, tuple[float, float]]]) -> Iterator[str]:
    """For each panel the setting whose CoAct and epsilon-greedy curves come nearest."""
    yield "| panel of figure 2 | | CoAct 40/60/99 | epsilon-greedy | UCB |"
    yield "|---|---|---|---|---|"
    settings = sorted({k[1:] for k in curves if k[0] == COACT})
    for number, panel in enumerate(PAPER, start=1):
        yield f"| {number} | paper, by eye | {' | '.join(' / '.join(f'{x:g}' for x in values) for values in panel)} |"

        def distance(setting: tuple[float, float, float | None], panel: tuple[tuple[float, ...], ...] = panel) -> float:
            return sum(
                (curves[(method, *setting)][i][0] - value) ** 2
                for method, values in zip((COACT, EPS_GREEDY), panel, strict=False)
                for i, value in zip(PAPER_AT, values, strict=True)
            )

        gamma, alpha, eps = min(settings, key=distance)
        keys: tuple[Key, ...] = (
            (COACT, gamma, alpha, eps),
            (EPS_GREEDY, gamma, alpha, eps),
            ("ucb-2", gamma, alpha, None),
        )
        ours = [" / ".join(f"{curves[key][i][0]:.1f}" for i in PAPER_AT) for key in keys]
        yield f"| | nearest: gamma {gamma:g}, alpha {alpha:g}, eps {eps:g} | {' | '.join(ours)} |"


def results(folder: Path) -> Iterator[str]:
    """Mean return of the methods in every setting, and CoAct's paired differences to epsilon-greedy."""
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    methods = [m for m in dict.fromkeys(r["method"] for r in rows) if m not in LEFT_OUT]
    highest = {m: max(float(r["mean_return"]) for r in rows if r["method"] == m) for m in LEFT_OUT}
    yield f"Not in the table, with their highest mean return in any setting: {highest}."
    yield ""
    yield f"| gamma | alpha | eps | {' | '.join(methods)} | CoAct minus epsilon-greedy | early TD, the same x 1000 |"
    yield "|---" * (len(methods) + 5) + "|"
    for setting in dict.fromkeys((r["gamma"], r["alpha"], r["eps"]) for r in rows):
        here = {r["method"]: r for r in rows if (r["gamma"], r["alpha"], r["eps"]) == setting}
        here = {m: here[m] for m in methods}
        best = max(here, key=lambda m: float(here[m]["mean_return"]))
        means = [f"{float(here[m]['mean_return']):.2f}" for m in methods]
        means = [f"**{text}**" if m == best else text for m, text in zip(methods, means, strict=True)]
        gains = []
        for name, scale in (("mean_return_minus_epsilon_greedy", 1), ("early_td_minus_epsilon_greedy", 1000)):
            mean, low, high = (scale * float(here[COACT][name + end]) for end in ("", "_low", "_high"))
            gains.append(f"{mean:.2f} [{low:.2f}, {high:.2f}]" + (" (none shown)" if low <= 0 <= high else ""))
        yield f"| {' | '.join((*setting, *means, *gains))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    curves = read_curves(folder)
    with gzip.open(folder / "seeds.csv.gz", "rt") as file:
        seeds = sum(name.startswith("seed") for name in next(csv.reader(file)))
    for title, lines in (
        (f"Results, {seeds} seeds", results(folder)),
        ("Against a second simulation", against_the_second(curves, seeds)),
        ("Against the paper", against_the_paper(curves)),
    ):
        print(f"## {title}\n")
        print("\n".join(lines), end="\n\n")


if __name__ == "__main__":
    main()
