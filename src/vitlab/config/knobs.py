"""What a knob is, and how nested frozen dataclasses become flags and JSON, and are read back.

A knob's type is str, int, float or bool, a Literal of strings, or a tuple of ints; each may also allow None. `parse`
reads text, `coerce` checks a value from JSON or code.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import operator
import types
import typing
from dataclasses import field, fields, is_dataclass
from typing import Any, Literal, TypeVar

from vitlab.config.hints import knob_hint, value_hint
from vitlab.errors import ConfigError

T = TypeVar("T")
NOT_INERT = object()  # marks a knob that has no inert value
LIMITS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


def knob(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    inert: Any = NOT_INERT,
    essential: bool = False,
) -> Any:
    """A dataclass field with its help text and its limits (for a tuple, the limits of each entry).

    ``essential``: a newcomer needs it; `--help` shows these knobs only, `--help-all` all of them.

    Every knob that is added from now on needs ``inert``: the value at which a run is what it was before the knob
    existed. `RunConfig.digest` leaves out a knob with this value, which keeps the digests of older runs. It must never
    change, even if the default does.
    """
    about = {"help": help, "at_least": at_least, "above": above, "at_most": at_most, "below": below}
    about["essential"] = essential
    return field(default=default, metadata=about if inert is NOT_INERT else about | {"inert": inert})


def fraction(default: float, help: str, inert: Any = NOT_INERT) -> Any:
    """A number from 0 to below 1."""
    return knob(default, help, at_least=0.0, below=1.0, inert=inert)


def amount(
    default: float, help: str, at_most: float | None = None, inert: Any = NOT_INERT, essential: bool = False
) -> Any:
    """A number from 0."""
    return knob(default, help, at_least=0.0, at_most=at_most, inert=inert, essential=essential)


def count(default: int | None, help: str, at_most: int, inert: Any = NOT_INERT, essential: bool = False) -> Any:
    """A whole number from 1."""
    return knob(default, help, at_least=1, at_most=at_most, inert=inert, essential=essential)


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Field name -> resolved type of a dataclass."""
    return typing.get_type_hints(cls)


@functools.cache
def flat_fields(cls: type) -> dict[str, tuple[str, Any]]:
    """Flat knob name -> (section name, dataclass field) over all sections of a configuration class."""
    parts = {section: kind for section, kind in field_types(cls).items() if is_dataclass(kind)}
    return {f.name: (section, f) for section, kind in parts.items() for f in fields(kind)}


def knob_type(cls: type, name: str) -> Any:
    """The resolved type of the knob ``name`` of the configuration class ``cls``."""
    section, _ = flat_fields(cls)[name]
    return field_types(field_types(cls)[section])[name]


def inner_type(kind: Any) -> tuple[Any, bool]:
    """(the type without "| None", whether None is allowed)."""
    return (typing.get_args(kind)[0], True) if isinstance(kind, types.UnionType) else (kind, False)


def choices(kind: Any) -> tuple[str, ...]:
    """The words that a Literal type allows; empty for any other type."""
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def describe(kind: Any) -> str:
    """A type in words, for messages and tables."""
    kind, optional = inner_type(kind)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    word = " or ".join(choices(kind)) or words.get(kind, "whole numbers")
    return f"{word}, or none" if optional else word


def parse(name: str, kind: Any, text: str) -> Any:
    """The value of ``text``, one word of a command line, for the knob ``name``."""
    inner, optional = inner_type(kind)
    if optional and text.lower() == "none":
        return None
    switches = {"true": True, "false": False}
    readers: dict[Any, Any] = {int: int, float: float, bool: lambda word: switches[word.lower()]}
    one = int if typing.get_origin(inner) is tuple else kind  # a tuple arrives one word at a time
    try:
        return coerce(name, one, readers.get(inner_type(one)[0], str)(text))
    except ConfigError:
        raise
    except (KeyError, ValueError):
        raise ConfigError(f"{name} must be {describe(kind)}, not {text!r}") from None


def coerce(name: str, kind: Any, value: Any) -> Any:
    """``value`` as the type ``kind``; ConfigError instead of a conversion that loses anything."""
    inner, optional = inner_type(kind)
    if value is None and optional:
        return None
    if typing.get_origin(inner) is tuple and isinstance(value, list | tuple):
        return tuple(coerce(name, int, entry) for entry in value)
    words = choices(inner)
    if words and value not in words:
        hint = value_hint(name, str(value), words)
        raise ConfigError(f"{name} must be one of {', '.join(words)}, not {value!r}{hint}")
    if inner is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    if words or (inner in (int, float, bool, str) and type(value) is inner):
        return value
    raise ConfigError(f"{name} must be {describe(kind)}, not {shorten(value)}")


def digits(number: Any) -> Any:
    """A number as people write it: 10000000, not 1e+07, and -1, not -1.0."""
    return int(number) if isinstance(number, float) and number.is_integer() and abs(number) < 1e16 else number


def shorten(value: Any) -> str:
    """A value for a message, cut to 80 characters."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number of more than 30 digits"
    return text if len(text) <= 80 else text[:77] + "..."


ALL_KNOBS = "`vitlab train --help-all` lists them"


def check_limits(section: Any) -> None:
    """Raise ConfigError for the first field of a dataclass that has the wrong type or is out of range."""
    kinds = typing.get_type_hints(type(section))
    for f in fields(section):
        value = coerce(f.name, kinds[f.name], getattr(section, f.name))
        object.__setattr__(section, f.name, value)
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, float) and not math.isfinite(entry):
                raise ConfigError(f"{f.name} must be a finite number, not {entry}")
            for rule, holds in LIMITS.items():
                limit = f.metadata.get(rule)
                if entry is not None and limit is not None and not holds(entry, limit):
                    words = rule.replace("_", " ")
                    raise ConfigError(f"{f.name} must be {words} {digits(limit)}, not {shorten(digits(entry))}")


def from_dict(cls: type[T], values: Any) -> T:
    """The dataclass ``cls`` from nested dicts. Missing names take their defaults; unknown names raise ConfigError."""
    if not isinstance(values, dict):
        raise ConfigError(f"{cls.__name__} must be a JSON object, not {values!r}")
    kinds = typing.get_type_hints(cls)
    for name in values:
        if name not in kinds:
            raise ConfigError(f"unknown knob {name!r} in {cls.__name__}{knob_hint(name, kinds)}; {ALL_KNOBS}")
    built = {
        name: from_dict(kinds[name], value) if is_dataclass(kinds[name]) else coerce(name, kinds[name], value)
        for name, value in values.items()
    }
    return cls(**built)


def digest(values: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of ``values`` as canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
