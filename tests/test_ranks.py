"""Several ranks train what one process trains. Most tests let threads be the ranks, which needs no new processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor

from benchmarks.ranks import alive, workers_of
from tests import killing
from tests.command import finish, snapshot, vitlab
from tests.command import start as begin
from tests.test_train import copy, equal, make_model, make_task, timeless
from tests.tiny import tiny_config, write_npz
from tests.waiting import wait_for
from vitlab import train_run
from vitlab.advice import for_the_command_line
from vitlab.cli.launch import Ended, conclude
from vitlab.data.batches import epoch_batches
from vitlab.errors import ConfigError, RankError
from vitlab.files import to_json
from vitlab.ranks import ALONE, Ranks, check_count, from_environment, meeting
from vitlab.runs.folder import RunFolder
from vitlab.training.loop import Hooks, Outcome, fit, start
from vitlab.training.mixing import mix, mixes
from vitlab.training.optim import shared_out
from vitlab.training.part import Draws
from vitlab.training.step import Checkpoint, Task, train_step, training_inputs

# Without a large epsilon, AdamW would make steps of the rounding errors of weights whose gradient is zero.
PLAIN: dict[str, Any] = dict(dropout=0.0, attn_dropout=0.0, drop_path=0.0, adam_eps=1e-3)
ALL_CHANGES: dict[str, Any] = dict(
    rotate=9.0, zoom=0.1, shear=3.0, elastic=1.0, flip=True, force_flip=True, erase=0.5, brightness=0.2, contrast=0.2,
    mixup=0.4, cutmix=1.0,
)  # fmt: skip


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let threads exchange what ranks would."""

    def prepare(count: int) -> None:
        barrier, shown = threading.Barrier(count, timeout=30), [list[Tensor]()] * count

        def show(rank: int, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
            shown[rank] = [one.clone() for one in tensors]
            barrier.wait()
            seen = list(shown)
            barrier.wait()
            return seen

        def add_up(self: Ranks, tensor: Tensor) -> None:
            tensor.copy_(torch.stack([one for (one,) in show(self.rank, [tensor])]).sum(dim=0))

        def exchange(self: Ranks, parts: Sequence[Sequence[Tensor]]) -> None:
            for part, found in zip(parts, show(self.rank, parts[self.rank]), strict=True):
                for one, new in zip(part, found, strict=True):
                    one.detach().copy_(new)

        monkeypatch.setattr(Ranks, "add_up", add_up)
        monkeypatch.setattr(Ranks, "exchange", exchange)

    return prepare


def as_rank(task: Task, rank: int, count: int) -> Task:
    return replace(task, machine=replace(task.machine, ranks=Ranks(rank, count)))


def run_all(task: Task, count: int, hooks: Sequence[Hooks], resume: Checkpoint | None = None) -> list[Outcome]:
    """What each rank found."""
    models = [make_model(task) for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        jobs = [
            pool.submit(fit, models[n], as_rank(task, n, count), hooks[n], resume and copy(resume))
            for n in range(count)
        ]
        return [job.result() for job in jobs]


@pytest.mark.parametrize("size", [17, 2, 1])
@pytest.mark.parametrize("count", [2, 3])
def test_ranks_see_the_images_and_changes_that_one_would_see(count: int, size: int) -> None:
    task = make_task(batch_size=size, **PLAIN, **ALL_CHANGES)
    draws = torch.Generator()

    def inputs_of(task: Task) -> tuple[Tensor, Tensor]:
        ranks = task.machine.ranks
        rows = (lambda images: task.part_of(images).rows) if ranks.several else None
        images, labels = next(iter(epoch_batches(task.train, size, torch.Generator().manual_seed(3), rows=rows)))
        part = task.part_of(size)
        source = Draws(draws.manual_seed(5), part) if ranks.several else draws.manual_seed(5)
        inputs, share = mix(training_inputs(task, images, source), task.config.augment, source)
        own = part.own if part.weight else 0
        return inputs[:own], torch.stack([labels, labels.roll(-1)], dim=1)[:own] * share[:own, None]

    assert mixes(task.config.augment)
    found = [inputs_of(as_rank(task, rank, count)) for rank in range(count)]
    for whole, parts in zip(inputs_of(task), zip(*found, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)


KNOBS: list[dict[str, Any]] = [
    dict(optimizer="muon", ema_decay=0.9, clean_tail=0.4, **ALL_CHANGES),
    dict(optimizer="muon", grad_clip=0.5, batch_size=35, sampling="balanced", select="best"),  # the last batch has one
    dict(optimizer="adamw", mixup=0.4),
]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("knobs", KNOBS, ids=["everything", "one-image", "weights"])
def test_ranks_learn_what_one_learns(knobs: dict[str, Any], count: int, in_threads: Callable[[int], None]) -> None:
    """The same up to the order of sums, in every rank the same bits; 71 images, so the last batch is uneven."""
    task = make_task(epochs=2, **(PLAIN | knobs))
    if knobs["optimizer"] == "adamw":
        weights = torch.linspace(0.5, 1.5, 71)
        task = replace(task, train=replace(task.train, weights=weights))
    one = fit(make_model(task), task)
    in_threads(count)
    first, *others = run_all(task, count, [Hooks()] * count)
    for name, value in one.weights.items():
        torch.testing.assert_close(first.weights[name], value, rtol=2e-3, atol=2e-5)
    for mine, theirs in zip(timeless(first), timeless(one), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    for other in others:
        assert equal(other.weights, first.weights)
        assert timeless(other) == timeless(first)


def test_the_first_gradient_is_that_of_the_whole_batch(in_threads: Callable[[int], None]) -> None:
    """Exactly but for rounding, which later steps enlarge: a batch of 2 between 3 ranks, one of which has nothing."""
    task = make_task(train=2, batch_size=2, grad_clip=None, **PLAIN)

    def gradients(task: Task) -> list[Tensor]:
        state = start(models[task.machine.ranks.rank], task, None)
        rows = (lambda images: task.part_of(images).rows) if task.machine.ranks.several else None
        (batch,) = epoch_batches(task.train, 2, torch.Generator().manual_seed(3), rows=rows)
        assert train_step(state, task, *batch)
        return [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]

    models = [make_model(task)]
    whole = gradients(task)
    in_threads(3)
    models = [make_model(task) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(gradients, [as_rank(task, rank, 3) for rank in range(3)]):
            assert len(found) == len(whole) > 10
            for mine, theirs in zip(found, whole, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_ranks_stop_together_and_resume_bit_for_bit(in_threads: Callable[[int], None]) -> None:
    """The second rank is asked to stop, after step 6; Muon's memory is divided, and a checkpoint has all of it."""
    task = make_task(optimizer="muon", ema_decay=0.9, checkpoint_seconds=1e9, **PLAIN)
    in_threads(2)
    unbroken = run_all(task, 2, [Hooks()] * 2)
    steps, kept = [0, 0], list[Checkpoint]()

    def count(rank: int) -> Callable[..., None]:
        def after(counters: Any, sums: Tensor) -> None:
            steps[rank] = counters.step

        return after

    hooks = [
        Hooks(on_step=count(0), on_state=lambda checkpoint: kept.append(copy(checkpoint))),
        Hooks(on_step=count(1), should_stop=lambda: steps[1] >= 6),
    ]
    broken = run_all(task, 2, hooks)
    assert [one.status for one in broken] == ["interrupted"] * 2
    assert steps == [7, 7]
    resumed = run_all(task, 2, [Hooks()] * 2, kept[-1])
    assert equal(resumed[0].weights, unbroken[0].weights)
    assert equal(resumed[1].weights, unbroken[0].weights)
    assert timeless(resumed[0]) == timeless(unbroken[0])


def test_ranks_diverge_together(in_threads: Callable[[int], None]) -> None:
    in_threads(2)
    found = run_all(make_task(lr=1e30, **PLAIN), 2, [Hooks()] * 2)
    assert [one.status for one in found] == ["diverged"] * 2
    assert found[0].counters.step == found[1].counters.step


def test_dropout_differs_between_ranks_and_depends_on_nothing_else(in_threads: Callable[[int], None]) -> None:
    """In turn, because torch's generator is the process's own: the two ranks do not wait for each other."""
    task = replace(make_task(dropout=0.5, train=34, rotate=0.0, shift=0.0), val=None)
    in_threads(1)
    found = []
    for rank in (0, 1, 0):
        ranked = as_rank(task, 0, 1)
        ranked = replace(ranked, machine=replace(ranked.machine, ranks=OnlyDropout(rank, 2)))
        found.append(fit(make_model(task), ranked).weights)
    assert equal(found[0], found[2])
    assert not equal(found[0], found[1])


class OnlyDropout(Ranks):
    """Has the number of a rank, and works as the only one."""

    def part(self, total: int) -> range:
        return range(total)

    def add_up(self, tensor: Tensor) -> None:
        pass


def test_work_is_shared_out_evenly() -> None:
    sizes = (13, 11, 7, 7, 5, 3, 2)
    work = {torch.nn.Parameter(torch.zeros(size)): size for size in sizes}
    shares = shared_out(work, Ranks(0, 3))
    assert sorted(sum(work[one] for one in share) for share in shares) == [16, 16, 16]
    assert shared_out(work, ALONE) == [sorted(work, key=lambda one: -work[one])]


def test_what_torchrun_says_is_read_and_checked() -> None:
    assert from_environment({"RANK": "3"}) is ALONE
    told = {"RANK": "3", "WORLD_SIZE": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert from_environment(told) == Ranks(3, 5, 1, 2)
    assert from_environment({"RANK": "3", "WORLD_SIZE": "5"}) == Ranks(3, 5, 3, 5)
    for name, value in {"RANK": "5", "WORLD_SIZE": "x", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "7"}.items():
        with pytest.raises(ConfigError, match=f"{name}={value}.* cannot be"):
            from_environment(told | {name: value})
    check_count(None, ALONE)
    check_count(5, Ranks(3, 5))
    with pytest.raises(ConfigError, match="ranks is 2, but 5 were started"):
        check_count(2, Ranks(3, 5))


def test_one_process_cannot_be_two_ranks(tmp_path: Path) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), ranks=2)
    with pytest.raises(ConfigError, match="`vitlab train --ranks 2` in a terminal starts them"):
        train_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_needs_whole_batches_is_refused(tmp_path: Path) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), arch="resnet", cnn_channels=(5, 7))
    with pytest.raises(ConfigError, match="normalises over the whole batch"):
        train_run(config, tmp_path / "run", ranks=Ranks(0, 2))
    assert not (tmp_path / "run").exists()


def test_one_rank_says_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first one, whose words are on the terminal already; else the one that failed first, in its words or ours."""
    lost = RankError.exit_code
    assert conclude([Ended(1, 0), Ended(0, 0)], "", tmp_path) == 0
    assert conclude([Ended(0, 130), Ended(1, 0)], "", tmp_path) == 130
    assert conclude([Ended(2, 3), Ended(1, 3), Ended(0, 3)], "vitlab: no data\nvitlab: no data\n", tmp_path) == 3
    assert capsys.readouterr().err == ""
    assert conclude([Ended(2, 5), Ended(0, lost)], "vitlab: no memory\n", tmp_path) == 5
    assert capsys.readouterr().err == "vitlab: no memory\n"
    with for_the_command_line():
        with pytest.raises(RankError, match=r"^rank 2 was killed \(SIGKILL\), .*; start it again$"):
            conclude([Ended(2, -9), Ended(0, lost)], "", tmp_path)
        (tmp_path / "config.json").touch()
        with pytest.raises(RankError, match=r"^rank 0 was killed \(SIGSEGV\), .* `vitlab train --resume "):
            conclude([Ended(0, -11), Ended(1, lost)], "", tmp_path)


# --- Real processes


def test_a_killed_rank_ends_all_and_the_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    data, run, whole = write_npz(tmp_path / "glyphs.npz"), tmp_path / "run", tmp_path / "whole"
    config = tiny_config(data, optimizer="muon", epochs=11, threads=2, device="cpu", **PLAIN)
    (tmp_path / "config.json").write_text(to_json(config.to_dict()))
    assert finish(begin(f"train --quiet --config {tmp_path / 'config.json'} --ranks 2 --out {whole}")).code == 0
    about = RunFolder(whole).environment()
    assert (about["ranks"], about["threads"]) == (2, 1)

    process = begin(f"train --quiet --config {tmp_path / 'config.json'} --ranks 2 --out {run}")
    workers = workers_of(process, 2)
    wait_for(lambda: RunFolder(run).checkpoints())
    os.kill(workers[1], signal.SIGKILL)
    assert wait_for(lambda: not any(map(alive, workers))) < 10
    answer = finish(process)
    assert answer.code == 9
    again = f"`vitlab train --resume {run}`"
    assert answer.error == f"vitlab: rank 1 was killed (SIGKILL), so all of them have ended; to continue: {again}"
    assert answer.err.count("\n") == 1

    before = snapshot(run)
    answer = vitlab(f"train --quiet --resume {run} --ranks 1")
    assert answer.code == 8
    assert "ranks was 2, is now 1: the resumed run would not be bit-exact; --allow-drift" in answer.error
    assert snapshot(run) == before

    assert finish(begin(f"train --quiet --resume {run}")).code == 0
    assert killing.trace(run) == killing.trace(whole)


def test_a_rank_ends_with_the_process_that_has_started_it() -> None:
    child = (
        "import os, time; from vitlab.ranks import end_with_parent; end_with_parent(); print(os.getpid(), flush=True)"
    )
    words = [sys.executable, "-c", f"{child}; time.sleep(60)"]
    parent = f"import subprocess; subprocess.run({words!r})"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        assert alive(number)
        process.kill()
        assert wait_for(lambda: not alive(number)) < 10


def test_ranks_that_are_started_again_meet_only_each_other() -> None:
    """Although torchrun's store still holds what earlier ones left there, of whom one came and died."""
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    come_late = {0: 0.1, 1: 0.0, 2: 0.3}

    def come(rank: int) -> str:
        time.sleep(come_late[rank])
        return meeting(store, Ranks(rank, 3, rank, 3))

    with ThreadPoolExecutor(3) as pool:
        (first,) = set(pool.map(come, range(3)))
        store.set("name/1", "dead")
        (second,) = set(pool.map(come, range(3)))
    assert first != second


def test_a_training_that_torchrun_starts_again_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), device="cpu")
    (tmp_path / "config.json").write_text(to_json(config.to_dict()))
    train_run(config, tmp_path / "whole")
    train_run(config, tmp_path / "run")
    for name in ("result.json", "model.safetensors", "history.jsonl"):
        (tmp_path / "run" / name).unlink()
    words = f"train --quiet --config {tmp_path / 'config.json'}"
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    assert "add --out DIR" in vitlab(words).error
    assert "is not empty" in vitlab(f"{words} --out {tmp_path / 'run'}").error
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert vitlab(f"{words} --out {tmp_path / 'run'}").code == 0
    assert killing.trace(tmp_path / "run") == killing.trace(tmp_path / "whole")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["resumed"]
