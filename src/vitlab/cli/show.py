"""vitlab show."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.cli import flags
from vitlab.config.presets import DEFAULT_PRESET, PRESETS, preset_config
from vitlab.runs.zoo import name_of, refuse_damage
from vitlab.text import between, counted, curve, duration, listed, percent, quoted, shows, value, wrapped
from vitlab.text import show as show_lines

if TYPE_CHECKING:
    from vitlab.config import RunConfig
    from vitlab.runs.folder import RunFolder
    from vitlab.runs.result import Result

INDENT = " " * 10


def declare(children: flags.Children) -> None:
    """The command and its options."""
    parser = flags.add_command(children, show, "show a run at a glance", "RUN [options]")
    parser.add_argument("run", metavar="RUN", type=flags.run, help=f"{flags.A_RUN}; finished or not")
    parser.add_argument("--json", action="store_true", help="print everything as one line of JSON")


def show(arguments: argparse.Namespace) -> int:
    """Show a run at a glance: what it is, how it differs from its preset, accuracy, time, curves, and what to do
    next."""
    from vitlab.cli.runs import in_runs
    from vitlab.runs.folder import RunFolder
    from vitlab.runs.listing import entry_of

    folder = RunFolder(in_runs(arguments.run))
    with refuse_damage(folder.path):
        config, data, result = folder.config(), folder.data(), folder.result()
        rows = folder.history() if (folder.path / "history.jsonl").exists() else []
    entry = entry_of(folder.path)
    changed = changed_knobs(config)
    if arguments.json:
        facts: dict[str, Any] = {"run": str(folder.path), "state": entry.state, "preset": config.preset}
        facts |= {"changed": changed, "classes": data["classes"], "history": rows}
        facts |= {"result": result and result.to_dict()}
        facts |= {"not_learned": result and result.why_not_learned()}
        flags.print_json(facts | {"accuracy_hides": result and result.what_accuracy_hides()})
        return 0
    lines = {
        "network": network_line(config, data),
        "preset": preset_line(config, changed),
        "data": data_line(config, data, result),
        "accuracy": accuracy_line(result),
        "time": time_line(result),
    }
    name = name_of(folder.path)
    show_lines(f"{name}: {entry.state}, started {entry.started:%Y-%m-%d %H:%M}, {entry.size / 1e6:.1f} MB")
    for name, text in lines.items():
        if text:
            show_lines(*wrapped(text, f"{name:<10}", INDENT))
    show_lines(*curve_lines(rows))
    if trouble := result and result.note():
        show_lines(*wrapped(trouble, f"{'note':<10}", INDENT))
    show_lines(*next_lines(folder, entry.state, result))
    return 0


def network_line(config: RunConfig, data: dict[str, Any]) -> str:
    """What is trained; no memory is allocated for it."""
    from vitlab.model import count_parameters
    from vitlab.model.outline import outline

    model = outline(config.model, data["channels"], len(data["classes"]))
    about = model.describe()
    return f"{about.name}: {about.line}, {counted(count_parameters(model), 'parameter')}"


def changed_knobs(config: RunConfig) -> dict[str, Any]:
    """The knobs that differ from the run's preset, or from the default preset if it has none."""
    name = config.preset if config.preset in PRESETS else DEFAULT_PRESET
    return config.changed_knobs(preset_config(name))


def preset_line(config: RunConfig, changed: dict[str, Any]) -> str:
    """The preset, and the knobs that differ from it."""
    known = config.preset if config.preset in PRESETS else None
    first = known or f"none; compared with {DEFAULT_PRESET}"
    words = [f"{name} {value(what)}" for name, what in changed.items() if name != "data"]
    return f"{first}, with {', '.join(words)}" if words else f"{first}, unchanged"


def data_line(config: RunConfig, data: dict[str, Any], result: Result | None) -> str:
    """The data set, its classes and images."""
    sizes = {} if result is None else {"training": result.train_images, "validation": result.val_images}
    sizes |= {} if result is None else {"test": result.test_images}
    images = listed([f"{count:,} {name}" for name, count in sizes.items() if count])
    name, classes = Path(config.data.data).name, counted(len(data["classes"]), "class")
    return f"{name}: {classes}, {images} images" if images else f"{name}: {classes}"


def accuracy_line(result: Result | None) -> str:
    """The accuracy with its interval, or why there is none."""
    if result is None:
        return ""
    parts = []
    if result.test_top1 is not None and result.test_top1_interval is not None:
        parts.append(
            f"{percent(result.test_top1)} on test images, {between(result.test_top1_interval)} (95 % interval)"
        )
    if result.val_top1 is not None:
        parts.append(f"{percent(result.val_top1)} on validation images")
    return "; ".join(parts) or (result.error or "")


def time_line(result: Result | None) -> str:
    """The training time and the speed."""
    if result is None or result.train_seconds is None:
        return ""
    speed = "" if result.images_per_second is None else f", {result.images_per_second:,.0f} images/s"
    where = "" if result.threads is None else f", {counted(result.threads, 'thread')} on {result.device}"
    epochs = "" if result.epochs_done is None else f"{counted(result.epochs_done, 'epoch')} in "
    if result.stopped_epoch:
        epochs = f"{result.stopped_epoch} of {counted(result.epochs or 0, 'epoch')} (stopped early) in "
    return f"{epochs}{duration(result.train_seconds)} of training{speed}{where}"


def curve_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The course of training: first value, a bar for each epoch, last value."""
    made = []
    names = {"train_loss": ("loss", "{:.3f}"), "val_top1": ("val top-1", "{:.2%}")}
    for name, (title, form) in names.items():
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            bars = f" {curve(values)} " if shows(curve(values)) and len(values) > 1 else " to "
            first, last = (form.format(one).replace("%", " %") for one in (values[0], values[-1]))
            made.append(f"{title:<10}{first}{bars}{last}" if len(values) > 1 else f"{title:<10}{last}")
    return made


def next_lines(folder: RunFolder, state: str, result: Result | None) -> list[str]:
    """What to type next."""
    run = quoted(name_of(folder.path))
    if state == "running":
        return []
    if state in ("diverged", "damaged"):
        return [f"next: vitlab check {run}"] if state == "damaged" else ["next: train again with a lower --lr"]
    if result is None or result.model_sha256 is None:
        return [f"next: vitlab train --resume {run}"]
    if not folder.is_for_browsers():
        return [f"next: vitlab look {run}", f"      vitlab predict {run} picture.tif"]
    return [f"next: vitlab look {run}", f"      vitlab serve {run}", f"      vitlab predict {run} seven.png"]
