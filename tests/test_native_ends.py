"""What comes before the blocks and after them, in C, against torch's own operations: numbers and gradients."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.test_native import library
from vitlab.config import ModelConfig
from vitlab.model import ViT
from vitlab.model.block import RmsNorm
from vitlab.model.patches import patchify
from vitlab.native import ops
from vitlab.native.accelerate import NativeViT
from vitlab.native.build import Library
from vitlab.native.ops import MOST_CLASSES, Kernels

embed: Any = ops.embed  # called with tuples of what a case gives, right or wrong
readout: Any = ops.readout

# batch, channels, side, (patch, overlap, margin), width: edges cut off, windows of one vector and of more, groups of
# four images with a rest, panels of one to seven vectors
EMBEDDINGS = [
    (5, 1, 24, (4, 2, 2), 48),
    (7, 3, 17, (5, 1, 0), 16),
    (9, 1, 28, (4, 2, 0), 64),
    (3, 2, 23, (5, 2, 1), 80),
    (2, 1, 31, (14, 3, 0), 112),
    (1, 3, 13, (6, 0, 0), 32),
    (6, 1, 9, (3, 0, 0), 16),
]
# batch, tokens, width, classes, rms
READOUTS = [
    (7, 5, 48, 10, True),
    (9, 11, 16, 3, False),
    (4, 49, 64, 10, False),
    (1, 9, 32, 1, True),
    (13, 7, 80, 101, False),
]


def random(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Normal numbers that want a gradient."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()


def embedding_inputs(case: Any, dtype: torch.dtype) -> tuple[Tensor, Any]:
    """Images; the projection, the bias and the places."""
    batch, channels, side, (patch, overlap, margin), dim = case
    length, tokens = (patch + 2 * overlap) ** 2 * channels, ((side - 2 * margin) // patch) ** 2
    shapes = [(dim, length), (dim,), (tokens, dim)]
    images = random(batch, channels, side, side, dtype=dtype, seed=0).detach()
    return images, [random(*shape, dtype=dtype, seed=1 + i) for i, shape in enumerate(shapes)]


def plain_embed(images: Tensor, cut: Any, weight: Tensor, bias: Tensor, places: Tensor | None) -> Tensor:
    """The definition."""
    x_BND = F.linear(patchify(images, *cut), weight, bias)
    return x_BND if places is None else x_BND + places


def plain_readout(x_BND: Tensor, gain: Tensor | None, offset: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
    """The definition; without gain an RMS norm."""
    normed = RmsNorm()(x_BND) if gain is None else F.layer_norm(x_BND, x_BND.shape[-1:], gain, offset, 1e-6)
    return F.linear(normed.flatten(1), weight, bias)


def readout_inputs(case: Any, dtype: torch.dtype) -> Any:
    """Tokens, gain and offset (None for RMS norm), the dense layer's weight and bias."""
    batch, tokens, dim, classes, rms = case
    shapes = [(batch, tokens, dim), (dim,), (dim,), (classes, tokens * dim), (classes,)]
    made: list[Any] = [random(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    return [made[0], None, None, *made[3:]] if rms else made


def with_gradients(out: Tensor, leaves: list[Tensor], seed: int = 17) -> list[Tensor]:
    """The output, and the gradients of the leaves for a random one of it."""
    given = random(*out.shape, dtype=out.dtype, seed=seed).detach()
    return [out.detach(), *torch.autograd.grad(out, leaves, given)]


def close(ours: list[Tensor], truth: list[Tensor], share: float) -> None:
    """Each within ``share`` of the largest number of its truth."""
    for a, b in zip(ours, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=share * float(b.abs().max()))


@pytest.mark.parametrize("kind", ["double", "float", "bf16"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", EMBEDDINGS, ids=str)
@pytest.mark.parametrize("placed", [True, False])
def test_the_embedding_is_the_plain_one(case: Any, threads: int, kind: Any, placed: bool) -> None:
    kernel = library(kind)
    kernel.workspace(2**21).fill_(255)  # not a number: what others have left must not count
    images, (weight, bias, places) = embedding_inputs(case, kernel.dtype)
    leaves, at = ([weight, bias, places], places) if placed else ([weight, bias], None)
    ours = with_gradients(embed(images, weight, bias, at, case[3], Kernels(kernel, threads)), leaves)
    truth = with_gradients(plain_embed(images, case[3], weight, bias, at), leaves)
    close(ours, truth, 1e-13 if kind == "double" else 2e-6)


@pytest.mark.parametrize("kind", ["double", "float", "bf16"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", READOUTS, ids=str)
def test_the_readout_is_the_plain_one(case: Any, threads: int, kind: Any) -> None:
    kernel = library(kind)
    kernel.workspace(2**21).fill_(255)
    inputs = readout_inputs(case, kernel.dtype)
    leaves = [tensor for tensor in inputs if tensor is not None]
    ours = with_gradients(readout(*inputs, rms=case[-1], kernels=Kernels(kernel, threads)), leaves)
    close(ours, with_gradients(plain_readout(*inputs), leaves), 1e-13 if kind == "double" else 2e-6)


@pytest.mark.parametrize("rms", [True, False])
def test_gradients_of_the_readout_are_those_of_finite_differences(rms: bool) -> None:
    kernel, inputs = library("double"), readout_inputs((5, 3, 16, 2, rms), torch.float64)
    given = [tensor is not None for tensor in inputs]

    def run(*leaves: Tensor) -> Any:
        rest = iter(leaves)
        arguments: Any = [next(rest) if there else None for there in given]
        return readout(*arguments, rms=rms, kernels=Kernels(kernel, 2))

    assert torch.autograd.gradcheck(run, [tensor for tensor in inputs if tensor is not None])


@pytest.mark.parametrize("kind", ["float", "bf16"])
def test_an_image_does_not_depend_on_those_beside_it(kind: Any) -> None:
    """Each of seven images alone has the logits, to the bit, that it has in their company; and none has none."""
    kernel = library(kind)
    images, weights = embedding_inputs((7, 1, 24, (4, 2, 2), 48), torch.float32)
    _, gain, offset, dense, bias = readout_inputs((7, 25, 48, 10, False), torch.float32)

    def logits(some: Tensor) -> Any:
        x_BND = embed(some, *weights, cut=(4, 2, 2), kernels=Kernels(kernel, 2))
        return readout(x_BND, gain, offset, dense, bias, False, Kernels(kernel, 2))

    together = logits(images)
    assert logits(images[:0]).shape == (0, 10)
    assert all(torch.equal(logits(images[i : i + 1])[0], together[i]) for i in range(7))
    assert all(not torch.equal(a, b) for a, b in pairwise(together))


def test_what_does_not_fit_is_refused() -> None:
    kernel = library("float")
    images, (weight, bias, places) = embedding_inputs(EMBEDDINGS[0], torch.float32)
    cut = EMBEDDINGS[0][3]
    wrong: Any
    for wrong in (
        (images[..., :-1], weight, bias, places, cut),
        (images, weight[:-1], bias[:-1], places[:, :-1], cut),
        (images, weight, bias, places[:-1], cut),
        (images, weight, bias[:-1], places, cut),
        (images, weight, bias, places, (4, 1, 1)),
        (images, weight, bias, places[:9], (4, 2, 3)),
        (images.double(), weight, bias, places, cut),
        (images, weight.T.contiguous().T, bias, places, cut),
    ):
        with pytest.raises(ValueError, match=r"kernel|places"):
            embed(*wrong, kernels=Kernels(kernel, 1))
    x, gain, offset, dense, bias_K = readout_inputs((7, 5, 48, 10, False), torch.float32)
    many = torch.zeros(MOST_CLASSES + 1, 240)
    for wrong in (
        (x[..., :47], gain[:47], offset[:47], dense[:, :235], bias_K),
        (x, gain, None, dense, bias_K),
        (x, gain[:-1], offset, dense, bias_K),
        (x, gain, offset[:-1], dense, bias_K),
        (x, gain, offset, dense, bias_K[:-1]),
        (x, gain, offset, dense[:, :-1].contiguous(), bias_K),
        (x, gain, offset, many, torch.zeros(len(many))),
    ):
        with pytest.raises(ValueError, match="kernel"):
            readout(*wrong, rms=False, kernels=Kernels(kernel, 1))


def network(kernel: Library | None, **knobs: Any) -> ViT:
    """A network of 16 numbers a token, with weights that are random everywhere."""
    common: dict[str, Any] = dict(image_size=15, patch_size=5, embed_dim=16, depth=1, num_heads=2, pool="flatten")
    config = ModelConfig(**(common | knobs))
    model = ViT(config, 3, 7)
    if kernel is not None:
        model = NativeViT(model, Kernels(kernel, 2))
    for seed, parameter in enumerate(model.parameters()):
        parameter.data = random(*parameter.shape, dtype=torch.float32, seed=seed).detach() * 0.3
    return model


@pytest.mark.parametrize(
    "knobs",
    [{}, {"pool": "mean"}, {"pool": "cls"}, {"pos_embed": "none"}, {"pos_embed": "sincos"}, {"head_hidden": (11,)},
     {"norm": "rms", "patch_overlap": 2, "crop": 11, "patch_size": 3}],
    ids=str,
)  # fmt: skip
def test_a_network_with_all_kernels_is_the_plain_one(knobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    native, plain = network(library("float"), **knobs), network(None, **knobs)
    called: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            called.append(name)
            return function(*arguments)

        return call

    for name in ("embed", "readout"):
        monkeypatch.setattr(ops, name, counted(name, getattr(ops, name)))
    side = plain.config.input_side
    images = random(5, 3, side, side, dtype=torch.float32, seed=99).detach()
    for a, b in ((native, plain), (native.eval(), plain.eval())):
        ours, truth = (with_gradients(model(images), list(model.parameters())) for model in (a, b))
        close(ours, truth, 1e-5)
    reads = plain.config.pool != "cls" and not plain.config.head_hidden
    assert called == 2 * (["embed"] * (plain.config.pool != "cls") + ["readout"] * reads)


def test_kernels_are_left_where_they_cannot_do_what_is_asked() -> None:
    """Gradients of the images, dropout in front of the dense layer: torch's operations, which know both."""
    model, plain = network(library("float")), network(None)
    images = random(5, 3, 15, 15, dtype=torch.float32, seed=99)
    ours, truth = (torch.autograd.grad(m(images).square().sum(), [images])[0] for m in (model, plain))
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)
    dropping = network(library("float"), head_dropout=0.9)
    assert not torch.equal(dropping(images), dropping(images))
    torch.testing.assert_close(dropping.eval()(images), plain.eval()(images), rtol=1e-4, atol=1e-4)
