"""Files that are valid JSON but do not hold what a report needs: one line each that says where, before any is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitlab.errors import RunError

Check = Callable[[Any], bool]


def is_number(value: Any) -> bool:
    """A finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """A whole number from 0 on."""
    return is_number(value) and isinstance(value, int) and value >= 0


def is_text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def is_pair(value: Any) -> bool:
    """Two numbers."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))


def is_counts(value: Any) -> bool:
    """Names with whole numbers."""
    return isinstance(value, dict) and all(map(is_count, value.values()))


def or_none(check: Check) -> Check:
    """What ``check`` accepts, or null."""
    return lambda value: value is None or check(value)


RESULT: dict[str, Check] = {
    **dict.fromkeys(("train_seconds", "flops_per_image"), is_number),
    **dict.fromkeys(("params", "train_images", "val_images", "seed", "steps"), is_count),
    **dict.fromkeys(("test_top1", "test_top5", "test_loss", "val_top1", "images_per_second"), or_none(is_number)),
    "params_by_part": is_counts,
    "test_top1_interval": or_none(is_pair),
    "selected_epoch": or_none(is_count),
    "status": is_text,
    "data_sha256": is_text,
}
ENVIRONMENT: dict[str, Check] = {
    **dict.fromkeys(("started_utc", "vitlab", "system", "python"), is_text),
    "git_commit": or_none(is_text),
}
EPOCH: dict[str, Check] = {
    **dict.fromkeys(("epoch", "train_seconds", "train_top1"), is_number),
    **dict.fromkeys(("lr", "train_loss", "val_loss", "val_top1"), or_none(is_number)),
}
LINE: dict[str, Check] = {
    "cell": is_text,
    "done": is_count,
    "failed": is_counts,
    "params_by_part": or_none(is_counts),
    **dict.fromkeys(("accuracy", "sd", "seconds", "params", "flops", "images_per_second", "rank"), or_none(is_number)),
    **dict.fromkeys(("interval", "published"), or_none(is_pair)),
    "verdict": or_none(is_text),
}
ROW: dict[str, Check] = {
    **dict.fromkeys(("cell", "status", "run"), is_text),
    "seed": is_count,
    "train_seconds": or_none(is_number),
    "test_top1": or_none(is_number),
    "val_top1": or_none(is_number),
}


def check_run(path: Path, result: Any, environment: Any, history: Sequence[Any]) -> None:
    """RunError if a run's files hold something else than numbers where there must be numbers."""
    again = "restore it from a copy, or train again"
    check_table(path / "result.json", "", result, RESULT, again)
    check_table(path / "environment.json", "", environment, ENVIRONMENT, again)
    for number, row in enumerate(history, start=1):
        check_table(path / "history.jsonl", f"row {number}: ", row, EPOCH, again)
    if result["params"] == 0:
        raise RunError(f"{path / 'result.json'} is damaged: it names no parameters; {again}")


def check_table(path: Path, place: str, table: Any, checks: Mapping[str, Check], advice: str) -> None:
    """RunError if ``table``, from this ``place`` of a file, is none, or if a value in it fails its check. What is
    absent counts as null."""
    if not isinstance(table, dict):
        raise RunError(f"{path} is damaged: {place}it is not a table of names and values; {advice}")
    for name, check in checks.items():
        if not check(table.get(name)):
            raise RunError(f"{path} is damaged: {place}{name!r} is {shown(table.get(name))}; {advice}")


def shown(value: Any) -> str:
    """A value that should be another, in few letters."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
