"""Write docs/reference/knobs.md from the knobs in vitlab.config: `python docs/make_knobs.py`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from vitlab.config import RunConfig, sections
from vitlab.config.knobs import describe, knob_type
from vitlab.config.presets import preset_config
from vitlab.text import value

HEAD = """# Every knob

Every knob is a flag of `vitlab train` (`patch_size` is `--patch-size`), a name in a run's `config.json`, and an
argument of `RunConfig.with_knobs`. The column "small" shows its value in `small`, the default preset.

This page is generated from `src/vitlab/config/` by `python docs/make_knobs.py`; do not edit it by hand.
"""
TABLE_HEAD = "| knob | values | default | small | what it is |\n| --- | --- | --- | --- | --- |\n"


def page() -> str:
    """The whole page as Markdown."""
    small, parts = preset_config("small"), [HEAD]
    for name, section in sections(RunConfig()).items():
        parts.append(f"\n## {name}\n\n{type(section).__doc__}\n\n{TABLE_HEAD}")
        for f in fields(section):
            values = [value(getattr(s, f.name)) for s in (section, getattr(small, name))]
            cells = [f"`{f.name}`", describe(knob_type(RunConfig, f.name)), *values, f.metadata["help"]]
            parts.append("| " + " | ".join(cells) + " |\n")
    return "".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent / "reference" / "knobs.md").write_text(page(), encoding="utf-8")
