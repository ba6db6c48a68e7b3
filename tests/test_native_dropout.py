"""Dropout in the native kernels: which numbers it drops, and that the plain block agrees once it drops the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.test_native import Stack, data, distances, gradients, library
from vitlab.native.accelerate import NativeDropout
from vitlab.native.build import Kind
from vitlab.native.ops import Kernels, blocks, dropout_mask

DIM, UNITS = 7, 19
WEIGHTS, HIDDEN, OUTPUT, PLACES = range(4)
MLP_MASKS = ((HIDDEN, UNITS), (OUTPUT, DIM))
SEED = 123_456_789


def mix(x: int) -> int:
    """The hash lowbias32."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def kept_places(rate: float, block: int, place: int, image: int, rows: int, columns: int) -> NDArray[np.bool_]:
    """What the kernel must keep of [rows, columns], written down number by number; ``columns`` are padded ones."""
    offset = mix((mix((SEED + 0x9E3779B9 * (PLACES * block + place + 1)) % 2**32) + image) % 2**32)
    stride = mix(offset ^ 0x85EBCA6B) | 1
    kept = np.empty((rows, columns), bool)
    for row in range(rows):
        for column in range(columns):
            word = mix(((row // 2 * columns + column) * stride + offset) % 2**32)
            half = word >> 16 if row % 2 else word & 0xFFFF
            kept[row, column] = half >= round(rate * 65536)
    return kept


def whole(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def masks(
    rate: float, batch: int, tokens: int, block: int, place: int, width: int, heads: int, pack: int, lanes: int
) -> Tensor:
    """[batch, heads, tokens, width] of 0 and 1 / (1 - rate), where ``pack`` images count as one to the kernel."""
    columns = pack * width if place == WEIGHTS else width
    rows, padded = whole(pack * tokens, 2), whole(columns, lanes)
    images = []
    for image in range(-(-batch // pack)):
        kept = kept_places(rate, block, place, image, heads * rows, padded).reshape(heads, rows, padded)
        for i in range(pack):
            first = i * width if place == WEIGHTS else 0
            images.append(kept[:, i * tokens : (i + 1) * tokens, first : first + width])
    return torch.from_numpy(np.stack(images[:batch])).double() / (1.0 - rate)


class Masked(nn.Module):
    """Multiplies by one given mask after the other."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.given, self.calls = given, 0

    def forward(self, x: Tensor) -> Tensor:
        mask = self.given[self.calls % len(self.given)]
        self.calls += 1
        return x * mask.to(x.dtype)


FORMS: list[dict[str, Any]] = [
    dict(num_heads=3, head_dim=5, mlp_last_gelu=True),
    dict(num_heads=2, head_dim=3, attn_bias=True, act="relu2"),
    dict(attn_form="merged", norm="rms"),
    dict(attn_form="none", mlp_last_gelu=True),
]


def dropping(tokens: int, dropout: float, attn_dropout: float, form: dict[str, Any]) -> Stack:
    """Blocks whose description to the kernel has dropout, and whose plain form drops what ``masks`` says."""
    stack = Stack(tokens, hidden=UNITS, embed_dim=DIM, **form)
    stack.shape = replace(stack.shape, dropout=dropout, attn_dropout=attn_dropout)
    return stack


def mask_plain(stack: Stack, batch: int, tokens: int, lanes: int) -> None:
    """Let the plain blocks drop what a kernel with vectors of ``lanes`` numbers must."""
    for number, block in enumerate(stack.blocks):
        made: Any = block
        pack = lanes // tokens if tokens <= lanes // 2 and made.attn is not None else 1
        size = batch, tokens, number
        outer = [masks(stack.shape.dropout, *size, place, width, 1, pack, lanes)[:, 0] for place, width in MLP_MASKS]
        made.mlp.dropout = Masked(*outer)
        if made.attn is not None:
            rate, heads = stack.shape.attn_dropout, made.attn.num_heads
            made.attn.dropout = Masked(masks(rate, *size, WEIGHTS, tokens, heads, pack, lanes))


@pytest.mark.parametrize("form", FORMS, ids=lambda f: "-".join(map(str, f.values())))
@pytest.mark.parametrize(("batch", "tokens"), [(7, 3), (5, 11)])
@pytest.mark.parametrize(("dropout", "attn_dropout"), [(0.25, 0.0), (0.0, 0.375), (0.3, 0.15)])
@pytest.mark.parametrize(("kind", "threads", "limit"), [("double", 1, 1e-10), ("pairs", 2, 1e-10), ("float", 3, 5e-5)])
def test_the_plain_block_agrees_when_it_drops_the_same(
    form: dict[str, Any], batch: int, tokens: int, dropout: float, attn_dropout: float, kind: Kind, threads: int,
    limit: float,
) -> None:  # fmt: skip
    kernel, (x, dy) = library(kind), data(batch, tokens)
    stack = dropping(tokens, dropout, attn_dropout, form)
    mask_plain(stack, batch, tokens, kernel.lanes)
    weights, leaf = stack.weights(kernel.dtype), x.to(kernel.dtype).requires_grad_()
    y = blocks(leaf, weights, stack.shape, Kernels(kernel, threads), SEED)
    assert max(distances(gradients(y, leaf, weights, dy), stack.plain(x, dy))) < limit


@pytest.mark.parametrize("tokens", [3, 11])
def test_gradients_with_dropout_are_those_of_finite_differences(tokens: int) -> None:
    kernel, stack = library("double"), dropping(tokens, 0.3, 0.2, FORMS[0])
    weights = [weight for weight in stack.weights(torch.float64) if weight is not None]
    given = [weight is not None for weight in stack.weights(torch.float64)]

    def run(x_BND: Tensor, *leaves: Tensor) -> Tensor:
        rest = iter(leaves)
        return blocks(x_BND, [next(rest) if there else None for there in given], stack.shape, Kernels(kernel), SEED)

    assert torch.autograd.gradcheck(run, (data(4, tokens)[0].requires_grad_(), *weights), atol=1e-6, rtol=1e-5)


def test_bf16_drops_the_same_as_its_layout_in_double_whatever_the_threads() -> None:
    stack, (x, dy) = dropping(4, 0.1, 0.1, FORMS[0]), data(13, 4)
    results = []
    for kind, threads in (("pairs", 1), ("bf16", 1), ("bf16", 2)):
        kernel = library(kind)  # type: ignore[arg-type]
        weights, leaf = stack.weights(kernel.dtype), x.to(kernel.dtype).requires_grad_()
        y = blocks(leaf, weights, stack.shape, Kernels(kernel, threads), SEED)
        results.append(gradients(y, leaf, weights, dy))
    truth, one, two = results
    assert max(distances(one, truth)) < 0.05  # another mask would make it about 0.5
    assert torch.equal(one[0], two[0])
    other = blocks(x.float(), stack.weights(torch.float32), stack.shape, Kernels(library("bf16")), SEED + 1)
    assert distances([other.detach()], [truth[0]])[0] > 0.1


@pytest.mark.parametrize("tokens", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("batch", [1, 3, 16, 17])
def test_images_that_are_packed_do_not_see_each_other(tokens: int, batch: int) -> None:
    kernel, stack = library("double"), Stack(tokens, num_heads=2, head_dim=3, attn_bias=True)
    x, dy = data(batch, tokens)
    assert max(distances(stack.native("double", x, dy), stack.plain(x, dy))) < 1e-11
    together, alone = (
        blocks(part, stack.weights(torch.float64), stack.shape, Kernels(kernel)) for part in (x, x[batch // 2, None])
    )
    assert torch.allclose(together[batch // 2], alone[0], rtol=0, atol=1e-12)


# Masks for the head


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_have_their_rate_and_no_pattern(rate: float) -> None:
    first, second = (
        dropout_mask(torch.Size([499, 1009]), rate, torch.float32, Kernels(library("float")), s) for s in (1, 2)
    )
    assert set(first.unique().tolist()) == {0.0, float(torch.tensor(1.0) / (1.0 - rate))}
    spread = (rate * (1 - rate)) ** 0.5
    centred = [((mask == 0).double() - rate) / spread for mask in (first, second)]
    for sample in (  # each is a mean of numbers of mean 0 and variance 1
        centred[0],
        centred[0] * centred[1],
        centred[0][:, 1:] * centred[0][:, :-1],
        centred[0][1:] * centred[0][:-1],
        centred[0][:, 16:] * centred[0][:, :-16],
    ):
        assert abs(float(sample.mean())) < 5 / sample.numel() ** 0.5
    assert float(centred[0].mean(dim=0).abs().max()) < 5 / 499**0.5


def test_masks_do_not_depend_on_threads() -> None:
    every = [Kernels(library("float"), threads) for threads in (1, 2, 5)]
    made = [dropout_mask(torch.Size([7, 131]), 0.3, torch.bfloat16, kernels, SEED) for kernels in every]
    assert made[0].shape == (7, 131)
    assert all(torch.equal(made[0], mask) for mask in made)


def test_the_module_drops_only_while_training_and_by_torchs_seed() -> None:
    x = torch.ones(31, 67, requires_grad=True)
    for module in (nn.Dropout(0.25), NativeDropout(0.25, Kernels(library("float"), 2))):
        torch.manual_seed(3)
        first, other = module(x), module(x)
        torch.manual_seed(3)
        assert torch.equal(first, module(x))
        assert not torch.equal(first, other)
        assert abs(float(first.detach().mean()) - 1) < 0.1
        (gradient,) = torch.autograd.grad(first.sum(), x)
        assert torch.equal(gradient, first)
        assert module.eval()(x) is x
    assert NativeDropout(0.0, Kernels(library("float")))(x) is x
