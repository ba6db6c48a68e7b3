"""vitlab presets."""

from __future__ import annotations

import argparse

from vitlab.cli import flags
from vitlab.config.presets import PRESETS, preset_config
from vitlab.files import to_json
from vitlab.text import show


def declare(children: flags.Children) -> None:
    """The command and its options."""
    parser = flags.add_command(children, presets, "list the named configurations, or show one")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the configuration to show in full")
    flags.add_output(parser)


def presets(arguments: argparse.Namespace) -> int:
    """List the named configurations, or show one of them with all its knobs."""
    if arguments.name is not None:
        config = preset_config(arguments.name).to_dict()
        if arguments.json:
            flags.print_json(config)
            return 0
        preset = PRESETS[arguments.name]
        show(f"{arguments.name}: {preset.about}", f"source: {preset.source}", f"expected: {preset.expected}")
        show(*to_json(config).splitlines())
        return 0
    if arguments.json:
        about = {name: {"about": p.about, "source": p.source, "expected": p.expected} for name, p in PRESETS.items()}
        flags.print_json(about)
        return 0
    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        show(f"{name:<{width}}  {preset.about}", f"{'':<{width}}  expected: {preset.expected}")
    return 0
