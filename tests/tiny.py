"""Small things that many tests need: synthetic digits, a network that trains in a second, a run on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vitlab import RunConfig, Split
from vitlab.config import ModelConfig
from vitlab.data.batches import DeviceSplit


def glyphs(count: int, classes: int = 3, size: int = 8, seed: int = 0) -> Split:
    """Noisy bars whose row tells the class: uint8 [count, size, size, 1], learnable in a few steps."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    images = draw.integers(0, 60, size=(count, size, size, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 180
    return Split(images, labels)


def write_npz(path: Path, train: int = 97, test: int = 31, classes: int = 3, size: int = 8) -> Path:
    """A data set of glyphs as a .npz file that `--data` takes."""
    a, b = glyphs(train, classes, size, seed=1), glyphs(test, classes, size, seed=2)
    np.savez(path, x_train=a.images, y_train=a.labels, x_test=b.images, y_test=b.labels)
    return path


def tiny_config(data: Path | str, **knobs: object) -> RunConfig:
    """A run of a second: a 2-block ViT on 8 x 8 images, with everything random switched on."""
    base = dict(
        data=str(data), image_size=8, patch_size=2, embed_dim=12, depth=2, num_heads=3, pool="flatten", epochs=3,
        batch_size=17, eval_batch_size=13, lr=3e-3, dropout=0.1, attn_dropout=0.1, drop_path=0.1, rotate=5.0, shift=1.0,
        threads=1, precision="fp32", checkpoint_seconds=0.0, label_smoothing=0.1,
    )  # fmt: skip
    return RunConfig().with_knobs(**(base | knobs))


def tiny_model_config(**knobs: object) -> ModelConfig:
    """A ViT over a 3 x 3 grid; sizes are distinct primes where they can be, so that swapped axes cannot pass."""
    base: dict[str, object] = dict(image_size=15, patch_size=5, embed_dim=14, depth=3, num_heads=2, head_dim=11)
    return ModelConfig(**(base | knobs))  # type: ignore[arg-type]


def on_cpu(split: Split) -> DeviceSplit:
    """A Split as tensors."""
    return DeviceSplit(torch.from_numpy(split.images), torch.from_numpy(split.labels))
