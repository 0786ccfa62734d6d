"""``frugal watch`` and ``frugal export`` from a trained run to a file, and ``--tensorboard`` on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from frugalrl.cli import main
from frugalrl.export import formats
from frugalrl.watch import video


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("watch") / "run"
    words = ["train", "frugalrl/Catch-v0", "--budget-steps", "300", "--out", str(folder), "--json", "--quiet"]
    words += ["--tensorboard", str(folder.parent / "curves")]
    small = ["--set", "schedule.warmup_env_steps=100", "evaluation.episodes=2", "net.hidden_units=16"]
    assert main([*words, *small]) == 0
    return str(folder)


def test_a_run_is_filmed(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", run, "--video", "a.gif", "--episodes", "2", "--json", "--fps", "20"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert all(value in (-1.0, 1.0) for value in document["returns"])
    assert (document["file"], document["format"], document["frames"], document["episodes"]) == ("a.gif", "gif", 20, 2)
    assert (document["fps"], document["cut_return"], document["env_steps"]) == (20.0, None, 304)
    assert shown.err == ""
    with Image.open("a.gif") as gif:
        assert gif.n_frames == 20
        assert gif.info["duration"] == 50


def test_the_first_episode_is_that_of_eval(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", run, "--video", "a.gif", "--seed", "4", "--json"]) == 0
    filmed = json.loads(capsys.readouterr().out)["returns"]
    assert main(["eval", run, "--episodes", "1", "--seed", "4", "--json"]) == 0
    assert filmed == json.loads(capsys.readouterr().out)["returns"]


def test_a_cut_is_said(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", run, "--video", "a.gif", "--max-steps", "4"]) == 0
    shown = capsys.readouterr().out
    assert shown == "a.gif: 5 frames, 10 per second, the observation; policy after 304 steps; cut off at return 0\n"


def test_without_ffmpeg_a_note_and_a_gif(
    run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "find_ffmpeg", lambda: None)
    assert main(["watch", run, "--video", "a.mp4", "--max-steps", "3", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["file"] == "a.gif"
    assert shown.err.startswith("note: there is no ffmpeg here, so a.gif is written instead")
    assert [p.name for p in Path().iterdir()] == ["a.gif"]


@pytest.mark.parametrize(("words", "part"), [(["a.avi"], "no format for a video"), (["x/a.gif"], "there is no folder")])
def test_wrong_places_are_sentences(run: str, words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", run, "--video", *words]) == 2
    assert part in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_an_agent_without_a_policy_cannot_be_sampled_from(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", run, "--episodes", "1", "--actions", "sampled"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "agent.kind=dqn: it has Q-values and no policy" in sentence
    assert main(["train", "CartPole-v1", "--set", "evaluation.actions=sampled", "--out", "never"]) == 2
    assert "evaluation.actions=sampled is for actor-critics" in capsys.readouterr().err


def test_a_run_is_exported(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", run, "--to", "torch", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == f"{run}/policy.pt2"
    assert json.loads(Path(document["description"]).read_text())["actions"]["meanings"] == ["LEFT", "STAY", "RIGHT"]
    assert document["checked"]["max_abs_difference"] <= document["checked"]["allowed"]
    assert main(["export", run, "--to", "torch", "--out", "a.pt2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "a.pt2: policy of frugalrl/Catch-v0 after 304 steps; see a.pt2.json"
    assert shown[1].startswith("checked on 256 observations: largest difference of Q ")
    assert shown[1].endswith("100.0% equal actions")
    assert main(["export", run, "--to", "torch", "--out", "a.onnx"]) == 2
    assert "ends in .pt2" in capsys.readouterr().err


def test_a_recurrent_actor_critic_is_filmed_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "lstm")
    words = ["train", "frugalrl/Catch-v0", "--recipe", "ppo-lstm", "--budget-steps", "300", "--out", run, "--quiet"]
    assert main([*words, "--set", "evaluation.episodes=2", "net.hidden_units=16", "net.lstm_units=8"]) == 0
    capsys.readouterr()
    assert main(["eval", run, "--episodes", "1", "--json"]) == 0
    played = json.loads(capsys.readouterr().out)["returns"]
    assert main(["watch", run, "--video", "a.gif", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == played
    assert main(["eval", run, "--episodes", "4", "--actions", "sampled"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("over 4 episodes, protocol plain, actions sampled")
    assert main(["export", run, "--to", "torch", "--out", "a.pt2"]) == 0
    said = capsys.readouterr().out.splitlines()[1]
    assert said.startswith("checked on 256 observations and 24 ends of episodes, each with its own memory: ")
    assert "largest difference of the logits " in said
    about = json.loads(Path("a.pt2.json").read_text())
    assert list(about["outputs"]) == ["logits", "action", "h_next", "c_next"]
    for word in (b"recurrent.py", str(Path(formats.__file__).parents[3]).encode()):
        assert word not in Path("a.pt2").read_bytes(), "the file holds a path of this machine"


def test_a_resumed_run_goes_on_in_its_curves(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    curves = Path("curves").resolve()
    shutil.copytree(Path(run).parent / "curves", curves)
    run = str(shutil.copytree(run, "run"))
    assert [p.name for p in curves.iterdir()] == ["run"]
    assert main(["resume", run, "--budget-steps", "400", "--tensorboard", str(curves), "--quiet"]) == 0
    events = reader.EventAccumulator(str(curves / "run"), size_guidance={"scalars": 0})
    events.Reload()
    assert [p.step for p in events.Scalars("score/mean_return")] == [304, 400]
    again = ["train", "frugalrl/Catch-v0", "--out", "new/run", "--tensorboard", str(curves)]
    assert main(again) == 2
    assert "holds the events of another run" in capsys.readouterr().err
    assert not Path("new").exists()
