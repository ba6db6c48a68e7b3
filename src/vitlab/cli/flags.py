"""Flags made from the knobs of config.py: one flag a field, one group a section."""

from __future__ import annotations

import argparse
import json
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from vitlab.config import RunConfig, sections
from vitlab.config.knobs import did_you_mean, field_types, flat_fields, inner_type, knob_type
from vitlab.config.presets import DEFAULT_PRESET, preset_config
from vitlab.config.run import read_value
from vitlab.errors import ConfigError

CONFIG_ADVICE = "`vitlab train --print-config` writes one to start from"

EXIT_CODES = """exit codes:
  0 done   2 wrong option or value   3 data   4 diverged   5 out of memory   6 disk
  7 run folder in use   8 run folder missing, damaged or unsuitable   130 Ctrl-C   143 SIGTERM"""


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line, and knows what was probably meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of printing the whole usage."""
        raise ConfigError(f"{message}; `{self.prog} --help` explains the options")

    def refuse_unknown(self, words: list[str]) -> None:
        """ConfigError for the first word that no option took."""
        if words:
            known = [flag for action in self._actions for flag in action.option_strings]
            word = words[0].split("=")[0]
            kind = "unknown option" if word.startswith("-") else "unexpected word"
            raise ConfigError(f"{kind} {word!r}{did_you_mean(word, known)}; `{self.prog} --help` explains the options")


def path_argument(text: str) -> Path:
    """A path from the command line; an empty one would mean the working folder, which nobody means."""
    if not text:
        raise argparse.ArgumentTypeError("needs a path")
    return Path(text)


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"needs a whole number from 1 to 10000, not {text!r}")
    return int(text)


def add_knobs(parser: argparse.ArgumentParser, only: tuple[str, ...] = ()) -> None:
    """A flag for every knob (of the sections ``only``); what is not given stays absent from the parsed arguments."""
    defaults = sections(preset_config(DEFAULT_PRESET))
    for section, section_type in field_types(RunConfig).items():
        if section not in (only or defaults):
            continue
        group = parser.add_argument_group(section, section_type.__doc__)
        for f in fields(section_type):
            _add_knob(group, f.name, f.metadata["help"], getattr(defaults[section], f.name))


def _add_knob(group: Any, name: str, help: str, default: Any) -> None:
    kind, _ = inner_type(knob_type(RunConfig, name))
    flag = "--" + name.replace("_", "-")
    text = f"{help} [{show(default)}]".replace("%", "%%")
    if kind is bool:
        group.add_argument(flag, help=text, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS)
    elif typing.get_origin(kind) is tuple:
        group.add_argument(flag, help=text, nargs="*", metavar="N", default=argparse.SUPPRESS)
    else:
        words = typing.get_args(kind)
        metavar = "{" + ",".join(words) + "}" if words else {int: "N", float: "X"}.get(kind, "NAME")
        group.add_argument(flag, help=text, metavar=metavar, default=argparse.SUPPRESS)


def show(value: Any) -> str:
    """A knob's value as a user would type it."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def given_knobs(arguments: argparse.Namespace) -> dict[str, Any]:
    """The knobs named on the command line, as values of their types; ConfigError for what cannot be read."""
    given = {}
    for name in flat_fields(RunConfig):
        if hasattr(arguments, name):
            given[name] = read_value(name, getattr(arguments, name))
    return given


def chosen_config(preset: str | None, file: Path | None, knobs: dict[str, Any]) -> RunConfig:
    """The configuration of a preset or of a JSON file, with ``knobs`` changed."""
    if preset is not None and file is not None:
        raise ConfigError("--preset and --config exclude each other; a config file holds every knob")
    base = read_config(file) if file is not None else preset_config(preset or DEFAULT_PRESET)
    return base.with_knobs(**knobs)


def read_config(path: Path) -> RunConfig:
    """A RunConfig from a JSON file, such as a run folder's config.json."""
    try:
        return RunConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {path}; {CONFIG_ADVICE}") from None
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path} ({error.strerror}); {CONFIG_ADVICE}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON ({error}); {CONFIG_ADVICE}") from None
