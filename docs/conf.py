"""The docs site: `make docs` builds it from the Markdown pages of docs/ and the docstrings, without a network."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT / "src"))

import vitlab  # noqa: E402

project = "vitlab"
author = copyright = "the vitlab authors"
release = version = vitlab.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
nitpicky = True

myst_heading_anchors = 4  # anchors of headings, as GitHub makes them: tests/test_docs_links.py

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_display_short_literal_types = True
# Types in signatures may be other projects', whose references would need a network. Names in docstrings are py:obj.
nitpick_ignore_regex = [("py:class", ".*")]

highlight_language = "text"  # of blocks that name none: commands and what they print

html_theme = "furo"
html_title = "vitlab"
html_static_path = ["site"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Pages of the site whose text is a file at the top of the repository, where GitHub looks for it.
TOP_FILES = {
    "CONTRIBUTING.md": "contribute/contributing.md",
    "CHANGELOG.md": "contribute/changelog.md",
    "SECURITY.md": "reference/security.md",
    "README.md": "index.md",
}
ARRAY = re.compile(r"\S*ndarray\[tuple\[(?:Any|~typing.Any), \.\.\.\], \S*dtype\[[~.\w]*?(\w+)\]\]")
LIKE = re.compile(r"[~.\w]*_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]")
ROW = re.compile(r"^\|.*", re.MULTILINE)
SPAN = re.compile(r"``(.+?)``|`([^`]+)`|([^`]+)")  # of a docstring: code, a name, plain text
ENTRY = re.compile(r"^([\w, ]+) : ")  # of a section in a docstring
LINK = re.compile(r"(?<=\]\()[^)#:\s]+(?=[)#])")


def moved(path: Path) -> Path:
    """Where the site has the file ``path`` of the repository."""
    name = TOP_FILES.get(path.relative_to(ROOT).as_posix())
    return DOCS / name if name else path


def read_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put top-level files into their pages, and lead links to such files to those pages."""
    page = origin = DOCS / f"{docname}.md"
    for name, shown_as in TOP_FILES.items():
        if docname != "index" and shown_as == f"{docname}.md":
            origin = ROOT / name
            source[0] = origin.read_text(encoding="utf-8")
            app.env.note_dependency(str(origin))

    def relative(found: re.Match[str]) -> str:
        target = moved((origin.parent / found[0]).resolve())
        return Path(os.path.relpath(target, page.parent)).as_posix()

    source[0] = ROW.sub(unbroken, LINK.sub(relative, source[0]))


def unbroken(row: re.Match[str]) -> str:
    """A row of a table whose numbers stay with their deviations and units when a cell is broken into lines."""
    text = row[0].replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}").replace(" %", "\N{NO-BREAK SPACE}%")
    return text.replace("top-1", "top\N{NON-BREAKING HYPHEN}1")


def read_docstring(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Turn our docstrings, which are plain text with `names`, ``code`` and examples, into reStructuredText. Sections in
    NumPy's style ("Parameters", underlined, then "name : text") become lists."""
    example = section = False
    for number, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if example:
            continue
        if re.fullmatch("-{3,}", line):
            lines[number - 1], lines[number], section = f"**{lines[number - 1]}**", "", True
            continue
        if section:
            line = ENTRY.sub(r"- ``\1``: ", line) if line[:1].strip() else f"  {line.strip()}"
        lines[number] = SPAN.sub(marked, line)


def marked(found: re.Match[str]) -> str:
    """A span as reStructuredText: ``code`` as it is, `names` of the reference as links, other text without markup."""
    code, name, _ = found.groups()
    if code:
        return found[0]
    if name:
        return f":py:obj:`~vitlab.{name}`" if name.split(".")[0] in vitlab.__all__ else f"``{name}``"
    return re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", found[0])


def read_signature(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """NumPy's types as people write them: NDArray[uint8] and ArrayLike; a default that is made anew as `...`."""
    short = [text and LIKE.sub("ArrayLike", ARRAY.sub(r"NDArray[\1]", text)) for text in (signature, returned)]
    return short[0] and short[0].replace("<factory>", "..."), short[1]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", read_signature)
