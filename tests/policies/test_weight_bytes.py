"""Bytes that a forward pass of what acts moves at least: by hand, for every arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalrl import RunConfig, build_config, override, train

WEIGHTS, BIASES, ROWS = 4 * 32 + 32 * 16 + 16 * 2, 32 + 16 + 2, 4
MOVED = ROWS * (4 + 2) * 4
"""Observations and Q-values in float32."""


def bytes_per_pass(config: RunConfig, folder: Path) -> float:
    bill = train(config, folder / "run").bill
    of = {row.name: row.value for row in bill.rows if row.section == "role" and row.role == "inference"}
    return of["bytes_min"] / of["calls"]


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ([], 4 * (WEIGHTS + BIASES)),
        (["agent.precision=bf16"], 2 * (WEIGHTS + BIASES)),
        (["sampler.transform=bf16"], 2 * (WEIGHTS + BIASES)),
        (["sampler.transform=int4"], 4 * (WEIGHTS + BIASES)),
        # a scale per row of weights
        (["sampler.transform=int8-dynamic"], WEIGHTS + 4 * BIASES + 4 * BIASES),
        (["sampler.engine=onnx"], 4 * (WEIGHTS + BIASES)),
        # and of the mix what reads least
        (['sampler.mix=["3*none","1*bf16"]'], 2 * (WEIGHTS + BIASES)),
    ],
    ids=lambda x: str(x) if isinstance(x, list) else "",
)
def test_bytes_of_inference(settings: list[str], weights: int, tmp_path: Path) -> None:
    config = override(
        build_config("CartPole-v1"),
        ["device=cpu", "net.hidden_units=(32, 16)", f"env.rows={ROWS}", "budget.env_steps=40",
         "schedule.warmup_env_steps=8", "agent.batch_size=8", "explore.prefill=counteractive", *settings],
    )  # fmt: skip
    assert bytes_per_pass(config, tmp_path) == weights + MOVED


def test_onnx_int8_reads_a_byte_per_weight(tmp_path: Path) -> None:
    """And some numbers in float32, as many as there are outputs; what exactly is the engine's."""
    config = override(
        build_config("CartPole-v1"),
        ["device=cpu", "net.hidden_units=(256, 256)", "budget.env_steps=40", "schedule.warmup_env_steps=8",
         "agent.batch_size=8", "explore.prefill=counteractive", "sampler.engine=onnx-int8"],
    )  # fmt: skip
    weights, outputs = 4 * 256 + 256 * 256 + 256 * 2, 256 + 256 + 2
    read = bytes_per_pass(config, tmp_path) - config.env.rows * (4 + 2) * 4
    assert weights < read < weights + 4 * 3 * outputs
