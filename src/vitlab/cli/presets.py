"""vitlab presets."""

from __future__ import annotations

import argparse

from vitlab.cli import flags
from vitlab.config.presets import DEFAULT_PRESET, PRESETS, preset_config
from vitlab.files import to_json
from vitlab.text import show, wrapped

ROWS = (
    "Rows of the seed page's tables, with the accuracy and time that the page reports: one run each, on a machine that "
    "it does not name. Differences under 0.7 points between rows may be chance."
)


def declare(children: flags.Children) -> None:
    """The command and its options."""
    parser = flags.add_command(children, presets, "list the presets, or show one")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the preset to show in full")
    flags.add_output(parser, has_progress=False)


def presets(arguments: argparse.Namespace) -> int:
    """List the presets (named sets of knobs), or show one with all its knobs."""
    if arguments.name not in (None, "list"):  # `vitlab presets list`, as with runs and data
        config = preset_config(arguments.name).to_dict()
        if arguments.json:
            flags.print_json(config)
            return 0
        preset = PRESETS[arguments.name]
        texts = (f"{arguments.name}: {preset.about}", f"source: {preset.source}", f"expected: {preset.expected}")
        show(*(line for text in texts for line in wrapped(text)))
        show(*to_json(config).splitlines())
        return 0
    if arguments.json:
        about = {name: {"about": p.about, "source": p.source, "expected": p.expected} for name, p in PRESETS.items()}
        flags.print_json(about)
        return 0
    show(*overview())
    return 0


def overview() -> list[str]:
    """The presets by group, with what to expect of each."""
    width = max(map(len, PRESETS)) + 2
    indent = " " * width
    lines = []
    for name, preset in PRESETS.items():
        if not preset.is_row:
            about = f"{preset.about} (the default)" if name == DEFAULT_PRESET else preset.about
            lines += wrapped(about, f"{name:<{width}}", indent)
            lines += wrapped(f"expected: {preset.expected}", indent, indent)
    lines += ["", *wrapped(ROWS)]
    for name, preset in PRESETS.items():
        if preset.is_row and preset.published:
            accuracy, seconds = preset.published
            lines += wrapped(f"{accuracy:.2f} %, {seconds:3.0f} s  {preset.about}", f"{name:<{width}}", indent)
    return lines
