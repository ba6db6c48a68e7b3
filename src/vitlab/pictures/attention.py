"""Where a ViT looks, and what it needs. The numbers are those of `vitlab.look.attention`.

Letters in names: L blocks, h heads, p patches, N images, S side in pixels, C channels; maps are [grid, grid].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitlab.pictures.style import (
    BLUE,
    GREY,
    INK,
    WIDTH,
    Floats,
    Pixels,
    as_colour,
    centres,
    label_mosaic,
    mosaic,
    new_figure,
    short,
    show_pixels,
    styled,
)

# LOOKED is for attention: white is an even share, blue less, orange and red more; NEEDED for probabilities: red where
# they fall, blue where they rise.
LOOKED = LinearSegmentedColormap.from_list(
    "looked", [(0.0, "#b9cfe4"), (0.5, "#ffffff"), (0.66, "#fdc171"), (0.83, "#ea5a33"), (1.0, "#8f0a0a")]
)
SLIGHT = 0.01  # probability: less than that is no need worth a strong colour
NEEDED = mpl.colormaps["RdBu_r"]


def overlay(image_SSC: Pixels, values: Floats, squares: tuple[int, int], norm: Normalize, cmap: Colormap) -> Floats:
    """The image as ink on paper that is tinted, patch by patch, by ``values`` [grid, grid]: [S, S, 3].

    ``squares`` are the side of a patch and the first pixel; what no patch covers stays white paper.
    """
    side, first = squares
    colours = as_colour(image_SSC)
    light = colours @ np.array([0.299, 0.587, 0.114], np.float32)
    # Never so dark that a tint cannot be told: a bright object fills most of its patches.
    paper = 1 - 0.45 * light if image_SSC.shape[-1] == 1 else 0.5 + 0.5 * light
    tint = np.ones_like(colours)
    shades = cmap(norm(values))[..., :3]
    block = np.kron(shades, np.ones((side, side, 1)))
    end = first + len(values) * side
    tint[first:end, first:end] = block[: len(colours) - first, : len(colours) - first]
    return paper[..., None] * tint


def share_norm(maps: Floats) -> Normalize:
    """From 0 by the even share, 1, to the largest of the maps, at least 2, so that an even map looks pale."""
    return TwoSlopeNorm(1.0, 0.0, max(2.0, float(np.nan_to_num(maps).max())))


@styled
def attention_heads(
    image_SSC: Pixels, pooled_Lhgg: Floats, query_Lhgg: Floats, query: int, squares: tuple[int, int]
) -> Figure:
    """Each block (row) and head (column): how much the pooled vector looks at each patch, and how much patch number
    ``query`` does. Maps are in multiples of an even share, 1 where all patches get the same; the last column of each
    half is the mean over heads."""
    depth, heads, grid = pooled_Lhgg.shape[:3]
    blocks = [f"block {number + 1}" for number in range(depth)]
    names = [*(f"head {number + 1}" for number in range(heads)), "mean"] if heads > 1 else ["head"]
    cell = min(1.9, 6.2 / (2 * len(names)))
    figure = new_figure(WIDTH, 0.5 + 1.03 * cell * depth)
    axes = figure.subplots(1, 2)
    norm = share_norm(np.concatenate([pooled_Lhgg, query_Lhgg]))
    gap = max(1, len(image_SSC) // 14)
    for place, maps in zip(axes, (pooled_Lhgg, query_Lhgg), strict=True):
        every = np.concatenate([maps, maps.mean(axis=1, keepdims=True)], axis=1) if heads > 1 else maps
        cells = [[overlay(image_SSC, one, squares, norm, LOOKED) for one in row] for row in every]
        show_pixels(place, mosaic(np.array(cells), gap))
        label_mosaic(place, blocks if place is axes[0] else [""] * depth, names, image_SSC.shape[:2], gap)
        place.tick_params(labelsize=8 if len(names) <= 6 else 6)
    row, column = divmod(query, grid)
    for number in range(depth * len(names)):
        down, right = divmod(number, len(names))
        mark_patch(axes[1], row, column, squares, (down, right), len(image_SSC) + gap)
    axes[0].set_title("what the pooled vector takes", pad=18)
    axes[1].set_title(f"what patch {query + 1} (framed) takes", pad=18)
    add_scale(figure, axes[1], norm)
    return figure


def mark_patch(axes: Axes, row: int, column: int, squares: tuple[int, int], cell: tuple[int, int], step: int) -> None:
    """A frame around a patch in one cell of a mosaic."""
    side, first = squares
    corner = (cell[1] * step + first + column * side - 0.5, cell[0] * step + first + row * side - 0.5)
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=BLUE, linewidth=1.6))


def add_scale(figure: Figure, axes: Axes | Sequence[Axes], norm: Normalize) -> None:
    """The bar that says how much a colour is."""
    bar = figure.colorbar(ScalarMappable(norm, LOOKED), ax=axes, shrink=0.8, aspect=30, pad=0.02)
    most = float(norm.vmax or 1.0)
    bar.set_ticks([0, 0.5, 1, (1 + most) / 2, most], labels=["0", "½", "1", f"{(1 + most) / 2:.1f}", f"{most:.1f}"])
    bar.set_label("times an even share", color=INK)
    bar.outline.set_visible(False)


@styled
def looked_and_needed(
    images_NSSC: Pixels,
    names: Sequence[str],
    looked: Mapping[str, Floats],
    deletion_Ngg: Floats,
    squares: tuple[int, int],
) -> Figure:
    """A column an image (named above it): the image, its maps of ``looked`` by name ([N, grid, grid], in multiples of
    an even share; none for a network without attention), and by how much the probability of the right answer falls when
    a patch is blanked, most by the number under it (below 0: without any patch it rises). A fall of less than one point
    bears no strong colour."""
    gap = max(1, images_NSSC.shape[1] // 14)
    rows, left = [as_colour(images_NSSC)], ["the image"]
    for name, maps in looked.items():
        rows.append(overlays(images_NSSC, maps, squares, share_norm(maps), LOOKED))
        left.append(f"{name}\n(red: {max(2.0, float(maps.max())):.1f} times\nan even share)")
    most = deletion_Ngg.max(axis=(1, 2)).tolist()
    norms = [TwoSlopeNorm(0.0, -max(top, SLIGHT), max(top, SLIGHT)) for top in most]
    triples = zip(images_NSSC, deletion_Ngg, norms, strict=True)
    rows.append(np.stack([overlay(image, falls, squares, norm, NEEDED) for image, falls, norm in triples]))
    figure = new_figure(WIDTH, 0.35 + (WIDTH - 1.3) * len(rows) / max(len(names), 4) * 1.04)
    axes = figure.add_subplot()
    show_pixels(axes, mosaic(np.stack(rows), gap))
    left.append("needed (red:\nits probability falls,\nat most by so many\npoints)")
    label_mosaic(axes, left, [short(name) for name in names], images_NSSC.shape[1:3], gap)
    below = len(rows) * (images_NSSC.shape[1] + gap)
    for place, top in zip(centres(len(names), images_NSSC.shape[2], gap), most, strict=True):
        axes.text(place, below, f"{100 * top:.1f}", ha="center", va="top", fontsize=8, color=INK)
    return figure


def overlays(images_NSSC: Pixels, maps: Floats, squares: tuple[int, int], norm: Normalize, cmap: Colormap) -> Floats:
    """One overlay an image."""
    pairs = zip(images_NSSC, maps, strict=True)
    return np.stack([overlay(image, one, squares, norm, cmap) for image, one in pairs])


@styled
def attention_distance(distance_Lh: Floats, even: float) -> Figure:
    """How far each head of each block looks, in pixels, and how far it would with ``even`` attention."""
    depth, heads = distance_Lh.shape
    figure = new_figure(5.2, 3.2)
    axes = figure.add_subplot()
    for head in range(heads):
        spread = 0.1 * (head - (heads - 1) / 2) if heads > 1 else 0.0
        axes.plot(np.arange(depth) + 1 + spread, distance_Lh[:, head], "o", color=BLUE, alpha=0.65, markersize=6)
    axes.plot(np.arange(depth) + 1, distance_Lh.mean(axis=1), "_", color=INK, markersize=22, markeredgewidth=1.6)
    axes.axhline(even, color=GREY, linestyle=(0, (4, 3)), linewidth=1)
    axes.text(0.52, even, "even attention", va="bottom", fontsize=8, color=INK)
    axes.set_xticks(np.arange(depth) + 1)
    top = max(even, float(distance_Lh.max()))
    axes.set(xlim=(0.5, depth + 0.5), ylim=(0, 1.12 * top if math.isfinite(top) and top > 0 else 1.0))
    axes.set(xlabel="block", ylabel="mean distance in pixels", title="a dot a head, a line their mean")
    axes.grid(axis="y")
    return figure
