"""`--help` is quick, and describes every knob with its right default."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.command import finish, start, vitlab
from vitlab import __version__
from vitlab.config import RunConfig
from vitlab.config.knobs import flat_fields

HEAVY = ("torch", "numpy", "matplotlib", "sklearn", "PIL", "rich", "requests", "safetensors")
QUICK = [
    "",
    "--help",
    "--version",
    "train --help",
    "train --help-all",
    "fit",
    "train --projection-dim 3",
    "evaluate --help",
    "predict --help",
    "export --help",
    "data --help",
    "presets --help",
    "doctor --help",
    "presets",
    "presets small",
    "train --patch-size 4 --print-config",
    "train --epochs 0",
]
QUICK_PROGRAM = """
import contextlib, io, json, shlex, sys
from vitlab.cli import main

heavy, lines = json.loads(sys.argv[1])
found = {}
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(shlex.split(line))
    found[line] = [name for name in heavy if name in sys.modules]
print(json.dumps(found))
"""


def test_what_must_be_quick_imports_nothing_heavy() -> None:
    command = [sys.executable, "-c", QUICK_PROGRAM, json.dumps([HEAVY, QUICK])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {line: [] for line in QUICK}


@pytest.mark.parametrize(
    "command", ["", "train", "evaluate", "predict", "export", "data", "presets", "doctor", "serve"]
)
def test_every_command_explains_itself(command: str) -> None:
    answer = vitlab(f"{command} --help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"usage: vitlab {command}".rstrip())


def test_the_overview_names_all_commands_and_exit_codes() -> None:
    text = vitlab("").out
    assert text == vitlab("--help").out
    words = [
        "train",
        "evaluate",
        "predict",
        "export",
        "data",
        "presets",
        "doctor",
        "130 Ctrl-C",
        "143 SIGTERM",
        "--debug",
    ]
    assert [word for word in words if word not in text] == []


def test_train_help_shows_each_knob_with_its_default_in_the_preset_small() -> None:
    """The values in brackets, given as flags, make that preset out of another one."""
    options = re.split(r"\n\n|\n(?=  --)", vitlab("train --help-all").out)
    entries = [" ".join(option.split()) for option in options]
    words = []
    for name, (_, field) in flat_fields(RunConfig).items():
        flag = name.replace("_", "-")
        (entry,) = [entry for entry in entries if entry.startswith((f"--{flag} ", f"--{flag},"))]
        explanation, _, default = entry.removesuffix("]").rpartition(" [")
        assert "".join(field.metadata["help"].split()) in explanation.replace(" ", "")  # lines break after hyphens too
        words.append({"on": f"--{flag}", "off": f"--no-{flag}"}.get(default, f"--{flag} {default}"))
    answer = vitlab(f"train --preset keras-cnn {' '.join(words)} --print-config")
    assert json.loads(answer.out) | {"preset": "small"} == json.loads(vitlab("presets small --json").out)


def test_version_and_the_module_are_the_command() -> None:
    assert vitlab("--version").out == f"vitlab {__version__}\n"
    answer = finish(start("--version"))
    assert (answer.code, answer.out, answer.err) == (0, f"vitlab {__version__}\n", "")
