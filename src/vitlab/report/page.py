"""The report as one HTML file: images and style inside it, no script, nothing from the network."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple

from vitlab.report.answer import Answer
from vitlab.report.parts import Missing, Picture, Section

HALF = 6.0  # inches: narrower pictures stand two beside each other
MIME = {"png": "image/png", "svg": "image/svg+xml"}
# Says to the browser what is true anyway: this page fetches nothing and runs nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Table(NamedTuple):
    """Rows of text under a title; ``head`` may be empty, cells in ``bold`` (row, column) stand out, and cells in
    ``links`` (row, column) lead to a relative address."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]] = frozenset()
    links: Mapping[tuple[int, int], str] = {}


def page(
    title: str,
    subtitle: str,
    answer: Answer,
    sections: Sequence[Section],
    images: Mapping[str, tuple[str, bytes]],
    groups: Mapping[str, Sequence[Table]],
    footer: str,
) -> str:
    """The whole file. ``images`` are the pictures' bytes by name, with "png" or "svg"; ``groups`` are tables under a
    heading each."""
    names = [*(section.title for section in sections), *groups]
    body = [
        "<header>",
        f"<h1>{escape(title)}<small>{escape(subtitle)}</small></h1>",
        answer_block(answer),
        navigation(names),
        "</header>",
        "<main>",
        *(section_block(section, images) for section in sections),
        *(tables_block(name, tables) for name, tables in groups.items()),
        "</main>",
        f"<footer><p>{escape(footer)}</p></footer>",
    ]
    style = files("vitlab.report").joinpath("page.css").read_text(encoding="utf-8")
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n'
    )
    return head + "<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"


def html(text: str) -> str:
    """Text from outside as HTML, with numbers and their signs on one line."""
    return re.sub(r"(?<=\d) x (?=\d)", "\u00a0x\u00a0", escape(text)).replace(" %", "\u00a0%")


def answer_block(answer: Answer) -> str:
    """The number, its sentence, facts and comparisons."""
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{html(text)}</dd></div>" for name, text in answer.facts)
    said = "".join(f"<p>{html(text)}</p>" for text in answer.comparisons)
    lead = f'<p class="number">{html(answer.number)}</p><p class="sentence">{html(answer.sentence)}</p>'
    return f"{lead}<dl>{facts}</dl>{said}"


def anchor(title: str) -> str:
    """A heading's address inside the page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def navigation(titles: Sequence[str]) -> str:
    """Links to the sections."""
    links = "".join(f'<li><a href="#{anchor(title)}">{escape(title)}</a></li>' for title in titles)
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>'


def section_block(section: Section, images: Mapping[str, tuple[str, bytes]]) -> str:
    """A heading with its pictures."""
    parts = [
        missing_block(part) if isinstance(part, Missing) else picture_block(part, images[part.name])
        for part in section.parts
    ]
    heading = f'<h2 id="{anchor(section.title)}">{escape(section.title)}</h2>'
    return f'<section>{heading}<div class="pictures">{"".join(parts)}</div></section>'


def picture_block(picture: Picture, image: tuple[str, bytes]) -> str:
    """One picture as a figure."""
    kind, data = image
    address = f"data:{MIME[kind]};base64,{base64.b64encode(data).decode()}"
    heading = f"<h3>{escape(picture.title)}</h3>" if picture.title else ""
    inches = picture.figure.get_size_inches()
    wide = ' class="wide"' if inches[0] > HALF else ""
    size = f'width="{round(100 * inches[0])}" height="{round(100 * inches[1])}"'  # keeps its place while it loads
    scrolls = reachable(picture.title or picture.alt) if wide else ""
    return (
        f"<figure{wide}>{heading}"
        f'<div class="frame"{scrolls}><img src="{address}" alt="{escape(picture.alt)}" {size}></div>'
        f"<figcaption>{html(picture.text)}</figcaption></figure>"
    )


def reachable(label: str) -> str:
    """Attributes of a block that scrolls sideways on a narrow screen, so that the keyboard can do it, too."""
    return f' tabindex="0" role="region" aria-label="{escape(label)}"'


def missing_block(missing: Missing) -> str:
    """What is not there, and why."""
    return f'<div class="missing"><h3>{escape(missing.title)}</h3><p>Not drawn: {escape(missing.reason)}.</p></div>'


def tables_block(title: str, tables: Sequence[Table]) -> str:
    """Tables under one heading, in columns where they are small."""
    narrow = all(len(row) <= 2 for table in tables for row in table.rows)
    inner = "".join(table_block(table) for table in tables)
    kind, scrolls = ("tables", "") if narrow else ("scroll", reachable(title))
    return f'<section><h2 id="{anchor(title)}">{escape(title)}</h2><div class="{kind}"{scrolls}>{inner}</div></section>'


def table_block(table: Table) -> str:
    """One table; the first column names the rows."""
    caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = "".join(f"<tr>{row_cells(table, number)}</tr>" for number in range(len(table.rows)))
    return f"<table>{caption}{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{rows}</tbody></table>"


def row_cells(table: Table, row: int) -> str:
    """The cells of one row."""
    cells = []
    for column, text in enumerate(table.rows[row]):
        link = table.links.get((row, column))
        inner = escape(text) if link is None else f'<a href="{escape(link)}">{escape(text)}</a>'
        mark = ' class="changed"' if (row, column) in table.bold else ""
        cells.append(f'<th scope="row">{inner}</th>' if column == 0 else f"<td{mark}>{inner}</td>")
    return "".join(cells)
