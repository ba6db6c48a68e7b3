"""Which training images have a label that looks wrong.

Each image is judged by a network that was trained without it: the training images are divided into k folds with the
same share of each class, and k networks of the run's configuration are trained, each without one fold. An image is
*suspect* if its network finds another class likelier than it usually finds that class for images that bear it
(Northcutt, Jiang, Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", section 3.1). Images are
ordered by margin: the probability of the given label minus that of the likeliest other class, from -1 to 1.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitlab.config import RunConfig
from vitlab.data import Dataset, Reading, load_dataset
from vitlab.data.batches import to_device
from vitlab.data.splits import Split
from vitlab.errors import ConfigError, DivergedError
from vitlab.randomness import numpy_generator
from vitlab.runs.finished import open_run
from vitlab.runs.prepare import memory_errors, place_of, prepare
from vitlab.runs.start import Start, stored_start
from vitlab.text import counted, duration
from vitlab.training.evaluate import predict_logits
from vitlab.training.loop import Hooks, fit

FOLDS = 4


@dataclass(frozen=True)
class Suspect:
    """A training image: its place in the data set (from 0), its file if there is one, the class that it is labelled as,
    the likeliest other class, both with their probabilities, and whether it is suspect (see above)."""

    index: int
    file: str
    label: int
    likely: int
    probability_of_label: float
    probability_of_likely: float
    is_suspect: bool

    @property
    def margin(self) -> float:
        """From -1, surely another class, to 1, surely as labelled."""
        return self.probability_of_label - self.probability_of_likely


def find_suspects(
    run: str | os.PathLike[str],
    folds: int = FOLDS,
    note: Callable[[str], None] = lambda line: None,
    data: str | None = None,
) -> tuple[list[Suspect], Dataset]:
    """All training images of a run, the most suspect first, and its data set; trains ``folds`` networks.

    ``data`` says where the images are now, if they have moved. The run itself is not changed. ConfigError for a class
    with fewer images than folds; DataError if the images have changed.
    """
    opened = open_run(run)
    config = opened.config
    place = place_of(config, data)
    dataset = load_dataset(place, note, side=config.model.image_size, reading=Reading.of(opened.data))
    if opened.data.get("own_classes", opened.data["classes"]) != opened.data["classes"]:
        raise ConfigError(f"{run} rehearses classes that its own images do not show; train a run without --rehearse")
    opened.folder.check_same_data(dataset, data)
    with memory_errors("looking for suspects"):
        start = stored_start(opened.folder, opened.preprocess)
        probabilities_NK = held_out_probabilities(config, dataset, folds, note, start)
    return ranked(probabilities_NK, dataset.train.labels, dataset.files), dataset


def held_out_probabilities(
    config: RunConfig, dataset: Dataset, folds: int, note: Callable[[str], None], start: Start | None = None
) -> npt.NDArray[np.float64]:
    """[N, K] of all training images, each by a network that was trained without it."""
    labels = dataset.train.labels
    fold_of_N = draw_folds(labels, folds, config.train.seed)
    probabilities_NK = np.zeros((len(labels), len(dataset.card.classes)))
    plain = config.with_knobs(val_fraction=0.0, select="last", limit_train=None, rehearse=None)
    seconds = 0.0
    for fold in range(folds):
        left = f", about {duration(seconds / fold * (folds - fold))} left" if fold else ""
        note(f"training network {fold + 1} of {folds} without a part of the images{left}")
        outside, inside = np.flatnonzero(fold_of_N != fold), np.flatnonzero(fold_of_N == fold)
        part = replace(dataset, train=dataset.train.take(outside), val=None, test=None)
        logits, spent = train_and_ask(plain, part, dataset.train.take(inside), start)
        probabilities_NK[inside] = logits.double().softmax(dim=1).numpy()
        seconds += spent
    return probabilities_NK


def draw_folds(labels_N: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each image, [N], with the same share of each class in every fold."""
    fold_of_N = np.empty(len(labels_N), np.int64)
    draws = numpy_generator(seed, "folds")
    for label in np.unique(labels_N):
        of_class = draws.permutation(np.flatnonzero(labels_N == label))
        if len(of_class) < folds:
            raise ConfigError(
                f"class {label} has only {counted(len(of_class), 'training image')}; use at most {len(of_class)} folds"
            )
        fold_of_N[of_class] = np.arange(len(of_class)) % folds
    return fold_of_N


def train_and_ask(
    config: RunConfig, dataset: Dataset, asked: Split, start: Start | None = None
) -> tuple[Tensor, float]:
    """Logits [M, K] of the images ``asked`` by a network trained on ``dataset``, and the seconds of its training.
    DivergedError if its loss became infinite."""
    prepared = prepare(config, lambda line: None, dataset=dataset, start=start)
    outcome = fit(prepared.model, prepared.task, Hooks())
    if outcome.status != "done":
        raise DivergedError("training without a part of the images diverged; try a run with a lower lr")
    prepared.model.load_state_dict(outcome.weights)
    task = prepared.task
    split, batch = to_device(asked, task.machine.device), config.train.eval_batch_size
    logits = predict_logits(prepared.model, split, task.preprocess, task.machine, batch)
    return logits.cpu(), outcome.counters.train_seconds


def ranked(
    probabilities_NK: npt.NDArray[np.float64], labels_N: npt.NDArray[np.int64], files: tuple[str, ...] = ()
) -> list[Suspect]:
    """The images in the order of their margins, lowest first."""
    rows = np.arange(len(labels_N))
    given_N = probabilities_NK[rows, labels_N]
    others_NK = probabilities_NK.copy()
    others_NK[rows, labels_N] = -1.0
    likely_N = others_NK.argmax(axis=1)
    other_N = others_NK[rows, likely_N]
    suspect_N = are_suspect(probabilities_NK, labels_N)
    return [
        Suspect(
            index=int(row),
            file=files[row] if files else "",
            label=int(labels_N[row]),
            likely=int(likely_N[row]),
            probability_of_label=float(given_N[row]),
            probability_of_likely=float(other_N[row]),
            is_suspect=bool(suspect_N[row]),
        )
        for row in np.argsort(given_N - other_N, kind="stable")
    ]


def are_suspect(probabilities_NK: npt.NDArray[np.float64], labels_N: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """[N]: of the classes that reach their threshold, the likeliest is not the given label. The threshold of a class is
    its mean probability over the images that bear it (Northcutt et al. 2021, equation 2)."""
    classes = range(probabilities_NK.shape[1])
    means = [probabilities_NK[labels_N == one, one].mean() if (labels_N == one).any() else np.inf for one in classes]
    reached_NK = np.where(probabilities_NK >= np.array(means), probabilities_NK, -1.0)
    found: npt.NDArray[np.bool_] = (reached_NK.max(axis=1) >= 0) & (reached_NK.argmax(axis=1) != labels_N)
    return found
