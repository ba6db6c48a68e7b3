"""From the rows of a study to its results: one line for each cell, with spread, rank and verdict. Numbers only.

Only accuracies on the same images are ranked against each other: those on the test images of one data set, or on the
same validation images where there are no test images.

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

from vitlab.errors import RunError
from vitlab.runs.folder import RunFolder
from vitlab.runs.result import METRICS
from vitlab.studies.driver import AGAIN, Row
from vitlab.studies.grid import Cell
from vitlab.studies.images import OWN, digest_in, short_name, validation_cut
from vitlab.training.evaluate import wilson_interval

TELLING = 1.0  # points: a wider interval cannot call anything reproduced
Z95 = 1.96
USUAL = ("top1", "top5", "loss")  # metrics that the table of a study shows in its own columns, or not at all
FURTHER = tuple(name for name in METRICS if name not in USUAL)


@dataclass(frozen=True)
class Line:
    """A cell of the table. Accuracy is on the images of ``split``: test images, or validation images in a search and
    where there are no test images. Published values are about test images."""

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
    distinguishable: bool | None = None  # from the best, by a paired test; None where the seeds are too few to tell
    on_front: bool = False
    data: str | None = None  # the data set; of a user's own only the last part of its path
    data_sha256: str | None = None
    split: str | None = None  # "test" or "validation"; None if no run on this data is done
    not_learned: int = 0  # runs that are no better than guessing, or whose loss blew up
    validation: str | None = None  # which images these are, if the split is "validation"
    scores: dict[int, float] = field(default_factory=dict)  # accuracies in percent, by seed

    @property
    def images(self) -> str:
        """The images that the accuracy is on: test images of pets."""
        cut = f" ({self.validation})" if self.validation not in (None, OWN) else ""
        return f"{self.split} images of {self.data}{cut}"

    @property
    def group(self) -> tuple[Any, ...]:
        """Equal for lines that may be ranked against each other."""
        return self.data_sha256 or self.data, self.split, self.validation

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without those that the rows hold."""
        return {name: value for name, value in asdict(self).items() if name != "scores"}


def summarize(cells: Sequence[Cell], rows: Sequence[Row], split: str = "test") -> list[Line]:
    """One line for each cell, in their order, ranked within each of `groups`. ``split`` "validation": use validation
    images even where there are test images. RunError if one data set is two, since it has changed."""
    data = {cell.name: cell.config.data.data for cell in cells}
    done = [row for row in finished(rows) if row["cell"] in data]
    splits = {name: split_of([row for row in done if data[row["cell"]] == name], split) for name in data.values()}
    digests = {name: one_digest(name, [row for row in rows if data.get(row["cell"]) == name]) for name in splits}
    labels = data_labels(digests)
    lines = []
    for cell in cells:
        own, name = [row for row in rows if row["cell"] == cell.name], data[cell.name]
        cut = validation_of(cell, own) if splits[name] == "validation" else None
        line = line_of(cell, own, splits[name])
        lines.append(replace(line, data=labels[name], data_sha256=digests[name], validation=cut))
    return ranked(lines)


def split_of(rows: Sequence[Row], wanted: str = "test") -> str | None:
    """The split that finished runs on one data set are compared by; None without an accuracy."""
    if wanted == "test" and any(row.get("test_top1") is not None for row in rows):
        return "test"
    return "validation" if any(row.get("val_top1") is not None for row in rows) else None


def one_digest(data: str, rows: Sequence[Row]) -> str | None:
    """The digest of the images that the rows are about, None if no row has one; RunError if there are several."""
    digests = {row["data_sha256"] for row in rows if row.get("data_sha256")}
    if len(digests) > 1:
        raise RunError(f"{short_name(data)} has changed between the runs of this study; {AGAIN}")
    return next(iter(digests), None)


def data_labels(digests: dict[str, str | None]) -> dict[str, str]:
    """A short name for each data set: of a user's own the last part of its path, and more if two are alike."""
    short = {data: short_name(data) for data in digests}
    alike = {data: {digests[other] or other for other in short if short[other] == name} for data, name in short.items()}
    return {
        data: name if len(alike[data]) == 1 else f"{name}, sha256 {str(digests[data])[:8]}" if digests[data] else data
        for data, name in short.items()
    }


def validation_of(cell: Cell, rows: Sequence[Row]) -> str | None:
    """Which images the runs of a cell validate on; rows of earlier versions do not say."""
    return next((row["validation"] for row in rows if row.get("validation")), validation_cut(cell.config))


def groups(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines by the images that their accuracy is on. Each group is a table, with its own ranks."""
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        found.setdefault(line.group, []).append(line)
    return list(found.values())


def with_digests(rows: Sequence[Row], runs: Path) -> list[Row]:
    """The rows with the digests of their images, which rows of earlier versions lack, from the run folders if these
    are in ``runs``."""
    return [row | {"data_sha256": row.get("data_sha256") or digest_in(runs / row["run"])} for row in rows]


def line_of(cell: Cell, rows: Sequence[Row], split: str | None) -> Line:
    """The line of one cell."""
    done = finished(rows)
    failed = Counter(row["status"] for row in rows if row["status"] != "done")
    by_seed = {row["seed"]: 100 * score for row in done if (score := accuracy_of(row, split)) is not None}
    scores = list(by_seed.values())
    first: Row = done[0] if done else {}
    images = first.get("test_images" if split == "test" else "val_images") or 0
    published = cell.published if split in ("test", None) else None
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
        published=published,
        verdict=verdict(scores, images, published[0]) if scores and published else None,
        metrics={name: mean(done, f"test_{name}") if split == "test" else None for name in FURTHER},
        split=split,
        not_learned=sum(row.get("learned") is False for row in done),
        scores=by_seed,
    )


def finished(rows: Sequence[Row]) -> list[Row]:
    """The rows of runs that are done."""
    return [row for row in rows if row["status"] == "done"]


def accuracy_of(row: Row, split: str | None) -> float | None:
    """Top-1 accuracy on the images of a split as a fraction."""
    return row.get({"test": "test_top1", "validation": "val_top1"}[split]) if split else None


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
    """How one published run compares with ours: could it be one more of them? None for a single run of ours, whose
    accuracy with another seed is unknown.

    Ours are "better" or "worse" if it lies outside of the 95 % interval for a further run, which is never narrower than
    the sampling of that many test images allows. Inside, it is "reproduced", or "not distinguishable" if that interval
    is too wide to tell anything.
    """
    mean, count = statistics.mean(scores), len(scores)
    if count == 1:
        return None
    chance = Z95 * binomial_sd(mean, images) if images else 0.0
    half = max(student(count - 1) * statistics.stdev(scores), chance) * math.sqrt(1 + 1 / count)
    if abs(mean - published) > half:
        return "better" if mean > published else "worse"
    return "reproduced" if half <= TELLING else "not distinguishable"


def ranked(lines: list[Line]) -> list[Line]:
    """The lines with their rank, whether each differs from the best by more than chance, and the Pareto front; each
    among the lines of its group."""
    made = {line.cell: line for group in groups(lines) for line in ranked_group(group)}
    return [made[line.cell] for line in lines]


def ranked_group(lines: list[Line]) -> list[Line]:
    """The same for the lines of one group."""
    order = sorted((line for line in lines if line.accuracy is not None), key=lambda line: -(line.accuracy or 0.0))
    ranks = {line.cell: number for number, line in enumerate(order, start=1)}
    front = pareto([(line.cell, line.seconds, line.accuracy) for line in lines])
    best = order[0].scores if order else {}
    return [
        replace(
            line, rank=ranks.get(line.cell), distinguishable=differs(best, line.scores), on_front=line.cell in front
        )
        for line in lines
    ]


def differs(best: dict[int, float], other: dict[int, float]) -> bool | None:
    """Whether the accuracies of two cells differ at the 5 % level, by seed: a paired t-test over the seeds that both
    have, else Welch's t-test; None where either has fewer than two. Overlapping intervals would not tell: intervals of
    two means can overlap although the means differ (Schenker and Gentleman 2001)."""
    common = sorted(best.keys() & other.keys())
    if len(common) > 1:
        gains = [best[seed] - other[seed] for seed in common]
        return abs(statistics.mean(gains)) > half_interval(gains)
    if min(len(best), len(other)) < 2:
        return None
    from scipy import stats

    return bool(stats.ttest_ind(list(best.values()), list(other.values()), equal_var=False).pvalue < 0.05)


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
