"""Which cells one process does: a run of its own, or the seeds of one method stacked where that is cheaper."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from frugalrl.algos.agents import TokenConfig
from frugalrl.envs import make_env, named_protocol
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import torso_name
from frugalrl.run.config import RunConfig
from frugalrl.run.samplers import is_asynchronous
from frugalrl.run.stacked import why_not_stacked
from frugalrl.study.matrix import Cell
from frugalrl.types import EnvSpec

MOST_SEEDS = 16
"""Seeds in one stack: beyond that nothing is gained any more (docs/stacked.md)."""


def jobs_of(
    cells: Sequence[Cell], *, processes: int, stack: bool, begun: Callable[[Cell], bool]
) -> list[tuple[Cell, ...]]:
    """Cells by process, in the order of the cells. Stacks are split where a core would stay idle otherwise.

    ``begun``: whether a cell has a run to go on with; those are not mixed with new ones.
    """
    groups: dict[tuple[str, str, bool], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.env, cell.method, begun(cell)), []).append(cell)
    reasons = {key: why_alone(group[0].config) for key, group in groups.items()} if stack else {}
    jobs: list[tuple[Cell, ...]] = []
    for key, group in groups.items():
        if not stack or reasons[key] is not None:
            jobs += [(cell,) for cell in group]
            continue
        size = -(-len(group) // _parts(len(group), len(groups), processes))
        jobs += [tuple(group[i : i + size]) for i in range(0, len(group), size)]
    order = {cell.key: i for i, cell in enumerate(cells)}
    return sorted(jobs, key=lambda job: order[job[0].key])


def _parts(seeds: int, groups: int, processes: int) -> int:
    """Stacks per group: as few as there can be while all cores have the same to do, each with two seeds or more."""
    least = -(-seeds // MOST_SEEDS)
    most = max(least, seeds // 2)
    even = (n for n in range(least, most + 1) if groups * n >= processes and groups * n % processes == 0)
    return next(even, min(most, max(least, -(-processes // groups))))


def at_a_time(cells: Sequence[Cell], cores: int) -> int:
    """Processes at a time by default: one per core, half as many where runs work on two cores each.

    An asynchronous central sampler and a pipelined loop have a thread beside the learner's; two such runs on two cores
    would measure each other's wall time.
    """
    two = any(is_asynchronous(cell.config) or cell.config.schedule.lag_blocks for cell in cells)
    return max(1, cores // 2) if two else cores


def why_alone(config: RunConfig) -> str | None:
    """Why seeds of this configuration are not stacked; None when they are."""
    if isinstance(config.agent, TokenConfig):
        return f"agent.kind={config.agent.kind} is a language model"
    spec = _spec(config)
    return why_not_stacked(config, spec) or _why_not_worth_it(config, spec)


def _why_not_worth_it(config: RunConfig, spec: EnvSpec) -> str | None:
    """Measured on an H200 (docs/stacked.md): with the networks for large images nearly all of a run is the emulator,
    which a stack steps one seed after the other."""
    assert isinstance(config.net, NetConfig)
    name = torso_name(spec, config.net)
    if name in ("mlp", "minatar"):
        return None
    return f"{spec.id} (torso {name!r}) spends its time in the environment, so processes side by side end sooner"


def _spec(config: RunConfig) -> EnvSpec:
    env = make_env(
        config.env.id,
        protocol=named_protocol(config.env.protocol),
        num_rows=1,
        seed=0,
        threads=1,
        env_kwargs=config.env.kwargs,
        training=True,
    )
    try:
        return env.spec
    finally:
        env.close()
