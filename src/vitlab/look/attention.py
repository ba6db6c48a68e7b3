"""Where a ViT looks, from its attention weights, and which patches its answer depends on.

`ViT.forward_with_attention` gives the weights: [depth, B, h, N, N], row i what token i takes from each. A class token
comes first. A network without attention has h = 0.
Letters in names: L blocks, B images, h heads, N tokens, p patches, S side in pixels, C channels; maps over patches are
[grid, grid] or [gg], counted row by row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import cast

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from vitlab.look import style
from vitlab.look.report import Missing, Picture, Section
from vitlab.look.run import Subject
from vitlab.look.style import BLUE, GREY, INK, LOOKED, NEEDED, WIDTH, Floats, Pixels
from vitlab.model import Squares, ViT
from vitlab.text import counted
from vitlab.training.evaluate import evaluating
from vitlab.training.preprocess import Preprocess

IMAGES_AT_ONCE = 1024  # in a forward pass of patch_deletion
MOST_CELLS = 96  # blocks x heads that are drawn one by one
DISTANCE_IMAGES = 128
MOST_WEIGHTS = 4e8  # attention weights in memory at a time


def rollout(weights_LhNN: Tensor) -> Tensor:
    """How much of each input token (column) has reached each output token (row): [N, N], rows sum to 1.

    Attention rollout (Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3): the mean over
    heads, averaged with the identity for the residual connection, multiplied from the first block on.
    """
    weights_LNN = weights_LhNN.float().mean(dim=1)
    identity = torch.eye(weights_LNN.shape[-1], device=weights_LNN.device)
    reached = identity
    for weights_NN in 0.5 * (weights_LNN + identity):
        reached = (weights_NN / weights_NN.sum(dim=-1, keepdim=True)) @ reached
    return reached


def pooled_attention(weights_LhNN: Tensor, pool: str) -> Tensor:
    """How much the pooled vector attends to each patch, in each block and head: [depth, h, patches]. With ``pool``
    "cls" it is the class token's row without itself, which need not sum to 1 (Caron et al. 2021, "DINO", figure 1);
    otherwise the mean over all tokens."""
    return weights_LhNN[:, :, 0, 1:] if pool == "cls" else weights_LhNN.mean(dim=2)


def query_attention(weights_LhNN: Tensor, query: int, has_cls: bool) -> Tensor:
    """How much patch number ``query`` attends to each patch, in each block and head: [depth, h, patches]. With
    ``has_cls`` the first token is the class token; what goes to it is left out."""
    first = int(has_cls)
    return weights_LhNN[:, :, first + query, first:]


def attention_distance(weights_LBhNN: Tensor, grid: int, patch_size: int, has_cls: bool) -> Tensor:
    """How far each head looks, in pixels: [depth, h] (Dosovitskiy et al. 2021, figure 7 right).

    The distance between the centres of two patches, weighted by attention, then averaged over query patches and
    images. The class token is left out, and rows are normalised to sum to 1 without it.
    """
    first = int(has_cls)
    weights_LBhpp = weights_LBhNN[..., first:, first:].float()
    # A row that gives everything to the class token would be 0 / 0; it counts as distance 0.
    totals_LBhp = weights_LBhpp.sum(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    distances_LBhp = (weights_LBhpp * patch_distances(grid, patch_size).to(weights_LBhpp.device)).sum(dim=-1)
    return (distances_LBhp / totals_LBhp).mean(dim=(1, 3))


def patch_distances(grid: int, patch_size: int) -> Tensor:
    """Distance in pixels between the centres of each two patches, [grid^2, grid^2]."""
    steps = torch.arange(grid) * float(patch_size)
    places_p2 = torch.cartesian_prod(steps, steps)
    return torch.cdist(places_p2, places_p2)


def patch_numbers(squares: Squares, height: int, width: int) -> Tensor:
    """Which patch each pixel belongs to, int64 [height, width]; -1 for none."""
    rows_H1 = (torch.arange(height)[:, None] - squares.margin).div(squares.side, rounding_mode="floor")
    columns_W = (torch.arange(width) - squares.margin).div(squares.side, rounding_mode="floor")
    inside = (rows_H1 >= 0) & (rows_H1 < squares.grid) & (columns_W >= 0) & (columns_W < squares.grid)
    return torch.where(inside, rows_H1 * squares.grid + columns_W, -1)


def black(preprocess: Preprocess) -> Tensor:
    """A black pixel in the network's input, one number per channel, [C]."""
    return preprocess.normalize(torch.zeros(1, len(preprocess.mean), 1, 1)).flatten()


def patch_deletion(
    model: nn.Module, inputs_BCHW: Tensor, labels_B: Tensor, blank: float | Tensor, squares: Squares
) -> Tensor:
    """How far the probability of its label falls when a patch is blanked, [B, grid, grid]; negative: it rises.

    Occlusion (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2), patch by
    patch. The pixels of each of ``squares`` become ``blank`` (one number, or one per channel: ``black``), also for
    neighbours whose overlap reaches them. ``inputs_BCHW`` are preprocessed. Takes grid^2 + 1 forward passes.
    """
    grid, device = squares.grid, inputs_BCHW.device
    numbers_HW = patch_numbers(squares, *inputs_BCHW.shape[-2:]).to(device)
    blank_C11 = torch.as_tensor(blank, dtype=inputs_BCHW.dtype, device=device).view(-1, 1, 1)
    with evaluating(model):
        before_1B = label_probability(model, inputs_BCHW[None], labels_B)
        falls = []
        for some_p in torch.arange(grid**2, device=device).split(max(1, IMAGES_AT_ONCE // len(inputs_BCHW))):
            holes_p11HW = (numbers_HW == some_p[:, None, None])[:, None, None]
            blanked_pBCHW = torch.where(holes_p11HW, blank_C11, inputs_BCHW)
            falls.append(before_1B - label_probability(model, blanked_pBCHW, labels_B))
    return torch.cat(falls).T.reshape(-1, grid, grid)


def label_probability(model: nn.Module, inputs_pBCHW: Tensor, labels_B: Tensor) -> Tensor:
    """The probability of each image's label in each of its versions, [p, B]."""
    logits_pBK = model(inputs_pBCHW.flatten(0, 1)).float().unflatten(0, inputs_pBCHW.shape[:2])
    probabilities_pBK: Tensor = logits_pBK.softmax(dim=-1)
    return probabilities_pBK[:, torch.arange(len(labels_B)), labels_B]


def relative(maps: Tensor) -> Floats:
    """Maps over patches [..., p] as multiples of uniform attention, [..., grid, grid]."""
    grid = round(maps.shape[-1] ** 0.5)
    shares: Floats = (maps * maps.shape[-1]).unflatten(-1, (grid, grid)).numpy()
    return shares


def busiest_patch(image_SSC: Pixels, squares: Squares) -> int:
    """The patch whose pixels vary most: it shows something."""
    grid, side, first = squares
    end = first + grid * side
    inner = image_SSC[first:end, first:end].reshape(grid, side, grid, side, -1)
    return int(inner.var(axis=(1, 3)).sum(axis=-1).argmax())


def tinted(values_gg: Floats, squares: Squares, pixels: int, norm: Normalize, colours: Colormap) -> Floats:
    """Each patch's value as a colour, [S, S, 3] for S = ``pixels``; white where there is no patch. Nothing else is
    mixed in, so a colour always says the same; `style.outline` shows where the drawing is."""
    grid, side, first = squares
    tint, end = np.ones((pixels, pixels, 3)), first + grid * side
    block = np.kron(colours(norm(values_gg))[..., :3], np.ones((side, side, 1)))
    tint[first:end, first:end] = block[: pixels - first, : pixels - first]
    return tint


@style.applied
def draw_heads(image_SSC: Pixels, pooled_Lhgg: Floats, query_Lhgg: Floats, query: int, squares: Squares) -> Figure:
    """Attention of each block (row) and head (column), left of the pooled vector, right of patch number ``query``, as
    multiples of uniform attention; the last column of each half is the mean over heads."""
    depth, heads = pooled_Lhgg.shape[:2]
    blocks = [f"block {number + 1}" for number in range(depth)]
    names = [*(f"head {number + 1}" for number in range(heads)), "mean"] if heads > 1 else ["head"]
    cell = min(1.9, 6.2 / (2 * len(names)))
    figure, axes = style.subplots(WIDTH, 0.5 + 1.03 * cell * depth, 1, 2)
    norm, pixels = style.attention_norm(), len(image_SSC)
    gap = max(1, pixels // 14)
    for place, maps in zip(axes, (pooled_Lhgg, query_Lhgg), strict=True):
        every = np.concatenate([maps, maps.mean(axis=1, keepdims=True)], axis=1) if heads > 1 else maps
        cells = [[tinted(one, squares, pixels, norm, LOOKED) for one in row] for row in every]
        style.show_pixels(place, style.mosaic(np.array(cells), gap))
        for down, right in np.ndindex(depth, len(names)):
            style.outline(place, image_SSC, right * (pixels + gap), down * (pixels + gap))
        style.label_mosaic(place, blocks if place is axes[0] else [""] * depth, names, image_SSC.shape[:2], gap)
        place.tick_params(labelsize=8 if len(names) <= 6 else 6)
    row, column = divmod(query, squares.grid)
    step, side, first = len(image_SSC) + gap, squares.side, squares.margin
    for down, right in np.ndindex(depth, len(names)):
        corner = (right * step + first + column * side - 0.5, down * step + first + row * side - 0.5)
        axes[1].add_patch(Rectangle(corner, side, side, fill=False, edgecolor=BLUE, linewidth=1.6))
    axes[0].set_title("attention of the pooled vector", pad=18)
    axes[1].set_title(f"attention of patch {query + 1} (framed)", pad=18)
    bar = figure.colorbar(ScalarMappable(norm, LOOKED), ax=axes[1], shrink=0.8, aspect=30, pad=0.02)
    bar.set_ticks([0, 0.5, 1, 2, 4, 8], labels=["0", "½", "1", "2", "4", "8 or more"])
    bar.minorticks_off()
    bar.set_label("times uniform attention", color=INK)
    bar.outline.set_visible(False)
    return figure


@style.applied
def draw_deletion(
    images_NSSC: Pixels, names: Sequence[str], looked: Mapping[str, Floats], falls_Ngg: Floats, squares: Squares
) -> Figure:
    """One column per image, named above: the image, its attention maps by name ([N, grid, grid], as multiples of
    uniform attention; none for a network without attention), and how far the probability of its class falls when a
    patch is blanked, with the largest fall under it. All columns have the same scale."""
    pixels = images_NSSC.shape[1]
    gap, most = max(1, pixels // 14), falls_Ngg.max(axis=(1, 2)).tolist()
    rows, left = [style.as_colour(images_NSSC)], ["image"]
    for name, maps in looked.items():
        rows.append(np.stack([tinted(one, squares, pixels, style.attention_norm(), LOOKED) for one in maps]))
        left.append(f"{name}\n(white: uniform;\norange: 2 times,\nred: 4 times that)")
    rows.append(np.stack([tinted(falls, squares, pixels, style.fall_norm(), NEEDED) for falls in falls_Ngg]))
    left.append("deletion (red: its\nprobability falls;\nbelow: the largest\nfall, in points)")
    figure, axes = style.subplots(WIDTH, 0.35 + (WIDTH - 1.3) * len(rows) / max(len(names), 4) * 1.04)
    style.show_pixels(axes, style.mosaic(np.stack(rows), gap))
    style.label_mosaic(axes, left, [style.short(name) for name in names], images_NSSC.shape[1:3], gap)
    for down, (right, image) in product(range(1, len(rows)), enumerate(images_NSSC)):
        style.outline(axes, image, right * (pixels + gap), down * (pixels + gap))
    below = len(rows) * (images_NSSC.shape[1] + gap)
    for place, top in zip(style.centres(len(names), images_NSSC.shape[2], gap), most, strict=True):
        axes.text(place, below, f"{100 * top:.1f}", ha="center", va="top", fontsize=8, color=INK)
    return figure


@style.applied
def draw_distance(distance_Lh: Floats, uniform: float) -> Figure:
    """How far each head of each block looks, in pixels, and how far ``uniform`` attention would."""
    depth, heads = distance_Lh.shape
    figure, axes = style.subplots(style.COLUMN, 3.2)
    blocks_L, spread_h = np.arange(depth) + 1, 0.1 * (np.arange(heads) - (heads - 1) / 2)
    axes.plot(blocks_L[:, None] + spread_h, distance_Lh, "o", color=BLUE, alpha=0.65, markersize=6)
    axes.plot(blocks_L, distance_Lh.mean(axis=1), "_", color=INK, markersize=22, markeredgewidth=1.6)
    axes.axhline(uniform, color=GREY, linestyle=(0, (4, 3)), linewidth=1)
    axes.text(0.52, uniform, "uniform attention", va="bottom", fontsize=8, color=INK)
    axes.set_xticks(blocks_L)
    top = max(uniform, float(distance_Lh.max()))
    axes.set(xlim=(0.5, depth + 0.5), ylim=(0, 1.12 * top if math.isfinite(top) and top > 0 else 1.0))
    axes.set(xlabel="block", ylabel="mean distance in pixels", title="dots: heads; lines: their mean")
    axes.grid(axis="y")
    return figure


def section(subject: Subject, numbers: list[int], query: int | None) -> Section:
    """Attention and deletion, for the images ``numbers`` and patch ``query``; without attention, deletion alone."""
    if reason := subject.network.missing.get("attention"):
        missing = Missing("Attention heads, rollout and distance", reason)
        return Section("Dependence on patches", [missing, _deletion_picture(subject, numbers, {})])
    pool = subject.config.model.pool
    with evaluating(subject.model):
        weights_LBhNN = cast(ViT, subject.model).forward_with_attention(subject.inputs(numbers))[1].float().cpu()
    rolled_BNN = torch.stack([rollout(one_LhNN) for one_LhNN in weights_LBhNN.unbind(dim=1)])
    maps = {
        "attention of\nthe last block": relative(pooled_attention(weights_LBhNN[-1], pool).mean(dim=1)),
        "rollout": relative(pooled_attention(rolled_BNN[:, None], pool)[:, 0]),
    }
    heads = heads_picture(subject, numbers[0], weights_LBhNN[:, 0], query)
    return Section("Attention", [_deletion_picture(subject, numbers, maps), heads, distance_picture(subject)])


def _deletion_picture(subject: Subject, numbers: list[int], maps: dict[str, Floats]) -> Picture:
    labels, squares = subject.images.labels[numbers], subject.network.squares
    blank = black(subject.preprocess).to(labels.device)
    falls = patch_deletion(subject.model, subject.inputs(numbers), labels, blank, squares).cpu()
    names = [subject.classes[label] for label in labels.tolist()]
    figure = draw_deletion(subject.visible(numbers), names, maps, falls.numpy(), squares)
    text = deletion_sentence(falls[0], names[0])
    if not maps:
        alt = "A row of images, and under each a map of how much the answer depends on each patch"
        return Picture("deletion", "Patch deletion", figure, alt, text)
    text = (
        f"Attention shows where the network looks, deletion which patches its answer depends on. {text} "
        f"{agreement_sentence(next(iter(maps.values())), falls.numpy())} "
        f"Rollout traces attention back through {counted(subject.config.model.depth, 'block')}."
    )
    alt = "Columns of images, and under each maps of its attention and of how much the answer depends on each patch"
    return Picture("attention", "Attention and deletion", figure, alt, text)


def deletion_sentence(falls_gg: Tensor, name: str) -> str:
    """What colours mean, and which patch of the first image, of class ``name``, matters most."""
    colours = "Red patches support the right class, blue ones speak against it."
    fall = 100 * float(falls_gg.max())
    if fall <= 0:
        return f"{colours} Blanking any patch of the first image ({name}) does not lower the probability of its class."
    row, column = divmod(int(falls_gg.argmax()), falls_gg.shape[1])
    return (
        f"{colours} Blanking the patch in row {row + 1}, column {column + 1} of the first image ({name}) lowers the "
        f"probability of its class by {fall:.1f} points."
    )


def agreement_sentence(last_Bgg: Floats, falls_Bgg: Floats) -> str:
    """In how many images the patch with the most attention matters most."""
    agree = sum(int(a.argmax()) == int(b.argmax()) for a, b in zip(last_Bgg, falls_Bgg, strict=True))
    return (
        f"In {agree} of {counted(len(falls_Bgg), 'image')} the patch with the most attention in the last block is also "
        "the one whose deletion costs most."
    )


def heads_picture(subject: Subject, number: int, weights_LhNN: Tensor, query: int | None) -> Picture | Missing:
    """Every block and head on image ``number``, for the pooled vector and for patch ``query``."""
    title, pool, squares = "Attention of each head", subject.config.model.pool, subject.network.squares
    depth, heads = weights_LhNN.shape[:2]
    if depth * heads > MOST_CELLS:
        return Missing(title, f"{depth} blocks x {heads} heads do not fit into one picture of {MOST_CELLS}")
    image = subject.visible([number])[0]
    patch = busiest_patch(image, squares) if query is None else query
    pooled = relative(pooled_attention(weights_LhNN, pool))
    asked = relative(query_attention(weights_LhNN, patch, pool == "cls"))
    block, head, target = (int(place) for place in np.unravel_index(asked.argmax(), (depth, heads, squares.grid**2)))
    text = (
        f"Colour is attention as a multiple of uniform attention over the {squares.grid**2} patches. Patch {patch + 1} "
        f"(framed) attends most in block {block + 1}, head {head + 1}: to "
        f"{'itself' if target == patch else f'patch {target + 1}'}, {asked.max():.1f} times as much. The most that "
        f"the pooled vector gives to a patch is {pooled.max():.1f} times."
    )
    alt = f"Attention maps of {depth} blocks by {heads} heads on one image, for the pooled vector and for one patch"
    return Picture("attention-heads", title, draw_heads(image, pooled, asked, patch, squares), alt, text)


def distance_picture(subject: Subject) -> Picture:
    """How far each head looks, over many images."""
    config, (grid, side, _) = subject.config.model, subject.network.squares
    per_image = config.depth * config.num_heads * (config.grid**2 + 1) ** 2
    count = max(1, min(DISTANCE_IMAGES, len(subject.images), int(MOST_WEIGHTS / per_image)))
    with evaluating(subject.model):
        weights = cast(ViT, subject.model).forward_with_attention(subject.inputs(list(range(count))))[1]
    distances = attention_distance(weights, grid, side, config.pool == "cls").cpu()
    uniform = patch_distances(grid, side).mean().item()
    near, far = (divmod(int(place), distances.shape[1]) for place in (distances.argmin(), distances.argmax()))
    below = int((distances < uniform).sum())
    text = (
        f"Mean attention distance over the first {counted(count, f'{subject.part} image')}: shortest in block "
        f"{near[0] + 1}, head {near[1] + 1} ({distances.min():.1f} pixels), longest in block {far[0] + 1}, head "
        f"{far[1] + 1} ({distances.max():.1f}). Uniform attention would give {uniform:.1f} pixels; {below} of "
        f"{counted(distances.numel(), 'head')} {'is' if below == 1 else 'are'} below that."
    )
    alt = "Mean attention distance in pixels of each head, by block"
    figure = draw_distance(distances.numpy(), uniform)
    return Picture("attention-distance", "Attention distance", figure, alt, text, vector=True)
