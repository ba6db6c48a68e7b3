"""What lies inside a ViT: filters, positions, and what is known after each block."""

from __future__ import annotations

from typing import cast

import torch

from vitlab.look import inside as look
from vitlab.look.attention import patch_distances
from vitlab.look.robust import evenly
from vitlab.model import ViT
from vitlab.pictures import inside as pictures
from vitlab.report.gather import Subject
from vitlab.report.parts import Missing, Picture, Section, counted, percent

FILTERS = 28
LENS_IMAGES = 1000
# By how much neighbours' positions must be more similar (cosine) before their layout is called clear, or faint.
CLEAR, FAINT = 0.3, 0.1


def section(subject: Subject, numbers: list[int]) -> Section:
    """All three; a CNN has none of them."""
    if not subject.is_vit:
        why = "a convolutional network has no patch embedding, no positions and no blocks"
        return Section("What is inside", [Missing("Filters, positions, logit lens", why)])
    model = cast(ViT, subject.model)
    return Section(
        "What is inside", [filters(subject, model), positions(subject, model), lens(subject, model, numbers)]
    )


def filters(subject: Subject, model: ViT) -> Picture:
    """The directions in a patch that the embedding answers to most."""
    config, weight = subject.config.model, model.patch_embed.weight.detach().float().cpu()
    side = config.patch_size + 2 * config.patch_overlap
    shown = look.embedding_filters(weight, subject.dataset.card.channels, side, FILTERS)
    energy = torch.linalg.svdvals(weight).square()
    half = int((energy.cumsum(0) < 0.5 * energy.sum()).sum()) + 1
    text = (
        f"The {len(shown)} strongest principal components of {config.embed_dim} filters of {side} x {side} pixels, "
        f"strongest first; grey is 0, and the sign means nothing. {counted(half, 'component')} "
        f"{'carries' if half == 1 else 'carry'} half of the filters' energy, {min(weight.shape)} carry all."
    )
    alt = f"{len(shown)} small square patterns, the principal components of the patch embedding"
    return Picture("filters", "Filters of the patch embedding", pictures.filters(shown.numpy()), alt, text)


def positions(subject: Subject, model: ViT) -> Picture | Missing:
    """Which patches have similar position embeddings."""
    config, title = subject.config.model, "Similarity of positions"
    if config.pos_embed == "none":
        return Missing(title, "this network has no position embeddings (pos_embed none)")
    if config.grid == 1:
        return Missing(title, "there is only one patch")
    similarity = look.position_similarity(model.pos_embed.detach().cpu(), config.pool == "cls")
    steps = patch_distances(config.grid, 1)
    near, far = similarity[steps == 1].mean().item(), similarity[steps > 1].mean().item()
    text = positions_sentence(config.pos_embed == "learned", near, far)
    alt = f"{config.grid} by {config.grid} small maps of the similarity of position embeddings"
    return Picture("positions", title, pictures.positions(similarity.numpy()), alt, text)


def positions_sentence(learned: bool, near: float, far: float) -> str:
    """How similar the positions of neighbours and of others are, and what that says."""
    verdict = "so that hardly any layout of the image shows in them"
    if near > far + CLEAR:
        verdict = "so that the layout of the image can be seen in them"
    elif near > far + FAINT:
        verdict = "so that the layout of the image shows in them faintly"
    return (
        "Each small map belongs to the patch at its place: red where another patch's position is similar to its own. "
        f"The positions {'were learned' if learned else 'are fixed waves'}; direct neighbours have a mean similarity "
        f"of {near:.2f}, all others of {far:.2f}, {verdict}."
    )


def lens(subject: Subject, model: ViT, numbers: list[int]) -> Picture:
    """What the head would say after each block."""
    count = min(LENS_IMAGES, len(subject.images))
    numbers_N = evenly(len(subject.images), count)
    labels = subject.images.labels[numbers_N.to(subject.images.labels.device)]
    batches = numbers_N.split(250)
    every = torch.cat([look.logit_lens(model, subject.inputs(batch.tolist())) for batch in batches], dim=1)
    right = (every.argmax(dim=-1) == labels).float().mean(dim=1).cpu()
    sure = every.gather(-1, labels.expand(len(every), -1)[..., None]).mean(dim=(1, 2)).cpu()
    one, truth = look.logit_lens(model, subject.inputs(numbers[:1]))[:, 0].cpu(), int(subject.images.labels[numbers[0]])
    figure = pictures.logit_lens(one.numpy(), truth, subject.classes, right.numpy(), sure.numpy(), count)
    jumps = right.diff()
    spread = "" if count == len(subject.images) else f", evenly taken from {len(subject.images):,},"
    block = int(jumps.argmax()) + 1
    text = (
        f"Final norm and head read every block's output as if it were the last, for which they were trained. "
        f"On {counted(count, f'{subject.part} image')}{spread} the right class comes first for "
        f"{percent(right[0].item(), 1)} after the embedding and for {percent(right[-1].item(), 1)} at the end; "
        f"block {block} adds most, {100 * jumps.max():.1f} points."
    )
    alt = "Class probabilities of one image after each block, and accuracy after each block over many images"
    return Picture("lens", "What is known after each block", figure, alt, text, vector=True)
