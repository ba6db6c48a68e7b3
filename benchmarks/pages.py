"""Tables of measurements in pages, between `<!-- name -->` and `<!-- /name -->` with the name of the result file.

A page may hold the full tables, or after `<!-- name short -->` their short form: at most five columns, for the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from vitlab.files import write_bytes

WIDEST = 5  # columns of a table in the text
# What the short form of a wider table keeps: the first of these sets of columns that the table has.
SHORT = (
    ("contestant", "test top-1 %", "with shifts and flips", "more accurate", "training s"),
    ("contestant", "test top-1 %", "more accurate", "training s", "times faster"),
    ("contestant", "seeds", "test top-1 %", "with shifts and flips", "training s"),
    ("contestant", "seeds", "test top-1 %", "with shifts", "training s"),
    ("recipe", "seeds", "validation top-1 %", "difference", "with shifts"),
    ("preset", "batch", "ms a step", "images/s", "of bf16 ceiling"),
    ("preset", "batch", "ms a step", "images/s", "of fp32 ceiling"),
    ("preset", "runtime", "ms for one image", "images/s, 32 at once", "images/s, 1,000 at once"),
    ("preset", "runtime", "ms for one image", "images/s, 32 at once", "images/s, 256 at once"),
    ("run", "load", "answers/s", "p99 ms", "refused"),
    ("run", "parameters", "forward ms", "reading ms", "largest difference from torch"),
    ("run", "preset, epochs", "30 drawn digits, centred", "uncentred", "test digits as they are"),
    ("network", "form", "top-1", "weights, kB", "ms, 1 at once"),
    ("network", "form", "Arm: flash, kB", "RAM, kB", "million instructions an image"),
    ("cell", "accuracy %", "page: accuracy %", "training s", "verdict"),
    ("cell", "accuracy %", "95 % interval", "page: accuracy %", "training s"),
    ("cell", "seeds", "accuracy %", "95 % interval", "rank"),
)


def fill(page: str, reports: Mapping[str, str]) -> str:
    """``page`` with each report put between its two marks, in full or short, where the page has them."""
    for name, made in both_forms(reports).items():
        before, opening, rest = page.partition(f"<!-- {name} -->")
        _, closing, after = rest.partition(f"<!-- /{name} -->")
        if closing:
            page = f"{before}{opening}\n{made}\n{closing}{after}"
    return page


def both_forms(reports: Mapping[str, str]) -> dict[str, str]:
    """The reports and their short forms by the names of their marks."""
    return dict(reports) | {f"{name} short": short(report) for name, report in reports.items()}


def short(report: str) -> str:
    """``report`` with its wide tables cut to the columns in `SHORT`, or left out if they have none of these sets."""
    kept: list[str] = []
    for is_table, block in groupby(report.splitlines(), lambda line: line.startswith("|")):
        lines = [*block]
        kept += cut(lines) if is_table else lines
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept).strip())


def cut(lines: list[str]) -> list[str]:
    """The lines of one table, with at most `WIDEST` columns."""
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    if len(rows[0]) <= WIDEST:
        return lines
    columns = next((names for names in SHORT if set(names) <= set(rows[0])), None)
    places = [rows[0].index(name) for name in columns or ()]
    return ["| " + " | ".join(row[place] for place in places) + " |" for row in rows if places]


def renew(paths: Iterable[Path], reports: Mapping[str, str]) -> None:
    """Fill the pages at ``paths`` in place."""
    for path in paths:
        write_bytes(path, fill(path.read_text(encoding="utf-8"), reports).encode())
