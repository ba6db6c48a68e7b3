"""How the knob ``class_weight`` is written: none, balanced, or numbers for the classes.

A knob's value is text, which is the same on the command line, in config.json and in a digest: "1,1,5" has a number for
each class in the order of the classes; "cat=5,dog=2" names some, and the others weigh 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vitlab.config.hints import value_hint
from vitlab.errors import ConfigError
from vitlab.text import counted, few

WORDS = ("none", "balanced")


def written(value: object) -> object:
    """What a user may give, text, {"cat": 5, "dog": 2} or [1, 1, 5], as text that is the same for the same numbers;
    None is "none". ConfigError as in `numbers`."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        value = ",".join(f"{name}={one}" for name, one in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        value = ",".join(map(str, value))
    if not isinstance(value, str) or (found := numbers(value)) is None:
        return value
    if isinstance(found, tuple):
        return ",".join(map(_short, found))
    return ",".join(f"{name}={_short(one)}" for name, one in found.items())


def _short(number: float) -> str:
    return repr(number).removesuffix(".0")


def numbers(text: str) -> dict[str, float] | tuple[float, ...] | None:
    """The numbers in ``text``, by name or in the order of the classes; None for "none" and "balanced". ConfigError
    unless each is finite and above 0, and all or none have names."""
    if text in WORDS:
        return None
    pairs = [part.rpartition("=") for part in text.split(",")]
    if len(pairs) == 1 and not pairs[0][1] and not _is_number(pairs[0][2]):
        raise ConfigError(
            f"class_weight must be one of {', '.join(WORDS)}, or numbers such as 1,1,5 or cat=5,dog=2, not {text!r}"
            f"{value_hint('class_weight', text, WORDS)}"
        )
    weights = [_positive(number, text) for _, _, number in pairs]
    if not any(sign for _, sign, _ in pairs):
        return tuple(weights)
    names = [name.strip() for name, _, _ in pairs]
    if not all(sign for _, sign, _ in pairs):
        raise ConfigError(f"class_weight {text!r} mixes numbers with and without a name; name all of them, or none")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"class_weight {text!r} has two numbers for {twice!r}; leave one out")
    return dict(zip(names, weights, strict=True))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _positive(word: str, text: str) -> float:
    weight = float(word) if _is_number(word) else math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise ConfigError(
            f"class_weight {text!r}: {word.strip()!r} is not a number above 0; write 1,1,5 or cat=5,dog=2; "
            f"leave out the images of a class that should not count"
        )
    return weight


def for_classes(text: str, classes: Sequence[str]) -> list[float] | None:
    """A number for each of the ``classes``; None for "none" and "balanced". ConfigError if they do not fit."""
    found = numbers(text)
    if found is None:
        return None
    if isinstance(found, tuple):
        if len(found) != len(classes):
            raise ConfigError(
                f"class_weight has {counted(len(found), 'number')}, but there {'is' if len(classes) == 1 else 'are'} "
                f"{counted(len(classes), 'class')}; give one for each, or names such as {classes[0]}=5"
            )
        return list(found)
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise ConfigError(f"class_weight: there is no class {unknown[0]!r}; the classes are {few(list(classes), 8)}")
    return [found.get(name, 1.0) for name in classes]
