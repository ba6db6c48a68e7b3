"""A run folder that is damaged, or comes from a stranger: it is refused in one line, and does no harm."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.command import snapshot, vitlab
from tests.made_runs import make_run, unseal
from tests.tiny import tiny_config, write_npz
from vitlab import Classifier, Reporter, RunFolder, files, resume_run, train_run
from vitlab.cli.study import print_table
from vitlab.errors import RunError, StorageError
from vitlab.look.summary import MARK
from vitlab.look.write import is_card
from vitlab.runs.folder import pack
from vitlab.runs.seal import seal
from vitlab.text import printable
from vitlab.training.step import Checkpoint

ESCAPES = "\x1b]0;PWNED\x07\x1b[2J\r\u202e\x9bA"
WEIGHT = "blocks.0.mlp.fc1.weight"


def press_ctrl_c(task: object, counters: Any, sums: Tensor) -> None:
    if counters.step == 8:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a ViT: finished, and interrupted in epoch 2."""
    folder = tmp_path_factory.mktemp("made")
    config = tiny_config(write_npz(folder / "glyphs.npz"), optimizer="muon", ema_decay=0.5, select="best")
    train_run(config, folder / "finished")
    train_run(config, folder / "unfinished", Reporter(step=press_ctrl_c))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(made, tmp_path / "made"))


def edit(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Digests


READERS: dict[str, Callable[[RunFolder], Any]] = {
    "config.json": RunFolder.config,
    "data.json": RunFolder.data,
    "environment.json": RunFolder.environment,
    "history.jsonl": RunFolder.history,
    "result.json": RunFolder.result,
    "model.safetensors": lambda folder: folder.load_weights(folder.config().digest())[0].keys(),
}


@pytest.mark.parametrize("name", READERS)
def test_no_flipped_bit_of_a_finished_run_goes_unnoticed(place: Path, name: str) -> None:
    flip_bits(place / "finished" / name, READERS[name], 60 if name == "model.safetensors" else 300)


@pytest.mark.parametrize("name", ["config.json", "data.json", "environment.json", "result.json"])
@pytest.mark.parametrize("end", ["interrupted", "killed"])
def test_no_flipped_bit_goes_unnoticed_before_a_run_is_resumed(place: Path, name: str, end: str) -> None:
    if end == "killed":
        (place / "unfinished" / "result.json").unlink()
    if (place / "unfinished" / name).exists():
        flip_bits(place / "unfinished" / name, READERS[name], 120)


def flip_bits(path: Path, read: Callable[[RunFolder], Any], most: int) -> None:
    """Flip single bits of a file, one after the other: the reader refuses each, or reads what it read before."""
    folder, whole = RunFolder(path.parent), path.read_bytes()
    good, refused = read(folder), 0
    bits = range(8 * len(whole))
    for bit in random.Random(7).sample(bits, min(most, len(bits))):
        spoiled = bytearray(whole)
        spoiled[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoiled)
        try:
            assert read(folder) == good, f"bit {bit}"
        except RunError:
            refused += 1
    path.write_bytes(whole)
    assert refused > 0.8 * min(most, len(bits))
    assert read(folder) == good


def test_every_file_of_a_run_is_named_in_its_result_with_its_sha256(place: Path) -> None:
    stored = json.loads((place / "finished" / "result.json").read_text())["files"]
    names = [
        "config.json",
        "data.json",
        "environment.json",
        "history.jsonl",
        "model.safetensors",
        "novelty.safetensors",
    ]
    assert stored == {name: files.sha256((place / "finished" / name).read_bytes()) for name in names}


@pytest.mark.parametrize("name", ["environment.json", "history.jsonl"])
def test_a_file_of_another_run_is_refused(place: Path, name: str) -> None:
    resume_run(place / "unfinished")
    shutil.copy(place / "unfinished" / name, place / "finished" / name)
    with pytest.raises(RunError, match=rf"{name} is damaged: its SHA-256 has changed"):
        READERS[name](RunFolder(place / "finished"))


def test_a_later_format_is_not_guessed_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(place / "finished")
    result = folder.result()
    assert result is not None
    monkeypatch.setattr("vitlab.runs.seal.FORMAT", 3)
    folder.go_on(folder.environment())
    folder.write_result(result)
    monkeypatch.undo()
    with pytest.raises(RunError, match="later version"):
        folder.result()


def test_a_resume_that_dies_at_its_first_write_can_be_repeated(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = files.write_bytes

    def refuse(path: Path, data: bytes) -> None:
        if path.name == "environment.json":
            raise StorageError("full")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", refuse)
        with pytest.raises(StorageError):
            resume_run(place / "unfinished")
    assert resume_run(place / "unfinished")["status"] == "done"
    weights = [(place / run / "model.safetensors").read_bytes() for run in ("finished", "unfinished")]
    assert weights[0] == weights[1]


def test_a_run_of_an_earlier_version_goes_on_and_gets_digests(place: Path) -> None:
    result = resume_run(unseal(place / "unfinished"))
    assert result["status"] == "done"
    assert result["files"].keys() >= {"config.json", "data.json", "environment.json", "history.jsonl"}
    assert RunFolder(place / "unfinished").result() == result


def test_an_earlier_version_had_no_digests_but_its_data_json_must_fit_the_data(place: Path) -> None:
    run = unseal(place / "unfinished")
    text = (run / "data.json").read_text()
    (run / "data.json").write_text(text.replace('"mean": [\n      0.', '"mean": [\n      4.'))
    with pytest.raises(RunError, match=r"data\.json is damaged: it does not describe"):
        resume_run(run)


# What a stranger may put into a file


def forbidden(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("nothing may be allocated yet")


@pytest.mark.parametrize("run", ["finished", "unfinished"])
def test_a_huge_network_in_config_json_allocates_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    folder = RunFolder(unseal(place / run))
    config = folder.config().with_knobs(embed_dim=9216, depth=97)  # 100 billion parameters
    folder.write("config.json", config.to_dict())
    if run == "finished":
        edit(folder.path / "result.json", config_digest=config.digest())
    else:
        (newest,) = folder.checkpoints()[:1]
        save(newest, folder.read_checkpoint(newest, RunFolder(place / "finished").config().digest()), config.digest())
    for name in ("finished.build_model", "prepare.build_model"):
        monkeypatch.setattr(f"vitlab.runs.{name}", forbidden)
    with pytest.raises(RunError, match=r"config\.json does not match"):
        Classifier.load(folder.path) if run == "finished" else resume_run(folder.path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": 17}, "17 channels and 3 classes are impossible"),
        ({"classes": ["one"]}, "1 channels and 1 classes are impossible"),
        ({"classes": ["a", "b", "c", "d"]}, "does not match"),
        ({"preprocess": {"image_size": 9, "mean": [0.5], "std": [0.5]}}, "its image_size or crop is not that"),
        (
            {"preprocess": {"image_size": 8, "mean": [0.5], "std": [0.5], "crop": 7}},
            "its image_size or crop is not that",
        ),
        ({"preprocess": {"image_size": 8, "mean": [0.5], "std": [0.0]}}, "std above 0"),
        ({"preprocess": {"image_size": 8, "mean": [0.5, 0.5], "std": [0.5]}}, "need 1 numbers"),
        ({"preprocess": {"image_size": 8, "mean": [0.5], "std": ["x"]}}, "'std' is ['x']"),
        ({"preprocess": {"image_size": 8, "mean": [10**29], "std": [-1]}}, "std above 0"),
        ({"classes": ["a", "b", "\udcff"]}, "the name of a class is not text"),
        ({"preprocess": []}, "'preprocess' is []"),
    ],
    ids=str,
)
def test_data_json_must_make_sense(place: Path, changes: dict[str, Any], said: str) -> None:
    run = unseal(place / "finished")
    edit(run / "data.json", **changes)
    answer = vitlab(f"evaluate {run} --quiet")
    assert (answer.code, answer.out) == (8, "")
    assert said in answer.error


def save(path: Path, checkpoint: Checkpoint | None, config_digest: str) -> Path:
    """Write a checkpoint in place of ``path`` as a stranger can, with a right digest in its name."""
    assert checkpoint is not None
    counters = json.dumps(checkpoint.counters)
    data = pack(checkpoint.tensors, {"format": "3", "config_digest": config_digest, "counters": counters})
    path.unlink()
    new = path.with_name(f"{path.name[:15]}{files.sha256(data)[:32]}.safetensors")
    new.write_bytes(data)
    return new


Change = Callable[[dict[str, Tensor], dict[str, Any]], object]


def put(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    """A tensor of a checkpoint that is another one."""
    return lambda tensors, counters: tensors.update({name: change(tensors[name])})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, c: t.pop(f"optim/{WEIGHT}/momentum"), "momentum"),
        (lambda t, c: t.pop("optim/pos_embed/exp_avg_sq"), "exp_avg_sq"),
        (lambda t, c: [t.pop(name) for name in list(t) if name.startswith("optim/")], "optim/"),
        (lambda t, c: t.pop(f"average/{WEIGHT}"), "average/"),
        (lambda t, c: t.pop(f"best/{WEIGHT}"), "best/"),
        (lambda t, c: t.update({"model/more": torch.ones(3)}), "model/more"),
        (put(f"model/{WEIGHT}", lambda one: one[:, :-1]), WEIGHT),
        (put(f"model/{WEIGHT}", Tensor.double), WEIGHT),
        (put(f"model/{WEIGHT}", lambda one: one / 0), "not finite"),
        (put(f"average/{WEIGHT}", lambda one: one * float("nan")), "not finite"),
        (lambda t, c: c.pop("best_top1"), "'best_top1' is missing"),
        (lambda t, c: c.update(step=7), "not those of its step"),
        (lambda t, c: c.update(more=7), "not those of its step"),
        (lambda t, c: c.update(rows=[]), "does not fit its run"),
        (lambda t, c: c.update(rows=c["rows"] * 3), "does not fit its run"),
        (lambda t, c: c.update(rows=[7]), "'rows'"),
        (lambda t, c: c.update(rows=[{"epoch": 1}]), "row 1"),
        (lambda t, c: c.update(best_epoch=5), "does not fit its run"),
        (lambda t, c: c.update(best_epoch=0), "does not fit its run"),
        (lambda t, c: c.update(train_seconds="x"), "'train_seconds' is 'x'"),
    ],
)
def test_a_checkpoint_must_be_one_of_its_run(place: Path, change: Change, said: str) -> None:
    folder = RunFolder(place / "unfinished")
    newest = folder.checkpoints()[0]
    whole = folder.read_checkpoint(newest, folder.config().digest())
    assert whole is not None
    change(whole.tensors, whole.counters)
    new = save(newest, whole, folder.config().digest())
    before = snapshot(folder.path)
    with pytest.raises(RunError, match=said.replace("[", r"\[")) as caught:
        resume_run(folder.path)
    assert "\n" not in str(caught.value)
    assert snapshot(folder.path) == before
    assert folder.checkpoints()[0] == new


def test_a_checkpoint_of_a_later_step_than_the_last_is_refused(place: Path) -> None:
    folder = RunFolder(place / "unfinished")
    newest = folder.checkpoints()[0]
    whole = folder.read_checkpoint(newest, folder.config().digest())
    assert whole is not None
    whole.counters["step"] = 999_999_999
    save(
        newest.rename(newest.with_name(f"step-{999_999_999:09d}-{'0' * 32}.safetensors")),
        whole,
        folder.config().digest(),
    )
    with pytest.raises(RunError, match="step 999999999 does not fit its run"):
        resume_run(folder.path)


@pytest.mark.parametrize("command", ["predict RUN x.png", "export RUN --to web --out web", "evaluate RUN", "serve RUN"])
def test_weights_that_are_not_finite_are_one_line(tmp_path: Path, command: str) -> None:
    """Their digest is right, and the network would even answer."""
    run = make_run(tmp_path / "run")
    folder = RunFolder(run)
    weights = folder.load_weights(folder.config().digest())[0]
    weights["head.1.bias"] = weights["head.1.bias"].index_fill(0, torch.tensor([3]), float("nan"))
    edit(run / "result.json", model_sha256=folder.save_weights(weights))
    answer = vitlab(command.replace("RUN", str(run)))
    assert answer.code == 8
    assert "model.safetensors is damaged: head.1.bias holds numbers that are not finite" in answer.error
    assert not Path("web").exists()


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype"])
def test_weights_of_another_network_are_one_line(tmp_path: Path, change: str) -> None:
    run = make_run(tmp_path / "run")
    folder = RunFolder(run)
    weights = folder.load_weights(folder.config().digest())[0]
    bias = weights.pop("head.1.bias")
    weights |= {"missing": {}, "extra": {"head.1.bias": bias, "more": bias.clone()}}.get(
        change, {"head.1.bias": bias[:9] if change == "shape" else bias.double()}
    )
    edit(run / "result.json", model_sha256=folder.save_weights(weights))
    with pytest.raises(RunError, match=r"config\.json does not match .*model\.safetensors \((head\.1\.bias|more)\)"):
        Classifier.load(run)


def test_files_that_are_added_to_a_run_get_a_digest_and_are_read_by_it(place: Path) -> None:
    folder = RunFolder(place / "finished")
    result = folder.result()
    assert result is not None
    (folder.path / "more.safetensors").write_bytes(b"seven")
    with pytest.raises(RunError, match=r"more\.safetensors is damaged"):
        folder.read("more.safetensors")
    folder.write_result(result)
    assert folder.read("more.safetensors") == b"seven"
    (folder.path / "more.safetensors").write_bytes(b"eleven")
    assert checked(f"{folder.path}") == (8, {"more.safetensors": "damaged"})
    digests = dict(result["files"]) | {"../glyphs.npz": files.digest_of(place / "glyphs.npz")}
    folder.write("result.json", seal(result, digests))
    assert checked(f"{folder.path}") == (8, {"result.json": "damaged"})


# Links and pipes


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder with files that are named like those that vitlab writes or deletes."""
    (tmp_path / "victim").mkdir()
    for name in ("training.png", "patches.svg", f"step-000000001-{'0' * 32}.safetensors", ".a.b1234567.tmp", "lock"):
        (tmp_path / "victim" / name).write_text("precious")
    return tmp_path / "victim"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("pictures", "look finished --quiet"),
        ("checkpoints", "train --resume unfinished"),
        (".lock", "train --resume unfinished"),
    ],
)
def test_links_in_a_run_folder_lead_nowhere(
    place: Path, victim: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    monkeypatch.chdir(place)
    before = snapshot(victim)
    for run in ("finished", "unfinished"):
        if (Path(run) / name).is_dir():
            shutil.rmtree(Path(run) / name)
        (Path(run) / name).unlink(missing_ok=True)
        (Path(run) / name).symlink_to(victim / "lock" if name == ".lock" else victim)
    answer = vitlab(command)
    assert answer.code == 8
    assert f"/{name} is " in answer.error
    assert snapshot(victim) == before


@pytest.mark.parametrize("name", ["config.json", "data.json", "result.json", "model.safetensors", "history.jsonl"])
def test_a_pipe_in_a_run_folder_makes_nobody_wait(place: Path, name: str) -> None:
    path = place / "finished" / name
    path.unlink()
    os.mkfifo(path)
    answer = vitlab(f"look {path.parent} --quiet")
    assert answer.code == 8
    assert f"{path} is a pipe, not an ordinary file" in answer.error


# Names


def test_names_reach_the_terminal_as_letters(place: Path, tmp_path: Path) -> None:
    run = unseal(place / "finished")
    edit(run / "data.json", classes=["a", f"b{ESCAPES}\nvitlab: all fine", "c"])
    pictures = [tmp_path / f"{number}.png" for number in range(3)]
    from PIL import Image

    for number, path in enumerate(pictures):
        image = Image.new("L", (8, 8))
        image.paste(220, (0, 2 * number, 8, 2 * number + 2))
        image.save(path)
    answer = vitlab(f"predict {run} {' '.join(map(str, pictures))}")
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 3
    assert r"b\x1b]0;PWNED\x07\x1b[2J\r\u202e\x9bA\nvitlab: all fine" in answer.out
    assert all(letter.isprintable() for letter in answer.out.replace("\n", ""))


def test_text_of_every_script_is_shown_and_nothing_that_a_terminal_obeys() -> None:
    for words in ("Übung 数字 שלום 👩\u200d💻 \u3000", "\u0645\u06cc\u200c\u062e", ""):
        assert printable(words) == words
    assert printable("a\x00\t\x1b\x7f\x9b\u2028\u2066\u061c\ufeff\udcff") == (
        r"a\x00\t\x1b\x7f\x9b\u2028\u2066\u061c\ufeff\udcff"
    )


def test_tables_of_a_study_take_names_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(f"t{ESCAPES}", [{"cell": f"[red]x[/red]{ESCAPES}"}], [f"[bold]{ESCAPES}"])
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown
    assert "[bold]" in shown
    assert all(letter.isprintable() for letter in shown.replace("\n", ""))


def test_names_reach_the_model_card_and_the_report_as_letters_and_links_are_replaced(place: Path, victim: Path) -> None:
    run, before = unseal(place / "finished"), snapshot(victim)
    evil = f"<img src=x onerror=alert(1)>{ESCAPES}[a](javascript:b) `c` |d| https://e.com"
    edit(run / "environment.json", vitlab=evil, system=evil, torch=evil, git_commit=evil)
    edit(run / "result.json", device=evil, data_sha256=evil)
    (run / "pictures").mkdir()
    for name in ("report.html", "pictures/training.png"):
        (run / name).symlink_to(victim / "lock")
    answer = vitlab(f"look {run} --quiet")
    assert answer.code == 0, answer.err
    for name in ("README.md", "report.html"):
        text = (run / name).read_text()
        assert "PWNED" in text
        assert "<img src=x" not in text
        assert all(letter.isprintable() for letter in text.replace("\n", "").replace("\xa0", ""))
    card = (run / "README.md").read_text()
    assert "[a](javascript" not in card
    assert "https://e.com" not in card
    assert not any((run / name).is_symlink() for name in ("report.html", "pictures/training.png"))
    assert snapshot(victim) == before


def test_a_model_card_that_is_a_link_is_nobody_s_to_read_or_replace(place: Path, victim: Path) -> None:
    card = place / "finished" / "README.md"
    card.symlink_to(victim / "lock")
    assert not is_card(card)
    card.unlink()
    card.write_text(f"{MARK} ...")
    assert is_card(card)


# vitlab check


def checked(line: str) -> tuple[int | str | None, dict[str, str]]:
    """The exit code of `vitlab check LINE`, and the state of each finding that is not "ok" by its name."""
    answer = vitlab(f"check {line} --json")
    found = json.loads(answer.out)
    assert found["whole"] == (answer.code == 0) == (not answer.err)
    return answer.code, {one["name"]: one["state"] for one in found["findings"] if one["state"] != "ok"}


def test_a_whole_run_is_whole(place: Path) -> None:
    before = snapshot(place)
    assert checked(f"{place / 'finished'}") == (0, {})
    assert checked(f"{place / 'unfinished'}") == (0, {})
    (place / "unfinished" / "result.json").unlink()
    assert checked(f"{place / 'unfinished'}") == (0, {"result.json": "note", "history.jsonl": "note"})
    assert vitlab(f"check {place / 'finished'}").out.splitlines()[-1] == "whole: nothing is damaged"
    del before["unfinished/result.json"]
    assert snapshot(place) == before


@pytest.mark.parametrize("name", [*READERS, "checkpoints"])
def test_check_names_the_damaged_file(place: Path, name: str) -> None:
    run = place / "finished"
    path = RunFolder(run).checkpoints()[0] if name == "checkpoints" else run / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, found = checked(f"{run}")
    assert code == 8
    assert [one for one, state in found.items() if state == "damaged"] == [path.relative_to(run).as_posix()]
    assert path.relative_to(run).as_posix() in vitlab(f"check {run}").out
    path.unlink()
    code, found = checked(f"{run}")
    assert (code, found.get(name)) in (
        (8, "missing"),
        (0, "note"),
        (0, None),
    )  # without a result it is a run that goes on


def test_check_of_a_stranger_s_run_does_no_harm(place: Path, victim: Path) -> None:
    run, before = unseal(place / "finished"), snapshot(victim)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").symlink_to(victim)
    (run / "pictures").symlink_to(victim)
    (run / ".x.b1234567.tmp").write_text("left")
    (run / f"a{ESCAPES}").symlink_to("/dev/zero")
    answer = vitlab(f"check {run}")
    assert answer.code == 8
    assert all(letter.isprintable() for letter in (answer.out + answer.err).replace("\n", ""))
    assert "1 temporary file: left by a process that was killed: .x.b1234567.tmp" in answer.out
    assert snapshot(victim) == before


def test_check_of_a_page(place: Path) -> None:
    page, run = place / "page", place / "finished"
    assert vitlab(f"export {run} --to web --out {page} --quiet").code == 0
    assert checked(f"{page}") == (0, {})
    for name in ("index.html", "models/finished/model.safetensors"):
        data = bytearray((page / name).read_bytes())
        data[len(data) // 3] ^= 4
        (page / name).write_bytes(data)
    (page / "models.json").unlink()
    names = {"index.html": "damaged", "models/finished/model.safetensors": "damaged", "models.json": "missing"}
    assert checked(f"{page}") == (8, names)


def test_check_of_data(place: Path, tmp_path: Path) -> None:
    assert checked("digits") == (0, {})
    assert checked(f"{place / 'glyphs.npz'}") == (0, {str(place / "glyphs.npz"): "note"})
    (tmp_path / "bad.npz").write_text("no")
    assert vitlab(f"check {tmp_path / 'bad.npz'}").code == 3
    assert vitlab(f"check {tmp_path / 'nothing'}").code == 3


def test_check_of_a_study(place: Path, tmp_path: Path) -> None:
    digest = RunFolder(place / "finished").config().digest()
    (tmp_path / "runs").mkdir()
    run = Path(shutil.copytree(place / "finished", tmp_path / "runs" / digest))
    study = tmp_path / "study"
    study.mkdir()
    about = {"name": "s", "digest": "d", "seeds": [0], "cells": [], "begun_utc": "2026"}
    files.write_json(study / "study.json", about)
    row = {"cell": "a", "status": "done", "run": digest, "seed": 0}
    files.write_json_lines(study / "rows.jsonl", [row])
    assert checked(f"{study} --runs {tmp_path / 'runs'}") == (0, {})
    edit(run / "data.json", channels=3)
    assert checked(f"{study} --runs {tmp_path / 'runs'}") == (8, {digest: "damaged"})
    files.write_json_lines(study / "rows.jsonl", [row | {"run": "0" * 12}])
    assert checked(f"{study} --runs {tmp_path / 'runs'}") == (8, {"0" * 12: "missing"})
    files.write_json_lines(study / "rows.jsonl", [row | {"run": "../runs"}])
    assert checked(f"{study} --runs {tmp_path / 'runs'}") == (8, {"rows.jsonl": "damaged"})
