#!/usr/bin/env python3
"""Tables, sentences and the break-even of the mismatch grid, from its raw results: docs/mismatch.md.

    python benchmarks/mismatch_table.py evidence/mismatch-grid                             # print
    python benchmarks/mismatch_table.py evidence/mismatch-grid --write docs/mismatch.md    # between the page's markers

Nothing on the page between the markers is typed by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mismatch_break_even import break_even
from mismatch_cells import (
    AGES,
    BELOW,
    BITS,
    CORRECTIONS,
    ENVS,
    FIGURES,
    LANGUAGE,
    NONE,
    SEEDS,
    TIS,
    cells,
    through_vllm,
)  # fmt: skip
from mismatch_results import Grid, Run, drawdown, final, judged, late, read, shown
from mismatch_samples import samples_table
from mismatch_vllm import vllm_part
from mismatch_words import in_words, label, number, verdicts

BEGIN, END = "<!-- benchmarks/mismatch_table.py -->", "<!-- end -->"


def score_table(grid: Grid, samplers: Sequence[str], words: str, of: Callable[[Run], float | None]) -> Iterator[str]:
    """A score of every cell."""
    full = SEEDS[grid.env]
    there = [s for s in samplers if any(grid.runs(s, c) for c in CORRECTIONS)]
    if len(there) < 2:
        return
    yield f"| {words} | {' | '.join(label(s) for s in there)} |"
    yield "|---" * (1 + len(there)) + "|"
    for correction in CORRECTIONS:
        if any(grid.runs(s, correction) for s in there):
            row = [in_words(grid.estimate(s, correction, of), full) for s in there]
            yield f"| `{correction}` | {' | '.join(row)} |"
    yield ""


def mismatch_table(grid: Grid) -> Iterator[str]:
    """How large the mismatch of each sampler is late in a run without a correction, and what falls."""
    yield (
        "| sampler | k3 | ESS, tokens | ESS, sequences | ratio, 99 % below | updates old | largest fall: `none` | "
        "`token-tis:2` | `ppo-denominator` |"
    )
    yield "|---" * 9 + "|"
    for sampler in (*BITS, *AGES[1:]):
        if not grid.runs(sampler, NONE):
            continue
        names = ("k3", "ess", "ess_sequence", "ratio_p99")
        values = [grid.estimate(sampler, NONE, late(f"mismatch_{name}")) for name in names]
        values.append(grid.estimate(sampler, NONE, late("lag_mean")))
        row = ["-" if v is None else f"{v.value:.2g}" if i == 0 else f"{v.value:.3g}" for i, v in enumerate(values)]
        falls = [grid.estimate(sampler, c, drawdown) for c in (NONE, TIS, BELOW)]
        row += ["-" if v is None else number(v.value) for v in falls]
        yield f"| {label(sampler)} | {' | '.join(row)} |"
    yield ""


def sentences(grid: Grid) -> Iterator[str]:
    """What is shown and what is not, by paired intervals."""
    reference, (words, of) = grid.reference(), judged(grid.env)
    base = grid.estimate(*reference, of)
    if base is None:
        return
    yield f"- Without mismatch (fp32, no correction) the {words} is {in_words(base, SEEDS[grid.env])}."
    samplers = [s for s in (*BITS[1:], *AGES[1:]) if grid.runs(s, NONE)]
    costs = {s: grid.against((s, NONE), reference, of) for s in samplers}
    yield f"- A worse sampler alone, no correction, against fp32: {verdicts(costs, 'it gains', 'it loses')}"
    for correction in CORRECTIONS[1:]:
        found = {
            s: grid.against((s, correction), (s, NONE), of) for s in ("none", *samplers) if grid.runs(s, correction)
        }
        if found:
            yield f"- `{correction}` against no correction, same sampler: {verdicts(found, 'it helps', 'it hurts')}"
    yield from beside_truncation(grid, samplers, of)
    failed = [run for run in grid.all() if run["failed"]]
    for run in failed:
        yield f"- Failed: {label(run['sampler'])}, `{run['correction']}`, seed {run['seed']}: {run['failed']}"


def beside_truncation(grid: Grid, samplers: Sequence[str], of: Callable[[Run], float | None]) -> Iterator[str]:
    """The other corrections against the one that is mostly used; only what is shown."""
    found = {
        (c, s): grid.against((s, c), (s, TIS), of)
        for c in CORRECTIONS if c not in (NONE, TIS) for s in samplers if grid.runs(s, c) and grid.runs(s, TIS)
    }  # fmt: skip
    parts = []
    for sign, word in ((1, "better"), (-1, "worse")):
        hits = [
            f"`{c}` at {label(s)} ({in_words(e, e.n, sign=True)})"
            for (c, s), e in found.items()
            if e and shown(e) == sign
        ]
        parts.append(f"{word} {', '.join(hits) if hits else 'is none'}")
    if any(found.values()):
        yield f"- Against `{TIS}`, same sampler: {'; '.join(parts)}. Of the other cells no difference is shown."


def page(grids: dict[str, Grid]) -> Iterator[str]:
    for env in ENVS:
        grid = grids.get(env)
        if grid is None:
            yield f"### {env}\n\nNo run has ended yet.\n"
            continue
        whole = len(cells(env)) + (len(through_vllm()) if env == LANGUAGE else 0)
        yield f"### {env}\n"
        yield f"{len(grid.all())} of {whole} runs.\n"
        if len({run["sampler"] for run in grid.all()}) > 1:
            yield f"![Score and largest fall on {env}](images/{FIGURES[env]}.png)\n"
        for words, of in dict.fromkeys((("final score", final), judged(env))):
            yield from score_table(grid, BITS, words, of)
            yield from score_table(grid, AGES, words, of)
        yield from mismatch_table(grid)
        yield from sentences(grid)
        yield ""
        yield from vllm_part(grid, SEEDS[env])
        yield from samples_table(grid)
        yield from break_even(grid)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evidence", type=Path)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    made = "\n".join(page(read(args.evidence))).strip()
    if args.write is None:
        print(made)
        return 0
    text = args.write.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{args.write} has no markers {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    args.write.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
