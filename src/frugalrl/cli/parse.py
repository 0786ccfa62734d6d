"""From argv to the arguments of one command; every mistake becomes one sentence."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import Field, fields
from difflib import get_close_matches
from typing import Any

from frugalrl.types import UserError

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("Train", "Train an agent and print the bill."),
    "resume": ("Resume", "Go on with a run from its last checkpoint."),
    "compare": ("Compare", "Compare methods over environments and seeds: what does the same score cost with each?"),
    "eval": ("Eval", "Score the last checkpoint of a run on new episodes."),
    "watch": ("Watch", "Film the last checkpoint of a run: the game and what its policy thinks of it."),
    "export": ("Export", "Write the policy of the last checkpoint as a file that needs no frugalrl."),
    "bill": ("BillOf", "Show the bill of a run, or those of several and their sum."),
    "report": ("Report", "Write the comparison of runs as one HTML file, with its figures and tables beside it."),
    "reprice": ("Reprice", "Compare runs as they would be on another machine or with another simulator."),
    "mismatch": ("MismatchOf", "Say how far a sampler is from its learner, and name what is probably wrong."),
    "list": ("List", "List what can be named: recipes, envs, explorers, transforms, machines or prices."),
    "reproduce": ("Reproduce", "Put a published claim to the test: chain."),
    "doctor": ("Doctor", "Say what can be measured here, what will be modelled, and what is chosen why."),
}
"""Class of the arguments and summary, by command; the overview needs no more, so it does not load the parser."""

USAGE = """usage: frugal COMMAND [options]

Deep reinforcement learning that reaches a score for the least compute, and shows the bill.
"""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "frugal train ALE/Pong-v5 --explore counteractive --budget-steps 10_000",
        "frugal eval runs/NAME --episodes 100 --json",
        "frugal list envs",
    ),
    "train": (
        "frugal train CartPole-v1",
        "frugal train ALE/Pong-v5 --explore counteractive --budget-steps 10_000",
        "frugal train MinAtar/Breakout-v1 --set agent.learning_rate=1e-3 replay.kind=prioritized",
        "frugal train FrozenLake-v1 --env-kwargs is_slippery=false --seed 1 --target 0.9",
        "frugal train my_module:MyEnv-v0 --budget-hours 2 --budget-eur 0.50 --json > result.json",
    ),
    "resume": (
        "frugal resume runs/NAME",
        "frugal resume runs/NAME --budget-steps 200_000",
    ),
    "compare": (
        "frugal compare",
        "frugal compare --env MinAtar/Breakout-v1 --methods epsilon-greedy counteractive --seeds 5 --target 5",
        "frugal compare --methods plain=epsilon-greedy bf16=epsilon-greedy+agent.precision=bf16 --seeds 5 --out study",
        "frugal compare study.toml --resume",
    ),
    "eval": ("frugal eval runs/NAME --episodes 100", "frugal eval runs/NAME --episodes 10 --seed 7 --json"),
    "watch": (
        "frugal watch runs/NAME --video play.mp4",
        "frugal watch runs/NAME --video play.gif --episodes 3 --seed 7 --max-steps 500 --fps 15",
    ),
    "export": ("frugal export runs/NAME --to onnx", "frugal export runs/NAME --to torch --out pong.pt2 --json"),
    "bill": ("frugal bill runs/NAME", "frugal bill runs/NAME --json", "frugal bill study"),
    "report": (
        "frugal report study",
        "frugal report runs/A runs/B --out report.html --baseline epsilon-greedy --target 5 --against published.csv",
    ),
    "reprice": (
        "frugal reprice study --on cloud-16vcpu",
        "frugal reprice runs/A runs/B --env-step-ms 20 --target 100 200",
    ),
    "mismatch": (
        "frugal mismatch logprobs.npz",
        "frugal mismatch runs/NAME --json",
        "frugal mismatch logprobs.npz --correction sequence-mask:0.5,2 --strict",
    ),
    "list": ("frugal list envs", "frugal list machines --prices my_prices.toml"),
    "reproduce": (
        "frugal reproduce chain",
        "frugal reproduce chain --quick",
        "frugal reproduce chain --seeds 500 --alpha 0.5 0.9 --eps 0.15 --json",
    ),
    "doctor": ("frugal doctor", "frugal doctor --json"),
}


def parse(argv: Sequence[str]) -> Any | None:
    """The arguments of the command that was typed; None when help or the version was asked for and printed.

    Raises UserError: no such command or option, a missing or a wrong value.
    """
    word = argv[0] if argv else ""
    if word in ("-h", "--help", "help"):
        print(_overview(), end="")
        return None
    if word == "--version":
        from importlib.metadata import version

        print(f"frugal {version('frugalrl')}")
        return None
    if not word:
        raise UserError(f"a command is missing; use one of {', '.join(COMMANDS)}, or frugal --help")
    if word not in COMMANDS:
        kind = "option" if word.startswith("-") else "command"
        raise UserError(f"unknown {kind} {word!r}{near(word, list(COMMANDS)) or '; see frugal --help'}")
    return _parse_command(word, list(argv[1:]))


def kind_of(command: str) -> type[Any]:
    """The dataclass of a command's arguments."""
    from frugalrl.cli import arguments

    kind: type[Any] = getattr(arguments, COMMANDS[command][0])
    return kind


def _overview() -> str:
    lines = [f"  {name:<9} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        (
            USAGE,
            "commands:",
            *lines,
            "",
            "'frugal COMMAND --help' names its options; 'frugal --version' the version.",
            "",
        )
    ) + _examples("")


def _examples(command: str) -> str:
    return "\n".join(("", "examples:", *(f"  {line}" for line in EXAMPLES[command]), ""))


def _parse_command(name: str, words: list[str]) -> Any | None:
    import tyro
    from tyro.conf import FlagCreatePairsOff

    complaint = io.StringIO()
    kind = kind_of(name)
    try:
        with redirect_stderr(complaint):
            found, unknown = tyro.cli(
                kind,
                prog=f"frugal {name}",
                args=words,
                return_unknown_args=True,
                config=(FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            print(_examples(name), end="")
            return None
        stray = _stray_option(kind, words)
        if stray is not None:
            raise _unknown_option(name, kind, stray) from None
        raise UserError(f"{_sentence(complaint.getvalue(), name)}; see frugal {name} --help") from None
    if unknown:
        stray = next((word for word in unknown if word.startswith("-")), None)
        if stray is not None:
            raise _unknown_option(name, kind, stray)
        raise UserError(f"frugal {name} does not know what to do with {unknown[0]!r}; see frugal {name} --help")
    sys.stderr.write(complaint.getvalue())
    return found


def _options(kind: type[Any]) -> list[str]:
    return ["--help", *(f"--{f.name.replace('_', '-')}" for f in fields(kind) if not positional(f))]


def positional(field: Field[Any]) -> bool:
    """Whether an argument is given by its place, without a name."""
    return "Positional[" in str(field.type) or str(field.type) in ("RunFolderArgument", "RunFolders")


def _stray_option(kind: type[Any], words: list[str]) -> str | None:
    known = {"-h", *_options(kind)}
    for word in words:
        option = word.partition("=")[0].replace("_", "-")
        if word.startswith("--") and len(word) > 2 and option not in known:
            return word
    return None


def _unknown_option(name: str, kind: type[Any], word: str) -> UserError:
    option = word.partition("=")[0]
    hint = near(option, _options(kind)) or f"; see frugal {name} --help"
    return UserError(f"frugal {name} has no option {option!r}{hint}")


def near(word: str, known: list[str]) -> str:
    """``; did you mean 'x'?``, or nothing when no known word is near."""
    longer = [k for k in known if k.startswith(word) and len(word) > 3]  # --budget for --budget-steps
    near = longer or get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def _sentence(box: str, name: str) -> str:
    """The parser's message without its frame, as one sentence.

    A title, a rule, the message, a rule, the help: what lies between the first two rules, drawn with or without
    Unicode. What it does not recognise is passed on whole.
    """
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    lines = [line for line in lines if line]
    title = lines[0].strip("─ ") if lines else ""
    body: list[str] = []
    for line in lines[1:]:
        if line.strip("─-"):
            body.append(line)
        elif body:
            break
    text = " ".join(" ".join(body).split())
    if title.startswith("Required"):
        required = {
            "train": "ENV",
            "list": "a topic: recipes, envs, explorers, transforms, machines or prices",
            "reproduce": "a topic: chain",
            "watch": "RUN, the folder of a run, and --video FILE",
            "export": "RUN, the folder of a run, and --to torch or --to onnx",
        }
        return f"frugal {name} needs {required.get(name, 'RUN, the folder of a run')}"
    for start in ("Error parsing ", "Missing value for argument "):
        if text.startswith(start):
            option, _, rest = text.removeprefix(start).partition(": " if start[0] == "E" else ". ")
            option = option.strip("'").partition(" ")[0]
            return f"{option}: {rest}" if start[0] == "E" else f"{option} needs a value"
    return text.rstrip(".") or "the command line could not be read"
