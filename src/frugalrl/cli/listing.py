"""``frugal list``: what can be named on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import OK
from frugalrl.types import UserError

Rows = list[dict[str, Any]]

EXTRAS = (
    ("ale_py", "atari", "Atari games (ALE/...)"),
    ("minatar", "minatar", "MinAtar games (MinAtar/...)"),
    ("transformers", "lm", "language models (lm:...)"),
)
"""(module, extra that installs it, what it brings)"""


def show_list(args: arguments.List) -> int:
    """Print one list. Raises UserError for an unknown topic."""
    environment.prepare()
    from frugalrl.run.config_io import hint

    if args.topic not in TOPICS:
        raise UserError(f"frugal list has no topic {args.topic!r}{hint(args.topic, list(TOPICS))}")
    rows, notes = TOPICS[args.topic](environment.price_file(args.prices))
    if args.json:
        from frugalrl.cli.words import one_line

        print(one_line({"topic": args.topic, "items": rows, "notes": notes}))
        return OK
    _print_table(_grouped(rows) if args.topic == "envs" else rows)
    for note in notes:
        print(note)
    return OK


# -- topics ----------------------------------------------------------------------------------------------------------


def _recipes(prices: Path | None) -> tuple[Rows, list[str]]:
    from frugalrl.recipes import RECIPES

    return [{"name": r.name, "what": _plain(r.doc)} for r in RECIPES.values()], ["Use one with --recipe NAME."]


def _explorers(prices: Path | None) -> tuple[Rows, list[str]]:
    from frugalrl.math.explore import EXPLORERS, POLICY_EXPLORERS

    rows = [
        {
            "name": name,
            "of": of,
            "full support": e.full_support,
            "forward pass to explore": e.explored_needs_q,
            "knobs": ", ".join(e.knobs),
            "what": _plain(e.doc),
        }
        for of, known in (("Q-values", EXPLORERS), ("policies", POLICY_EXPLORERS))
        for name, e in known.items()
    ]
    return rows, ["Use one with --explore NAME: rules of policies are for actor-critics, the others for Q-values."]


def _transforms(prices: Path | None) -> tuple[Rows, list[str]]:
    from frugalrl.policies.transforms import ALIASES, TRANSFORMS, usage

    also = {known: [alias for alias, name in ALIASES.items() if name == known] for known in TRANSFORMS}
    rows = [
        {"name": usage(t), "also": ", ".join(also[t.name]), "changes": t.stage, "what": t.what}
        for t in TRANSFORMS.values()
    ]
    return rows, [
        "Use one with --sampler-transform NAME; join several that change different things, as in int3+stale:8.",
        "--sampler-engine: torch; onnx or onnx-int8 (extra 'onnx') for networks without noisy layers;",
        "vllm for language models (scripts/vllm_env).",
    ]


def _machines(prices: Path | None) -> tuple[Rows, list[str]]:
    from frugalrl.cost.machine import detect_machine
    from frugalrl.cost.tables import load_tables

    tables = load_tables(prices)
    here = detect_machine(tables)
    rows = [
        {
            "name": m.name,
            "here": m.name == here.profile.name,
            "cores": m.cores,
            "GB": m.memory_gb,
            "GPUs": m.gpus,
            "W/core": m.watts_per_busy_core,
            "W/GPU": m.gpu_busy_watts,
            "GFLOP/s": m.gflop_per_s_core,
            "GB/s": m.gb_per_s,
            "GPU TFLOP/s": m.gpu_tflop_per_s,
            "what": m.title,
        }
        for m in tables.machines.values()
    ]
    return rows, [f"Here: {here.profile.name}, because {here.chosen_because}. Name another one with --machine NAME."]


def _prices(prices: Path | None) -> tuple[Rows, list[str]]:
    from frugalrl.cost.tables import load_tables

    tables = load_tables(prices)
    rows = [
        {
            "name": p.name,
            "on demand EUR/h": p.eur_per_hour_on_demand,
            "spot EUR/h": p.eur_per_hour_spot,
            "owned EUR/h": p.eur_per_hour_owned,
            "how": p.how,
            "date": p.date,
            "source": p.source,
        }
        for p in tables.prices.values()
    ]
    tariff = tables.electricity
    return rows, [
        f"Electricity: {tariff.eur_per_kwh:g} EUR/kWh ({tariff.how} {tariff.date}: {tariff.source}).",
        f"Price file: {tables.user_file or 'none; give your own with --prices FILE or $' + environment.PRICES}.",
    ]


def _envs(prices: Path | None) -> tuple[Rows, list[str]]:
    from frugalrl.envs import default_protocol, registered_ids
    from frugalrl.envs.lm import TASKS
    from frugalrl.recipes import default_recipe

    rows: Rows = []
    needs: dict[str, list[str]] = {}
    for env_id in registered_ids():
        group = _group(env_id)
        if group is None:
            missing = _missing_for(env_id)
            if missing is not None:
                needs.setdefault(missing, []).append(env_id)
            continue
        rows.append(
            {"id": env_id, "group": group, "protocol": default_protocol(env_id), "recipe": default_recipe(env_id)}
        )
    rows += [{"id": i, "group": _LANGUAGE, "protocol": default_protocol(i), "recipe": default_recipe(i)} for i in TASKS]
    rows.sort(key=lambda row: (_GROUPS.index(row["group"]), row["id"]))
    notes = [
        f"{what} need the extra '{extra}': pip install 'frugalrl[{extra}]'"
        for module, extra, what in EXTRAS
        if find_spec(module) is None
    ]
    notes += [f"{', '.join(ids)}: need {package}, which is not installed." for package, ids in needs.items()]
    notes.append("Any other Gymnasium environment with Discrete actions: module:id, or module:Class.")
    return rows, notes


TOPICS: dict[str, Callable[[Path | None], tuple[Rows, list[str]]]] = {
    "recipes": _recipes,
    "envs": _envs,
    "explorers": _explorers,
    "transforms": _transforms,
    "machines": _machines,
    "prices": _prices,
}

# -- environments ----------------------------------------------------------------------------------------------------

_LANGUAGE = "language model"
_GROUPS = ("toy of FrugalRL", "classic control", "toy text", "Box2D", "MinAtar", "Atari", _LANGUAGE, "other")
_NEEDS_A_SIMULATOR = ("gymnasium.envs.mujoco", "gymnasium.envs.phys2d", "gymnasium.envs.tabular")


def _group(env_id: str) -> str | None:
    """The group of an environment that can be trained here; None for one that cannot."""
    import gymnasium as gym

    if env_id.startswith("ALE/"):
        return "Atari"
    if env_id.startswith("MinAtar/"):
        return "MinAtar"
    entry = gym.registry[env_id].entry_point
    if not isinstance(entry, str) or entry.startswith(_NEEDS_A_SIMULATOR) or not _fits(env_id):
        return None
    places = {
        "frugalrl.envs.toys": _GROUPS[0],
        "gymnasium.envs.classic_control": _GROUPS[1],
        "gymnasium.envs.toy_text": _GROUPS[2],
        "gymnasium.envs.box2d": _GROUPS[3],
    }
    return next((group for start, group in places.items() if entry.startswith(start)), "other")


def _fits(env_id: str) -> bool:
    """Discrete actions, and observations that are an array or an index: only making one can tell."""
    import gymnasium as gym
    from gymnasium.spaces import Box, Discrete

    from frugalrl.envs.lookup import quiet

    try:
        with quiet():
            env = gym.make(env_id, disable_env_checker=True)
            fits = isinstance(env.action_space, Discrete) and isinstance(env.observation_space, Box | Discrete)
            env.close()
    except Exception:  # a registered environment may raise anything when what it needs is not installed
        return False
    return fits


def _missing_for(env_id: str) -> str | None:
    import gymnasium as gym

    entry = gym.registry[env_id].entry_point
    discrete = isinstance(entry, str) and entry.startswith("gymnasium.envs.box2d") and "LunarLander-" in env_id
    return "gymnasium[box2d]" if discrete and find_spec("Box2D") is None else None


def _grouped(rows: Rows) -> Rows:
    """Atari games are too many for a screen: one line with their number and a few names."""
    atari = [row for row in rows if row["group"] == "Atari"]
    others = [row for row in rows if row["group"] != "Atari"]
    if not atari:
        return others
    known = [row["id"] for row in atari]
    some = [i for i in ("ALE/Breakout-v5", "ALE/Freeway-v5", "ALE/Pong-v5", "ALE/RoadRunner-v5") if i in known]
    line = {**atari[0], "id": f"{', '.join(some or known[:3])}, ... ({len(atari)} games; all with --json)"}
    return [*others, line]


# -- printing --------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """A docstring on one line, without the marks of reStructuredText."""
    return " ".join(text.replace("``", "").split())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from frugalrl.cli.output import console_for

    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1), pad_edge=False)
    for name, value in rows[0].items():
        flag = isinstance(value, bool)
        numeric = isinstance(value, int | float) and not flag
        wide = flag or name in ("what", "source", "id", "knobs")  # a flag's heading is longer than its yes or no
        table.add_column(name, justify="right" if numeric else "left", no_wrap=not wide, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console = console_for(sys.stdout)
    console.print(table)
    console.print()
