"""Knobs from text: the value of a flag, "name=value", or the axis of a study."""

from __future__ import annotations

import typing
from typing import Any

from vitlab.config.knobs import did_you_mean, flat_fields, inner_type, knob_type, parse
from vitlab.config.run import RunConfig
from vitlab.errors import ConfigError


def is_list(name: str) -> bool:
    """Whether the knob takes several values."""
    return typing.get_origin(inner_type(knob_type(RunConfig, name))[0]) is tuple


def read_value(name: str, text: Any) -> Any:
    """A knob's value from a word, a list of words, or a switch that is already a bool; ConfigError if it is invalid."""
    kind = knob_type(RunConfig, name)
    if isinstance(text, list):
        words = [] if text in (["none"], [""]) else text
        return tuple(parse(name, kind, word) for word in words)
    return text if isinstance(text, bool) else parse(name, kind, text)


def knob_name(word: str, phrase: str) -> str:
    """The knob called ``word``, written with - or _. If there is none, ConfigError says ``phrase``."""
    name = word.replace("-", "_")
    if name not in flat_fields(RunConfig):
        raise ConfigError(f"{phrase}{did_you_mean(name, flat_fields(RunConfig))}")
    return name


def parse_assignment(word: str) -> tuple[str, Any]:
    """Name and value of a knob from "name=value", such as "patch_size=4" or "cnn_channels=32,64"."""
    name, equals, text = word.partition("=")
    name = knob_name(name if equals else "", f"{word!r} is not NAME=VALUE for a knob")
    return name, read_value(name, text.split(",") if is_list(name) else text)
