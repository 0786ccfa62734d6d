"""The files of the chain study: all are made first and then put in place, so that none is ever half-written."""

from __future__ import annotations

import csv
import gzip
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from frugalrl.study import chain_figure
from frugalrl.study.chain import Learner
from frugalrl.study.chain_grid import COACT, EPS_GREEDY, Results
from frugalrl.study.chain_result import Against, Study, half_width, per_seed
from frugalrl.study.chain_words import sentences, summary
from frugalrl.types import RunFailed, UserError

SENTENCES, SUMMARY, CURVES, SEEDS, FIGURE, RESULT = (
    "sentences.txt",
    "summary.csv",
    "curves.csv",
    "seeds.csv.gz",
    "chain.png",
    "result.json",
)
NAMES = (SENTENCES, SUMMARY, CURVES, SEEDS, FIGURE, RESULT)


@contextmanager
def claimed(folder: Path, *, overwrite: bool) -> Iterator[None]:
    """Make the folder for the files; when the work in here fails and the folder is new, it goes again.

    Raises UserError when the folder holds something and ``overwrite`` is not set, or cannot be made.
    """
    is_new = not folder.exists()
    if not is_new and not folder.is_dir():
        raise UserError(f"{folder} is a file; --out names a folder")
    if not overwrite and not is_new and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; choose another --out, or replace its results with --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another --out") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder} cannot be written to; choose another --out")
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def write(folder: Path, results: Results, study: Study) -> dict[str, Any]:
    """Write all files of a study and return the document of result.json. Raises RunFailed when the disk refuses."""
    document = document_of(results, study)
    parts = {name: folder / f".part-{name}" for name in NAMES}
    try:
        parts[SENTENCES].write_text("\n".join([*sentences(study), *summary(study), ""]))
        parts[SUMMARY].write_text(_csv(_summary_rows(study.against)))
        parts[CURVES].write_text(_csv(_curve_rows(results)))
        parts[SEEDS].write_bytes(gzip.compress(_csv(_seed_rows(results)).encode(), mtime=0))
        parts[RESULT].write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
        chain_figure.draw(parts[FIGURE], results, study.against)
        for name, part in parts.items():
            os.replace(part, folder / name)
    except OSError as error:
        raise RunFailed(f"the results cannot be written to {folder}: {error.strerror or error}") from error
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink()
    return document


def document_of(results: Results, study: Study) -> dict[str, Any]:
    """Everything the study found, for machines; nothing of the machine or the clock, so equal studies are equal."""
    rows = []
    for setting, sentence in zip(results.settings, sentences(study), strict=True):
        here = {a.method: a for a in study.against if a.setting == setting}
        sign = here[COACT].score_gain.sign
        parts = ("score", "final", "early_td", "score_gain", "final_gain", "early_td_gain")
        rows.append(
            {
                **asdict(setting),
                "faster": {1: COACT, -1: EPS_GREEDY, 0: None}[sign],
                "methods": {m: {name: asdict(getattr(a, name)) for name in parts} for m, a in here.items()},
                "sentence": sentence,
            }
        )
    return {
        "study": "chain",
        "seeds": results.seeds,
        "iterations": len(results.returns),
        "settings": rows,
        "summary": summary(study),
        "tuned": [asdict(t) for t in study.tuned],
        "td_and_speed": asdict(study.td_and_speed),
        "versions": {
            "frugalrl": importlib.metadata.version("frugalrl"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


# -- tables ----------------------------------------------------------------------------------------------------------


def _csv(rows: Iterator[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _who(learner: Learner) -> tuple[Any, ...]:
    eps = "" if learner.bonus is not None or learner.eps == 0 else learner.eps
    return (learner.method, learner.gamma, learner.alpha, eps)


def _summary_rows(found: list[Against]) -> Iterator[Sequence[Any]]:
    parts = {
        "mean_return": "score",
        "last_return": "final",
        "early_td": "early_td",
        "mean_return_minus_epsilon_greedy": "score_gain",
        "last_return_minus_epsilon_greedy": "final_gain",
        "early_td_minus_epsilon_greedy": "early_td_gain",
    }
    yield ("gamma", "alpha", "eps", "method", *(f"{name}{end}" for name in parts for end in ("", "_low", "_high")))
    for a in found:
        estimates = [getattr(a, name) for name in parts.values()]
        numbers = [f"{x:.5g}" for e in estimates for x in (e.mean, e.low, e.high)]
        yield (a.setting.gamma, a.setting.alpha, a.setting.eps, a.method, *numbers)


def _curve_rows(results: Results) -> Iterator[Sequence[Any]]:
    """Mean and half of the 95 % interval over seeds, for each learner and iteration."""
    columns = []
    for values in (results.returns, results.td):
        exact = values.astype(np.float64)
        columns += [exact.mean(axis=2), half_width(exact)]
    yield ("method", "gamma", "alpha", "eps", "iteration", "return", "return_half", "td", "td_half")
    for place, learner in enumerate(results.learners):
        for iteration in range(len(results.returns)):
            yield (*_who(learner), iteration + 1, *(f"{c[iteration, place]:.3g}" for c in columns))


def _seed_rows(results: Results) -> Iterator[Sequence[Any]]:
    """One line per learner and quantity, one column per seed."""
    score, final, early = per_seed(results)
    yield ("method", "gamma", "alpha", "eps", "quantity", *(f"seed{n}" for n in range(results.seeds)))
    for place, learner in enumerate(results.learners):
        yield (*_who(learner), "mean_return", *(f"{x:g}" for x in score[place]))
        yield (*_who(learner), "last_return", *(f"{x:g}" for x in final[place]))
        yield (*_who(learner), "early_td", *(f"{x:.4g}" for x in early[place]))
