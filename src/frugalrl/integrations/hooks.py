"""What the hooks into other people's trainers share: a package that may be missing, and settings by name."""

from __future__ import annotations

import importlib
from numbers import Real
from typing import TYPE_CHECKING, Any

from frugalrl.math.importance import Correction
from frugalrl.policies.transforms import parse
from frugalrl.types import UserError

if TYPE_CHECKING:
    from torch import nn


def needed(package: str, user: str, extra: str) -> Any:
    """The module ``package``.

    Raises:
        UserError: it is not installed; says that ``user`` needs it and which extra of FrugalRL brings it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        # a package that is there and misses one of its own is another story
        if error.name != package:
            raise
        raise UserError(f"{user} needs the package {package}; run: pip install 'frugalrl[{extra}]'") from None


def as_correction(text: str | Correction) -> Correction:
    """A correction, or its short name. Raises UserError."""
    if isinstance(text, Correction):
        return text
    if not isinstance(text, str):
        raise UserError(
            f"correction={text!r} is no correction: give a short name such as 'token-tis:2' ('none' corrects nothing), "
            f"or a frugalrl.importance.Correction"
        )
    try:
        return Correction.parse(text)
    except ValueError as error:
        raise UserError(str(error)) from None


def as_uniform_share(share: float) -> float:
    """The share of exploratory actions that are uniform. Raises UserError for what is no number in [0, 1]."""
    if not isinstance(share, Real) or not 0.0 <= share <= 1.0:
        raise UserError(f"uniform_share is a share of the exploratory actions, in [0, 1], but is {share!r}")
    return share


def as_transform(name: str, where: str) -> str:
    """A transform's name. Raises UserError, which calls the setting ``where``, for one that is not known."""
    if not isinstance(name, str):
        raise UserError(
            f"{where}={name!r} is no name of a transform, such as 'int8' or 'none'; see frugal list transforms"
        )
    parse(name, where)
    return name


def copy_buffers(learner: nn.Module, sampler: nn.Module) -> None:
    """Every buffer of the learner into the sampler's of the same name: snapshots of a policy have parameters only."""
    buffers = dict(sampler.named_buffers())
    for name, of_learner in learner.named_buffers():
        # a table that grows with the longest input is each model's own
        if name in buffers and buffers[name].shape == of_learner.shape:
            buffers[name].copy_(of_learner)
