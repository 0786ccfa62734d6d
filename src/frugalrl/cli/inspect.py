"""``frugal eval`` and ``frugal bill``: what a run has reached and what it has cost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import OK, Context
from frugalrl.cli.output import console_for
from frugalrl.types import UserError

if TYPE_CHECKING:
    from frugalrl.cost.record import Bill


def evaluate(args: arguments.Eval, context: Context) -> int:
    """Play new episodes with the last whole checkpoint and print the score."""
    environment.prepare()
    from frugalrl.cli.words import one_line, score_in_words, score_to_json
    from frugalrl.run.checkpoint import Checkpoints
    from frugalrl.run.record import RunFolder
    from frugalrl.run.score_run import evaluate_run

    stdout = sys.stdout
    record = RunFolder.open(args.run)
    context.folder = args.run
    loaded = Checkpoints(record.checkpoints).load(None)
    for sentence in loaded.damaged:
        print(f"note: {sentence}", file=sys.stderr)
    if stdout.isatty():
        print(f"playing {record.config().env.id} with the policy of step {loaded.step:,} ...", file=sys.stderr)
    with redirect_stdout(sys.stderr):  # whatever an environment prints must not come before the score
        score = evaluate_run(args.run, episodes=args.episodes, seed=args.seed, actions=args.actions)
    if args.json:
        print(one_line({**score_to_json(score), "env_steps": loaded.step, "run": str(args.run)}), file=stdout)
    else:
        print(f"score after {loaded.step:,} steps: {score_in_words(score)}", file=stdout)
    return OK


def bill(args: arguments.BillOf) -> int:
    """Print the bill that a run has written; of several runs, one line each and the sum."""
    from frugalrl.cost.record import to_json
    from frugalrl.cost.show import render

    folders = _runs_at(args.runs)
    if len(folders) > 1:
        return _bills(folders, json=args.json)
    found = _bill_of(folders[0])
    if found is None:
        raise UserError(
            f"{folders[0]} has no bill yet: the run did not come to an end; "
            f"go on with frugal resume {quote(str(folders[0]))}"
        )
    if args.json:
        from frugalrl.cli.words import one_line

        print(one_line(to_json(found)))
    else:
        render(found, console_for(sys.stdout))
    return OK


def _runs_at(places: Sequence[Path]) -> list[Path]:
    """The places themselves; one that is no run but holds some stands for those."""
    from frugalrl.report.records import each_once, find_runs

    if not places:
        raise UserError("frugal bill needs RUN, the folder of a run, or several of them")
    found: dict[Path, None] = {}
    for place in places:
        inside = [] if (place / "config.json").exists() else list(place.glob("**/machine.json"))
        found |= dict.fromkeys(find_runs([place]) if inside else [place])
    return each_once(found)


def _bill_of(folder: Path) -> Bill | None:
    """None for a run that did not come to an end. Raises UserError for a folder that is no run."""
    from frugalrl.cost.record import bill_from_json
    from frugalrl.run.record import RunFolder, read_json

    record = RunFolder.open(folder)
    path = record.path / "bill.json"
    if not path.exists():
        return None
    ends = [line["kind"] for line in record.lines() if line["kind"] in ("end", "resume")]
    if ends and ends[-1] == "resume":  # killed since, or still at work
        print(
            f"note: {folder} was resumed after this bill was made; what it has used since is not on it", file=sys.stderr
        )
    try:
        return bill_from_json(read_json(path))
    except UserError as error:
        said = str(error)
        raise UserError(said if str(path) in said else f"{path}: {said}") from error


def _bills(folders: Sequence[Path], *, json: bool) -> int:
    from frugalrl.cost.many import many_to_json, render_many

    found = {}
    for folder in folders:
        try:
            found[str(folder)] = _bill_of(folder)
        except UserError as error:
            if not (folder / "machine.json").exists():  # no run at all
                raise
            print(f"note: {folder} counts as a run without a bill: {error}", file=sys.stderr)
            found[str(folder)] = None
    if json:
        from frugalrl.cli.words import one_line

        print(one_line(many_to_json(found)))
    else:
        render_many(found, console_for(sys.stdout))
    return OK
