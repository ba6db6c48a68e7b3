"""Put the measured readings into docs/page.md: `python -m docs.make_page_table`.

Measured anew: `python -m benchmarks.page_speed runs/small runs/fast runs/seed runs/keras-cnn --out
benchmarks/results/page-speed-epyc-2-threads.json`, on a quiet machine.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.page_speed import report
from benchmarks.verdict import fill

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "page.md"
RESULT = ROOT / "benchmarks" / "results" / "page-speed-epyc-2-threads.json"


def page() -> str:
    """docs/page.md with the table of RESULT between its markers."""
    return fill(PAGE.read_text(), {RESULT.stem: report(json.loads(RESULT.read_text()))})


if __name__ == "__main__":
    PAGE.write_text(page())
