"""One run from its configuration to its result: where training and run folder meet."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from vitlab import __version__, files
from vitlab.config import RunConfig
from vitlab.config.knobs import flat_fields
from vitlab.config.sections import rehearsal
from vitlab.data import CATALOGUE, Dataset, Reading
from vitlab.errors import (
    DataError,
    DivergedError,
    Interrupted,
    OutOfMemoryError,
    RunError,
    StorageError,
    VitlabError,
    storage_error,
)
from vitlab.interrupts import stop_on_signals
from vitlab.machine import environment, private_randomness
from vitlab.model import build_model, count_parameters, parameters_by_part
from vitlab.model.outline import outline
from vitlab.ranks import ALONE, Ranks, check_count, joined
from vitlab.runs.epochs import forget_epochs, keep_epoch
from vitlab.runs.folder import FINGERPRINT, LATER, RunFolder, check_empty, is_best
from vitlab.runs.prepare import Prepared, memory_errors, prepare
from vitlab.runs.result import Result, measure, measure_training
from vitlab.runs.start import find_source, pinned, stored_preprocess, stored_start
from vitlab.runs.trackers import Tracking, chosen, track_finished
from vitlab.text import counted, ignore, quoted
from vitlab.training.evaluate import guess_top1
from vitlab.training.loop import Hooks, Outcome, checkpoint_shapes, fit
from vitlab.training.novelty import Novelty, fit_novelty
from vitlab.training.preprocess import Preprocess
from vitlab.training.step import Checkpoint, Counters, Row, Task


@dataclass(frozen=True, repr=False)
class Reporter:
    """Functions that a run calls as it proceeds; by default they do nothing.

    ``note`` gets a line of text; ``begin`` the task, before the first step; ``step`` the task, its counters, and the
    sums of loss and of right answers over the epoch so far [2], after each step; ``epoch`` the task and the row of
    history.jsonl, after each epoch; ``end`` nothing, after the last step or an error.

    >>> losses = []
    >>> reporter = vitlab.Reporter(epoch=lambda task, row: losses.append(row["train_loss"]))
    >>> run = vitlab.train("fast", data="digits", epochs=2, progress=reporter)
    >>> len(losses)
    2
    """

    note: Callable[[str], None] = ignore
    begin: Callable[[Task], None] = ignore
    step: Callable[[Task, Counters, Tensor], None] = ignore
    epoch: Callable[[Task, Row], None] = ignore
    end: Callable[[], None] = ignore

    def __repr__(self) -> str:
        return f"Reporter({', '.join(name for name, call in vars(self).items() if call is not ignore)})"


SILENT = Reporter()
ONE_RANK = {"ranks": 1}  # what environment.json does not say
# Whoever wrote a checkout's configuration must not choose what runs here.
GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat", "--no-pager")
GIT_KEPT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES")


def train_run(
    config: RunConfig,
    path: str | os.PathLike[str],
    reporter: Reporter = SILENT,
    *,
    data_sha256: str | None = None,
    data: str | None = None,
    log: str | Iterable[str] = (),
    ranks: Ranks = ALONE,
) -> Result:
    """Train ``config`` into the new run folder ``path`` and return its result, also if it was interrupted or diverged
    (its ``status`` says so). Nothing is written if data or knobs are wrong, or if the images do not have the digest
    ``data_sha256``: DataError. `train` is the same for people: with progress, a folder chosen for you, and a `Run`.

    ``data`` says where the images are, if not where ``config`` says.
    ``log`` names trackers that receive a copy of the history, such as "tensorboard" or ["mlflow", "wandb"]. ``ranks``
    says which process this one is, if several call this function to train together: only the first one touches the
    folder, and the others return what they know.

    >>> import tempfile
    >>> path = tempfile.mkdtemp()
    >>> vitlab.train_run(vitlab.preset_config("fast").with_knobs(data="digits", epochs=1), path).status
    'done'
    """
    path, trackers = Path(path), chosen(log)
    check_count(config.machine.ranks, ranks)
    config = pinned(config.with_knobs(data=absolute(config.data.data), rehearse=absolute_rehearsal(config)))
    if ranks.several:
        config = config.with_knobs(ranks=ranks.count)
    check_empty(path)
    with memory_errors("preparing the run"):
        source = None if config.train.init_from is None else find_source(config.train.init_from)
        prepared = prepare(config, reporter.note, data, start=source, ranks=ranks)
    if data_sha256 not in (None, prepared.dataset.digest):
        raise DataError(f"{config.data.data} has changed since the study began (another SHA-256); run the study again")
    if ranks.rank:
        return follow(prepared, None)
    check_free_space(path, prepared)
    folder = RunFolder(path)
    files.make_folder(path)
    with folder.locked(), joined(ranks, prepared.task.machine.device):
        check_empty(path)  # again: another process may have been faster
        folder.sweep()
        circumstances = {"data_sha256": prepared.dataset.digest, "resumed": []}
        about = environment(prepared.task.machine) | origin() | circumstances
        record = data_record(prepared.dataset, prepared.task.preprocess, prepared.drawing)
        record |= rehearsal_record(prepared)
        if prepared.start is not None:
            digest = folder.save_start(prepared.start.weights)
            record["start"] = prepared.start.record | {"sha256": digest}
        folder.begin(config, record, about)
        return carry_out(folder, prepared, reporter, None, trackers)


def resume_run(
    path: str | os.PathLike[str],
    reporter: Reporter = SILENT,
    *,
    asked: dict[str, Any] | None = None,
    allow_drift: bool = False,
    log: str | Iterable[str] = (),
    ranks: Ranks = ALONE,
) -> Result:
    """Continue the run in ``path``; if it is done, only return its result. ``log``: as for `train_run`, also for a run
    that is done.

    ``asked`` are knobs that the caller repeats. RunError if they differ from the run's, except for the machine's knobs
    and ``data``, which may say where the same images are now. Another processor, precision, thread count, number of
    ``ranks`` (as for `train_run`) or torch is refused unless ``allow_drift``.

    >>> run = vitlab.train("fast", data="digits", epochs=1, progress=False)
    >>> vitlab.resume_run(run.path) == run.result  # it is done already
    True
    """
    path, trackers = Path(path), chosen(log)
    folder, asked = RunFolder(path), asked or {}
    config = folder.config()
    refuse_changes(config, asked, path)
    with contextlib.nullcontext() if ranks.rank else folder.locked():
        result = folder.result()
        if result is not None and result.status == "done":
            folder.load_weights(config.digest())  # or "nothing left to do" would be wrong
            reporter.note(f"{path} is finished; there is nothing left to do")
            if not ranks.rank:
                track_finished(folder, trackers, reporter.note)
            return result
        if result is not None and result.status == "diverged":
            lr = f"{config.optim.lr:g}"
            raise RunError(f"{path} diverged and would diverge again; start a new run with a lower lr than {lr}")
        stored = folder.environment()
        here = {name: stored[name] for name in ("precision", "kernels")} | {"threads": stored["threads"] * ranks.here}
        here |= machine_knobs(asked)
        with memory_errors("preparing the run"):
            shapes = shapes_in_checkpoint(folder, config)
            checkpoint, damaged = folder.load_checkpoint(config.digest(), *shapes)  # before a network is allocated
            data = folder.data()
            start = stored_start(folder, stored_preprocess(folder, config, data))
            config = config.with_knobs(**here)
            prepared = prepare(config, reporter.note, asked.get("data"), Reading.of(data), start=start, ranks=ranks)
        check_place(folder, prepared.task, checkpoint)
        drift = check_drift(folder, prepared, allow_drift, asked.get("data"))
        if ranks.rank:
            return follow(prepared, checkpoint)
        for file in damaged:
            reporter.note(f"{file} is damaged (its SHA-256 is not the one in its name), so it is deleted")
        if checkpoint is None and damaged:
            reporter.note("no checkpoint is intact: training starts from the beginning")
        with joined(ranks, prepared.task.machine.device):  # the others have read what now changes
            record_resume(folder, drift)
            folder.sweep(damaged)
            return carry_out(folder, prepared, reporter, checkpoint, trackers)


def shapes_in_checkpoint(folder: RunFolder, config: RunConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors that a checkpoint of ``config`` always holds, and those that it holds after the best epoch."""
    data = folder.data()
    network = outline(config.model, data["channels"], len(data["classes"]))
    weights = network.state_dict() if config.train.select == "best" else {}
    return checkpoint_shapes(network, config.optim), {f"best/{name}": one for name, one in weights.items()}


def check_place(folder: RunFolder, task: Task, checkpoint: Checkpoint | None) -> None:
    """RunError unless the checkpoint's counters are those of a moment of this training."""
    if checkpoint is None:
        return
    counters = Counters(**checkpoint.counters)
    epochs, epoch = len(counters.rows), task.steps_per_epoch
    fits = 0 < counters.step <= task.total_steps and epochs * epoch <= counters.step <= (epochs + 1) * epoch
    done = counters.step == task.total_steps and epochs == math.ceil(task.total_steps / epoch)
    has_best = any(map(is_best, checkpoint.tensors))
    if not (fits or done) or counters.best_epoch > epochs or (has_best and not counters.best_epoch):
        raise RunError(f"{folder.path}: the checkpoint of step {counters.step} does not fit its run; start a new run")


def check_same_images(folder: RunFolder, prepared: Prepared, data: str | None = None) -> None:
    """DataError unless these are the images that the run began with, those that it rehearses among them. ``data``:
    where the user says that they are now."""
    folder.check_same_data(prepared.dataset, data)
    if folder.data().get("rehearsal") != rehearsal_record(prepared).get("rehearsal"):
        raise DataError(f"the images that {folder.path} rehearses have changed since the run began; start a new run")


def check_record(folder: RunFolder, record: dict[str, Any]) -> None:
    """RunError unless data.json describes the data as ``record`` does: a run of an earlier version has no digest of
    it."""
    stored, names = folder.data(), ("channels", "classes", "preprocess")
    if [stored[name] for name in names] != [json.loads(files.to_json(record[name])) for name in names]:
        raise RunError(f"{folder.path / 'data.json'} is damaged: it does not describe the run's data; {files.AGAIN}")


def machine_knobs(asked: dict[str, Any]) -> dict[str, Any]:
    """The knobs in ``asked`` that say how to compute, not what."""
    return {name: value for name, value in asked.items() if flat_fields(RunConfig)[name][0] == "machine"}


def absolute(data: str) -> str:
    """The absolute path of a folder or file, valid in any working folder; the name of a data set is unchanged."""
    own = os.path.expanduser(data)  # os.path, because the methods of Path raise for impossible names
    return os.path.abspath(own) if data not in CATALOGUE and os.path.exists(own) else data


def absolute_rehearsal(config: RunConfig) -> str | None:
    """The knob `rehearse` with an absolute path."""
    if config.data.rehearse is None:
        return None
    place, share = rehearsal(config.data.rehearse)
    return f"{absolute(place)}:{share:g}"


def rehearsal_record(prepared: Prepared) -> dict[str, Any]:
    """What data.json says about images that were mixed in."""
    mixed = prepared.rehearsal
    if mixed is None:
        return {}
    about = {"name": mixed.name, "sha256": mixed.digest, "images": mixed.images}
    return {"own_classes": list(mixed.own_classes), "rehearsal": about}


def refuse_changes(config: RunConfig, asked: dict[str, Any], path: Path) -> None:
    """RunError if a knob in ``asked`` that shapes the result differs from the run's."""
    own = config.values()
    for name, value in asked.items():
        if name != "data" and name not in machine_knobs(asked) and value != own[name]:
            if name == "epochs" and is_finished(path):
                further = f"`vitlab train --resume {quoted(path)} --epochs-more N`"
                raise RunError(
                    f"{path} is finished, with {counted(own[name], 'epoch')}; {further} trains it for N more"
                )
            raise RunError(
                f"{path} was started with {name} {own[name]}, not {value}; "
                f"a resumed run keeps its configuration: leave that option out, or start a new run"
            )


def is_finished(path: Path) -> bool:
    """Whether the run in ``path`` is done."""
    result = RunFolder(path).result()
    return result is not None and result.status == "done"


def check_drift(folder: RunFolder, prepared: Prepared, allow_drift: bool, data: str | None = None) -> list[str]:
    """Compare data and machine with those at the start of the run. What of the machine is different: RunError, unless
    that is allowed. ``data``: as for `check_same_images`."""
    check_same_images(folder, prepared, data)
    check_record(folder, data_record(prepared.dataset, prepared.task.preprocess, prepared.drawing))
    stored, now = ONE_RANK | folder.environment(), ONE_RANK | environment(prepared.task.machine)
    known = [*FINGERPRINT, *(key for key in LATER if stored.get(key) is not None)]
    drift = [f"{key} was {stored[key]}, is now {now.get(key)}" for key in known if stored[key] != now.get(key)]
    if drift and not allow_drift:
        raise RunError(f"{'; '.join(drift)}: the resumed run would not be bit-exact; --allow-drift continues anyway")
    return drift


def record_resume(folder: RunFolder, drift: list[str]) -> None:
    """Add this resume to environment.json."""
    stored = folder.environment()
    folder.go_on(stored | {"resumed": [*stored["resumed"], {"utc": utc_now(), "drift": drift}]})


def check_done(result: Result, path: Path) -> None:
    """Interrupted or DivergedError, with the way on, if that is how the run in ``path`` ended."""
    if result.status == "interrupted":
        again = f"`vitlab train --resume {quoted(path)}`"
        raise Interrupted(f"interrupted after step {result.steps}; to continue: {again}", result["signal"])
    if result.status == "diverged":
        kept = f"the weights of epoch {result.selected_epoch} are kept in {path}"
        raise DivergedError(
            f"training diverged: the loss became infinite or NaN in step {result['steps'] + 1}; "
            f"{kept if result.model_sha256 else f'no epoch was finished before, see {path}'}; "
            f"try a lower --lr, a longer --warmup-epochs or --grad-clip 1"
        )


def follow(prepared: Prepared, checkpoint: Checkpoint | None) -> Result:
    """Train as a rank other than the first, which writes the run; what this one knows of the result."""
    machine = prepared.task.machine
    with joined(machine.ranks, machine.device), stop_on_signals() as stop, memory_errors("training"):
        outcome = fit(prepared.model, prepared.task, Hooks(should_stop=stop), checkpoint)
    return ended(prepared, outcome)


def carry_out(
    folder: RunFolder,
    prepared: Prepared,
    reporter: Reporter,
    checkpoint: Checkpoint | None,
    trackers: tuple[str, ...] = (),
) -> Result:
    """Train from the checkpoint or from the start, evaluate, and write the result."""
    rows: list[Row] = list(checkpoint.counters["rows"]) if checkpoint else []
    folder.write_history(rows)
    tracking = Tracking(folder, prepared.config, trackers, reporter.note)

    def on_epoch(row: Row) -> None:
        rows.append(row)
        folder.write_history(rows)
        reporter.epoch(prepared.task, row)
        tracking.log(row)

    with stop_on_signals() as stop:
        tracking.begin(rows)
        on_state = partial(folder.save_checkpoint, config_digest=prepared.config.digest())
        hooks = Hooks(partial(reporter.step, prepared.task), on_epoch, on_state=on_state, should_stop=stop)
        if prepared.config.train.keep_epochs:
            forget_epochs(folder, after=len(rows))
            hooks = replace(hooks, on_weights=partial(keep_epoch, folder, prepared.task))
        try:
            with memory_errors("training"):
                reporter.begin(prepared.task)
                try:
                    outcome = fit(prepared.model, prepared.task, hooks, checkpoint)
                finally:
                    reporter.end()
                # Perhaps only another rank was sent a signal.
                result = conclude(folder, prepared, outcome, stop.signum or signal.SIGTERM)
        except VitlabError as error:
            failure = type(error)(f"{error}; to continue: `vitlab train --resume {quoted(folder.path)}`")
            record_failure(folder, prepared, failure)
            tracking.end("failed", {})
            raise failure from error
        tracking.end(result.status, result)
    return result


def conclude(folder: RunFolder, prepared: Prepared, outcome: Outcome, signum: int) -> Result:
    """Write the selected weights and result.json. Here, and only once, a run that is done uses the test images."""
    result = replace(ended(prepared, outcome), signal=signum if outcome.status == "interrupted" else None)
    if outcome.status == "done":
        prepared.model.load_state_dict(outcome.weights)
        if prepared.dataset.test is not None:
            numbers = measure(prepared, prepared.dataset.test)
            result = replace(result, **{f"test_{name}": value for name, value in numbers.items()})
        if next(result.accuracies(), None) is None:
            result = replace(result, **measure_training(prepared))
        result = replace(result, **before_and_after(prepared, outcome.weights))
    if outcome.status != "interrupted" and outcome.weights:
        result = replace(result, model_sha256=folder.save_weights(outcome.weights))
        if outcome.status == "done" and (novelty := measure_novelty(prepared, outcome.weights)):
            result = replace(result, novelty_sha256=folder.save_novelty(novelty))
    return folder.write_result(result)


def before_and_after(prepared: Prepared, weights: dict[str, Tensor]) -> dict[str, Any]:
    """What training from given weights changed: the accuracy before it on the run's images (test images, or validation
    images without any), and before and after on those of the rehearsed data. The network ends with ``weights``."""
    own = prepared.dataset.test if prepared.dataset.test is not None else prepared.dataset.val
    other = None if prepared.rehearsal is None else prepared.rehearsal.test
    found: dict[str, Any] = {}
    if other is not None:
        found |= {"rehearsal_top1": measure(prepared, other)["top1"], "rehearsal_images": len(other)}
    if prepared.start is not None:
        prepared.model.load_state_dict(prepared.start.weights)
        for name, split in (("start_top1", own), ("rehearsal_start_top1", other)):
            if split is not None:
                found[name] = measure(prepared, split)["top1"]
        prepared.model.load_state_dict(weights)
    return found


def ended(prepared: Prepared, outcome: Outcome) -> Result:
    """The part of the result that is known after training, before anything is measured or written."""
    counters, selected = outcome.counters, outcome.selected_epoch
    images = prepared.task.images_in(counters.step)
    stopped = outcome.status == "done" and len(counters.rows) < prepared.task.total_epochs
    return replace(
        facts(prepared, outcome.status),
        epochs_done=len(counters.rows),
        stopped_epoch=len(counters.rows) if stopped else None,
        steps=counters.step,
        train_seconds=round(counters.train_seconds, 3),
        wall_seconds=round(counters.wall_seconds, 3),
        images_per_second=round(images / counters.train_seconds, 1) if images else None,
        best_epoch=counters.best_epoch or None,
        selected_epoch=selected or None,
        val_top1=counters.rows[selected - 1]["val_top1"] if selected else None,
        val_guess_top1=None if prepared.task.val is None else guess_top1(prepared.task.val.labels),
    )


def measure_novelty(prepared: Prepared, weights: dict[str, Tensor]) -> Novelty | None:
    """The distance from the training images, computed by the plain network in fp32, as every later answer is."""
    config, card, task = prepared.config, prepared.dataset.card, prepared.task
    with private_randomness(task.machine.device):
        plain = build_model(config.model, card.channels, len(card.classes))
    plain.load_state_dict(weights)
    plain = plain.to(task.machine.device)
    train = config.train
    return fit_novelty(plain, task.train, task.val, task.preprocess, train.seed, train.eval_batch_size)


def facts(prepared: Prepared, status: str, error: str | None = None) -> Result:
    """The part of the result that is known before training."""
    config, machine, description = prepared.config, prepared.task.machine, prepared.model.describe()
    return Result(
        status=status,
        preset=config.preset,
        data=config.data.data,
        seed=config.train.seed,
        epochs=config.train.epochs,
        params=count_parameters(prepared.model),
        params_by_part=parameters_by_part(prepared.model),
        flops_per_image=description.flops_per_image,
        train_images=len(prepared.task.train),
        val_images=0 if prepared.task.val is None else len(prepared.task.val),
        device=machine.device.type,
        threads=machine.threads,
        ranks=machine.ranks.count,
        precision=machine.precision,
        config_digest=config.digest(),
        data_sha256=prepared.dataset.digest,
        error=error,
    )


def record_failure(folder: RunFolder, prepared: Prepared, failure: VitlabError) -> None:
    """Write a result.json that names the failure, if the disk still allows it."""
    kind = {StorageError: "failed:storage", OutOfMemoryError: "failed:memory"}.get(type(failure), "failed")
    with contextlib.suppress(VitlabError):  # the first error is the one to report
        folder.write_result(facts(prepared, kind, str(failure)))


def check_free_space(path: Path, prepared: Prepared) -> None:
    """StorageError if the disk has no room for the run's checkpoints; called before anything is written."""
    # A checkpoint holds weights, two moments of Adam, and perhaps the average's and the best epoch's weights; two
    # checkpoints are kept while a third is written, as well as the final weights.
    copies = 3 + bool(prepared.config.optim.ema_decay) + (prepared.config.train.select == "best")
    needed = count_parameters(prepared.model) * 4 * (3 * copies + 1) + 1_000_000
    if prepared.config.train.keep_epochs:
        needed += count_parameters(prepared.model) * 2 * (prepared.task.total_epochs + 1)
    absolute_path = path.absolute()
    existing = next(folder for folder in (absolute_path, *absolute_path.parents) if os.path.exists(folder))
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise storage_error("use the folder", existing, error) from error
    if free < needed:
        raise StorageError(
            f"{path} has {free / 1e6:.1f} MB of free space, but this run may need {needed / 1e6:.1f} MB; "
            f"free some or choose another --out"
        )


def data_record(dataset: Dataset, preprocess: Preprocess, drawing: str | None) -> dict[str, Any]:
    """data.json: all that using the weights later requires to know about the images."""
    card = dataset.card
    return {
        "name": card.name,
        "channels": card.channels,
        "bits": dataset.bits,
        "alpha": dataset.alpha,
        "drawing": drawing,
        "classes": list(card.classes),
        "preprocess": asdict(preprocess),
        "sha256": dataset.digest,
        "origin": dataset.origin,
        "unreadable": list(dataset.unreadable),
        "size": [card.height, card.width],
        "background": dataset.background,
        "formats": list(dataset.formats),
        "tables": list(dataset.tables),
        "decoding": dataset.decoding,
    }


def origin() -> dict[str, Any]:
    """Which program made the run, and when."""
    return {"vitlab": __version__, "git_commit": git_commit(), "started_utc": utc_now()}


def git_commit() -> str | None:
    """The commit of vitlab's source, if it runs from a checkout; "+" marks uncommitted changes.

    It takes no lock in the checkout, and runs no program that the checkout's or the user's configuration names.
    """
    source = Path(__file__)
    # GIT_DIR and others would lead to another repository.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in GIT_KEPT}
    own |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}

    def git(*words: str) -> str | None:
        done = subprocess.run(
            [*GIT, *words], cwd=source.parent, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=10, check=False,
        )  # fmt: skip
        return None if done.returncode else done.stdout.strip()

    try:
        # If vitlab is installed inside of another project's checkout, that project's commit would be wrong.
        if git("ls-files", "--error-unmatch", source.name) is None:
            return None
        # Not `git describe --dirty`, which takes a lock whatever GIT_OPTIONAL_LOCKS says.
        commit, changed = git("rev-parse", "--short=12", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return commit and commit + ("" if changed == "" else "+")


def utc_now() -> str:
    """The time as 2026-01-31T12:00:00Z."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
