"""The command line when all is well: what it prints, where, and what it leaves behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.command import Answer, finish, lay_out, snapshot, start, vitlab
from tests.tiny import glyphs, tiny_config
from vitlab import PRESETS, RunConfig, preset_config
from vitlab.files import claimed
from vitlab.progress import epoch_line
from vitlab.runs.folder import default_folders

RESULT_KEYS = {
    "status", "preset", "data", "seed", "params", "params_by_part", "flops_per_image", "epochs", "train_seconds",
    "wall_seconds", "images_per_second", "val_top1", "test_top1", "test_top5", "test_loss", "best_epoch", "device",
    "threads",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and the run "run"."""
    folder = lay_out(tmp_path_factory.mktemp("home"))
    pictures(folder / "pictures")
    with contextlib.chdir(folder):
        assert vitlab("train --config tiny.json --out run --quiet").code == 0
    return folder


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share the folder, so each gives its runs names of their own."""
    monkeypatch.chdir(home)


def pictures(folder: Path) -> None:
    """A folder of PNG files with a sub-folder for each class, and no test part."""
    split = glyphs(30)
    for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        (folder / "abc"[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / "abc"[label] / f"{number}.png")


def read(path: str) -> Any:
    """The JSON in a file."""
    return json.loads(Path(path).read_text())


def good(line: str) -> Answer:
    """The answer of a command that must succeed."""
    answer = vitlab(line)
    assert answer.code == 0, answer.err
    return answer


# --------------------------------------------------------------------------------------------------- train


def test_json_is_one_line_that_equals_result_json_on_the_disk() -> None:
    answer = good("train --config tiny.json --out json --quiet --json")
    assert (answer.err, answer.out.count("\n")) == ("", 1)
    result = json.loads(answer.out)
    assert result == read("json/result.json")
    assert sorted(RESULT_KEYS - result.keys()) == []
    assert (result["status"], result["data"], result["seed"], result["epochs"]) == (
        "done",
        str(Path("toy.npz").absolute()),
        0,
        3,
    )
    assert result["params"] == sum(result["params_by_part"].values())
    assert 0 < result["train_seconds"] <= result["wall_seconds"]
    assert result["test_top1"] > 0.9


def test_numbers_of_an_epoch_are_written_for_people() -> None:
    class Piece:
        config = tiny_config("toy.npz", epochs=1.75)

    row = {"epoch": 2, "train_loss": 17532.0876, "train_top1": 0.5, "val_loss": 12345.0, "val_top1": 0.5}
    line = epoch_line(Piece(), row | {"train_seconds": 1.0})  # type: ignore[arg-type]
    assert line.startswith("epoch 2/2  loss 17,532.0876")
    assert "validation loss 12,345.0000" in line


def test_the_run_folder_says_how_the_run_went_and_where() -> None:
    rows = [json.loads(line) for line in Path("run/history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[0].keys() >= {"step", "lr", "train_loss", "val_loss", "val_top1", "train_seconds", "wall_seconds"}
    environment = read("run/environment.json")
    assert environment.keys() >= {"torch", "device", "threads", "precision", "git_commit"}
    assert (environment["device"], environment["threads"], environment["precision"]) == ("cpu", 1, "fp32")
    # The file that --data names is to be found again from every other folder.
    asked = read("tiny.json")
    asked["data"]["data"] = str(Path("toy.npz").absolute())
    assert read("run/config.json") == asked


def test_progress_goes_to_standard_error_and_the_result_to_standard_output() -> None:
    answer = good("train --config tiny.json --out loud")
    assert re.findall(r"^epoch (\d)/3 ", answer.err, flags=re.MULTILINE) == ["1", "2", "3"]
    for words in ("cpu, fp32, 1 thread,", "87 training, 10 validation, 31 test images", "4 x 4 patches", "parameters"):
        assert words in answer.err
    assert "epoch 1/3" not in answer.out
    assert f"test top-1 {100 * read('loud/result.json')['test_top1']:.2f} %" in answer.out
    assert "95 % interval" in answer.out


@pytest.mark.parametrize(
    "line",
    [
        "train --config tiny.json --out next",
        "train --config tiny.json --out 'next one'",
        "train --config tiny.json --out next-pictures --data pictures",
        "train --config tiny.json",
    ],
)
def test_the_last_lines_name_the_folder_and_next_commands_that_work(line: str) -> None:
    saved, *commands = good(line + " --quiet").out.splitlines()[-4:]
    place = saved.removeprefix("saved in ")
    assert (Path(place) / "result.json").exists()
    commands = [command.removeprefix("next:").partition("#")[0].strip() for command in commands]
    assert [command.split()[1] for command in commands] == ["show", "look", "serve"]
    assert all(place in command for command in commands)
    assert place in good(commands[0].removeprefix("vitlab ")).out
    good(commands[1].removeprefix("vitlab ") + " --quiet")
    assert (Path(place) / "report.html").exists()


def test_without_out_the_folder_is_named_after_date_preset_data_and_seed() -> None:
    before = set(Path().glob("runs/*"))
    good("train --config tiny.json --seed 3 --epochs 1 --quiet")
    (made,) = set(Path().glob("runs/*")) - before
    assert re.fullmatch(r"\d{8}-\d{6}-custom-toy-s3", made.name)
    assert (made / "result.json").exists()


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each claims its folder before the others have written anything."""
    monkeypatch.chdir(tmp_path)
    names = [Path("runs/now"), Path("runs/now-2"), Path("runs/now-3")]
    with claimed(names) as first, claimed(names) as second, claimed(names) as third:
        assert [first, second, third] == names
        (second / "data.json").touch()
    assert [path.exists() for path in names] == [False, True, False]  # an empty folder does not stay
    first_name, second_name = itertools.islice(default_folders(preset_config("small")), 2)
    assert re.fullmatch(r"runs/\d{8}-\d{6}-small-mnist-s0", str(first_name))
    assert str(second_name) == f"{first_name}-2"


def test_a_mistake_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert vitlab("train --data nowhere --quiet").code == 3
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    def digest(words: str) -> Any:
        return json.loads(good(f"train --config tiny.json --quiet --json {words}").out)["model_sha256"]

    assert digest("--out again") == read("run/result.json")["model_sha256"]
    assert digest("--out other --seed 1") != read("run/result.json")["model_sha256"]


def test_limit_train_uses_only_so_many_images() -> None:
    result = json.loads(good("train --config tiny.json --out few --limit-train 20 --quiet --json").out)
    assert (result["train_images"], result["val_images"]) == (20, 10)
    assert result["steps"] == 3 * 2


def test_data_without_test_images_gives_no_test_accuracy() -> None:
    answer = good("train --config tiny.json --data pictures --out pictured --quiet")
    result = read("pictured/result.json")
    assert [result[key] for key in ("status", "test_top1", "test_top5", "test_loss")] == ["done", None, None, None]
    assert "no test images" in answer.out
    assert json.loads(good("evaluate pictured --split val --json").out)["top1"] == result["val_top1"]


def test_resuming_a_finished_run_says_so_and_changes_nothing() -> None:
    before = snapshot(Path("run"))
    answer = good("train --resume run")
    assert "finished" in answer.err
    assert "epoch" not in answer.err
    assert json.loads(good("train --resume run --json").out) == read("run/result.json")
    assert json.loads(good("train --resume run --epochs 3 --json").out) == read("run/result.json")
    assert snapshot(Path("run")) == before


# ---------------------------------------------------------------------------------------------- the knobs


@pytest.mark.parametrize(
    ("words", "section", "name", "value"),
    [
        ("--no-normalize", "data", "normalize", False),
        ("--normalize", "data", "normalize", True),
        ("--flip", "augment", "flip", True),
        ("--head-hidden 8 4", "model", "head_hidden", [8, 4]),
        ("--head-hidden none", "model", "head_hidden", []),
        ("--head-hidden 8 4 --head-hidden", "model", "head_hidden", []),
        ("--head-dim none", "model", "head_dim", None),
        ("--patch-size=4", "model", "patch_size", 4),
        ("--lr 1e-2", "optim", "lr", 0.01),
        ("--epochs 4 --epochs 7", "train", "epochs", 7),
        ("--data 'my digits'", "data", "data", "my digits"),
    ],
)
def test_a_flag_changes_its_knob_and_nothing_else(words: str, section: str, name: str, value: object) -> None:
    expected = preset_config("seed-28x7").to_dict()
    expected[section][name] = value
    assert json.loads(good(f"train --preset seed-28x7 {words} --print-config").out) == expected


def test_print_config_round_trips_through_config_and_writes_nothing() -> None:
    before = snapshot(Path())
    first = good("train --preset seed-48x6 --lr 0.002 --head-hidden 8 4 --no-normalize --print-config").out
    assert snapshot(Path()) == before
    Path("printed.json").write_text(first)
    assert good("train --config printed.json --print-config").out == first
    assert json.loads(first) == RunConfig.from_dict(json.loads(first)).to_dict()
    changed = json.loads(good("train --config printed.json --epochs 9 --print-config").out)
    assert changed["train"].pop("epochs") == 9


def test_the_presets_are_listed_and_shown() -> None:
    text = good("presets").out
    assert [name for name in PRESETS if not re.search(rf"^{name} ", text, flags=re.MULTILINE)] == []
    assert json.loads(good("presets --json").out).keys() == PRESETS.keys()
    for name in PRESETS:
        assert json.loads(good(f"presets {name} --json").out) == preset_config(name).to_dict()
        assert json.loads(good(f"train --preset {name} --print-config").out) == preset_config(name).to_dict()
    shown = good("presets keras-cnn").out
    assert shown.startswith("keras-cnn: ")
    assert json.loads(shown[shown.index("{") :]) == preset_config("keras-cnn").to_dict()


# ------------------------------------------------------------------------------------- the other commands


def test_evaluate_finds_the_numbers_of_the_result_again() -> None:
    result = read("run/result.json")
    numbers = json.loads(good("evaluate run --json --quiet").out)
    for key in ("top1", "top5", "loss", "top1_interval", "images"):
        assert numbers[key] == result[f"test_{key}"], key
    text = good("evaluate run --quiet")
    recalls = result["test_recall"]
    assert (text.err, text.out.count("\n")) == ("", 3 + len(recalls))  # two lines, and a table with its head
    for name, recall in recalls.items():
        assert re.search(rf"^{re.escape(name)} .* {100 * recall:.2f} %", text.out, re.MULTILINE), name
    assert f"test top-1 {100 * result['test_top1']:.2f} %" in text.out
    assert json.loads(good("evaluate run --split val --json").out)["top1"] == result["val_top1"]


def test_evaluate_with_shifts_is_another_measurement_and_says_so() -> None:
    plain, moved = (json.loads(good(f"evaluate run --json --shifts {shifts}").out) for shifts in (0, 2))
    assert (plain["shifts"], moved["shifts"]) == (0, 2)
    assert plain["loss"] != moved["loss"]
    assert vitlab("evaluate run --shifts many").code == 2
    mirrored = json.loads(good("evaluate run --json --flips").out)
    assert (plain["flips"], mirrored["flips"]) == (False, True)
    assert plain["loss"] != mirrored["loss"]


def test_evaluate_works_from_another_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    assert json.loads(good("evaluate ../run --json").out)["top1"] == read("../run/result.json")["test_top1"]


def test_data_that_has_moved_can_be_named_again(home: Path, tmp_path: Path) -> None:
    good("train --config tiny.json --epochs 1 --out moved --data toy.npz")
    (tmp_path / "new.npz").write_bytes((home / "toy.npz").read_bytes())
    config = (home / "moved" / "config.json").read_text()
    (home / "moved" / "result.json").unlink()
    good(f"train --resume moved --data {tmp_path / 'new.npz'}")
    answer = good(f"evaluate moved --json --data {tmp_path / 'new.npz'}")
    assert json.loads(answer.out)["top1"] == read("moved/result.json")["test_top1"]
    assert (home / "moved" / "config.json").read_text() == config
    (home / "toy.npz").rename(home / "away.npz")
    try:
        for line in ("evaluate moved", "look moved", "data suspects moved"):
            assert vitlab(line).error.endswith("toy.npz and are gone; --data PLACE says where they are now")
    finally:
        (home / "away.npz").rename(home / "toy.npz")


def test_the_data_sets_are_listed() -> None:
    rows = json.loads(good("data list --json").out)
    assert {"mnist", "fashion-mnist", "digits"} <= {row["name"] for row in rows}
    assert all(row.keys() >= {"title", "image", "classes", "may_flip", "licence"} for row in rows)
    assert "any folder of images" in good("data list").out


def test_doctor_tells_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitlab.machine.gemm_gflops", lambda machine: {"fp32": 1.25, "bf16": 2.5}[machine.precision])
    found = json.loads(good("doctor --json").out)
    assert found.keys() >= {"vitlab", "torch", "device", "device_name", "threads", "precision", "cache", "VITLAB_DATA"}
    assert (found["gemm_fp32_gflops"], found["gemm_bf16_gflops"]) == (1.2, 2.5)
    assert found["kernels"] in ("native", "plain")
    assert ("kernels_multiply_by" in found) == (found["kernels"] == "native")
    assert found["bf16_speed"].startswith("2.0 times")
    assert "times" not in found["chosen_because"]  # no choice depends on what was measured
    assert "gemm_fp32_gflops" in good("doctor").out


# --------------------------------------------------------------------------- processes and their surroundings


def test_odd_names_and_a_poor_locale() -> None:
    answer = finish(start("train --config tiny.json --out 'Übung 1/ß' --quiet", LC_ALL="C"))
    assert (answer.code, answer.err) == (0, "")
    assert "Übung 1/ß" in answer.out
    assert read("Übung 1/ß/result.json")["model_sha256"] == read("run/result.json")["model_sha256"]


def test_an_output_that_cannot_show_the_folder_name() -> None:
    os.symlink("run", "Übung")
    answer = finish(start("train --resume Übung --quiet", PYTHONIOENCODING="ascii", PYTHONUTF8="0"))
    assert (answer.code, answer.err) == (0, "")
    assert "bung" in answer.out


@pytest.mark.parametrize("line", ["presets", "presets small --json", "data list", "train --help"])
def test_a_closed_pipe_is_no_reason_for_a_traceback(line: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as if `| head -1` had left already
    answer = finish(start(line, stdout=writer))
    os.close(writer)
    assert answer.err == ""
    assert answer.code == (0 if "--help" in line else 141)  # argparse itself lets a failed write of help pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="NOT TESTED: there is no /dev/full")
def test_an_output_on_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        answer = finish(start("presets", stdout=full.fileno()))
    assert answer.code == 6
    assert "full" in answer.error


def test_the_installed_command_is_the_module() -> None:
    script = Path(sys.executable).with_name("vitlab")
    if not script.exists():
        pytest.skip("NOT TESTED: vitlab is not installed as a command")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, vitlab("--version").out, "")
