"""Train a network, or open one that is trained, and use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab import html
from vitlab.api.attention import Attention, attention_of
from vitlab.api.given import Data, as_table, dataset_in, given_knobs, is_shown, named_config, place_of, plain
from vitlab.config import RunConfig
from vitlab.data.glance import fitted_to_data
from vitlab.errors import ConfigError, RunError
from vitlab.files import claimed
from vitlab.model import Network
from vitlab.predict import Classifier, Predictions
from vitlab.predict.elsewhere import evaluate_on
from vitlab.progress import choose_notes, choose_reporter
from vitlab.runs.finished import evaluate_run, open_run
from vitlab.runs.folder import RunFolder, default_folders
from vitlab.runs.result import Result
from vitlab.runs.session import Reporter, check_done, resume_run, train_run
from vitlab.runs.start import initial_config
from vitlab.runs.zoo import is_in_zoo, name_of, place, refuse_damage, writable
from vitlab.studies.images import short_name
from vitlab.text import between, counted, duration, percent, printable, quoted, say
from vitlab.training.preprocess import Preprocess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitlab.predict.inputs import Picture, Pictures

RUNS = Path("runs")


def train(
    preset: str | RunConfig | None = None,
    *others: Any,
    data: Data | None = None,
    init_from: str | os.PathLike[str] | Run | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Reporter = True,
    log: str | Iterable[str] = (),
    **knobs: Any,
) -> Run:
    """Train a network and return the run.

    ``preset``: where to start from, one of `PRESETS` such as "small" (a ViT for a laptop) or "fast" (99.0 % on MNIST in
    seconds), or a `RunConfig`; None picks one that fits the images, with its input size and patches, and says so.
    With a preset of your choice, ``image_size="auto"`` fits only its input size and patches.

    ``knobs`` change single settings, for example ``epochs``, ``batch_size``, ``lr``, ``weight_decay``, ``patch_size``,
    ``embed_dim``, ``depth``, ``num_heads``, ``seed``, ``device``; all of them are in `RunConfig`.

    ``data``: a name of `CATALOGUE` ("mnist", "digits", ...), the path of a folder of images or of an .npz file, or
    arrays or tensors: (images, labels), or (train_images, train_labels, test_images, test_labels), as scikit-learn's
    train_test_split orders them after (X_train, y_train, X_test, y_test). Images are [N, H, W], [N, H, W, C] or, as
    tensors, [N, C, H, W]: whole numbers from 0 to 255, or floats from 0 to 1. Labels are [N], numbers or names. Arrays
    are stored once, in "arrays" next to the run folder.

    ``init_from``: a finished run, or its path, whose weights the network starts from. Its network, and without a
    ``preset`` all its other settings and its data too, are those of the new run where ``knobs`` and ``data`` do not say
    otherwise (docs/do/fine-tuning.md).

    ``out``: the new run folder; by default runs/DATE-PRESET-DATA-sSEED. ``progress``: False for silence, or a
    `Reporter`. ``log``: trackers that receive a copy of the history, one or several of "tensorboard", "mlflow", "wandb"
    and "trackio".

    ConfigError for a setting that cannot work (nothing is written), DataError for missing or unsuitable images,
    DivergedError if the loss stops being finite, Interrupted after Ctrl-C or a notebook's stop button:
    ``load(path).resume()`` then continues.

    >>> run = vitlab.train("small", data="digits", epochs=2, progress=False)
    >>> run.result["test_top1"] > 0.5
    True
    """
    if others:
        raise ConfigError("only the preset has no name; use data=... for images, and the name of each knob")
    folder = RUNS if out is None else Path(out).parent
    reporter = reporter_of(progress)
    base = named_config(preset)
    given = given_knobs(knobs, data, folder)
    config = starting_config(base, init_from, given, reporter.note)
    with claimed(default_folders(config)) if out is None else nullcontext(Path(out)) as path:
        result = train_run(config, path, reporter, log=log)
    return concluded(result, path, reporter)


def starting_config(
    base: RunConfig | None,
    init_from: str | os.PathLike[str] | Run | None,
    knobs: dict[str, Any],
    note: Callable[[str], None],
) -> RunConfig:
    """The configuration of a preset, or one that fits the data, or that of the run whose weights a new one starts
    from."""
    if init_from is None:
        return fitted_to_data(base, knobs, note)
    return initial_config(os.fspath(init_from.path if isinstance(init_from, Run) else init_from), base, knobs)


def load(path: str | os.PathLike[str]) -> Run:
    """Open a run, finished or not: its path, its name in runs/, or a network that comes with vitlab, such as "mnist",
    "fashion" and "cifar". RunError if there is none.

    >>> path = vitlab.train("fast", data="digits", epochs=1, progress=False).path
    >>> run = vitlab.load(path)
    >>> len(run.predict(vitlab.load_dataset("digits").test.images))
    360
    >>> vitlab.load("mnist").result["test_top1"] > 0.99  # nothing needs to be trained
    True
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"load takes the path of a run or its name in runs/, not {type(path).__name__}")
    run = Run(place(path, say))
    with refuse_damage(run.path):
        _ = run.config
    return run


def reporter_of(progress: bool | Reporter) -> Reporter:
    """The reporter that ``progress`` asks for."""
    return progress if isinstance(progress, Reporter) else choose_reporter(quiet=not is_shown(progress))


def concluded(result: Result, path: Path, reporter: Reporter) -> Run:
    """The run that has just ended, with a line about it; raises if it was interrupted or diverged."""
    check_done(result, path)
    reporter.note(f"{summary(result)}; saved in {path}")
    if trouble := result.note():
        reporter.note(f"note: {trouble}")
    return Run(path)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run folder: a trained network, and how it was trained. `train` and `load` make one.

    >>> run = vitlab.train("small", data="digits", epochs=2, progress=False)
    >>> run.result["test_top1"] > 0.5                           # accuracy on test images, from 0 to 1
    True
    >>> test = vitlab.load_dataset("digits").test               # .images uint8 [360, 8, 8, 1], .labels int64 [360]
    >>> answers = run.predict(test.images)
    >>> bool((answers.indices == test.labels).mean() > 0.5)
    True
    >>> run.attention(test.images[0]).weights.shape             # [depth, heads, tokens, tokens]
    (2, 2, 49, 49)
    >>> figure = run.plot()                                     # learning curves
    >>> len(run.history)                                        # one row per epoch
    2
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "_absolute", self.path.absolute())

    @property
    def place(self) -> Path:
        """``path``, or the absolute path if the current folder has changed since this object was made."""
        absolute: Path = getattr(self, "_absolute")  # noqa: B009
        return self.path if self.path.absolute() == absolute else absolute

    @property
    def folder(self) -> RunFolder:
        """The files of the run."""
        return RunFolder(self.place)

    @cached_property
    def config(self) -> RunConfig:
        """Every setting."""
        return self.folder.config()

    @property
    def result(self) -> Result:
        """Accuracy, times, sizes and how the run ended, by name as in result.json (see `Result`); RunError if it has
        not ended."""
        result = self.folder.result()
        if result is None:
            raise RunError(f"{self.place} has not ended; `vitlab train --resume {quoted(self.place)}` continues it")
        return result

    @property
    def history(self) -> Any:
        """One row per epoch: epoch, lr, train_loss, train_top1, val_loss, val_top1 (accuracies from 0 to 1; None
        without validation images), train_seconds since the start. A pandas DataFrame if pandas is installed, otherwise
        a list of dicts."""
        return as_table(self.folder.history())

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return tuple(self.folder.data()["classes"])

    @cached_property
    def classifier(self) -> Classifier:
        """The trained network with all that it needs to classify pictures."""
        return Classifier.load(self.place)

    @property
    def preprocess(self) -> Preprocess:
        """From uint8 images [B, H, W, C] to the network's input, float [B, C, side, side]."""
        return self.classifier.preprocess

    def network(self) -> Network:
        """A new copy of the trained network, a `torch.nn.Module` on the CPU in evaluation mode.
        ``network(run.preprocess(images))`` gives the logits [B, K] of uint8 images [B, H, W, C]."""
        return open_run(self.place).network()

    def predict(self, images: Pictures, center: bool | None = None) -> Predictions:
        """The answers to one or many pictures: arrays, tensors, PIL images, paths, or a list of these. All that is
        accepted, and what numbers mean, is said in `Classifier.predict`."""
        return self.classifier.predict(images, center)

    def attention(self, image: Picture, center: bool | None = None) -> Attention:
        """Where the network looks in one picture, which may be given as in `predict`; ConfigError if the network has no
        attention."""
        return attention_of(self.classifier, image, center)

    def evaluate(
        self,
        split: str | None = None,
        *,
        on: Data | None = None,
        shifts: int = 0,
        flips: bool = False,
        data: Data | None = None,
        progress: bool = False,
        **knobs: Any,
    ) -> dict[str, Any]:
        """Every metric of the network, computed anew on the images of a split, by the names in `Result` without test_:
        "top1" with "top1_interval", "top5", "loss", ... What is "test_top1" in ``run.result`` is "top1" here.

        ``split``: "test" (the default), "val" (validation) or "train", without augmentation. ``on``: another data set
        of the same classes, given as `train` takes it; then "unlike" is the share of its images that are unlike the
        training images, and the default is its test images or, if it has none, all of them. ``shifts``: average over
        each image and its four copies shifted by that many pixels; ``flips``: and over their mirror images. ``data``:
        where the run's own images are now, if they have moved. ``knobs``: those of the machine, such as ``threads``.
        DataError if the run's images have changed or there are none, or for classes that the run does not know.

        >>> run = vitlab.train("fast", data="digits", epochs=1, progress=False)
        >>> test = vitlab.load_dataset("digits").test
        >>> numbers = run.evaluate(on=(test.images[:7], test.labels[:7]))
        >>> numbers["images"], 0 <= numbers["top1"] <= 1
        (7, True)
        """
        if not isinstance(split, str | None):
            what = "on=path" if isinstance(split, os.PathLike) else "on=(images, labels)"
            raise ConfigError(f"split is test, val or train, not {type(split).__name__}; for other images use {what}")
        if on is not None:
            if data is not None or shifts or flips or knobs:
                raise ConfigError("`on` computes on the CPU as `predict` does; leave out the others")
            other = on if isinstance(on, str | os.PathLike) else dataset_in(on)
            return evaluate_on(self.place, other, split, choose_notes(quiet=not is_shown(progress)))
        asked = {name: plain(value) for name, value in knobs.items()}
        if data is not None:
            asked["data"] = place_of(data, RUNS if is_in_zoo(self.place) else self.place.parent)
        return evaluate_run(self.place, split or "test", reporter_of(progress), asked=asked, shifts=shifts, flips=flips)

    def plot(self) -> Figure:
        """Learning curves: loss, accuracy and learning rate over the epochs, and accuracy over training time."""
        from vitlab.look.curves import draw_curves

        rows = self.folder.history()
        if not rows:
            raise RunError(f"{self.place} has no curves yet: it ended before the end of its first epoch")
        return draw_curves({self.place.resolve().name: rows})

    def report(self, *, data: Data | None = None, progress: bool = False) -> Path:
        """Draw everything about the run and write it into its folder: pictures, a model card, and report.html, whose
        path is returned. ``data``: where the run's images are now, if they have moved. A network that comes with vitlab
        is first copied to runs/zoo."""
        from vitlab.look.write import look_at_run

        note = choose_notes(quiet=not is_shown(progress))
        path = writable(self.place, note)
        asked = {} if data is None else {"data": place_of(data, path.parent)}
        written = look_at_run(path, [], note, asked, None, None)
        assert written.report is not None
        return written.report

    def resume(
        self, *, progress: bool | Reporter = True, allow_drift: bool = False, log: str | Iterable[str] = ()
    ) -> Run:
        """Continue a run that was interrupted or killed, and return it when it is done. RunError if processor, threads
        or torch have changed, so that the result would not be the same bit for bit, unless ``allow_drift``. ``log``: as
        for `train`, also for a run that is done."""
        reporter = reporter_of(progress)
        path = writable(self.place, reporter.note)
        result = resume_run(path, reporter, allow_drift=allow_drift, log=log)
        return concluded(result, path, reporter)

    def __repr__(self) -> str:
        config, result = self.config, self.folder.result()
        about = f"{config.preset or 'custom'} on {short_name(config.data.data)}"
        ended = "not finished" if result is None else summary(result)
        return printable(f"<Run {name_of(self.place)}: {about}, {ended}>")

    def _repr_html_(self) -> str:
        result = self.folder.result()
        rows = [("run", name_of(self.place)), ("preset", self.config.preset or "custom")]
        rows += [("data", short_name(self.config.data.data)), *(facts(result) if result else [("", "not finished")])]
        return html.table([], [[html.text(name), html.bold(value)] for name, value in rows], 2)


def summary(result: Result) -> str:
    """How a run ended, in a few words."""
    if result.status != "done":
        return result.status
    for name, score in (("test", result.test_top1), ("validation", result.val_top1)):
        if score is not None:
            learned = ", did not learn" if result.why_not_learned() else ""
            return f"{name} top-1 {percent(score)} after {duration(result.train_seconds or 0.0)} of training{learned}"
    return f"trained in {duration(result.train_seconds or 0.0)}"


def facts(result: Result) -> list[tuple[str, str]]:
    """What a notebook shows about a run, with names."""
    found = [("status", result.status)] if result.status != "done" else []
    if result.test_top1 is not None and result.test_top1_interval is not None:
        interval = f"95 % interval {between(result.test_top1_interval)}, {result.test_images:,} images"
        found.append(("test accuracy", f"{percent(result.test_top1)} ({interval})"))
    if result.val_top1 is not None:
        found.append(("validation accuracy", f"{percent(result.val_top1)} ({result.val_images:,} images)"))
    if result.train_seconds is not None:
        epochs = counted(min(result.epochs or 0, result.epochs_done or 0), "epoch")
        epochs += " (stopped early)" if result.stopped_epoch else ""
        found.append(("training", f"{epochs} in {duration(result.train_seconds)} on {result.device}"))
    if trouble := result.note():
        found.append(("note", trouble))
    return [*found, ("parameters", f"{result.params or 0:,}")]
