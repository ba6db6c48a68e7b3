"""The data: examples of each class, an image cut into patches, random versions of an image.

Letters in names: N images, K classes, S side in pixels, C channels, s side of a patch with its overlap.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitlab.config import AugmentConfig, ModelConfig, RunConfig
from vitlab.config.presets import preset_config
from vitlab.data import Dataset
from vitlab.look import style
from vitlab.look.report import Missing, Picture, Section
from vitlab.look.run import Subject, evenly, visible
from vitlab.look.style import BLUE, GREY, INK, ORANGE, WIDTH, Floats, Pixels, short
from vitlab.machine import generator_on
from vitlab.model import Squares
from vitlab.model.patches import patchify
from vitlab.text import counted, listed, with_article
from vitlab.training.augment import augment, is_active
from vitlab.training.mixing import mix, mixes
from vitlab.training.preprocess import Preprocess

ROWS = 12  # classes up to which each has its own row
COLUMNS = 10
TITLE_WIDTH = 88  # characters per line above the random versions
LONGEST_LINE = 20  # patches
NUMBERED = 100  # patches up to which each shows its number
VERSIONS = 24
MIXED = 16  # mixed images shown
# Two networks of the seed page: name of the picture, preset, digit.
SEED_PICTURES = (("patches-seed-32x6", "seed-32x6", 4), ("patches-seed-28x14", "seed-best", 6))
DATA_PRESET = "small"  # whose augmentation is shown for a data set without a run


@style.applied
def draw_examples(images_NSSC: Pixels, labels_N: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """The first ten images of each class, one row per class; with more than twelve classes the first image of each."""
    if len(classes) > ROWS:
        return _draw_one_each(images_NSSC, labels_N, classes)
    rows, names = [], []
    for number, name in enumerate(classes):
        own = images_NSSC[labels_N == number][:COLUMNS]
        if len(own):
            rows.append(style.fill_rows(own, COLUMNS)[0])
            names.append(f"{short(name)}  ({(labels_N == number).sum():,})")
    gap = max(1, images_NSSC.shape[1] // 12)
    figure, axes = style.subplots(WIDTH, 0.91 * WIDTH * len(rows) / COLUMNS)
    style.show_pixels(axes, style.mosaic(np.stack(rows), gap))
    style.label_mosaic(axes, names, (), images_NSSC.shape[1:3], gap)
    return figure


def _draw_one_each(images_NSSC: Pixels, labels_N: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    firsts = [np.flatnonzero(labels_N == number)[:1] for number in range(len(classes))]
    names = [short(name, 11) for name, first in zip(classes, firsts, strict=True) if len(first)]
    height, width = images_NSSC.shape[1:3]
    gap = max(2, math.ceil(height * 0.35))
    grid = style.fill_rows(images_NSSC[np.concatenate(firsts)], COLUMNS)
    figure, axes = style.subplots(WIDTH, WIDTH * len(grid) / COLUMNS)
    style.show_pixels(axes, style.mosaic(grid, gap))
    for number, name in enumerate(names):
        row, column = divmod(number, COLUMNS)
        x, y = column * (width + gap) + width / 2, row * (height + gap) + height
        axes.text(x, y, name, ha="center", va="top", fontsize=7)
    return figure


@style.applied
def draw_patches(
    original: Pixels, resized: Pixels, tokens_NssC: Pixels, squares: Squares, overlap: int = 0, inner: int | None = None
) -> Figure:
    """An image [H, W, C], resized to [S, S, C] and cut into ``squares``, and the N patches in reading order, as the
    network receives them: with ``overlap`` more pixels on each side. What no patch covers is shaded: grey where a crop
    to ``inner`` pixels (default: no crop) removes it, orange where it fills no patch at the right and bottom."""
    size, (grid, side, first) = resized.shape[0], squares
    lines = math.ceil(grid / max(1, LONGEST_LINE // grid))
    columns = grid * math.ceil(grid / lines)  # whole rows of the grid
    cell = min(1.9, (WIDTH - 0.1) / columns)  # inches of a patch with its gap
    strip = 0.32 + lines * cell
    figure = style.new_figure(WIDTH, 3.4 + strip)
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=(3.4, strip)))
    left, right = top.subplots(1, 2)
    style.show_pixels(left, original)
    height, width = original.shape[:2]
    left.set_title(f"the image: {height} x {width} pixels")
    style.show_pixels(right, resized)
    resizing = "" if (height, width) == (size, size) else f"resized to {size} x {size}, "
    right.set_title(f"{resizing}cut into {grid} x {grid} patches of {side} x {side}")
    ends = (first - 0.5, first + grid * side - 0.5)
    for place in np.arange(grid + 1) * side + first - 0.5:
        right.plot([place, place], ends, color=BLUE, linewidth=1.1)
        right.plot(ends, [place, place], color=BLUE, linewidth=1.1)
    shade_uncovered(right, size, first, size if inner is None else inner, grid * side)
    if overlap:  # what the patch in the middle covers
        corner = first + (grid // 2) * side - overlap - 0.5
        whole = side + 2 * overlap
        right.add_patch(Rectangle((corner, corner), whole, whole, fill=False, edgecolor=ORANGE, linewidth=2.0))
    draw_tokens(bottom.add_subplot(), tokens_NssC, columns, side, overlap)
    return figure


def shade_uncovered(axes: Axes, size: int, first: int, inner: int, covered: int) -> None:
    """Shade what a crop removes, grey, and what is cut off at the right and bottom, orange."""
    shade = np.full((size, size, 4), to_rgba(GREY, 0.7))
    shade[first : first + inner, first : first + inner] = to_rgba(ORANGE, 0.7)
    shade[first : first + covered, first : first + covered] = 0.0
    axes.imshow(shade, interpolation="nearest")
    words: dict[str, Any] = {"color": INK, "fontsize": 8, "va": "top"}
    if inner > covered:
        axes.text(first - 0.5, size - 0.2, f"cut off: {counted(inner - covered, 'pixel')}", ha="left", **words)
    if size > inner:
        axes.text(size - 0.5, size - 0.2, "cropped away", ha="right", **words)


def draw_tokens(axes: Axes, tokens_NssC: Pixels, columns: int, side: int, overlap: int) -> None:
    """The patches in reading order with their numbers; with overlap, a frame around each patch's own pixels."""
    count, whole = tokens_NssC.shape[:2]
    gap = max(1, math.ceil(whole * (0.32 if count <= NUMBERED else 0.1)))
    rows = style.fill_rows(tokens_NssC, columns)
    style.show_pixels(axes, style.mosaic(rows, gap))
    y, x = style.centres(len(rows), whole, gap), style.centres(columns, whole, gap)
    for number in range(count):
        row, column = divmod(number, columns)
        if count <= NUMBERED:
            place = (x[column], y[row] + whole / 2 + gap * 0.05)
            axes.text(*place, str(number + 1), ha="center", va="top", fontsize=7, color=INK)
        corner = (x[column] - whole / 2, y[row] - whole / 2)
        axes.add_patch(Rectangle(corner, whole, whole, fill=False, edgecolor=BLUE, linewidth=0.8))
        if overlap:
            own = (corner[0] + overlap, corner[1] + overlap)
            axes.add_patch(Rectangle(own, side, side, fill=False, edgecolor=ORANGE, linewidth=0.7))
    axes.set_ylim(y[-1] + whole / 2 + (gap if count <= NUMBERED else 0), -0.5 - gap * 0.1)
    shared = f": {whole} x {whole} pixels each, {overlap} of them shared on every side" if overlap else ""
    axes.set_title(f"{counted(count, 'token')} in reading order{shared}")


@style.applied
def draw_augmentation(original: Pixels, versions_NSSC: Floats, strengths: Sequence[str]) -> Figure:
    """An image [S, S, C] and random versions of it, with the strengths of the changes in words."""
    rows = style.fill_rows(versions_NSSC, VERSIONS // 3)
    wide = WIDTH - 2.1
    height = 0.26 + wide * len(rows) / rows.shape[1]
    figure, (left, right) = style.subplots(WIDTH, height, 1, 2, width_ratios=(2.0, wide))
    style.show_pixels(left, original)
    left.set_title("original")
    style.show_pixels(right, style.mosaic(rows, max(1, original.shape[0] // 14)))
    words = f"random versions: {', '.join(strengths)}" if strengths else "no augmentation"
    right.set_title(textwrap.fill(words, TITLE_WIDTH))
    return figure


def section(subject: Subject, numbers: list[int]) -> Section:
    """Examples of the training images; the first of ``numbers`` cut into patches, and as augmentation changes it."""
    model, first = subject.config.model, numbers[0]
    image = subject.images.images[first].cpu().numpy()
    name = with_article(subject.classes[int(subject.images.labels[first])], "A")
    cut: Picture | Missing
    if why_not := subject.network.missing.get("patches"):
        cut = Missing("Patches", why_not)
    else:
        cut = patches_picture(image, model, "patches", "Patches", f"{name} ({subject.part} image {first:,})")
    changed: Picture | Missing = Missing("Augmentation", "this run did not augment its training images")
    if is_active(subject.config.augment):
        drawn = drawn_sentence(subject.config, subject.result["train_images"], subject.result["steps"])
        changed = augmentation_picture(image, model.image_size, subject.config.augment, drawn)
    mixed = [mixing_picture(subject)] if mixes(subject.config.augment) and len(subject.images) > 1 else []
    return Section("Data", [examples_picture(subject.dataset), cut, changed, *mixed])


def data_section(dataset: Dataset) -> Section:
    """A data set without a run: examples, the seed page's two cuts, the augmentation of the default preset (mirrored
    only where the data allow it)."""
    images, labels, classes = dataset.train.images, dataset.train.labels, dataset.card.classes
    parts: list[Picture | Missing] = [examples_picture(dataset)]
    shown = []
    for name, preset, digit in SEED_PICTURES:
        label = min(digit, len(classes) - 1)
        shown.append(images[int((labels == label).argmax())])
        config = preset_config(preset).model
        size = f"{config.image_size} x {config.image_size}"
        title = f"{with_article(classes[label], 'A')} at {size}, patches of {config.patch_size}"
        what = f"The first {classes[label]} among the training images"
        parts.append(patches_picture(shown[-1], config, name, title, what))
    strengths = replace(preset_config(DATA_PRESET).augment, flip=dataset.card.may_flip)
    source = f"These are the strengths of the preset {DATA_PRESET}."
    parts.append(augmentation_picture(shown[0], max(dataset.card.height, dataset.card.width), strengths, source))
    return Section("Data", parts)


def examples_picture(dataset: Dataset) -> Picture:
    """The first training images of each class."""
    train, classes = dataset.train, dataset.card.classes
    sizes = np.bincount(train.labels, minlength=len(classes))
    most, least = int(sizes.argmax()), int(sizes.argmin())
    shown = "one row per class, with its number of images in brackets" if len(classes) <= ROWS else "one image of each"
    text = f"{counted(len(train), 'training image')} in {counted(len(classes), 'class')}: {shown}. "
    largest, ratio = f"The largest class is {classes[most]} with {sizes[most]:,}", sizes[most] / max(sizes[least], 1)
    if sizes[most] == sizes[least]:
        text += f"Every class has {sizes[most]:,}."
    elif sizes[least]:
        text += f"{largest}, the smallest {classes[least]} with {sizes[least]:,}: a ratio of {ratio:.2f}."
    else:
        text += f"{largest}; {classes[least]} has none."
    alt = f"A grid of example images, the first of each of {len(classes)} classes"
    return Picture("examples", "Examples", draw_examples(train.images, train.labels, classes), alt, text)


def patches_picture(image: npt.NDArray[np.uint8], config: ModelConfig, file: str, title: str, what: str) -> Picture:
    """One stored image [H, W, C], resized and cut as a ViT of ``config`` does it. ``what`` names the image."""
    side, overlap, grid, batch = config.patch_size, config.patch_overlap, config.grid, torch.from_numpy(image)[None]
    resized = visible(batch, Preprocess(config.image_size, (), ()))[0]
    cropped = visible(batch, Preprocess(config.image_size, (), (), config.input_side))
    cut = patchify(torch.from_numpy(cropped).permute(0, 3, 1, 2), side, overlap, config.margin)[0]
    tokens = cut.view(-1, side + 2 * overlap, side + 2 * overlap, image.shape[-1]).numpy()
    squares = Squares(grid, side, config.margin + (config.image_size - config.input_side) // 2)  # before the crop
    figure = draw_patches(image, resized, tokens, squares, overlap, config.inner_side)
    text = (
        f"{what}, cut into {grid} x {grid} patches of {side} x {side} pixels: the network reads "
        f"{counted(grid**2, 'token')} of {counted(cut.shape[-1], 'number')} each. {edge_sentence(config)}"
    )
    alt = f"An image, the same image with a grid of {grid} by {grid} patches, and the patches one after the other"
    return Picture(file, title, figure, alt, text)


def edge_sentence(config: ModelConfig) -> str:
    """What of the image no patch covers, and what patches share."""
    inner, covered, overlap = config.inner_side, config.grid * config.patch_size, config.patch_overlap
    said = []
    if inner < config.image_size:
        said.append(f"only the central {inner} x {inner} pixels are used (the grey frame is cropped away)")
    if covered < inner:
        edge = f"the orange edge ({inner - covered} of {inner} pixels at the right and at the bottom) fills no patch"
        said.append(f"{edge}: {100 * (1 - (covered / inner) ** 2):.1f} % of the area is lost")
    if overlap:
        side = config.patch_size + 2 * overlap
        said.append(f"each patch also sees {overlap} pixels of its neighbours on every side ({side} x {side})")
    text = listed(said) or "the patches cover every pixel once"
    return f"{text[0].upper()}{text[1:]}."


def augmentation_picture(image: npt.NDArray[np.uint8], image_size: int, config: AugmentConfig, text: str) -> Picture:
    """Random versions of one stored image [H, W, C], made by `vitlab.training.augment`; ``text`` follows."""
    resize, generator = Preprocess(image_size, (), ()), generator_on(torch.device("cpu"), 0, "look")
    batch = torch.from_numpy(image)[None].expand(VERSIONS, -1, -1, -1)
    versions = visible(batch, resize, lambda images: augment(images, config, generator))
    words = strengths(config)
    figure = draw_augmentation(visible(batch[:1], resize)[0], versions, words)
    alt = f"One image and {VERSIONS} random versions of it"
    sentence = f"The original on the left, and {VERSIONS} random versions with {listed(words)}. {text}"
    return Picture("augmentation", "Augmentation", figure, alt, sentence)


def mixing_picture(subject: Subject) -> Picture:
    """Images as training mixes them, with the share of each of the two."""
    chosen = evenly(len(subject.images), MIXED)
    config, generator = subject.config.augment, generator_on(torch.device("cpu"), 0, "look")
    parts: list[torch.Tensor] = []

    def mixed(images: torch.Tensor) -> torch.Tensor:
        images, share = mix(images, config, generator)
        parts.append(share)
        return images

    shown = visible(subject.images.images[chosen].cpu(), replace(subject.preprocess, crop=None), mixed)
    names = [short(subject.classes[int(label)], 7) for label in subject.images.labels[chosen]]
    pairs = zip(names, [*names[1:], names[0]], parts[0].tolist(), strict=True)
    captions = [f"{100 * share:.0f} % {name}\n{100 * (1 - share):.0f} % {other}" for name, other, share in pairs]
    kinds = [
        f"{name} (alpha {alpha:g})" for name, alpha in (("mixup", config.mixup), ("CutMix", config.cutmix)) if alpha
    ]
    text = (
        f"{listed(kinds)[0].upper()}{listed(kinds)[1:]}: each training image takes in a part of another one, and the "
        f"network must give both classes in these shares. The images are the {subject.part}'s."
    )
    alt = f"{counted(len(chosen), 'image')}, each mixed with another one"
    return Picture("mixing", "Mixed images", draw_mixed(shown, captions), alt, text)


@style.applied
def draw_mixed(images_NSSC: Floats, captions: Sequence[str]) -> Figure:
    """Images in rows of eight, with two lines of words under each."""
    height, width = images_NSSC.shape[1:3]
    gap, across = math.ceil(0.55 * height), max(2, width // 5)
    rows = style.fill_rows(images_NSSC, MIXED // 2)
    tall = WIDTH * (len(rows) * (height + gap)) / (MIXED // 2 * (width + across))
    figure, axes = style.subplots(WIDTH, tall)
    style.show_pixels(axes, style.mosaic(rows, gap, across))
    bottom = len(rows) * (height + gap) - 0.5
    axes.set_ylim(bottom, -0.5)
    for number, caption in enumerate(captions):
        row, column = divmod(number, MIXED // 2)
        x, y = column * (width + across) + width / 2, row * (height + gap) + height + 0.5
        axes.text(x, y, caption, ha="center", va="top", fontsize=8, color=INK)
    return figure


def strengths(config: AugmentConfig) -> list[str]:
    """The changes that are on, in words."""
    words: list[tuple[float, str]] = [
        (config.rotate, f"rotation to ±{config.rotate:g}°"),
        (config.zoom, f"zoom to ±{100 * config.zoom:g} %"),
        (config.shift, f"shift to ±{config.shift:g} px"),
        (config.shear, f"shear to ±{config.shear:g}°"),
        (config.elastic, f"elastic deformation to ±{config.elastic:g} px"),
        (config.flip, "mirroring"),
        (config.brightness, f"brightness to ±{100 * config.brightness:g} %"),
        (config.contrast, f"contrast to ±{100 * config.contrast:g} %"),
        (config.saturation, f"saturation to ±{100 * config.saturation:g} %"),
        (config.erase, f"erasing of {100 * config.erase:g} %"),
    ]
    return [text for on, text in words if on]


def drawn_sentence(config: RunConfig, train_images: int, steps: int) -> str:
    """In how many of the ``steps`` training augmented its images, as `vitlab.training.step.Task.augments` decides."""
    planned = max(1, round(config.train.epochs * math.ceil(train_images / config.train.batch_size)))
    changed = min(steps, math.ceil(planned * (1.0 - config.augment.clean_tail)))
    start = "Training drew a new version of every image in"
    if changed == steps:
        return f"{start} all its {counted(steps, 'step')}."
    rest = counted(steps - changed, "step")
    return f"{start} its first {counted(changed, 'step')}; the last {rest} used unchanged ones."
