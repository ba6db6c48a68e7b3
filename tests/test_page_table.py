"""The table of readings: each figure in its own column."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.page_speed import report

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "page-speed-epyc-2-threads.json"


def test_the_table_of_readings_says_what_was_measured() -> None:
    measured = json.loads(RESULT.read_text())
    lines = report(measured).splitlines()
    for name, run in measured["runs"].items():
        row = next(line for line in lines if line.startswith(f"| `{name}` |"))
        forward, reading = run["forward_ms"], run["reading_ms"]
        assert f"| {forward['median']:g} ({forward['p90']:g}) | {reading['median']:g} ({reading['p90']:g}) |" in row
        assert f"| {run['largest_difference']:g} |" in row
    for fact in (measured["environment"]["browser"], measured["environment"]["device_name"], "load "):
        assert any(fact in line for line in lines), fact
