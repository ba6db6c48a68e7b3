"""Models for tests of the page: networks with random weights, in the folders that the page expects.

Equal numbers are as hard to reach with random weights as with trained ones, and no training is needed for any knob.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from vitlab import Preprocess, RunConfig, RunFolder, Split, build_model
from vitlab.config import ModelConfig
from vitlab.export.bundle import bundled
from vitlab.export.web import bundle, page_files
from vitlab.predict import Classifier
from vitlab.runs.result import Result
from vitlab.training.novelty import calibrated, traits_of

NOISE = 0.1  # standard deviation of what is added to every weight: some layers are zero before training


def untrained(
    path: Path, config: ModelConfig, channels: int = 1, classes: int = 10, drawing: str | None = None
) -> Classifier:
    """A network as a finished run would leave it in ``path``, its weights random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(path.name))
        model = build_model(config, channels, classes).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape), alpha=NOISE)
    path.mkdir(parents=True)
    digest = RunFolder(path).save_weights(model.state_dict())
    mean, std = (0.13, 0.19, 0.23)[:channels], (0.31, 0.29, 0.37)[:channels]
    return Classifier(
        name=path.name,
        model=model,
        preprocess=Preprocess(config.image_size, mean, std, config.input_side),
        classes=tuple(map(str, range(classes))),
        channels=channels,
        config=replace(RunConfig(), model=config),
        drawing=drawing,
        result=Result("done", test_top1=0.5, test_top1_interval=(0.4, 0.6), test_images=97, train_seconds=1.0),
        digest=digest,
        path=path,
        data_name="mnist",
    )


def with_bounds(classifier: Classifier, images: Split) -> Classifier:
    """The same classifier as if ``images`` had been its training images."""
    pixels, labels = torch.from_numpy(images.images), torch.from_numpy(images.labels) % 3
    found = traits_of(classifier.model, pixels, classifier.preprocess, 13)
    bounds = calibrated(found, labels, found[::2], "training")
    digest = RunFolder(classifier.path).save_novelty(bounds)
    return replace(classifier, bounds=bounds, result=replace(classifier.result, novelty_sha256=digest))


def random_images(count: int, side: int, channels: int = 1, seed: int = 0) -> Split:
    """Blocks and noise in all shades; labels 0 to 9 in turn, the order that a bundle keeps."""
    draw = np.random.default_rng(seed)
    coarse = draw.random((count, -(-side // 4), -(-side // 4), channels)).repeat(4, axis=1).repeat(4, axis=2)
    images = 190 * coarse[:, :side, :side] + 65 * draw.random((count, side, side, channels))
    return Split(images.astype(np.uint8), np.arange(count) % 10)


def page_folder(path: Path, models: Mapping[str, tuple[Classifier, Split | None]]) -> Path:
    """The page with these models as it is delivered; beside it its modules, and an empty page, engine.html, to run them
    in."""
    with resources.as_file(resources.files("vitlab") / "page") as page:
        shutil.copytree(page, path)
    for file, data in bundled(page_files()).items():
        (path / file).write_bytes(data)
    for name, (classifier, examples) in models.items():
        folder = path / "models" / name
        folder.mkdir(parents=True)
        for file, data in bundle(classifier, examples).items():
            (folder / file).write_bytes(data)
    (path / "engine.html").write_text('<!doctype html><link rel="icon" href="data:,"><title>engine</title>')
    return path
