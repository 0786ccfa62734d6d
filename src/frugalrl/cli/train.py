"""``frugal train`` and ``frugal resume``: from arguments to a configuration, and from an outcome to the last line."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import FAILED, OK, Context
from frugalrl.cli.folders import claim, drop_empty
from frugalrl.types import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from frugalrl.run.config import BudgetConfig, RunConfig
    from frugalrl.run.status import Reporter
    from frugalrl.run.train import Outcome


def train(args: arguments.Train, words: Sequence[str], context: Context) -> int:
    """Build the configuration, run it, print the outcome."""
    environment.prepare(args.threads)
    from frugalrl.cost.tables import load_tables
    from frugalrl.run import train as run

    tables = load_tables(environment.price_file(args.prices))
    config = build(args)
    if config.machine is not None:
        tables.machine(config.machine)
    folder = args.out if args.out is not None else default_folder(config)
    context.folder = folder
    try:
        return _follow(
            args,
            folder,
            lambda reporter: run.train(
                config,
                folder,
                reporter,
                command=["frugal", *words],
                tables=tables,
                whole_process=context.whole_process,
            ),
        )
    finally:
        if args.out is None:
            drop_empty(folder)  # as it is when the run did not start


def resume(args: arguments.Resume, words: Sequence[str], context: Context) -> int:
    """Go on with a run, with its own budget or a new one."""
    environment.prepare(_threads_of(args.run))
    from frugalrl.cli.prices import WHOLE_BILL, prices_of_runs
    from frugalrl.cost.tables import load_tables
    from frugalrl.run import train as run
    from frugalrl.run.record import RunFolder

    record = RunFolder.open(args.run)
    tables, config = (
        load_tables(prices_of_runs(args.prices, [record.price_file()], WHOLE_BILL)),
        record.config(),
    )
    context.folder = args.run
    budget = None if _no_budget(args) else _budget(args, config.budget)
    return _follow(
        args,
        args.run,
        lambda reporter: run.resume(
            args.run,
            reporter,
            command=["frugal", *words],
            budget=budget,
            tables=tables,
            whole_process=context.whole_process,
        ),
    )


# -- the configuration -----------------------------------------------------------------------------------------------


def build(args: arguments.Train) -> RunConfig:
    """The configuration: recipe, then options, then ``--set``. Raises UserError."""
    from frugalrl.algos.agents import correction_setting, explorer_of
    from frugalrl.envs import named_protocol
    from frugalrl.recipes import build_config
    from frugalrl.run.config_io import from_dict, override, to_dict
    from frugalrl.run.unused import refuse_unused
    from frugalrl.sampling.config import SamplerConfig

    config = build_config(args.env, args.recipe)
    if args.explore is not None:
        explorer_of(config.agent, args.explore)
    if args.protocol is not None:
        named_protocol(args.protocol)
    env = replace(
        config.env,
        protocol=args.protocol or config.env.protocol,
        kwargs={**config.env.kwargs, **env_kwargs(args.env_kwargs)},
        rows=args.envs or config.env.rows,
    )
    sampler = config.sampler
    if args.sampler is not None or args.workers is not None:
        kind = args.sampler or "central"  # workers are the engine's
        sampler = replace(sampler, kind=kind, workers=sampler.workers if args.workers is None else args.workers)
    if args.sampler_transform is not None or args.sampler_engine is not None:
        asked = {"transform": args.sampler_transform, "engine": args.sampler_engine}
        changed = {name: value for name, value in asked.items() if value is not None}
        sampler = from_dict(SamplerConfig, to_dict(sampler) | changed, "sampler")
    config = replace(
        config,
        env=env,
        explore=replace(config.explore, name=args.explore or config.explore.name),
        sampler=sampler,
        budget=_budget(args, config.budget),
        seed=config.seed if args.seed is None else args.seed,
        device=args.device or config.device,
        threads=args.threads or config.threads,
        machine=args.machine or config.machine,
    )
    if args.probe_envs is not None:
        config = override(config, [f"evaluation.probe_rows={args.probe_envs}"])
    if args.correction is not None:
        config = override(config, [correction_setting(config.agent, args.correction)])
    settings = [word for words in args.set for word in words]
    config = override(config, settings)
    refuse_unused(config, settings)
    return config


def _no_budget(args: arguments.Train | arguments.Resume) -> bool:
    return all(v is None for v in (args.budget_steps, args.budget_hours, args.budget_eur, args.target))


def _budget(args: arguments.Train | arguments.Resume, known: BudgetConfig) -> BudgetConfig:
    """A limit on the command line replaces all known limits; a target alone is added to them."""
    if _no_budget(args):
        return known
    if args.budget_steps is None and args.budget_hours is None and args.budget_eur is None:
        return replace(known, target_score=args.target)
    return replace(
        known,
        env_steps=args.budget_steps,
        hours=args.budget_hours,
        eur=args.budget_eur,
        target_score=known.target_score if args.target is None else args.target,
    )


def env_kwargs(words: Sequence[str]) -> dict[str, Any]:
    """``k=v ...`` or one JSON object; values are JSON where they can be read so, else text. Raises UserError."""
    found: dict[str, Any] = {}
    for word in words:
        if word.lstrip().startswith("{"):
            try:
                part = json.loads(word)
            except json.JSONDecodeError as error:
                raise UserError(f"--env-kwargs {word}: this is not valid JSON ({error.msg} at {error.pos})") from None
        else:
            key, equals, text = word.partition("=")
            if not equals or not key.isidentifier():
                raise UserError(f"--env-kwargs {word!r} is neither k=v nor a JSON object such as '{{\"k\": 1}}'")
            part = {key: _read_value(text)}
        try:
            json.dumps(part, allow_nan=False)
        except ValueError:
            raise UserError(f"--env-kwargs {word}: expected finite numbers") from None
        found.update(part)
    return found


def _read_value(text: str) -> Any:
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    for read in (int, json.loads):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def default_folder(config: RunConfig, now: time.struct_time | None = None) -> Path:
    """Makes ``runs/ENV-EXPLORER-seedN-DATE-TIME``, a name that every file system takes and that was still free.

    Raises UserError.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", now or time.localtime())
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{config.env.id}-{config.explore.name}-seed{config.seed}-{stamp}")
    return claim(Path("runs") / name.lstrip("-."), "run")


def _threads_of(folder: Path) -> int | None:
    try:
        threads = json.loads((folder / "config.json").read_text()).get("threads")
    except (OSError, ValueError, AttributeError):
        return None  # the run itself says what is wrong with its folder
    return threads if isinstance(threads, int) and threads > 0 else None


# -- the run ---------------------------------------------------------------------------------------------------------


def _follow(args: arguments.Train | arguments.Resume, folder: Path, work: Callable[[Reporter], Outcome]) -> int:
    from frugalrl.cli.output import console_for

    stdout = sys.stdout
    console = console_for(stdout)
    reporter = _reporter(args, console)
    if args.tensorboard is not None:
        from frugalrl.integrations.tensorboard import TensorBoard

        events = args.tensorboard.absolute() / folder.resolve().name
        reporter = TensorBoard(reporter, events, resumed=isinstance(args, arguments.Resume))
    try:
        if args.json:
            with redirect_stdout(sys.stderr):  # whatever an environment prints must not come before the JSON
                outcome = work(reporter)
        else:
            outcome = work(reporter)
    finally:
        reporter.close()
    if args.json:
        from frugalrl.cli.words import one_line

        print(one_line(outcome_to_json(outcome)), file=stdout)
    else:
        _print_outcome(outcome, console, quiet=args.quiet)
    if outcome.completed:
        return OK
    way = f"frugal resume {quote(str(outcome.folder))}"
    with suppress(OSError):  # a terminal that is gone
        print(f"frugal: {outcome.reason} at step {outcome.env_steps:,}; go on with: {way}", file=sys.stderr)
    return FAILED


def _reporter(args: arguments.Train | arguments.Resume, console: Console) -> Reporter:
    from frugalrl.cli.plain import Plain, Quiet

    if args.json:
        from frugalrl.run.status import Silent

        return Silent() if args.quiet else Plain(sys.stderr)
    if args.quiet:
        return Quiet(sys.stdout)
    if console.is_terminal and not console.is_dumb_terminal and console.width >= 60:
        from frugalrl.cli.screen import Screen

        return Screen(console)
    return Plain(sys.stdout)


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """The last line of ``--json``."""
    from frugalrl.cli.words import score_to_json
    from frugalrl.cost import to_json

    return {
        "outcome": {
            "reason": outcome.reason,
            "completed": outcome.completed,
            "env_steps": outcome.env_steps,
            "run": str(outcome.folder),
        },
        "score": None if outcome.score is None else score_to_json(outcome.score),
        "bill": to_json(outcome.bill),
    }


def _print_outcome(outcome: Outcome, console: Console, *, quiet: bool) -> None:
    from frugalrl.cli.words import score_in_words
    from frugalrl.cost import render

    score = "not evaluated" if outcome.score is None else score_in_words(outcome.score)
    line = f"score after {outcome.env_steps:,} steps: {score}"
    if quiet:
        print(line)
        return
    folder = quote(str(outcome.folder))
    ended = "done" if outcome.completed else "stopped"
    console.print(f"{ended}: {outcome.reason}", highlight=False, markup=False)
    console.print(line, style="bold green", highlight=False, markup=False)
    console.print()
    render(outcome.bill, console)
    console.print()
    for what, command in (
        ("folder", str(outcome.folder)),
        ("go on", f"frugal resume {folder} --budget-steps N" if outcome.completed else f"frugal resume {folder}"),
        ("score", f"frugal eval {folder} --episodes 100"),
        ("bill", f"frugal bill {folder}"),
    ):
        console.print(f"{what:<7} {command}", highlight=False, markup=False, soft_wrap=True)
