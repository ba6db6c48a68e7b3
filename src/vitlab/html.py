"""Small pieces of HTML for notebooks. Every text is escaped: names may come from a stranger's files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from vitlab.text import printable

CELL = "padding:2px 10px;border:0;vertical-align:middle;white-space:nowrap"


def text(words: object) -> str:
    """Words as HTML, on one line."""
    return escape(printable(str(words)))


def bold(words: object) -> str:
    """The same in bold."""
    return f"<b>{text(words)}</b>"


def picture(png: bytes, side: int, name: str) -> str:
    """A small PNG as a square of ``side`` pixels on the screen, with sharp pixels."""
    data = base64.b64encode(png).decode()
    style = f"width:{side}px;height:{side}px;image-rendering:pixelated;border:1px solid #8884"
    return f'<img src="data:image/png;base64,{data}" alt="{text(name)}" style="{style}">'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table of pieces of HTML; all but the first ``texts`` columns are aligned to the right, as numbers are."""
    sides = ["left" if place < texts else "right" for place in range(max([len(heads), *map(len, rows)]))]

    def row(cells: Sequence[str], tag: str) -> str:
        made = [
            f'<{tag} style="{CELL};text-align:{side}">{cell}</{tag}>' for cell, side in zip(cells, sides, strict=False)
        ]
        return f"<tr>{''.join(made)}</tr>"

    head = f"<thead>{row([text(word) for word in heads], 'th')}</thead>" if heads else ""
    body = "".join(row(cells, "td") for cells in rows)
    return (
        f'<table style="border-collapse:collapse;font-variant-numeric:tabular-nums">{head}<tbody>{body}</tbody></table>'
    )


def block(*parts: str) -> str:
    """Parts below each other, as wide as they need to be."""
    return f'<div style="line-height:1.5">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def figure(png: bytes, name: str) -> str:
    """A PNG as wide as it is, but not wider than the page."""
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{text(name)}" style="max-width:100%">'
