"""Kinds of options that commands share: how a word of argv becomes a value, and what the help shows in its place."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

N = TypeVar("N", int, float)


def read_whole(text: str) -> int:
    """A whole number; underscores are allowed. Raises ValueError with a sentence."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number such as 10_000") from None


def read_number(text: str) -> float:
    """A finite number; underscores are allowed. Raises ValueError with a sentence."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number such as 1.5") from None
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite number")
    return number


def _positive(read: Callable[[str], N]) -> Callable[[str], N]:
    def checked(text: str) -> N:
        number = read(text)
        if number <= 0:
            raise ValueError(f"{text!r} must be more than 0")
        return number

    return checked


def _natural(text: str) -> int:
    number = read_whole(text)
    if number < 0:
        raise ValueError(f"{text!r} must be 0 or more")
    return number


def _not_negative(text: str) -> float:
    number = read_number(text)
    if number < 0:
        raise ValueError(f"{text!r} must be 0 or more")
    return number


def _value(read: Callable[[str], Any], metavar: str) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: value is None or isinstance(value, int | float | str),
        str_from_instance=lambda value: [str(value)],
    )


def _one_of(*words: str) -> PrimitiveConstructorSpec[Any]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return _value(read, "|".join(words))


def _values(read: Callable[[str], Any], metavar: str) -> PrimitiveConstructorSpec[Any]:
    def at_least_one(words: list[str]) -> tuple[Any, ...]:
        if not words:
            raise ValueError("one value or more is needed")
        return tuple(read(word) for word in words)

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=at_least_one,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [str(part) for part in value],
    )


_NO_DEFAULT = arg(help_behavior_hint="")
Steps = Annotated[int | None, _value(_positive(read_whole), "N"), _NO_DEFAULT]
Hours = Annotated[float | None, _value(_positive(read_number), "H"), _NO_DEFAULT]
Euros = Annotated[float | None, _value(_positive(read_number), "X"), _NO_DEFAULT]
Target = Annotated[float | None, _value(read_number, "SCORE"), _NO_DEFAULT]
Count = Annotated[int | None, _value(_positive(read_whole), "N"), _NO_DEFAULT]
Seed = Annotated[int | None, _value(_natural, "N"), _NO_DEFAULT]
Rate = Annotated[float | None, _value(_positive(read_number), "F"), _NO_DEFAULT]
Format = Annotated[Literal["torch", "onnx"], _one_of("torch", "onnx"), _NO_DEFAULT]
Device = Annotated[Literal["auto", "cpu", "cuda"] | None, _one_of("auto", "cpu", "cuda"), _NO_DEFAULT]
Actions = Annotated[Literal["greedy", "sampled"] | None, _one_of("greedy", "sampled"), _NO_DEFAULT]
Sampler = Annotated[Literal["inline", "central"] | None, _one_of("inline", "central"), _NO_DEFAULT]
Workers = Annotated[int | None, _value(_natural, "N"), _NO_DEFAULT]
Name = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
Folder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
File = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
Flag = Annotated[bool, arg(help_behavior_hint="")]
Numbers = Annotated[tuple[float, ...], _values(read_number, "X"), _NO_DEFAULT]
Seeds = Annotated[tuple[int, ...], _values(_natural, "N"), _NO_DEFAULT]
Milliseconds = Annotated[float | None, _value(_not_negative, "X"), _NO_DEFAULT]
Words = tuple[str, ...]
RunFolders = Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="")]
RunFolderArgument = Annotated[Positional[Path], arg(metavar="RUN", help_behavior_hint="")]
