"""From a configuration to everything that training needs: data cut, machine chosen, network built.

All mistakes that a user can make in a configuration come up here at the latest, before a file is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from vitlab.config import ModelConfig, RunConfig
from vitlab.data import Dataset, cut_validation, limit, load_dataset
from vitlab.data.batches import to_device
from vitlab.errors import ConfigError, StorageError
from vitlab.files import user_cache
from vitlab.machine import Machine, choose_machine, private_randomness, seed_torch
from vitlab.model import Kernels, build_model, parameters_by_part
from vitlab.native import Library, NativeError, load
from vitlab.training.augment import check_flip
from vitlab.training.preprocess import Preprocess
from vitlab.training.step import Task


@dataclass(frozen=True)
class Prepared:
    """A configuration with its data and machine at hand, and its network freshly initialised."""

    config: RunConfig
    dataset: Dataset
    task: Task
    model: nn.Module


def prepare(config: RunConfig, note: Callable[[str], None], data: str | None = None) -> Prepared:
    """Load and cut the data, choose the machine, build the network; ``note`` hears a line about each.

    ``data`` names another place of the same images, if they have moved.
    """
    machine = choose_machine(config.machine)
    note(machine.describe())
    dataset = cut(load_dataset(data or config.data.data, note), config)
    card = dataset.card
    check_flip(config.augment, card.may_flip, card.name)
    note(data_line(dataset))
    if card.height != card.width:
        note(f"images of {card.height} x {card.width} are squeezed into squares of {config.model.image_size} pixels")
    preprocess = make_preprocess(config, dataset)
    library, machine = load_kernels(machine, note)
    kernels = choose_kernels(config.model, machine, library)
    with private_randomness(machine.device):
        seed_torch(config.train.seed, "init")
        model = build_model(config.model, card.channels, len(card.classes), kernels)
    if machine.compile:
        model.compile()
    note(model_line(config, model))
    val = None if dataset.val is None else to_device(dataset.val, machine.device)
    task = Task(config, to_device(dataset.train, machine.device), val, preprocess, machine, library)
    return Prepared(config, dataset, task, model.to(machine.device))


def load_kernels(machine: Machine, note: Callable[[str], None]) -> tuple[Library | None, Machine]:
    """The native kernels, where this machine can use them, and the machine with ``kernels`` as it was decided.

    ConfigError if they were asked for and cannot be had; ``note`` hears it if they were hoped for.
    """
    reasons = {
        "plain ones were asked for": machine.kernels == "plain",
        "they are for CPUs": machine.device.type != "cpu",
        "they compute in bf16": machine.precision != "bf16",
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is None:
        try:
            return load("bf16", user_cache() / "native"), replace(machine, kernels="native")
        except (NativeError, StorageError) as error:
            reason = str(error)
            if machine.kernels == "auto":
                note(f"torch's own operations in place of vitlab's kernels: {reason}")
    if machine.kernels == "native":
        raise ConfigError(f"kernels native cannot be had: {reason}; use --kernels plain or auto")
    return None, replace(machine, kernels="plain")


def choose_kernels(config: ModelConfig, machine: Machine, library: Library | None) -> Kernels:
    """How the network is computed: torch.compile cannot look into native kernels, and that of the blocks knows no
    drop_path."""
    kernels = Kernels(sdpa=machine.fuses_attention(tokens=config.grid**2))
    if machine.compile:
        return kernels
    return replace(kernels, native=library, blocks=not config.drop_path, threads=machine.threads)


def cut(dataset: Dataset, config: RunConfig) -> Dataset:
    """The data set with its validation part cut (unless it brings its own) and its training part limited."""
    train, val, seed = dataset.train, dataset.val, config.train.seed
    if val is None:
        train, val = cut_validation(train, config.data.val_fraction, config.data.val_split, seed)
    if config.data.limit_train is not None:
        train = limit(train, config.data.limit_train, seed)
    return replace(dataset, train=train, val=val)


def make_preprocess(config: RunConfig, dataset: Dataset) -> Preprocess:
    """The run's one way from stored images to the network's input."""
    card = dataset.card
    assert card.mean is not None, "a loaded card always has a mean"
    assert card.std is not None, "a loaded card always has a standard deviation"
    mean, std = (card.mean, card.std) if config.data.normalize else ((0.0,) * card.channels, (1.0,) * card.channels)
    return Preprocess(config.model.image_size, mean, std, config.model.input_side)


def data_line(dataset: Dataset) -> str:
    """One line that says what was loaded."""
    card, parts = dataset.card, {"training": dataset.train, "validation": dataset.val, "test": dataset.test}
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts.items() if part is not None)
    shape = " x ".join(map(str, dataset.train.images.shape[1:]))
    source = f"{dataset.origin}, sha256 {dataset.digest[:12]}"
    return f"{card.name}: {sizes} images of {shape}, {len(card.classes)} classes ({source})"


def model_line(config: RunConfig, model: nn.Module) -> str:
    """One line that says how large the network is, and where its parameters are."""
    parts = parameters_by_part(model)
    total = sum(parts.values())
    head = f"{total:,} parameters, {100 * parts['head'] / total:.0f} % of them in the head"
    settings = config.model
    if settings.arch == "cnn":
        return f"CNN: {' and '.join(map(str, settings.cnn_channels))} channels, {head}"
    cut_pixels = settings.inner_side - settings.grid * settings.patch_size
    edge = f", {cut_pixels} pixels cut off at the right and bottom" if cut_pixels else ""
    return (
        f"ViT: {settings.grid} x {settings.grid} patches of {settings.patch_size} pixels{edge}, "
        f"{settings.depth} blocks, width {settings.embed_dim}, {settings.num_heads} heads, {head}"
    )
