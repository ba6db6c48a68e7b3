"""From stored images to the network's input: the same for training, evaluation and prediction.

Only the deterministic part is here. Random changes, for training, are in augment.py and are passed in as a function:
nobody can normalise twice, or in another way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.data.splits import MOST_CHANNELS
from vitlab.machine import constant

WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0}


@dataclass(frozen=True)
class Preprocess:
    """From stored images to the network's input, without augmentation.

    ``image_size``: side in pixels that images are resized to; ``mean`` and ``std`` per channel, of pixels in 0 to 1
    (0 and 1 change nothing); ``crop``: side of the centre square to crop to, or None.

    >>> import torch
    >>> preprocess = vitlab.Preprocess(image_size=28, mean=(0.5,), std=(0.25,))
    >>> inputs = preprocess(torch.full((5, 8, 8, 1), 255, dtype=torch.uint8))
    >>> list(inputs.shape), inputs.max().item()
    ([5, 1, 28, 28], 2.0)
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: int | None = None

    def __call__(self, images_BHWC: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """uint8, uint16 or float32 [B, H, W, C] -> float32 [B, C, S, S], S the crop or image_size.

        Scaled to 0..1 (255 or, of uint16, 65535 becomes 1; float32 images are taken as they are), resized (bilinear,
        half-pixel centres, no anti-aliasing: Keras' `Resizing`), changed by ``augment``, cropped (right and bottom lose
        the odd pixel), normalised. The seed page normalises first. That makes no difference with bilinear weights,
        which sum to 1, and holes filled by reflection; but holes filled with zeros are black only before normalisation.
        """
        self._check(images_BHWC)
        images = images_BHWC.permute(0, 3, 1, 2).float()
        white = WHITE.get(images_BHWC.dtype)
        is_new = white is not None  # then no one else sees what is changed in place
        if white is not None:
            images.div_(white)
        size = (self.image_size, self.image_size)
        if tuple(images.shape[-2:]) != size:
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=False)
        if augment is not None:
            images = augment(images)
        if self.crop is not None and self.crop < self.image_size:
            first = (self.image_size - self.crop) // 2
            images = images[:, :, first : first + self.crop, first : first + self.crop]
        if not is_new:
            return self.normalize(images)
        mean, std = self._per_channel(images)
        return images.sub_(mean).div_(std)

    def _check(self, images: object) -> None:
        """TypeError for what is no tensor [B, H, W, C] of these channels; grey images may become any."""
        own = len(self.mean)
        wanted = f"preprocess takes a tensor [B, H, W, {own}]"
        if not isinstance(images, Tensor):
            advice = "; torch.from_numpy(x) makes one of an array" if hasattr(images, "__array__") else ""
            raise TypeError(f"{wanted}, not {type(images).__name__}{advice}")
        shape = list(images.shape)
        if len(shape) != 4:
            raise TypeError(
                f"{wanted}, not {shape}" + ("; x[None] makes a batch of one image" if len(shape) == 3 else "")
            )
        if shape[3] not in (1, own) and (own > 1 or shape[3] > MOST_CHANNELS):
            advice = "; use x.permute(0, 2, 3, 1)" if shape[1] in (1, own) else ""
            raise TypeError(f"{wanted}, not {shape}{advice}")

    def normalize(self, images_BCHW: Tensor) -> Tensor:
        """Subtract the mean, divide by the standard deviation, per channel."""
        mean, std = self._per_channel(images_BCHW)
        return (images_BCHW - mean) / std

    def _per_channel(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (constant(values, images_BCHW.device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return mean, std

    def denormalize(self, inputs_BCSS: Tensor) -> Tensor:
        """The inverse of `normalize`: float64, in 0 to 1 for images."""
        mean, std = (inputs_BCSS.new_tensor(values, dtype=torch.float64) for values in (self.mean, self.std))
        return inputs_BCSS.double() * std.view(1, -1, 1, 1) + mean.view(1, -1, 1, 1)
