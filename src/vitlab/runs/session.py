"""One run from its configuration to its result: the place where training and run folder meet."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitlab import files
from vitlab.config import RunConfig, sections
from vitlab.config.knobs import flat_fields
from vitlab.data import CATALOGUE
from vitlab.errors import DataError, OutOfMemoryError, RunError, StorageError, VitlabError
from vitlab.interrupts import stop_on_signals
from vitlab.machine import environment, private_randomness
from vitlab.model import CNN, ViT, build_model, count_parameters
from vitlab.runs.folder import FINGERPRINT, RunFolder, check_empty
from vitlab.runs.prepare import Prepared, prepare
from vitlab.runs.record import describe_data, facts, measure, origin, result_of, test_numbers, utc_now
from vitlab.training.checkpoint import Checkpoint
from vitlab.training.loop import Hooks, Outcome, fit
from vitlab.training.preprocess import Preprocess
from vitlab.training.step import Counters, Row, Task


@dataclass(frozen=True)
class Reporter:
    """Whom a run tells how it is going; by default, nobody."""

    note: Callable[[str], None] = lambda line: None
    begin: Callable[[Task], None] = lambda task: None
    step: Callable[[Task, Counters, Tensor], None] = lambda task, counters, sums: None
    epoch: Callable[[Task, Row], None] = lambda task, row: None
    end: Callable[[], None] = lambda: None


SILENT = Reporter()


def train_run(config: RunConfig, path: Path, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Train ``config`` into the new run folder ``path`` and return result.json; wrong data or knobs write nothing."""
    config = config.with_knobs(data=absolute(config.data.data))
    check_empty(path)
    with memory_errors("preparing the run"):
        prepared = prepare(config, reporter.note)
    check_free_space(path, prepared)
    folder = RunFolder(path)
    files.make_folder(path)
    with folder.locked():
        check_empty(path)  # again: another process may have come first
        circumstances = {"data_sha256": prepared.dataset.digest, "resumed": []}
        folder.write("data.json", describe_data(prepared.dataset, prepared.task.preprocess))
        folder.write("environment.json", environment(prepared.task.machine) | origin() | circumstances)
        folder.write("config.json", config.to_dict())  # last: from here on it is a run that --resume continues
        return carry_out(folder, prepared, reporter, None)


def resume_run(
    path: Path, reporter: Reporter = SILENT, *, asked: dict[str, Any] | None = None, allow_drift: bool = False
) -> dict[str, Any]:
    """Continue the run in ``path``; a run that is done is returned as it is.

    ``asked`` are knobs given beside it: they must be what the run already has (RunError otherwise), but
    for ``data``, which may name the place that the same bytes have moved to, and those of the machine.
    Another processor, precision, thread count or torch is refused unless ``allow_drift``.
    """
    folder, asked = RunFolder(path), asked or {}
    config = folder.config()
    refuse_changes(config, asked, path)
    with folder.locked():
        result = folder.result()
        if result is not None and result["status"] == "done":
            reporter.note(f"{path} is finished; nothing is left to do")
            return result
        if result is not None and result["status"] == "diverged":
            lr = f"{config.optim.lr:g}"
            raise RunError(f"{path} diverged and would do so again; start a new run with a lower lr than {lr}")
        stored = folder.environment()
        here = {name: stored[name] for name in ("threads", "precision", "kernels")} | machine_knobs(asked)
        with memory_errors("preparing the run"):
            prepared = prepare(config.with_knobs(**here), reporter.note, asked.get("data"))
        checkpoint, damaged = folder.load_checkpoint(config.digest())
        for file in damaged:
            reporter.note(f"{file} is damaged: its SHA-256 is not the one in its name; it is deleted")
        if checkpoint is None and damaged:
            reporter.note("no checkpoint is whole: training starts anew")
        record_resume(folder, prepared, allow_drift)
        folder.sweep(damaged)
        return carry_out(folder, prepared, reporter, checkpoint)


def machine_knobs(asked: dict[str, Any]) -> dict[str, Any]:
    """Those of ``asked`` that say how to compute, not what."""
    return {name: value for name, value in asked.items() if flat_fields(RunConfig)[name][0] == "machine"}


def absolute(data: str) -> str:
    """The place of a folder or file that is to be found again from another working folder; a set's name as it is."""
    own = os.path.expanduser(data)  # of os.path, since those of Path raise for names that no file can have
    return os.path.abspath(own) if data not in CATALOGUE and os.path.exists(own) else data


def refuse_changes(config: RunConfig, asked: dict[str, Any], path: Path) -> None:
    """RunError if a knob in ``asked`` that shapes the result differs from the run's own."""
    own = {name: getattr(section, name) for section in sections(config).values() for name in vars(section)}
    for name, value in asked.items():
        if name != "data" and name not in machine_knobs(asked) and value != own[name]:
            raise RunError(
                f"{path} was started with {name} {own[name]}, not {value}; "
                f"a resumed run keeps its configuration: leave that option out, or start a new run"
            )


def record_resume(folder: RunFolder, prepared: Prepared, allow_drift: bool) -> None:
    """Compare data and machine with those of the start, and note this resume in environment.json."""
    check_same_data(folder, prepared)
    stored, now = folder.environment(), environment(prepared.task.machine)
    drift = [f"{key} was {stored[key]}, is now {now[key]}" for key in FINGERPRINT if stored[key] != now[key]]
    if drift and not allow_drift:
        raise RunError(
            f"{'; '.join(drift)}: the resumed run would not be bit-exact; use --allow-drift to go on all the same"
        )
    resumed = [*stored["resumed"], {"utc": utc_now(), "drift": drift}]
    folder.write("environment.json", stored | {"resumed": resumed})
    folder.forget_result()


def check_same_data(folder: RunFolder, prepared: Prepared) -> None:
    """DataError unless the images are, byte for byte, those that the run began with."""
    if prepared.dataset.digest != folder.data()["sha256"]:
        raise DataError(f"the data of {folder.path} has changed since the run began (another SHA-256); start a new run")


def carry_out(
    folder: RunFolder, prepared: Prepared, reporter: Reporter, checkpoint: Checkpoint | None
) -> dict[str, Any]:
    """Train from the checkpoint or from the start, evaluate, and write how it ended."""
    rows: list[Row] = list(checkpoint.counters["rows"]) if checkpoint else []
    folder.write_history(rows)

    def on_epoch(row: Row) -> None:
        rows.append(row)
        folder.write_history(rows)
        reporter.epoch(prepared.task, row)

    with stop_on_signals() as stop:
        on_state = partial(folder.save_checkpoint, config_digest=prepared.config.digest())
        hooks = Hooks(partial(reporter.step, prepared.task), on_epoch, on_state, stop)
        try:
            with memory_errors("training"):
                reporter.begin(prepared.task)
                try:
                    outcome = fit(prepared.model, prepared.task, hooks, checkpoint)
                finally:
                    reporter.end()
                result = conclude(folder, prepared, outcome)
        except VitlabError as error:
            failure = type(error)(f"{error}; to go on: vitlab train --resume {shlex.quote(str(folder.path))}")
            record_failure(folder, prepared, failure)
            raise failure from error
        return result | ({"signal": stop.signum} if outcome.status == "interrupted" else {})


def conclude(folder: RunFolder, prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """Write the selected weights and result.json; a run that is done meets the test images here, once."""
    result = result_of(prepared, outcome)
    if outcome.status == "done":
        prepared.model.load_state_dict(outcome.weights)
        result |= test_numbers(prepared)
    if outcome.status != "interrupted" and outcome.weights:
        result |= {"model_sha256": folder.save_weights(outcome.weights)}
    folder.write("result.json", result)
    return result


@contextlib.contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Turn a failed allocation, which torch reports as a RuntimeError, into OutOfMemoryError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        signs = ("out of memory", "can't allocate memory", "not enough memory")
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in signs):
            raise
        advice = "free some, or use a smaller model, --batch-size, --eval-batch-size or --image-size"
        raise OutOfMemoryError(f"out of memory while {doing}; {advice}") from error


def record_failure(folder: RunFolder, prepared: Prepared, failure: VitlabError) -> None:
    """Leave a result.json that names the failure, if the disk still takes one."""
    kind = {StorageError: "failed:storage", OutOfMemoryError: "failed:memory"}.get(type(failure), "failed")
    with contextlib.suppress(StorageError):  # the first error is the one to report
        folder.write("result.json", facts(prepared) | {"status": kind, "error": str(failure)})


def check_free_space(path: Path, prepared: Prepared) -> None:
    """StorageError before anything is written if the disk will not hold the run's checkpoints."""
    # A checkpoint holds weights, two moments of Adam, and perhaps the average's and the best epoch's
    # weights; two checkpoints are kept while a third is written, beside the final weights.
    copies = 3 + bool(prepared.config.optim.ema_decay) + (prepared.config.train.select == "best")
    needed = count_parameters(prepared.model) * 4 * (3 * copies + 1) + 1_000_000
    absolute_path = path.absolute()
    existing = next(folder for folder in (absolute_path, *absolute_path.parents) if os.path.exists(folder))
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StorageError(
            f"{path} has {free / 1e6:.1f} MB of free space, but this run may need {needed / 1e6:.1f} MB; "
            f"free some or choose another --out"
        )


def evaluate_run(
    path: Path,
    split: str = "test",
    reporter: Reporter = SILENT,
    *,
    asked: dict[str, Any] | None = None,
    shifts: int = 0,
) -> dict[str, Any]:
    """Accuracy of a finished run's weights on its "test" or "val" images; DataError if those have changed.

    With ``shifts`` the mean prediction over each image and its four copies moved by that many pixels.

    ``asked`` may hold the machine's knobs, and ``data``: the place that the images have moved to.
    """
    asked = asked or {}
    folder = RunFolder(path)
    config = folder.config()
    weights = folder.load_weights(config.digest())
    with memory_errors("evaluating"):
        prepared = prepare(config.with_knobs(**machine_knobs(asked)), reporter.note, asked.get("data"))
        check_same_data(folder, prepared)
        images = {"test": prepared.dataset.test, "val": prepared.dataset.val}
        chosen = images.pop(split)
        if chosen is None:
            others = [f"; use --split {name}" for name, other in images.items() if other is not None]
            raise DataError(f"{path} has no {split} images{''.join(others)}")
        put_weights(prepared.model, weights, path)
        return {"run": str(path), "split": split, "shifts": shifts} | measure(prepared, chosen, shifts)


def load_model(path: Path) -> tuple[ViT | CNN, Preprocess, tuple[str, ...]]:
    """A finished run's network (on the CPU, in evaluation mode), its preprocessing and its classes' names.

    Needs no data set: `model(preprocess(images_BHWC))` gives the logits of uint8 images.
    """
    folder = RunFolder(path)
    config, data = folder.config(), folder.data()
    weights = folder.load_weights(config.digest())
    try:
        classes, settings = tuple(data["classes"]), data["preprocess"]
        mean, std = (tuple(map(float, settings[name])) for name in ("mean", "std"))
        preprocess = Preprocess(int(settings["image_size"]), mean, std, config.model.input_side)
        with private_randomness(torch.device("cpu")):
            model = build_model(config.model, data["channels"], len(classes))
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{path / 'data.json'} is damaged: values are missing or wrong; train again") from None
    put_weights(model, weights, path)
    return model.eval(), preprocess, classes


def put_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load a run's weights into its network; RunError when they are not of that shape."""
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise RunError(f"{path}: config.json does not fit model.safetensors; one of them has been changed") from None
