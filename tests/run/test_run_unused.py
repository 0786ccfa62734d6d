"""Settings that change nothing are refused, in one sentence that says what would read them."""

from __future__ import annotations

import pytest

from frugalrl.recipes import build_config
from frugalrl.run.config_io import override
from frugalrl.run.unused import refuse_unused, why_unused
from frugalrl.study.matrix import Study, method_from_word, refuse_unused_settings
from frugalrl.types import UserError

CONSTANT = ("explore.epsilon.kind=constant",)
CENTRAL = ("sampler.kind=central",)
LOCKSTEP = ("sampler.lockstep=true",)
OF_BACKGROUND = ("restarts=3", "deadline_ms=9", "live_share=0.5", "max_batch_rows=8", "queue_batches=2")


@pytest.mark.parametrize(
    ("recipe", "given", "setting", "why"),
    [
        ("classic-dqn", (), "replay.alpha=0.5", "replay.kind=prioritized"),
        ("classic-dqn", (), "explore.temperature.start=2", r"explore.temperature \(what does: softmin, boltzmann\)"),
        (
            "classic-dqn",
            ("explore.name=boltzmann",),
            "explore.epsilon.end=0.1",
            "'boltzmann' does not read",
        ),
        ("classic-dqn", ("explore.name=counteractive",), "explore.uniform_share=0.1", "counteractive-mixed"),
        ("classic-dqn", CONSTANT, "explore.epsilon.end=0.1", "does not read end .*kind=linear or exponential"),
        ("classic-dqn", (), "explore.epsilon.half_life_steps=9", "kind=exponential"),
        ("classic-dqn", (), "sequences.alpha=0.5", "agent.kind=r2d2"),
        ("classic-dqn", (), "evaluation.probe_steps=9", "probe_rows=0"),
        ("classic-dqn", (), "env.threads=2", "under protocol plain .*Atari games"),
        ("classic-dqn", (), "sampler.groups=3", "--sampler central"),
        ("classic-dqn", (), "sampler.vllm_python=python3", "--sampler-engine vllm"),
        ("tabular-q", (), "net.hidden_units=9", "table in place of a network"),
        ("seed-r2d2-small", (), "replay.capacity_transitions=9000", "learns from sequences"),
        ("ppo", (), "explore.epsilon.start=0.5", "does not read explore.epsilon .*counteractive, uniform"),
        *(("classic-dqn", CENTRAL, f"sampler.{one}", "agent.kind=dqn samples in lockstep") for one in OF_BACKGROUND),
        ("classic-dqn", CENTRAL, "sampler.lockstep=false", "agent.kind=dqn samples in lockstep"),
        *(("seed-r2d2-small", LOCKSTEP, f"sampler.{one}", "sampler.lockstep=false") for one in OF_BACKGROUND),
        ("seed-vtrace-small", (), "schedule.steps_per_round=9", "agent.batch_unrolls unrolls are complete"),
        *(
            ("grpo-tiny", (), f"schedule.{one}=3", "each round of agent.prompts")
            for one in ("warmup_env_steps", "steps_per_round", "updates_per_round")
        ),
        ("grpo-tiny", (), "explore.prefill=counteractive", "agent.kind=grpo has no prefill"),
        ("grpo-tiny", (), "evaluation.actions=greedy", "answers are always sampled"),
        *(
            ("grpo-tiny", ("agent.warm_start_steps=0",), f"agent.warm_start_{one}", "warm_start_steps=0")
            for one in ("until=0.5", "batch=9", "learning_rate=0.1")
        ),
        *(
            ("grpo-tiny", ("net.checkpoint=here",), f"net.{one}", "net.checkpoint=here sets the sizes")
            for one in ("layers=3", "width=32", "heads=2", "mlp_width=50", "init_std=0.1")
        ),
        ("inline-vtrace", ("agent.correction=none",), "agent.pg_rho_bar=2", "takes all ratios for 1"),
        ("inline-vtrace", ("agent.correction=none", "agent.rho_bar=None"), "agent.c_bar=None", "all ratios for 1"),
    ],
)
def test_what_nothing_reads_is_refused(recipe: str, given: tuple[str, ...], setting: str, why: str) -> None:
    config = override(build_config("lm:sort-digits" if recipe == "grpo-tiny" else "CartPole-v1", recipe), given)
    refuse_unused(config, given)
    config = override(config, [setting])
    with pytest.raises(UserError, match=f"^--set {setting} has no effect: .*{why}.*; leave it out$"):
        refuse_unused(config, [*given, setting])


@pytest.mark.parametrize(
    ("recipe", "given", "setting"),
    [
        ("classic-dqn", ("replay.kind=prioritized",), "replay.alpha=0.5"),
        ("classic-dqn", ("explore.name=softmin",), "explore.temperature.start=2"),
        ("classic-dqn", ("explore.name=counteractive-mixed",), "explore.uniform_share=0.1"),
        ("classic-dqn", CONSTANT, "explore.epsilon.start=0.1"),
        ("classic-dqn", ("evaluation.probe_rows=1",), "evaluation.probe_steps=9"),
        ("classic-dqn", ("sampler.kind=central",), "sampler.groups=3"),
        ("dqn-nature", (), "env.threads=2"),
        ("tabular-q", (), "replay.capacity_transitions=9"),
        ("seed-r2d2-small", (), "sequences.alpha=0.5"),
        ("seed-vtrace-counteractive", (), "explore.epsilon.start=0.5"),
        ("grpo-tiny", (), "net.width=32"),
        ("grpo-tiny", (), "agent.warm_start_until=0.5"),
        *(("seed-r2d2-small", (), f"sampler.{one}") for one in (*OF_BACKGROUND, "lockstep=true")),
        ("classic-dqn", CENTRAL, "sampler.hang_s=9"),
        ("seed-r2d2-small", (), "schedule.steps_per_round=9"),
        ("seed-vtrace-small", LOCKSTEP, "schedule.steps_per_round=9"),
        ("inline-vtrace", (), "schedule.steps_per_round=9"),
        ("inline-vtrace", (), "agent.pg_rho_bar=2"),
        ("inline-vtrace", ("agent.correction=none",), "agent.pg_rho_bar=0.5"),
        ("inline-vtrace", ("agent.correction=none",), "agent.rho_bar=2"),
    ],
)
def test_what_something_reads_is_not(recipe: str, given: tuple[str, ...], setting: str) -> None:
    settings = [*given, setting]
    config = override(build_config("lm:sort-digits" if recipe == "grpo-tiny" else "CartPole-v1", recipe), settings)
    refuse_unused(config, settings)
    assert why_unused(config, setting) is None


def test_a_comparison_refuses_what_none_of_its_methods_reads() -> None:
    def study(*methods: str, common: str) -> Study:
        made = tuple(map(method_from_word, methods))
        return Study(envs=("CartPole-v1",), methods=made, seeds=(0,), baseline=made[0].name, set=(common,))

    warm = "explore.temperature.start=2"
    refuse_unused_settings(study("epsilon-greedy", "softmin", common=warm))  # softmin reads it
    with pytest.raises(UserError, match="has no effect: the explorer 'epsilon-greedy'"):
        refuse_unused_settings(study("epsilon-greedy", "counteractive", common=warm))
    with pytest.raises(UserError, match=r"^method 'a': .*has no effect: replay.kind=uniform"):
        refuse_unused_settings(study("a=epsilon-greedy+replay.alpha=0.5", common="agent.gamma=0.9"))
