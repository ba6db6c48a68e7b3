"""What a knob is, and how nested frozen dataclasses become flags and JSON, and are read back.

A knob's type is str, int, float or bool, a Literal of strings, or a tuple of ints; each may also allow
none. `parse` reads text, `coerce` checks a value that came from JSON or code.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterable
from dataclasses import asdict, field, fields, is_dataclass
from typing import Any, Literal, TypeVar

from vitlab.errors import ConfigError

T = TypeVar("T")
NOT_INERT = object()  # no value of the knob is


def knob(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    inert: Any = NOT_INERT,
) -> Any:
    """A dataclass field with its help text and its limits (for a tuple, the limits of each entry).

    ``inert`` is required for every knob that is added from now on: the value at which a run is what it was before the
    knob existed. At that value the knob is left out of `RunConfig.digest`, so that older runs keep their digest. It
    never changes again, even if the default does.
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    rules = {name: limit for name, limit in limits.items() if limit is not None}
    if inert is not NOT_INERT:
        rules["inert"] = inert
    return field(default=default, metadata={"help": help, **rules})


def fraction(default: float, help: str, inert: Any = NOT_INERT) -> Any:
    """A knob from 0 to below 1."""
    return knob(default, help, at_least=0.0, below=1.0, inert=inert)


def amount(default: float, help: str, at_most: float | None = None, inert: Any = NOT_INERT) -> Any:
    """A knob from 0."""
    return knob(default, help, at_least=0.0, at_most=at_most, inert=inert)


def count(default: int | None, help: str, at_most: int, inert: Any = NOT_INERT) -> Any:
    """A knob from 1."""
    return knob(default, help, at_least=1, at_most=at_most, inert=inert)


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Field name -> resolved type of a dataclass."""
    return typing.get_type_hints(cls)


@functools.cache
def flat_fields(cls: type) -> dict[str, tuple[str, Any]]:
    """Flat knob name -> (section name, dataclass field) over all sections of a configuration class."""
    found: dict[str, tuple[str, Any]] = {}
    for section, section_type in field_types(cls).items():
        if is_dataclass(section_type):
            for f in fields(section_type):
                found[f.name] = (section, f)
    return found


def knob_type(cls: type, name: str) -> Any:
    """The resolved type of the knob ``name`` of the configuration class ``cls``."""
    section, _ = flat_fields(cls)[name]
    return field_types(field_types(cls)[section])[name]


def inner_type(kind: Any) -> tuple[Any, bool]:
    """(the type without "or none", whether none is allowed)."""
    if isinstance(kind, types.UnionType):
        rest = [t for t in typing.get_args(kind) if t is not type(None)]
        return rest[0], True
    return kind, False


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
    readers: dict[Any, Any] = {int: int, float: float, bool: _parse_bool}
    one = int if typing.get_origin(inner) is tuple else kind  # a tuple arrives one word at a time
    try:
        return coerce(name, one, readers.get(inner_type(one)[0], str)(text))
    except ConfigError:
        raise
    except ValueError:
        raise ConfigError(f"{name} must be {describe(kind)}, not {text!r}") from None


def _parse_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def coerce(name: str, kind: Any, value: Any) -> Any:
    """``value`` as the type ``kind``; ConfigError instead of a conversion that loses anything."""
    inner, optional = inner_type(kind)
    if value is None and optional:
        return None
    if typing.get_origin(inner) is tuple and isinstance(value, list | tuple):
        return tuple(coerce(name, int, entry) for entry in value)
    words = choices(inner)
    if words and value not in words:
        hint = did_you_mean(str(value), words)
        raise ConfigError(f"{name} must be one of {', '.join(words)}, not {value!r}{hint}")
    if inner is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    if words or (inner in (int, float, bool, str) and type(value) is inner):
        return value
    raise ConfigError(f"{name} must be {describe(kind)}, not {shorten(value)}")


def shorten(value: Any) -> str:
    """A value as text for a message, cut to 80 characters."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number of more than 30 digits"
    return text if len(text) <= 80 else text[:77] + "..."


def check_limits(section: Any) -> None:
    """Raise ConfigError for the first field of a dataclass that has the wrong type or is out of range."""
    kinds = typing.get_type_hints(type(section))
    for f in fields(section):
        value = coerce(f.name, kinds[f.name], getattr(section, f.name))
        object.__setattr__(section, f.name, value)
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, int | float):
                _check_range(f.name, entry, f.metadata)


def _check_range(name: str, value: float, limits: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, not {value}")
    rules = {
        "at_least": ("at least", value >= limits.get("at_least", value)),
        "above": ("above", "above" not in limits or value > limits["above"]),
        "at_most": ("at most", value <= limits.get("at_most", value)),
        "below": ("below", "below" not in limits or value < limits["below"]),
    }
    for rule, (words, holds) in rules.items():
        if not holds:
            raise ConfigError(f"{name} must be {words} {limits[rule]:g}, not {shorten(value)}")


def to_dict(config: Any) -> dict[str, Any]:
    """Nested dataclasses as nested dicts of JSON values (tuples become lists)."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(asdict(config))))


def from_dict(cls: type[T], values: Any) -> T:
    """The dataclass ``cls`` from nested dicts. Missing names take their defaults; unknown names raise ConfigError."""
    if not isinstance(values, dict):
        raise ConfigError(f"{cls.__name__} must be a JSON object, not {values!r}")
    kinds = typing.get_type_hints(cls)
    for name in values:
        if name not in kinds:
            raise ConfigError(f"unknown knob {name!r} in {cls.__name__}{did_you_mean(name, kinds)}")
    built = {
        name: from_dict(kinds[name], value) if is_dataclass(kinds[name]) else coerce(name, kinds[name], value)
        for name, value in values.items()
    }
    return cls(**built)


def digest(values: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of ``values`` as canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' if a known word is close, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
