"""A run from configuration to result, through the Python face."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import glyphs, tiny_config, write_npz
from vitlab import Reporter, RunFolder, VitlabError, evaluate_run, load_model, resume_run, train_run
from vitlab.errors import DataError, OutOfMemoryError, RunError, StorageError
from vitlab.training.evaluate import predict_logits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "glyphs.npz", train=301, test=101)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    train_run(tiny_config(data, epochs=12, lr=1e-2), path)
    return path


def test_it_learns(run: Path) -> None:
    result = RunFolder(run).result()
    assert result is not None
    assert result["status"] == "done"
    assert result["test_top1"] > 0.9  # guessing gives 0.33


def test_the_result_is_what_evaluation_finds_again(run: Path) -> None:
    result, again = RunFolder(run).result(), evaluate_run(run)
    assert result is not None
    assert again["top1"] == result["test_top1"]
    assert again["loss"] == result["test_loss"]
    assert evaluate_run(run, "val")["top1"] == result["val_top1"]


def test_a_loaded_model_needs_no_data_set_and_gives_the_same_accuracy(run: Path) -> None:
    model, preprocess, classes = load_model(run)
    test = glyphs(101, seed=2)  # what write_npz wrote
    with torch.inference_mode():
        guesses = model(preprocess(torch.from_numpy(test.images))).argmax(dim=1)
    result = RunFolder(run).result()
    assert result is not None
    assert np.mean(guesses.numpy() == test.labels) == pytest.approx(result["test_top1"])
    assert len(classes) == 3


def test_the_test_images_are_looked_at_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = predict_logits

    def count(model: object, split: object, *rest: object) -> object:
        sizes.append(len(split))  # type: ignore[arg-type]
        return original(model, split, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("vitlab.training.loop.predict_logits", count)
    monkeypatch.setattr("vitlab.runs.result.predict_logits", count)
    train_run(tiny_config(data), tmp_path / "run")
    assert sizes == [31, 31, 31, 101]


def test_limit_train_leaves_validation_alone(data: Path, tmp_path: Path) -> None:
    result = train_run(tiny_config(data, limit_train=41, epochs=1), tmp_path / "run")
    assert (result["train_images"], result["val_images"], result["test_images"]) == (41, 31, 101)


def test_reporters_hear_of_every_step_and_epoch(data: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    reporter = Reporter(
        begin=lambda task: heard.append("begin"),
        step=lambda task, counters, loss: heard.append("step"),
        epoch=lambda task, row: heard.append(f"epoch {row['epoch']}"),
        end=lambda: heard.append("end"),
    )
    train_run(tiny_config(data, epochs=2, limit_train=34), tmp_path / "run", reporter)
    assert heard == ["begin", "step", "step", "epoch 1", "step", "step", "epoch 2", "end"]


@pytest.mark.parametrize(
    ("error", "raised", "status"),
    [
        (MemoryError(), OutOfMemoryError, "failed:memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemoryError, "failed:memory"),
        (StorageError("the disk is full"), StorageError, "failed:storage"),
        (RuntimeError("our own mistake"), RuntimeError, None),
    ],
)
def test_failures_are_recorded_and_resumable(
    error: Exception,
    raised: type[Exception],
    status: str | None,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("vitlab.training.loop.train_step", fail)
    config = tiny_config(data, epochs=1)
    with pytest.raises(raised):
        train_run(config, tmp_path / "run")
    result = RunFolder(tmp_path / "run").result()
    assert (result and result["status"]) == status
    monkeypatch.undo()
    assert resume_run(tmp_path / "run")["status"] == "done"


def test_a_diverged_run_says_so_and_is_not_resumed(data: Path, tmp_path: Path) -> None:
    result = train_run(tiny_config(data, lr=1e30), tmp_path / "run")
    assert result["status"] == "diverged"
    assert result["test_top1"] is None
    json.loads((tmp_path / "run" / "result.json").read_text(), parse_constant=pytest.fail)  # no NaN
    with pytest.raises(RunError, match="lower lr"):
        resume_run(tmp_path / "run")


def test_a_run_without_validation_images_has_none_to_evaluate(data: Path, tmp_path: Path) -> None:
    train_run(tiny_config(data, epochs=1, val_fraction=0.0), tmp_path / "run")
    with pytest.raises(DataError, match='no val images; use split="test" or split="train"'):
        evaluate_run(tmp_path / "run", "val")


@pytest.mark.parametrize("name", ["depth", "lr"])
def test_a_run_whose_configuration_was_changed_by_hand_is_neither_resumed_nor_evaluated(
    name: str, data: Path, tmp_path: Path
) -> None:
    """A changed lr would train on without an error, and no longer be the unbroken run."""
    config = tiny_config(data, epochs=1)
    train_run(config, tmp_path / "run")
    changed = config.with_knobs(data=str(data.absolute()), **{name: {"depth": 3, "lr": 0.1}[name]})
    RunFolder(tmp_path / "run").write("config.json", changed.to_dict())
    with pytest.raises(RunError, match="has been changed"):
        evaluate_run(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(RunError, match="has been changed"):
        resume_run(tmp_path / "run")


def test_changed_data_is_not_mixed_into_a_run(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "glyphs.npz")
    train_run(tiny_config(data, epochs=1), tmp_path / "run")
    write_npz(tmp_path / "glyphs.npz", train=98)
    with pytest.raises(DataError, match="changed"):
        evaluate_run(tmp_path / "run")


def test_what_a_user_can_cause_is_a_vitlab_error() -> None:
    for error in (DataError, OutOfMemoryError, RunError, StorageError):
        assert issubclass(error, VitlabError)
        assert error.exit_code not in (0, 1)
