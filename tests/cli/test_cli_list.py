"""``list`` and ``doctor``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from frugalrl.cli import listing, main
from frugalrl.math.explore import EXPLORERS, POLICY_EXPLORERS
from frugalrl.nets.precision import bf16_is_slow
from frugalrl.recipes import RECIPES


def listed(topic: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["list", topic, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    document: dict[str, Any] = json.loads(line)
    assert document["topic"] == topic
    return document


def test_names_are_those_of_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["name"] for row in listed("recipes", capsys)["items"]] == list(RECIPES)
    assert [row["name"] for row in listed("explorers", capsys)["items"]] == [*EXPLORERS, *POLICY_EXPLORERS]
    machines = listed("machines", capsys)["items"]
    assert sum(row["here"] for row in machines) == 1
    assert {row["name"] for row in listed("prices", capsys)["items"]} <= {row["name"] for row in machines}


@pytest.mark.parametrize("topic", listing.TOPICS)
def test_lists_are_plain_tables(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", topic]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out
    assert "``" not in shown.out
    assert max(map(len, shown.out.splitlines())) <= 120 or topic == "envs"
    assert shown.err == ""


def test_unknown_topic(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "env"]) == 2
    assert "did you mean 'envs'?" in capsys.readouterr().err


def test_envs_that_can_be_trained(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["id"]: row for row in listed("envs", capsys)["items"]}
    cartpole = {"id": "CartPole-v1", "group": "classic control", "protocol": "plain", "recipe": "classic-dqn"}
    assert rows["CartPole-v1"] == cartpole
    assert rows["frugalrl/Catch-v0"]["group"] == "toy of FrugalRL"
    assert not {"Pendulum-v1", "Blackjack-v1", "MountainCarContinuous-v0"} & set(rows)
    if find_spec("ale_py") is not None:
        assert rows["ALE/Pong-v5"]["recipe"] == "atari100k-ddqn"
    if find_spec("minatar") is not None:
        assert rows["MinAtar/Breakout-v1"]["protocol"] == "minatar"


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(listing, "find_spec", lambda name: None)
    notes = "\n".join(listed("envs", capsys)["notes"])
    assert "pip install 'frugalrl[atari]'" in notes
    assert "pip install 'frugalrl[minatar]'" in notes


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--machine", "laptop-4c"]) == 0
    found = {(f["topic"], f["name"]): f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["Machine", "profile"]["value"].startswith("laptop-4c")
    assert found["PyTorch", "torch"]["ok"] is True
    assert found["PyTorch", "bf16 on the CPU"]["ok"] is not bf16_is_slow(torch.device("cpu"))
    assert found["Threads", "OMP_WAIT_POLICY"]["value"] == "not set"  # by the user; shown as it was found
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("What is measured", "Threads", "Prices", "Optional packages", "PyTorch", "price file"):
        assert word in shown
    assert "\x1b" not in shown
    assert main(["doctor", "--machine", "lapto"]) == 2


@pytest.mark.parametrize(("own", "seen"), [(None, "passive"), ("active", "active")])
def test_thread_settings_are_made_unless_the_user_made_them(own: str | None, seen: str) -> None:
    code = (
        "import os, sys\nfrom frugalrl.cli import environment\nenvironment.prepare(2)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "print(os.environ['OMP_WAIT_POLICY'], os.environ['OMP_NUM_THREADS'])"
    )
    names = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    environment |= {} if own is None else {"OMP_WAIT_POLICY": own}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [seen, "2"]
