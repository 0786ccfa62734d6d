"""``frugal watch`` and ``frugal export``: what a run's policy looks like, and how to use it elsewhere."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import OK


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def watch(args: arguments.Watch) -> int:
    """Film the last whole checkpoint."""
    environment.prepare()
    from frugalrl.cli.words import one_line, short
    from frugalrl.watch.record import watch_run

    stdout = sys.stdout
    with redirect_stdout(sys.stderr):  # whatever an environment prints must not come before the result
        found = watch_run(
            args.run,
            args.video,
            episodes=args.episodes or 1,
            seed=args.seed,
            max_steps=args.max_steps or 5_000,
            fps=args.fps,
            note=_note,
        )
    if args.json:
        document = {
            "file": str(found.video.path),
            "format": found.video.format,
            "frames": found.video.frames,
            "fps": found.fps,
            "episodes": len(found.returns),
            "returns": found.returns,
            "cut_return": found.cut_return,
            "env_steps": found.env_steps,
            "run": str(args.run),
        }
        print(one_line(document), file=stdout)
        return OK
    ended = [f"return {short(value)}" for value in found.returns]
    if found.cut_return is not None:
        ended.append(f"cut off at return {short(found.cut_return)}")
    print(
        f"{found.video.path}: {found.video.frames:,} frames, {found.fps:.3g} per second, {found.shows}; "
        f"policy after {found.env_steps:,} steps; {', '.join(ended)}",
        file=stdout,
    )
    return OK


def export(args: arguments.Export) -> int:
    """Write the last whole checkpoint's policy for use elsewhere."""
    environment.prepare()
    from dataclasses import asdict

    from frugalrl.cli.words import one_line
    from frugalrl.export.export_run import export_run

    stdout = sys.stdout
    with redirect_stdout(sys.stderr):
        found = export_run(args.run, args.to, args.out, note=_note)
    if args.json:
        document = {
            "file": str(found.path),
            "description": str(found.description),
            "format": found.format,
            "checked": asdict(found.checked),
            "env_steps": found.env_steps,
            "run": str(args.run),
        }
        print(one_line(document), file=stdout)
        return OK
    checked, of = found.checked, {"q": "Q", "logits": "the logits"}[found.preferences]
    ends = "" if checked.episodes is None else f" and {checked.episodes} ends of episodes, each with its own memory"
    print(
        f"{found.path}: policy of {found.env_id} after {found.env_steps:,} steps; see {found.description}", file=stdout
    )
    print(
        f"checked on {checked.observations:,} observations{ends}: largest difference of {of} "
        f"{checked.max_abs_difference:.2g} (allowed {checked.allowed:.2g}), {checked.equal_actions:.1%} equal actions",
        file=stdout,
    )
    return OK
