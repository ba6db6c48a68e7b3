"""Products on AMX tiles: every remainder of rows, columns and sums, against the vectors that other processors use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.test_native import Stack, data, distances, library
from vitlab.native.build import Library

# Images, tokens, dim, hidden, and the rest. Rows of an image fill no tiles, one, several, or leave some empty; sums go
# over fewer than 16 pairs, 16, and more, with and without a rest; weight gradients over 1 to 600 pairs, whose tiles
# of sums come in pairs or leave a row or a column of them over.
CASES: list[tuple[int, int, int, int, dict[str, Any]]] = [
    (1, 1, 3, 5, dict(num_heads=1, head_dim=2)),
    (1, 31, 16, 16, dict(num_heads=1, head_dim=16)),
    (1, 32, 32, 64, dict(num_heads=1, head_dim=32)),
    (1, 33, 47, 16, dict(num_heads=2, head_dim=17)),
    (2, 17, 13, 19, dict(num_heads=3, head_dim=5, attn_bias=True)),
    (3, 29, 73, 41, dict(num_heads=5, head_dim=11, linear_bias=False)),
    (5, 49, 64, 128, dict(num_heads=2, attn_bias=True)),
    (23, 50, 48, 96, dict(num_heads=2, norm="rms")),
    (13, 7, 31, 37, dict(num_heads=2, head_dim=11)),
    (2, 97, 37, 131, dict(num_heads=2, head_dim=43)),
    (7, 25, 48, 96, dict(attn_form="merged", norm="rms", act="relu2", linear_bias=False, attn_bias=True)),
    (2, 43, 53, 79, dict(attn_form="merged", attn_bias=True)),
    (11, 59, 61, 83, dict(attn_form="none")),
    (11, 97, 13, 11, dict(num_heads=1)),
    (37, 4, 96, 192, dict(num_heads=4, head_dim=96, mlp_last_gelu=True)),
]


@pytest.fixture
def kernel() -> Iterator[Library]:
    """The kernel on a machine that has tiles, which it uses again afterwards."""
    found = library("bf16")
    if not found.use_tiles(True):
        pytest.skip("no AMX here")
    yield found
    found.use_tiles(True)


def by_vectors(kernel: Library, stack: Stack, x: Tensor, dy: Tensor) -> list[Tensor]:
    assert not kernel.use_tiles(False)
    results = stack.native("bf16", x, dy)
    assert kernel.use_tiles(True)
    return results


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c[:4])))
def test_tiles_give_the_numbers_that_vectors_give(kernel: Library, case: Any) -> None:
    batch, tokens, dim, hidden, knobs = case
    stack, (x, dy) = Stack(tokens, hidden, embed_dim=dim, std=0.1, **knobs), data(batch, tokens, dim)
    tiles, vectors, truth = stack.native("bf16", x, dy), by_vectors(kernel, stack, x, dy), stack.plain(x, dy)
    assert max(distances(tiles, truth)) < 0.03
    ours, theirs = distances(tiles, truth), distances(vectors, truth)
    assert all(our < 1.2 * their + 1e-3 for our, their in zip(ours, theirs, strict=True))


def test_a_nan_of_one_image_stays_there(kernel: Library) -> None:
    for tokens in (9, 25, 33, 49):
        stack, (x, dy) = Stack(tokens, 23, embed_dim=19, num_heads=2, head_dim=5), data(5, tokens, 19)
        x[3, 2, 1] = float("nan")
        y, dx, *_ = stack.native("bf16", x, dy)
        assert y[3].isnan().all()
        assert dx[3].isnan().all()
        assert not y[[0, 1, 2, 4]].isnan().any()
        assert not dx[[0, 1, 2, 4]].isnan().any()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_result_is_the_same_whoever_used_the_tiles_before(kernel: Library, threads: int) -> None:
    stack, (x, dy) = Stack(25, 83, embed_dim=41, num_heads=2, head_dim=13, attn_bias=True), data(7, 25, 41)
    other, (other_x, other_dy) = Stack(50, 16, embed_dim=32, num_heads=1), data(3, 50, 32)
    first = stack.native("bf16", x, dy, threads)
    square = torch.full((128, 128), float("nan"), dtype=torch.bfloat16)
    for disturb in (
        lambda: other.native("bf16", other_x, other_dy, threads),
        lambda: square @ square,
        lambda: by_vectors(kernel, stack, x, dy),
    ):
        disturb()
        assert all(map(torch.equal, first, stack.native("bf16", x, dy, threads)))
