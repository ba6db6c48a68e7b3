"""What a report consists of, and what its templates share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.figure import Figure

from vitlab import text

if TYPE_CHECKING:
    from jinja2 import Environment

UNLIKELY = 0.05  # a difference with a lower p-value is hardly chance


class Picture(NamedTuple):
    """A figure with its file's ``name``, a title, alternative text, and sentences that say how to read it; ``vector``:
    it consists of lines, so it is saved as SVG too; ``fact``: what it shows, for text without the figure."""

    name: str
    title: str
    figure: Figure
    alt: str
    text: str
    vector: bool = False
    fact: str = ""


class Missing(NamedTuple):
    """A picture that cannot be drawn, and the reason in one line."""

    title: str
    reason: str


class Section(NamedTuple):
    """Pictures that belong together, and those that cannot be drawn; ``is_folded``: a report shows its title, and the
    rest when the reader opens it."""

    title: str
    parts: Sequence[Picture | Missing]
    is_folded: bool = False

    @property
    def pictures(self) -> list[Picture]:
        return [part for part in self.parts if isinstance(part, Picture)]

    @property
    def missing(self) -> list[Missing]:
        return [part for part in self.parts if isinstance(part, Missing)]


class Answer(NamedTuple):
    """The head of a report: a number, the sentence that it starts, named facts, and comparisons in sentences."""

    number: str
    sentence: str
    facts: Sequence[tuple[str, str]]
    comparisons: Sequence[str]


class Table(NamedTuple):
    """Rows of text under a title; without a ``head`` they are names and values. Cells (row, column) in ``bold`` stand
    out, those in ``links`` lead to a relative address."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]] = frozenset()
    links: Mapping[tuple[int, int], str] = {}


def templates(
    autoescape: bool, finalize: Callable[[Any], Any] | None = None, package: str = "vitlab.look"
) -> Environment:
    """The templates of ``package``, with the filters that they use."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader(package), autoescape=autoescape, finalize=finalize, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters |= {name: getattr(text, name) for name in ("percent", "between", "duration", "counted")}
    made.filters |= {"no_break": no_break, "markdown": markdown}
    made.filters["json"] = lambda value, indent=None: Markup(json.dumps(value, indent=indent))
    return made


def chance_words(chance: float) -> str:
    """What a p-value means."""
    return "this may be chance" if chance > UNLIKELY else "this is unlikely to be chance"


def no_break(sentence: str) -> str:
    """The sentence with numbers and their units on one line."""
    return re.sub(r"(?<=\d) x (?=\d)", "\u00a0x\u00a0", sentence).replace(" %", "\u00a0%")


def markdown(words: Any) -> str:
    """Text for one line of Markdown, with everything escaped that Markdown, HTML or a terminal would obey, among it
    what looks like an address of the web."""
    plain = text.printable(" ".join(str(words).split()))
    marked = re.sub(r"([\\*_{}\[\]|~$#])", r"\\\1", plain.replace("&", "&amp;"))
    marked = marked.replace("<", "&lt;").replace(">", "&gt;").replace("`", "&#96;")
    return re.sub(r"(www)\.", r"\1\\.", marked.replace("://", r"\://"), flags=re.IGNORECASE)
