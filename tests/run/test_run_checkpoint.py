from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_support import block
from safetensors.numpy import load_file, save_file
from test_run_record import files_of_at_most

from frugalrl.replay import Replay, ReplayConfig
from frugalrl.run import checkpoint
from frugalrl.run.checkpoint import Checkpoints
from frugalrl.types import EnvSpec, RunFailed

SPEC = EnvSpec(id="Test", protocol="plain", obs_kind="vector", obs_shape=(2,), obs_dtype="float32", num_actions=2)
CAPACITY = 20


def new_replay(capacity: int = CAPACITY, kind: Any = "prioritized") -> Replay:
    config = ReplayConfig(kind=kind, capacity_transitions=capacity)
    return Replay(config, SPEC, 1, 0.9, np.random.default_rng(0))


def add(replay: Replay, steps: int) -> None:
    first = replay.rows_written
    obs = np.arange(2 * first, 2 * (first + steps), dtype=np.float32).reshape(steps, 1, 2)
    replay.add(block(steps, 1, obs, first=first == 0, reward=obs[..., 0]))


def state(number: int) -> dict[str, Any]:
    image = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    return {
        "weights": {"0.weight": image + number, "empty": torch.zeros(0)},
        "step": torch.tensor(float(number)),
        "array": np.arange(number, number + 3)[::-1],
        "scalar": np.int64(number),
        "rng": np.random.default_rng(number).bit_generator.state,
        "plain": {"none": None, "text": "é", "list": [1, 2.5, "x"], "flag": True, "nan": float("nan")},
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Tensor | np.ndarray):
        return np.array_equal(np.asarray(a), b) and np.asarray(a).dtype == b.dtype
    return bool(a == b or (a != a and b != b))


def save(checkpoints: Checkpoints, step: int, replay: Replay) -> Path:
    return checkpoints.save(step, {**state(step), "replay": replay.state_dict()}, replay)


def load(folder: Path) -> tuple[Any, Replay]:
    replay = new_replay()
    loaded = Checkpoints(folder).load(replay)
    replay.load_state_dict(loaded.state["replay"])
    return loaded, replay


def assert_same_rows(a: Replay, b: Replay) -> None:
    assert (a.rows_written, a.oldest_row, a.size) == (b.rows_written, b.oldest_row, b.size)
    mine, theirs = (r.read_rows(r.oldest_row, r.rows_written) for r in (a, b))
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name])


def rows(folder: Path) -> list[str]:
    return sorted(f.name.removesuffix(".safetensors") for f in (folder / "rows").iterdir())


def names(first: int, *stops: int) -> list[str]:
    return [f"{a:012d}-{b:012d}" for a, b in zip((first, *stops), stops, strict=False)]


# -- there and back --------------------------------------------------------------------------------------------------


def test_everything_comes_back(tmp_path: Path) -> None:
    replay = new_replay()
    add(replay, 12)
    replay.set_priorities(np.array([3]), np.array([7.0]))
    folder = save(Checkpoints(tmp_path), 5, replay)
    assert folder.name == "000000-step-000000000005"
    loaded, back = load(tmp_path)
    assert (loaded.number, loaded.step, loaded.damaged) == (0, 5, ())
    assert same({**state(5), "replay": replay.state_dict()}, loaded.state)
    assert_same_rows(replay, back)
    one, other = replay.sample(8, env_step=1), back.sample(8, env_step=1)
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_array_equal(one.batch.obs_t, other.batch.obs_t)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    replay = new_replay()
    add(replay, 5)
    save(Checkpoints(tmp_path), 1, replay)
    for file in (f for f in tmp_path.rglob("*") if f.is_file()):
        if file.suffix == ".json":
            json.loads(json.loads(file.read_text())["document"])
        else:
            assert file.suffix == ".safetensors"
            load_file(file)


def test_what_is_saved_does_not_follow_later_changes(tmp_path: Path) -> None:
    replay, weights = new_replay(), torch.zeros(3)
    add(replay, 5)
    Checkpoints(tmp_path).save(1, {"weights": weights}, replay)
    weights += 1
    assert Checkpoints(tmp_path).load(None).state["weights"].tolist() == [0.0, 0.0, 0.0]


def test_an_empty_replay_can_be_saved(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path), 0, new_replay())
    assert load(tmp_path)[1].rows_written == 0


# -- rows are written once -------------------------------------------------------------------------------------------


def test_a_second_save_writes_only_new_rows(tmp_path: Path) -> None:
    replay, checkpoints = new_replay(), Checkpoints(tmp_path)
    add(replay, 8)
    save(checkpoints, 8, replay)
    first = tmp_path / "rows" / f"{names(0, 8)[0]}.safetensors"
    before = first.stat()
    add(replay, 4)
    save(checkpoints, 12, replay)
    assert rows(tmp_path) == names(0, 8, 12)
    assert len(load_file(tmp_path / "rows" / f"{names(8, 12)[0]}.safetensors")["valid"]) == 4
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    save(checkpoints, 12, replay)
    assert rows(tmp_path) == names(0, 8, 12)
    assert_same_rows(replay, load(tmp_path)[1])


def test_a_process_that_goes_on_writes_only_new_rows(tmp_path: Path) -> None:
    replay = new_replay()
    add(replay, 8)
    save(Checkpoints(tmp_path), 8, replay)
    checkpoints, again = Checkpoints(tmp_path), new_replay()
    again.load_state_dict(checkpoints.load(again).state["replay"])
    add(again, 4)
    save(checkpoints, 12, again)
    assert rows(tmp_path) == names(0, 8, 12)
    assert_same_rows(again, load(tmp_path)[1])


def test_rows_that_no_kept_checkpoint_needs_are_deleted(tmp_path: Path) -> None:
    replay, checkpoints = new_replay(), Checkpoints(tmp_path, keep=2)
    for step in range(1, 12):
        add(replay, 7)
        save(checkpoints, step, replay)
        assert_same_rows(replay, load(tmp_path)[1])
        assert len(list(tmp_path.glob("*-step-*"))) == min(step, 2)
        oldest_needed = min(int(n[:12]) for n in rows(tmp_path))
        # the checkpoint before needs 21 rows of its own, in pieces of 7 that may begin up to 6 rows earlier
        assert oldest_needed >= replay.rows_written - 7 - (CAPACITY + 1) - 6
    assert replay.rows_written > 3 * CAPACITY
    assert len(rows(tmp_path)) <= 5


def test_more_rows_at_once_than_a_file_or_the_ring_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_ROWS_PER_FILE", 6)
    replay, checkpoints = new_replay(), Checkpoints(tmp_path)
    add(replay, 5)
    save(checkpoints, 1, replay)
    add(replay, 60)  # the whole ring is new
    save(checkpoints, 2, replay)
    assert_same_rows(replay, load(tmp_path)[1])
    files = sorted(
        json.loads(json.loads((tmp_path / "000001-step-000000000002/state.json").read_text())["document"])["rows"]
    )
    assert [f.removesuffix(".safetensors") for f in files] == names(65 - 21, 50, 56, 62, 65)


# -- damage ----------------------------------------------------------------------------------------------------------


def test_large_rows_come_in_pieces_of_bounded_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = new_replay()
    add(replay, 10)
    row_bytes = sum(array.nbytes for array in replay.read_rows(0, 1).values())
    asked: list[int] = []
    read = replay.read_rows
    monkeypatch.setattr(replay, "read_rows", lambda a, b: (asked.append(b - a), read(a, b))[1])
    for least, size in ((4 * row_bytes, 4), (row_bytes // 2, 1)):  # a row that is larger stands alone
        monkeypatch.setattr(checkpoint, "_BYTES_PER_FILE", least)
        asked.clear()
        save(Checkpoints(tmp_path / str(size)), 10, replay)
        assert max(asked) == size
        assert_same_rows(replay, load(tmp_path / str(size))[1])


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def edit_state(path: Path) -> None:
    wrapper = json.loads(path.read_text())
    wrapper["document"] = wrapper["document"].replace('"step": 2', '"step": 3')
    path.write_text(json.dumps(wrapper))


def other_shape(path: Path) -> None:
    path.write_text(json.dumps({"document": {"step": 2}, "sha256": ""}))


def other_schema(path: Path) -> None:
    text = json.loads(path.read_text())["document"].replace("frugalrl.checkpoint/1", "frugalrl.checkpoint/9")
    path.write_text(json.dumps({"document": text, "sha256": checkpoint._digest(text)}))


NEWEST_ROWS = f"rows/{names(8, 12)[0]}.safetensors"
NEWEST = "000001-step-000000000002"


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        (f"{NEWEST}/state.json", edit_state, "state.json was changed"),
        (f"{NEWEST}/state.json", cut, "JSONDecodeError"),
        (f"{NEWEST}/state.json", os.remove, "No such file"),
        (f"{NEWEST}/state.json", other_shape, ""),
        (f"{NEWEST}/state.json", other_schema, "its schema is frugalrl.checkpoint/9"),
        (f"{NEWEST}/arrays.safetensors", cut, "arrays.safetensors was cut short or changed"),
        (f"{NEWEST}/arrays.safetensors", flip, "arrays.safetensors was cut short or changed"),
        (f"{NEWEST}/arrays.safetensors", os.remove, "arrays.safetensors is missing"),
        (NEWEST_ROWS, cut, "was changed"),
        (NEWEST_ROWS, flip, "was changed"),
        (NEWEST_ROWS, os.remove, "is missing"),
    ],
)
def test_of_a_damaged_checkpoint_the_one_before_is_used_and_said(
    tmp_path: Path, file: str, damage: Any, says: str
) -> None:
    replay, checkpoints = new_replay(), Checkpoints(tmp_path)
    add(replay, 8)
    save(checkpoints, 1, replay)
    add(replay, 4)
    save(checkpoints, 2, replay)
    damage(tmp_path / file)
    loaded, back = load(tmp_path)
    assert (loaded.step, back.rows_written) == (1, 8)
    (sentence,) = loaded.damaged
    assert sentence.startswith(f"checkpoint {NEWEST} is damaged (")
    assert sentence.endswith("; the one before it is used")
    assert says in sentence
    # going on from there keeps the damaged one apart and never takes its number again
    mine = Checkpoints(tmp_path)
    again = new_replay()
    loaded = mine.load(again)
    again.load_state_dict(loaded.state["replay"])
    mine.set_aside_after(loaded)
    add(again, 6)
    assert save(mine, 3, again).name == "000002-step-000000000003"
    assert (tmp_path / f"damaged-{NEWEST}").is_dir()
    final, back = load(tmp_path)
    assert (final.step, final.damaged) == (3, ())
    assert_same_rows(again, back)


def test_damaged_rows_do_not_matter_to_who_wants_only_the_weights(tmp_path: Path) -> None:
    replay, checkpoints = new_replay(), Checkpoints(tmp_path)
    add(replay, 8)
    save(checkpoints, 1, replay)
    flip(tmp_path / "rows" / f"{names(0, 8)[0]}.safetensors")
    assert Checkpoints(tmp_path).load(None).step == 1


def test_when_none_is_usable_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"none was finished here.*frugal resume"):
        Checkpoints(tmp_path / "checkpoints").load(None)
    replay, checkpoints = new_replay(), Checkpoints(tmp_path)
    for step in (1, 2):
        add(replay, 4)
        save(checkpoints, step, replay)
    for file in tmp_path.glob("*/arrays.safetensors"):
        cut(file)
    with pytest.raises(
        RunFailed, match=r"no usable checkpoint: .* is damaged \(arrays.*\); start the run anew"
    ) as caught:
        load(tmp_path)
    assert "the one before it is used" not in str(caught.value)


# -- a writer that does not finish -----------------------------------------------------------------------------------


def test_a_full_disk_fails_the_run_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    replay, checkpoints = new_replay(), Checkpoints(tmp_path)
    add(replay, 8)
    save(checkpoints, 1, replay)
    before = load(tmp_path)[0].state
    add(replay, 8)
    for limit in (0, 200, 2_000):  # in the rows, in the arrays, in state.json
        with files_of_at_most(limit), pytest.raises(RunFailed) as caught:
            checkpoints.save(2, {"big": np.zeros(100), "text": "x" * 3_000}, replay)
        sentence = str(caught.value)
        assert sentence.startswith("the checkpoint at step 2 could not be written (")
        assert "the checkpoints before it are untouched" in sentence
        loaded, back = load(tmp_path)
        assert loaded.step == 1
        assert same(before, loaded.state)
        assert back.rows_written == 8
        assert not list(tmp_path.glob(".part-*"))
    save(checkpoints, 2, replay)
    assert_same_rows(replay, load(tmp_path)[1])
    assert rows(tmp_path) == names(0, 8, 16)


def test_a_refusal_of_the_system_is_said_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = new_replay()
    add(replay, 4)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "_sync", full)
    with pytest.raises(RunFailed, match=r"could not be written \(No space left on device\)"):
        save(Checkpoints(tmp_path), 1, replay)
    assert not list(tmp_path.glob("*-step-*"))


def test_what_a_killed_writer_left_is_ignored_and_cleared(tmp_path: Path) -> None:
    replay, checkpoints = new_replay(), Checkpoints(tmp_path)
    assert checkpoints.never_saved
    (tmp_path / ".part-000000-step-000000000000").mkdir(parents=True)
    assert checkpoints.never_saved
    add(replay, 8)
    save(checkpoints, 1, replay)
    assert not checkpoints.never_saved
    part = tmp_path / ".part-000007-step-000000000009"
    part.mkdir()
    (part / "arrays.safetensors").write_bytes(b"half")
    save_file({"x": np.zeros(2)}, tmp_path / "rows" / "000000000008-000000000011.safetensors")
    (tmp_path / "rows" / ".part-000000000011-000000000012.safetensors").write_bytes(b"half")
    again = new_replay()
    mine = Checkpoints(tmp_path)
    again.load_state_dict(mine.load(again).state["replay"])
    add(again, 5)
    save(mine, 2, again)
    assert not part.exists()
    assert rows(tmp_path) == names(0, 8, 13)
    assert_same_rows(again, load(tmp_path)[1])


def test_a_kill_at_any_moment_of_a_save_leaves_a_usable_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is looked at before every replace, sync and delete of a save: as a kill there would leave it."""
    replay, checkpoints = new_replay(), Checkpoints(tmp_path / "run")
    for step in (1, 2, 3, 4):
        add(replay, 9)
        save(checkpoints, step, replay)
    moments: list[tuple[str, int]] = []

    def watched(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            copy = tmp_path / f"copy{len(moments)}"
            shutil.copytree(tmp_path / "run", copy)
            moments.append((name, load(copy)[0].step))
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(checkpoint, "_sync", watched("sync", checkpoint._sync))
    monkeypatch.setattr(checkpoint, "save_file", watched("save_file", save_file))
    monkeypatch.setattr(os, "replace", watched("replace", os.replace))
    monkeypatch.setattr(Path, "unlink", watched("unlink", Path.unlink))
    add(replay, 9)
    save(checkpoints, 5, replay)
    monkeypatch.undo()
    steps = [step for _, step in moments]
    assert {name for name, _ in moments} == {"sync", "save_file", "replace", "unlink"}
    assert steps == sorted(steps), "a checkpoint that was there is never lost"
    assert set(steps) == {4, 5}
