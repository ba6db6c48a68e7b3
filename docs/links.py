"""The links and anchors of the pages; `python -m docs.links` lists the links that lead to other sites.

Anchors are made by the plug-in that MyST uses, which follows GitHub's rule, so they hold on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin

from vitlab.text import show

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAGES = sorted([*ROOT.glob("*.md"), *(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)])
MARKDOWN = MarkdownIt("commonmark").enable("table").use(anchors_plugin, max_level=4)


def tokens(page: Path) -> Iterator[Token]:
    """All tokens of a page, also those within lines."""
    for token in MARKDOWN.parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def targets(page: Path) -> list[str]:
    """Where the links and pictures of a page lead."""
    found = [token.attrGet("href") or token.attrGet("src") for token in tokens(page)]
    return [str(target) for target in found if target]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page."""
    return {str(token.attrGet("id")) for token in tokens(page) if token.type == "heading_open"}


def is_external(target: str) -> bool:
    """Whether a link leads to another site."""
    return target.startswith(("http:", "https:", "mailto:"))


if __name__ == "__main__":
    for one in PAGES:
        for address in targets(one):
            if is_external(address):
                show(f"{one.relative_to(ROOT)}: {address}")
