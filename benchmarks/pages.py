"""Tables of measurements in pages, between `<!-- name -->` and `<!-- /name -->` with the name of the result file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vitlab.files import write_bytes


def fill(page: str, tables: Mapping[str, str]) -> str:
    """``page`` with each table put between its two marks, where the page has them."""
    for name, made in tables.items():
        before, opening, rest = page.partition(f"<!-- {name} -->")
        _, closing, after = rest.partition(f"<!-- /{name} -->")
        if closing:
            page = f"{before}{opening}\n{made}\n{closing}{after}"
    return page


def renew(paths: Iterable[Path], tables: Mapping[str, str]) -> None:
    """Fill the pages at ``paths`` in place."""
    for path in paths:
        write_bytes(path, fill(path.read_text(encoding="utf-8"), tables).encode())
