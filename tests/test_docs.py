"""What the documentation says can be typed, found and linked."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks import (
    cold_start,
    drawn_digits,
    gpu_profile,
    growth,
    inference,
    novelty,
    page_speed,
    serve_load,
    throughput,
    validation,
)
from benchmarks.duel import tables
from benchmarks.pages import fill
from docs import make_knobs, make_studies
from vitlab.cli.flags import chosen_config, given_knobs
from vitlab.cli.main import build_parser
from vitlab.config.presets import PRESETS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?(vitlab [^\n#|]*)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def commands() -> list[tuple[str, str]]:
    """(page, command) of every vitlab command line in a fenced block."""
    blocks = [(page.name, block) for page in PAGES for block in FENCED.findall(page.read_text())]
    return [(page, text.strip()) for page, block in blocks for text in COMMAND.findall(block)]


@pytest.mark.parametrize(("page", "text"), commands(), ids=str)
def test_every_command_in_the_documentation_parses(page: str, text: str) -> None:
    parser, children = build_parser()
    words = shlex.split(text)[1:]
    arguments, unknown = parser.parse_known_args(words)
    children[arguments.command].refuse_unknown(unknown)
    if arguments.command == "train" and arguments.config is None:
        chosen_config(arguments.preset, None, given_knobs(arguments))


def test_there_are_commands_to_check() -> None:
    assert len([page for page, _ in commands() if page == "README.md"]) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_table_of_knobs_is_up_to_date() -> None:
    """If not: python docs/make_knobs.py."""
    assert (ROOT / "docs" / "reference" / "knobs.md").read_text() == make_knobs.page()


def test_the_tables_of_the_seed_are_those_of_the_studies() -> None:
    """If not: python -m docs.make_studies."""
    page = (ROOT / "docs" / "understand" / "seed-results.md").read_text()
    assert page.count("<!-- /studies/") == 2
    assert make_studies.page() == page


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("dependencies = [", 1)[1].split("]", 1)[0]
    names = re.findall(r'"([a-z0-9-]+)', block)
    reasons = (ROOT / "docs" / "contribute" / "dependencies.md").read_text()
    assert len(names) > 5
    for name in names:
        assert f"| {name} |" in reasons, name


def test_the_tour_shows_every_file() -> None:
    tour = (ROOT / "docs" / "contribute" / "tour.md").read_text()
    for path in (ROOT / "src" / "vitlab").iterdir():
        if path.name.startswith("_") or path.name == "py.typed":
            continue
        assert f"  {path.name}{'/' if path.is_dir() else ''} " in tour, path.name


def test_nothing_is_left_to_be_filled_in() -> None:
    texts = [page.read_text() for page in PAGES] + [str(preset) for preset in PRESETS.values()]
    for sign in ("@@", "TODO", "FIXME", "to be measured", "TBD"):
        assert not [text[:40] for text in texts if sign in text], sign


REPORTS = {
    "cold-start": cold_start.report,
    "drawn-digits": drawn_digits.report,
    "growth": growth.report,
    "gpu-profile": gpu_profile.report,
    "inference": inference.report,
    "novelty": novelty.report,
    "page-speed": page_speed.report,
    "profile": throughput.report,
    "serve-load": serve_load.report,
    "throughput": throughput.report,
}


def measured_tables() -> dict[str, dict[str, str]]:
    """Of every result file, the tables that pages may show, by their names."""
    made = {}
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        measured, name = json.loads(path.read_text()), path.stem
        if name.startswith("proof-"):  # a page of its own, see tests/test_proof.py
            continue
        report = next((report for start, report in REPORTS.items() if name.startswith(start)), None)
        if report:
            made[name] = {name: report(measured)}
        elif "common" in measured:
            made[name] = {name: validation.table(measured["rows"])}
        else:
            made[name] = tables(name, measured)
    return made


def test_tables_of_measurements_are_the_measured_ones() -> None:
    """If not: python -m benchmarks.duel (or what made the file) --show FILE --into PAGE."""
    made, texts = measured_tables(), [page.read_text() for page in PAGES if page.name != "seed-results.md"]
    for own in made.values():
        for text in texts:
            assert fill(text, own) == text
    shown = [name for text in texts for name in re.findall(r"<!-- /(.*) -->", text)]
    marks = [mark for text in texts for mark in re.findall(r"<!-- (.*) -->", text)]
    assert sorted(marks) == sorted([*shown, *(f"/{name}" for name in shown)])  # each is opened and closed
    assert len(set(shown)) == len(shown)
    known = {name for own in made.values() for name in own}
    assert set(shown) <= known
    assert [name for name, own in made.items() if not own.keys() & set(shown)] == []  # no file that no page shows
