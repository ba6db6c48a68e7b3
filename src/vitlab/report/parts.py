"""What a report is made of, and how numbers are said in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vitlab.pictures.style import Figure


@dataclass(frozen=True)
class Picture:
    """A picture with its file's ``name``, a title, words for who cannot see it, and sentences that say how to read it;
    ``vector``: it consists of lines, so that it is kept as SVG too; ``fact``: what it shows, where it is not seen."""

    name: str
    title: str
    figure: Figure
    alt: str
    text: str
    vector: bool = False
    fact: str = ""


@dataclass(frozen=True)
class Missing:
    """A picture that cannot be drawn, and why in one line."""

    title: str
    reason: str


@dataclass(frozen=True)
class Section:
    """Pictures that belong together."""

    title: str
    parts: Sequence[Picture | Missing]


def percent(fraction: float, digits: int = 2) -> str:
    """0.9942 -> 99.42 %."""
    return f"{100 * fraction:.{digits}f} %"


def between(interval: Sequence[float], digits: int = 2) -> str:
    """An interval of fractions: 99.25 to 99.55 %."""
    return f"{100 * interval[0]:.{digits}f} to {100 * interval[1]:.{digits}f} %"


def markdown(text: str) -> str:
    """Text from outside as Markdown, where none of its signs means anything and no line ends."""
    return re.sub(r"([\\`*_{}\[\]<>|~$#&])", r"\\\1", " ".join(text.split()))


def duration(seconds: float) -> str:
    """Seconds up to three minutes, then minutes, then hours."""
    if seconds < 180:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def counted(count: int, word: str) -> str:
    """1 image, 2,000 images."""
    return f"{count:,} {word}{'' if count == 1 else 's' if not word.endswith('s') else 'es'}"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
