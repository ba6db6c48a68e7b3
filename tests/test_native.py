"""The native kernel against the plain block: the same numbers, the same gradients, for every knob it knows."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.files import user_cache
from vitlab.model.block import Block
from vitlab.native import build
from vitlab.native.accelerate import block_shape, weights_of
from vitlab.native.build import Kind, Library, NativeError, load
from vitlab.native.ops import BLOCK_WEIGHTS, BlockShape, Kernels, blocks

LOADED: dict[Kind, Library] = {}


def library(kind: Kind) -> Library:
    """The kernel, or a skip that says why there is none."""
    if kind not in LOADED:
        try:
            LOADED[kind] = load(kind, user_cache() / "native")
        except NativeError as error:
            pytest.skip(str(error))
    return LOADED[kind]


class Stack:
    """Some plain blocks with random weights, and the same as the kernel is told of them."""

    def __init__(self, tokens: int, hidden: int = 11, *, std: float = 0.4, **knobs: Any) -> None:
        dim = knobs.setdefault("embed_dim", 7)
        self.config = ModelConfig(mlp_ratio=hidden / dim, **{"depth": 2, "num_heads": 1, **knobs})
        self.blocks = nn.ModuleList(Block(self.config, tokens, 0.0) for _ in range(self.config.depth))
        self.shape = block_shape(self.config, training=True)
        torch.manual_seed(0)
        with torch.no_grad():
            for name, parameter in self.blocks.named_parameters():
                parameter.normal_(std=std).add_(1.0 if "norm" in name and "weight" in name else 0.0)

    def weights(self, dtype: torch.dtype) -> list[Tensor | None]:
        """Fresh leaves for the kernel."""
        every = [weight for block in self.blocks for weight in weights_of(block)]  # type: ignore[arg-type]
        return [None if w is None else w.detach().to(dtype).clone().requires_grad_() for w in every]

    def plain(self, x_BND: Tensor, dy_BND: Tensor, *, autocast: bool = False) -> list[Tensor]:
        """The output, then the gradients of x and of all weights, by the plain blocks and autograd."""
        self.blocks.to(x_BND.dtype)
        x_BND = x_BND.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y_BND = x_BND
            for block in self.blocks:
                y_BND = block(y_BND)
        weights = [w for block in self.blocks for w in weights_of(block)]  # type: ignore[arg-type]
        return gradients(y_BND, x_BND, weights, dy_BND)

    def native(self, kind: Kind, x_BND: Tensor, dy_BND: Tensor, threads: int = 1) -> list[Tensor]:
        """The same by the kernel."""
        kernel = library(kind)
        weights, x_BND = self.weights(kernel.dtype), x_BND.to(kernel.dtype).requires_grad_()
        y_BND = blocks(x_BND, weights, self.shape, Kernels(kernel, threads))
        return gradients(y_BND, x_BND, weights, dy_BND)


def gradients(y_BND: Tensor, x_BND: Tensor, weights: list[Tensor | None], dy_BND: Tensor) -> list[Tensor]:
    leaves = [x_BND, *(w for w in weights if w is not None)]
    return [y_BND.detach(), *torch.autograd.grad(y_BND, leaves, dy_BND.to(y_BND.dtype))]


def data(batch: int, tokens: int, dim: int = 7) -> tuple[Tensor, Tensor]:
    """An input and a gradient of the output, float64."""
    generator = torch.Generator().manual_seed(1)
    x, dy = (torch.randn(batch, tokens, dim, dtype=torch.float64, generator=generator) for _ in range(2))
    return x, dy


def distances(ours: list[Tensor], truth: list[Tensor]) -> list[float]:
    """Relative to the norm of each."""
    return [float((a.double() - b).norm() / b.norm().clamp(min=1e-30)) for a, b in zip(ours, truth, strict=True)]


FORMS: list[dict[str, Any]] = [
    *(dict(attn_form="qkv", num_heads=heads, head_dim=3) for heads in (1, 2, 3, 4)),
    dict(attn_form="merged"),
    dict(attn_form="none"),
]
SWITCHES = [
    dict(norm=norm, act=act, linear_bias=bias, attn_bias=table)
    for (norm, act), (bias, table) in zip(
        product(("layer", "rms"), ("gelu", "relu2")), [(True, True), (False, True), (True, False), (False, False)],
        strict=True,
    )
]  # fmt: skip


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f['attn_form']}{f.get('num_heads', '')}")
def test_gradients_are_those_of_finite_differences(form: dict[str, Any], switches: dict[str, Any]) -> None:
    kernel = library("double")
    tokens = 5
    stack = Stack(tokens, depth=1, **form, **switches)
    weights = stack.weights(torch.float64)
    given = [weight is not None for weight in weights]

    def run(x_BND: Tensor, *leaves: Tensor) -> Tensor:
        rest = iter(leaves)
        return blocks(x_BND, [next(rest) if there else None for there in given], stack.shape, Kernels(kernel))

    x_BND = data(2, tokens)[0].requires_grad_()
    assert torch.autograd.gradcheck(run, (x_BND, *(w for w in weights if w is not None)), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("switches", [*SWITCHES, *({**s, "attn_bias": not s["attn_bias"]} for s in SWITCHES)], ids=str)
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f['attn_form']}{f.get('num_heads', '')}")
@pytest.mark.parametrize("kind", ["double", "pairs"])
def test_double_is_the_plain_block(form: dict[str, Any], switches: dict[str, Any], kind: Kind) -> None:
    stack, (x, dy) = Stack(5, **form, **switches), data(3, 5)
    assert max(distances(stack.native(kind, x, dy), stack.plain(x, dy))) < 1e-11


@pytest.mark.parametrize(
    ("batch", "tokens", "dim", "hidden", "heads", "width"),
    [
        (1, 1, 3, 5, 1, 2),
        (2, 17, 13, 19, 3, 5),
        (13, 7, 31, 37, 2, 11),
        (19, 23, 48, 96, 2, 24),
        (3, 67, 65, 97, 1, 61),
    ],
)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_float_is_the_plain_block_for_any_size_and_number_of_threads(
    batch: int, tokens: int, dim: int, hidden: int, heads: int, width: int, threads: int
) -> None:
    x, dy = data(batch, tokens, dim)
    for form in (dict(num_heads=heads, head_dim=width), dict(attn_form="merged")):
        stack = Stack(tokens, hidden, embed_dim=dim, std=0.1, attn_bias=True, **form)
        assert max(distances(stack.native("float", x, dy, threads), stack.plain(x, dy))) < 2e-5


BF16_CASES: list[tuple[int, int, int, int, dict[str, Any]]] = [
    (17, 36, 48, 96, dict(attn_form="merged", norm="rms", act="relu2", linear_bias=False, attn_bias=True)),
    (11, 49, 48, 96, dict(num_heads=2)),
    (5, 19, 41, 83, dict(num_heads=3, head_dim=13, attn_bias=True)),
    (3, 50, 64, 129, dict(num_heads=4, norm="rms", linear_bias=False)),
    (3, 13, 96, 64, dict(attn_form="merged")),
    (7, 29, 31, 61, dict(attn_form="none", act="relu2")),
]


@pytest.mark.parametrize("case", BF16_CASES, ids=lambda c: f"{c[1]}-{c[2]}")
@pytest.mark.parametrize("std", [0.05, 0.2])
def test_bf16_is_as_close_to_the_truth_as_torchs_own(case: Any, std: float) -> None:
    batch, tokens, dim, hidden, knobs = case
    stack, (x, dy) = Stack(tokens, hidden, embed_dim=dim, std=std, **knobs), data(batch, tokens, dim)
    truth = stack.plain(x, dy)
    torchs = distances(stack.plain(x.float(), dy.float(), autocast=True), truth)
    ours = distances(stack.native("bf16", x, dy), truth)
    assert max(ours) < 0.03
    assert all(our < 1.5 * their + 1e-6 for our, their in zip(ours, torchs, strict=True))


@pytest.mark.parametrize("kind", ["bf16", "float"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_repetition_is_bit_for_bit(kind: Kind, threads: int) -> None:
    stack, (x, dy) = Stack(36, 96, embed_dim=48, num_heads=2, attn_bias=True), data(23, 36, 48)
    first = stack.native(kind, x, dy, threads)
    stack.native(kind, 3 * x, dy, threads)  # other numbers in the workspace
    assert all(map(torch.equal, first, stack.native(kind, x, dy, threads)))


@pytest.mark.parametrize("kind", ["bf16", "float"])
@pytest.mark.parametrize("act", ["gelu", "relu2"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_nan_is_seen(kind: Kind, act: str, bad: float) -> None:
    stack, (x, dy) = Stack(9, 23, embed_dim=19, act=act), data(5, 9, 19)
    x[3, 7, 2] = bad
    y, dx, *weights = stack.native(kind, x, dy)
    assert y[3].isnan().all()
    assert dx[3].isnan().all()
    assert not y[[0, 1, 2, 4]].isnan().any()
    assert all(gradient.isnan().any() for gradient in weights[:-1])  # the last bias' is a sum of dy


def test_large_scores_do_not_overflow() -> None:
    stack, (x, dy) = Stack(9, 23, embed_dim=19, std=30.0), data(2, 9, 19)
    assert all(result.isfinite().all() for result in stack.native("bf16", x, dy))


@pytest.mark.parametrize("kind", ["bf16", "double"])
def test_without_gradients_the_output_is_the_same(kind: Kind) -> None:
    kernel, stack, (x, dy) = library(kind), Stack(13, 29, embed_dim=17), data(3, 13, 17)
    y = stack.native(kind, x, dy)[0]
    with torch.no_grad():
        z = blocks(x.to(kernel.dtype), stack.weights(kernel.dtype), stack.shape, Kernels(kernel))
    assert torch.equal(y, z)
    assert not z.requires_grad


def test_calls_from_several_threads_do_not_meet() -> None:
    stack, (x, dy) = Stack(13, 29, embed_dim=17), data(7, 13, 17)
    expected = stack.native("float", x, dy)
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda _: stack.native("float", x, dy), range(16)):
            assert all(map(torch.equal, expected, results))


def test_what_the_kernel_cannot_take() -> None:
    kernel, stack, (x, _) = library("double"), Stack(5), data(2, 5)
    weights = stack.weights(torch.float64)
    with pytest.raises(ValueError, match="26 weights, not 13"):
        blocks(x, weights[: len(BLOCK_WEIGHTS)], stack.shape, Kernels(kernel))
    with pytest.raises(ValueError, match="contiguous"):
        blocks(x, stack.weights(torch.float32), stack.shape, Kernels(kernel))
    with pytest.raises(ValueError, match="the blocks need tokens of 7 numbers, not 8"):
        blocks(torch.zeros(2, 5, 8, dtype=torch.float64), weights, stack.shape, Kernels(kernel))
    assert blocks(x[:0], weights, stack.shape, Kernels(kernel)).shape == (0, 5, 7)


# Building


def fake_compiler(folder: Path, script: str) -> Path:
    path = folder / "fakecc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(NativeError, match="no C compiler"):
        load("bf16", tmp_path)


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = 'case "$*" in *-dM*) echo "#define __AVX512BF16__ 1";; *) echo "x.c:1: error: no" >&2; exit 1;; esac'
    monkeypatch.setenv("CC", str(fake_compiler(tmp_path, script)))
    with pytest.raises(NativeError, match=r"failed: x\.c:1: error: no"):
        load("bf16", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_processor_without_the_instructions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", str(fake_compiler(tmp_path, "exit 0")))
    with pytest.raises(NativeError, match="does not support AVX512-BF16"):
        load("bf16", tmp_path)


def test_a_library_that_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "blocks.so"
    path.write_bytes(b"not a library")
    with pytest.raises(NativeError, match="does not load"):
        Library("float", path)


def test_it_is_compiled_once_also_by_many_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library("float")  # or skip
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    (tmp_path / "blocks.c").write_text(STUBS)
    cache = tmp_path / "deep" / "cache"
    with ThreadPoolExecutor(3) as pool:
        paths = {pool.submit(load, "float", cache).result().path for _ in range(3)}
    (path,) = paths
    assert list(cache.iterdir()) == [path]
    before = path.stat().st_mtime_ns
    load("float", cache)
    assert path.stat().st_mtime_ns == before
    with (tmp_path / "blocks.c").open("a") as source:
        source.write("// changed\n")
    assert load("float", cache).path != path


STUBS = "".join(
    f'__attribute__((visibility("default"))) unsigned long vitlab_{name}(void) {{ return 0; }}\n'
    for name in build.FUNCTIONS
)


def test_the_shape_is_what_the_configuration_says() -> None:
    config = ModelConfig(embed_dim=48, depth=3, num_heads=2, mlp_ratio=2.0, norm="rms")
    assert block_shape(config, training=True) == BlockShape(48, 3, 2, 24, 96, "qkv", rms=True, relu2=False)
