"""Runs on language models: from the first line to the bill, exact resume, the score, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kill_resume import bill_counts, differences, exact_state, scores
from run_support import Killed, Watcher, die

from frugalrl.recipes import build_config
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import from_dict, override, to_dict
from frugalrl.run.language.check import check_language, check_pair
from frugalrl.run.language.evaluator import wilson
from frugalrl.run.last_policy import last_policy
from frugalrl.run.score_run import evaluate_run
from frugalrl.run.status import Silent
from frugalrl.run.train import resume, train
from frugalrl.study.folder import StudyFolder
from frugalrl.study.jobs import why_alone
from frugalrl.study.matrix import Study, cells, method_from_word
from frugalrl.types import UserError

TINY = (
    'env.kwargs={"length": 2, "end": true}',
    "net.layers=1",
    "net.width=16",
    "net.heads=2",
    "net.mlp_width=16",
    "agent.prompts=8",
    "agent.samples=4",
    "agent.warm_start_steps=25",
    "agent.warm_start_until=None",
    "agent.warm_start_batch=16",
    "agent.warm_start_learning_rate=1e-2",
    "evaluation.episodes=48",
    "evaluation.rows=20",
    "evaluation.every_env_steps=120",
    "budget.env_steps=300",
    "checkpoint.every_s=3600",
    "device=cpu",
)

OLD_INT3 = ("sampler.transform=int3+stale:2", "agent.correction=token-tis:2", "checkpoint.every_s=0.0001")


def copying(*settings: str) -> RunConfig:
    return override(build_config("lm:copy"), [*TINY, *settings])


def test_a_run_from_its_first_line_to_its_bill(tmp_path: Path) -> None:
    seen = Watcher()
    done = train(copying("agent.kl_cost=0.01"), tmp_path / "run", seen)
    assert done.completed
    assert (seen.headers[0].protocol, seen.headers[0].explorer) == ("lm-exact-match", "policy")
    assert done.score is not None
    assert done.score.protocol == "lm-exact-match"
    assert done.score.episodes == 48
    assert done.score.interval == wilson(done.score.mean_return, 48)
    counts = bill_counts(tmp_path / "run")[0]
    assert counts["counts/agent_steps"] == done.env_steps >= 300
    rounds = counts["counts/episodes"] / 32
    assert counts["counts/updates"] == 2 * rounds
    assert counts["counts/invalid_rows"] == 0
    bill = json.loads((tmp_path / "run" / "bill.json").read_text())
    flop = {row["role"]: row["value"] for row in bill["rows"] if row["name"] == "flop" and row["role"]}
    assert {"startup", "inference", "learner", "correction", "target", "evaluation"} <= flop.keys()
    # a forward pass over all completions against forward and backward over the same ones
    assert flop["correction"] == pytest.approx(flop["learner"] / 3, rel=0.1)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    note = next(line["sentence"] for line in lines if line.get("event", line.get("kind")) == "note")
    assert note.startswith("warm start: 25 supervised steps")
    last = [line for line in lines if "reward_mean" in line][-1]
    assert {"entropy", "grad_norm", "response_length", "clipped_share", "mismatch_k3", "reference_kl"} <= last.keys()
    # the share that the warm start tells is that of its last weights, not of older ones
    assert evaluate_run(tmp_path / "run", episodes=48).returns == done.score.returns
    for actions in ("greedy", "sampled"):
        with pytest.raises(UserError, match=f"actions={actions} with agent.kind=grpo: answers are always sampled"):
            evaluate_run(tmp_path / "run", episodes=48, actions=actions)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="can be trained and evaluated, but not drawn or exported"):
        last_policy(tmp_path / "run").env(rows=1, seed=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("language") / "whole"
    train(copying(*OLD_INT3), folder, Silent())
    return folder


@pytest.mark.parametrize("at_step", [0, 150])
def test_a_run_that_died_and_was_resumed_ends_like_one_that_did_not(whole: Path, tmp_path: Path, at_step: int) -> None:
    """Once in its warm start, once in RL."""
    config = copying(*OLD_INT3)
    with pytest.raises(Killed):
        train(config, tmp_path / "cut", Watcher(at_step=at_step, act=die))
    again = Watcher()
    resume(tmp_path / "cut", again)
    assert again.headers[0].resumed_at is not None
    assert differences(exact_state(whole), exact_state(tmp_path / "cut")) == []
    assert scores(whole) == scores(tmp_path / "cut")


def test_a_configuration_survives_its_file_and_old_files_are_read() -> None:
    config = copying()
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(config)))) == config
    old = to_dict(build_config("CartPole-v1"))
    del old["net"]["kind"]
    assert from_dict(RunConfig, old) == build_config("CartPole-v1")


@pytest.mark.parametrize(
    ("env", "recipe", "settings", "sentence"),
    [
        ("lm:copy", "classic-dqn", (), "is a task for language models.*use --recipe grpo-tiny or rloo-tiny"),
        ("CartPole-v1", None, ("agent.kind=grpo", "net.kind=llama"), "trains language models on lm: tasks"),
        ("CartPole-v1", None, ("agent.kind=grpo",), "do not fit"),
        ("lm:copy", None, ("env.rows=4",), "set agent.prompts and agent.samples"),
        ("lm:copy", None, ("sampler.kind=central",), "use --sampler inline"),
        ("lm:copy", None, ("sampler.engine=onnx",), "sampler.engine=onnx computes control policies"),
        ("lm:copy", None, ("schedule.lag_blocks=1",), "set sampler.transform=stale:K"),
        ("lm:copy", None, ("env.protocol=plain",), "leave --protocol out"),
        ("lm:copy", None, ("evaluation.probe_rows=2",), "leave --probe-envs out"),
    ],
)
def test_what_a_language_model_has_no_use_for_is_one_sentence(
    env: str, recipe: str | None, settings: Any, sentence: str
) -> None:
    def make() -> None:
        config = override(build_config(env, recipe), settings)
        check_pair(config)
        check_language(config)

    with pytest.raises(UserError, match=sentence):
        make()


def test_a_task_without_a_prompt_to_score_on_is_refused_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lm:copy has too few prompts to hold out; give a larger length"):
        train(copying('env.kwargs={"length": 1}'), tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()


def test_a_study_trains_language_models_one_by_one() -> None:
    assert why_alone(copying()) == "agent.kind=grpo is a language model"


def test_the_interval_of_a_share_has_a_width_even_at_its_ends() -> None:
    assert wilson(0.0, 512) == pytest.approx((0.0, 0.0074), abs=1e-4)
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_the_page_takes_the_weights_out_of_a_run(tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a model whose output layer is its embedding, so that a run has one name less than a state_dict."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    sizes = transformers.LlamaConfig(
        vocab_size=12, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, tie_word_embeddings=tied, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    transformers.LlamaForCausalLM(sizes).save_pretrained("given")
    train(copying("net.checkpoint=given", "budget.env_steps=60"), "runs/NAME", Silent())
    page = (Path(__file__).parents[2] / "docs" / "language-models.md").read_text(encoding="utf-8")
    exec(page.split("```python\n")[1].split("```")[0], {})
    model = transformers.AutoModelForCausalLM.from_pretrained("my-model")
    saved = last_policy(Path("runs/NAME")).snapshot.parameters
    assert len(saved) == len(dict(model.named_parameters()))
    for name, parameter in model.named_parameters():
        assert np.array_equal(parameter.detach().numpy(), np.asarray(saved[f"lm.{name}"]))


@pytest.mark.slow
def test_grpo_learns_to_sort(tmp_path: Path) -> None:
    done = train(build_config("lm:sort-digits", "grpo-tiny"), tmp_path / "run", Silent())
    assert done.score is not None
    assert done.score.mean_return > 0.5


def test_methods_of_a_comparison_are_named_by_sampler_and_correction(tmp_path: Path) -> None:
    methods = (method_from_word("int3-tis2"),)
    study = Study(envs=("lm:copy",), methods=methods, seeds=(0,), baseline=methods[0].name, set=TINY)
    (cell,) = cells(study)
    assert (cell.config.recipe, cell.config.sampler.transform) == ("grpo-tiny", "int3")
    assert cell.config.agent.correction == "token-tis:2"  # type: ignore[union-attr]
    StudyFolder.create(tmp_path / "study", study, ()).try_out()
