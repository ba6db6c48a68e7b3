"""What the commands share: the parser, flags made from the knobs, types of arguments, output options."""

from __future__ import annotations

import argparse
import json
import textwrap
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from vitlab.config import RunConfig, sections
from vitlab.config.knobs import did_you_mean, field_types, flat_fields, inner_type, knob_type
from vitlab.config.presets import DEFAULT_PRESET, preset_config
from vitlab.config.run import read_value
from vitlab.errors import ConfigError
from vitlab.files import to_json
from vitlab.studies.grid import RUNS as RUNS
from vitlab.text import say, show, value

MOST_CONFIG = 1_000_000  # bytes
CONFIG_ADVICE = "`vitlab train --print-config` writes one to start from"

EXIT_CODES = """exit codes:
  0 success   2 wrong option or value   3 data   4 diverged   5 out of memory   6 disk
  7 run folder in use   8 run folder missing, damaged or unsuitable   130 Ctrl-C   143 SIGTERM"""

# Options as other programs call them.
FOREIGN = {
    "--gpu": "--device cuda",
    "--learning-rate": "--lr",
    "--num-epochs": "--epochs",
    "--projection-dim": "--embed-dim",
    "--transformer-layers": "--depth",
}

Children: TypeAlias = "argparse._SubParsersAction[OneLineParser]"


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line and suggests what was probably meant."""

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
            meant = FOREIGN.get(word, "")
            hint = f" (use {meant})" if meant.split(" ")[0] in known else did_you_mean(word, known)
            raise ConfigError(f"{kind} {word!r}{hint}; `{self.prog} --help` explains the options")


def add_command(
    children: Children, call: Callable[[argparse.Namespace], int], help: str, usage: str | None = None
) -> OneLineParser:
    """The parser of the command that is named like the function ``call``, and described by its docstring."""
    name, description = call.__name__, textwrap.fill(" ".join((call.__doc__ or "").split()), 96)
    usage = usage and f"vitlab {name} {usage}"
    parser = children.add_parser(name, help=help, usage=usage, description=description, epilog=EXIT_CODES)
    parser.set_defaults(call=call)
    return parser


def add_output(parser: OneLineParser) -> None:
    """The options --quiet and --json."""
    parser.add_argument("--quiet", action="store_true", help="show no progress, only the result")
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")


def add_base(parser: OneLineParser, verb: str) -> None:
    """The options --preset and --config, which `chosen_config` reads."""
    parser.add_argument("--preset", metavar="NAME", help=f"{verb} a named configuration, see `vitlab presets` [small]")
    config = f"{verb} a JSON file such as a run's config.json; missing knobs take their defaults"
    parser.add_argument("--config", metavar="FILE", type=path, help=config)


def add_runs(parser: OneLineParser, dest: str = "runs") -> None:
    """The option --runs."""
    parser.add_argument("--runs", dest=dest, metavar="DIR", type=path, help=f"folder of a study's runs [{RUNS}]")


def print_json(result: Any) -> None:
    """One line of JSON on standard output."""
    show(to_json(result, indent=None))


def notes(quiet: bool) -> Callable[[str], None]:
    """A function for messages about progress, which --quiet silences."""
    return (lambda line: None) if quiet else say


def path(text: str) -> Path:
    """A path; not an empty one, which would mean the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("needs a path")
    return Path(text)


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """The type of arguments that are whole numbers from ``low`` to ``high``."""
    limits = f"from {low}" if high is None else f"from {low} to {high}"

    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > 9 or not low <= int(text) <= (high or int(text)):
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, not {text!r}")
        return int(text)

    return read


count = whole_number(1, 10_000)


def add_knobs(parser: argparse.ArgumentParser, only: tuple[str, ...] = ()) -> None:
    """A flag for every knob (of the sections ``only``); knobs that are not given stay absent from the arguments."""
    defaults = sections(preset_config(DEFAULT_PRESET))
    for section, section_type in field_types(RunConfig).items():
        if section not in (only or defaults):
            continue
        group = parser.add_argument_group(section, section_type.__doc__)
        for f in fields(section_type):
            _add_knob(group, f.name, f.metadata["help"], getattr(defaults[section], f.name))


def _add_knob(group: argparse._ArgumentGroup, name: str, help: str, default: Any) -> None:
    kind, _ = inner_type(knob_type(RunConfig, name))
    flag = "--" + name.replace("_", "-")
    text = f"{help} [{value(default)}]".replace("%", "%%")
    if kind is bool:
        group.add_argument(flag, help=text, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS)
    elif typing.get_origin(kind) is tuple:
        group.add_argument(flag, help=text, nargs="*", metavar="N", default=argparse.SUPPRESS)
    else:
        words = typing.get_args(kind)
        metavar = "{" + ",".join(words) + "}" if words else {int: "N", float: "X"}.get(kind, "NAME")
        group.add_argument(flag, help=text, metavar=metavar, default=argparse.SUPPRESS)


def given_knobs(arguments: argparse.Namespace) -> dict[str, Any]:
    """The knobs on the command line, as values of their types; ConfigError for one that cannot be read."""
    return {
        name: read_value(name, getattr(arguments, name)) for name in flat_fields(RunConfig) if hasattr(arguments, name)
    }


def chosen_config(preset: str | None, file: Path | None, knobs: dict[str, Any]) -> RunConfig:
    """The configuration of a preset or of a JSON file, with ``knobs`` changed."""
    if preset is not None and file is not None:
        raise ConfigError("--preset and --config cannot be combined: a config file sets every knob; leave out one")
    base = read_config(file) if file is not None else preset_config(preset or DEFAULT_PRESET)
    return base.with_knobs(**knobs)


def read_config(file: Path) -> RunConfig:
    """The configuration in a JSON file, such as a run folder's config.json."""
    try:
        with open(file, "rb") as opened:  # it may be a pipe, such as a shell's <(...)
            data = opened.read(MOST_CONFIG + 1)
        if len(data) > MOST_CONFIG:
            raise ConfigError(f"it has more than {MOST_CONFIG:,} bytes, so it is no configuration; {CONFIG_ADVICE}")
        return RunConfig.from_dict(json.loads(data.decode()))
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {file}; {CONFIG_ADVICE}") from None
    except OSError as error:
        raise ConfigError(f"cannot read the config file {file} ({error.strerror}); {CONFIG_ADVICE}") from None
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid JSON ({error}); {CONFIG_ADVICE}") from None
