"""One run from its configuration to its result: the place where training and run folder meet."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vitlab.config import RunConfig
from vitlab.errors import DataError, OutOfMemoryError, RunError, StorageError, VitlabError
from vitlab.interrupts import stop_on_signals
from vitlab.machine import environment, private_randomness
from vitlab.model import CNN, ViT, build_model, count_parameters
from vitlab.prepare import Prepared, prepare
from vitlab.preprocess import Preprocess
from vitlab.record import describe_data, facts, measure, origin, result_of, test_numbers, utc_now
from vitlab.runs import RunFolder, create_run
from vitlab.train import Counters, Hooks, Row, Task, fit

# What must be equal for a resumed run to be the unbroken one, bit for bit.
FINGERPRINT = ("torch", "device", "device_name", "cpu_capability", "threads", "precision", "attention")


@dataclass(frozen=True)
class Reporter:
    """Whom a run tells how it is going; by default, nobody."""

    note: Callable[[str], None] = lambda line: None
    begin: Callable[[Task], None] = lambda task: None
    step: Callable[[Task, Counters, float], None] = lambda task, counters, loss: None
    epoch: Callable[[Task, Row], None] = lambda task, row: None
    end: Callable[[], None] = lambda: None


SILENT = Reporter()


def train_run(config: RunConfig, path: Path, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Train ``config`` into the new run folder ``path`` and return result.json; wrong data or knobs write nothing."""
    prepared = prepare(config, reporter.note)
    folder = create_run(path)
    with folder.locked():
        check_free_space(path, prepared.model)
        folder.write("data.json", describe_data(prepared.dataset, prepared.task.preprocess))
        folder.write("environment.json", environment(prepared.task.machine) | origin() | {"resumed": []})
        folder.write("config.json", config.to_dict())  # last: from here on it is a run that --resume continues
        return carry_out(folder, prepared, reporter)


def resume_run(
    path: Path, reporter: Reporter = SILENT, *, asked: dict[str, Any] | None = None, allow_drift: bool = False
) -> dict[str, Any]:
    """Continue the run in ``path``; a run that is done is returned as it is.

    ``asked`` are knobs given beside it: they must be what the run already has (RunError otherwise).
    Another machine, thread count or torch is refused unless ``allow_drift``.
    """
    folder = RunFolder(path)
    config = folder.config()
    refuse_changes(config, asked or {}, path)
    with folder.locked():
        result = folder.result()
        if result is not None and result["status"] == "done":
            reporter.note(f"{path} is finished; nothing is left to do")
            return result
        if result is not None and result["status"] == "diverged":
            raise RunError(
                f"{path} diverged and would do so again; start a new run with a lower lr than {config.optim.lr:g}"
            )
        prepared = prepare(config, reporter.note)
        record_resume(folder, prepared, allow_drift)
        return carry_out(folder, prepared, reporter)


def refuse_changes(config: RunConfig, asked: dict[str, Any], path: Path) -> None:
    """RunError if a knob in ``asked`` differs from the run's own."""
    wanted, own = config.with_knobs(**asked).to_dict(), config.to_dict()
    for section, values in own.items():
        for name in values if isinstance(values, dict) else ():
            if wanted[section][name] != values[name]:
                raise RunError(
                    f"{path} was started with {name} {values[name]}, not {wanted[section][name]}; "
                    f"a resumed run keeps its configuration: leave that option out, or start a new run"
                )


def record_resume(folder: RunFolder, prepared: Prepared, allow_drift: bool) -> None:
    """Compare data and machine with those of the start, and note this resume in environment.json."""
    check_same_data(folder, prepared)
    stored = folder.environment()
    now = environment(prepared.task.machine)
    drift = [f"{key} was {stored.get(key)}, is now {now[key]}" for key in FINGERPRINT if stored.get(key) != now[key]]
    if drift and not allow_drift:
        raise RunError(
            f"{'; '.join(drift)}: the resumed run would not be bit-exact; use --allow-drift to go on all the same"
        )
    resumed = [*stored.get("resumed", []), {"utc": utc_now(), "drift": drift}]
    folder.write("environment.json", stored | {"resumed": resumed})
    folder.forget_result()
    folder.sweep()


def check_same_data(folder: RunFolder, prepared: Prepared) -> None:
    """DataError unless the images are, byte for byte, those that the run began with."""
    if prepared.dataset.digest != folder.data().get("sha256"):
        raise DataError(f"the data of {folder.path} has changed since the run began (another SHA-256); start a new run")


def carry_out(folder: RunFolder, prepared: Prepared, reporter: Reporter) -> dict[str, Any]:
    """Train from the newest checkpoint or from the start, evaluate, and write how it ended."""
    checkpoint, damaged = folder.load_checkpoint()
    for line in damaged:
        reporter.note(line)
    folder.write_history(checkpoint.counters["rows"] if checkpoint else [])
    rows: list[Row] = list(checkpoint.counters["rows"]) if checkpoint else []

    def on_epoch(row: Row) -> None:
        rows.append(row)
        folder.write_history(rows)
        reporter.epoch(prepared.task, row)

    with stop_on_signals() as stop:
        on_step = partial(reporter.step, prepared.task)
        hooks = Hooks(on_step, on_epoch, folder.save_checkpoint, stop)
        reporter.begin(prepared.task)
        try:
            outcome = fit(prepared.model, prepared.task, hooks, checkpoint)
        except (VitlabError, MemoryError, RuntimeError) as error:
            failure = translate(error)
            record_failure(folder, prepared, failure)
            raise failure from error
        finally:
            reporter.end()
        result = result_of(prepared, outcome)
        if outcome.status == "done":
            prepared.model.load_state_dict(outcome.weights)
            result |= test_numbers(prepared) | {"model_sha256": folder.save_weights(outcome.weights)}
        folder.write("result.json", result)
        return result | ({"signal": stop.signum} if outcome.status == "interrupted" else {})


def translate(error: Exception) -> VitlabError:
    """A failure in training as one that users can cause; anything else is our own mistake and goes on as it is."""
    if isinstance(error, VitlabError):
        return error
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        advice = "use a smaller --batch-size, --eval-batch-size or model"
        return OutOfMemoryError(f"out of memory while training; {advice}")
    raise error


def record_failure(folder: RunFolder, prepared: Prepared, failure: VitlabError) -> None:
    """Leave a result.json that names the failure, if the disk still takes one."""
    kind = {StorageError: "failed:storage", OutOfMemoryError: "failed:memory"}.get(type(failure), "failed")
    with contextlib.suppress(StorageError):  # the first error is the one to report
        folder.write("result.json", facts(prepared) | {"status": kind, "error": str(failure)})


def check_free_space(path: Path, model: nn.Module) -> None:
    """StorageError before the first step if the disk will not hold the run's checkpoints."""
    # A checkpoint holds weights, two moments of Adam, and up to two more copies (average, best); two
    # checkpoints are kept while a third is written, beside the final weights.
    needed = count_parameters(model) * 4 * (3 * 5 + 1) + 1_000_000
    free = shutil.disk_usage(path).free
    if free < needed:
        raise StorageError(
            f"{path} has {free / 1e6:.1f} MB of free space, but this run may need {needed / 1e6:.1f} MB; "
            f"free some or choose another --out"
        )


def evaluate_run(path: Path, split: str = "test", reporter: Reporter = SILENT) -> dict[str, Any]:
    """Accuracy of a finished run's weights on its "test" or "val" images; DataError if those have changed."""
    folder = RunFolder(path)
    config = folder.config()
    weights = folder.load_weights()
    prepared = prepare(config, reporter.note)
    check_same_data(folder, prepared)
    images = prepared.dataset.test if split == "test" else prepared.dataset.val
    if images is None:
        raise DataError(f"{config.data.data} has no {split} images in this run; choose the other --split")
    put_weights(prepared.model, weights, path)
    return {"run": str(path), "split": split} | measure(prepared, images)


def load_model(path: Path) -> tuple[ViT | CNN, Preprocess, tuple[str, ...]]:
    """A finished run's network (on the CPU, in evaluation mode), its preprocessing and its classes' names.

    Needs no data set: `model(preprocess(images_BHWC))` gives the logits of uint8 images.
    """
    folder = RunFolder(path)
    config, weights, data = folder.config(), folder.load_weights(), folder.data()
    try:
        classes, settings = tuple(data["classes"]), data["preprocess"]
        preprocess = Preprocess(settings["image_size"], tuple(settings["mean"]), tuple(settings["std"]))
        with private_randomness():
            model = build_model(config.model, data["channels"], len(classes))
    except (KeyError, TypeError):
        raise RunError(f"{path / 'data.json'} is damaged: names are missing") from None
    put_weights(model, weights, path)
    return model.eval(), preprocess, classes


def put_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load a run's weights into its network; RunError when they are not of that shape."""
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise RunError(f"{path}: config.json does not fit model.safetensors; one of them has been changed") from None
