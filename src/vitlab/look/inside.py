"""Inside a trained ViT: filters of the patch embedding, positions, and the answer after each block.

Letters in names: L states (after the embedding and after each block), B images, N tokens, P numbers of a patch,
D embed_dim, K classes, p patches, s side of a patch in pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from vitlab.look import style
from vitlab.look.attention import patch_distances
from vitlab.look.report import Missing, Picture, Section
from vitlab.look.run import Subject, evenly
from vitlab.look.style import BLUE, COLUMN, INK, RED, WIDTH, Floats, short
from vitlab.model import ViT
from vitlab.text import counted, percent, with_article
from vitlab.training.evaluate import evaluating

FILTERS = 28
LENS_IMAGES = 1000
# By how much neighbours' positions must be more similar (cosine) to reflect the layout clearly, or faintly.
CLEAR, FAINT = 0.3, 0.1


def embedding_filters(weight_DP: Tensor, channels: int, side: int, count: int) -> Tensor:
    """The ``count`` strongest principal components of the patch embedding's filters, [count, side, side, channels].

    ``weight_DP`` is `patch_embed.weight`: D filters over patches of ``side`` pixels, overlap included. Each component
    has length 1 (Dosovitskiy et al. 2021, figure 7 left). They are right singular vectors, without subtracting a mean:
    the directions in a patch to which the embedding responds most. The sign is arbitrary; here the entry of largest
    magnitude is positive. There are at most min(D, P).
    """
    components_KP: Tensor = torch.linalg.svd(weight_DP.detach().float(), full_matrices=False).Vh[:count]
    largest = components_KP.abs().argmax(dim=1, keepdim=True)
    upright = components_KP * components_KP.gather(1, largest).sign()
    return upright.view(-1, side, side, channels)  # the order inside a patch, see patchify


def position_similarity(pos_ND: Tensor, has_cls: bool) -> Tensor:
    """Cosine similarity of each two patches' position embeddings, [N, N], N the patches, -1 to 1 (Dosovitskiy et al.
    2021, figure 7 centre). With ``has_cls`` the first row of ``pos_ND``, the class token's, is left out; a position of
    length 0 has similarity 0 to all, itself included."""
    directions_ND = F.normalize(pos_ND.detach().float()[int(has_cls) :], dim=1)
    similarity_NN: Tensor = directions_ND @ directions_ND.T
    return similarity_NN


def logit_lens(model: ViT, inputs_BCHW: Tensor) -> Tensor:
    """Class probabilities [depth + 1, B, K] as if the network ended after the embedding, after block 1, and so on.

    Each state goes through the final norm, pooling and head, which were trained for the last one only (nostalgebraist
    2020, "interpreting GPT: the logit lens"). The last row is the network's own answer, up to rounding if native
    kernels compute in bf16.
    """
    with evaluating(model):
        states = [model.tokens(inputs_BCHW)]
        for block in model.blocks:
            states.append(block(states[-1]))
        logits = [model.head(model.pool(model.norm(x_BND))) for x_BND in states]
        return torch.stack(logits).float().softmax(dim=-1)


@style.applied
def draw_filters(components_NssC: Floats) -> Figure:
    """Principal components of the patch embedding in their order; grey is 0."""
    columns = min(7, len(components_NssC))
    most = np.abs(components_NssC).max(axis=(1, 2, 3), keepdims=True)
    cells = style.fill_rows(0.5 + 0.5 * components_NssC / np.maximum(most, 1e-12), columns)
    figure = style.new_figure(COLUMN, 0.1 + COLUMN * len(cells) / columns)
    style.show_pixels(figure.add_subplot(), style.mosaic(cells, max(1, components_NssC.shape[1] // 5)))
    return figure


@style.applied
def draw_positions(similarity_pp: Floats) -> Figure:
    """A small map for each patch, at its own place: the similarity of its position to those of all patches."""
    grid = round(math.sqrt(len(similarity_pp)))
    gap = max(1, grid // 6)
    maps_gggg = similarity_pp.reshape(grid, grid, grid, grid)  # row and column of the patch, of the other patch
    cells = np.pad(maps_gggg, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=math.nan).swapaxes(1, 2)
    whole = cells.reshape(grid * (grid + gap), -1)[:-gap, :-gap]
    figure, axes = style.subplots(COLUMN, 4.5)
    shown = axes.imshow(whole, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    middles, names = style.centres(grid, grid, gap), [str(number + 1) for number in range(grid)]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names)
    axes.set(xlabel="column of the patch", ylabel="row of the patch")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_label("cosine similarity", color=INK)
    bar.outline.set_visible(False)
    return figure


@style.applied
def draw_lens(
    lens_LK: Floats, truth: int, classes: Sequence[str], accuracy_L: Floats, probability_L: Floats, count: int
) -> Figure:
    """Left: class probabilities for one image, read after the embedding and after each block. Right, over ``count``
    images: accuracy, and the mean probability of the true class."""
    depths, several = ["embedding", *(f"block {number}" for number in range(1, len(lens_LK)))], len(classes)
    figure, (left, right) = style.subplots(WIDTH, max(2.6, 1.2 + 0.24 * len(depths)), 1, 2, width_ratios=(1.5, 1))
    left.imshow(lens_LK, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    step = max(1, math.ceil(several / 20))
    turned = 90 if max(len(short(name)) for name in classes) > 3 else 0
    left.set_xticks(range(0, several, step), [short(name) for name in classes[::step]], rotation=turned)
    left.set_yticks(range(len(depths)), depths)
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    which = f"one image, {with_article(short(classes[truth]))}: probability in %"
    left.set_title(which if several <= 12 else "one image: probability")
    if several <= 12 and len(depths) <= 20:
        for (row, column), value in np.ndenumerate(lens_LK):
            if value >= 0.005:
                colour = "white" if value > 0.6 else INK
                left.text(column, row, f"{100 * value:.0f}", color=colour, ha="center", va="center", fontsize=7.5)
    places = range(len(depths))
    right.plot(100 * accuracy_L, places, "o-", color=BLUE, label="accuracy")
    right.plot(100 * probability_L, places, "s--", color=RED, label="mean p(true class)")
    right.set(ylim=(len(depths) - 0.5, -0.5), xlim=(0, 103), xlabel="percent", title=f"over {counted(count, 'image')}")
    right.set_yticks(list(places), [""] * len(depths))
    right.grid(axis="x")
    right.legend(loc="lower left")
    return figure


def section(subject: Subject, numbers: list[int]) -> Section:
    """All three; the first of ``numbers`` is the image that the logit lens shows."""
    title = "Inside the network"
    if reason := subject.network.missing.get("filters"):
        return Section(title, [Missing("Filters, positions, logit lens", reason)])
    model = cast(ViT, subject.model)
    shown = lens_picture(subject, model, numbers[0])
    return Section(title, [_filters_picture(subject, model), positions_picture(subject, model), shown])


def _filters_picture(subject: Subject, model: ViT) -> Picture:
    config, weight = subject.config.model, model.patch_embed.weight.detach().float().cpu()
    side = config.patch_size + 2 * config.patch_overlap
    shown = embedding_filters(weight, subject.dataset.card.channels, side, FILTERS)
    energy = torch.linalg.svdvals(weight).square()
    half = int((energy.cumsum(0) < 0.5 * energy.sum()).sum()) + 1
    text = (
        f"The {len(shown)} strongest principal components of {config.embed_dim} filters of {side} x {side} pixels, "
        f"strongest first; grey is 0, and the sign is arbitrary. Half of the filters' energy is in "
        f"{counted(half, 'component')}, all of it in {min(weight.shape)}."
    )
    alt = f"{len(shown)} small square patterns, the principal components of the patch embedding"
    return Picture("filters", "Filters of the patch embedding", draw_filters(shown.numpy()), alt, text)


def positions_picture(subject: Subject, model: ViT) -> Picture | Missing:
    """Which patches have similar position embeddings."""
    config, title = subject.config.model, "Similarity of positions"
    if reason := subject.network.missing.get("positions"):
        return Missing(title, reason)
    similarity = position_similarity(model.pos_embed.detach().cpu(), config.pool == "cls")
    steps = patch_distances(config.grid, 1)
    near, far = similarity[steps == 1].mean().item(), similarity[steps > 1].mean().item()
    text = positions_sentence(config.pos_embed == "learned", near, far)
    alt = f"{config.grid} by {config.grid} small maps of the similarity of position embeddings"
    return Picture("positions", title, draw_positions(similarity.numpy()), alt, text)


def positions_sentence(learned: bool, near: float, far: float) -> str:
    """The similarity of neighbours' positions and of others, and what that means."""
    verdict = "clearly reflect" if near > far + CLEAR else "faintly reflect" if near > far + FAINT else "hardly reflect"
    return (
        "Each small map compares the position embedding of the patch at its place with those of all patches: red is "
        f"similar. The embeddings {'were learned' if learned else 'are fixed (sine and cosine)'}; mean similarity is "
        f"{near:.2f} between direct neighbours and {far:.2f} between all others: they {verdict} the image's layout."
    )


def lens_picture(subject: Subject, model: ViT, number: int) -> Picture:
    """What the head would answer after each block; image ``number`` is shown alone."""
    numbers_N = evenly(len(subject.images), LENS_IMAGES)
    count, labels = len(numbers_N), subject.images.labels[numbers_N.to(subject.images.labels.device)]
    batches = numbers_N.split(250)
    every_LNK = torch.cat([logit_lens(model, subject.inputs(batch.tolist())) for batch in batches], dim=1)
    accuracy = (every_LNK.argmax(dim=-1) == labels).float().mean(dim=1).cpu()
    probability = every_LNK.gather(-1, labels.expand(len(every_LNK), -1)[..., None]).mean(dim=(1, 2)).cpu()
    one, truth = logit_lens(model, subject.inputs([number]))[:, 0].cpu(), int(subject.images.labels[number])
    figure = draw_lens(one.numpy(), truth, subject.classes, accuracy.numpy(), probability.numpy(), count)
    first, last, jumps = percent(accuracy[0].item(), 1), percent(accuracy[-1].item(), 1), accuracy.diff()
    text = (
        "The final norm and head, which were trained for the last block, read the output of every block. On "
        f"{subject.counted_images(count)}, accuracy is {first} after the embedding and {last} at the end; block "
        f"{int(jumps.argmax()) + 1} adds most, {100 * jumps.max():.1f} points."
    )
    alt = "Class probabilities of one image after each block, and accuracy after each block over many images"
    return Picture("lens", "The answer after each block", figure, alt, text, vector=True)
