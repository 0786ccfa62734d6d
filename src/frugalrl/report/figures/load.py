"""Where the compute goes: one bar per method, cut by role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from frugalrl.report.figures.svg import LETTER, WIDTH, Drawing, Key, label, rect, shortened
from frugalrl.report.numbers import digits, scale_for
from frugalrl.report.results import EnvResult
from frugalrl.types import ROLES

SHADE = {"environment": 0, "inference": 1, "learner": 2, "target": 3, "replay": 4, "correction": 5, "evaluation": 6}
"""Blue is the sampler, orange the learner, grey the rest."""
OTHER, SMALL = "other", 0.015
ROW, BAR = 42.0, 17.0


def load_figures(env: EnvResult, stem: str, *, hints: bool) -> list[Drawing]:
    """CPU-seconds and FLOPs at the end of the budget, where they are known."""
    found = []
    for quantity in ("cpu_s", "flop"):
        shares = {m.method: m.cpu_s_by_role if quantity == "cpu_s" else m.flop_by_role for m in env.methods}
        if any(v > 0 for by_role in shares.values() for v in by_role.values()):
            found.append(_bars(env, shares, "cpu_s" if quantity == "cpu_s" else "flop", stem, hints=hints))
    return found


def _bars(
    env: EnvResult,
    shares: Mapping[str, Mapping[str, float]],
    quantity: Literal["cpu_s", "flop"],
    stem: str,
    *,
    hints: bool,
) -> Drawing:
    what, unit = ("CPU time", "CPU-s") if quantity == "cpu_s" else ("FLOPs", "FLOP")
    totals = {method: sum(by_role.values()) for method, by_role in shares.items()}
    scale = scale_for(unit, totals.values())
    longest = max(sum(max(v, 0.0) for v in by_role.values()) for by_role in shares.values())
    drawn, used = [], set()
    for row, (method, by_role) in enumerate(shares.items()):
        top, x = 6 + row * ROW, 0.0
        amount = f"{digits(totals[method] / scale.factor)} {scale.unit}" if by_role else "not measured"
        drawn.append(label(0, top + 11, shortened(method, WIDTH - (len(amount) + 2) * LETTER), css="n"))
        drawn.append(label(WIDTH, top + 11, amount, anchor="end", css="v"))
        for role, value in gathered(by_role, longest):
            wide, share = value / longest * WIDTH, value / max(totals[method], 1e-300)
            shade = shade_of(role)
            used.add(role)
            hint = f"{role}: {digits(value / scale.factor)} {scale.unit}, {digits(100 * share)} %"
            drawn.append(rect(x, top + 17, wide, BAR, f"r{shade} cut", hint if hints else ""))
            x += wide
    order = [*(role for role in ROLES if role in used), *([OTHER] if OTHER in used else [])]
    rows = [(env.env, m, role, v) for m, by_role in shares.items() for role, v in by_role.items()]
    return Drawing(
        name=f"{stem}-load-{quantity.replace('_', '-')}",
        title=f"{what} by role",
        desc=f"{env.env}: {what} by role at the end of the budget, mean over runs. "
        + " ".join(f"{m}: {_largest(by_role)}." for m, by_role in shares.items()),
        height=6 + ROW * len(shares),
        body="".join(drawn),
        keys=tuple(Key(role, "area", shade_of(role)) for role in order),
        header=("env", "method", "role", quantity),
        rows=tuple(rows),
    )


def gathered(by_role: Mapping[str, float], whole: float) -> list[tuple[str, float]]:
    """Roles in their order with what they used; those too small to be seen, and those without a shade, as one."""
    order = [*(r for r in ROLES if r in by_role), *(r for r in by_role if r not in ROLES)]
    seen = [(r, by_role[r]) for r in order if r in SHADE and by_role[r] >= SMALL * whole]
    names = {r for r, _ in seen}
    rest = sum(max(by_role[r], 0.0) for r in order if r not in names)
    return [*seen, (OTHER, rest)] if rest > 0 else seen


def shade_of(role: str) -> int:
    """The shade of a role."""
    return SHADE.get(role, 7)


def _largest(by_role: Mapping[str, float]) -> str:
    total = sum(by_role.values())
    if not total:
        return "not measured"
    top = sorted(by_role.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{role} {digits(100 * value / total)} %" for role, value in top)
