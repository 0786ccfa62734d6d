"""The matrix: cells, their configurations, methods from words, study files."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalrl.study.matrix import Method, Study, cells, method_from_word, seeds_of
from frugalrl.study.study_file import from_document, read_study, to_document
from frugalrl.types import UserError

A, B = Method(name="a", explore="epsilon-greedy"), Method(name="b", explore="counteractive")


def study(**changes: object) -> Study:
    known: dict[str, object] = {"envs": ("CartPole-v1",), "methods": (A, B), "seeds": (0, 1), "baseline": "a"}
    return Study(**{**known, **changes})  # type: ignore[arg-type]


def test_every_cell_differs_from_its_neighbours_in_method_or_seed_only() -> None:
    found = cells(study(budget_steps=500, evaluations=5, set=("agent.gamma=0.9",)))
    assert [(c.method, c.seed) for c in found] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)], "seed by seed"
    assert [c.config.explore.name for c in found[:2]] == ["epsilon-greedy", "counteractive"]
    for cell in found:
        assert cell.config.seed == cell.seed
        assert cell.config.agent.gamma == 0.9
        assert (cell.config.budget.env_steps, cell.config.evaluation.every_env_steps) == (500, 100)
    assert found[0].path == Path("runs/CartPole-v1/a/seed0")


def test_a_methods_own_settings_win_and_a_cadence_that_is_set_stays() -> None:
    own = Method(name="own", set=("agent.gamma=0.5",))
    (cell,) = cells(
        study(methods=(own,), seeds=(3,), baseline="own", set=("agent.gamma=0.9", "evaluation.every_env_steps=7"))
    )
    assert (cell.config.agent.gamma, cell.config.evaluation.every_env_steps, cell.config.seed) == (0.5, 7, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"envs": ()}, "the matrix is empty: it has no environment"),
        ({"methods": (), "baseline": "a"}, "it has no method"),
        ({"seeds": ()}, "it has no seed"),
        ({"methods": (A, A)}, "the method 'a' is named twice"),
        ({"seeds": (1, 1)}, "the seed 1 is named twice"),
        ({"baseline": "aa"}, "did you mean 'a'"),
        ({"targets": {"CartPole-v0": (1.0,)}}, "did you mean 'CartPole-v1'"),
        ({"evaluations": 0}, "evaluations=0"),
    ],
)
def test_a_matrix_that_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        study(**changes)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (
            Method(name="m", explore="counteractiv"),
            "'counteractiv' for agent.kind=dqn; did you mean 'counteractive'",
        ),
        (Method(name="m", recipe="derr"), "method 'm': unknown recipe 'derr'"),
        (Method(name="m", set=("agent.lr=1",)), "method 'm': --set agent.lr: there is no field"),
        (Method(name="m", set=("seed=4",)), "the seed of a run comes from the matrix"),
    ],
)
def test_a_method_that_cannot_be_built_is_named(method: Method, said: str) -> None:
    with pytest.raises(UserError) as error:
        cells(study(methods=(method,), baseline="m"))
    assert said in str(error.value)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    """It was found at the start of its first run, when the folder of the study was taken."""
    long = "counteractive+" + "+".join(f"explore.epsilon.start=0.{n:09}" for n in range(6))
    with pytest.raises(UserError, match="too long for the name of a file; give the method a short name"):
        cells(study(methods=(Method(name=long),), baseline=long))


def test_two_names_that_give_one_folder_are_refused() -> None:
    with pytest.raises(UserError, match="would share the folder"):
        cells(study(methods=(Method(name="a b"), Method(name="a/b")), baseline="a b"))


@pytest.mark.parametrize(
    ("word", "method"),
    [
        ("counteractive", Method(name="counteractive", explore="counteractive")),
        ("der+counteractive", Method(name="der+counteractive", recipe="der", explore="counteractive")),
        (
            "wide=ucb+net.hidden_units=512+agent.gamma=0.9",
            Method(name="wide", explore="ucb", set=("net.hidden_units=512", "agent.gamma=0.9")),
        ),
        ("agent.gamma=0.9", Method(name="agent.gamma=0.9", set=("agent.gamma=0.9",))),
        ("fp32", Method(name="fp32", sampler_transform="none")),
        ("int4-none", Method(name="int4-none", sampler_transform="int4", correction="none")),
        ("int4-tis2", Method(name="int4-tis2", sampler_transform="int4", correction="token-tis:2")),
        ("int4-seq-mask", Method(name="int4-seq-mask", sampler_transform="int4", correction="sequence-mask:2")),
        ("bf16-seq-mask1.5", Method(name="bf16-seq-mask1.5", sampler_transform="bf16", correction="sequence-mask:1.5")),
        ("int8-seq-tis5", Method(name="int8-seq-tis5", sampler_transform="int8", correction="sequence-tis:5")),
        ("int3-mask", Method(name="int3-mask", sampler_transform="int3", correction="token-mask:0.5,5")),
        (
            "stale8-ppo-denominator",
            Method(name="stale8-ppo-denominator", sampler_transform="stale:8", correction="ppo-denominator"),
        ),
        (
            "x=ppo-minatar+int3-vanilla+agent.epochs=2",
            Method(
                name="x", recipe="ppo-minatar", sampler_transform="int3", correction="vanilla", set=("agent.epochs=2",)
            ),
        ),
    ],
)
def test_methods_from_words(word: str, method: Method) -> None:
    assert method_from_word(word) == method


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("counteractiv", "did you mean 'counteractive'"),
        ("ucb+softmin", "two explorers or two recipes"),
        ("=ucb", "empty name"),
        ("int4-tsi2", "'tsi2' is no correction; did you mean 'tis2'"),
        ("int4-tis", "'tis' is no correction; did you mean 'tis2'"),
        ("int4-none+int3", "names two samplers"),
        ("in4-tis2", "did you mean 'int4-tis2'"),
    ],
)
def test_words_that_are_no_method(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        method_from_word(word)


@pytest.mark.parametrize(
    ("env", "recipe"),
    [("CartPole-v1", "ppo"), ("MinAtar/Breakout-v1", "ppo-minatar"), ("ALE/Pong-v5", "ppo-atari")],
)
def test_a_correction_alone_asks_for_a_learner_of_policies(env: str, recipe: str) -> None:
    methods = (Method(name="a", correction="token-tis:2"), Method(name="b", correction="token-tis:2",
                                                                  set=("agent.correction=vanilla",)))  # fmt: skip
    one, two = cells(study(envs=(env,), methods=methods, baseline="a", seeds=(0,)))
    assert one.config.recipe == recipe
    assert [c.config.agent.correction for c in (one, two)] == ["token-tis:2", "vanilla"]


def test_a_correction_of_an_agent_without_one_is_refused() -> None:
    method = Method(name="a", recipe="classic-dqn", correction="vanilla")
    with pytest.raises(UserError, match=r"method 'a': correction 'vanilla': agent.kind=dqn has none"):
        cells(study(envs=("CartPole-v1",), methods=(method,), baseline="a"))


def test_one_number_is_a_count() -> None:
    assert seeds_of([3]) == (0, 1, 2)
    assert seeds_of([3, 5]) == (3, 5)


STUDY = """
envs = ["CartPole-v1"]
seeds = [2, 4]
budget_steps = 1_000
[targets]
CartPole-v1 = [100, 475.5]
[set]
agent.gamma = 0.9
net.hidden_units = [32, 32]
env.kwargs = {sutton_barto_reward = true}
[method.plain]
explore = "epsilon-greedy"
[method.coact]
explore = "counteractive"
recipe = "classic-dqn"
set = ["agent.double=false"]
"""


def test_a_study_file_gives_the_study_that_the_flags_would(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    found = read_study(path)
    assert found == Study(
        envs=("CartPole-v1",),
        methods=(
            Method(name="plain", explore="epsilon-greedy"),
            Method(name="coact", recipe="classic-dqn", explore="counteractive", set=("agent.double=false",)),
        ),
        seeds=(2, 4),
        baseline="plain",
        budget_steps=1_000,
        targets={"CartPole-v1": (100.0, 475.5)},
        set=("agent.gamma=0.9", "net.hidden_units=[32, 32]", 'env.kwargs={"sutton_barto_reward": true}'),
    )
    config = cells(found)[1].config
    assert config.net.hidden_units == (32, 32)
    assert config.env.kwargs == {"sutton_barto_reward": True}
    assert from_document(to_document(found), "x") == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("env = ['CartPole-v1']", "unknown key 'env'; did you mean 'envs'"),
        ("envs = []\n[method.a]", "it has no environment"),
        ("envs = ['CartPole-v1']", "it has no method"),
        ("envs = ['CartPole-v1']\n[method.a]\nexplorer = 'ucb'", "unknown key 'method.a.explorer'"),
        ("envs = 'CartPole-v1'\n[method.a]", "envs is 'CartPole-v1'; it must be a list of texts"),
        ("envs = ['C']\nseeds = 1.5\n[method.a]", "seeds is 1.5; it must be a list of whole numbers"),
        ("envs = ['C']\nbudget_steps = 0\n[method.a]", "budget_steps is 0; it must be a whole number"),
        ("envs = ['C'\n", "is not valid TOML"),
        ("envs = ['C']\nmethod = 3", "it must be a table such as"),
        ("envs = ['C']\n[targets]\nC = [1, nan]\n[method.a]", "the target nan of C is no score"),
        ("envs = ['C']\n[targets]\nC = -inf\n[method.a]", "the target -inf of C is no score"),
        (f"envs = ['C']\n[targets]\nC = {10**400}\n[method.a]", "it must be a list of numbers"),
        ("envs = ['C']\n[method.a]\nset.agent.x = 2026-11-26", "method.a.set.agent.x holds a date or a time"),
        ("envs = ['C']\n[set]\na.b = [1, 07:30:00]\n[method.a]", "set.a.b holds a date or a time"),
    ],
)
def test_a_study_file_with_a_mistake(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_study(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_evaluations_of_a_study_file_need_a_step_budget(tmp_path: Path) -> None:
    """They were made every 10,000 steps of the recipe, without a word."""
    body = 'envs = ["CartPole-v1"]\n[set]\nbudget.hours = 0.1\nbudget.env_steps = "null"\n[method.epsilon-greedy]\n'
    (tmp_path / "study.toml").write_text(body)
    assert read_study(tmp_path / "study.toml").evaluations == 20
    (tmp_path / "study.toml").write_text(f"evaluations = 4\n{body}")
    with pytest.raises(UserError, match="4 evaluations cannot be spread over it"):
        read_study(tmp_path / "study.toml")


def test_a_study_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no study file"):
        read_study(tmp_path / "no.toml")


def test_the_same_seed_gives_all_methods_the_same_episodes(tmp_path: Path) -> None:
    from frugalrl.cost.meters import LapTimer
    from frugalrl.run.assemble import assemble

    def episodes(cell_number: int) -> list[tuple[int, int]]:
        config = cells(study(set=("schedule.warmup_env_steps=10", "env.rows=2")))[cell_number].config
        timer = LapTimer()
        timer.start()
        parts = assemble(config, timer)
        try:
            parts.sampler.load(parts.learner.snapshot())
            found = parts.sampler.collect(400).episodes
        finally:
            parts.sampler.close()
        return [(e.row, e.seed) for e in found]

    def by_row(found: list[tuple[int, int]], row: int) -> list[int]:
        return [seed for r, seed in found if r == row][:5]

    greedy, counteractive, other_seed = episodes(0), episodes(1), episodes(2)
    for row in (0, 1):
        assert len(by_row(greedy, row)) == 5
        assert by_row(greedy, row) == by_row(counteractive, row)
        assert by_row(greedy, row) != by_row(other_seed, row)
