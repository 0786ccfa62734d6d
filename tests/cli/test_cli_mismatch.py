"""``frugal mismatch`` on files made by a small softmax policy, healthy and broken on purpose, and on runs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalrl.cli import main
from frugalrl.importance import correct
from oracles.samplers import BROKEN, HEALTHY, recorded


def saved(path: Path, how: str, **more: Any) -> Path:
    log_pi, log_mu = recorded(how)
    np.savez(path, log_pi=log_pi, log_mu=log_mu, **more)
    return path


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["mismatch", *words, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("how", BROKEN)
def test_each_broken_file_names_its_cause(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "f.npz", how)
    found = told([str(path)], capsys)
    assert found["findings"][0]["name"] == BROKEN[how]
    assert {f["name"] for f in found["findings"][1:]} <= {"low ESS"}
    assert found["summary"].startswith(f"Most likely cause: {BROKEN[how]}")
    assert main(["mismatch", str(path), "--strict"]) == 1
    printed = capsys.readouterr().out
    assert f"warning: {BROKEN[how]}: " in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize("how", HEALTHY)
def test_a_healthy_file_gives_no_warning(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "f.npz", how)
    assert main(["mismatch", str(path), "--strict"]) == 0
    printed = capsys.readouterr().out
    assert "warning" not in printed
    assert "Nothing points to a mistake." in printed
    assert "2,048 tokens in 128 sequences, correction token-tis:2" in printed


def test_metrics_are_those_of_the_library_and_mask_and_advantage_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_pi, log_mu = recorded("noise 0.3")
    mask = np.arange(16)[None, :] < np.arange(128)[:, None] % 16 + 1
    advantage = np.where(log_pi > log_mu, 1.0, -1.0)
    np.savez(
        tmp_path / "f.npz", log_pi_old=log_pi, log_mu=np.where(mask, log_mu, np.nan), mask=mask, advantage=advantage
    )
    found = told([str(tmp_path / "f.npz"), "--correction", "sequence-mask:0.5,2"], capsys)
    right = correct(log_pi, log_mu, mask, level="sequence", mode="mask", low=0.5, high=2.0).metrics
    for name, value in right.items():
        assert found["metrics"][name] == (None if np.isnan(value) else pytest.approx(value)), name
    assert found["metrics"]["mismatch_log_ratio_of_positive"] > 0 > found["metrics"]["mismatch_log_ratio_of_negative"]
    assert found["correction"] == "sequence-mask:0.5,2"
    assert found["findings"][0]["name"] == "too much masked"


def test_actions_without_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_pi, log_mu = recorded("int4")
    np.savez(tmp_path / "f.npz", log_pi=log_pi.ravel(), log_mu=log_mu.ravel())
    found = told([str(tmp_path / "f.npz")], capsys)
    assert found["findings"] == []
    assert found["about"] == "2,048 tokens"
    assert found["metrics"]["mismatch_length"] == 1.0


def run_folder(path: Path, agent: dict[str, Any], lines: list[dict[str, Any]]) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"agent": agent}))
    kinds = [{"kind": "begin"}, *({"kind": "progress", "env_steps": i, **line} for i, line in enumerate(lines))]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kinds))
    return path


def test_a_run_is_read_from_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings are about the last quarter; NaN in the log counts for nothing, maxima stay maxima."""
    healthy = correct(*recorded("int4"), high=2.0).metrics
    sharper = correct(*recorded("temperature 0.6"), high=2.0).metrics
    lines = [
        {"loss": 1.0},
        *[healthy] * 6,
        sharper,
        {**sharper, "mismatch_ratio_max": 99.0, "mismatch_k1": float("nan")},
    ]
    run = run_folder(tmp_path / "run", {"kind": "ppo", "correction": "token-mask:0.5,2"}, lines)
    found = told([str(run)], capsys)
    assert found["correction"] == "token-mask:0.5,2"
    assert found["about"] == "the last 2 of 8 progress lines"
    assert found["findings"][0]["name"] == "temperature mismatch"
    assert found["metrics"]["mismatch_ratio_max"] == 99.0
    assert found["metrics"]["mismatch_k1"] == sharper["mismatch_k1"]
    assert "mismatch_loss" not in found["metrics"]


@pytest.mark.parametrize("named", [{"correction": "vtrace"}, {}])
def test_vtrace_logs_ratios_without_the_prefix(
    named: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"ratio_mean": 0.98, "ess": 0.2, "loss": 1.0}]
    run = run_folder(tmp_path / "run", {"kind": "impala", "pg_rho_bar": 1.0, **named}, lines)
    found = told([str(run)], capsys)
    assert found["correction"] == "token-tis:1"
    assert found["metrics"] == {"mismatch_ratio_mean": 0.98, "mismatch_ess": 0.2}
    assert [f["name"] for f in found["findings"]] == ["low ESS"]


def test_of_a_run_another_correction_has_no_shares_that_were_logged_for_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were printed as those of the correction that was asked for."""
    log_pi, log_mu = recorded("noise 0.3")
    logged = correct(log_pi, log_mu, mode="truncate", high=8.0).metrics
    assert correct(log_pi, log_mu, mode="truncate", high=1.0).metrics["mismatch_clipped_high_share"] > 0.3
    run = run_folder(tmp_path / "run", {"kind": "ppo", "correction": "token-tis:8"}, [logged])
    other = told([str(run), "--correction", "token-tis:1"], capsys)
    assert other["correction"] == "token-tis:1"
    assert "what token-tis:8, with which it ran, clipped and masked is left out" in other["about"]
    gone = {"clipped_high_share", "clipped_low_share", "masked_share", "masked_sequence_share", "weight_mean"}
    assert logged.keys() - other["metrics"].keys() == {f"mismatch_{name}" for name in gone | {"ess_weight"}}
    assert told([str(run), "--correction", "token-tis:8"], capsys) == told([str(run)], capsys)
    assert main(["mismatch", str(run), "--correction", "token-tis:1"]) == 0
    assert "ratios above the bound" not in capsys.readouterr().out


def test_bad_places_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.full((2, 3), -1.0)
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "one.npy", x)
    np.savez(tmp_path / "cut.npz", log_pi=x, log_mu=x)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:100])
    for name, arrays in {
        "typo": {"log_pi": x, "logmu": x}, "none": {}, "shapes": {"log_pi": x, "log_mu": x[:1]},
        "above": {"log_pi": x, "log_mu": -x}, "inf": {"log_pi": x, "log_mu": x - np.inf},
        "objects": {"log_pi": x, "log_mu": np.array([[None] * 3] * 2)}, "words": {"log_pi": x, "log_mu": x.astype(str)},
        "masked": {"log_pi": x, "log_mu": x, "mask": x > 0}, "deep": {"log_pi": x[None], "log_mu": x[None]},
        "mask": {"log_pi": x, "log_mu": x, "mask": x[:, :2] < 0}, "good": {"log_pi": x, "log_mu": x},
    }.items():  # fmt: skip
        np.savez(tmp_path / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    run_folder(tmp_path / "dqn", {"kind": "dqn"}, [{"loss": 1.0}])
    cases = {
        "nowhere.npz": "does not exist", "text.npz": "is not an .npz file", "one.npy": "one array without a name",
        "cut.npz": "is not an .npz file", "typo.npz": "no array 'log_mu'; it holds log_pi, logmu; is 'logmu' meant?",
        "none.npz": "no array 'log_pi' or 'log_pi_old'; it holds nothing", "shapes.npz": "log_pi [2, 3], log_mu [1, 3]",
        "above.npz": "log_mu has 6 values above 0", "inf.npz": "log_mu is -inf for 6", "objects.npz": "Python objects",
        "words.npz": "log_mu holds <U", "masked.npz": "leaves nothing", "deep.npz": "[B, T] or [N]",
        "mask.npz": "mask [2, 2]", "empty": "is not a run folder", "dqn": "has logged no mismatch",
    }  # fmt: skip
    for name, says in cases.items():
        assert main(["mismatch", str(tmp_path / name)]) == 2, name
        printed = capsys.readouterr()
        assert says in printed.err.replace("\n", " "), name
        assert printed.err.count("\n") == 1
        assert printed.out == ""
    assert main(["mismatch", str(tmp_path / "good.npz"), "--correction", "token-tiss:2"]) == 2
    assert "did you mean 'token-tis'" in capsys.readouterr().err
    assert list(tmp_path.glob("error.txt")) == []


@pytest.mark.parametrize(
    ("how", "says"),
    [("bits", "damaged or cut short"), ("header", "damaged or cut short"), ("size", "do not fit into memory"),
     ("bytes", "damaged or cut short")],
)  # fmt: skip
def test_a_damaged_file_is_one_sentence(
    how: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, x = tmp_path / "f.npz", np.log(np.random.default_rng(0).uniform(size=(8, 50)))
    if how == "bits":
        np.savez_compressed(path, log_pi=x, log_mu=x)
        damaged = bytearray(path.read_bytes())
        damaged[60] ^= 0xFF
        path.write_bytes(damaged)
    else:
        stream = io.BytesIO()
        np.save(stream, x)
        array = stream.getvalue()
        changed = {"header": array.replace(b"(8, 50)", b"(8, 51)"), "bytes": array,
                   "size": array.replace(b"(8, 50), }" + b" " * 12, b"(8" + b"0" * 12 + b", 50), }")}[how]  # fmt: skip
        with zipfile.ZipFile(path, "w") as file:
            for name in ("log_pi", "log_mu"):
                file.writestr(name if how == "bytes" else f"{name}.npy", b"text" if how == "bytes" else changed)
    assert main(["mismatch", str(path)]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "error.txt").exists()


def test_a_file_needs_no_torch(tmp_path: Path) -> None:
    path = saved(tmp_path / "f.npz", "bf16")
    code = (
        "import sys; from frugalrl.cli import main; assert main(['mismatch', sys.argv[1]]) == 0; "
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
