"""`ViTClassifier`: training and prediction as a scikit-learn estimator. Nothing touches the disk before `save`."""

from __future__ import annotations

import copy
import math
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from vitlab import files
from vitlab.advice import spoken
from vitlab.config import MachineConfig, RunConfig, fitting
from vitlab.config.presets import DEFAULT_PRESET, PRESETS, preset_config
from vitlab.data import Split, in_memory
from vitlab.data.arrays import is_tensor, to_array
from vitlab.data.images import ImageError
from vitlab.data.memory import IN_MEMORY
from vitlab.errors import ConfigError, DivergedError, RunError
from vitlab.machine import environment, private_randomness, unchanged_process
from vitlab.model import build_model
from vitlab.processor import available_cores
from vitlab.progress import choose_reporter
from vitlab.ranks import ALONE, check_count
from vitlab.runs.finished import open_run
from vitlab.runs.folder import RunFolder, check_empty
from vitlab.runs.prepare import Prepared, memory_errors, prepare
from vitlab.runs.result import measure_training
from vitlab.runs.session import data_record, ended, origin, utc_now
from vitlab.text import few
from vitlab.training.evaluate import at_once, evaluating
from vitlab.training.loop import Hooks, Outcome, fit

Array = npt.NDArray[Any]
Shape = tuple[int, int, int]  # height, width, channels

TABLE_BELOW = 64  # columns of a flat X without image_shape; from there on it must be a square picture
# A table has no neighbours: each number is a patch, no number is cut off, and none is moved to another's place.
TABLE_KNOBS: dict[str, Any] = {
    **dict(patch_size=1, patch_overlap=0, crop=None, flip=False),
    **dict.fromkeys(("rotate", "zoom", "shift", "shear", "elastic", "erase", "cutmix"), 0.0),
    **dict.fromkeys(("brightness", "contrast", "saturation"), 0.0),
}
# Parameters that are knobs of the same name; None leaves the preset's value.
NAMED = ("epochs", "batch_size", "lr", "weight_decay", "patch_size", "embed_dim", "depth", "num_heads")
OTHER_PATH = "choose another path, or delete that folder first"
OTHER_SCALE = 8  # times the numbers of fit from which on X has another scale
# Training sets torch's threads and its random generator, which all threads of a process share.
ONE_AT_A_TIME = threading.Lock()


class ViTClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A Vision Transformer, or any other network of a preset, as a scikit-learn classifier.

        >>> from sklearn.datasets import load_digits
        >>> from vitlab import ViTClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = ViTClassifier("fast", epochs=8, random_state=0).fit(X[:1500], y[:1500])
        >>> classifier.score(X[1500:], y[1500:]) > 0.9
        True

    Images ``X`` are [n, h, w], [n, h, w, c] with c 1 or 3, or flat [n, h * w * c]; a flat X of 64 columns or more is a
    square of grey pixels unless ``image_shape`` says otherwise. A flat X with fewer columns is taken for a table: each
    column becomes a patch of one pixel, in rows on the smallest square that holds them, without augmentation. Numbers
    may be of any kind: those of the training images are scaled to the mean 0 and the standard deviation 1 for each
    channel. For 8-bit numbers 255 is white, for others the largest number (without its sign) in training; this matters
    only for augmentation, which fills with 0, and for a saved run that classifies picture files.

    Parameters:

    - ``preset``: name of a preset (`vitlab.PRESETS`), which has a value for each knob; None takes one that fits the
      images, with its input size: "small" for grey images of up to 28 x 28.
    - ``epochs``, ``batch_size``, ``lr``, ``weight_decay``, ``patch_size``, ``embed_dim``, ``depth``, ``num_heads``:
      knobs of the same name (docs/reference/knobs.md); None keeps the preset's value.
    - ``knobs``: any other knobs by name, for example ``{"muon_lr": 0.01, "rotate": 0.0}``. They win over the
      parameters.
    - ``image_shape``: (height, width) or (height, width, channels) of a flat X, channels last.
    - ``validation_fraction``: share of the training images, drawn with the same share of each class, on which accuracy
      is measured after each epoch, for ``history_``. With ``knobs={"select": "best"}`` the best epoch's weights are
      kept; ``knobs={"patience": 3, "monitor": "val_macro_f1"}`` stops early. The default 0 trains on all images, since
      scikit-learn's tools hold out images themselves.
    - ``class_weight``: None, "balanced", or the weight of each label, ``{label: weight}``; labels that it lacks weigh
      1. ``knobs={"sampling": "balanced"}`` shows each class equally often instead.
    - ``random_state``: an int repeats a training bit for bit on a CPU; None, or a RandomState, draws the seed.
    - ``device``: "auto", "cpu", "cuda" or "mps" (Apple's GPU, untested).
    - ``threads``: CPU threads in `fit`; None takes as many as torch would, which is joblib's share in its workers.
    - ``verbose``: whether `fit` shows its progress, on standard error or in a notebook's cell.

    Attributes, once fitted:

    - ``classes_``: the labels, sorted; columns of `predict_proba` are in this order.
    - ``n_features_in_``, ``feature_names_in_``: numbers per image, and the columns' names if X was a DataFrame.
    - ``image_shape_``: (height, width, channels) of an image.
    - ``history_``: a dict for each epoch, as in history.jsonl; ``pandas.DataFrame(classifier.history_)`` makes a table.
    - ``network_``: the trained network, a torch module on the CPU; ``preprocess_``: what images pass through before it.
    - ``config_``: the configuration that was trained, a `vitlab.RunConfig`.
    - ``scale_``: the number that counts as white.
    """

    def __init__(
        self,
        preset: str | None = None,
        *,
        epochs: float | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        patch_size: int | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        knobs: Mapping[str, Any] | None = None,
        image_shape: Sequence[int] | None = None,
        validation_fraction: float = 0.0,
        class_weight: str | Mapping[Any, float] | None = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.preset = preset
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.depth = depth
        self.num_heads = num_heads
        self.knobs = knobs
        self.image_shape = image_shape
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.threads = threads
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ViTClassifier:
        """Train a new network on images ``X`` and their labels ``y`` [n], of any kind.

        ``sample_weight`` [n] says how much each image counts in the loss; images of weight 0 are left out. ConfigError,
        a ValueError, for data and parameters that cannot work; DivergedError when the loss becomes infinite. A
        ConvergenceWarning says that the network is no better than guessing on validation images or, without any, on
        training images.
        """
        flat, own = flattened(X)
        flat, y = validate_data(self, flat, y, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        weights = self._weights(y, sample_weight)
        used = weights > 0
        if len(np.unique(labels[used])) < 2:
            raise ConfigError("y has only one class (images of weight 0 do not count); a classifier needs two or more")
        self.image_shape_, is_table = shape_of(flat.shape[1], own, self.image_shape)
        self.scale_ = white(flat)
        images = self._pixels(flat[used])
        counts = weights[used]
        train = Split(images, labels[used].astype(np.int64), None if counts.min() == counts.max() else counts)
        dataset = in_memory(train, tuple(str(label) for label in self.classes_.tolist()))
        with ONE_AT_A_TIME, unchanged_process(), memory_errors("training"):
            reporter = choose_reporter(quiet=not self.verbose)
            config, line = self._config(is_table, len(train))
            check_count(config.machine.ranks, ALONE)
            if line and self.preset is None:
                reporter.note(spoken(line))
            prepared = prepare(config, reporter.note, dataset=dataset)
            task = prepared.task
            hooks = Hooks(partial(reporter.step, task), partial(reporter.epoch, task))
            started = {"started_utc": utc_now(), "data_sha256": dataset.digest, "resumed": []}
            reporter.begin(task)
            try:
                outcome = fit(prepared.model, task, hooks)
            finally:
                reporter.end()
            self._keep(prepared, outcome, started)
        if reason := self._result.why_not_learned():
            warnings.warn(spoken(reason), ConvergenceWarning, stacklevel=2)
        return self

    def predict(self, X: Any) -> Array:
        """The most likely label of each image, [n]. A UserWarning says that the numbers of X show another scale than
        those of fit, such as 0 to 1 after 0 to 255."""
        best = self._logits(X).argmax(dim=1).numpy()
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class for each image, [n, classes], float64."""
        return self._logits(X).softmax(dim=1).numpy()

    def predict_log_proba(self, X: Any) -> Array:
        """The natural logarithms of `predict_proba`, without its rounding to 0."""
        return self._logits(X).log_softmax(dim=1).numpy()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the new run folder ``path``, which `load`, `vitlab.load` and the command line open; without pickle.

        RunError if the folder is not empty. Training images are not stored, so nothing can be evaluated on them later.
        """
        check_is_fitted(self)
        path = Path(path)
        check_empty(path, OTHER_PATH)
        files.make_folder(path)
        folder = RunFolder(path)
        with folder.locked():
            check_empty(path, OTHER_PATH)
            folder.begin(self.config_, self._record | {"estimator": self._about()}, origin() | self._environment)
            folder.write_history(self.history_)
            digest = folder.save_weights(self.network_.state_dict())
            folder.write_result(replace(self._result, model_sha256=digest))
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ViTClassifier:
        """The classifier in a run folder, fitted; RunError if there is none, or if a file is damaged.

        The folder may also come from `vitlab.train` or the command line. ``classes_`` are then the names of its
        classes, and X must hold images as its data set has them: 8-bit numbers, of the same size.
        """
        run = open_run(path)
        kept = saved_state(run.folder.path, run.data)
        classifier = cls(**parameters_of(run.config))
        if kept["class_weight"]:
            classifier.class_weight = dict(map(tuple, kept["class_weight"]))
        classifier.classes_ = np.array(kept["labels"], dtype=kept["label_type"])
        classifier.image_shape_, classifier.scale_ = tuple(kept["image_shape"]), kept["scale"]
        classifier.n_features_in_ = kept["features"]
        if kept["feature_names"] is not None:
            classifier.feature_names_in_ = np.array(kept["feature_names"], dtype=object)
        classifier.config_, classifier.history_ = run.config, run.folder.history()
        classifier.network_, classifier.preprocess_ = run.network(), run.preprocess
        classifier._of_pictures = "estimator" not in run.data  # its numbers are those of 8-bit pictures
        classifier._record, classifier._environment, classifier._result = run.data, run.folder.environment(), run.result
        return classifier

    def _config(self, is_table: bool, count: int) -> tuple[RunConfig, str]:
        """The preset's configuration for so many images, changed by the parameters, and a line on what was chosen."""
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31)
        chosen = {name: value for name in NAMED if (value := getattr(self, name)) is not None}
        if self.class_weight is not None and not isinstance(self.class_weight, Mapping):
            chosen["class_weight"] = self.class_weight
        table = TABLE_KNOBS | {"image_size": self.image_shape_[0]} if is_table else {}
        own = dict(
            data=IN_MEMORY,
            val_fraction=self.validation_fraction,
            seed=int(seed),
            device=self.device,
            threads=min(torch.get_num_threads(), available_cores()) if self.threads is None else self.threads,
        )
        if not isinstance(self.knobs, Mapping | None):
            raise ConfigError(f'knobs is a dict, such as knobs={{"rotate": 0.0}}, not {self.knobs!r}')
        if "data" in (self.knobs or {}):
            raise ConfigError("knobs must not contain data; the images are those that fit receives")
        given = own | table | chosen | dict(self.knobs or {})
        knobs = {name: plain(value) for name, value in given.items()}
        base = None if self.preset is None else preset_config(self.preset)
        return fitting.fitted(base, knobs, fitting.Shape(*self.image_shape_, images=count))

    def _weights(self, y: Array, sample_weight: Any) -> Array:
        """How much each image counts, float64 [n], from 0."""
        weights = np.ones(len(y)) if sample_weight is None else np.array(sample_weight, dtype=np.float64)
        if weights.ndim == 0:
            weights = np.full(len(y), weights)
        if weights.shape != (len(y),):
            raise ConfigError(
                f"sample_weight must have the shape ({len(y)},), a number for each image, not {weights.shape}"
            )
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ConfigError("sample_weight must be finite numbers from 0; an image of weight 0 does not count")
        if not weights.any():
            raise ConfigError("every sample weight is zero, so there is nothing to train on; use weights above 0")
        if isinstance(self.class_weight, Mapping):
            known = self.classes_.tolist()
            unknown = [label for label in self.class_weight if label not in known]
            if unknown and not all(label in self.class_weight for label in known):  # as scikit-learn, in other words
                raise ConfigError(f"class_weight: y has no label {unknown[0]!r}, but {few(list(map(repr, known)))}")
            weights = weights * compute_sample_weight(dict(self.class_weight), y)
            if not (np.isfinite(weights) & (weights >= 0)).all():
                raise ConfigError("class_weight must be finite numbers from 0; a class of weight 0 does not count")
        return weights

    def _pixels(self, flat: Array) -> Array:
        """Flat numbers as images [n, h, w, c]: uint8 where that loses nothing, else float32 with white at 1."""
        pixels, (height, width, channels) = in_units(flat, self.scale_), self.image_shape_
        missing = height * width * channels - flat.shape[1]  # of a table, to the full square
        return np.pad(pixels, ((0, 0), (0, missing))).reshape(-1, height, width, channels)

    def _keep(self, prepared: Prepared, outcome: Outcome, started: dict[str, Any]) -> None:
        """What the training left: the network, and all that `save` writes."""
        config, task, card = prepared.config, prepared.task, prepared.dataset.card
        if outcome.status != "done":
            rates = f"lr {config.optim.lr:g}" + (
                f" or muon_lr {config.optim.muon_lr:g}" if config.optim.optimizer == "muon" else ""
            )
            epoch = len(outcome.counters.rows) + 1
            raise DivergedError(f"the loss stopped being a finite number in epoch {epoch}; lower {rates}")
        with private_randomness(torch.device("cpu")):
            network = build_model(config.model, card.channels, len(card.classes))
        network.load_state_dict(outcome.weights)
        self.network_, self.preprocess_, self.config_ = network.eval(), task.preprocess, config
        self.history_ = outcome.counters.rows
        self._of_pictures = False
        self._record = data_record(prepared.dataset, task.preprocess, prepared.drawing)
        self._environment = environment(task.machine) | started
        self._result = ended(prepared, outcome)
        if next(self._result.accuracies(), None) is None:
            prepared.model.load_state_dict(outcome.weights)
            self._result = replace(self._result, **measure_training(prepared))

    def _logits(self, X: Any) -> Tensor:
        """Logits [n, classes] in float64: an image's answer must not depend on the others that it comes with."""
        check_is_fitted(self)
        flat, own = flattened(X)
        if own not in (None, self.image_shape_):
            refuse_one_image(X, self.image_shape_)
            raise ConfigError(f"images have the shape {own}, but those of fit had {self.image_shape_}; resize them")
        if getattr(flat, "shape", ())[1:] != (self.n_features_in_,):
            refuse_one_image(X, self.image_shape_)
        flat = validate_data(self, flat, reset=False)
        if self._of_pictures and flat.dtype.kind == "f" and flat.min() >= 0 and 0 < flat.max() <= 1:
            raise ConfigError("the network was trained on pictures from 0 to 255, but X goes from 0 to 1; use X * 255")
        if not self._reads_tables(own) and (odd := other_scale(flat, self.scale_)):
            warnings.warn(odd, UserWarning, stacklevel=3)
        images = torch.from_numpy(self._pixels(flat))
        network = copy.deepcopy(self.network_).double()
        with evaluating(network):
            batches = images.split(at_once(self.config_.train.eval_batch_size, images, self.preprocess_))
            return torch.cat([network(self.preprocess_(batch).double()) for batch in batches])

    def _reads_tables(self, own: Shape | None) -> bool:
        """Whether X may be a table, whose rows need not have numbers of all sizes."""
        return own is None and self.image_shape is None and self.n_features_in_ < TABLE_BELOW

    def _about(self) -> dict[str, Any]:
        """What `load` needs, as JSON."""
        names = getattr(self, "feature_names_in_", None)
        weights = self.class_weight if isinstance(self.class_weight, Mapping) else {}
        return {
            "labels": self.classes_.tolist(),
            "label_type": self.classes_.dtype.str,
            "scale": self.scale_,
            "image_shape": list(self.image_shape_),
            "features": self.n_features_in_,
            "feature_names": None if names is None else names.tolist(),
            "class_weight": [[plain(label), float(weight)] for label, weight in weights.items()],
        }


# What data.json holds about a classifier.
SAVED: dict[str, Any] = {
    **dict(labels=list[Any], label_type=str, scale=float, image_shape=tuple[int, int, int], features=int),
    **dict(feature_names=list[str] | None, class_weight=list[tuple[Any, float]]),
}


def saved_state(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The entries of `SAVED` in data.json of the run ``path``; those of a run that is no classifier's follow from its
    images. RunError if they are damaged."""
    file = path / "data.json"
    if "estimator" not in data:
        height, width = data.get("size") or [data["preprocess"]["image_size"]] * 2
        shape = [height, width, data["channels"]]
        labels = {"labels": data["classes"], "label_type": "O", "scale": 255.0, "class_weight": []}
        return labels | {"image_shape": shape, "features": math.prod(shape), "feature_names": None}
    kept = files.check_table(file, data["estimator"], SAVED, files.AGAIN, "estimator: ")
    is_label = all(isinstance(label, str | int | float | bool) for label in kept["labels"])
    if (
        not is_label
        or len(kept["labels"]) != len(data["classes"])
        or kept["label_type"].lstrip("<|>=")[:1] not in "biufUO"
    ):
        raise RunError(f"{file} is damaged: estimator: its labels are not those of its classes; {files.AGAIN}")
    return kept


def parameters_of(config: RunConfig) -> dict[str, Any]:
    """Parameters of a classifier that trains as ``config`` says."""
    preset = config.preset if config.preset in PRESETS else DEFAULT_PRESET
    other = config.changed_knobs(preset_config(preset))
    other |= {name: value for name, value in vars(config.machine).items() if value != getattr(MachineConfig(), name)}
    weighted = config.train.class_weight == "balanced"
    for name in ("data", "val_fraction", "device", "threads", *(["class_weight"] if weighted else [])):
        other.pop(name, None)
    named = {name: other.pop(name) for name in NAMED if name in other}
    return dict(
        preset=preset,
        knobs=other or None,
        class_weight="balanced" if weighted else None,
        validation_fraction=config.data.val_fraction,
        random_state=config.train.seed,
        device=config.machine.device,
        **named,
    )


def flattened(X: Any) -> tuple[Any, Shape | None]:
    """Images as rows of numbers [n, h * w * c], and their (h, w, c); None for X that has rows already."""
    if isinstance(X, list | tuple | np.ma.MaskedArray) or is_tensor(X):
        X = as_array(X)
    if getattr(X, "ndim", 2) not in (3, 4):
        return X, None
    images = as_array(X)
    height, width, channels = shape = (*images.shape[1:], 1)[:3]
    if channels not in (1, 3):
        advice = {4: "drop transparency: X[..., :3]"}.get(
            channels, "X must be [n, h, w], or [n, h, w, c] with c 1 or 3"
        )
        if height in (1, 3):
            advice = "channels come last: X.transpose(0, 2, 3, 1)"
        raise ConfigError(f"X has the shape {images.shape}, with {channels} channels; {advice}")
    return images.reshape(len(images), height * width * channels), shape


def as_array(X: Any) -> Array:
    """The numbers of an array, a tensor or a list; ConfigError, which is a ValueError, if it is none."""
    try:
        return to_array(X)
    except ImageError as error:
        raise ConfigError(str(error)) from None


def shape_of(columns: int, own: Shape | None, wanted: Sequence[int] | None) -> tuple[Shape, bool]:
    """(height, width, channels) of the images in a flat X, and whether it is a table, laid out as a square."""
    if wanted is not None:
        if isinstance(wanted, str) or not hasattr(wanted, "__iter__"):
            raise ConfigError(f"image_shape is (height, width) or (height, width, 3), such as (8, 8), not {wanted!r}")
        sides = tuple(map(int, wanted))
        if len(sides) not in (2, 3) or min(sides) < 1 or sides[2:] not in ((), (1,), (3,)):
            raise ConfigError(f"image_shape must be (height, width) or (height, width, 1 or 3), not {sides}")
        shape = (sides[0], sides[1], sides[2] if len(sides) == 3 else 1)
        if own not in (None, shape) or math.prod(shape) != columns:
            found = f"{columns} columns" if own is None else f"images of {own}"
            raise ConfigError(f"image_shape {sides} means {math.prod(shape)} numbers per image, but X has {found}")
        return shape, False
    if own is not None:
        return own, False
    side = math.isqrt(columns - 1) + 1
    if columns >= TABLE_BELOW and side * side != columns:
        colour = math.isqrt(columns // 3)
        example = f"({colour}, {colour}, 3)" if 3 * colour * colour == columns else "(28, 28)"
        raise ConfigError(
            f"{columns} columns are not the pixels of a square grey image; use image_shape=(height, width) or (height, "
            f"width, 3), for example {example}, or remove columns that are not pixels"
        )
    return (side, side, 1), columns < TABLE_BELOW


def white(flat: Array) -> float:
    """The number that counts as white: 255 for 8-bit numbers, else the largest one, without its sign."""
    return 255.0 if flat.dtype == np.uint8 else float(max(abs(float(flat.min())), abs(float(flat.max())))) or 1.0


def in_units(flat: Array, scale: float) -> Array:
    """Numbers as `Split` takes them: uint8 where 255 is white and that loses nothing, else float32 with white at 1."""
    if scale == 255.0 and flat.min() >= 0 and flat.max() <= 255:
        pixels = flat.astype(np.uint8, copy=False)
        if flat.dtype == np.uint8 or (pixels == flat).all():
            return pixels
    unit = np.empty(flat.shape, dtype=np.float32)
    return np.divide(flat, scale, out=unit, dtype=np.float64, casting="same_kind")


def other_scale(flat: Array, scale: float) -> str | None:
    """Why the numbers of images have another scale than in fit, where ``scale`` was white; None if they do not show it.

    Dark images are no proof: only numbers of another kind are, such as fractions from 0 to 1 after whole numbers to
    255, or images that are mostly much brighter than any in fit.
    """
    low, high = float(flat.min()), float(flat.max())
    is_unit = flat.dtype.kind == "b" or (low >= 0 and 0 < high <= 1 and bool((flat != np.floor(flat)).any()))
    own = 1.0 if is_unit else 255.0 if flat.dtype == np.uint8 else None  # white as their kind says
    range_ = f"X goes from {low:g} to {high:g}, but the images of fit went up to {scale:g}"
    if own is not None and scale.is_integer() and scale >= OTHER_SCALE * own:
        return f"{range_}; if {own:g} is white in X, use X * {full(scale) / own:g}"
    brightest = np.abs(flat).max(axis=1).astype(np.float64)
    if float(np.median(brightest)) > OTHER_SCALE * scale:
        return f"{range_}; give X the scale that it had there, perhaps with X / {full(white(flat)) / full(scale):g}"
    return None


def full(largest: float) -> float:
    """The number that is probably white where ``largest`` is the largest: 1, 255, 65535, or this one."""
    return next((white for white in (1.0, 255.0, 65535.0) if white / 2 <= largest <= white), largest)


def refuse_one_image(X: Any, shape: Shape) -> None:
    """ConfigError if X, which does not fit, has the sizes of one image."""
    sizes = np.shape(X) if isinstance(X, list) else tuple(getattr(X, "shape", ()))
    if sizes in (shape, shape[:2]):
        raise ConfigError(f"X has the shape {sizes} of one image, but must have several; use X[None]")


def plain(value: Any) -> Any:
    """NumPy's numbers, which come from `np.logspace` and the like, as Python's; all others as they are."""
    return value.item() if isinstance(value, np.generic) else value
