"""Methods that are a sampler and its correction, by one word: ``TRANSFORM[-CORRECTION]``.

====================  =========================================================================================
transform             ``fp32`` (as the learner), ``bf16``, ``int8``, ``intK`` with K from 2 to 8 bits, ``staleK``: K
                      updates behind
correction            ``none``; ``tisC``: token-tis:C; ``mask``: token-mask:0.5,5; ``seq-tisC``: sequence-tis:C;
                      ``seq-maskC``: sequence-mask:C, with C = 2 when left out; ``vanilla``; ``ppo-denominator``
====================  =========================================================================================

``fp32``, ``int4-none``, ``int4-tis2``, ``int4-seq-mask``, ``stale8-ppo-denominator``. Without a correction the recipe's
stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from frugalrl.run.config_io import hint
from frugalrl.types import UserError

_TRANSFORM = re.compile(r"(fp32|bf16|int[2-8]|stale[1-9]\d*)(?:-(.*))?")
_NUMBER = r"(\d+(?:\.\d+)?)"
_CORRECTIONS: tuple[tuple[re.Pattern[str], Callable[[str | None], str]], ...] = (
    (re.compile("(none|vanilla|ppo-denominator)"), lambda name: str(name)),
    (re.compile(f"tis{_NUMBER}"), lambda c: f"token-tis:{c}"),
    (re.compile(f"seq-tis{_NUMBER}"), lambda c: f"sequence-tis:{c}"),
    (re.compile(f"seq-mask{_NUMBER}?"), lambda c: f"sequence-mask:{c or 2}"),
    (re.compile("(mask)"), lambda _: "token-mask:0.5,5"),
)
EXAMPLES = ("none", "tis2", "seq-tis2", "seq-mask", "mask", "vanilla", "ppo-denominator")


def read_sampler(word: str) -> tuple[str, str | None] | None:
    """``sampler.transform`` and ``agent.correction`` (None: the recipe's) that a word stands for.

    None for a word that does not begin with a transform. Raises UserError for an unknown correction behind one.
    """
    found = _TRANSFORM.fullmatch(word)
    if found is None:
        return None
    name, rest = found[1], found[2]
    transform = "none" if name == "fp32" else re.sub(r"stale(\d+)", r"stale:\1", name)
    if rest is None:
        return transform, None
    for pattern, write in _CORRECTIONS:
        matched = pattern.fullmatch(rest)
        if matched is not None:
            return transform, write(matched[1])
    raise UserError(f"method {word!r}: {rest!r} is no correction{hint(rest, EXAMPLES)}")
