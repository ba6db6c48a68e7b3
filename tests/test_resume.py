"""A run that was killed, or whose disk failed, continues bit for bit as if nothing had happened."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from tests import killing
from tests.command import finish, snapshot, start
from tests.made_runs import unseal
from tests.tiny import tiny_config, write_npz
from vitlab import Reporter, RunFolder, files, resume_run, train_run
from vitlab.errors import RunError, StorageError
from vitlab.training.step import Counters


def test_a_process_killed_at_random_moments_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    config = killing.prepare(tmp_path, epochs=40, ema_decay=0.9, keep_epochs=True)
    duration = killing.run_to_end(config, tmp_path / "whole")
    whole, seed = killing.trace(tmp_path / "whole"), random.randrange(10**6)
    survived = killing.kill_and_compare(config, tmp_path / "killed", whole, 2, duration, random.Random(seed))
    assert survived, f"seed {seed}"


def test_damaged_checkpoints_do_not_stand_in_the_way_of_new_ones(tmp_path: Path) -> None:
    """Damage, resume, interrupt, resume: the second resume continues where the first one stopped."""
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), checkpoint_seconds=0.0)
    train_run(config, tmp_path / "whole")
    run = RunFolder(tmp_path / "run")
    interrupted_at(13, lambda reporter: train_run(config, run.path, reporter))
    for path in run.checkpoints():
        path.write_bytes(path.read_bytes()[:-1])
    notes = interrupted_at(5, lambda reporter: resume_run(run.path, reporter))
    assert [note for note in notes if "starts from the beginning" in note]
    assert [int(path.name.split("-")[1]) for path in run.checkpoints()] == [5, 4]
    first: list[int] = []
    resume_run(run.path, Reporter(step=lambda task, counters, loss: first.append(counters.step)))
    assert first[0] == 6
    assert killing.trace(run.path) == killing.trace(tmp_path / "whole")


def interrupted_at(step: int, start: Callable[[Reporter], object]) -> list[str]:
    """Press Ctrl-C in a step; returns what was noted."""
    notes: list[str] = []

    def press(task: object, counters: Counters, sums: Tensor) -> None:
        if counters.step == step:
            signal.raise_signal(signal.SIGINT)

    start(Reporter(note=notes.append, step=press))
    return notes


def test_a_disk_that_refuses_any_one_write_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the K-th write of a run for K = 1, 2, 3 ... until it passes, and resume each time."""
    config = tiny_config(write_npz(tmp_path / "glyphs.npz", train=53), epochs=2, ema_decay=0.9, keep_epochs=True)
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


def test_a_smaller_team_of_threads_than_at_the_start_is_refused_before_anything_changes(tmp_path: Path) -> None:
    """OMP_THREAD_LIMIT makes it smaller, whatever is asked for; OMP_DYNAMIC is switched off."""
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), threads=2)
    train_run(config, tmp_path / "whole")
    run = tmp_path / "run"
    interrupted_at(5, lambda reporter: train_run(config, run, reporter))
    before = snapshot(run)
    command = f"train --resume {run} --quiet"
    answer = finish(start(command, OMP_THREAD_LIMIT="1"))
    assert answer.code == 8
    assert "threads was 2, is now 1: the resumed run would not be bit-exact; --allow-drift" in answer.error
    assert snapshot(run) == before
    assert finish(start(command, OMP_DYNAMIC="true")).code == 0
    assert killing.trace(run) == killing.trace(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "was", "now"),
    [
        ("math_variables", "MKL_CBWR=AVX2", "none"),
        ("kernels_digest", "0123", "None"),
        ("flush_denormals", False, "True"),
    ],
)
def test_other_arithmetic_than_at_the_start_is_refused(
    tmp_path: Path, name: str, was: object, now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of an earlier version, which has not recorded it, goes on."""
    monkeypatch.delenv("MKL_CBWR", raising=False)
    run = RunFolder(tmp_path / "run")
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), kernels="plain")
    interrupted_at(5, lambda reporter: train_run(config, run.path, reporter))
    unseal(run.path)  # or the change would be noticed before it is compared
    recorded = {key: value for key, value in run.environment().items() if value is not None}
    run.write("environment.json", recorded | {name: was})
    with pytest.raises(RunError, match=f"{name} was {was}, is now {now}: .* not be bit-exact"):
        resume_run(run.path)
    run.write("environment.json", {key: value for key, value in recorded.items() if key != name})
    assert resume_run(run.path)["status"] == "done"
    assert run.environment()["resumed"][-1]["drift"] == []
