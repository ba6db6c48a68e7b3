"""From the rows of a study to its results: one line for each cell, with spread, rank and verdict. Numbers only.

Accuracies are in percent. Of several seeds: mean, standard deviation, and the 95 % confidence interval of the mean
(Student's t). Of one seed: the interval of its accuracy on that many test images (Wilson).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vitlab.runs.folder import RunFolder
from vitlab.runs.result import METRICS
from vitlab.studies.driver import Row
from vitlab.studies.grid import Cell
from vitlab.training.evaluate import wilson_interval

TELLING = 1.0  # points: a wider interval cannot call anything reproduced
Z95 = 1.96
USUAL = ("top1", "top5", "loss")  # metrics that the table of a study shows in its own columns, or not at all


@dataclass(frozen=True)
class Line:
    """A cell of the table. Accuracy is on test images, or on validation images where there are no test images."""

    cell: str
    varied: dict[str, Any]
    params: int | None
    params_by_part: dict[str, int] | None
    flops: int | None
    done: int
    failed: dict[str, int]
    accuracy: float | None
    sd: float | None
    interval: tuple[float, float] | None
    seconds: float | None
    images_per_second: float | None
    published: tuple[float, float] | None
    verdict: str | None
    metrics: dict[str, float | None] = field(default_factory=dict)  # further ones of test images, means over seeds
    rank: int | None = None
    distinguishable: bool | None = None  # from the best
    on_front: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def summarize(cells: Sequence[Cell], rows: Sequence[Row], split: str = "test") -> list[Line]:
    """One line for each cell, in their order, ranked by mean accuracy on the split "test" or "val"."""
    return ranked([line_of(cell, [row for row in rows if row["cell"] == cell.name], split) for cell in cells])


def line_of(cell: Cell, rows: Sequence[Row], split: str) -> Line:
    """The line of one cell."""
    done = finished(rows)
    failed = Counter(row["status"] for row in rows if row["status"] != "done")
    scores = [100 * score for row in done if (score := accuracy_of(row, split)) is not None]
    first: Row = done[0] if done else {}
    images = first.get("test_images" if split == "test" and first.get("test_images") else "val_images") or 0
    return Line(
        cell=cell.name,
        varied=cell.varied,
        params=first.get("params"),
        params_by_part=first.get("params_by_part"),
        flops=first.get("flops_per_image"),
        done=len(done),
        failed=dict(sorted(failed.items())),
        accuracy=statistics.mean(scores) if scores else None,
        sd=statistics.stdev(scores) if len(scores) > 1 else None,
        interval=mean_interval(scores, images) if scores else None,
        seconds=median(done, "train_seconds"),
        images_per_second=median(done, "images_per_second"),
        published=cell.published,
        verdict=verdict(scores, images, cell.published[0]) if scores and cell.published else None,
        metrics={name: mean(done, f"test_{name}") for name in METRICS if name not in USUAL},
    )


def finished(rows: Sequence[Row]) -> list[Row]:
    """The rows of runs that are done."""
    return [row for row in rows if row["status"] == "done"]


def accuracy_of(row: Row, split: str = "test") -> float | None:
    """Test top-1 as a fraction; validation top-1 for the split "val" and where there are no test images."""
    score: float | None = row["val_top1"] if row["test_top1"] is None or split == "val" else row["test_top1"]
    return score


def mean(rows: Sequence[Row], name: str) -> float | None:
    """The mean of a column; None unless each row has it, which rows of earlier versions may not."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.mean(values) if values and len(values) == len(rows) else None


def median(rows: Sequence[Row], name: str) -> float | None:
    """The median of a column, None if it is empty."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.median(values) if values else None


def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution."""
    from scipy import stats

    return float(stats.t.ppf(0.975, degrees))


def half_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of the mean of two or more values."""
    return student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def binomial_sd(score: float, images: int) -> float:
    """Standard deviation of an accuracy in percent that comes from the sampling of that many images alone."""
    share = min(max(score / 100, 1 / (images + 2)), 1 - 1 / (images + 2))
    return 100 * math.sqrt(share * (1 - share) / images)


def mean_interval(scores: list[float], images: int) -> tuple[float, float] | None:
    """95 % interval of the mean; None for one run on an unknown number of images."""
    mean = statistics.mean(scores)
    if len(scores) > 1:
        half = half_interval(scores)
        return (max(0.0, mean - half), min(100.0, mean + half))
    if not images:
        return None
    low, high = wilson_interval(mean / 100, images)
    return (100 * low, 100 * high)


def verdict(scores: list[float], images: int, published: float) -> str | None:
    """How one published run compares with ours: could it be one more of them?

    Ours are "better" or "worse" if it lies outside of the 95 % interval for a further run, which is never narrower than
    the sampling of that many test images allows. Inside, it is "reproduced", or "not distinguishable" if that interval
    is too wide to tell anything.
    """
    mean, count = statistics.mean(scores), len(scores)
    if count > 1:
        chance = Z95 * binomial_sd(mean, images) if images else 0.0
        half = max(student(count - 1) * statistics.stdev(scores), chance) * math.sqrt(1 + 1 / count)
    elif images:
        half = Z95 * math.sqrt(2) * binomial_sd(mean, images)
    else:
        return None
    if abs(mean - published) > half:
        return "better" if mean > published else "worse"
    return "reproduced" if half <= TELLING else "not distinguishable"


def ranked(lines: list[Line]) -> list[Line]:
    """The lines with their rank, whether each differs from the best beyond its interval, and the Pareto front."""
    order = sorted((line for line in lines if line.accuracy is not None), key=lambda line: -(line.accuracy or 0.0))
    ranks = {line.cell: number for number, line in enumerate(order, start=1)}
    front = pareto([(line.cell, line.seconds, line.accuracy) for line in lines])
    best = order[0].interval if order else None

    def differs(line: Line) -> bool | None:
        return None if line.interval is None or best is None else line.interval[1] < best[0]

    return [
        replace(line, rank=ranks.get(line.cell), distinguishable=differs(line), on_front=line.cell in front)
        for line in lines
    ]


def pareto(points: list[tuple[str, float | None, float | None]]) -> set[str]:
    """The names of the points (name, seconds, accuracy) that no other one beats in both."""
    known = [(name, s, a) for name, s, a in points if s is not None and a is not None]
    return {
        name
        for name, seconds, score in known
        if not any((s <= seconds and a >= score) and (s < seconds or a > score) for _, s, a in known)
    }


def circumstances(rows: Sequence[Row], runs: Path) -> dict[str, Any]:
    """How the finished rows were made, from them and from their run folders in ``runs``; lists where they differ."""
    done = finished(rows)
    found: dict[str, set[Any]] = {
        name: {row[name] for row in done if row.get(name) is not None}
        for name in ("device", "threads", "precision", "beside", "epochs", "train_images")
    }
    folders = [RunFolder(runs / row["run"]) for row in done]
    environments = [folder.environment() for folder in folders if (folder.path / "config.json").exists()]
    for name in ("device_name", "torch", "vitlab", "git_commit"):
        found[name] = {str(environment[name]) for environment in environments}
    found["date"] = {str(environment["started_utc"])[:10] for environment in environments}
    ordered = {name: sorted(values, key=str) for name, values in found.items() if values}
    return {name: values[0] if len(values) == 1 else values for name, values in ordered.items()}
