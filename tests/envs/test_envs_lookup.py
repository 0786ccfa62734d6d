"""Ids, modules, extras and protocols: what is found, and the sentence when it is not."""

import subprocess
import sys
from dataclasses import fields, replace

import gymnasium as gym
import pytest

from frugalrl.envs import PROTOCOLS, default_protocol, make_env, named_protocol, registered_ids
from frugalrl.envs.protocols import Protocol
from frugalrl.types import UserError

PLAIN = PROTOCOLS["plain"]


def make(env_id, protocol=PLAIN, **kwargs):
    return make_env(env_id, **{"protocol": protocol, "num_rows": 1, "seed": 0, "training": True, **kwargs})


@pytest.mark.parametrize(
    ("env_id", "said"),
    [
        ("CartPole-v11", "did you mean CartPole-v1"),
        ("cartpole-v1", "did you mean CartPole-v1"),
        ("Breakout-v5", "ALE/Breakout-v5"),
        ("ALE/Brekout-v5", "ALE/Breakout-v5"),
        ("MinAtar/Astrix-v1", "MinAtar/Asterix-v1"),
        ("Cath-v0", "frugalrl/Catch-v0"),
        ("Nothing-like-this", "not registered with Gymnasium"),
        ("no_such_module:Env-v0", "Cannot find the module 'no_such_module'"),
        ("counting_envs:Countin", "did you mean counting_envs:Counting"),
        ("counting_envs:CountingDisabled", "autoreset_mode .*not supported"),
        ("counting_envs:CountingNotSeeded", "cannot be seeded alone"),
        ("counting_envs:CountingNoOptions", "no options"),
        ("counting_envs:slow_rows", "Cannot make counting_envs:slow_rows: TypeError"),
        ("sys:exit", "Cannot make sys:exit: SystemExit"),
        ("collections:OrderedDict", "OrderedDict, which is not a gymnasium.Env"),
    ],
)
def test_unknown_or_unusable(env_id, said):
    with pytest.raises(UserError, match=said) as caught:
        make(env_id)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_to_import(tmp_path, monkeypatch):
    (tmp_path / "broken_envs_module.py").write_text("raise ValueError('half written')")
    (tmp_path / "needy_envs_module.py").write_text("import surely_not_installed")
    (tmp_path / "script_envs_module.py").write_text("import sys\nsys.exit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    with pytest.raises(UserError, match="ValueError: half written"):
        make("broken_envs_module:X")
    with pytest.raises(UserError, match="surely_not_installed"):
        make("needy_envs_module:X")
    with pytest.raises(UserError, match=r"Importing 'script_envs_module' for .* failed with SystemExit: 0\.$"):
        make("script_envs_module:X")
    gym.register("HalfWritten-v0", vector_entry_point="broken_envs_module:X", entry_point="broken_envs_module:Y")
    try:
        with pytest.raises(UserError, match="Cannot make HalfWritten-v0: ValueError: half written"):
            make("HalfWritten-v0")
    finally:
        del gym.registry["HalfWritten-v0"]


def test_a_module_of_the_current_folder_registers_its_ids(tmp_path, monkeypatch):
    (tmp_path / "my_own_envs.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gym.register('Mine/Pole-v3', CartPoleEnv, max_episode_steps=5)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    for env_id in ("my_own_envs:Mine/Pole-v3", "my_own_envs:CartPoleEnv"):
        env = make(env_id)
        assert env.spec.id == env_id
        assert env.reset().obs.shape == (1, 4)
    gym.registry.pop("Mine/Pole-v3")


def test_cartpole_does_not_use_its_vector_entry_point():
    from frugalrl.envs.python_rows import PythonRows
    from frugalrl.envs.vector_rows import VectorRows

    assert gym.spec("CartPole-v1").vector_entry_point is not None
    assert isinstance(make("CartPole-v1"), PythonRows)
    assert isinstance(make("frugalrl/Catch-v0"), VectorRows)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"num_rows": 0}, "num_rows=0 must be at least 1"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"threads": 0}, "threads=0"),
        ({"env_kwargs": {"gravty": 1}}, "gravty"),
    ],
)
def test_bad_arguments(kwargs, said):
    with pytest.raises(UserError, match=said):
        make("CartPole-v1", **kwargs)


@pytest.mark.parametrize(("package", "env_id"), [("ale_py", "ALE/Pong-v5"), ("minatar", "MinAtar/Breakout-v1")])
def test_a_missing_extra_says_which(monkeypatch, package, env_id):
    for name in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    extra = {"ale_py": "atari", "minatar": "minatar"}[package]
    with pytest.raises(UserError, match=rf"pip install 'frugalrl\[{extra}\]'"):
        make(env_id, named_protocol(default_protocol(env_id)))


def test_extras_are_imported_only_when_needed_and_nothing_is_printed():
    code = (
        "import sys, logging\n"
        "from frugalrl.envs import make_env, named_protocol\n"
        "def go(i, p): e = make_env(i, protocol=named_protocol(p), num_rows=2, seed=0, training=True); e.reset()\n"
        "go('CartPole-v1', 'plain')\n"
        "assert not {'torch', 'ale_py', 'minatar'} & set(sys.modules)\n"
        "go('CartPole-v0', 'plain'); go('ALE/Pong-v5', 'plain'); go('ALE/Pong-v5', 'atari100k')\n"
        "go('MinAtar/Freeway-v1', 'minatar')\n"
        "assert not logging.getLogger().handlers and logging.root.manager.disable == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_registered_ids():
    ids = registered_ids()
    assert {"CartPole-v1", "ALE/Pong-v5", "MinAtar/Breakout-v1", "frugalrl/Catch-v0"} <= set(ids)
    assert "PongNoFrameskip-v4" not in ids


# ---------------------------------------------------------------------- protocols


def test_a_protocol_has_no_defaults():
    from dataclasses import MISSING

    assert all(f.default is MISSING and f.default_factory is MISSING for f in fields(Protocol))
    with pytest.raises(TypeError):
        Protocol(name="x")


@pytest.mark.parametrize(
    ("env_id", "name"),
    [
        ("ALE/Pong-v5", "atari100k"),
        ("MinAtar/Breakout-v0", "minatar"),
        ("CartPole-v1", "plain"),
        ("my.module:ALE/Pong-v5", "atari100k"),
        ("frugalrl/Catch-v0", "plain"),
    ],
)
def test_default_protocols(env_id, name):
    assert default_protocol(env_id) == name


def test_published_numbers():
    p, s = PROTOCOLS["atari100k"], PROTOCOLS["ale-sticky"]
    assert (p.sticky_probability, p.life_loss_ends_return, p.noop_max, p.max_episode_steps) == (0.0, True, 30, 27_000)
    assert (p.full_action_space, p.clip_reward, p.eval_epsilon, p.final_eval_episodes) == (False, True, 0.001, 100)
    assert (s.sticky_probability, s.life_loss_ends_return, s.full_action_space) == (0.25, False, True)
    assert s.max_episode_steps * s.frame_skip == 108_000
    m = PROTOCOLS["minatar"]
    assert (m.sticky_probability, m.difficulty_ramping, m.max_episode_steps) == (0.1, True, 5_000)
    assert (PLAIN.clip_reward, PLAIN.eval_epsilon, PLAIN.max_episode_steps) == (False, 0.0, None)
    assert all(q.eval_episodes == 10 for q in PROTOCOLS.values() if q.suite != "lm")


def test_unknown_protocol_has_a_hint():
    with pytest.raises(UserError, match="did you mean 'atari100k'"):
        named_protocol("atari-100k")
    with pytest.raises(UserError, match="choose one of atari100k, ale-sticky"):
        named_protocol("zzz")


@pytest.mark.parametrize(
    ("name", "env_id", "suite", "own"),
    [
        ("atari100k", "CartPole-v1", "ALE/ games", "plain"),
        ("minatar", "ALE/Pong-v5", "MinAtar/ games", "atari100k"),
        ("ale-sticky", "MinAtar/Asterix-v1", "ALE/ games", "minatar"),
        ("lm-exact-match", "CartPole-v1", "lm: tasks", "plain"),
    ],
)
def test_a_protocol_of_another_suite_is_refused(name, env_id, suite, own):
    with pytest.raises(UserError) as caught:
        make(env_id, PROTOCOLS[name])
    assert str(caught.value) == f"Protocol '{name}' is for {suite}, not for {env_id}; use --protocol {own}."


@pytest.mark.parametrize(
    ("base", "change", "said"),
    [
        ("plain", {"eval_epsilon": 1.5}, "not a probability"),
        ("plain", {"max_episode_steps": 0}, "at least 1"),
        ("plain", {"eval_episodes": 0}, "at least 1"),
        ("plain", {"sticky_probability": 0.5}, "only an emulator"),
        ("minatar", {"frame_stack": 4}, "only an emulator"),
        ("atari100k", {"screen_size": None}, "leaves screen_size open"),
    ],
)
def test_a_protocol_that_cannot_be_applied(base, change, said):
    with pytest.raises(UserError, match=said):
        replace(PROTOCOLS[base], **change)


def test_what_the_protocol_sets_cannot_be_given():
    with pytest.raises(UserError, match="sets every argument"):
        make("ALE/Pong-v5", PROTOCOLS["atari100k"], env_kwargs={"frameskip": 2})
    with pytest.raises(UserError, match="are set by protocol 'minatar'"):
        make("MinAtar/Asterix-v1", PROTOCOLS["minatar"], env_kwargs={"sticky_action_prob": 0.5})


def test_evaluation_has_its_own_limit():
    protocol = replace(PLAIN, name="mine", max_episode_steps=9, eval_max_steps=4)
    assert (protocol.step_limit(training=True), protocol.step_limit(training=False)) == (9, 4)
    assert PLAIN.step_limit(training=True) is None
