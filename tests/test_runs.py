"""A run folder: one writer, whole files, every damaged byte noticed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_train import copy, make_model, make_task
from tests.test_train import run as train
from tests.tiny import tiny_config
from vitlab import RunFolder
from vitlab.errors import RunError, RunInUseError
from vitlab.runs.folder import check_empty
from vitlab.runs.result import Result
from vitlab.training.loop import Hooks
from vitlab.training.step import Checkpoint, Counters


def new_run(folder: Path) -> RunFolder:
    (folder / "run").mkdir()
    return RunFolder(folder / "run")


def checkpoint(step: int) -> Checkpoint:
    tensors = {"model/w": torch.full((7, 5), float(step)), "optim/w/step": torch.tensor(3.0)}
    return Checkpoint(tensors, vars(Counters(step, rows=[{"epoch": 1, "train_seconds": 1.5, "train_top1": 0.5}])))


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.save_checkpoint(checkpoint(11), "digest")
    loaded, damaged = run.load_checkpoint("digest")
    assert loaded is not None
    assert not damaged
    assert loaded.counters == checkpoint(11).counters
    assert loaded.tensors.keys() == checkpoint(11).tensors.keys()
    assert torch.equal(loaded.tensors["model/w"], torch.full((7, 5), 11.0))


def test_the_newest_two_are_kept_and_newest_means_step_not_date_or_name_length(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    for step in (9, 10, 100, 11):
        run.save_checkpoint(checkpoint(step), "digest")
    assert [int(path.name.split("-")[1]) for path in run.checkpoints()] == [100, 11]


def test_nothing_saved_means_a_fresh_start(tmp_path: Path) -> None:
    assert new_run(tmp_path).load_checkpoint("digest") == (None, [])


def test_every_flipped_bit_and_every_cut_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.save_checkpoint(checkpoint(1), "digest")
    run.save_checkpoint(checkpoint(2), "digest")
    newest = run.checkpoints()[0]
    whole, draw = newest.read_bytes(), random.Random(7)
    for _ in range(200):
        spoiled = bytearray(whole)
        spoiled[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        for data in (bytes(spoiled), whole[: draw.randrange(len(whole))]):
            newest.write_bytes(data)
            loaded, damaged = run.load_checkpoint("digest")
            assert loaded is not None
            assert loaded.counters["step"] == 1
            assert len(damaged) == 1


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path)
    monkeypatch.setattr("vitlab.runs.folder.CHECKPOINT_FORMAT", "0")
    run.save_checkpoint(checkpoint(1), "digest")
    monkeypatch.undo()
    with pytest.raises(RunError, match="another version"):
        run.load_checkpoint("digest")


def test_a_checkpoint_has_the_names_that_its_format_stands_for() -> None:
    """Who changes one of these raises vitlab.runs.folder.CHECKPOINT_FORMAT, or old checkpoints end in a traceback."""
    task = make_task(epochs=1, optimizer="muon", ema_decay=0.9, select="best")
    kept: list[Checkpoint] = []
    train(task, Hooks(on_state=lambda state: kept.append(copy(state))))
    weights = set(make_model(task).state_dict())
    memory = {name for name in kept[-1].tensors if name.startswith("optim/")}
    assert kept[-1].tensors.keys() - memory == {f"{p}/{name}" for p in ("model", "average", "best") for name in weights}
    assert {name.split("/")[1] for name in memory} == weights
    assert {name.split("/")[2] for name in memory} == {"momentum", "step", "exp_avg", "exp_avg_sq"}
    assert set(kept[-1].counters) == {
        *("step", "loss_sum", "correct_sum", "rows", "best_epoch", "best_top1", "train_seconds", "wall_seconds")
    }


def test_weights_are_checked_against_the_result(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    weights = {"a": torch.arange(13.0), "b": torch.ones(2, 3, dtype=torch.int64)}
    with pytest.raises(RunError, match="no finished model"):
        run.load_weights("digest")
    ending: dict[str, Any] = {"status": "done", "config_digest": "digest", "model_sha256": run.save_weights(weights)}
    ending |= {"train_seconds": 1.5, "images_per_second": 20.0, "threads": 1}
    run.write("result.json", ending)
    loaded, _ = run.load_weights("digest")
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    data = bytearray(run.model_path.read_bytes())
    data[-1] ^= 1
    run.model_path.write_bytes(bytes(data))
    with pytest.raises(RunError, match="damaged"):
        run.load_weights("digest")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with run.locked(), pytest.raises(RunInUseError, match="another vitlab process"), RunFolder(run.path).locked():
        pass
    with run.locked():  # and it is free again
        pass


def test_a_folder_with_something_in_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        check_empty(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_a_killed_creation_left_is_taken_over(tmp_path: Path) -> None:
    for name in ("data.json", "environment.json", ".config.json.abc.tmp", ".lock"):
        (tmp_path / name).write_text("{}")
    check_empty(tmp_path)
    RunFolder(tmp_path).sweep([])
    assert not list(tmp_path.glob(".*.tmp"))


def test_configuration_and_history_come_back(tmp_path: Path) -> None:
    run, config = new_run(tmp_path), tiny_config("mnist", head_hidden=(5, 3), grad_clip=None)
    run.write("config.json", config.to_dict())
    assert run.config() == config
    row: dict[str, Any] = {"epoch": 1, "train_seconds": 1.5, "train_top1": 0.3, "val_top1": 0.1, "lr": 0.01}
    rows = [row, row | {"epoch": 2, "val_top1": None}]
    run.write_history(rows)
    assert run.history() == rows


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {"patch_sise": 3}}', '{"train": {"epochs": "3"}}'])
def test_a_damaged_configuration_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json"):
        RunFolder(tmp_path).config()


def test_a_result_reads_like_the_dictionary_in_its_file() -> None:
    result = Result("done", test_top1=0.75)
    assert dict(result) == {**result} == result.to_dict()
    assert (result["test_top1"], result.get("test_top1"), result.get("nothing", 17)) == (0.75, 0.75, 17)
    assert "status" in result
    assert "nothing" not in result
    with pytest.raises(KeyError):
        result["to_dict"]
