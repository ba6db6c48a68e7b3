"""What the network is given: examples, patches, augmentation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vitlab.config import AugmentConfig, ModelConfig, RunConfig
from vitlab.data import Dataset
from vitlab.machine import generator_on
from vitlab.model.patches import patchify
from vitlab.pictures import images as pictures
from vitlab.pictures.style import with_article
from vitlab.report.gather import Subject
from vitlab.report.parts import Missing, Picture, Section, counted, listed
from vitlab.training.augment import augment, is_active
from vitlab.training.preprocess import Preprocess

VERSIONS = 24


def section(subject: Subject, numbers: list[int]) -> Section:
    """Examples of the training images; one image cut into patches; one as training changes it."""
    model, dataset = subject.config.model, subject.dataset
    image = subject.images.images[numbers[0]].cpu().numpy()
    name = subject.classes[int(subject.images.labels[numbers[0]])]
    cut: Picture | Missing = Missing("Patches", "a convolutional network cuts no patches")
    if subject.is_vit:
        cut = patches(image, model, "patches", f"{with_article(name)}, {subject.part} image no. {numbers[0]:,}")
    changed: Picture | Missing = Missing("Augmentation", "this run showed the training images unchanged")
    if is_active(subject.config.augment):
        text = drawn_sentence(subject.config, subject.result["train_images"], subject.result["steps"])
        changed = augmentation(image, model.image_size, subject.config.augment, text)
    return Section("What it is given", [examples(dataset), cut, changed])


def drawn_sentence(config: RunConfig, train_images: int, steps: int) -> str:
    """In how many of the ``steps`` training drew its changes anew, as `vitlab.training.step.Task.augments` decides."""
    planned = max(1, round(config.train.epochs * math.ceil(train_images / config.train.batch_size)))
    changed = min(steps, math.ceil(planned * (1.0 - config.augment.clean_tail)))
    rest = steps - changed
    text = f"Training drew a version anew for every image of {'its' if rest else 'all its'} "
    if not rest:
        return f"{text}{counted(steps, 'step')}."
    return f"{text}first {counted(changed, 'step')}; the other {rest:,} saw images unchanged."


def examples(dataset: Dataset) -> Picture:
    """The first training images of each class."""
    train, classes = dataset.train, dataset.card.classes
    sizes = np.bincount(train.labels, minlength=len(classes))
    most, least = int(sizes.argmax()), int(sizes.argmin())
    text = f"{counted(len(train), 'training image')} of {counted(len(classes), 'class')}, "
    text += "a row a class with its number of images in brackets. " if len(classes) <= 12 else "one of each. "
    if sizes[most] == sizes[least]:
        text += f"Every class has {sizes[most]:,}."
    else:
        text += f"The largest class is {classes[most]} with {sizes[most]:,}"
        known = f"{sizes[least]:,}: {sizes[most] / max(sizes[least], 1):.2f} times as many"
        text += (
            f", the smallest {classes[least]} with {known}."
            if sizes[least]
            else f"; of {classes[least]} there is none."
        )
    alt = f"A grid of example images, the first of each of {len(classes)} classes"
    return Picture("examples", "Examples", pictures.examples(train.images, train.labels, classes), alt, text)


def patches(image: npt.NDArray[np.uint8], config: ModelConfig, file: str, what: str) -> Picture:
    """One stored image [H, W, C], resized and cut as a ViT of ``config`` does it. ``what`` says which it is."""
    channels = image.shape[-1]
    whole = Preprocess(config.image_size, (0.0,) * channels, (1.0,) * channels)
    batch = torch.from_numpy(image)[None]
    resized = whole(batch)[0].permute(1, 2, 0).numpy()
    inputs = Preprocess(config.image_size, whole.mean, whole.std, config.input_side)(batch)
    cut = patchify(inputs, config.patch_size, config.patch_overlap, config.margin)[0]
    whole_side = config.patch_size + 2 * config.patch_overlap
    tokens = cut.view(-1, whole_side, whole_side, channels).numpy()
    first = (config.image_size - config.input_side) // 2 + config.margin
    geometry = (config.grid, config.patch_size, first, config.patch_overlap, config.inner_side)
    figure = pictures.patches(image, resized, tokens, *geometry)
    grid, count = config.grid, config.grid**2
    text = f"Here is {what}, cut into {grid} x {grid} patches of {config.patch_size} x {config.patch_size} pixels: "
    text += f"the network reads {counted(count, 'token')} of {counted(cut.shape[-1], 'number')} each. "
    text += edge_sentence(config)
    alt = f"An image, the same image with a grid of {grid} by {grid} patches, and the patches one after the other"
    return Picture(file, "Patches", figure, alt, text)


def edge_sentence(config: ModelConfig) -> str:
    """What of the image no patch covers, and what patches share."""
    lost = config.inner_side - config.grid * config.patch_size
    said = []
    if config.inner_side < config.image_size:
        said.append(f"only the centre square of {config.inner_side} pixels is cut (the grey frame is left out)")
    if lost:
        share = 1 - (config.grid * config.patch_size / config.inner_side) ** 2
        said.append(
            f"the orange edge, {lost} of {config.inner_side} pixels at the right and at the bottom, fills no patch: "
            f"{100 * share:.1f} % of the square"
        )
    if config.patch_overlap:
        side = config.patch_size + 2 * config.patch_overlap
        said.append(
            f"each patch also sees {config.patch_overlap} pixels of its neighbours on every side, {side} x {side}"
        )
    if not said:
        return "The patches cover every pixel once."
    text = listed(said)
    return text[0].upper() + text[1:] + "."


def augmentation(
    image: npt.NDArray[np.uint8], image_size: int, config: AugmentConfig, text: str, seed: int = 0
) -> Picture:
    """Random versions of one stored image [H, W, C], made by `vitlab.training.augment` at these strengths."""
    channels = image.shape[-1]
    plain = Preprocess(image_size, (0.0,) * channels, (1.0,) * channels)
    generator = generator_on(torch.device("cpu"), seed, "look")
    batch = torch.from_numpy(image)[None].expand(VERSIONS, -1, -1, -1)
    versions = plain(batch, lambda images: augment(images, config, generator)).permute(0, 2, 3, 1).numpy()
    words = strengths(config)
    figure = pictures.augmentation(plain(batch[:1])[0].permute(1, 2, 0).numpy(), versions, words)
    alt = f"One image and {VERSIONS} random versions of it"
    sentence = f"The image on the left, and {VERSIONS} versions by {listed(words)}. {text}"
    return Picture("augmentation", "Augmentation", figure, alt, sentence)


def strengths(config: AugmentConfig) -> list[str]:
    """The changes that are on, in words."""
    words: list[tuple[Any, str]] = [
        (config.rotate, f"rotation to ±{config.rotate:g}°"),
        (config.zoom, f"zoom to ±{100 * config.zoom:g} %"),
        (config.shift, f"shift to ±{config.shift:g} px"),
        (config.shear, f"slant to ±{config.shear:g}°"),
        (config.elastic, f"bending to ±{config.elastic:g} px"),
        (config.flip, "mirroring"),
        (config.erase, f"erasing of {100 * config.erase:g} %"),
    ]
    return [text for on, text in words if on]
