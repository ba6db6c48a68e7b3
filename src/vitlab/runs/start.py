"""Where a run starts from: the weights of a finished run, fitted to the new network (model/transfer.py).

The fitted weights are kept in the run's folder as start.safetensors, and data.json says where they came from. So a run
that is resumed, examined or evaluated needs the source no more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from vitlab.config import RunConfig
from vitlab.config.knobs import flat_fields
from vitlab.data import Dataset
from vitlab.errors import ConfigError, RunError
from vitlab.model import Network
from vitlab.model.outline import outline
from vitlab.model.transfer import Shape, transfer
from vitlab.runs import zoo
from vitlab.runs.folder import RunFolder
from vitlab.text import few
from vitlab.training.preprocess import Preprocess

# Knobs of the source that a run from its weights does not inherit: what makes a run this one, or a start.
OWN = ("init_from", "init_sha256", "init_lr_scale", "freeze", "rehearse", "limit_train")


@dataclass(frozen=True, eq=False)
class Source:
    """Weights to start from, checked. ``data`` is the data.json of the run that made them."""

    name: str
    config: RunConfig
    data: dict[str, Any]
    weights: dict[str, Tensor]
    sha256: str

    @property
    def shape(self) -> Shape:
        """The network that they belong to."""
        return Shape(self.config.model, self.data["channels"], tuple(self.data["classes"]))


@dataclass(frozen=True, eq=False)
class Start:
    """The state that training begins with: all weights of the new network, the names of those that were trained before
    (``old``), the preprocessing that they expect, and the ``record`` of it for data.json."""

    weights: dict[str, Tensor]
    old: frozenset[str]
    preprocess: Preprocess
    record: dict[str, Any]
    line: str


def folder_of(place: str) -> RunFolder:
    """The run folder that ``place`` names: a path, the name of a run in runs/, or of a network that comes with vitlab;
    RunError if there is none."""
    path = zoo.place(os.path.expanduser(place))
    if not (path / "config.json").exists():
        raise RunError(
            f"there are no weights in {place!r} to start from; name a finished run (`vitlab runs` lists yours) or a "
            f"network that comes with vitlab (`vitlab zoo`)"
        )
    return RunFolder(path)


def find_source(place: str) -> Source:
    """The weights in ``place`` with their configuration, all digests checked; RunError if there are none."""
    folder = folder_of(place)
    config, data = folder.config(), folder.data()
    shapes = outline(config.model, data["channels"], len(data["classes"])).state_dict()
    weights, result = folder.load_weights(config.digest(), shapes)
    assert result.model_sha256 is not None, "load_weights has compared it"
    return Source(folder.path.resolve().name, config, data, weights, result.model_sha256)


def initial_config(place: str, recipe: RunConfig | None, knobs: Mapping[str, Any]) -> RunConfig:
    """The configuration of a run that starts from ``place``: its network, and its recipe unless another is given, with
    ``knobs`` changed."""
    own = folder_of(place).config()
    if recipe is None:
        inert = {name: field.default for name, (_, field) in flat_fields(RunConfig).items() if name in OWN}
        machine = type(own.machine)()  # where to compute is for the new run to say
        base = replace(own.with_knobs(**inert), machine=machine)
    else:
        base = replace(recipe, model=own.model, data=replace(own.data, rehearse=None, limit_train=None))
    return base.with_knobs(**dict(knobs) | {"init_from": place})


def pinned(config: RunConfig) -> RunConfig:
    """The configuration with the absolute place and the SHA-256 of the weights that it starts from, if it does;
    ConfigError if it asks for others."""
    place = config.train.init_from
    if place is None:
        return config
    folder, asked = folder_of(place), config.train.init_sha256
    result = folder.result()
    if result is None or result.model_sha256 is None:
        raise RunError(f"{folder.path} has no finished network to start from; finish it first")
    if asked not in (None, result.model_sha256):
        raise ConfigError(f"{place} holds other weights than init_sha256 {asked[:12]} asks for; use that run, or none")
    kept = zoo.name_of(folder.path) if zoo.is_in_zoo(folder.path) else str(folder.path.absolute())
    return config.with_knobs(init_from=kept, init_sha256=result.model_sha256)


def start_from(source: Source, config: RunConfig, dataset: Dataset, fresh: Network) -> Start:
    """The weights of ``source`` for the network ``fresh`` on ``dataset``; ConfigError if they do not fit."""
    card = dataset.card
    new = Shape(config.model, card.channels, card.classes)
    weights, done = transfer(source.weights, source.shape, new, fresh.state_dict())
    settings = source.data["preprocess"]
    mean, std = (spread(settings[name], card.channels) for name in ("mean", "std"))
    if dataset.bits == 16 != source.data.get("bits") and card.mean and card.std:
        mean, std = card.mean, card.std  # they may use a small part of the range, which would all be one grey
    preprocess = Preprocess(config.model.image_size, mean, std, config.model.input_side)
    record = {
        "run": source.name,
        "model_sha256": source.sha256,
        "data": source.data.get("name"),
        "data_sha256": source.data["sha256"],
        "drawing": source.data.get("drawing"),
        "cut": validation_cut(source.config),
        **{kind: list(names) for kind, names in vars(done).items()},
    }
    unknown = [repr(name) for name in card.classes if name not in source.shape.classes]
    classes = f"; new classes: {few(unknown)}" if unknown else ""
    line = f"starting from {source.name} (weights {source.sha256[:12]}): {done.line()}{classes}"
    return Start(weights, done.old, preprocess, record, line)


def validation_cut(config: RunConfig) -> list[Any]:
    """What decides which of the training images are for validation."""
    return [config.train.seed, config.data.val_fraction, config.data.val_split]


def spread(numbers: list[float], channels: int) -> tuple[float, ...]:
    """The numbers of some channels for another count of them: repeated, or their mean."""
    if len(numbers) == channels:
        return tuple(map(float, numbers))
    return (float(np.mean(numbers)),) * channels


def stored_start(folder: RunFolder, preprocess: Preprocess) -> Start | None:
    """How the run in ``folder`` started; None if it started from nothing. RunError if a file of it is damaged."""
    config, data = folder.config(), folder.data()
    record = data.get("start")
    if record is None:
        return None
    if config.train.init_from is None:
        raise RunError(f"{folder.path}: data.json does not match config.json; restore the file that was changed")
    shapes = outline(config.model, data["channels"], len(data["classes"])).state_dict()
    weights = folder.load_start(record, shapes)
    return Start(weights, frozenset(record["taken"] + record["adapted"]), preprocess, record, "")


def stored_preprocess(folder: RunFolder, config: RunConfig, data: dict[str, Any]) -> Preprocess:
    """The preprocessing in ``data``, which is data.json; RunError unless it is for the network of ``config``."""
    settings, side = data["preprocess"], config.model.input_side
    mean, std = (tuple(map(float, settings[name])) for name in ("mean", "std"))
    if settings["image_size"] != config.model.image_size or settings.get("crop", side) not in (None, side):
        raise RunError(
            f"{folder.path / 'data.json'} is damaged: its image_size or crop is not that of config.json; train again"
        )
    return Preprocess(config.model.image_size, mean, std, side)
