"""What the documentation says can be typed, and is measured or generated. Its links: tests/test_docs_links.py."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import GifImagePlugin

from benchmarks.pages import both_forms
from docs import make_commands, make_knobs, make_studies, make_tables
from docs.links import PAGES
from vitlab.cli.flags import chosen_config, given_knobs
from vitlab.cli.main import build_parser
from vitlab.config.presets import PRESETS

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?(vitlab [^\n#|]*)", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """(page, command) of every vitlab command line in a fenced block."""
    typed = [page for page in PAGES if page != make_commands.PAGE]
    blocks = [(page.name, block) for page in typed for block in FENCED.findall(page.read_text())]
    return [(page, text.strip()) for page, block in blocks for text in COMMAND.findall(block)]


@pytest.mark.parametrize(("page", "text"), commands(), ids=str)
def test_every_command_in_the_documentation_parses(page: str, text: str) -> None:
    parser, children = build_parser()
    words = shlex.split(text)[1:]
    if {"--help", "--help-all", "-h"} & set(words):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        return
    arguments, unknown = parser.parse_known_args(words)
    children[arguments.command].refuse_unknown(unknown)
    if arguments.command == "train" and arguments.config is None:
        chosen_config(arguments.preset, None, given_knobs(arguments))


def test_there_are_commands_to_check() -> None:
    assert len([page for page, _ in commands() if page == "README.md"]) >= 5


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


def test_the_reference_of_commands_is_up_to_date() -> None:
    """If not: python docs/make_commands.py."""
    assert (ROOT / "docs" / "reference" / "command-line.md").read_text() == make_commands.page()


def test_tables_of_studies_are_made_from_their_rows(tmp_path: Path) -> None:
    """If not: python docs/make_studies.py."""
    for study in ("seed-projection", "learn-cut-edges", "seed-image-patch"):
        shutil.copytree(make_studies.STUDIES / study, tmp_path / study)
        committed = {path.name: path.read_text() for path in (tmp_path / study).glob("table.*")}
        make_studies.render(tmp_path / study)
        assert {path.name: path.read_text() for path in (tmp_path / study).glob("table.*")} == committed
    assert "| 3 = |" in (tmp_path / "seed-projection/table.md").read_text()  # by the paired test: 0.32 and 0.18 points


def test_tables_of_measurements_are_the_measured_ones() -> None:
    """If not: python -m docs.make_tables."""
    reports = make_tables.reports()
    assert make_tables.stale(reports) == []
    shown: set[str] = set()
    for page in PAGES:
        marks = re.findall(r"<!-- (.*) -->", page.read_text())
        names = [mark.removeprefix("/") for mark in marks if mark.startswith("/")]
        assert sorted(marks) == sorted([*names, *(f"/{name}" for name in names)]), page  # each opened and closed, once
        assert len(set(names)) == len(names), page
        shown |= set(names)
    assert shown - {"transcript"} <= both_forms(reports).keys()  # that one: tests/test_newcomer.py
    assert {path.stem for path in make_tables.measurements()} <= shown  # every file, in full


def test_tables_in_the_text_are_narrow() -> None:
    """At most five columns fit a page; all of them are in tables.md."""
    free = {"tables.md", "reliability.md", "knobs.md"}  # reliability.md has seven columns of short numbers
    for page in PAGES:
        wide = [line for line in page.read_text().splitlines() if line.startswith("| ---") and line.count("|") > 6]
        assert not wide or page.name in free, page


def test_the_moving_picture_of_the_readme_plays_and_begins_with_its_end() -> None:
    path = ROOT / "docs" / "pictures" / "reads-a-seven.gif"
    assert f"](docs/pictures/{path.name})" in (ROOT / "README.md").read_text()
    assert path.stat().st_size < 2_000_000
    with GifImagePlugin.GifImageFile(path) as picture:
        assert picture.n_frames > 50
        assert picture.info["loop"] == 0  # for ever
        first = picture.convert("RGB")
        picture.seek(picture.n_frames - 1)
        assert first.tobytes() == picture.convert("RGB").tobytes()
