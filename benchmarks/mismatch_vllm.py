"""The part of the mismatch grid that vLLM sampled, as a table and sentences."""

from __future__ import annotations

from collections.abc import Iterator

from mismatch_cells import NONE, TIS, VLLM
from mismatch_results import Grid, cpu, final, largest, late
from mismatch_words import in_words, label, number, verdicts

PAIRS = (("vllm", "none"), ("vllm-bf16", "vllm"), ("vllm@8", "vllm"), ("vllm-int8@8", "vllm@8"))
"""What a row is compared with: it differs from it in one thing."""
BAR = 1e-5
"""The largest difference of a probability between two engines that compute the same in fp32."""


def vllm_part(grid: Grid, full: int) -> Iterator[str]:
    """Nothing while no such run has ended."""
    there = [s for s in VLLM if grid.runs(s, NONE)]
    if not there:
        return
    yield "**Through vLLM.** Sampled by vLLM in fp32, bf16 and int8; `@8`: weights are pushed every 8 updates.\n"
    yield (
        "| sampler | final score, `none` | `token-tis:2` | largest \\|p_mu - p_pi\\| of any token | k3 | ESS, tokens | "
        "ESS, sequences | updates old | CPU-s: inference | pushes |"
    )
    yield "|---" * 10 + "|"
    for sampler in ("none", *there):
        scores = [in_words(grid.estimate(sampler, c, final), full) for c in (NONE, TIS)]
        runs = list(grid.runs(sampler, NONE).values())
        most = max((v for run in runs if (v := largest("mismatch_prob_diff_max")(run)) is not None), default=None)
        names = ("mismatch_k3", "mismatch_ess", "mismatch_ess_sequence", "lag_mean")
        found = [grid.estimate(sampler, NONE, late(name)) for name in names]
        costs = [grid.estimate(sampler, NONE, cpu(role)) for role in ("inference", "transport")]
        row = ["-" if most is None else f"{most:.2g}"]
        row += ["-" if e is None else f"{e.value:.2g}" for e in found[:1]]
        row += ["-" if e is None else f"{e.value:.3g}" for e in found[1:]]
        row += ["-" if e is None else number(e.value) for e in costs]
        yield f"| {'our own, fp32' if sampler == 'none' else label(sampler)} | {' | '.join([*scores, *row])} |"
    yield ""
    controls = [most for run in grid.runs("vllm", NONE).values() if (most := largest("mismatch_prob_diff_max")(run))]
    if controls:
        held = sum(most < BAR for most in controls)
        yield f"- The fp32 control stays below {BAR:g} for every token in {held} of {len(controls)} runs."
    for sampler, other in PAIRS:
        if sampler in there:
            beside = {sampler: grid.against((sampler, NONE), (other, NONE), final)}
            name = "our own sampler" if other == "none" else f"`{other}`"
            yield f"- Against {name}, no correction: {verdicts(beside, 'it gains', 'it loses')}"
    corrected = {s: grid.against((s, TIS), (s, NONE), final) for s in there if grid.runs(s, TIS)}
    if corrected:
        yield f"- `{TIS}` against no correction, same sampler: {verdicts(corrected, 'it helps', 'it hurts')}"
    yield ""
