"""How a message says what to do: on the command line as it is written, in Python as the same thing in Python.

Messages are written once, for the command line: options as `--patch-size 4`, commands in backquotes as `vitlab train
--resume RUN`. Whoever calls vitlab from Python reads `patch_size=4` and `vitlab.load("RUN").resume()` instead. Since
each knob has one name in both, this is a rule and needs no table of messages; what has no counterpart stays a command.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

QUOTED = re.compile(r"`([^`]*)`")
# A value follows an option if it is a number or a placeholder, or if nothing but punctuation or "or" comes after it.
VALUE = r"-?\d[\w.]*(?::\d+)?|[A-Z]{1,5}\b|(?!(?:or|and|to|of|from|for|with)\b)[\w.=/,-]*[\w.=/-](?=$|[,;:)]| or )"
OPTION = re.compile(rf"(?<![\w-])--(?P<name>[a-z][a-z0-9-]*)(?:=(?P<same>[^\s,;:)]+)| (?P<next>{VALUE}))?")
ELSEWHERE = " in a terminal"
SWITCHES = ("allow-drift", "flip", "force-flip", "retry-failed", "zip", "compile")
OTHER_NAMES = {"zip": "zipped"}
# No parameters of `train` and `study`:
ONLY_THERE = ("resume", "help", "help-all", "status", "search", "print-config", "ranks")
# Commands, and the same in Python; RUN is the first word that is no option.
CALLS = {
    "train --resume": "vitlab.load({path}).resume()",
    "train --help-all": "vitlab.RunConfig().values()",
    "train": "vitlab.train(...)",
    "look": "vitlab.load({path}).report()",
    "evaluate": "vitlab.load({path}).evaluate()",
    "predict": "vitlab.load({path}).predict(...)",
    "study": "vitlab.study(...)",
    "compare": "vitlab.compare(...)",
    "presets": "list(vitlab.PRESETS)",
    "data list": "list(vitlab.CATALOGUE)",
}
PHRASES = {"the same command": "the same call", "leave that option out": "leave it out"}

_listeners = ["python"]


@contextmanager
def for_the_command_line() -> Iterator[None]:
    """Inside, messages are read by somebody who types commands."""
    _listeners.append("shell")
    try:
        yield
    finally:
        _listeners.remove("shell")


def spoken(message: str) -> str:
    """The message for whoever listens."""
    return message if "shell" in _listeners else in_python(message)


def in_python(message: str) -> str:
    """The message with its options and commands in Python; one that is so already stays as it is."""
    pieces = QUOTED.split(message)  # text, command, text, ...
    made = "".join(_call(piece) if number % 2 else _plain(piece) for number, piece in enumerate(pieces))
    return made.replace(2 * ELSEWHERE, ELSEWHERE)


def _plain(text: str) -> str:
    for phrase, other in PHRASES.items():
        text = text.replace(phrase, other)
    return OPTION.sub(_keyword, text)


def _keyword(found: re.Match[str]) -> str:
    name, value = found["name"], found["same"] or found["next"]
    if value is None and name.startswith("no-"):
        return f"{name.removeprefix('no-').replace('-', '_')}=False"
    word = OTHER_NAMES.get(name, name.replace("-", "_"))
    if value is None:
        return f"{word}=True" if name in SWITCHES else f"`{word}`"
    knob, equals, values = value.partition("=")
    if equals:  # an axis of a study: --vary patch_size=4,7
        return f'{word}={{"{knob}": [{", ".join(map(_literal, values.split(",")))}]}}'
    return f"{word}={_literal(value)}"


def _literal(value: str) -> str:
    is_plain = re.fullmatch(r"-?\d+(\.\d*)?(e-?\d+)?|[A-Z]{1,5}", value)
    return value if is_plain else f'"{value}"'


def _call(words: str) -> str:
    program, _, rest_of = words.partition(" ")
    if program != "vitlab" or not rest_of:
        return f"`{words}`"
    try:
        given = shlex.split(rest_of)
    except ValueError:  # a quote that is not closed
        given = rest_of.split()
    is_study = given[0] == "look" and os.path.exists(os.path.join(given[-1], "study.json"))  # `vitlab.load` opens runs
    if is_study or "--epochs-more" in given:
        return f"`{words}`{ELSEWHERE}"
    options = list(OPTION.finditer(rest_of))
    if given[0] in ("train", "study") and options and not {option["name"] for option in options} & {*ONLY_THERE}:
        return f"`vitlab.{given[0]}({', '.join(map(_keyword, options))})`"
    for command, call in CALLS.items():
        names = command.split()
        if given[: len(names)] == names:
            rest = [word for word in given[len(names) :] if not word.startswith("-")]
            if "{path}" not in call and (rest or len(given) > len(names)):
                continue
            if "{path}" in call and not rest:
                continue
            return f"`{call.format(path=repr(rest[0]) if rest else '')}`"
    return f"`{words}`{ELSEWHERE}"
