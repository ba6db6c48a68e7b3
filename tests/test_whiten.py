"""A patch embedding that starts white, against scikit-learn's PCA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from tests.tiny import tiny_config, tiny_model_config, write_npz
from vitlab.model.patches import patchify
from vitlab.model.whiten import FLOOR, whiten
from vitlab.runs.prepare import prepare

CONFIG = tiny_model_config(image_size=10, patch_size=5, patch_overlap=1)
SIZE = 7 * 7 * 2  # numbers of a patch


def images(count: int = 211) -> Tensor:
    """Noise in which neighbours resemble each other, brighter below."""
    torch.manual_seed(3)
    smooth = nn.functional.avg_pool2d(torch.randn(count, 2, 14, 14), 5, stride=1)
    return smooth + torch.linspace(0, 1, 10)[:, None]


def embedded(dim: int, inputs: Tensor) -> Tensor:
    """The tokens that a white embedding makes of these images, [patches, D]."""
    embed = nn.Linear(SIZE, dim)
    whiten(embed, CONFIG, inputs.split(83))
    tokens: Tensor = embed(patchify(inputs, 5, 1))
    return tokens.flatten(0, 1).detach()


@pytest.mark.parametrize("dim", [13, SIZE, 131])
def test_it_is_a_turned_whitening(dim: int) -> None:
    """Products of tokens are the same however they are turned, so they must be those of the whitened components."""
    inputs = images()
    patches = patchify(inputs, 5, 1).flatten(0, 1).double().numpy()
    rank = min(dim, SIZE)
    pca = PCA(rank, svd_solver="full").fit(patches)
    variances = pca.explained_variance_ * (len(patches) - 1) / len(patches)
    floor = FLOOR * patches.var(axis=0).sum() / SIZE
    white = pca.transform(patches) / np.sqrt(variances + floor) * np.sqrt(dim / rank)
    ours = embedded(dim, inputs).double().numpy()
    np.testing.assert_allclose(ours @ ours[:17].T, white @ white[:17].T, atol=2e-3 * dim)
    np.testing.assert_allclose(ours.mean(axis=0), 0, atol=1e-3)


def test_as_many_numbers_as_components_are_uncorrelated_and_equally_large() -> None:
    """The strongest components lie far above the floor."""
    covariance = torch.cov(embedded(5, images(1009)).T, correction=0)
    torch.testing.assert_close(covariance, torch.eye(5), atol=0.03, rtol=0)


def test_images_that_are_all_the_same_do_not_matter() -> None:
    same, embed = torch.full((3, 2, 10, 10), 0.7), nn.Linear(50, 13)
    whiten(embed, replace(CONFIG, patch_overlap=0), [same])
    assert embed(patchify(same, 5)).abs().max() < 1e-2


@pytest.mark.parametrize("arch", ["vit", "mixer"])
def test_a_run_starts_white_by_its_seed(arch: str, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "glyphs.npz")

    def weight(**knobs: Any) -> Tensor:
        model: Any = prepare(tiny_config(data, arch=arch, **knobs), lambda line: None).model
        return model.patch_embed.weight.detach().clone()  # type: ignore[no-any-return]

    first, again, other, plain = (
        weight(patch_init=how, seed=seed) for how, seed in (("white", 3), ("white", 3), ("white", 5), ("random", 3))
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert first.std() > 2 * plain.std()
