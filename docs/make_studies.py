"""Put the tables of the committed studies into docs/understand/seed-results.md: `python -m docs.make_studies`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.pages import fill

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).parent / "understand" / "seed-results.md"


def page() -> str:
    """The page with each table between its marks, named by the study's folder."""
    tables = {f"studies/{path.parent.name}": path.read_text().rstrip() for path in ROOT.glob("studies/*/table.md")}
    return fill(PAGE.read_text(encoding="utf-8"), tables)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
