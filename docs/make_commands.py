"""Write docs/reference/command-line.md from the parsers of the command line: `python docs/make_commands.py`."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from vitlab.cli.flags import OneLineParser
from vitlab.cli.main import build_parser
from vitlab.config import RunConfig
from vitlab.config.knobs import flat_fields

PAGE = Path(__file__).parent / "reference" / "command-line.md"
HEAD = """# Every command

`vitlab COMMAND --help-all` prints the same in your terminal. [How to use them](../do/command-line.md).

This page is generated from the parsers in `src/vitlab/cli/` by `python docs/make_commands.py`; do not edit it by hand.
"""
KNOBS = frozenset(flat_fields(RunConfig))
SHOW_HELP = ("help", "help_all")


def page() -> str:
    """The whole page as Markdown."""
    parser, commands = build_parser()
    children = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    helps = {action.dest: action.help for action in children._choices_actions}
    listed = "".join(f"- [`vitlab {name}`](#vitlab-{name}): {text}\n" for name, text in helps.items())
    end = "\n".join(textwrap.fill(line, 100) for line in (parser.epilog or "").splitlines())
    return f"{HEAD}\n{listed}\n```text\n{end}\n```\n" + "".join(section(commands[name]) for name in helps)


def section(parser: OneLineParser) -> str:
    """One command: what it does, its usage, its options."""
    usage = parser.usage or " ".join(parser.format_usage().removeprefix("usage:").split())
    parts = [f"\n## `{parser.prog}`\n\n{' '.join((parser.description or '').split())}\n\n```text\n{usage}\n```\n"]
    actions = [action for action in parser._actions if action.dest not in SHOW_HELP]
    takes_knobs = {action.dest for action in actions} >= KNOBS
    own = [action for action in actions if not (takes_knobs and action.dest in KNOBS)]
    if own:
        parts.append("\n| option | what it does |\n| --- | --- |\n")
        parts += [f"| {words(parser, action)} | {cell(parser, action)} |\n" for action in own]
    if takes_knobs:
        parts.append("\nEvery [knob](knobs.md) is an option too: `patch_size` is `--patch-size`.\n")
    return "".join(parts)


def words(parser: OneLineParser, action: argparse.Action) -> str:
    """The option with its value, as code."""
    return f"`{parser._get_formatter()._format_action_invocation(action)}`".replace("|", "\\|")


def cell(parser: OneLineParser, action: argparse.Action) -> str:
    """The help of an option."""
    text = " ".join(parser._get_formatter()._expand_help(action).split()) if action.help else ""
    return text.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
