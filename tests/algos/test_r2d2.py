"""R2D2: one update against loops in double precision, what must not count, and the stored state."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from frugalrl.algos.r2d2 import R2D2Config, R2D2Learner
from frugalrl.cost.flops import count_flops_of
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.config import NetConfig
from frugalrl.nets.recurrent_q import build_sequence_q
from frugalrl.replay import SequenceReplay, SequenceReplayConfig
from frugalrl.types import NonFiniteLoss, ReplayedUnrolls, Unroll
from oracles.r2d2 import slow_update
from oracles.replay import Stream, random_events
from oracles.sequences import cut

BATCH, BURN_IN, UNROLL, UNITS, A = 5, 3, 6, 4, 3
STREAM = Stream(1, 1, dtype="float32")
SPEC = STREAM.spec


def new(seed=0, units=UNITS, dueling=True, **changes):
    timer = LapTimer()
    timer.start()
    knobs = {
        "batch_size": BATCH, "burn_in_steps": BURN_IN, "unroll_steps": UNROLL, "n_step": 2, "learning_rate": 1e-2,
        "target_period_updates": 3, "max_grad_norm": None, "precision": "fp64", "gamma": 0.9,
    }  # fmt: skip
    config = R2D2Config(**(knobs | changes))
    net = NetConfig(hidden_units=(6, 5), dueling=dueling)

    def build():
        return build_sequence_q(SPEC, net, units)

    return R2D2Learner(config, SPEC, build, device=torch.device("cpu"), seed=seed, timer=timer)


def batch_of(seed=0, weight=None, length=BURN_IN + UNROLL, units=UNITS):
    """Sequences with ends of every kind, also inside the burn-in."""
    rng = np.random.default_rng(seed)
    stream = Stream(BATCH, 1, dtype="float32")
    rows = stream.play([[0] * BATCH, *random_events(length, BATCH, rng)])
    rows = replace(rows, obs=rng.normal(size=rows.obs.shape).astype(np.float32))
    parts = cut(rows, length, 0)
    batch = Unroll(
        obs=np.concatenate([p.obs for p in parts], 1),
        **{
            n: np.concatenate([getattr(p, n) for p in parts], 1)
            for n in ("action", "reward", "discount", "last", "valid", "log_mu", "version", "explored")
        },
        state_at_start=state_of(rng, units),
    )
    if weight is None:
        weight = rng.uniform(0.2, 1.0, BATCH).astype(np.float32)
    return ReplayedUnrolls(batch=batch, keys=np.arange(BATCH), weight=weight)


def state_of(rng, units):
    if units is None:
        return {}
    return {
        "h": rng.normal(size=(BATCH, units)).astype(np.float32),
        "c": rng.normal(size=(BATCH, units)).astype(np.float32),
        "action_tm1": rng.integers(-1, A, BATCH),
        "reward_tm1": rng.normal(size=BATCH).astype(np.float32),
    }


def moved_target(learner):
    """Online and target must differ, or double and plain are the same."""
    with torch.no_grad():
        for p in learner._target.parameters():
            p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype)


def both(seed=0, wrong=None, units=UNITS, **changes):
    """What the learner found and what the loops found."""
    learner = new(units=units, **changes)
    moved_target(learner)
    replayed = batch_of(seed, units=units)
    slow = slow_update(learner.config, learner._online, learner._target, replayed, **(wrong or {}))
    done = learner.update(replayed)
    fast = done.metrics["loss"], done.priorities, [p.grad.numpy() for p in learner._online.parameters()]
    return fast, slow


def assert_close(fast, slow):
    assert fast[0] == pytest.approx(slow[0], rel=1e-9)
    np.testing.assert_allclose(fast[1], slow[1], rtol=1e-9)
    for a, b in zip(fast[2], slow[2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"double": False},
        {"rescale_eps": None},
        {"n_step": 1},
        {"n_step": 5, "burn_in_steps": 0, "unroll_steps": 9},
        {"dueling": False, "priority_max_share": 0.5},
        {"units": None},
    ],
    ids=lambda c: ",".join(c) or "default",
)
def test_an_update_is_the_loops(changes):
    assert_close(*both(1, **changes))


@pytest.mark.parametrize("wrong", ["through_burn_in", "no_weights", "all_rows"])
def test_wrong_loops_are_told_apart(wrong):
    with pytest.raises(AssertionError):
        assert_close(*both(1, wrong={wrong: True}))


def test_rows_that_are_no_transitions_are_not_looked_at():
    replayed = batch_of(2)
    invalid = ~replayed.batch.valid
    assert invalid[BURN_IN:].any()
    batch = replayed.batch
    other = replace(
        batch,
        reward=np.where(invalid, -777.0, batch.reward).astype(np.float32),
        discount=np.where(invalid, 0.5, batch.discount).astype(np.float32),
        action=np.where(invalid, (batch.action + 1) % A, batch.action),
    )
    one, two = new(), new()
    a, b = one.update(replayed), two.update(replace(replayed, batch=other))
    assert a.metrics == b.metrics
    for x, y in zip(one.weights().values(), two.weights().values(), strict=True):
        assert torch.equal(x, y)


def test_a_sequence_without_transitions_has_no_say():
    replayed = batch_of(0, weight=np.array([0, 0, 1, 0, 0], np.float32))
    replayed.batch.valid[BURN_IN:, 2] = False
    done = new().update(replayed)
    assert done.metrics["loss"] == 0.0
    assert done.priorities[2] == 0.0
    assert done.priorities.dtype == np.float64


def test_the_target_moves_only_at_its_period_and_state_comes_back():
    learner, replayed = new(), batch_of(3)
    for k in range(1, 5):
        before = {n: p.clone() for n, p in learner._target.named_parameters()}
        learner.update(replayed)
        moved = any(not torch.equal(p, before[n]) for n, p in learner._target.named_parameters())
        assert moved == (k == 3)
    twin = new(seed=9)
    state = {k: {n: torch.as_tensor(x).clone() for n, x in v.items()} if k != "version" else v
             for k, v in learner.state_dict().items()}  # fmt: skip
    twin.load_state_dict(state)
    assert twin.update(replayed).metrics == learner.update(replayed).metrics
    assert twin.snapshot().version == learner.version == 5


def test_a_loss_that_is_not_finite_changes_nothing():
    learner, replayed = new(max_grad_norm=1.0), batch_of(0)
    replayed.batch.reward[BURN_IN + 1, replayed.batch.valid[BURN_IN + 1]] = np.nan
    before = {n: p.clone() for n, p in learner.weights().items()}
    with pytest.raises(NonFiniteLoss, match="loss of update 1 is nan"):
        learner.update(replayed)
    assert all(torch.equal(p, before[n]) for n, p in learner.weights().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_come_close(precision):
    want = new().update(batch_of(1)).metrics
    got = new(precision=precision, max_grad_norm=0.5).update(batch_of(1)).metrics
    assert got["grad_norm"] > 0.5
    assert got["loss"] == pytest.approx(want["loss"], rel=1e-4 if precision == "fp32" else 0.1)


def test_sequences_of_another_length_are_named():
    with pytest.raises(ValueError, match=r"sequences of 9 transitions .* but got 8"):
        new().update(batch_of(length=8))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"n_step": 0}, "n_step=0: must be positive"),
        ({"burn_in_steps": -1}, "burn_in_steps=-1"),
        ({"overlap_steps": 120}, "less than the 120 transitions"),
        ({"rescale_eps": 0.0}, "positive, or None"),
    ],
)
def test_wrong_knobs_are_named(knobs, message):
    with pytest.raises(ValueError, match=message):
        R2D2Config(**knobs)


def test_flops_are_those_of_the_formula():
    core, head = 2 * 6 + (6 + 1 + A) * 4 * UNITS + UNITS * 4 * UNITS, 2 * UNITS * 5 + 5 * (1 + A)
    burned, trained = BATCH * BURN_IN, BATCH * (UNROLL + 1)
    # no gradient goes to the observations, nor to what the core reads besides features, nor to the first h
    backward = 2 * (core + head) - 2 * 6
    costs = new().update(batch_of()).costs
    forward = 2 * core * burned + 2 * (core + head) * trained
    assert costs["target"].flop == forward
    assert costs["learner"].flop == pytest.approx(forward + 2 * backward * trained, rel=0.03)
    assert costs["learner"].updates == 1


@pytest.mark.parametrize("units", [UNITS, None])
@pytest.mark.parametrize("dueling", [True, False])
def test_flops_are_those_of_a_real_update(units, dueling):
    learner, batch, found = new(units=units, dueling=dueling), batch_of(units=units), []
    real = count_flops_of(lambda: found.append(learner.update(batch)))
    # the recurrence sends a gradient to its first state too, which nobody needs
    assert sum(cost.flop for cost in found[0].costs.values()) == pytest.approx(real, rel=0.01 if units else 0)


# -- the stored state ------------------------------------------------------------------------------------------------


def acted(num_rows=3, steps=40):
    """Rows of a stream with a network that steps along, and what it remembered before each row."""
    torch.manual_seed(0)
    net = build_sequence_q(SPEC, NetConfig(hidden_units=(6,)), UNITS).double()
    rng = np.random.default_rng(5)
    stream = Stream(num_rows, 1, dtype="float32")
    rows = stream.play(random_events(steps, num_rows, rng))
    rows = replace(rows, obs=rng.normal(size=rows.obs.shape).astype(np.float32))
    state, before, initial = net.initial_state(num_rows), [], net.initial_state(num_rows)
    with torch.no_grad():
        for t in range(steps):
            # Stream's first row is a reset; later ones say so with valid False
            fresh = torch.from_numpy(~rows.valid[t])
            state["action_tm1"] = torch.from_numpy(rows.action[t])
            state["reward_tm1"] = torch.from_numpy(rows.reward[t])
            state = {k: torch.where(fresh.view(-1, *[1] * (v.dim() - 1)), initial[k], v) for k, v in state.items()}
            before.append({k: v.numpy().copy() for k, v in state.items()})
            _, state = net.step(torch.from_numpy(rows.obs[t]), state)
    names = before[0]
    return net, replace(rows, state={k: np.stack([s[k] for s in before]) for k in names})


def recomputed(net, rows, row, b):
    """The state before ``obs[row]`` of one environment, from the first observation of its episode on."""
    begin = max(t for t in range(row + 1) if not rows.valid[t, b])
    state = net.initial_state(1)
    with torch.no_grad():
        for t in range(begin, row):
            _, state = net.step(torch.from_numpy(rows.obs[t, b : b + 1]), state)
            state["action_tm1"] = torch.from_numpy(rows.action[t + 1, b : b + 1])
            state["reward_tm1"] = torch.from_numpy(rows.reward[t + 1, b : b + 1])
    return {k: v[0].numpy() for k, v in state.items()}


def stored(rows, overlap, length, late=0):
    """(row, environment, state) of each sequence in a replay; ``late``: SEED RL's mistake."""
    replay = SequenceReplay(
        SequenceReplayConfig(capacity_sequences=99), SPEC, rows.action.shape[1], np.random.default_rng(0),
        length=length, overlap=overlap, state={k: v[0] for k, v in rows.state.items()},
    )  # fmt: skip
    replay.add(replace(rows, state={k: np.roll(v, -late, 0) for k, v in rows.state.items()}))
    num = rows.action.shape[1]
    drawn = replay.sample(200, env_step=0)
    for i, key in enumerate(drawn.keys):
        row, b = int(key) // num * (length - overlap), int(key) % num
        np.testing.assert_array_equal(drawn.batch.obs[0, i], rows.obs[row, b])
        yield row, b, {k: v[i] for k, v in drawn.batch.state_at_start.items()}


def mistakes(late):
    net, rows = acted()
    wrong = 0
    for row, b, state in stored(rows, overlap=4, length=9, late=late):
        want = recomputed(net, rows, row, b)
        assert set(state) == set(want)
        wrong += not all(np.allclose(state[k], want[k], atol=1e-12) for k in want)
    return wrong


def test_the_stored_state_is_that_before_the_first_burn_in_step():
    assert mistakes(late=0) == 0


def test_a_state_that_is_late_by_the_burn_in_is_seen():
    assert mistakes(late=4) > 100
