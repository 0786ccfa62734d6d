"""A drawing in a page, where the page has the colours, and as a file of its own, which has its own."""

from __future__ import annotations

from frugalrl.report.figures.palette import figure_css, literal
from frugalrl.report.figures.svg import LETTER, WIDTH, Drawing, Key, label, line, num, rect, shape, shortened, text_of

PAD = 16
GAP = 18


def inline(drawing: Drawing) -> str:
    """The drawing as an element of a page; its ids are its name. Without a description its title is its label."""
    name = drawing.name
    size = f'viewBox="0 0 {WIDTH} {num(drawing.height)}"'
    if not drawing.desc:
        return f'<svg {size} role="img" aria-label="{text_of(drawing.title)}">{drawing.body}</svg>'
    return (
        f'<svg {size} role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{text_of(drawing.title)}</title><desc id="{name}-d">{text_of(drawing.desc)}</desc>'
        f"{drawing.body}</svg>"
    )


def patterns(methods: int) -> str:
    """What the drawings of a document refer to: markers k0.. and K0.., lines of a legend s0.. ."""
    parts = []
    for i in range(methods):
        parts.append(f'<g id="k{i}">{shape(i, 3.2, f"k{i}")}</g><g id="K{i}">{shape(i, 4.8, f"k{i}")}</g>')
        parts.append(f'<g id="s{i}">{line(0, 6, 26, 6, f"l{i}")}{shape(i, 3.6, f"k{i}", 13, 6)}</g>')
    return f"<defs>{''.join(parts)}</defs>"


def swatch(key: Key) -> str:
    """The sign of a legend's entry: 26 by 12 units."""
    return rect(4, 0, 18, 12, f"r{key.index}") if key.kind == "area" else f'<use href="#s{key.index}"/>'


def sign(key: Key) -> str:
    """The sign as an element of a page."""
    return f'<svg class="sw" aria-hidden="true">{swatch(key)}</svg>'


def legend(keys: tuple[Key, ...]) -> str:
    """A legend as a list of a page; empty where there is nothing to tell apart."""
    entries = "".join(f"<li>{sign(key)}{text_of(key.label)}</li>" for key in keys)
    return f'<ul class="legend">{entries}</ul>' if entries else ""


def standalone(drawing: Drawing, methods: int) -> str:
    """The drawing as an SVG file in light colours, with its title, legend and note."""
    places, below = _places(drawing.keys)
    head, foot = 30.0, drawing.height + 30 + 14
    notes = _wrapped(drawing.note, WIDTH)
    whole = foot + below + 15 * len(notes) + 4
    parts = [
        f'<rect width="100%" height="100%" class="ground" x="{-PAD}" y="{-PAD}"/>',
        label(0, 12, shortened(drawing.title, WIDTH * 1.08), css="h"),
        f'<g transform="translate(0 {num(head)})">{drawing.body}</g>',
    ]
    for key, (x, y) in zip(drawing.keys, places, strict=True):
        words = label(32, 10, shortened(key.label, WIDTH - 40), css="n")
        parts.append(f'<g transform="translate({num(x)} {num(foot + y)})">{swatch(key)}{words}</g>')
    parts += [label(0, foot + below + 12 + 15 * at, words) for at, words in enumerate(notes)]
    style = literal(figure_css(methods) + ".ground{fill:var(--bg)}")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-PAD} {-PAD} {WIDTH + 2 * PAD} {num(whole + 2 * PAD)}" '
        f'width="{(WIDTH + 2 * PAD) * 1.5:.0f}" role="img" aria-labelledby="t d">'
        f'<title id="t">{text_of(drawing.title)}</title><desc id="d">{text_of(drawing.desc)}</desc>'
        f"<style>{style}</style>{patterns(methods)}{''.join(parts)}</svg>\n"
    )


def _places(keys: tuple[Key, ...]) -> tuple[list[tuple[float, float]], float]:
    """Where the entries of a legend stand, row by row, and the height of all."""
    places, x, y = [], 0.0, 0.0
    for key in keys:
        wide = min(36 + len(key.label) * LETTER + 16, WIDTH)
        if x and x + wide > WIDTH + 16:
            x, y = 0.0, y + GAP
        places.append((x, y))
        x += wide
    return places, y + GAP + 4 if keys else 0.0


def _wrapped(words: str, width: float) -> list[str]:
    lines: list[str] = []
    for word in words.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width / LETTER:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
