"""Worker processes that nothing happens to: steps, answers, retries, resuming, a clean end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from worker_help import act, drive, is_alive, open_fds, plan, shared_memory, wait_for, workers

from frugalrl.envs import make_env, named_protocol
from frugalrl.sampling.slots import ANSWERED, Control
from frugalrl.sampling.threads import EPISODES_PER_LIFE
from frugalrl.sampling.transport import Message
from frugalrl.sampling.worker_job import EnvPlan
from frugalrl.types import Step, UserError


def oracle(of: EnvPlan, message: Message, steps: int, incarnation: int = 0) -> list[Step]:
    """The same rows, stepped in this process."""
    env = make_env(
        of.env_id, protocol=of.protocol, num_rows=len(message.step.last), seed=of.seed, training=True,
        env_kwargs=of.env_kwargs, first_row=message.first_row, first_episode=EPISODES_PER_LIFE * incarnation,
    )  # fmt: skip
    told = [env.reset()]
    for seq in range(steps - 1):
        rows = np.arange(message.first_row, message.first_row + env.num_rows)
        told.append(env.step((rows + seq) % 2))
    env.close()
    return told


def agree(mine: list[Message], theirs: list[Step]) -> bool:
    return all(
        np.array_equal(getattr(m.step, name), getattr(step, name))
        for m, step in zip(mine, theirs, strict=True)
        for name in ("obs", "reward", "discount", "last", "valid")
    ) and all(m.step.episodes == step.episodes for m, step in zip(mine, theirs, strict=True))


def test_two_workers_with_two_groups_do_what_their_rows_do_here_and_leave_nothing() -> None:
    fds, shm = open_fds(), shared_memory()
    of = plan("CartPole-v1")
    with workers(of, rows=7, count=2, groups=2) as transport:
        assert transport.group_rows == (2, 2, 2, 1)
        assert transport.spec.obs_shape == (4,)
        assert transport.live_rows() == 0
        transport.start()
        seen = drive(transport, lambda seen: all(sum(m.group == g for m in seen) >= 40 for g in range(4)))
        assert transport.live_rows() == transport.num_rows == 7
        pids = transport.pids
        assert all(os.getsid(pid) == pid != os.getpid() for pid in pids)  # Ctrl-C does not reach them
        assert not any("libtorch" in Path(f"/proc/{pid}/maps").read_text() for pid in pids)
        costs = transport.take_costs()
        assert costs["startup"].cpu_s > 0.05
        assert costs["environment"].cpu_s > 0
        assert costs["transport"].cpu_s > 0
        transport.close()
        transport.close()
        assert transport.poll(5.0) == []
    assert costs["environment"].calls + transport.take_costs()["environment"].calls >= len(seen) - 4
    assert transport.take_faults() == ()
    assert not any(is_alive(pid) for pid in pids)
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[0], os.WNOHANG)  # reaped: no zombie
    assert open_fds() == fds
    assert shared_memory() == shm
    for group in range(4):
        mine = [m for m in seen if m.group == group]
        assert [m.seq for m in mine] == list(range(len(mine)))
        assert len({m.run_id for m in mine}) == 1
        assert {m.first_row for m in mine} == {2 * group}
        assert sum(len(m.step.episodes) for m in mine) > 0
        assert agree(mine, oracle(of, mine[0], len(mine)))
        assert not agree(mine, oracle(of, mine[0], len(mine), incarnation=1)), "the comparison is blind"
    assert len({m.run_id for m in seen}) == 2


@pytest.mark.slow
def test_images_come_whole() -> None:
    pytest.importorskip("ale_py")
    of = EnvPlan(env_id="ALE/Pong-v5", protocol=named_protocol("atari100k"), seed=1)
    with workers(of, rows=2) as transport:
        transport.start()
        seen = drive(transport, lambda seen: len(seen) >= 12)
    assert seen[0].step.obs.shape == (2, 4, 84, 84)
    assert agree(seen, oracle(of, seen[0], len(seen)))
    assert any((a.step.obs != b.step.obs).any() for a, b in zip(seen[1:], seen[:-1], strict=True))


def test_a_request_without_an_answer_comes_again_and_is_stepped_once() -> None:
    of = plan("CartPole-v1")
    with workers(of, rows=2, retry_s=0.2) as transport:
        transport.start()
        first = transport.poll(20.0)[0]
        again = transport.poll(20.0)[0]  # nobody answered
        assert (first.run_id, first.seq) == (again.run_id, again.seq) == (first.run_id, 0)
        transport.reply(first, act(first))
        transport.reply(again, act(again))  # dropped: it has its answer
        second = transport.poll(20.0)[0]
        assert second.seq == 1
        worker = transport._workers[0]
        for _ in range(5):
            worker.wake(0)  # a wake-up for nothing
        time.sleep(0.05)
        assert worker.seq(0) == 1
        # the answer without its wake-up: the worker finds it when it would ask again
        worker.slots[0].action[:] = act(second)
        worker.control.words[Control.at(0) + ANSWERED] = 1
        assert wait_for(lambda: worker.seq(0) == 2)
        rest = drive(transport, lambda seen: len(seen) >= 10)
        assert [m.seq for m in rest] == list(range(2, 2 + len(rest)))
        with pytest.raises(ValueError, match=r"action has shape \(3,\), not \(2,\)"):
            transport.reply(rest[-1], np.zeros(3, np.int64))
    assert agree(rest, oracle(of, first, 2 + len(rest))[2:])


def test_a_resumed_run_plays_other_episodes() -> None:
    of = plan()
    with workers(of) as transport:
        assert transport.spec.num_actions == 2  # a run looks at the spaces before it loads a checkpoint
        first = transport.state_dict()
        transport.load_state_dict(first)
        transport.start()
        seen = drive(transport, lambda seen: len(seen) >= 12)
        assert (first, transport.state_dict()) == ({"incarnations": [0]}, {"incarnations": [1]})
        with pytest.raises(RuntimeError, match="before start"):
            transport.load_state_dict(first)
    assert agree(seen, oracle(of, seen[0], len(seen), incarnation=1))
    assert not agree(seen, oracle(of, seen[0], len(seen)))


def test_a_module_of_the_current_folder_and_an_environment_that_prints_and_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "beside_me.py").write_text(
        "from process_envs import TalksAndListens\nclass Mine(TalksAndListens):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    with workers(plan("beside_me:Mine")) as transport:
        transport.start()
        drive(transport, lambda seen: len(seen) >= 3)
    said = capfd.readouterr()
    assert said.out == ""  # the parent's output may be read by a machine
    assert "hello from an environment" in said.err


@pytest.mark.parametrize(
    ("of", "sentence"),
    [
        (plan("no_such_module:Env"), r"^Cannot find the module 'no_such_module' of 'no_such_module:Env'; install it"),
        (plan("CartPole-v1", colour=1), r"^Cannot make CartPole-v1 with env_kwargs .*colour"),
        (plan(faults=["birth:raise"]), r"^Cannot make process_envs:Faulty .*ZeroDivisionError: the wheel came off\.$"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence_at_the_start(of: EnvPlan, sentence: str) -> None:
    fds = open_fds()
    with workers(of, count=1) as transport, pytest.raises(UserError, match=sentence):
        transport.start()
    assert open_fds() == fds
    assert transport.take_faults() == ()
    with pytest.raises(RuntimeError, match="the transport is closed"):
        transport.start()
