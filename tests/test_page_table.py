"""The measured readings in docs/page.md."""

from __future__ import annotations

import json

from docs import make_page_table


def test_the_table_of_readings_is_the_measured_one() -> None:
    """If not: python -m docs.make_page_table."""
    text = make_page_table.PAGE.read_text()
    assert make_page_table.page() == text
    measured = json.loads(make_page_table.RESULT.read_text())
    lines = text.partition("<!-- page-speed-epyc-2-threads -->")[2].splitlines()
    for name, run in measured["runs"].items():
        row = next(line for line in lines if line.startswith(f"| `{name}` |"))
        forward, reading = run["forward_ms"], run["reading_ms"]
        assert f"| {forward['median']:g} ({forward['p90']:g}) | {reading['median']:g} ({reading['p90']:g}) |" in row
        assert f"| {run['largest_difference']:g} |" in row
    for fact in (measured["environment"]["browser"], measured["environment"]["device_name"], "load "):
        assert any(fact in line for line in lines), fact
