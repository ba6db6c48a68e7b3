"""From a configuration to everything that training needs: the split data, the machine, the network.

Every mistake in a configuration is found here at the latest, before a file is written.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vitlab.config import RunConfig, TrainConfig
from vitlab.config.class_weight import for_classes
from vitlab.config.sections import rehearsal as rehearsal_of
from vitlab.data import CATALOGUE, Dataset, Reading, cut_validation, limit, load_dataset
from vitlab.data.batches import to_device
from vitlab.data.drawn import drawing_of
from vitlab.data.memory import IN_MEMORY
from vitlab.data.rehearsal import Rehearsal, rehearse
from vitlab.data.splits import Labels, Weights, weigh
from vitlab.errors import ConfigError, DataError, OutOfMemoryError, is_out_of_memory
from vitlab.machine import choose_machine, private_randomness, seed_torch
from vitlab.model import Mixer, Network, ViT, build_model, parameters_by_part
from vitlab.model.transfer import frozen_parameters
from vitlab.model.whiten import whiten
from vitlab.native.accelerate import accelerate
from vitlab.randomness import numpy_generator
from vitlab.ranks import ALONE, Ranks
from vitlab.runs.start import Source, Start, start_from, validation_cut
from vitlab.text import counted, few, percent
from vitlab.training.augment import check_flip
from vitlab.training.preprocess import Preprocess
from vitlab.training.selftest import check_device
from vitlab.training.step import Task

MANY = 20  # classes from which on too few images for each are worth a line
SOME = 2000  # images whose patches say how a patch embedding should start
SOME_AT_ONCE = 50


@dataclass(frozen=True)
class Prepared:
    """A configuration with its data, its machine, and its network, as it was initialised; ``drawing`` names the
    normalisation that pictures need before it, if its data set consists of normalised drawings; ``start`` says from
    which weights it starts, if not from new ones; ``rehearsal`` what was mixed into the training images."""

    config: RunConfig
    dataset: Dataset
    task: Task
    model: Network
    drawing: str | None
    start: Start | None = None
    rehearsal: Rehearsal | None = None


def prepare(
    config: RunConfig,
    note: Callable[[str], None],
    data: str | None = None,
    reading: Reading | None = None,
    dataset: Dataset | None = None,
    start: Source | Start | None = None,
    ranks: Ranks = ALONE,
) -> Prepared:
    """Load and split the data, choose the machine, build the network; ``note`` gets a line about each.

    ``data`` says where the images are now, if they have moved; ``reading`` how the run has read them, if it is not new;
    ``dataset`` is the data if it is in memory already (`vitlab.data.in_memory`); ``start`` the weights to start from,
    or how the run has started from them; None for new ones. ``ranks`` says which process of a training this one is.
    """
    machine = choose_machine(config.machine, ranks)
    note(machine.describe())
    place = place_of(config, data, is_new=reading is None)
    whole = dataset or load_dataset(place, note, side=config.model.image_size, reading=reading)
    drawing = drawing_of(whole.train.images, config.data.drawings)  # before a part of the images is chosen
    dataset = cut(whole, config, is_new=reading is None)
    note_coverage(whole, dataset, note)
    check_flip(config.augment, dataset.card.may_flip, dataset.card.name)
    check_monitor(config.train, dataset.val is not None)
    note(data_line(dataset))
    dataset, rehearsal = with_rehearsal(dataset, config, note)
    card = dataset.card
    numbers = for_classes(config.train.class_weight, card.classes)
    weighed = weigh(dataset.train, numbers or config.train.class_weight, config.train.sampling)
    if card.height != card.width:
        note(f"images of {card.height} x {card.width} are distorted to squares of {config.model.image_size} pixels")
    with private_randomness(machine.device):
        seed_torch(config.train.seed, "init")
        plain = build_model(config.model, card.channels, len(card.classes))
        if start is None and config.model.patch_init == "white" and isinstance(plain, ViT | Mixer):
            whiten(plain.patch_embed, config.model, some_inputs(config, dataset))
    if ranks.several:
        refuse_batch_norm(plain)
    frozen_parameters(plain, config.optim.freeze)  # refuses a part that this network does not have
    if isinstance(start, Source):
        start = start_from(start, config, dataset, plain)
        for line in (start.line, *doubts(start, config, dataset, drawing)):
            note(line)
    if start is not None:
        plain.load_state_dict(start.weights)
    model, kernels, machine = accelerate(plain, machine, note)
    note(model_line(model))
    val = None if dataset.val is None else to_device(dataset.val, machine.device)
    if config.train.sampling == "balanced":
        note(sampling_line(dataset.train.labels))
    if weighed.weights is not None:
        note(weights_line(weighed.weights))
    train = to_device(weighed, machine.device)
    preprocess = start.preprocess if start is not None else make_preprocess(config, dataset)
    task = Task(config, train, val, preprocess, machine, kernels, start.old if start is not None else frozenset())
    model = model.to(machine.device)
    if machine.needs_self_test:
        check_device(model, task, note)
    return Prepared(config, dataset, task, model, drawing, start, rehearsal)


def place_of(config: RunConfig, data: str | None, is_new: bool = False) -> str:
    """Where a run's images are: where the user says, else where the run found them; DataError if they are gone from
    there."""
    place = data or config.data.data
    is_path = place not in CATALOGUE and place != IN_MEMORY
    if not is_new and data is None and is_path and not os.path.exists(os.path.expanduser(place)):
        raise DataError(f"the run's images were in {place} and are gone; --data PLACE says where they are now")
    return place


def refuse_batch_norm(model: Network) -> None:
    """ConfigError for a network that must see whole batches: it keeps averages over them next to its parameters."""
    if model.state_dict().keys() - dict(model.named_parameters()).keys():
        raise ConfigError(
            f"a {model.describe().name} normalises over the whole batch, which several ranks divide; leave out --ranks"
        )


def with_rehearsal(
    dataset: Dataset, config: RunConfig, note: Callable[[str], None]
) -> tuple[Dataset, Rehearsal | None]:
    """The data set with the images that `rehearse` mixes in. They come from the part of the other set that a run with
    the same seed trains on, so that its validation images stay unseen."""
    if config.data.rehearse is None:
        return dataset, None
    place, share = rehearsal_of(config.data.rehearse)
    whole = load_dataset(place, note, side=config.model.image_size, decoding=dataset.decoding)
    other = cut(whole, config.with_knobs(limit_train=None))
    mixed, done = rehearse(dataset, other, share, config.train.seed)
    added = [repr(name) for name in mixed.card.classes if name not in done.own_classes]
    classes = f"; classes that only they show: {few(added)}" if added else ""
    note(f"rehearsing {counted(done.images, 'training image')} of {done.name}{classes}")
    return mixed, done


def doubts(start: Start, config: RunConfig, dataset: Dataset, drawing: str | None) -> list[str]:
    """What may go wrong with these weights on these images, a line each."""
    lines, record = [], start.record
    if record["data_sha256"] == dataset.digest and record["cut"] != validation_cut(config):
        lines.append(
            "the validation images were training images of the run that the weights are from, so their accuracy is "
            "optimistic; use its seed, val_fraction and val_split to keep them unseen"
        )
    if record["drawing"] is not None and drawing is None:
        lines.append(
            "the weights are from drawings scaled and centred as in MNIST, and these images are not: they will be "
            "classified as they are"
        )
    return lines


def cut(dataset: Dataset, config: RunConfig, is_new: bool = False) -> Dataset:
    """The data set with validation images split off (unless it has some) and its training images limited. ``is_new``:
    ConfigError for validation images that a new run should not have (`cut_validation`)."""
    train, val, seed = dataset.train, dataset.val, config.train.seed
    if val is None:
        train, val = cut_validation(train, config.data.val_fraction, config.data.val_split, seed, is_new)
    if config.data.limit_train is not None:
        train = limit(train, config.data.limit_train, seed)
    return replace(dataset, train=train, val=val)


def note_coverage(whole: Dataset, dataset: Dataset, note: Callable[[str], None]) -> None:
    """A line about each part of ``dataset``, cut from ``whole``, that lacks classes of the training images, and one if
    most classes can have only one image."""
    expected, images = set(whole.train.labels.tolist()), len(whole.train)
    if len(expected) > max(MANY, images / 1.5):
        note(f"{len(expected):,} classes for {counted(images, 'image')} are too many to learn; do labels name classes?")
    for part, split in {"training": dataset.train, "validation": dataset.val, "test": dataset.test}.items():
        absent = sorted(expected.difference([] if split is None else split.labels.tolist()))
        if split is not None and absent:
            names = few([repr(dataset.card.classes[label]) for label in absent])
            then = "which cannot be learned" if part == "training" else "so accuracy says nothing about the rest"
            shown = f"{len(expected) - len(absent)} of {counted(len(expected), 'class')}"
            note(f"the {part} images show only {shown}, without {names}, {then}")


def make_preprocess(config: RunConfig, dataset: Dataset) -> Preprocess:
    """The preprocessing of a run, for training and for everything later."""
    card = dataset.card
    assert card.mean is not None, "a loaded card always has a mean"
    assert card.std is not None, "a loaded card always has a standard deviation"
    mean, std = (card.mean, card.std) if config.data.normalize else ((0.0,) * card.channels, (1.0,) * card.channels)
    return Preprocess(config.model.image_size, mean, std, config.model.input_side)


def some_inputs(config: RunConfig, dataset: Dataset) -> Iterator[Tensor]:
    """Some training images, drawn with the seed, as the network reads them: batches of [B, C, side, side]."""
    images, preprocess = dataset.train.images, make_preprocess(config, dataset)
    chosen = np.sort(numpy_generator(config.train.seed, "some").permutation(len(images))[:SOME])
    for first in range(0, len(chosen), SOME_AT_ONCE):
        batch = np.ascontiguousarray(images[chosen[first : first + SOME_AT_ONCE]])
        yield preprocess(torch.from_numpy(batch))


def data_line(dataset: Dataset) -> str:
    """One line that says what was loaded."""
    card, parts = dataset.card, {"training": dataset.train, "validation": dataset.val, "test": dataset.test}
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts.items() if part is not None)
    shape = " x ".join(map(str, dataset.train.images.shape[1:]))
    source = f"{dataset.origin}, sha256 {dataset.digest[:12]}"
    shape += " in 16 bits" if dataset.bits == 16 else ""
    return f"{card.name}: {sizes} images of {shape}, {counted(len(card.classes), 'class')} ({source})"


def check_monitor(train: TrainConfig, has_validation: bool) -> None:
    """ConfigError if the configuration needs validation images, and there are none."""
    if has_validation or (not train.patience and train.monitor == "val_top1"):
        return
    what = f"patience {train.patience}" if train.patience else f"monitor {train.monitor}"
    raise ConfigError(f"{what} needs validation images, and there are none; choose a val_fraction above 0")


def sampling_line(labels: Labels) -> str:
    """One line that says how often an epoch shows the images of the smallest and of the largest class."""
    sizes = np.bincount(labels)
    sizes = sizes[sizes > 0]
    due, few, many = len(labels) / len(sizes), sizes.min(), sizes.max()
    return (
        f"each epoch shows {len(labels):,} images, about {due:,.0f} of each class: each image of the smallest class "
        f"{due / few:.3g} times, of the largest {due / many:.3g} times on average"
    )


def weights_line(weights: Weights) -> str:
    """One line that says how much the training images count."""
    return f"training images count from {weights.min():.3g} to {weights.max():.3g} times in the loss, on average once"


def model_line(model: Network) -> str:
    """One line that says how large the network is, and which share of its parameters is in the head."""
    network, parts = model.describe(), parameters_by_part(model)
    total = sum(parts.values())
    head = f"{counted(total, 'parameter')}, {percent(parts['head'] / total, 0)} of them in the head"
    return f"{network.name}: {network.line}, {head}"


@contextlib.contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Turn a failed allocation, which torch reports as a RuntimeError, into OutOfMemoryError."""
    try:
        yield
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        advice = "free some, or use a smaller model, --batch-size, --eval-batch-size or --image-size"
        raise OutOfMemoryError(f"out of memory while {doing}; {advice}") from error
