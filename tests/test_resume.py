"""A run that was killed, or whose disk failed, continues bit for bit as if nothing had happened."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests import killing
from tests.tiny import tiny_config, write_npz
from vitlab import files, resume_run, train_run
from vitlab.errors import StorageError


def test_a_process_killed_at_random_moments_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    config = killing.prepare(tmp_path, epochs=40, ema_decay=0.9)
    _, life = killing.run_once(config, tmp_path / "whole", None)
    seed = random.randrange(10**6)
    draw = random.Random(seed)
    moments = [draw.uniform(life / 4, life), draw.uniform(life / 2, life)]
    whole = killing.trace(tmp_path / "whole")
    assert killing.survive(config, tmp_path / "killed", whole, moments), f"seed {seed}, moments {moments}"


def test_a_disk_that_refuses_any_one_write_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the K-th write of a run for K = 1, 2, 3 ... until it passes, and resume each time."""
    config = tiny_config(write_npz(tmp_path / "glyphs.npz", train=53), epochs=2, ema_decay=0.9)
    train_run(config, tmp_path / "whole")
    whole = killing.trace(tmp_path / "whole")
    write, failures = files.write_bytes, 0
    for failing in range(1, 1000):
        run, calls = tmp_path / f"run{failing}", iter(range(1, 1000))

        def refuse(path: Path, data: bytes) -> None:
            if next(calls) == failing:  # noqa: B023
                raise StorageError(f"cannot write {path}: the disk is full")
            write(path, data)

        monkeypatch.setattr(files, "write_bytes", refuse)
        try:
            train_run(config, run)
            break
        except StorageError:
            failures += 1
        finally:
            monkeypatch.setattr(files, "write_bytes", write)
        begun = (run / "config.json").exists()
        resume_run(run) if begun else train_run(config, run)
        assert killing.trace(run) == whole, f"write {failing}"
        assert not list(run.rglob("*.tmp"))
    assert failures > 10


def test_resuming_from_a_moment_between_the_last_checkpoint_and_the_result(tmp_path: Path) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"))
    train_run(config, tmp_path / "run")
    before = killing.trace(tmp_path / "run")
    for name in ("result.json", "model.safetensors", "history.jsonl"):
        (tmp_path / "run" / name).unlink()
    resume_run(tmp_path / "run")
    assert killing.trace(tmp_path / "run") == before
