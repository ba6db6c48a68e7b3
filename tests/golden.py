"""Parity with Keras: load a golden file's weights into our network and compare tokens and logits.

A golden file is a .npz with weights in Keras' layouts ("w:" + name), `images`, `mean`, `std`, and the `logits`
(and for a ViT the `tokens`) that Keras computed. All sizes are read from its arrays, so any network of
the seed's kind can be checked:

    python -m tests.golden FILE.npz ...      prints the largest differences; exit code 1 if one is too large
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitlab import CNN, Preprocess, ViT
from vitlab.config import ModelConfig
from vitlab.model import count_parameters
from vitlab.model.patches import patchify

LOGITS_TOLERANCE = 1e-4
TOKENS_TOLERANCE = 1e-5

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Differences:
    """The largest absolute differences between Keras and vitlab; ``tokens`` is None for a CNN."""

    logits: float
    tokens: float | None
    params_agree: bool

    @property
    def acceptable(self) -> bool:
        """Whether vitlab's network is the golden one (a NaN is not acceptable)."""
        tokens_fit = self.tokens is None or self.tokens <= TOKENS_TOLERANCE
        return self.logits <= LOGITS_TOLERANCE and tokens_fit and self.params_agree


def read(path: Path) -> Arrays:
    """All arrays of a golden file."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def compare(arrays: Arrays) -> Differences:
    """Run the golden images through our network with the golden weights."""
    is_vit = "w:patch_embed.kernel" in arrays
    with torch.inference_mode():
        images = golden_images(arrays)
        model = build_vit(arrays, images.shape[-1]) if is_vit else build_cnn(arrays, images.shape[-1])
        inputs = preprocess(arrays, is_vit)(images)
        logits = model.eval()(inputs)
        tokens = None
        if is_vit:
            patches = patchify(inputs, int(arrays["patch_size"]))
            tokens = largest_difference(patches, arrays["tokens"])
    agree = count_parameters(model) == int(arrays["trainable_params"])
    return Differences(largest_difference(logits, arrays["logits"]), tokens, agree)


def golden_images(arrays: Arrays) -> Tensor:
    """uint8 [B, H, W, C]; grey images may come without their last axis."""
    images = torch.from_numpy(arrays["images"])
    return images if images.ndim == 4 else images.unsqueeze(-1)


def preprocess(arrays: Arrays, is_vit: bool) -> Preprocess:
    """The golden network's normalisation; the CNN sees pixels in 0..1."""
    if not is_vit:
        channels = arrays["w:conv1.kernel"].shape[2]
        return Preprocess(arrays["images"].shape[1], (0.0,) * channels, (1.0,) * channels)
    mean, std = (tuple(np.atleast_1d(arrays[name]).tolist()) for name in ("mean", "std"))
    return Preprocess(int(arrays["image_size"]), mean, std)


def build_vit(arrays: Arrays, channels: int) -> ViT:
    """The ViT whose sizes and weights the arrays tell."""
    tokens, dim = arrays["w:pos_embed"].shape
    _, heads, head_dim = arrays["w:block0.attn.query.kernel"].shape
    config = ModelConfig(
        image_size=int(arrays["image_size"]),
        patch_size=int(arrays["patch_size"]),
        embed_dim=dim,
        depth=count(arrays, "block{}.norm1.gamma"),
        num_heads=heads,
        head_dim=head_dim,
        mlp_ratio=arrays["w:block0.mlp0.kernel"].shape[1] / dim,
        mlp_last_gelu=True,
        pool="flatten",
        head_hidden=tuple(arrays[f"w:head{i}.bias"].size for i in range(count(arrays, "head{}.kernel"))),
    )
    assert tokens == config.grid**2 == int(arrays["num_tokens"]), "the golden file contradicts itself"
    model = ViT(config, channels, arrays["logits"].shape[1])
    model.load_state_dict(vit_weights(arrays, config.depth, len(config.head_hidden)))
    return model


def vit_weights(arrays: Arrays, depth: int, hidden_layers: int) -> dict[str, Tensor]:
    """Keras' arrays under our names and in torch's layouts."""
    weights = {"pos_embed": tensor(arrays["w:pos_embed"])}
    weights |= dense(arrays, "patch_embed", "patch_embed") | norm(arrays, "norm", "norm")
    for i in range(depth):
        theirs, ours = f"block{i}", f"blocks.{i}"
        weights |= norm(arrays, f"{theirs}.norm1", f"{ours}.norm1") | norm(arrays, f"{theirs}.norm2", f"{ours}.norm2")
        weights |= dense(arrays, f"{theirs}.mlp0", f"{ours}.mlp.fc1") | dense(
            arrays, f"{theirs}.mlp1", f"{ours}.mlp.fc2"
        )
        weights |= attention(arrays, f"{theirs}.attn", f"{ours}.attn")
    for i in range(hidden_layers):  # in our head each dense layer is followed by GELU and dropout
        weights |= dense(arrays, f"head{i}", f"head.{1 + 3 * i}")
    return weights | dense(arrays, "logits", f"head.{1 + 3 * hidden_layers}")


def attention(arrays: Arrays, theirs: str, ours: str) -> dict[str, Tensor]:
    """[D, h, d] query, key and value kernels side by side, and the [h, d, D] output kernel."""
    names = [f"w:{theirs}.{part}" for part in ("query", "key", "value")]
    kernels = [arrays[f"{name}.kernel"].reshape(len(arrays[f"{name}.kernel"]), -1).T for name in names]
    output = arrays[f"w:{theirs}.attention_output.kernel"]
    return {
        f"{ours}.qkv.weight": tensor(np.concatenate(kernels)),
        f"{ours}.qkv.bias": tensor(np.concatenate([arrays[f"{name}.bias"].ravel() for name in names])),
        f"{ours}.proj.weight": tensor(output.reshape(-1, output.shape[-1]).T),
        f"{ours}.proj.bias": tensor(arrays[f"w:{theirs}.attention_output.bias"]),
    }


def build_cnn(arrays: Arrays, channels: int) -> CNN:
    """The CNN whose sizes and weights the arrays tell."""
    layers = count(arrays, "conv{}.kernel", first=1)
    kernels = [arrays[f"w:conv{i}.kernel"] for i in range(1, layers + 1)]
    widths = tuple(kernel.shape[-1] for kernel in kernels)
    side = arrays["images"].shape[1]
    model = CNN(ModelConfig(arch="cnn", image_size=side, cnn_channels=widths), channels, arrays["logits"].shape[1])
    weights = {}
    for i, kernel in enumerate(kernels):
        weights[f"convs.{i}.weight"] = tensor(kernel.transpose(3, 2, 0, 1))
        weights[f"convs.{i}.bias"] = tensor(arrays[f"w:conv{i + 1}.bias"])
    # Keras flattens row, column, channel; we flatten channel, row, column.
    head = arrays["w:head.kernel"]
    map_side = round((len(head) / widths[-1]) ** 0.5)
    head = head.reshape(map_side, map_side, widths[-1], -1).transpose(3, 2, 0, 1).reshape(head.shape[1], -1)
    weights |= {"head.1.weight": tensor(head), "head.1.bias": tensor(arrays["w:head.bias"])}
    model.load_state_dict(weights)
    return model


def dense(arrays: Arrays, theirs: str, ours: str) -> dict[str, Tensor]:
    """Keras keeps [in, out], torch [out, in]."""
    return {
        f"{ours}.weight": tensor(arrays[f"w:{theirs}.kernel"].T),
        f"{ours}.bias": tensor(arrays[f"w:{theirs}.bias"]),
    }


def norm(arrays: Arrays, theirs: str, ours: str) -> dict[str, Tensor]:
    """gamma and beta are weight and bias."""
    return {f"{ours}.weight": tensor(arrays[f"w:{theirs}.gamma"]), f"{ours}.bias": tensor(arrays[f"w:{theirs}.beta"])}


def tensor(array: NDArray[np.float32]) -> Tensor:
    """A float32 tensor of its own memory."""
    return torch.tensor(np.ascontiguousarray(array))


def count(arrays: Arrays, pattern: str, first: int = 0) -> int:
    """How many layers are named after ``pattern``."""
    number = first
    while f"w:{pattern.format(number)}" in arrays:
        number += 1
    return number - first


def largest_difference(ours: Tensor, theirs: NDArray[np.float32]) -> float:
    """The largest absolute difference; infinite when the shapes differ, NaN when a number is not one."""
    if tuple(ours.shape) != theirs.shape:
        return float("inf")
    return float(np.abs(ours.numpy() - theirs).max())


def main(paths: Sequence[str]) -> int:
    """Print one line a file; 1 if any differs by more than the tolerances."""
    if not paths:
        print(__doc__)
        return 2
    failed = 0
    for path in paths:
        found = compare(read(Path(path)))
        tokens = "" if found.tokens is None else f", tokens {found.tokens:.2e} (at most {TOKENS_TOLERANCE:.0e})"
        params = "" if found.params_agree else ", parameter counts differ"
        verdict = "ok" if found.acceptable else "DIFFERS"
        print(f"{path}: logits {found.logits:.2e} (at most {LOGITS_TOLERANCE:.0e}){tokens}{params}: {verdict}")
        failed += not found.acceptable
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
