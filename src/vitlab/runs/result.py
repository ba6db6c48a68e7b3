"""What result.json holds, each entry once: its type, its unit and one sentence.

A metric is added here, with the function that computes it (training/evaluate.py). It then appears in result.json, in
`vitlab evaluate --json`, in the tables of studies, in the report, in the model card, on the page and in Python. A
number of each class (`by_class`) appears in result.json, in `vitlab evaluate`, in the model card and in Python.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from vitlab.advice import spoken
from vitlab.data import Split
from vitlab.data.batches import to_device
from vitlab.text import between, counted, few, percent
from vitlab.training.evaluate import (
    balanced_accuracy,
    calibration_error,
    confusion,
    guess_loss,
    guess_top1,
    images_by_class,
    macro_f1,
    mean_loss,
    precision,
    predict_logits,
    recall,
    top_k,
    wilson_interval,
)

if TYPE_CHECKING:
    from vitlab.runs.prepare import Prepared  # which imports folder.py, which imports this file

BLOWN_UP = 10.0  # times the loss of guessing: no over-confident network that works comes near

MOST_CLASSES = 1_000  # of which numbers for each class are stored
MEASURED = 1_000  # training images on which a network is measured where no others tell whether it learned
MISLEADING = 0.1  # accuracy less balanced accuracy from which on accuracy hides something

Compute = Callable[[Tensor, Tensor], float]
ComputeByClass = Callable[[Tensor], Tensor]


def fact(help: str) -> Any:
    """An entry of result.json that is no metric."""
    return field(default=None, metadata={"help": help})


def metric(compute: Compute, label: str, help: str, unit: str = "%") -> Any:
    """A number about the test images, computed from (logits [N, K], labels [N]). ``unit`` "%" is stored as a fraction,
    "nats" as it is."""
    return field(default=None, metadata={"help": help, "compute": compute, "label": label, "unit": unit})


def by_class(compute: ComputeByClass, label: str, help: str) -> Any:
    """A number for each class by its name, about the test images, computed from their `confusion` [K, K]; None for a
    class for which it is not defined. ``label`` heads its column in a table of the classes."""
    return field(default=None, metadata={"help": help, "compute_by_class": compute, "label": label})


@dataclass(frozen=True, repr=False)
class Result(Mapping[str, Any]):
    """How a run ended, as attributes and as a mapping by name; None for what is not known (yet). Accuracies are from 0
    to 1, losses in nats, times in seconds. docs/reference/run-folder.md explains every entry.

    >>> result = vitlab.train("fast", data="digits", epochs=1, progress=False).result
    >>> result["test_top1"] == result.test_top1
    True
    >>> result["test_images"], result["status"], len(result["test_top1_interval"])
    (360, 'done', 2)
    """

    status: str = field(metadata={"help": "done, diverged, interrupted, failed, failed:storage or failed:memory."})
    preset: str | None = fact("The preset that it started from.")
    data: str | None = fact("The data set.")
    seed: int | None = fact("The number that all randomness comes from.")
    test_top1: float | None = metric(
        partial(top_k, k=1), "top-1 accuracy", "Share of test images whose class comes first."
    )
    test_top5: float | None = metric(
        partial(top_k, k=5), "top-5 accuracy", "Share of test images whose class is among the first five."
    )
    test_loss: float | None = metric(mean_loss, "loss (cross-entropy)", "Mean cross-entropy on test images.", "nats")
    test_balanced_accuracy: float | None = metric(
        balanced_accuracy, "balanced accuracy", "Mean over the classes of the share of their test images recognised."
    )
    test_macro_f1: float | None = metric(macro_f1, "macro F1", "Mean F1 score of the classes on test images.")
    test_calibration_error: float | None = metric(
        calibration_error, "calibration error", "Expected calibration error (Guo et al. 2017), 15 bins, test images."
    )
    test_class_images: dict[str, int] | None = by_class(
        images_by_class, "images", "Number of test images of each class; of more than 1,000 classes not stored."
    )
    test_recall: dict[str, float | None] | None = by_class(
        recall, "recall", "Share of the test images of each class that were recognised; None for a class without any."
    )
    test_precision: dict[str, float | None] | None = by_class(
        precision, "precision", "Share of right answers among those that name the class; None for one never named."
    )
    test_top1_interval: tuple[float, float] | None = fact("95 % interval of test_top1 (Wilson 1927).")
    test_images: int | None = fact("Number of test images.")
    test_guess_top1: float | None = fact(
        "Share of test images in their most common class, which always guessing it gets."
    )
    test_guess_loss: float | None = fact(
        "Mean cross-entropy in nats of always answering with the test classes' shares."
    )
    val_top1: float | None = fact("Share of validation images whose class comes first, with the selected weights.")
    val_guess_top1: float | None = fact("Share of validation images in their most common class.")
    train_top1: float | None = fact(
        "Share of training images, as they are, whose class comes first; only where no other images tell whether it "
        "learned, and no classes or images are weighted."
    )
    train_loss: float | None = fact("Mean cross-entropy on the same images, in nats.")
    train_guess_top1: float | None = fact("Share of these images in their most common class.")
    train_guess_loss: float | None = fact("Mean cross-entropy in nats of always answering with their classes' shares.")
    train_measured: int | None = fact("Number of these images: 1,000 or fewer.")
    start_top1: float | None = fact(
        "The same as test_top1 (val_top1 without test images), with the weights of init_from, before any training."
    )
    rehearsal_top1: float | None = fact("Share of the rehearsed data set's test images whose class comes first.")
    rehearsal_start_top1: float | None = fact("The same, with the weights of init_from, before any training.")
    rehearsal_images: int | None = fact("Number of the rehearsed data set's test images.")
    best_epoch: int | None = fact(
        "The epoch with the best value on validation images, from 1: accuracy, unless `monitor` names another."
    )
    selected_epoch: int | None = fact("The epoch whose weights were kept, from 1.")
    epochs: float | None = fact("Passes over the training images, as planned.")
    train_seconds: float | None = fact("Seconds of training steps.")
    wall_seconds: float | None = fact("Seconds of training steps, evaluation and saving.")
    images_per_second: float | None = fact("Training images per second of training steps.")
    params: int | None = fact("Number of trainable parameters.")
    params_by_part: dict[str, int] | None = fact("Number of trainable parameters of each part of the network.")
    flops_per_image: int | None = fact("Floating-point operations of one forward pass on one image.")
    train_images: int | None = fact("Number of training images.")
    val_images: int | None = fact("Number of validation images.")
    device: str | None = fact("cpu or cuda.")
    threads: int | None = fact("CPU threads of each rank.")
    ranks: int | None = fact("Processes that trained together.")
    precision: str | None = fact("Number format of matrix products: fp32 or bf16.")
    config_digest: str | None = fact("Digest of the knobs in config.json that affect the result.")
    data_sha256: str | None = fact("SHA-256 of the images and labels.")
    model_sha256: str | None = fact("SHA-256 of model.safetensors.")
    novelty_sha256: str | None = fact("SHA-256 of novelty.safetensors.")
    epochs_done: int | None = fact("Number of completed epochs.")
    stopped_epoch: int | None = fact(
        "The epoch after which early stopping (`patience`) ended the training before its time, from 1; None otherwise."
    )
    steps: int | None = fact("Number of completed training steps.")
    signal: int | None = fact("The signal that interrupted the run.")
    error: str | None = fact("Why the run failed.")
    format: int | None = fact("Version of the run folder's format.")
    files: dict[str, str] | None = fact("SHA-256 of every other file of the run.")
    sha256: str | None = fact("SHA-256 of all entries above, as JSON with sorted names and without spaces.")

    def __repr__(self) -> str:
        scores = {"test top-1": self.test_top1, "validation top-1": self.val_top1}
        known = [f"{name} {100 * score:.2f} %" for name, score in scores.items() if score is not None]
        return f"<Result: {', '.join([self.status, *known])}>"

    def __getitem__(self, name: str) -> Any:
        """An entry by its name in result.json; KeyError for an unknown one."""
        if name not in KINDS:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        """The names, as in result.json."""
        return iter(KINDS)

    def __len__(self) -> int:
        """The number of entries, known or not."""
        return len(KINDS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, as in result.json."""
        return asdict(self)

    def accuracies(self) -> Iterator[tuple[str, int, float, float]]:
        """On test, validation and training images, if there are enough to tell whether it learned: their name and
        number, the accuracy, and that of always guessing the most common class."""
        for split, images, top1, guess in (
            ("test", self.test_images, self.test_top1, self.test_guess_top1),
            ("validation", self.val_images, self.val_top1, self.val_guess_top1),
            ("training", self.train_measured, self.train_top1, self.train_guess_top1),
        ):
            if images and top1 is not None and guess is not None and wilson_interval(1.0, images)[0] > guess:
                yield split, images, top1, guess

    def why_not_learned(self) -> str | None:
        """Why this finished run did not learn, as one sentence without a full stop; None if it did, if it is not done,
        if there are too few images to tell, or if an earlier version made it.

        It did not learn if the 95 % interval of its accuracy reaches down to what always guessing the most common class
        would get; or if its loss is above BLOWN_UP times that of answering with the classes' shares. The accuracy is
        that on test images or, if these are too few to tell, on validation images, or else on training images.
        """
        if self.status != "done":
            return None
        split, images, top1, guess = next(self.accuracies(), ("training", 0, 0.0, 0.0))
        low, high = wilson_interval(top1, images) if images else (1.0, 1.0)
        if low <= guess:
            return (
                f"it did not learn: {percent(top1)} of the {split} images (95 % interval {between((low, high))}) is no "
                f"better than always guessing the most common class ({percent(guess)}); "
                f"try another lr, or more epochs"
            )
        loss, guess_loss = self.train_loss, self.train_guess_loss
        if split == "test":
            loss, guess_loss = self.test_loss, self.test_guess_loss
        if guess_loss is None:
            return None
        if loss is None:
            return "it did not learn properly: its loss is not a finite number; try a lower lr"
        if loss > BLOWN_UP * max(guess_loss, math.log(2)):
            return (
                f"it did not learn properly: its loss blew up to {loss:,.1f}, where guessing gives "
                f"{guess_loss:.2f}; try a lower lr"
            )
        return None

    def what_accuracy_hides(self) -> str | None:
        """What the accuracy of this finished run on test images hides about single classes, as one sentence without a
        full stop; None if it hides nothing, or if `why_not_learned` says more, or if an earlier version made the run.

        It hides something if the balanced accuracy is lower by MISLEADING or more, or if no answer names a class that
        has test images.
        """
        top1, balanced, recalls = self.test_top1, self.test_balanced_accuracy, self.test_recall
        if self.status != "done" or top1 is None or balanced is None or not recalls or self.why_not_learned():
            return None
        images, precisions = self.test_class_images or {}, self.test_precision or {}
        unnamed = [name for name, count in images.items() if count and precisions.get(name) is None]
        said = []
        if top1 - balanced >= MISLEADING:
            worst, lowest = min(
                ((name, one) for name, one in recalls.items() if one is not None), key=lambda pair: pair[1]
            )
            said.append(
                f"accuracy hides unequal classes: {percent(top1)} of the test images are right, but "
                f"{percent(balanced)} on average over the classes (balanced accuracy)"
            )
            if not unnamed:
                said.append(f"the worst is {worst!r} with {percent(lowest)} of {counted(images[worst], 'image')}")
        if unnamed:
            few_names = few([f"{name!r} ({counted(images[name], 'test image')})" for name in unnamed])
            said.append(f"it never answers {few_names}")
        advice = spoken("try --class-weight balanced, --sampling balanced, or more epochs")
        return f"{'; '.join(said)}; {advice}" if said else None

    def note(self) -> str | None:
        """What to know before the accuracy of this finished run is believed: `why_not_learned`, or
        `what_accuracy_hides`."""
        return self.why_not_learned() or self.what_accuracy_hides()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """The inverse of `to_dict`, for checked values; entries of later versions are left out."""
        known = {name: value for name, value in values.items() if name in KINDS}
        interval = known.get("test_top1_interval")
        return cls(**known | {"test_top1_interval": interval and tuple(interval)})


# The type of each entry, by name.
KINDS: dict[str, Any] = typing.get_type_hints(Result)
# The metrics by their names without test_.
METRICS: dict[str, Field[Any]] = {
    entry.name.removeprefix("test_"): entry for entry in fields(Result) if "compute" in entry.metadata
}

# The numbers of each class by their names without test_.
BY_CLASS: dict[str, Field[Any]] = {
    entry.name.removeprefix("test_"): entry for entry in fields(Result) if "compute_by_class" in entry.metadata
}


def compute_by_class(logits_NK: Tensor, labels_N: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Every number of each class by its name without test_, as a dict by class; None of too many classes."""
    if len(classes) > MOST_CLASSES:
        return dict.fromkeys(BY_CLASS)
    counts_KK = confusion(logits_NK, labels_N)
    made = {name: entry.metadata["compute_by_class"](counts_KK).tolist() for name, entry in BY_CLASS.items()}
    return {
        name: {one: None if math.isnan(value) else value for one, value in zip(classes, values, strict=True)}
        for name, values in made.items()
    }


def class_rows(values: Mapping[str, Any], prefix: str = "test_", most: int = 20) -> list[dict[str, str]]:
    """A row for each class with test images, or those of the ``most`` with the lowest recall, by column, for people;
    empty if ``values`` have no numbers of classes."""
    images, recalls = values.get(f"{prefix}class_images") or {}, values.get(f"{prefix}recall") or {}
    names = [name for name, count in images.items() if count]
    if len(names) > most:
        names = sorted(names, key=lambda name: recalls.get(name) or 0.0)[:most]
    rows = []
    for name in names:
        found = {entry.metadata["label"]: values[prefix + key].get(name) for key, entry in BY_CLASS.items()}
        shown = {
            label: "never named" if one is None else percent(one) if isinstance(one, float) else f"{one:,}"
            for label, one in found.items()
        }
        rows.append({"class": name} | shown)
    return rows


def compute_metrics(logits_NK: Tensor, labels_N: Tensor) -> dict[str, float | None]:
    """Every metric by its name without test_; None for one that is not finite."""
    values = {name: entry.metadata["compute"](logits_NK, labels_N) for name, entry in METRICS.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def shown_metrics(values: Mapping[str, Any], prefix: str = "test_") -> Iterator[tuple[str, str]]:
    """(label, number with its unit) of each metric in ``values``, for people; without top1, which is shown with its
    interval."""
    for name, entry in METRICS.items():
        value, unit = values.get(prefix + name), entry.metadata["unit"]
        if value is not None and name != "top1" and (name != "top5" or shows_top5(values, prefix)):
            yield entry.metadata["label"], f"{100 * value:.2f} %" if unit == "%" else f"{value:.4f} {unit}"


def shows_top5(values: Mapping[str, Any], prefix: str = "test_") -> bool:
    """Whether top-5 accuracy says anything: of five classes or fewer the right one is always among the first five."""
    classes = values.get(f"{prefix}class_images")
    return classes is None or len(classes) > 5


def measure(prepared: Prepared, split: Split, shifts: int = 0, flips: bool = False) -> dict[str, Any]:
    """Every metric of a network as it is, the 95 % interval of top1, what guessing would get, and the number of images.

    ``shifts``: average the prediction over each image and its four copies moved by that many pixels; ``flips``: and
    over their mirror images.
    """
    task = prepared.task
    images = to_device(split, task.machine.device)
    batch_size = prepared.config.train.eval_batch_size
    logits = predict_logits(prepared.model, images, task.preprocess, task.machine, batch_size, shifts, flips)
    return scores(logits, images.labels, prepared.dataset.card.classes)


def measure_training(prepared: Prepared) -> dict[str, Any]:
    """How good a network as it is is on up to MEASURED of its training images, evenly spread, by names in `Result`.
    Weights may rightly lead to an accuracy below that of guessing, so with them it is left out."""
    train, config = prepared.dataset.train, prepared.config
    places = np.unique(np.linspace(0, len(train) - 1, MEASURED).round().astype(np.int64))
    numbers = measure(prepared, train.take(places))
    is_weighted = prepared.task.train.weights is not None or config.train.sampling != "all"
    wanted = ("loss", "guess_loss") if is_weighted else ("top1", "loss", "guess_top1", "guess_loss")
    return {f"train_{name}": numbers[name] for name in wanted} | {"train_measured": len(places)}


def scores(logits_NK: Tensor, labels_N: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Every metric, the numbers of each class, the 95 % interval of top1, what guessing would get, and the number of
    images."""
    metrics = compute_metrics(logits_NK, labels_N) | compute_by_class(logits_NK, labels_N, classes)
    interval = wilson_interval(top_k(logits_NK, labels_N, 1), len(labels_N))
    guesses = {"guess_top1": guess_top1(labels_N), "guess_loss": guess_loss(labels_N)}
    return metrics | guesses | {"top1_interval": interval, "images": len(labels_N)}
