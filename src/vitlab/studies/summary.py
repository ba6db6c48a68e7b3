"""From the rows of a study to what may be said: one line a cell, with spread, rank and verdict. Numbers only.

Accuracies are in percent. Of several seeds: mean, standard deviation, and the interval in which the true mean lies with
95 % (Student's t). Of one seed: the interval of its accuracy on so many test images (Wilson).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vitlab.studies.grid import Cell
from vitlab.training.evaluate import wilson_interval

Row = dict[str, Any]

TELLING = 1.0  # points: a wider interval cannot call anything reproduced
Z95 = 1.96


@dataclass(frozen=True)
class Line:
    """A cell of the table. Accuracy is on test images, or on validation images where there are no others."""

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
    rank: int | None = None
    distinguishable: bool | None = None  # from the best
    on_front: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def summarize(cells: Sequence[Cell], rows: Sequence[Row], split: str = "test") -> list[Line]:
    """One line a cell, in their order, ranked by mean accuracy on the test images, or on "val"."""
    own = {cell.name: [row for row in rows if row["cell"] == cell.name] for cell in cells}
    return ranked([line_of(cell, own[cell.name], split) for cell in cells])


def line_of(cell: Cell, rows: list[Row], split: str) -> Line:
    """The line of one cell."""
    done = [row for row in rows if row["status"] == "done"]
    bad = [row["status"] for row in rows if row["status"] != "done"]
    scores = [100 * score for row in done if (score := accuracy_of(row, split)) is not None]
    first: Row = done[0] if done else {}
    images = first.get("test_images" if split == "test" and first.get("test_images") else "val_images") or 0
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    return Line(
        cell=cell.name,
        varied=cell.varied,
        params=first.get("params"),
        params_by_part=first.get("params_by_part"),
        flops=first.get("flops_per_image"),
        done=len(done),
        failed={status: bad.count(status) for status in sorted(set(bad))},
        accuracy=statistics.mean(scores) if scores else None,
        sd=spread,
        interval=mean_interval(scores, images) if scores else None,
        seconds=middle(done, "train_seconds"),
        images_per_second=middle(done, "images_per_second"),
        published=cell.published,
        verdict=verdict(scores, images, cell.published[0]) if scores and cell.published else None,
    )


def accuracy_of(row: Row, split: str = "test") -> float | None:
    """Test top-1; where there is no test split, or for the split "val", validation top-1."""
    score: float | None = row["val_top1"] if row["test_top1"] is None or split == "val" else row["test_top1"]
    return score


def middle(rows: list[Row], name: str) -> float | None:
    """The median of a column."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.median(values) if values else None


def student(degrees: int) -> float:
    """The t below which 97.5 % of Student's distribution lie."""
    from scipy import stats

    return float(stats.t.ppf(0.975, degrees))


def binomial_sd(score: float, images: int) -> float:
    """Standard deviation of an accuracy in percent on so many images, of chance alone."""
    share = min(max(score / 100, 1 / (images + 2)), 1 - 1 / (images + 2))
    return 100 * math.sqrt(share * (1 - share) / images)


def mean_interval(scores: list[float], images: int) -> tuple[float, float] | None:
    """95 % interval of the mean; None for one run of unknown size."""
    mean, count = statistics.mean(scores), len(scores)
    if count > 1:
        half = student(count - 1) * statistics.stdev(scores) / math.sqrt(count)
        return (max(0.0, mean - half), min(100.0, mean + half))
    if not images:
        return None
    low, high = wilson_interval(mean / 100, images)
    return (100 * low, 100 * high)


def verdict(scores: list[float], images: int, published: float) -> str | None:
    """How one published run compares: is it one more of ours?

    "better" or "worse" (ours) if it lies outside the 95 % interval for a further run, which is never narrower than the
    chance of so many test images; inside it "reproduced", unless that interval is so wide that nothing can be told.
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
    """The lines with their ranks, whether each can be told from the best, and whether none is better and faster."""
    order = sorted((line for line in lines if line.accuracy is not None), key=lambda line: -(line.accuracy or 0.0))
    ranks = {line.cell: number for number, line in enumerate(order, start=1)}
    front = pareto([(line.cell, line.seconds, line.accuracy) for line in lines])
    best = order[0].interval if order else None
    made = []
    for line in lines:
        apart = None
        if line.interval is not None and best is not None:
            apart = line.interval[1] < best[0]
        place = {"rank": ranks.get(line.cell), "distinguishable": apart, "on_front": line.cell in front}
        made.append(Line(**(vars(line) | place)))
    return made


def pareto(points: list[tuple[str, float | None, float | None]]) -> set[str]:
    """The names of the points (name, seconds, accuracy) that no other one beats in both."""
    known = [(name, s, a) for name, s, a in points if s is not None and a is not None]
    return {
        name
        for name, seconds, score in known
        if not any((s <= seconds and a >= score) and (s < seconds or a > score) for _, s, a in known)
    }


def circumstances(rows: Sequence[Row]) -> dict[str, Any]:
    """Under which the rows were made; lists where they differ."""
    names = ("device", "threads", "precision", "beside", "epochs", "train_images")
    found = {name: sorted({row.get(name) for row in rows if row.get(name) is not None}, key=str) for name in names}
    return {name: values[0] if len(values) == 1 else values for name, values in found.items() if values}
