"""Tasks of language models: answers, checks, disjoint prompts, and what a user may get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.envs.lm import TASKS, eval_prompts, find_task, held_out, train_prompts
from frugalrl.types import UserError
from oracles import tokens as oracle

some = settings(max_examples=25, deadline=None)


@some
@given(st.sampled_from(sorted(TASKS)), st.integers(1, 12), st.booleans(), st.integers(0, 2**32))
def test_the_answer_is_what_its_definition_says_and_only_it_is_rewarded(
    task_id: str, length: int, end: bool, seed: int
) -> None:
    task = find_task(task_id, {"length": length, "end": end})
    rng = np.random.default_rng(seed)
    prompt = task.draw(rng, 6)
    answer = task.answer(prompt)
    assert prompt.shape == (6, task.prompt_tokens)
    assert answer.shape == (6, task.answer_tokens)
    for asked, answered in zip(prompt, answer, strict=True):
        assert task.text(answered) == oracle.answer(task_id, task.text(asked)) + ("$" if end else "")
    assert task.reward(prompt, answer).tolist() == [1.0] * 6
    wrong = answer.copy()
    place = rng.integers(task.answer_tokens)
    wrong[:, place] = (wrong[:, place] + 1 + rng.integers(len(task.vocabulary) - 1)) % len(task.vocabulary)
    assert task.reward(prompt, wrong).tolist() == [0.0] * 6


@some
@given(st.sampled_from(sorted(TASKS)), st.integers(0, 2**20), st.integers(0, 500), st.integers(1, 200))
def test_a_prompt_depends_on_its_number_alone_and_is_never_one_that_is_held_out(
    task_id: str, seed: int, first: int, n: int
) -> None:
    task = find_task(task_id)
    whole = train_prompts(task, seed, first, n)
    cut = n // 2
    parts = [train_prompts(task, seed, first + a, b - a) for a, b in ((0, cut), (cut, n)) if b > a]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert not held_out(whole).any()
    assert held_out(eval_prompts(task, seed, 20)).all()


def test_one_prompt_in_eight_is_held_out() -> None:
    task = find_task("lm:copy", {"length": 4})
    every = np.array([[*map(int, f"{i:04d}"), 10] for i in range(10_000)])
    assert held_out(every).mean() == pytest.approx(1 / 8, abs=0.01)
    assert not np.array_equal(train_prompts(task, 0, 0, 20), train_prompts(task, 1, 0, 20))


@pytest.mark.parametrize(
    ("task_id", "kwargs", "sentence"),
    [
        ("lm:sort-digit", {}, "unknown task 'lm:sort-digit'; did you mean 'lm:sort-digits'?"),
        ("lm:xyz", {}, "known: lm:sort-digits, lm:reverse, lm:addition, lm:copy"),
        ("lm:copy", {"lenght": 3}, "has no argument 'lenght'; it has length and end"),
        ("lm:copy", {"length": 0}, "give 1 to 256 digits"),
        ("lm:copy", {"length": 2.5}, "length=2.5: expected a whole number"),
        ("lm:copy", {"end": 1}, "end=1: expected true or false"),
        ("lm:addition", {"length": 18}, "give at most 17"),
    ],
)
def test_bad_input_is_one_sentence(task_id: str, kwargs: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("?", r"\?").replace(".", r"\.")):
        find_task(task_id, kwargs)


def test_a_task_too_small_to_hold_anything_out_says_so() -> None:
    from dataclasses import replace

    task = find_task("lm:copy", {"length": 3})
    one = train_prompts(task, 0, 0, 1)
    single = replace(task, draw=lambda rng, n: np.repeat(one, n, axis=0))
    with pytest.raises(UserError, match="too few prompts to hold out; give a larger length"):
        eval_prompts(single, 0, 4)
