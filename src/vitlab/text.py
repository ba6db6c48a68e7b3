"""How vitlab writes numbers, names and times for people, and how it prints lines.

Every line that vitlab prints goes through `show` or `say`, because names in it may come from a stranger's run folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def percent(fraction: float, digits: int = 2) -> str:
    """0.9942 -> 99.42 %."""
    return f"{100 * fraction:.{digits}f} %"


def between(interval: Sequence[float], digits: int = 2) -> str:
    """An interval of fractions: 99.25 to 99.55 %."""
    return f"{100 * interval[0]:.{digits}f} to {100 * interval[1]:.{digits}f} %"


def duration(seconds: float) -> str:
    """Seconds up to three minutes, then minutes, then hours."""
    if seconds < 180:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def counted(count: float, word: str) -> str:
    """1 image, 2,000 images, 1.75 epochs, 3 classes."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {word}{'' if count == 1 else 'es' if word.endswith('s') else 's'}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


def few(words: Sequence[str], most: int = 3) -> str:
    """a, b, c and 4 more."""
    return listed([*words[:most], f"{len(words) - most:,} more"] if len(words) > most + 1 else words)


def capitalised(words: str) -> str:
    """With a capital letter first, the others unchanged."""
    return words[:1].upper() + words[1:]


def with_article(name: str, article: str = "a") -> str:
    """a cat, an owl, an 8: as the name is spoken."""
    spoken = name.lower()
    vowel = spoken.startswith(tuple("aeio8")) or spoken in ("11", "18")
    return f"{article}{'n' if vowel else ''} {name}"


def value(what: Any, between: str = " ") -> str:
    """A knob's value as a user types it: on, none, 0.1, 16 64; entries of a list are joined by ``between``."""
    if what is None or what == ():
        return "none"
    if isinstance(what, bool):
        return "on" if what else "off"
    if isinstance(what, tuple):
        return between.join(map(str, what))
    return f"{what:g}" if isinstance(what, float) else str(what)


def quoted(path: Path | str) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def columns() -> int:
    """How many columns a line on standard output may have: those of the terminal, or of the environment variable
    COLUMNS; a pipe or a file takes lines of any length."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal or os.environ.get("COLUMNS") else 10_000


def wrapped(words: str, first: str = "", indent: str = "") -> list[str]:
    """Lines of at most `columns`: ``first`` and ``words``; further lines begin with ``indent``."""
    width = max(20, columns())
    lines = textwrap.wrap(
        words.replace(" %", "\u2007%"),  # a number stays with its sign
        width,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\u2007", " ") for line in lines]


def aligned(rows: Sequence[dict[str, str]], drop: Sequence[str], left: Sequence[str] = ()) -> list[str]:
    """Lines of a table with headings, made from texts by heading. Where it is wider than `columns`, the columns
    ``drop`` are left out, the first one first; nothing is ever cut. ``left``: columns that are not aligned right."""
    names = list(rows[0])
    while True:
        widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
        unwanted = next((name for name in drop if name in names), None)
        if unwanted is None or sum(widths.values()) + 2 * (len(names) - 1) <= columns():
            break
        names.remove(unwanted)
    heads = {name: name for name in names}
    cells = [
        [row[name].ljust(width) if name in left else row[name].rjust(width) for name, width in widths.items()]
        for row in (heads, *rows)
    ]
    return ["  ".join(line).rstrip() for line in cells]


def curve(values: Sequence[float]) -> str:
    """A line of bars for a series, low to high; at most 40, which then are every so many values."""
    step = -(-len(values) // 40)
    shown = [*values[::step]] if step > 1 else list(values)
    low, high = min(shown), max(shown)
    return "".join(BARS[round((value - low) / (high - low) * 7)] if high > low else BARS[3] for value in shown)


BARS = "▁▂▃▄▅▆▇█"


def printable(words: str) -> str:
    r"""``words`` on one line, with everything escaped that a terminal could obey: control characters (\x1b), marks that
    change the direction of text (\u202e), line breaks. Letters and signs of any script stay."""
    return words if words.isprintable() else "".join(map(_visible, words))


def _visible(letter: str) -> str:
    if letter.isprintable() or letter in JOINERS or unicodedata.category(letter) == "Zs":
        return letter
    return letter.encode("unicode_escape").decode()


JOINERS = "\u200c\u200d"  # of letters, for example in Persian, and of emoji


def shows(words: str) -> bool:
    """Whether standard output can show these characters."""
    try:
        words.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Ignore:
    """Where messages go that nobody reads: it does nothing, and unlike a lambda it can be read in a signature."""

    def __call__(self, *arguments: object) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return "ignore"


ignore = Ignore()


def show(*lines: str) -> None:
    """Lines on standard output, at once; nowhere if that is closed."""
    if sys.stdout is not None:
        print(*map(printable, lines), sep="\n", flush=True)  # noqa: T201


def say(line: str) -> None:
    """A line on standard error, at once; nowhere if that is closed."""
    if sys.stderr is not None:
        print(printable(line), file=sys.stderr, flush=True)  # noqa: T201
