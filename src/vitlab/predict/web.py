"""A network as the page reads and saves it: config.json and model.safetensors in a folder, from "Download" on the page
or from models/ID/ of an exported one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vitlab import files
from vitlab.config import ModelConfig, RunConfig
from vitlab.config.knobs import from_dict
from vitlab.data.drawn import DARK, LIGHT
from vitlab.errors import ConfigError, RunError
from vitlab.machine import private_randomness, use_available_threads
from vitlab.model import Network, build_model
from vitlab.model.outline import outline
from vitlab.runs.folder import MOST, MOST_CLASSES, PREPROCESS, RunFolder
from vitlab.training.novelty import Novelty, trait_count
from vitlab.training.preprocess import Preprocess

FORMAT = 1
AGAIN = "download or export it again"
FACTS: dict[str, Any] = {
    **{"format": int, "name": str, "model": dict[str, Any], "channels": int, "classes": list[str]},
    **{"preprocess": dict[str, Any], "drawing": str | None, "background": int | None, "data": str | None},
    **{"sha256": str | None, "novelty": dict[str, Any] | None},
}


@dataclass(frozen=True, eq=False)
class WebNetwork:
    """What such a folder holds; ``facts`` is config.json, ``digest`` the SHA-256 of model.safetensors."""

    facts: dict[str, Any]
    config: RunConfig
    model: Network
    preprocess: Preprocess
    digest: str
    bounds: Novelty | None


def is_web_network(path: Path) -> bool:
    """Whether ``path`` holds such a network and no run."""
    config = path / "config.json"
    if not files.exists(config) or files.exists(path / "data.json") or not files.exists(path / "model.safetensors"):
        return False
    facts = files.read_json(config, MOST["config.json"], AGAIN)
    return isinstance(facts, dict) and {"format", "preprocess", "classes"} <= facts.keys()


def open_web_network(path: Path) -> WebNetwork:
    """The network in the folder ``path``; RunError if a file is damaged or does not fit the other."""
    place = path / "config.json"
    facts = files.check_table(place, files.read_json(place, MOST["config.json"], AGAIN), FACTS, AGAIN)
    if facts["format"] != FORMAT:
        raise RunError(f"{place} is from another version of vitlab; use that version")
    channels, classes = facts["channels"], len(facts["classes"])
    if channels not in (1, 3) or not 2 <= classes <= MOST_CLASSES or facts["drawing"] not in (None, LIGHT, DARK):
        raise RunError(f"{place} is damaged: {channels} channels and {classes} classes are impossible; {AGAIN}")
    try:
        config = replace(RunConfig(), model=from_dict(ModelConfig, facts["model"]))
    except ConfigError as error:
        raise RunError(f"{place} is damaged: {error}; {AGAIN}") from error
    preprocess = preprocess_in(place, facts, config)
    shapes = outline(config.model, channels, classes).state_dict()
    weights, digest = RunFolder(path).read_weights(facts["sha256"], shapes, AGAIN)
    use_available_threads()
    with private_randomness(torch.device("cpu")):
        model = build_model(config.model, channels, classes)
    model.load_state_dict(weights)
    sha256 = (facts["novelty"] or {}).get("sha256")
    bounds = RunFolder(path).load_novelty(sha256, trait_count(model, channels))
    return WebNetwork(facts, config, model.eval(), preprocess, digest, bounds)


def preprocess_in(place: Path, facts: dict[str, Any], config: RunConfig) -> Preprocess:
    """The preprocessing in config.json; RunError unless it is for the network there."""
    settings = files.check_table(place, facts["preprocess"], PREPROCESS, AGAIN, "preprocess: ")
    mean, std = (tuple(map(float, settings[name])) for name in ("mean", "std"))
    side = config.model.input_side
    fits = settings["image_size"] == config.model.image_size and settings.get("crop") in (None, side)
    if not fits or not len(mean) == len(std) == facts["channels"] or min(std) <= 0:
        raise RunError(f"{place} is damaged: its preprocessing is not that of its network; {AGAIN}")
    return Preprocess(config.model.image_size, mean, std, side)
