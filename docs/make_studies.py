"""Write the tables and pictures of the committed studies again, from their rows: after a change to how they are made.

    python docs/make_studies.py [FOLDER ...]

Nothing is trained. Circumstances (machine, versions, dates) are those that the tables have.
Then `python -m docs.make_tables` puts the tables into the pages.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vitlab import files
from vitlab.look.study import draw, read_lines
from vitlab.studies import table

STUDIES = Path(__file__).resolve().parents[1] / "studies"


def render(folder: Path) -> None:
    """The three tables of one study, and its picture."""
    facts, lines, _ = read_lines(folder, folder / "runs")
    notes = table.notes(lines, facts["circumstances"])
    saved = files.read_json(folder / "table.json")
    files.write_json(folder / "table.json", saved | {"lines": [line.to_dict() for line in lines]})
    files.write_bytes(folder / "table.md", table.markdown(lines, notes).encode())
    files.write_bytes(folder / "table.csv", table.comma_separated(lines).encode())
    draw(facts["study"], lines, folder)


if __name__ == "__main__":
    for path in [*map(Path, sys.argv[1:])] or sorted(path.parent for path in STUDIES.glob("*/table.json")):
        render(path)
