"""Markup: everything that goes into the page passes here, and text is escaped."""

from __future__ import annotations

from typing import Any

from frugalrl.report.figures.svg import text_of

__all__ = ["tag", "text_of"]


def tag(name: str, *children: str, **attributes: Any) -> str:
    """An element. Children are markup; attributes are escaped, ``class_`` is ``class``, ``data_v`` is ``data-v``,
    True stands alone and None is left out."""
    parts = [name]
    for key, value in attributes.items():
        known = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(known)
        elif value is not None:
            parts.append(f'{known}="{text_of(value)}"')
    return f"<{' '.join(parts)}>{''.join(children)}</{name}>"
