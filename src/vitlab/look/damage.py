"""JSON files that parse but lack what a report needs: a RunError of one line that names the place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitlab.errors import RunError

KINDS: dict[str, Callable[[Any], bool]] = {
    "number": lambda value: type(value) in (int, float) and math.isfinite(value),
    "count": lambda value: type(value) is int and value >= 0,
    "positive": lambda value: type(value) is int and value > 0,
    "text": lambda value: type(value) is str,
    "pair": lambda value: type(value) in (list, tuple) and len(value) == 2 and all(map(KINDS["number"], value)),
    "counts": lambda value: type(value) is dict and all(map(KINDS["count"], value.values())),
}
# What the files must hold: a kind, with "?" where null or a missing name will do, and the names of that kind.
RESULT = {
    "number": "train_seconds flops_per_image",
    "positive": "params",
    "count": "train_images val_images seed steps",
    "number?": "test_top1 test_top5 test_loss val_top1 images_per_second",
    "counts": "params_by_part",
    "pair?": "test_top1_interval",
    "count?": "selected_epoch",
    "text": "status data_sha256",
}
ENVIRONMENT = {"text": "started_utc vitlab system python", "text?": "git_commit"}
EPOCH = {"number": "epoch train_seconds train_top1", "number?": "lr train_loss val_loss val_top1"}
LINE = {
    "text": "cell",
    "count": "done",
    "counts": "failed",
    "counts?": "params_by_part",
    "number?": "accuracy sd seconds params flops images_per_second rank",
    "pair?": "interval published",
    "text?": "verdict",
}
ROW = {"text": "cell status run", "count": "seed", "number?": "train_seconds test_top1 val_top1"}


def check_run(path: Path, result: Any, environment: Any, history: Sequence[Any]) -> None:
    """RunError unless the files of the run in ``path`` hold what a report needs."""
    advice = "restore it from a copy, or train again"
    check_table(path / "result.json", "", result, RESULT, advice)
    check_table(path / "environment.json", "", environment, ENVIRONMENT, advice)
    for number, row in enumerate(history, start=1):
        check_table(path / "history.jsonl", f"row {number}: ", row, EPOCH, advice)


def check_table(path: Path, place: str, table: Any, kinds: Mapping[str, str], advice: str) -> None:
    """RunError unless ``table``, from this ``place`` of a file, has names and values of these ``kinds``."""
    if not isinstance(table, dict):
        raise RunError(f"{path} is damaged: {place}it is not a table of names and values; {advice}")
    for kind, names in kinds.items():
        for name in names.split():
            value = table.get(name)
            if not (value is None and kind.endswith("?")) and not KINDS[kind.rstrip("?")](value):
                text = "missing" if value is None else repr(value)
                found = text if len(text) <= 40 else f"{text[:39]}…"
                raise RunError(f"{path} is damaged: {place}{name!r} is {found}; {advice}")
