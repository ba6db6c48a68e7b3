"""Messages in Python say what to do in Python, all of them; on the command line they stay as they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitlab import VitlabError, load, preset_config, train
from vitlab.advice import for_the_command_line, in_python
from vitlab.cli import main
from vitlab.errors import ConfigError, RunError

ROOT = Path(__file__).parents[1] / "src" / "vitlab"

CASES = {
    "choose another --out": "choose another `out`",
    "use --num-heads 1, or qkv": "use num_heads=1, or qkv",
    "try a lower --lr, a longer --warmup-epochs or --grad-clip 1": (
        "try a lower `lr`, a longer `warmup_epochs` or grad_clip=1"
    ),
    "use --device cpu or auto": 'use device="cpu" or auto',
    "use --val-split stratified": 'use val_split="stratified"',
    "--data=digits works offline": 'data="digits" works offline',
    "use --no-flip or --force-flip": "use flip=False or force_flip=True",
    "--allow-drift continues anyway": "allow_drift=True continues anyway",
    "as in --vary patch_size=4,7,14": 'as in vary={"patch_size": [4, 7, 14]}',
    "as in --vary norm=layer,rms": 'as in vary={"norm": ["layer", "rms"]}',
    "--seeds N runs all": "seeds=N runs all",
    "`vitlab train --resume 'my runs/x'` continues it": "`vitlab.load('my runs/x').resume()` continues it",
    "`vitlab presets` lists them": "`list(vitlab.PRESETS)` lists them",
    "`vitlab study --status x` shows it": "`vitlab study --status x` in a terminal shows it",
    "`vitlab study --vary lr=1e-3,1e-2` compares them": '`vitlab.study(vary={"lr": [1e-3, 1e-2]})` compares them',
    "`vitlab train --patch-size 4` is it": "`vitlab.train(patch_size=4)` is it",
    "`ray start --head` starts one": "`ray start --head` starts one",
    "runs/a--b is empty": "runs/a--b is empty",
    "rerun the same command": "rerun the same call",
    "lr must be above 0, not -1": "lr must be above 0, not -1",
}


@pytest.mark.parametrize("words", CASES)
def test_options_and_commands_become_python(words: str) -> None:
    assert in_python(words) == CASES[words]
    assert in_python(CASES[words]) == CASES[words]  # errors are wrapped in others, so it happens twice


def texts(path: Path) -> Iterator[str]:
    """What a source file may say in an error: the strings that are raised, their unknown parts as X."""
    for raised in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)):
        parts = {id(part) for node in ast.walk(raised) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in (node for node in ast.walk(raised) if id(node) not in parts):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


# What Python reads of the command line's own packages is not meant for it.
SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if not {"cli", "serve"} & set(path.relative_to(ROOT).parts)]


def test_no_error_leaves_an_option_of_the_command_line() -> None:
    said = {text for path in SOURCES for text in texts(path) if "--" in text or "`vitlab " in text}
    assert len(said) > 20
    for text in said:
        plain = re.sub(r"`(?!vitlab[ .])[^`]*`|`[^`]*` in a terminal", "", in_python(text))
        assert not re.search(r"(?<![\w-])--[a-z]", plain), text
        assert "`vitlab " not in plain, text


def test_an_error_speaks_to_whoever_reads_it() -> None:
    error = ConfigError("use --patch-size 4")
    assert str(error) == "use patch_size=4"
    with for_the_command_line():
        assert str(error) == "use --patch-size 4"
        assert str(RunError(f"no: {error}")) == "no: use --patch-size 4"
    assert str(RunError(f"no: {error}")) == "no: use patch_size=4"


def test_the_same_mistake_on_the_command_line_and_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(VitlabError) as caught:
        train("fast", data="digits", out=str(tmp_path), progress=False)
    assert str(caught.value) == f"{tmp_path} is not empty: it holds other files; choose another `out`"
    assert main(["train", "--data", "digits", "--out", str(tmp_path)]) == 8
    assert "other files; choose another --out" in capsys.readouterr().err


def test_what_only_the_command_line_has_stays_a_command(tmp_path: Path) -> None:
    (tmp_path / "study.json").touch()
    with pytest.raises(RunError, match=rf"is a study, not a run; `vitlab look {tmp_path}` in a terminal"):
        load(str(tmp_path))
    further = "`vitlab train --resume run --epochs-more N`"
    assert str(RunError(further)) == f"{further} in a terminal"


def test_unknown_presets_knobs_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no preset 'smal' \(did you mean small\?\); `list\(vitlab.PRESETS\)`"):
        preset_config("smal")
    with pytest.raises(ConfigError, match=r"no knob 'epoch' \(did you mean epochs\?\)"):
        train("small", epoch=1)
    with pytest.raises(RunError, match=r"is not a run folder .*`vitlab.train\(...\)`"):
        load(str(tmp_path))
