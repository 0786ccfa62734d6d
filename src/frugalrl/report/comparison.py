"""From run records to a comparison: the one function that the table, the report and the JSON start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import isfinite

import numpy as np

from frugalrl.cost.roofs import Roofs
from frugalrl.cost.tables import MachineProfile, Tables
from frugalrl.report.check import check, evaluated
from frugalrl.report.crossover import crossovers_of
from frugalrl.report.groups import Group, Reached, Setting, groups_of, reach
from frugalrl.report.lever_design import sampler_words
from frugalrl.report.levers import levers_of
from frugalrl.report.method import method_result
from frugalrl.report.numbers import plain
from frugalrl.report.overall import overall_of
from frugalrl.report.records import RunRecord
from frugalrl.report.references import reference_of
from frugalrl.report.reprice import Repricing, repriced
from frugalrl.report.results import Anchor, Comparison, EnvResult, RunLine
from frugalrl.report.sentences import sentences_of
from frugalrl.report.shared import processes_of
from frugalrl.report.use import Rates, rates_of, rates_on
from frugalrl.report.views import VIEWS, views_of
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import hint
from frugalrl.run.samplers import is_asynchronous
from frugalrl.types import UserError

Targets = Mapping[str, Sequence[float]]


def compare(
    records: Sequence[RunRecord],
    *,
    baseline: str | None = None,
    targets: Targets | None = None,
    tables: Tables,
    rng: np.random.Generator,
    draws: int = 2_000,
    level: float = 0.95,
    machine: MachineProfile | None = None,
    step_ms: float | None = None,
    here: Roofs | None = None,
    anchors: Sequence[Anchor] = (),
    command: Sequence[str] = (),
) -> Comparison:
    """Compare methods on their environments.

    Args:
        baseline: The method that others are compared with; None takes the first one with ``epsilon-greedy`` in its
            name, else the first.
        targets: Mean returns by environment. An environment without any gets those of its reference scores, which do
            not depend on the runs.
        machine, step_ms, here: See ``Repricing``; None shows the runs as measured.
        anchors: Scores from elsewhere; they are shown and compared with nothing.

    Raises:
        UserError: runs that must not be compared (see ``check``), an unknown baseline or environment, a target that is
            no number, or runs that cannot be repriced.
    """
    checked = check(records)
    methods = _methods(records, baseline)
    wanted = _targets(records, targets)
    repricing = Repricing(machine=machine, step_ms=step_ms, here=here, profiles=tables.machines)
    made_on = evaluated(records)[0]
    records, rates, modelled = _through(repricing, records, tables, same_machine=checked.same_machine)
    seed = int(rng.integers(1 << 63))
    setting = Setting(seed=seed, draws=draws, level=level, rates=rates, same_machine=checked.same_machine)
    groups = groups_of(records, methods)
    envs = tuple(_env(env, groups[env], wanted[env], methods[0], anchors, setting) for env in groups)
    overall, about_overall = overall_of(groups, methods, setting)
    notes = [*checked.notes, *_notes(envs, methods[0], anchors), *about_overall, *filter(None, [modelled])]
    notes += _asynchronous(envs, records)
    return Comparison(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        command=tuple(command),
        baseline=methods[0],
        methods=methods,
        envs=envs,
        overall=overall,
        sentences=sentences_of(envs, overall, methods[0]),
        notes=tuple(notes),
        runs=tuple(_run_line(record) for record in records),
        machine=dict(made_on.machine),
        code=dict(made_on.code),
        modelled=modelled,
        level=level,
        draws=draws,
        method_docs={m: _doc(next(r for r in records if r.method == m)) for m in methods},
    )


def _methods(records: Sequence[RunRecord], baseline: str | None) -> tuple[str, ...]:
    """The baseline first, the others in the order of the records."""
    known = list(dict.fromkeys(record.method for record in records))
    if baseline is None:
        baseline = next((m for m in known if "epsilon-greedy" in m), known[0])
    if baseline not in known:
        raise UserError(f"no run has the method {baseline!r}, so it cannot be the baseline{hint(baseline, known)}")
    return (baseline, *(m for m in known if m != baseline))


def _through(
    repricing: Repricing, records: Sequence[RunRecord], tables: Tables, *, same_machine: bool
) -> tuple[Sequence[RunRecord], Rates, str | None]:
    """The records as they would have been, the rates of their machine, and how they were modelled."""
    first = evaluated(records)[0]
    rates = rates_of(first, tables)
    if repricing.machine is None and repricing.step_ms is None:
        return records, rates, None
    if not same_machine:
        raise UserError("runs of different machines cannot be repriced together; give those of one machine")
    rates = replace(rates if repricing.machine is None else rates_on(repricing.machine, tables), modelled=True)
    return [repriced(record, repricing) for record in records], rates, repricing.in_words(first)


def _targets(records: Sequence[RunRecord], targets: Targets | None) -> dict[str, tuple[float, ...]]:
    """Given, else of the references: fixed before a score is looked at."""
    given = targets or {}
    envs = {record.env: record for record in records}
    for env, values in given.items():
        if env not in envs:
            raise UserError(f"a target names {env!r}, which no run has{hint(env, list(envs))}")
        for value in values:
            if not isfinite(value):
                raise UserError(f"the target {value} of {env} is no score; give a finite number")
    found = {}
    for env, record in envs.items():
        reference = reference_of(env, record.config.env.kwargs)
        derived = () if reference is None else reference.targets()
        found[env] = tuple(sorted({float(v) for v in given.get(env, ())})) or derived
    return found


def _env(
    env: str,
    groups: Mapping[str, Group],
    targets: tuple[float, ...],
    baseline: str,
    anchors: Sequence[Anchor],
    setting: Setting,
) -> EnvResult:
    shared = processes_of({m: group.charged for m, group in groups.items()})
    reached: dict[str, list[Reached]] = {
        m: [reach(group, t, setting, shared.get(m)) for t in targets] for m, group in groups.items()
    }
    others = reached.get(baseline)
    results = tuple(
        method_result(group, reached[m], None if m == baseline else others, setting, shared.get(m))
        for m, group in groups.items()
    )
    crossovers = [
        crossover
        for i in range(len(targets))
        for crossover in crossovers_of(groups, {m: r[i] for m, r in reached.items()}, setting)
    ]
    return EnvResult(
        env=env,
        protocol=_protocol(next(iter(groups.values())).runs[0].config),
        targets=targets,
        methods=results,
        views=views_of(groups, baseline, setting),
        crossovers=tuple(crossovers),
        anchors=tuple(anchor for anchor in anchors if anchor.env == env),
        levers=levers_of(groups, reached, baseline, setting),
    )


def _protocol(config: RunConfig) -> str:
    """What a score means: the environment's protocol, and how actions were chosen where that is not the usual way."""
    actions = config.evaluation.actions
    return config.env.protocol if actions == "greedy" else f"{config.env.protocol}, actions {actions}"


def _notes(envs: Sequence[EnvResult], baseline: str, anchors: Sequence[Anchor]) -> Iterator[str]:
    for env in envs:
        if not any(method.method == baseline and method.seeds for method in env.methods):
            yield f"The baseline {baseline} has no completed run on {env.env}, so nothing is compared with it there."
        if not env.targets:
            yield f"No target for {env.env}: it has no reference score here; give one with --target."
        for method in env.methods:
            missed = [t for t in method.targets if t.reached < t.runs]
            if missed:
                words = ", ".join(f"{t.runs - t.reached} of {t.runs} missed {plain(t.target)}" for t in missed)
                yield f"Runs of {method.method} on {env.env}: {words}; they count with all they used (censored)."
        missing = [axis for axis in VIEWS if axis not in {view.axis for view in env.views}]
        if missing and any(method.seeds for method in env.methods):
            names = {"env_steps": "samples", "flop": "FLOPs", "eur": "money"}
            yield f"No view at equal {' or '.join(names[a] for a in missing)} on {env.env}: not known of every run."
    unused = sorted({anchor.env for anchor in anchors} - {env.env for env in envs})
    if unused:
        yield f"Scores from elsewhere for {', '.join(unused)} are not shown: no run has these environments."


def _asynchronous(envs: Sequence[EnvResult], records: Sequence[RunRecord]) -> Iterator[str]:
    found = list(dict.fromkeys(record.method for record in records if is_asynchronous(record.config)))
    if found and any(env.crossovers for env in envs):
        yield (
            f"Crossovers take the samples of {', '.join(found)} as measured, although these runs are asynchronous: a "
            f"slower step would also change how stale their data are. Their time is that on one core."
        )


def _run_line(record: RunRecord) -> RunLine:
    last, spent = record.last, record.spent
    return RunLine(
        name=record.name,
        method=record.method,
        env=record.env,
        seed=record.seed,
        outcome=record.outcome,
        reason=record.reason,
        final=None if last is None else last.mean_return,
        env_steps=None if spent is None else spent.env_steps,
        cpu_s=None if spent is None else spent.cpu_s,
        wall_s=None if spent is None else spent.wall_s,
    )


def _doc(record: RunRecord) -> str:
    config = record.config
    sampler = f"{config.sampler.kind}, pipelined" if config.schedule.lag_blocks else config.sampler.kind
    acts = "" if config.sampler.as_the_learner else f" with {sampler_words(config)}"
    return f"recipe {config.recipe}, agent {config.agent.kind}, explorer {config.explore.name}, sampler {sampler}{acts}"
