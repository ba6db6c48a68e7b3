"""What newcomers type and see: help in groups, hints for other programs' words, their runs, whether one learned."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from docs import make_transcript
from tests.command import lay_out, snapshot, vitlab
from tests.made_runs import make_run
from tests.tiny import glyphs
from vitlab.cli import hints as words
from vitlab.cli.main import GROUPS, build_parser
from vitlab.config import RunConfig, hints
from vitlab.config.knobs import choices, flat_fields, inner_type, knob_type
from vitlab.config.presets import PRESETS
from vitlab.errors import ConfigError, RunError
from vitlab.runs.folder import ENVIRONMENT
from vitlab.runs.listing import list_runs, newest_with_model
from vitlab.runs.result import Result
from vitlab.text import aligned, curve, wrapped
from vitlab.training.evaluate import guess_loss, guess_top1

COMMANDS = sorted(build_parser()[1])
ESSENTIAL = {
    "data", "epochs", "batch_size", "lr", "weight_decay", "patch_size", "embed_dim", "depth", "num_heads", "seed",
    "device",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("columns", [50, 80])
@pytest.mark.parametrize("line", ["--help", "presets", "data list", *(f"{command} --help" for command in COMMANDS)])
def test_help_fits_the_terminal(line: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    answer = vitlab(line)
    assert (answer.code, answer.err) == (0, "")
    assert [text for text in answer.out.splitlines() if len(text) > columns] == []


def test_the_overview_lists_every_command_in_a_group_and_three_examples() -> None:
    text = vitlab("--help").out
    places = [text.index(f"\n{title}:\n") for title, _ in GROUPS]
    assert places == sorted(places)
    assert [name for name in COMMANDS if f"\n  {name} " not in text] == []
    assert text.count("\n  vitlab ") == 3
    assert text.index("exit codes") > text.index("examples")


def test_help_shows_the_essential_knobs_and_help_all_every_knob() -> None:
    assert {name for name, (_, field) in flat_fields(RunConfig).items() if field.metadata["essential"]} == ESSENTIAL
    for command in ("train", "study", "compare"):
        short, whole = vitlab(f"{command} --help").out, vitlab(f"{command} --help-all").out
        for name in flat_fields(RunConfig):
            flag = f"\n  --{name.replace('_', '-')}"
            assert (f"{flag} " in short) == (name in ESSENTIAL), name
            assert f"{flag} " in whole or f"{flag}," in whole, name
        assert "exit codes" not in short
    assert "--device" in vitlab("evaluate --help").out
    assert "--precision" not in vitlab("evaluate --help").out
    assert vitlab("train --help").out.count("\n") < 60


def test_help_offers_only_what_there_is() -> None:
    for command in ("presets", "doctor", "runs", "check"):
        assert "--quiet" not in vitlab(f"{command} --help").out  # they show no progress
    assert vitlab("presets --quiet").code == 0
    assert "search" in vitlab("study --help").out
    assert "search" not in vitlab("compare --help").out


def test_help_for_a_command_can_be_asked_for_in_words() -> None:
    assert vitlab("help train").out == vitlab("train --help").out
    assert vitlab("help").out == vitlab("--help").out


# --------------------------------------------------------------------------------------------------- hints


def test_hints_lead_to_what_exists() -> None:
    knobs = flat_fields(RunConfig)
    assert [name for name in [*hints.RENAMED, *hints.ABSENT] if name in knobs] == []
    for name, meant in hints.RENAMED.items():
        knob, _, value = meant.partition("=")
        assert knob in knobs, name
        if value:
            RunConfig().with_knobs(**{knob: value})
    for knob, value in hints.VALUES:
        assert value not in choices(inner_type(knob_type(RunConfig, knob))[0])
    parser, children = build_parser()
    assert not set(words.COMMANDS) & set(children)
    for lines in words.COMMANDS.values():
        assert all(line.split()[1] in children or line == "vitlab --version" for line in lines)
    flags = {flag for child in children.values() for flag in child._option_string_actions}
    flags |= {str(action.metavar) for child in children.values() for action in child._actions}
    assert {meant.split()[0].rstrip(",") for meants in words.OPTIONS.values() for meant in meants} <= flags
    for name, meants in words.CHOICES.items():
        known = [action.choices for child in children.values() for action in child._actions
                 if name in action.option_strings or (name == child.prog and action.dest == "action")]  # fmt: skip
        assert known, name
        assert all(set(meants.values()) <= set(choices or ()) for choices in known), name
    assert all(parser.prog == "vitlab" and child.prog == f"vitlab {name}" for name, child in children.items())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        # a word too many
        ("evaluate one two", "(one run at a time; to compare: `vitlab look one --beside two`)"),
        ("look one two --quiet", "(one run at a time; to compare: `vitlab look one --beside two`)"),
        ("show one two", "(one run at a time; to compare: `vitlab look one --beside two`)"),
        ("train --out my runs/first", "(quote a path with spaces: --out 'my runs/first')"),
        ("train --data my pets", "(quote a path with spaces: --data 'my pets')"),
        ("train --data digits mnist", "`vitlab study --vary data=digits,mnist`"),
        ("train one", "(use --resume one to continue it, or --init-from one)"),
        ("zoo mnist", "(use `vitlab show mnist`)"),
        ("zoo list", "(use `vitlab zoo`)"),
        # words of other programs
        ("-v", "use --version, or -V"),
        ("draw", "`vitlab demo`"),
        ("val", "`vitlab evaluate RUN --split val`"),
        ("init", "`vitlab train`"),
        ("config", "`vitlab train --print-config`"),
        ("train --force", "vitlab never overwrites: choose another --out, or `vitlab runs delete RUN`"),
        ("train --exist-ok", "vitlab never overwrites"),
        ("train --project x", "(use --out DIR)"),
        ("train --dry-run", "(use --print-config)"),
        ("train \u2014epochs 3", "begins with a long dash; use two short ones: --epochs"),
        ("evaluate one --test-data mnist", "(use --on DATA)"),
        ("evaluate --run one", "(RUN is named without an option)"),
        ("predict seven.png --model mnist", "(RUN is named without an option)"),
        ("predict mnist seven.png -o out.csv", "(use --csv FILE)"),
        ("predict seven.png mnist", "the run comes first: `vitlab predict mnist seven.png`"),
        ("predict mnist https://a.b/c.png", "is a web address, which vitlab does not read; download the picture"),
        ("export mnist --format onnx", "(use --to FORMAT)"),
        ("data suspects", "needs a run; `vitlab runs` lists yours"),
        ("train --data digits,mnist", "name one data set, not digits,mnist; `vitlab study --vary data=digits,mnist`"),
        ("study --vary patch_size=4, 7", "no space after the comma: --vary patch_size=4,7"),
        ("study --vary patch_size=[4, 7]", "no space after the comma: --vary patch_size=4,7"),
        ("study --vary patch_size=[4,7]", "without brackets: --vary patch_size=4,7"),
        # values and actions
        ("data download mnist", "there is no `vitlab data download` (did you mean `vitlab data fetch`?)"),
        ("data suspect", "(did you mean `vitlab data suspects`?)"),
        ("data pets", "(did you mean `vitlab data describe pets`?)"),
        ("runs remove", "(did you mean `vitlab runs delete`?)"),
        ("runs nosuch", "choose one of list, delete"),
        ("evaluate one --split validation", "--split must be one of test, val, train, not 'validation' (use val)"),
        ("export mnist --to keras", "not 'keras' (use onnx)"),
        ("train --preset", "--preset needs a value, as in --preset small"),
        ("train --resume", "--resume needs a value, as in --resume runs/first"),
        ("study --vary", "--vary needs a value, as in --vary patch_size=4,7"),
        ("train --quiet=3", "--quiet takes no value; leave out '3'"),
        ("study --vary depth=1,2 --seeds 0", "vitlab: --seeds must be a whole number from 1"),
    ],
)
def test_a_word_in_the_wrong_place_leads_to_the_right_one(home: Path, line: str, said: str) -> None:
    make_run(home / "one")
    (home / "pets").mkdir()
    answer = vitlab(line)
    assert answer.code in (2, 3)
    assert said in answer.error


def test_every_keras_name_in_the_table_leads_somewhere() -> None:
    table = (make_transcript.PAGE.parents[1] / "reference" / "coming-from-keras.md").read_text(encoding="utf-8")
    columns = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    names = {name for column in columns for name in re.findall(r"`([a-z]+_[a-z_]+)[`=]", column)}
    assert {"projection_dim", "transformer_layers", "key_dim", "learning_rate"} <= names
    knobs = flat_fields(RunConfig)
    assert [name for name in names if name not in knobs and not hints.knob_hint(name, knobs).startswith(" (")] == []


def test_the_hints_hold_in_python_too() -> None:
    with pytest.raises(ConfigError, match=r"no knob 'projection_dim' \(use embed_dim\)"):
        RunConfig().with_knobs(projection_dim=64)
    with pytest.raises(ConfigError, match="use mps, for Apple's GPU"):
        RunConfig().with_knobs(device="metal")
    with pytest.raises(ConfigError, match=r"unknown knob 'learning_rate' in OptimConfig \(use lr\)"):
        RunConfig.from_dict({"optim": {"learning_rate": 1e-3}})


def test_the_transcript_shows_todays_answers() -> None:
    """If not: python -m docs.make_transcript."""
    made = make_transcript.transcript()
    assert made.count("\n| `") >= 40
    page = make_transcript.PAGE.read_text(encoding="utf-8")
    assert make_transcript.masked(make_transcript.page(made)) == make_transcript.masked(page)


# ---------------------------------------------------------------------------------------- whether it learned


def result(**values: Any) -> Result:
    """A finished run on 400 test images in ten equal classes."""
    usual = dict(test_images=400, test_guess_top1=0.1, test_guess_loss=math.log(10), test_loss=1.0, test_top1=0.5)
    return Result("done", **(usual | values))


def test_a_run_learned_if_its_interval_is_above_guessing() -> None:
    assert result().why_not_learned() is None
    # 400 images, z 1.96: 52 right have the Wilson interval 0.1005 to 0.1665, 51 right 0.0983 to 0.1638
    assert result(test_top1=52 / 400).why_not_learned() is None
    told = result(test_top1=51 / 400).why_not_learned()
    assert told is not None
    assert "12.75 % of the test images (95 % interval 9.83 to 16.38 %)" in told
    assert "most common class (10.00 %)" in told
    assert result(test_top1=0.75, test_guess_top1=0.9).why_not_learned() is not None  # imbalanced classes
    assert result(test_top1=None, val_top1=0.2, val_images=100, val_guess_top1=0.25).why_not_learned() is not None
    assert result(test_top1=None, val_top1=0.9, val_images=100, val_guess_top1=0.25).why_not_learned() is None


def test_a_loss_that_blew_up_is_not_learning_whatever_the_accuracy() -> None:
    assert result(test_loss=10 * math.log(10) - 0.01).why_not_learned() is None
    assert "blew up to 9,358,009.0" in str(result(test_loss=9358009.0).why_not_learned())
    assert "not a finite number" in str(result(test_loss=None).why_not_learned())
    # Two classes, of which one is rare: the loss of guessing is so small that ten times that proves nothing.
    assert result(test_guess_loss=0.05, test_guess_top1=0.2, test_loss=0.9).why_not_learned() is None


def test_runs_of_earlier_versions_and_unfinished_ones_say_nothing() -> None:
    assert result(test_guess_top1=None, test_guess_loss=None, test_top1=0.01).why_not_learned() is None
    assert replace(result(test_top1=0.01), status="interrupted").why_not_learned() is None


@pytest.mark.parametrize(("images", "top1", "guess"), [(2, 1.0, 0.5), (2, 0.0, 0.5), (3, 1.0, 0.5), (97, 0.97, 0.99)])
def test_too_few_images_tell_nothing(images: int, top1: float, guess: float) -> None:
    """Whose interval reaches down to guessing, even if all were right."""
    few_test = result(test_images=images, test_top1=top1, test_guess_top1=guess)
    few_val = result(test_top1=None, val_images=images, val_top1=top1, val_guess_top1=guess)
    assert few_test.why_not_learned() is few_val.why_not_learned() is None
    # Then validation images tell, or else training images.
    bad_val = replace(few_test, val_images=97, val_top1=0.1, val_guess_top1=0.25)
    assert "of the validation images" in str(bad_val.why_not_learned())
    bad_train = replace(few_val, train_measured=97, train_top1=0.1, train_guess_top1=0.25)
    assert "of the training images" in str(bad_train.why_not_learned())
    assert replace(bad_train, train_top1=0.9).why_not_learned() is None
    assert "blew up to 50.0" in str(replace(few_val, train_loss=50.0, train_guess_loss=1.0).why_not_learned())


def test_training_images_tell_where_there_are_no_others(home: Path) -> None:
    lay_out(home)
    train, draw = glyphs(97), np.random.default_rng(5)
    draw.shuffle(train.labels)
    np.savez("toy.npz", x_train=train.images, y_train=train.labels)
    assert "of the training images" in vitlab("train --config tiny.json --out runs/bad --quiet --val-fraction 0").out
    assert vitlab("runs").out.count("did not learn") == 1
    np.savez("toy.npz", x_train=glyphs(97).images, y_train=glyphs(97).labels)
    assert "did not" not in vitlab("train --config tiny.json --out runs/good --quiet --val-fraction 0 --epochs 5").out


def test_the_newest_network_that_learned_is_shown(tmp_path: Path) -> None:
    for number, top1 in enumerate((0.1, 0.75, 0.75, 0.1)):
        run = make_run(tmp_path / str(number))
        values = json.loads((run / "result.json").read_text()) | {"test_top1": top1, "test_guess_top1": 0.1}
        (run / "result.json").write_text(json.dumps(values))
        os.utime(run / "config.json", (number, number))
        assert newest_with_model(tmp_path) == tmp_path / "0122"[number]


def test_what_guessing_gets_by_hand() -> None:
    import torch

    labels, shares = torch.tensor([2, 0, 2, 2, 1, 2, 0, 2]), (1 / 4, 1 / 8, 5 / 8)
    assert guess_top1(labels) == 5 / 8
    assert guess_loss(labels) == pytest.approx(-sum(share * math.log(share) for share in shares))


def test_a_training_that_learned_nothing_says_so_and_is_marked(home: Path) -> None:
    lay_out(home)
    train, test, draw = glyphs(97), glyphs(31), np.random.default_rng(5)
    for split in (train, test):
        draw.shuffle(split.labels)  # now no image has anything to do with its label
    np.savez("toy.npz", x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels)
    answer = vitlab("train --config tiny.json --out runs/bad --quiet")
    assert answer.code == 0
    assert "note: it did not learn: " in answer.out
    quiet = vitlab("train --config tiny.json --out runs/worse --seed 1 --quiet --json")
    assert json.loads(quiet.out)["test_guess_top1"] == pytest.approx(11 / 31)  # 31 images: 11, 10 and 10 of a class
    assert "note: it did not learn: " in quiet.err
    assert vitlab("runs").out.count("did not learn") == 2
    assert "it did not learn" in " ".join(vitlab("show runs/bad").out.split())


def test_evaluate_train_uses_the_training_images_without_augmentation(home: Path) -> None:
    lay_out(home)
    vitlab("train --config tiny.json --out run --quiet")
    found = [json.loads(vitlab("evaluate run --split train --json --quiet").out) for _ in range(2)]
    assert found[0] == found[1]  # with augmentation or dropout, it would differ
    assert (found[0]["split"], found[0]["images"]) == ("train", 87)


# ------------------------------------------------------------------------------------------------ the runs


def older(path: Path, hours: int) -> None:
    """Let a made run have begun so many hours ago."""
    began = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC) - datetime.timedelta(hours=hours)
    values = {name: {str: "x", int: 1, bool: False}.get(kind) for name, kind in ENVIRONMENT.items()} | {"resumed": []}
    (path / "environment.json").write_text(json.dumps(values | {"started_utc": began.isoformat()}))


def test_runs_are_listed_newest_first_with_their_state(home: Path) -> None:
    for hours, name in ((3, "old"), (1, "new"), (2, "middle")):
        older(make_run(home / "runs" / name), hours)
    (home / "runs" / "middle" / "result.json").unlink()
    make_run(home / "elsewhere")
    (home / "runs" / "link").symlink_to(home / "elsewhere")
    (home / "runs" / "notes").mkdir()
    rows = json.loads(vitlab("runs --json").out)
    assert [(row["run"], row["state"]) for row in rows] == [
        ("runs/new", "done"), ("runs/middle", "unfinished"), ("runs/old", "done"),
    ]  # fmt: skip
    assert rows[0]["bytes"] == sum(file.stat().st_size for file in (home / "runs" / "new").rglob("*") if file.is_file())
    assert (rows[0]["test_top1"], rows[0]["train_seconds"]) == (0.75, 1.5)
    lines = vitlab("runs").out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "runs/new", "runs/middle", "runs/old"]
    assert "75.00 % test" in lines[1]
    assert lines[1].split()[1] == Path(rows[0]["data"]).name
    with FileLock(home / "runs" / "middle" / ".lock"):
        assert [entry.state for entry in list_runs(Path("runs"))] == ["done", "running", "done"]
    (home / "runs" / "old" / "config.json").write_text("{")
    assert [entry.state for entry in list_runs(Path("runs"))][-1] != "done"
    assert "elsewhere" in vitlab("runs list .").out


def test_without_runs_the_list_says_how_to_make_one(home: Path) -> None:
    assert "vitlab train --data digits" in vitlab("runs").out
    assert list(home.iterdir()) == []


def test_a_deleted_run_is_gone_and_nothing_else_is(home: Path) -> None:
    make_run(home / "runs" / "one")
    make_run(home / "runs" / "two")
    (home / "precious").mkdir()
    (home / "precious" / "thesis.png").touch()
    before = snapshot(home / "runs" / "two") | snapshot(home / "precious")
    pictures = home / "runs" / "one" / "pictures"
    pictures.mkdir()
    (pictures / "attention.png").touch()
    os.symlink(home / "precious" / "thesis.png", pictures / "link.png")
    answer = vitlab("runs delete one --yes")  # a name in runs/
    assert (answer.code, "deleted runs/one" in answer.out) == (0, True)
    assert not (home / "runs" / "one").exists()
    assert snapshot(home / "runs" / "two") | snapshot(home / "precious") == before


def test_a_run_that_is_named_twice_is_deleted_once(home: Path) -> None:
    make_run(home / "run")
    answer = vitlab("runs delete run ./run run/ --yes")
    assert (answer.code, answer.out.count("deleted")) == (0, 1)
    assert list(home.iterdir()) == []


def test_what_vitlab_did_not_write_stays(home: Path) -> None:
    make_run(home / "run")
    (home / "run" / "notes.txt").write_text("mine")
    assert "notes.txt" in vitlab("runs delete run --yes").out
    assert [path.name for path in (home / "run").iterdir()] == ["notes.txt"]


def test_deleting_needs_a_real_run_that_nobody_writes_and_a_yes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, folder = make_run(home / "run"), home / "folder"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "result.json"):  # as in folders of other libraries
        (folder / name).touch()
    (home / "link").symlink_to(run)
    make_run(home / "linked")
    shutil.copytree(folder, home / "outside")
    (home / "linked" / "pictures").symlink_to(home / "outside")
    before = snapshot(home)
    for name, says in (
        ("folder", "not a run folder"),
        ("link", "is a link"),
        ("linked", "not a folder"),
        (".", "current"),
    ):
        answer = vitlab(f"runs delete {name} --yes")
        assert (answer.code, says in answer.error) == (8, True), answer.error
    assert vitlab("runs delete run folder --yes").code == 8  # all are checked before the first is deleted
    with FileLock(run / ".lock"):
        answer = vitlab("runs delete run --yes")
        assert (answer.code, "another vitlab process" in answer.error) == (7, True)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # a pipe
    assert vitlab("runs delete run").code == 2
    terminal = io.StringIO("n\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert "nothing was deleted" in vitlab("runs delete run").err
    assert snapshot(home) == before


def test_an_interrupted_deletion_can_be_repeated(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(home / "run")
    with monkeypatch.context() as patch:
        from vitlab import files

        removed: list[None] = []
        remove = files.remove
        patch.setattr(files, "remove", lambda path: removed.append(remove(path)) if len(removed) < 3 else fail())
        with contextlib.suppress(RunError):
            vitlab("runs delete run --yes")
    assert len(list((home / "run").iterdir())) > 0
    assert vitlab("runs delete run --yes").code == 0
    assert not (home / "run").exists()


def fail() -> None:
    """As a disk would."""
    raise RunError("the disk is gone")


def test_show_says_what_a_run_is_in_half_a_screen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(home)
    run = "--data toy.npz --epochs 2 --depth 1 --device cpu --val-fraction 0.1 --out run --quiet"
    assert vitlab(f"train --preset fast {run}").code == 0
    text = vitlab("show run").out
    assert len(text.splitlines()) <= 14
    for part in (
        "ViT: 5 x 5 patches",
        "1 block",
        "fast, with",
        "depth 1",
        "epochs 2",
        "3 classes",
        "95 % interval",
    ):
        assert part in text, part
    assert "vitlab serve run" in text
    facts = json.loads(vitlab("show run --json").out)
    assert facts["changed"] == {"depth": 1, "val_fraction": 0.1, "epochs": 2.0, "data": str(home / "toy.npz")}
    assert len(facts["history"]) == 2
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, vitlab("show run").out.splitlines())) <= 50
    (home / "run" / "result.json").unlink()
    assert "unfinished" in vitlab("show run").out
    assert "vitlab train --resume run" in vitlab("show run").out
    assert vitlab("show nothing").code == 8


# -------------------------------------------------------------------------------------------------- layout


def test_a_table_drops_columns_but_never_cuts_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"run": "first", "accuracy": "99.47 %", "size": "1.5 MB"}, {"run": "b", "accuracy": "9.00 %", "size": ""}]
    assert aligned(rows, ("size",), ("run",)) == [
        "run    accuracy    size", "first   99.47 %  1.5 MB", "b        9.00 %",
    ]  # fmt: skip
    monkeypatch.setenv("COLUMNS", "20")
    assert aligned(rows, ("size",), ("run",)) == ["run    accuracy", "first   99.47 %", "b        9.00 %"]
    monkeypatch.setenv("COLUMNS", "5")
    assert "99.47 %" in aligned(rows, ("size",), ("run",))[1]
    monkeypatch.setenv("COLUMNS", "31")
    assert wrapped("the page reports exactly 98.94 % of it", "a  ", "   ") == [
        "a  the page reports exactly", "   98.94 % of it",
    ]  # fmt: skip


def test_the_bars_of_a_curve() -> None:
    assert curve([0.0, 1.0, 7.0]) == "▁▂█"
    assert curve([3.0, 3.0]) == "▄▄"
    assert len(curve(list(map(float, range(100))))) <= 40


def test_presets_say_each_thing_once() -> None:
    text = vitlab("presets").out
    assert text.count("may be chance") == text.count("does not name") == 1
    assert [name for name in PRESETS if f"\n{name} " not in f"\n{text}"] == []
