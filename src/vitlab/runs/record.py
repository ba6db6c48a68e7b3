"""What is written down about a run: facts known before it trains, its origin, and how it ended."""

from __future__ import annotations

import datetime
import math
import subprocess
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vitlab.data import Dataset, Split
from vitlab.data.batches import to_device
from vitlab.model import count_parameters, flops_per_image, parameters_by_part
from vitlab.runs.prepare import Prepared
from vitlab.training.evaluate import metrics, predict_logits, wilson_interval
from vitlab.training.loop import Outcome
from vitlab.training.preprocess import Preprocess


def facts(prepared: Prepared) -> dict[str, Any]:
    """What is known of a run before it has trained, with the names of what comes after set to None."""
    config, card, machine = prepared.config, prepared.dataset.card, prepared.task.machine
    return {
        "status": None,
        "preset": config.preset,
        "data": config.data.data,
        "seed": config.train.seed,
        "test_top1": None,
        "test_top5": None,
        "test_loss": None,
        "test_top1_interval": None,
        "test_images": None,
        "val_top1": None,
        "best_epoch": None,
        "selected_epoch": None,
        "epochs": config.train.epochs,
        "train_seconds": None,
        "wall_seconds": None,
        "images_per_second": None,
        "params": count_parameters(prepared.model),
        "params_by_part": parameters_by_part(prepared.model),
        "flops_per_image": flops_per_image(config.model, card.channels, len(card.classes)),
        "train_images": len(prepared.task.train),
        "val_images": 0 if prepared.task.val is None else len(prepared.task.val),
        "device": machine.device.type,
        "threads": machine.threads,
        "precision": machine.precision,
        "config_digest": config.digest(),
        "data_sha256": prepared.dataset.digest,
        "model_sha256": None,
    }


def result_of(prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """What training found out and cost; the test split is not looked at here."""
    counters, task = outcome.counters, prepared.task
    images, seconds = task.images_in(counters.step), counters.train_seconds
    return facts(prepared) | {
        "status": outcome.status,
        "epochs_done": len(counters.rows),
        "steps": counters.step,
        "train_seconds": round(counters.train_seconds, 3),
        "images_per_second": round(images / seconds, 1) if images else None,
        "best_epoch": counters.best_epoch or None,
        "selected_epoch": outcome.selected_epoch or None,
        "val_top1": counters.rows[outcome.selected_epoch - 1]["val_top1"] if outcome.selected_epoch else None,
        "wall_seconds": round(counters.wall_seconds, 3),
    }


def test_numbers(prepared: Prepared) -> dict[str, Any]:
    """The test columns of result.json for the model as it is; empty without a test split."""
    if prepared.dataset.test is None:
        return {}
    return {f"test_{name}": value for name, value in measure(prepared, prepared.dataset.test).items()}


def measure(prepared: Prepared, split: Split, shifts: int = 0) -> dict[str, Any]:
    """top1 with its 95 % interval, top5, loss and the number of images, for the model as it is."""
    task = prepared.task
    images = to_device(split, task.machine.device)
    logits = predict_logits(
        prepared.model, images, task.preprocess, task.machine, prepared.config.train.eval_batch_size, shifts
    )
    numbers = metrics(logits, images.labels)
    return {
        "top1": numbers["top1"],
        "top5": numbers["top5"],
        "loss": numbers["loss"] if math.isfinite(numbers["loss"]) else None,
        "top1_interval": list(wilson_interval(numbers["top1"], len(split))),
        "images": len(split),
    }


def describe_data(dataset: Dataset, preprocess: Preprocess) -> dict[str, Any]:
    """data.json: all that a later reader of the weights must know about the images."""
    card = dataset.card
    return {
        "name": card.name,
        "channels": card.channels,
        "classes": list(card.classes),
        "preprocess": asdict(preprocess),
        "sha256": dataset.digest,
        "origin": dataset.origin,
        "unreadable": list(dataset.unreadable),
    }


def origin() -> dict[str, Any]:
    """Which program made the run, and when."""
    return {"vitlab": version("vitlab"), "git_commit": git_commit(), "started_utc": utc_now()}


def git_commit() -> str | None:
    """The commit of vitlab's own source, if it runs from a checkout; "+" marks uncommitted changes."""
    source = Path(__file__)
    try:
        git = partial(subprocess.run, cwd=source.parent, capture_output=True, text=True, timeout=10, check=False)
        # Installed into another project's environment, we would else report that project's commit.
        if git(["git", "ls-files", "--error-unmatch", source.name]).returncode:
            return None
        return git(["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def utc_now() -> str:
    """The time as 2026-01-31T12:00:00Z."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
