"""``frugal eval`` and ``frugal bill``: what a run has reached and what it has cost."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import OK, Context
from frugalrl.cli.output import console_for


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
        score = evaluate_run(args.run, episodes=args.episodes, seed=args.seed)
    if args.json:
        print(one_line({**score_to_json(score), "env_steps": loaded.step, "run": str(args.run)}), file=stdout)
    else:
        print(f"score after {loaded.step:,} steps: {score_in_words(score)}", file=stdout)
    return OK


def bill(args: arguments.BillOf) -> int:
    """Print the bill that the run has written."""
    from frugalrl.cost.record import bill_from_json, to_json
    from frugalrl.cost.show import render
    from frugalrl.run.record import RunFolder, read_json
    from frugalrl.types import UserError

    folder = RunFolder.open(args.run)
    path = folder.path / "bill.json"
    if not path.exists():
        raise UserError(
            f"{args.run} has no bill yet: the run did not come to an end; go on with frugal resume {args.run}"
        )
    found = bill_from_json(read_json(path))
    if args.json:
        from frugalrl.cli.words import one_line

        print(one_line(to_json(found)))
    else:
        render(found, console_for(sys.stdout))
    return OK
