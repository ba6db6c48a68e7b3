"""What the commands share: the parser, flags made from the knobs, types of arguments, output options."""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import textwrap
import typing
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from vitlab.cli.hints import choice_error, missing_value, option_hint, word_hint
from vitlab.config import RunConfig, sections
from vitlab.config.fitting import fitted, place_to_look_at
from vitlab.config.knobs import field_types, flat_fields, inner_type, knob_type
from vitlab.config.presets import DEFAULT_PRESET, preset_config
from vitlab.config.run import read_value
from vitlab.errors import ConfigError
from vitlab.files import to_json
from vitlab.runs.zoo import place
from vitlab.studies.grid import RUNS as RUNS
from vitlab.text import ignore, say, show, value

MOST_CONFIG = 1_000_000  # bytes
CONFIG_ADVICE = "`vitlab train --print-config` writes one to start from"

NO_VALUE = re.compile(r"argument (\S+): expected (?:one|at least one) argument")  # as argparse says it
UNWANTED = re.compile(r"argument (\S+): ignored explicit argument (.+)")
IN_ONE = re.compile(r"argument \S+: (must|needs) ")
A_RUN = "a run, or a network of `vitlab zoo`"
NARROW = 60  # columns: a narrower terminal shows the help of an option below its name

Children: TypeAlias = "argparse._SubParsersAction[OneLineParser]"
Section: TypeAlias = tuple[str | None, str | None, list[argparse.Action]]


class Wrapped(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal, up to 100 columns; indented lines, such as examples, are not wrapped."""

    def __init__(self, prog: str) -> None:
        width = min(100, shutil.get_terminal_size().columns) - 2
        super().__init__(prog, max_help_position=24 if width >= NARROW else 14, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (line if line.startswith(" ") else textwrap.fill(line, width) for line in text.splitlines())
        return textwrap.indent("\n".join(lines), indent)

    def _format_usage(self, usage: str | None, *about: Any) -> str:
        if usage is None:
            return super()._format_usage(usage, *about)
        return textwrap.fill(f"usage: {usage}", self._width, subsequent_indent=" " * 11) + "\n\n"


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line and suggests what was probably meant.

    `--help` leaves out the options ``rare`` and every knob that is not essential; `--help-all` shows them too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=Wrapped, **options)
        self.rare: set[str] = set()
        self.words: list[str] = []  # those after `vitlab`, the command among them
        self.essentials: list[argparse.Action] = []
        self.knob_groups: list[argparse._ArgumentGroup] = []

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of printing the whole usage."""
        missing = message.removeprefix("the following arguments are required: ")
        if missing != message:
            self.refuse_unknown([word for word in self.words if self.is_unknown(word)])  # likely meant for it
            message = f"missing: {missing}" + (f", as in `{self.usage}`" if self.usage else "")
        if found := NO_VALUE.fullmatch(message):
            action = self._option_string_actions[found[1].split("/")[0]]
            message = missing_value(found[1], str(action.metavar or action.dest))
        if found := UNWANTED.fullmatch(message):
            message = f"{found[1]} takes no value; leave out {found[2]}"
        message = message.removeprefix("argument ").replace(": ", " ", 1) if IN_ONE.match(message) else message
        raise ConfigError(f"{message}; `{self.prog} --help` explains the options")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            option = action.option_strings[0] if action.option_strings else ""
            known = [str(one) for one in action.choices]
            raise ConfigError(choice_error(self.prog, option, str(value), known))

    def is_unknown(self, word: str) -> bool:
        """Whether ``word`` is written as an option, but this command has none of that name."""
        return word.startswith("--") and word.split("=")[0] not in self._option_string_actions

    def refuse_unknown(self, words: list[str]) -> None:
        """ConfigError for the first word that no option took."""
        if words:
            known = [flag for action in self._actions for flag in action.option_strings or [str(action.metavar)]]
            word = words[0].split("=")[0] if words[0].startswith("-") else words[0]
            is_option = word.startswith("-")
            hint = option_hint(word, known) if is_option else word_hint(word, known, self.prog, self.words)
            kind = "unknown option" if is_option else "unexpected word"
            raise ConfigError(f"{kind} {word!r}{hint}; `{self.prog} --help` explains the options")

    def format_help(self) -> str:
        """What `--help` prints."""
        shown = [
            (group.title, group.description, [one for one in group._group_actions if one.dest not in self.rare])
            for group in self._action_groups
            if group not in self.knob_groups
        ]
        return self.help_with([*shown, ("essential knobs (--help-all shows all of them)", None, self.essentials)])

    def format_help_all(self) -> str:
        """What `--help-all` prints."""
        return self.help_with([(one.title, one.description, one._group_actions) for one in self._action_groups])

    def help_with(self, sections: list[Section]) -> str:
        """The help with these sections."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, about, actions in sections:
            if actions:
                formatter.start_section(title)
                formatter.add_text(about)
                formatter.add_arguments(actions)
                formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()


class HelpAll(argparse.Action):
    """The option --help-all."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        """Print the whole help, and exit."""
        assert isinstance(parser, OneLineParser)
        show(*parser.format_help_all().splitlines())
        parser.exit()


def add_command(
    children: Children, call: Callable[[argparse.Namespace], int], help: str, usage: str | None = None
) -> OneLineParser:
    """The parser of the command that is named like the function ``call``, and described by its docstring."""
    name, description = call.__name__, " ".join((call.__doc__ or "").split())
    usage = usage and f"vitlab {name} {usage}"
    parser = children.add_parser(name, help=help, usage=usage, description=description)
    parser.set_defaults(call=call)
    return parser


def hide(parser: OneLineParser, *names: str) -> None:
    """Show these options, and the knobs that are not essential, only in `--help-all`. Call it last."""
    parser.rare |= set(names)
    help = "show every option"
    parser.add_argument("--help-all", action=HelpAll, nargs=0, default=argparse.SUPPRESS, help=help)


def add_output(parser: OneLineParser, has_progress: bool = True) -> None:
    """The options --quiet and --json. ``has_progress``: else --quiet does nothing, and the help leaves it out."""
    help = "show no progress, only the result" if has_progress else argparse.SUPPRESS
    parser.add_argument("--quiet", action="store_true", help=help)
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")


def add_base(parser: OneLineParser, verb: str) -> None:
    """The options --preset and --config, which `chosen_config` reads."""
    parser.add_argument(
        "--preset", metavar="NAME", help=f"{verb} a preset; `vitlab presets` lists them [one that fits the data]"
    )
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


def run(text: str) -> Path:
    """The folder of a run: its path, its name in runs/, or the name of a network that comes with vitlab."""
    return place(path(text), say)


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """The type of arguments that are whole numbers from ``low`` to ``high``."""
    limits = f"from {low}" if high is None else f"from {low} to {high}"

    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > 9 or not low <= int(text) <= (high or int(text)):
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, not {text!r}")
        return int(text)

    return read


count = whole_number(1, 10_000)


def number(low: float, high: float) -> Callable[[str], float]:
    """A type of number from ``low`` to ``high``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}, not {text!r}")
        return value

    return read


def add_knobs(parser: OneLineParser, only: tuple[str, ...] = ()) -> None:
    """A flag for every knob (of the sections ``only``); knobs that are not given stay absent from the arguments."""
    defaults = sections(preset_config(DEFAULT_PRESET))
    for section, section_type in field_types(RunConfig).items():
        if section not in (only or defaults):
            continue
        group = parser.add_argument_group(section, section_type.__doc__)
        parser.knob_groups.append(group)
        for f in fields(section_type):
            action = _add_knob(group, f.name, f.metadata["help"], getattr(defaults[section], f.name))
            if f.metadata["essential"]:
                parser.essentials.append(action)


def _add_knob(group: argparse._ArgumentGroup, name: str, help: str, default: Any) -> argparse.Action:
    kind, _ = inner_type(knob_type(RunConfig, name))
    flag = "--" + name.replace("_", "-")
    text = f"{help} [{value(default)}]".replace("%", "%%")
    add = partial(group.add_argument, flag, help=text, default=argparse.SUPPRESS)
    if kind is bool:
        return add(action=argparse.BooleanOptionalAction)
    if typing.get_origin(kind) is tuple:
        return add(nargs="*", metavar="N")
    words = typing.get_args(kind)
    return add(metavar="{" + ",".join(words) + "}" if words else {int: "N", float: "X"}.get(kind, "NAME"))


def given_knobs(arguments: argparse.Namespace) -> dict[str, Any]:
    """The knobs on the command line, as values of their types; ConfigError for one that cannot be read."""
    return {
        name: read_value(name, getattr(arguments, name)) for name in flat_fields(RunConfig) if hasattr(arguments, name)
    }


def chosen_config(
    preset: str | None, file: Path | None, knobs: dict[str, Any], note: Callable[[str], None] = ignore
) -> RunConfig:
    """The configuration of a preset or of a JSON file, or one that fits the data if neither is named, with ``knobs``
    changed. ``note`` gets a line on what was chosen."""
    base = named_config(preset, file)
    if place_to_look_at(base, knobs) is None:
        return fitted(base, knobs, None)[0]
    from vitlab.data.glance import fitted_to_data  # imports NumPy

    return fitted_to_data(base, knobs, note)


def named_config(preset: str | None, file: Path | None) -> RunConfig | None:
    """The configuration of a preset or of a JSON file; None if neither is named."""
    if preset is not None and file is not None:
        raise ConfigError("--preset and --config cannot be combined: a config file sets every knob; leave out one")
    if file is not None:
        return read_config(file)
    return None if preset is None else preset_config(preset)


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
