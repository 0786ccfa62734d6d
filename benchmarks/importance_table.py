#!/usr/bin/env python3
"""Bias, variance and cosine of the expected gradient for every correction, as the mismatch grows: docs/importance.md.

    python benchmarks/importance_table.py                              # print it
    python benchmarks/importance_table.py --write docs/importance.md   # put it between the page's markers

Nothing is sampled: all actions of a bandit with 16 arms, and all 81 sequences of 4 tokens out of 3, with their
probabilities. The learner's logits and the rewards are standard normal, the sampler's logits have normal noise of size
sigma on top. A cell is the mean over 20 draws of both (bandits; trees: 10).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from frugalrl.importance import Correction, apply
from oracles.importance import Bandit, Estimate, Tree

SIGMAS = (0.1, 0.5, 1.0, 2.0)
BANDIT = ("none", "token-tis:1", "token-tis:2", "token-tis:5", "token-mask:0.5,2", "token-mask:0.5,5",
          "token-clamp:0.5,2", "vanilla")  # fmt: skip
TREE = ("none", "token-tis:1", "token-tis:2", "token-tis:5", "token-mask:0.5,2", "geometric-tis:2",
        "geometric-mask:0.5,2", "sequence-tis:1", "sequence-tis:2", "sequence-tis:5", "sequence-mask:2", "vanilla",
        "sequence-vanilla")  # fmt: skip
BEGIN, END = "<!-- benchmarks/importance_table.py -->", "<!-- end -->"


def bandit_estimate(bandit: Bandit, name: str) -> Estimate:
    weight = apply(Correction.parse(name), bandit.log_pi[:, None], bandit.log_mu[:, None]).weight
    return bandit.estimate(weight[:, 0])


def tree_estimate(tree: Tree, name: str) -> Estimate:
    return tree.estimate(apply(Correction.parse(name), tree.log_pi, tree.log_mu).weight)


def table(
    title: str, draws: Callable[[float], Sequence[Any]], names: Sequence[str], estimate: Callable[[Any, str], Estimate]
) -> Iterator[str]:
    """One table; the row ``largest ratio`` says how large the mismatch is, over an action or a sequence."""
    cases = {sigma: draws(sigma) for sigma in SIGMAS}
    yield f"| {title} | {' | '.join(f'sigma {sigma:g}' for sigma in SIGMAS)} |"
    yield "|---" * (1 + len(SIGMAS)) + "|"
    kl, top = [], []
    for sigma in SIGMAS:
        sums = [
            (c.log_mu, c.log_pi) if c.log_mu.ndim == 1 else (c.log_mu.sum(1), c.log_pi.sum(1)) for c in cases[sigma]
        ]
        kl.append(f"{np.mean([np.exp(mu) @ (mu - pi) for mu, pi in sums]):.3f}")
        top.append(f"{np.mean([np.exp(pi - mu).max() for mu, pi in sums]):.1f}")
    yield f"| KL(mu, pi) | {' | '.join(kl)} |"
    yield f"| largest ratio pi/mu | {' | '.join(top)} |"
    for name in names:
        cells = []
        for sigma in SIGMAS:
            rows = [estimate(c, name).against(c.true_gradient()) for c in cases[sigma]]
            bias, variance, cosine = np.mean(rows, 0)
            cells.append(f"{bias:.2f} / {variance:.3f} / {cosine:.3f}")
        yield f"| `{name}` | {' | '.join(cells)} |"


def bandits() -> Iterator[str]:
    return table(
        "bandit, 16 arms", lambda sigma: [Bandit.draw(seed, sigma) for seed in range(20)], BANDIT, bandit_estimate
    )


def trees() -> Iterator[str]:
    return table("4 tokens out of 3", lambda sigma: [Tree.draw(seed, sigma) for seed in range(10)], TREE, tree_estimate)


def between_markers(page: str) -> tuple[str, str, str]:
    """What stands before the table, the table, and what stands behind it."""
    before, begin, rest = page.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page has no markers {BEGIN} and {END}")
    return before + begin, inside.strip(), end + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    place = parser.parse_args().write
    text = "\n".join((*bandits(), "", *trees()))
    if place is None:
        print(text)
        return
    before, _, after = between_markers(place.read_text())
    place.write_text(f"{before}\n\n{text}\n\n{after}")


if __name__ == "__main__":
    main()
