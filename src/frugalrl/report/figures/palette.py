"""Colours, dashes and markers that can be told apart without seeing colour, in light and in dark.

The hues are those of Okabe and Ito (2008), darkened on white and lightened on black until lines have a contrast of at
least 3 to 1 with the ground.
"""

from __future__ import annotations

import re

LIGHT = {
    "bg": "#ffffff", "ink": "#1c2128", "soft": "#57606a", "grid": "#e4e7eb", "axis": "#8c959f",
    "c0": "#0067b0", "c1": "#c84c00", "c2": "#00845f", "c3": "#a8488a", "c4": "#8a6500", "c5": "#2b8fc0",
    "c6": "#5b4bb5", "c7": "#6b6b6b",
    "r0": "#0067b0", "r1": "#62aede", "r2": "#c84c00", "r3": "#f0a06a", "r4": "#f6c9a5", "r5": "#8f3600",
    "r6": "#6d7781", "r7": "#a7afb8", "r8": "#d3d8de",
}  # fmt: skip
DARK = {
    "bg": "#14181d", "ink": "#e3e7ec", "soft": "#9aa5b1", "grid": "#2a3038", "axis": "#69737e",
    "c0": "#5ab0f0", "c1": "#ff8f4f", "c2": "#37c79b", "c3": "#e590c4", "c4": "#dfb64a", "c5": "#8fd3f5",
    "c6": "#a99cf0", "c7": "#b5b5b5",
    "r0": "#3d8fd1", "r1": "#93cdf2", "r2": "#d9662b", "r3": "#f3a878", "r4": "#f9d7be", "r5": "#a8511c",
    "r6": "#7d8791", "r7": "#58616b", "r8": "#3b434c",
}  # fmt: skip
COLOURS = 8
DASHES = ("none", "7 3", "2.5 2.5", "9 3 2 3", "5 2 1.5 2 1.5 2")
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "flipped")
SHADES = 9

_COMMON = """
text{font:12px system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--soft);
paint-order:stroke;stroke:var(--bg);stroke-width:3px;stroke-linejoin:round}
text.n{fill:var(--ink)}.v{font-variant-numeric:tabular-nums}text.h{fill:var(--ink);font-weight:600}
.gr{stroke:var(--grid);fill:none}
.ax{stroke:var(--axis);fill:none}.ref{stroke:var(--axis);stroke-dasharray:2 3;fill:none}
.cut{stroke:var(--bg);stroke-width:1}.few{opacity:.38}.an{fill:var(--bg);stroke:var(--ink);stroke-width:1.3}
"""


def figure_css(methods: int) -> str:
    """The rules that the drawings use, colours as variables: lines l0.., bands b0.., error bars e0.., markers k0..,
    roles r0.. ."""
    rules = [_COMMON.strip().replace("\n", "")]
    for i in range(methods):
        colour = f"var(--c{i % COLOURS})"
        dash = DASHES[i % len(DASHES)]
        rules.append(
            f".l{i}{{fill:none;stroke:{colour};stroke-width:1.9;stroke-linejoin:round;stroke-dasharray:{dash}}}"
            f".b{i}{{fill:{colour};fill-opacity:.15}}.e{i}{{fill:none;stroke:{colour};stroke-width:1.5}}"
            f".k{i}{{fill:{colour};stroke:var(--bg);stroke-width:1}}"
        )
    rules += [f".r{i}{{fill:var(--r{i})}}" for i in range(SHADES)]
    return "".join(rules)


def variables(colours: dict[str, str]) -> str:
    """The colours as CSS custom properties."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())


def literal(css: str) -> str:
    """CSS without variables, in light: many programs that read SVG know none."""
    return re.sub(r"var\(--(\w+)\)", lambda m: LIGHT[m.group(1)], css)
