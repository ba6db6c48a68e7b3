"""What vitlab chooses by itself so that a network fits the images: preset, input size, patches, and how long to train.

Everything is decided here, once, before a run begins, and becomes plain numbers in its configuration. A knob that you
set is never changed. What is chosen, and why:

- **Recipe**, if you name none: `small` for grey images, `colour` for colour. `colour` mirrors images, which is wrong
  for digits, letters and everything else where left and right matter; so grey images, which are mostly that, are never
  mirrored, and a data set that forbids flips is obeyed.
- **Input size**: MNIST-like images are seen at 28 x 28, CIFAR-like ones at 32 x 32, photos at 64 x 64, which shows
  enough to tell most things from each other.
- **What augmentation fills in** at the edges of images of 16 bits is their reflection, for any preset that is chosen:
  a camera of 12 bits or a microscope seldom uses the whole range, and black may be far from all that the images show.
- **Patches** such that there are about 8 x 8, whatever the size. Attention costs time with the square of their number,
  and the head of our presets takes all of them side by side: patches of 4 pixels at 64 x 64 would make 256 tokens.
- **Steps**, if you name no preset: ours are made for 40,000 images and more. In as many epochs, 300 images make 28
  steps, after which a network has learned little. So few images get smaller batches and more epochs, until they make
  LEAST_STEPS steps (measured in docs/understand/log.md, "Few images").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitlab.config.presets import COLOUR_PRESET, DEFAULT_PRESET, preset_config
from vitlab.config.run import AUTO, RunConfig
from vitlab.text import counted

LARGEST = {28: 28, 40: 32}  # longer side of the images -> side of the network's input; PHOTO for larger ones
PHOTO = 64
GRID = 8  # patches per side
SMALL = 28  # up to this side, grey images are like MNIST's, for which `small` is made as it is
LEAST_SEEN = 0.8  # of the input's side: a network that sees less says so (`fast` sees 24 of 28 pixels)
LEAST_STEPS = 1000
FEW_BATCH = 64  # the smallest batch that is chosen
MOST_EPOCHS = 200  # even if so few images make fewer steps


@dataclass(frozen=True)
class Shape:
    """Of a data set's images: most have this ``height`` and ``width`` in pixels; ``channels`` is 1 if all are grey.
    ``may_flip`` is False where a mirrored image would mean something else. ``bits``: of each number, 8 or 16.
    ``images``: how many there are for training and validation together; None if that is not known."""

    height: int
    width: int
    channels: int
    may_flip: bool = True
    bits: int = 8
    images: int | None = None

    @property
    def longer(self) -> int:
        """The longer side in pixels."""
        return max(self.height, self.width)

    @property
    def is_like_mnist(self) -> bool:
        """Whether the default preset is made for such images."""
        return self.channels == 1 and self.longer <= SMALL

    def __str__(self) -> str:
        kind = {1: "in grey", 3: "in colour"}.get(self.channels, f"with {self.channels} channels")
        return f"{self.height:,} x {self.width:,} {kind}{' of 16 bits' if self.bits == 16 else ''}"


def place_to_look_at(base: RunConfig | None, knobs: Mapping[str, Any]) -> str | None:
    """The data set whose images decide; None if nothing depends on them, as for a preset with its own data."""
    if knobs.get("image_size") == AUTO:
        return str(knobs.get("data", (base or preset_config(DEFAULT_PRESET)).data.data))
    return knobs.get("data")


def input_side(shape: Shape) -> int:
    """Side in pixels of the input of a network for such images.

    >>> from vitlab.config.fitting import Shape, input_side
    >>> [input_side(Shape(side, side, 3)) for side in (8, 28, 32, 64, 3024)]
    [28, 28, 32, 64, 64]
    """
    return next((side for largest, side in LARGEST.items() if shape.longer <= largest), PHOTO)


def fitted(base: RunConfig | None, knobs: Mapping[str, Any], shape: Shape | None) -> tuple[RunConfig, str]:
    """The configuration for images of this ``shape`` with ``knobs``, and a line on what was chosen, or "".

    ``base`` keeps its size, unless the knob ``image_size`` is AUTO; None means a preset that fits. Without a ``shape``
    nothing is known about the images, and nothing is chosen.
    """
    is_auto = knobs.get("image_size") == AUTO
    rest = {name: value for name, value in knobs.items() if name != "image_size" or not is_auto}
    if shape is None:
        return (base or preset_config(DEFAULT_PRESET)).with_knobs(**rest), ""
    if base is not None:
        config = base.with_knobs(**((sizes(base, input_side(shape)) if is_auto else {}) | rest))
        model = config.model
        worth_saying = is_auto or shape.longer > model.image_size or model.input_side < LEAST_SEEN * model.image_size
        return config, seen(config, shape) if worth_saying else ""
    base = preset_config(DEFAULT_PRESET if shape.channels == 1 else COLOUR_PRESET)
    chosen: dict[str, Any] = {} if shape.may_flip else {"flip": False}
    if shape.bits == 16:
        chosen["fill"] = "reflect"
    if not shape.is_like_mnist:
        chosen |= sizes(base, rest.get("image_size", input_side(shape)))
    config = base.with_knobs(**(chosen | rest))
    longer = more_steps(base, shape.images, rest)
    config = config.with_knobs(**longer)
    word, option = ("mirrored", "--no-flip") if config.augment.flip else ("not mirrored", "--flip")
    flips = f"training images are {word}{f' ({option})' if shape.may_flip else ''}"
    parts = [seen(config, shape), f"preset {config.preset} (--preset NAME)", flips]
    if longer:
        parts.append(f"{shape.images:,} images are few, so {learned(config, longer)}")
    return config, "; ".join(parts)


def sizes(base: RunConfig, side: int) -> dict[str, Any]:
    """The knobs of ``base`` that are in pixels, for an input of ``side`` x ``side``: about GRID x GRID patches of the
    whole image, which overlap if they did, and shifts of the same share of it."""
    if side == base.model.image_size:
        return {}
    patch = max(1, (side + GRID // 2) // GRID)
    scale = side / base.model.image_size
    return {
        "image_size": side,
        "crop": None,
        "patch_size": patch,
        "patch_overlap": patch // 2 if base.model.patch_overlap else 0,
        "shift": round(base.augment.shift * scale, 2),
        "elastic": round(base.augment.elastic * scale, 2),
    }


def more_steps(preset: RunConfig, images: int | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs, but none that is ``given``, with which so few ``images`` make LEAST_STEPS steps: smaller batches than
    the preset's, and if these do not suffice, more epochs. None if there are enough images, or if nobody knows how
    many."""
    if images is None:
        return {}
    shown = max(1, round(images * (1 - given.get("val_fraction", preset.data.val_fraction))))  # in an epoch
    epochs, batch = preset.train.epochs, given.get("batch_size", preset.train.batch_size)
    while "batch_size" not in given and batch > FEW_BATCH and epochs * math.ceil(shown / batch) < LEAST_STEPS:
        batch = max(FEW_BATCH, batch // 2)
    epochs = max(epochs, float(min(MOST_EPOCHS, math.ceil(LEAST_STEPS / math.ceil(shown / batch)))))
    made = {"batch_size": batch, "epochs": epochs}
    if "epochs" not in given:
        made["warmup_epochs"] = round(preset.optim.warmup_epochs * epochs / preset.train.epochs, 2)
    usual = preset.values()
    return {name: value for name, value in made.items() if name not in given and value != usual[name]}


def learned(config: RunConfig, chosen: Mapping[str, Any]) -> str:
    """What was ``chosen`` about how long a network learns, in a phrase."""
    train = config.train
    if "epochs" not in chosen:
        return f"batches have {train.batch_size} (--batch-size)"
    return f"it learns for {counted(train.epochs, 'epoch')} in batches of {train.batch_size} (--epochs, --batch-size)"


def seen(config: RunConfig, shape: Shape) -> str:
    """What the network sees of the images, in a phrase."""
    side, inner = config.model.image_size, config.model.input_side
    if inner == side:
        return f"the images are {shape}: the network sees {side} x {side} (--image-size N changes it)"
    middle = f"the middle {inner} x {inner} of {side} x {side}"
    return f"the images are {shape}: the network sees only {middle} (--crop none shows it everything)"
