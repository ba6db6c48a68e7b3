"""What the documentation says can be typed, found and linked."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.pages import both_forms
from docs import make_knobs, make_tables
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


def test_tables_of_measurements_are_the_measured_ones() -> None:
    """If not: python -m docs.make_tables."""
    reports = make_tables.reports()
    assert make_tables.stale(reports) == []
    shown: set[str] = set()
    for page in make_tables.PAGES:
        marks = re.findall(r"<!-- (.*) -->", page.read_text())
        names = [mark.removeprefix("/") for mark in marks if mark.startswith("/")]
        assert sorted(marks) == sorted([*names, *(f"/{name}" for name in names)]), page  # each opened and closed, once
        assert len(set(names)) == len(names), page
        shown |= set(names)
    assert shown <= both_forms(reports).keys()
    assert {name for name in reports if not name.startswith("studies/")} <= shown  # every file, in full


def test_tables_in_the_text_are_narrow() -> None:
    """At most five columns fit a page; all of them are in tables.md."""
    free = {"tables.md", "reliability.md", "knobs.md"}  # reliability.md has seven columns of short numbers
    for page in PAGES:
        wide = [line for line in page.read_text().splitlines() if line.startswith("| ---") and line.count("|") > 6]
        assert not wide or page.name in free, page


def test_the_python_block_of_the_readme_runs(tmp_path: Path) -> None:
    block = next(text for text in re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S))
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "first" / "result.json").exists()
