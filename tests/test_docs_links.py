"""Every link and anchor in the documentation leads somewhere. `make docs` checks those of the site once more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vitlab
from docs import links

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", links.PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for target in links.targets(page):
        if links.is_external(target):
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert place.is_relative_to(ROOT), target
        if anchor:
            assert anchor in links.anchors(place), target


def test_anchors_follow_githubs_rule(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# `fast`: 99.0 % in 3 s\n\n## A_b, c-d & e?\n\n## Twice\n\n## Twice\n")
    assert links.anchors(page) == {"fast-990--in-3-s", "a_b-c-d--e", "twice", "twice-1"}


def test_a_link_in_code_is_no_link(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](b.md#c) ![d](e.png) `[f](g.md)`\n\n```\n[h](i.md)\n```\n\n| [j](k.md) |\n| --- |\n")
    assert links.targets(page) == ["b.md#c", "e.png", "k.md"]


def test_the_reference_shows_every_public_name_once() -> None:
    shown = re.findall(r"^\.\. \w+:: vitlab\.([A-Z]?\w+)$", (DOCS / "reference" / "api.md").read_text(), re.MULTILINE)
    assert sorted(name for name in shown if name != "errors") == sorted(vitlab.__all__)
