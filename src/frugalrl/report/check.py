"""Whether runs may be compared: what is refused, and what a reader must be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from frugalrl.report.groups import common_seeds, groups_of
from frugalrl.report.records import RunRecord
from frugalrl.report.shared import notes_of
from frugalrl.report.words import listed, plural
from frugalrl.run.config_io import to_dict
from frugalrl.types import UserError

_PROTOCOL = ("env.protocol", "env.kwargs", "evaluation")
"""What decides what a score means; it agrees between all runs of an environment."""
_FREE = ("seed", "machine")
"""What runs of one method may differ in; ``machine`` names a price, the machine itself is compared apart."""
_MACHINE = ("profile", "cpu", "cores", "gpus")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found."""

    same_machine: bool
    notes: tuple[str, ...]


def check(records: Sequence[RunRecord]) -> Checked:
    """Refuse runs whose comparison would mean nothing.

    Raises UserError: no runs; two runs of one method, environment and seed; protocols or evaluations that differ within
    an environment; two runs of one method on one environment that differ in more than the seed; a score that is no
    number.
    """
    if not records:
        raise UserError("there is no run to compare; give run folders")
    first_of_env: dict[str, _Seen] = {}
    first_of_method: dict[tuple[str, str], _Seen] = {}
    known: dict[tuple[str, str, int], RunRecord] = {}
    for run in records:
        twin = known.get((run.method, run.env, run.seed))
        if twin is run:
            raise UserError(f"{run.name} stands twice among the runs, and would count double; leave one out")
        if twin is not None:
            raise UserError(
                f"{twin.name} and {run.name} are both {run.method} on {run.env} with seed {run.seed}; leave one out, "
                f"or give their methods different names"
            )
        known[run.method, run.env, run.seed] = run
        _finite_scores(run)
        seen = run, _flat(to_dict(run.config))
        _same_protocol(first_of_env.setdefault(run.env, seen), seen)
        _same_method(first_of_method.setdefault((run.method, run.env), seen), seen)
    seen_runs = evaluated(records)
    same_machine, notes = _machines(seen_runs)
    bills = tuple(f"{run.name} counts as a run without a bill: {run.no_bill}." for run in records if run.no_bill)
    return Checked(same_machine, (*notes, *bills, *_versions(seen_runs), *_stacked(seen_runs), *_seeds(records)))


def evaluated(records: Sequence[RunRecord]) -> Sequence[RunRecord]:
    """The runs that figures are made of: those of which it is known what they used; all where that is none.

    A run that failed before it began names no machine and no code, which says nothing about the others.
    """
    return [run for run in records if run.spent is not None] or records


def _finite_scores(run: RunRecord) -> None:
    for point in run.points:
        if not isfinite(point.mean_return):
            raise UserError(
                f"the score of {run.name} after {point.env_steps:,} steps is {point.mean_return}; look at its "
                f"environment, and leave the run out"
            )


_Seen = tuple[RunRecord, dict[str, Any]]
"""A run and the leaves of its configuration."""


def _differences(a: _Seen, b: _Seen) -> Iterator[str]:
    return (path for path in dict.fromkeys((*a[1], *b[1])) if a[1].get(path) != b[1].get(path))


def _same_protocol(first: _Seen, run: _Seen) -> None:
    for path in _differences(first, run):
        if path.startswith(_PROTOCOL):
            raise UserError(
                f"scores of {run[0].env} under different protocols cannot be compared: {path} is "
                f"{first[1].get(path)!r} in {first[0].name} and {run[1].get(path)!r} in {run[0].name}; compare runs "
                f"that agree in it"
            )


def same_settings(a: RunRecord, b: RunRecord) -> bool:
    """Whether two runs could be of one method: environment and its budget apart, they differ in the seed only."""
    seen = [(run, _flat(to_dict(run.config))) for run in (a, b)]
    apart = () if a.env == b.env else ("env.", "budget.", "evaluation.")
    return all(path in _FREE or path.startswith(apart) for path in _differences(*seen))


def _same_method(first: _Seen, run: _Seen) -> None:
    for path in _differences(first, run):
        if path not in _FREE:
            raise UserError(
                f"runs of one method differ in their seeds only, but {path} of {run[0].method!r} is "
                f"{first[1].get(path)!r} in {first[0].name} and {run[1].get(path)!r} in {run[0].name}; give them "
                f"different method names, or leave one out"
            )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names of the leaves; ``env.kwargs`` is one leaf."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = prefix + key
        if isinstance(value, Mapping) and path != "env.kwargs":
            found |= _flat(value, f"{path}.")
        else:
            found[path] = value
    return found


def _machines(records: Sequence[RunRecord]) -> tuple[bool, Iterator[str]]:
    first = records[0]
    for run in records:
        if run.moved is not None:
            fact = next((f for f in _MACHINE if run.moved.get(f) != run.machine.get(f)), _MACHINE[0])
            note = (
                f"{run.name} went on on another machine ({fact} is {run.machine.get(fact)!r}, then "
                f"{run.moved.get(fact)!r}): seconds, joules and money are not compared; samples, updates and FLOPs are."
            )
            return False, iter((note,))
    for run in records[1:]:
        for fact in _MACHINE:
            if (a := first.machine.get(fact)) != (b := run.machine.get(fact)):
                note = (
                    f"The runs were made on different machines ({fact} is {a!r} in {first.name} and {b!r} in "
                    f"{run.name}): seconds, joules and money are not compared; samples, updates and FLOPs are."
                )
                return False, iter((note,))
    return True, iter(())


def _versions(records: Sequence[RunRecord]) -> Iterator[str]:
    codes = dict.fromkeys(str(run.code.get("source_sha256", "not known"))[:12] for run in records)
    if len(codes) > 1:
        yield f"The runs were made by {len(codes)} versions of the code (source hashes {listed(tuple(codes))})."
    for package in ("torch", "numpy", "gymnasium", "ale-py"):
        found = dict.fromkeys(str(run.machine.get("versions", {}).get(package, "none")) for run in records)
        if len(found) > 1:
            yield f"The runs used different versions of {package}: {listed(tuple(found))}."


def _stacked(records: Sequence[RunRecord]) -> Iterator[str]:
    yield from notes_of(groups_of(records))
    ways: dict[int | None, dict[str, None]] = {}
    for run in records:
        ways.setdefault(run.stacked, {})[run.method] = None
    if len(ways) < 2:
        return
    words = [
        f"{listed(tuple(methods))} in " + ("processes of their own" if n is None else f"processes of {n} seeds")
        for n, methods in ways.items()
    ]
    yield f"Not all runs were trained in the same way, and CPU time depends on it: {'; '.join(words)}."


def _seeds(records: Sequence[RunRecord]) -> Iterator[str]:
    for env, groups in groups_of(records).items():
        seeds = {method: tuple(run.seed for run in group.runs) for method, group in groups.items()}
        different = len(set(seeds.values())) > 1
        if different:
            shared = tuple(sorted(set.intersection(*(set(s) for s in seeds.values()))))
            words = ", ".join(f"{method} {plural(len(s), 'seed')}" for method, s in seeds.items())
            yield (
                f"The methods have different seeds on {env} ({words}): comparisons pair the common ones of two methods "
                f"({plural(len(shared), 'seed')} in all of them); runs of two without any count as independent."
            )
        for method, group in groups.items():
            if len(group.runs) == 1:
                yield f"{method} has one seed on {env}: no interval can be given for it, and no difference shown."
            ended = {run.seed: run for run in group.runs}
            for seed, why in group.failed:
                yield f"{method} on {env}, seed {seed}, did not complete ({why}); {_counts(ended[seed])}."


def _counts(run: RunRecord) -> str:
    """How a run that did not complete counts for the cost of targets."""
    if run.ended is not None:
        return "it counts, with all it used until it ended, as a run that missed every target that it had not reached"
    if run.points:
        return (
            "it counts as a run that missed every target that it had not reached; what it used after its last "
            "evaluation is not known, so expected costs with it are lower bounds"
        )
    return "it is left out, as nothing is known of what it used"


def pairs(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """The seeds to pair two methods by; None where they have none in common, and then all runs count as independent."""
    return common_seeds(a, b) or None
