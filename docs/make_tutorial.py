"""Make the pictures of docs/learn/ (but for patch-cost.png, see make_exercises.py): `python -m docs.make_tutorial`.

Trains seven small networks first: six on digits and one on MNIST, for three epochs.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL.Image
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from vitlab import ViT, load_dataset, preset_config, train_run
from vitlab.data import Dataset
from vitlab.look import style
from vitlab.look.attention import busiest_patch, query_attention, relative, tinted
from vitlab.look.images import shade_uncovered
from vitlab.look.inside import position_similarity
from vitlab.look.run import Subject, open_run, shown_images
from vitlab.look.style import BLUE, GREEN, GREY, INK, LOOKED, ORANGE, PALE, RED, Floats, Pixels
from vitlab.training.augment import augment
from vitlab.training.evaluate import evaluating

PICTURES = Path(__file__).parent / "learn" / "pictures"
WIDTH = 4.7  # inches: small letters stay readable on a phone
COLOURS = 128
RATES = {"0.00001: too small": 1e-5, "0.001: right": 1e-3, "0.1: too large": 1e-1}


def main() -> None:
    """Train and draw everything."""
    PICTURES.mkdir(exist_ok=True)
    mnist = load_dataset("mnist")
    keep("digits", draw_digits(mnist))
    keep("patches", draw_cut(first(mnist, 4), 28, 7))
    keep("cut-edges", draw_cut(first(mnist, 4), 32, 6))
    keep("path", draw_path(first(mnist, 4)))
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        keep("learning-rates", draw_rates({name: losses(runs, rate) for name, rate in RATES.items()}))
        curves = {name: overfitting(runs, name, on) for name, on in (("without", False), ("with", True))}
        keep("augmentation", draw_augmentation(first(mnist, 4), curves))
        subject = trained(runs)
        keep("attention", draw_attention(subject))
        keep("positions", draw_positions(subject))


def first(dataset: Dataset, digit: int) -> Pixels:
    """The first training image of a class, [28, 28, 1]."""
    image: Pixels = dataset.train.images[int((dataset.train.labels == digit).argmax())]
    return image


def keep(name: str, figure: Figure) -> None:
    """Write the figure as a small file."""
    with PIL.Image.open(io.BytesIO(style.to_bytes(figure))) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=PIL.Image.Dither.NONE)
    few.save(PICTURES / f"{name}.png", optimize=True)


def history(runs: Path, name: str, **knobs: Any) -> list[dict[str, Any]]:
    """The epochs of a new run of `small` with AdamW on digits."""
    config = preset_config("small").with_knobs(data="digits", optimizer="adamw", batch_size=64, **knobs)
    train_run(config, runs / name)
    return open_run(runs / name, lambda _: None, {}).history


def losses(runs: Path, rate: float) -> list[float]:
    """The training loss of each epoch at a constant learning rate."""
    rows = history(runs, f"rate-{rate}", epochs=20, lr=rate, schedule="constant", warmup_epochs=0, clean_tail=0)
    return [row["train_loss"] for row in rows]


def overfitting(runs: Path, name: str, on: bool) -> tuple[list[float], list[float]]:
    """Accuracy in percent on training and on validation images after each epoch, with or without augmentation."""
    off = {} if on else dict(rotate=0, zoom=0, shift=0, shear=0)
    rows = history(runs, name, epochs=60, lr=1e-3, clean_tail=0, label_smoothing=0, limit_train=200, **off)
    return [100 * row["train_top1"] for row in rows], [100 * row["val_top1"] for row in rows]


def trained(runs: Path) -> Subject:
    """A run of the default network on MNIST, without its shortcuts that know places: position vectors do it alone."""
    train_run(preset_config("small").with_knobs(epochs=3, attn_bias=False, pool="mean"), runs / "mnist")
    return open_run(runs / "mnist", lambda _: None, {})


@style.applied
def draw_digits(dataset: Dataset) -> Figure:
    """Two training images of each class."""
    images, labels = dataset.train.images, dataset.train.labels
    rows = [[images[np.flatnonzero(labels == digit)[number]] for digit in range(10)] for number in range(2)]
    figure, axes = style.subplots(WIDTH, WIDTH * 0.24)
    style.show_pixels(axes, style.mosaic(np.array(rows), 2))
    style.label_mosaic(axes, ["", ""], [str(digit) for digit in range(10)], (28, 28), 2)
    return figure


@style.applied
def draw_cut(image: Pixels, size: int, patch: int) -> Figure:
    """An image, resized, with its numbered patches and what is cut off; under it the patches in a row."""
    whole = resized(image, size)
    grid = size // patch
    figure = style.new_figure(WIDTH, 3.5 + (1.1 if grid > 4 else 0.9))
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=(3.4, 1.2)))
    axes = top.subplots()
    style.show_pixels(axes, whole)
    ends = (-0.5, grid * patch - 0.5)
    for place in np.arange(grid + 1) * patch - 0.5:
        axes.plot([place, place], ends, color=BLUE, linewidth=1.3)
        axes.plot(ends, [place, place], color=BLUE, linewidth=1.3)
    for number in range(grid**2):
        row, column = divmod(number, grid)
        axes.text(column * patch, row * patch, str(number + 1), color=ORANGE, fontsize=8, va="top", ha="left")
    shade_uncovered(axes, size, 0, size, grid * patch)
    axes.set_title(f"{size} x {size} pixels, patches of {patch} x {patch}: {grid**2} tokens", fontsize=10)
    cut = whole[: grid * patch, : grid * patch].reshape(grid, patch, grid, patch, -1).swapaxes(1, 2)
    line = 8 if grid**2 == 16 else 13
    strip = bottom.subplots()
    style.show_pixels(strip, style.mosaic(style.fill_rows(cut.reshape(grid**2, patch, patch, -1), line), 2))
    strip.set_title("the same patches, as a sequence", fontsize=10)
    return figure


def resized(image: Pixels, size: int) -> Pixels:
    """[H, W, 1] -> [size, size, 1] in 0..1, as a network gets it."""
    if len(image) == size:
        return image / np.float32(255)
    batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    changed = torch.nn.functional.interpolate(batch, (size, size), mode="bilinear", align_corners=False)
    return changed[0].permute(1, 2, 0).numpy()


@style.applied
def draw_path(image: Pixels) -> Figure:
    """The way from the image to the answer, from top to bottom."""
    figure = style.new_figure(WIDTH, 7.4)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 10), ylim=(16.2, 0))
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.imshow(style.as_colour(image), extent=(0.2, 2.4, 2.3, 0.1), interpolation="nearest")
    words(axes, 2.9, 1.2, "1  image", "28 x 28 pixels")
    patches = image.reshape(4, 7, 4, 7).swapaxes(1, 2)
    for place, (row, column) in enumerate([(0, 1), (1, 0), (1, 2), (2, 2), (3, 2)]):
        left = 0.2 + place * 0.95
        axes.imshow(patches[row, column], extent=(left, left + 0.75, 4.15, 3.4), cmap="gray", vmin=0, vmax=255)
        arrow(axes, left + 0.37, 4.2, 4.75)
        bars(axes, left + 0.2, 4.8, patches[row, column])
        arrow(axes, left + 0.37, 6.5, 7.0)
    arrow(axes, 1.3, 2.45, 3.3)
    words(axes, 5.2, 3.78, "2  patches", "7 x 7 = 49 numbers each")
    words(axes, 5.2, 5.6, "3  tokens", "one vector for each patch:\nprojection + position")
    box(axes, 0.1, 7.05, 4.75, 3.4, PALE)
    box(axes, 0.45, 7.35, 4.05, 1.1, "#cfe3f2", "attention")
    box(axes, 0.45, 9.05, 4.05, 1.1, "#cdeadd", "MLP")
    arrow(axes, 2.47, 8.5, 9.0)
    words(axes, 5.2, 7.9, "4  attention", "tokens look at each other")
    words(axes, 5.2, 9.6, "5  MLP", "each token by itself;\n4 and 5 are a block: repeat it")
    for place in range(5):
        arrow(axes, 0.57 + 0.95 * place, 10.5, 11.2, 2.47)
    box(axes, 1.4, 11.25, 2.15, 0.75, "#fbe6c2", "one vector")
    words(axes, 5.2, 11.62, "6  norm and pooling", "all tokens become one vector")
    arrow(axes, 2.47, 12.05, 12.65)
    for digit, share in enumerate([1, 1, 1, 1, 20, 1, 1, 1, 1, 3]):
        left = 0.2 + digit * 0.47
        axes.add_patch(Rectangle((left, 15.0 - share * 0.1), 0.36, share * 0.1, color=RED if digit == 4 else GREY))
        axes.text(left + 0.18, 15.15, str(digit), fontsize=9, ha="center", va="top", color=INK)
    words(axes, 5.2, 14.3, "7  head", "a probability for each class:\n\u201cit is a 4\u201d")
    return figure


def words(axes: Axes, x: float, y: float, title: str, text: str) -> None:
    """A heading and a sentence below it; y is between them."""
    axes.text(x, y - 0.08, title, fontsize=10.5, fontweight="bold", color=BLUE, va="bottom")
    axes.text(x, y + 0.08, text, fontsize=9, color=INK, va="top")


def arrow(axes: Axes, x: float, top: float, bottom: float, to: float | None = None) -> None:
    """An arrow down."""
    ends = ((x, top), (x if to is None else to, bottom))
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=9, color=GREY, linewidth=1))


def box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, text: str = "") -> None:
    """A rounded box with its name."""
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.18", facecolor=colour)
    shape.set_edgecolor(GREY)
    axes.add_patch(shape)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10, color=INK)


def bars(axes: Axes, x: float, y: float, patch: Pixels) -> None:
    """A vector as a column of seven tinted cells: the sums of a patch's rows."""
    shares = patch.sum(axis=1) / max(1.0, float(patch.sum(axis=1).max()))
    for number, share in enumerate(shares):
        tint = (1 - 0.75 * share, 1 - 0.5 * share, 1.0)
        axes.add_patch(Rectangle((x, y + number * 0.24), 0.34, 0.22, facecolor=tint, edgecolor=GREY, linewidth=0.5))


@style.applied
def draw_rates(curves: dict[str, list[float]]) -> Figure:
    """The training loss by epoch of several learning rates."""
    figure, axes = style.subplots(WIDTH, 2.9)
    for (name, values), colour, dash in zip(curves.items(), (GREY, BLUE, RED), (":", "-", "--"), strict=True):
        axes.plot(range(1, len(values) + 1), values, dash, color=colour, linewidth=2, label=name)
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log", ylim=(0.4, 400), xticks=range(0, 21, 5))
    axes.set_yticks([0.5, 1, 2, 5, 10, 20, 50, 100], ["0.5", "1", "2", "5", "10", "20", "50", "100"])
    axes.set_title("the same network at three learning rates")
    axes.legend(loc="upper right")
    axes.grid(axis="y")
    return figure


@style.applied
def draw_augmentation(image: Pixels, curves: dict[str, tuple[list[float], list[float]]]) -> Figure:
    """An image and random versions of it; accuracy on training and on new images, without and with augmentation."""
    figure = style.new_figure(WIDTH, 4.3)
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=(1.5, 2.8)))
    batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    strengths, random = preset_config("small").augment, torch.Generator().manual_seed(4)
    changed = augment(batch.repeat(15, 1, 1, 1), strengths, random)
    shown = torch.cat([batch, changed]).permute(0, 2, 3, 1).clamp(0, 1).numpy()
    axes = top.subplots()
    style.show_pixels(axes, style.mosaic(style.fill_rows(shown, 8), 2))
    axes.add_patch(Rectangle((-0.5, -0.5), 28, 28, fill=False, edgecolor=ORANGE, linewidth=2.5))
    axes.set_title("one 4 (framed) and 15 random versions of it")
    for axes, (name, (train, val)) in zip(bottom.subplots(1, 2, sharey=True), curves.items(), strict=True):
        epochs = range(1, len(train) + 1)
        axes.plot(epochs, train, color=GREEN, label="training images")
        axes.plot(epochs, val, "--", color=BLUE, label="new images")
        axes.set(title=f"{name} augmentation", xlabel="epoch", ylim=(60, 101))
        axes.grid(axis="y")
    bottom.axes[0].set_ylabel("accuracy in %")
    bottom.axes[0].legend(loc="lower right")
    return figure


@style.applied
def draw_attention(subject: Subject) -> Figure:
    """For one test image: where the framed patch looks, in each head of each block."""
    number = shown_images(subject, None)[0]
    image, squares = subject.visible([number])[0], subject.network.squares
    query = busiest_patch(image, squares)
    with evaluating(subject.model):
        weights = cast(ViT, subject.model).forward_with_attention(subject.inputs([number]))[1][:, 0].float().cpu()
    maps = relative(query_attention(weights, query, False)).reshape(-1, squares.grid, squares.grid)
    names = [f"block {block}, head {head}" for block in (1, 2) for head in (1, 2)]
    figure, axes = style.subplots(WIDTH, 3.4, 2, 3)
    panels = [axes[0, 1], axes[0, 2], axes[1, 1], axes[1, 2]]
    norm = style.attention_norm()
    style.show_pixels(axes[0, 0], image)
    axes[0, 0].set_title("the image", fontsize=9)
    axes[1, 0].set_axis_off()
    key = "framed: the patch\nthat looks\n\nwhite: an even share\nred: more, blue: less"
    axes[1, 0].text(0, 0.5, key, fontsize=9, va="center", color=INK)
    for place, one, name in zip(panels, maps, names, strict=True):
        style.show_pixels(place, tinted(one, squares, len(image), norm, LOOKED))
        style.outline(place, image)
        place.set_title(name, fontsize=9)
    for place in (axes[0, 0], *panels):
        frame(place, query, squares.grid, squares.side)
    return figure


def frame(axes: Axes, patch: int, grid: int, side: int) -> None:
    """A frame around a patch."""
    row, column = divmod(patch, grid)
    corner = (column * side - 0.5, row * side - 0.5)
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=BLUE, linewidth=2))


@style.applied
def draw_positions(subject: Subject) -> Figure:
    """For three patches: how similar their position vectors are to those of all patches."""
    grid = subject.network.squares.grid
    pos = cast(torch.Tensor, cast(ViT, subject.model).pos_embed)
    similarity: Floats = position_similarity(pos.cpu(), False).numpy().reshape(-1, grid, grid)
    figure, axes = style.subplots(WIDTH, 1.95, 1, 3)
    for place, patch in zip(axes, (8, 24, 33), strict=True):
        shown = place.imshow(similarity[patch], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        frame(place, patch, grid, 1)
        place.set_title(f"patch {patch + 1}", fontsize=9)
        place.set_xticks([])
        place.set_yticks([])
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_ticks([-1, 0, 1], labels=["opposite", "unrelated", "the same"])
    bar.outline.set_visible(False)
    return figure


if __name__ == "__main__":
    main()
