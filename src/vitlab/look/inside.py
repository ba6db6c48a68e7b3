"""What lies inside a trained ViT: filters of the patch embedding, positions, and what each block already knows.

Letters in names: B images, N tokens, P numbers of a patch, D embed_dim, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.machine import Machine
from vitlab.model import ViT


@contextmanager
def evaluating(model: nn.Module, machine: Machine | None = None) -> Iterator[None]:
    """Inside, ``model`` answers without dropout and without gradients, in the machine's precision (none: in that of
    its weights); afterwards it is in the mode in which it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), nullcontext() if machine is None else machine.autocast():
            yield
    finally:
        model.train(was_training)


def embedding_filters(weight_DP: Tensor, channels: int, side: int, count: int) -> Tensor:
    """The ``count`` strongest principal components of the patch embedding's filters, [count, side, side, channels].

    ``weight_DP`` is `patch_embed.weight`: D filters over patches of ``side`` pixels, an overlap included. Each
    component has length 1 (Dosovitskiy et al. 2021, figure 7 left). They are right singular vectors, with no mean taken
    away: the directions in a patch that the embedding answers to most. Their sign means nothing; here the entry of
    largest magnitude is positive. There are at most min(D, P).
    """
    components_KP: Tensor = torch.linalg.svd(weight_DP.detach().float(), full_matrices=False).Vh[:count]
    largest = components_KP.abs().argmax(dim=1, keepdim=True)
    upright = components_KP * components_KP.gather(1, largest).sign()
    return upright.view(-1, side, side, channels)  # the order inside a patch, see patchify


def position_similarity(pos_ND: Tensor, has_cls: bool) -> Tensor:
    """Cosine similarity of each two patches' position embeddings, [N, N], N the patches, -1 to 1 (Dosovitskiy et al.
    2021, figure 7 centre). With ``has_cls`` the first row of ``pos_ND`` is the class token's and is left out; a
    position of length 0 is like none, itself included."""
    directions_ND = F.normalize(pos_ND.detach().float()[int(has_cls) :], dim=1)
    similarity_NN: Tensor = directions_ND @ directions_ND.T
    return similarity_NN


def logit_lens(model: ViT, inputs_BCHW: Tensor, machine: Machine | None = None) -> Tensor:
    """Class probabilities [depth + 1, B, K] as if the network ended after the embedding, after block 1, and so on.

    Each state goes through the final norm, pooling and head, which were trained for the last one only (nostalgebraist
    2020, "interpreting GPT: the logit lens"). The last row is the network's own answer; where native kernels compute
    that in bf16, up to their rounding.
    """
    with evaluating(model, machine):
        states = [model.tokens(inputs_BCHW)]
        for block in model.blocks:
            states.append(block(states[-1]))
        logits = [model.head(model.pool(model.norm(x_BND))) for x_BND in states]
        return torch.stack(logits).float().softmax(dim=-1)
