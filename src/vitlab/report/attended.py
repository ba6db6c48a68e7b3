"""Where the network looks and what it needs: attention of all heads, mean, rollout, deletion, distance."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitlab.look import attention as look
from vitlab.look.inside import evaluating
from vitlab.model import ViT
from vitlab.pictures import attention as pictures
from vitlab.report.gather import Subject
from vitlab.report.parts import Missing, Picture, Section, counted

MOST_CELLS = 96  # blocks x heads that are drawn one by one
DISTANCE_IMAGES = 128
QUADRATIC = 4e8  # attention weights that are held at a time, in numbers

Arrays = npt.NDArray[Any]


def section(subject: Subject, numbers: list[int], query: int | None) -> Section:
    """Everything about one network's attention; of one without, what it needs."""
    if not subject.has_attention:
        why = "(attn_form none)" if subject.is_vit else "but convolutions"
        missing = Missing("Attention heads, rollout and distance", f"this network has no attention {why}")
        return Section("What it needs", [missing, looked_and_needed(subject, numbers, {})])
    with evaluating(subject.model):
        weights_LBhNN = cast(ViT, subject.model).forward_with_attention(subject.inputs(numbers))[1].float().cpu()
    last, through = last_block(subject, weights_LBhNN), rolled(subject, weights_LBhNN)
    maps = {"attention of\nthe last block": last, "rollout": through}
    parts = [looked_and_needed(subject, numbers, maps), heads(subject, numbers, weights_LBhNN[:, 0], query)]
    return Section("Where it looks", [*parts, distance(subject)])


def share(maps: Tensor) -> Arrays:
    """Maps over patches [..., p], in multiples of an even share, as [..., grid, grid]."""
    grid = round(maps.shape[-1] ** 0.5)
    shares: Arrays = (maps * maps.shape[-1]).unflatten(-1, (grid, grid)).numpy()
    return shares


def last_block(subject: Subject, weights_LBhNN: Tensor) -> Arrays:
    """What the pooled vector takes from each patch in the last block, mean over heads: [B, grid, grid]."""
    last_BhNN, pool = weights_LBhNN[-1], subject.config.model.pool
    return share(look.pooled_attention(last_BhNN, pool).mean(dim=1))


def rolled(subject: Subject, weights_LBhNN: Tensor) -> Arrays:
    """The same through all blocks, by rollout: [B, grid, grid]."""
    reached = torch.stack([look.rollout(one_LhNN) for one_LhNN in weights_LBhNN.unbind(dim=1)])
    return share(look.pooled_attention(reached[:, None], subject.config.model.pool)[:, 0])


def looked_and_needed(subject: Subject, numbers: list[int], maps: dict[str, Arrays]) -> Picture:
    """Several images with their attention, and what happens when a patch is hidden."""
    labels, squares = subject.images.labels[numbers], subject.squares
    falls = look.patch_deletion(
        subject.model, subject.inputs(numbers), labels, look.black(subject.preprocess).to(labels.device), None, squares
    ).cpu()
    names = [subject.classes[label] for label in labels.tolist()]
    shown = subject.seen(subject.images.images[numbers])
    figure = pictures.looked_and_needed(shown, names, maps, falls.numpy(), (squares.side, squares.margin))
    text = needed_sentence(falls[0], names[0])
    if maps:
        agree = agree_sentence(next(iter(maps.values())), falls.numpy())
        through = f"Rollout follows attention back through {counted(subject.config.model.depth, 'block')}."
        text = f"Attention shows where the network looked, deletion what it needed. {text} {agree} {through}"
    title = "Looked at, and needed" if maps else "Needed"
    alt = "Columns of images; under each, coloured patch by patch, " + ("its attention and " if maps else "")
    alt += "how much the answer depends on each patch"
    return Picture("attention" if maps else "deletion", title, figure, alt, text)


def needed_sentence(falls_gg: Tensor, name: str) -> str:
    """Which patch of the first image is needed most, and what colours mean."""
    colours = "Red patches are needed; blue ones stand in the way: without them the network is surer."
    fall = 100 * float(falls_gg.max())
    if fall <= 0:
        return f"{colours} The {name} on the left needs none: whichever is blanked, its probability does not fall."
    row, column = divmod(int(falls_gg.argmax()), falls_gg.shape[1])
    return (
        f"{colours} When the patch in row {row + 1}, column {column + 1} of the {name} on the left is blanked, the "
        f"probability of the right answer falls by {fall:.1f} points."
    )


def agree_sentence(last_Bgg: Arrays, falls_Bgg: Arrays) -> str:
    """On how many images the most attended patch is the most needed one."""
    agree = sum(int(a.argmax()) == int(b.argmax()) for a, b in zip(last_Bgg, falls_Bgg, strict=True))
    return (
        f"In {agree} of {counted(len(falls_Bgg), 'image')} the patch with most attention in the last block is also the "
        "one that is needed most."
    )


def heads(subject: Subject, numbers: list[int], weights_LhNN: Tensor, query: int | None) -> Picture | Missing:
    """Each block and head over one image, pooled and for one patch."""
    title, config, squares = "Attention of each head", subject.config.model, subject.squares
    depth, count = weights_LhNN.shape[:2]
    if depth * count > MOST_CELLS:
        return Missing(title, f"{depth} blocks x {count} heads are more than the {MOST_CELLS} that one picture holds")
    image = subject.seen(subject.images.images[numbers[:1]])[0]
    patch = brightest(image, squares) if query is None else query
    pooled = share(look.pooled_attention(weights_LhNN, config.pool))
    asked = share(look.query_attention(weights_LhNN, patch, config.pool == "cls"))
    figure = pictures.attention_heads(image, pooled, asked, patch, (squares.side, squares.margin))
    shape = (depth, count, squares.grid**2)
    block, head, place = (int(number) for number in np.unravel_index(int(asked.argmax()), shape))
    itself = "itself" if place == patch else f"patch {place + 1}"
    text = (
        f"Colour is attention in multiples of an even share, 1 where each of the {squares.grid**2} patches gets the "
        f"same. Patch {patch + 1} (framed) looks hardest in block {block + 1}, head {head + 1}: at {itself}, with "
        f"{asked.max():.1f} times an even share; the pooled vector never takes more than {pooled.max():.1f} times."
    )
    alt = f"Attention maps of {depth} blocks by {count} heads over one image, for the pooled vector and for one patch"
    return Picture("attention-heads", title, figure, alt, text)


def brightest(image_SSC: Arrays, squares: look.Squares) -> int:
    """The patch whose pixels differ most: the one with something in it."""
    first, end = squares.margin, squares.margin + squares.grid * squares.side
    inner = image_SSC[first:end, first:end].reshape(squares.grid, squares.side, squares.grid, squares.side, -1)
    return int(inner.var(axis=(1, 3)).sum(axis=-1).argmax())


def distance(subject: Subject) -> Picture:
    """How far each head looks, over many images."""
    config, squares = subject.config.model, subject.squares
    per_image = config.depth * config.num_heads * (config.grid**2 + 1) ** 2
    count = max(1, min(DISTANCE_IMAGES, len(subject.images), int(QUADRATIC / per_image)))
    with evaluating(subject.model):
        weights = cast(ViT, subject.model).forward_with_attention(subject.inputs(list(range(count))))[1]
    distances = look.attention_distance(weights, squares.grid, squares.side, config.pool == "cls").cpu()
    even = look.patch_distances(squares.grid, squares.side).mean().item()
    near, far = (divmod(int(place), distances.shape[1]) for place in (distances.argmin(), distances.argmax()))
    below = int((distances < even).sum())
    text = (
        f"Over the first {counted(count, f'{subject.part} image')} the nearest look is that of block {near[0] + 1}, "
        f"head {near[1] + 1}: {distances.min():.1f} pixels on average, the farthest that of block {far[0] + 1}, head "
        f"{far[1] + 1}: {distances.max():.1f}. Attention that ignores places would look {even:.1f} pixels far; "
        f"{below} of {counted(distances.numel(), 'head')} {'looks' if below == 1 else 'look'} nearer than that."
    )
    alt = "Mean attention distance in pixels of each head, by block"
    return Picture(
        "attention-distance",
        "How far heads look",
        pictures.attention_distance(distances.numpy(), even),
        alt,
        text,
        True,
    )
