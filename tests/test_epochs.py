"""The weights after each epoch (`keep_epochs`): they change no result, are checked, and go into the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests import killing
from tests.tiny import tiny_config, write_npz
from vitlab import Classifier, RunFolder, train_run
from vitlab.errors import RunError
from vitlab.export import replay
from vitlab.files import sha256
from vitlab.runs.check import check_run
from vitlab.runs.epochs import halved, kept_epochs, read_epoch
from vitlab.runs.prepare import prepare
from vitlab.runs.result import measure


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that keeps them all, with a running average and validation images."""
    folder = tmp_path_factory.mktemp("kept")
    config = tiny_config(write_npz(folder / "glyphs.npz"), val_fraction=0.2, select="last", ema_decay=0.9)
    train_run(config.with_knobs(keep_epochs=True), folder / "run")
    return folder / "run"


def test_keeping_epochs_changes_no_result(run: Path, tmp_path: Path) -> None:
    config = RunFolder(run).config()
    train_run(config.with_knobs(keep_epochs=False), tmp_path / "plain")
    kept, plain = killing.trace(run), killing.trace(tmp_path / "plain")
    assert len(kept.epochs) == 4
    assert replace(kept, epochs={}) == plain
    assert RunFolder(run).result()["config_digest"] == RunFolder(tmp_path / "plain").result()["config_digest"]  # type: ignore[index]


def test_what_is_kept_are_the_weights_that_evaluation_uses(run: Path) -> None:
    folder = RunFolder(run)
    assert list(kept_epochs(folder)) == [0, 1, 2, 3]
    prepared = prepare(folder.config(), lambda note: None)
    shapes = prepared.model.state_dict()
    first, last = read_epoch(folder, 0, shapes), read_epoch(folder, 3, shapes)
    assert all(torch.equal(value, shapes[name].half()) for name, value in first.weights.items())
    assert prepared.dataset.val is not None
    assert first.val_top1 == measure(prepared, prepared.dataset.val)["top1"]
    selected = safetensors.torch.load_file(folder.model_path)
    assert all(torch.equal(value, selected[name].half()) for name, value in last.weights.items())
    assert last.val_top1 == folder.history()[-1]["val_top1"]
    assert {value.dtype for value in last.weights.values()} == {torch.float16}


def test_numbers_beyond_half_precision_stay_finite() -> None:
    values = torch.tensor([1e9, -1e9, 0.1])
    assert halved(values).tolist() == [65504.0, -65504.0, pytest.approx(0.1, rel=1e-3)]


def test_damage_is_found(run: Path) -> None:
    folder, name = RunFolder(run), "epochs/epoch-000002.safetensors"
    assert [found.state for found in check_run(run) if found.name == name] == ["ok"]
    whole = (run / name).read_bytes()
    try:
        (run / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert [found.state for found in check_run(run) if found.is_bad and found.name == name] == ["damaged"]
        with pytest.raises(RunError, match="SHA-256 has changed"):
            read_epoch(folder, 2, Classifier.load(run).model.state_dict())
        (run / name).unlink()
        assert [found.state for found in check_run(run) if found.is_bad and found.name == name] == ["missing"]
    finally:
        (run / name).write_bytes(whole)


def test_the_page_gets_a_bounded_number_evenly_chosen(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, notes = Classifier.load(run), list[str]()
    facts, parts = replay.replay_files(classifier, notes.append)
    assert facts is not None
    assert not notes
    assert [one["epoch"] for one in facts["kept"]] == [0, 1, 2, 3]
    assert [one["sha256"] for one in facts["kept"]] == [sha256(part) for part in parts.values()]
    assert (facts["epochs"], facts["selected"], facts["kept"][0]["train_top1"]) == (3, 3, None)
    monkeypatch.setattr(replay, "MOST_EPOCHS", 3)
    facts, parts = replay.replay_files(classifier, notes.append)
    assert list(parts) == ["epochs/0.safetensors", "epochs/2.safetensors", "epochs/3.safetensors"]
    assert "3 of 4 kept epochs go into the page, evenly chosen" in notes[0]
    monkeypatch.setattr(replay, "MOST_BYTES", 10_000)
    assert replay.replay_files(classifier, notes.append) == (None, {})


def test_evenly() -> None:
    assert replay.evenly(list(range(101)), 5) == [0, 25, 50, 75, 100]
    assert replay.evenly([0, 1], 25) == [0, 1]
    assert replay.evenly([0, 1], 1) == []
