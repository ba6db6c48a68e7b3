"""Where a network looks in one picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch

from vitlab import html
from vitlab.data.images import Pixels
from vitlab.data.view import Range, range_of, view
from vitlab.errors import ConfigError
from vitlab.model import Squares, ViT
from vitlab.predict import Classifier, Label
from vitlab.text import counted, percent, printable
from vitlab.training.evaluate import evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitlab.predict.inputs import Picture

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """The attention weights of a Vision Transformer for one picture.

    ``weights``: float32 [depth, heads, tokens, tokens]. weights[l, h, i, j] is the share of token j in what token i
    gathers in head h of block l, so each row sums to 1 (Vaswani et al. 2017, "Attention Is All You Need", eq. 1).
    Tokens are the patches row by row; with a class token (``has_cls``), that comes first.
    ``picture``: what the network saw, float [side, side, channels] from 0 to 1. ``label``: its answer.
    ``squares``: the patches in a row, the side of one in pixels, and the margin around all of them. ``shown``: what of
    0 to 1 pictures of 16 bits use, which becomes black and white in a plot.

    >>> run = vitlab.train("small", data="digits", epochs=1, progress=False)
    >>> attention = run.attention(vitlab.load_dataset("digits").test.images[0])
    >>> attention.weights.shape                  # 2 blocks, 2 heads, 7 x 7 patches
    (2, 2, 49, 49)
    >>> bool(abs(attention.weights.sum(axis=-1) - 1).max() < 1e-5)
    True
    >>> figure = attention.plot()                # a matplotlib Figure
    """

    weights: Floats
    picture: Floats
    label: Label
    squares: Squares
    pool: str
    shown: Range | None = None

    @property
    def has_cls(self) -> bool:
        """Whether the first token is a class token."""
        return self.pool == "cls"

    @cached_property
    def rollout(self) -> Floats:
        """How much of each input token (column) has reached each output token (row), float32 [tokens, tokens]; rows
        sum to 1 (Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3)."""
        from vitlab.look.attention import rollout

        return np.asarray(rollout(torch.from_numpy(self.weights)))

    @property
    def pooled(self) -> Floats:
        """How much the vector that the answer is made from attends to each patch, float32 [depth, heads, grid, grid]:
        the class token's row, or the mean over all tokens."""
        from vitlab.look.attention import pooled_attention

        grid = self.squares.grid
        return np.asarray(pooled_attention(torch.from_numpy(self.weights), self.pool).unflatten(-1, (grid, grid)))

    def plot(self, patch: int | None = None) -> Figure:
        """Attention of each block (row) and head (column) over the picture, as multiples of uniform attention: on the
        left of the vector that the answer is made from, on the right of one patch (``patch``, counted from 0 row by
        row; by default the one in which most happens). ConfigError if there is no such patch."""
        from vitlab.look import attention as look

        weights, patches = torch.from_numpy(self.weights), self.squares.grid**2
        if patch is not None and not 0 <= patch < patches:
            raise ConfigError(f"there is no patch {patch}; choose one from 0 to {patches - 1}")
        query = look.busiest_patch(self.picture, self.squares) if patch is None else patch
        pooled = look.relative(look.pooled_attention(weights, self.pool))
        asked = look.relative(look.query_attention(weights, query, self.has_cls))
        return look.draw_heads(view(self.picture, self.shown), pooled, asked, query, self.squares)

    def __repr__(self) -> str:
        depth, heads, tokens, _ = self.weights.shape
        sizes = f"{counted(depth, 'block')}, {counted(heads, 'head')}, {counted(tokens, 'token')}"
        return f"<Attention: {sizes}; answer {printable(self.label.name)} {percent(self.label.probability, 1)}>"

    def _repr_html_(self) -> str:
        from vitlab.look.style import to_bytes

        answer = f"{html.bold(self.label.name)} {percent(self.label.probability, 1)}"
        return html.block(answer, html.figure(to_bytes(self.plot()), "attention of each block and head"))


def attention_of(classifier: Classifier, image: Picture, center: bool | None = None) -> Attention:
    """The attention of a run's network for a picture; ConfigError for a network without attention."""
    description: Any = classifier.model.describe()
    if reason := description.missing.get("attention"):
        raise ConfigError(f"{classifier.path} has no attention to show: {reason}")
    image_1HWC = classifier.prepare(image, center)
    inputs_BCSS = classifier.preprocess(image_1HWC)
    with evaluating(classifier.model):
        logits_BK, weights_LBhNN = cast(ViT, classifier.model).forward_with_attention(inputs_BCSS)
    seen: Pixels = classifier.preprocess.denormalize(inputs_BCSS)[0].permute(1, 2, 0).float().numpy()
    return Attention(
        weights=weights_LBhNN[:, 0].float().numpy(),
        picture=np.clip(seen, 0, 1).astype(np.float32),
        label=classifier.labels(logits_BK.float(), 1)[0][0],
        squares=description.squares,
        pool=classifier.config.model.pool,
        shown=range_of(image_1HWC.numpy()),
    )
