"""The small CNN of keras.io's "Simple MNIST convnet", which beat the seed page's ViT."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.config import ModelConfig, cnn_side
from vitlab.model.description import Description, Squares, head_multiply_adds
from vitlab.model.patches import check_preprocessed
from vitlab.text import listed

DELETION_GRID = 7  # squares a side that deletion blanks, where there are no patches
WITHOUT_PATCHES = {  # the views that no convolutional network has, and why
    view: f"a convolutional network has no {part}"
    for view, part in {
        "patches": "patches",
        "attention": "attention",
        "filters": "patch embedding",
        "positions": "position embeddings",
        "lens": "transformer blocks",
    }.items()
}


class CNN(nn.Module):
    """For each layer a 3 x 3 convolution without padding, ReLU and 2 x 2 max pooling; then one dense layer. With
    ``cnn_channels`` (32, 64) the network of keras-team/keras-io, examples/vision/mnist_convnet.py.

    >>> import torch
    >>> model = vitlab.build_model(vitlab.preset_config("keras-cnn").model, in_channels=1, num_classes=10)
    >>> list(model(torch.zeros(5, 1, 28, 28)).shape)  # float [B, C, side, side] -> logits [B, K]
    [5, 10]
    """

    def __init__(self, config: ModelConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        channels = (in_channels, *config.cnn_channels)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, kernel_size=3) for a, b in pairwise(channels))
        side = cnn_side(config.input_side, len(config.cnn_channels))
        self.head = nn.Sequential(nn.Dropout(config.head_dropout), nn.Linear(channels[-1] * side**2, num_classes))
        for module in self.modules():  # Keras' defaults
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """[B, C, side, side], preprocessed -> logits [B, K]."""
        logits_BK: Tensor = self.head(self.features(images_BCHW))
        return logits_BK

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The last feature map, flattened in the order channel, row, column."""
        check_preprocessed(images_BCHW)
        x = channels_last(images_BCHW)
        for conv in self.convs:
            x = F.relu(F.max_pool2d(conv(x), 2))  # equal to pooling after ReLU, on a quarter of the numbers
        return x.flatten(1)

    def over_places(self, features_BF: Tensor) -> Tensor:
        """What `features` gives, as [B, places, channels]."""
        return features_BF.reshape(len(features_BF), self.config.cnn_channels[-1], -1).transpose(1, 2)

    def describe(self) -> Description:
        """What the rest of the program needs to know about it."""
        side = max(1, self.config.input_side // DELETION_GRID)
        return Description(
            name="CNN",
            kind="convolutional network",
            line=f"{listed([str(count) for count in self.config.cnn_channels])} channels",
            squares=Squares(self.config.input_side // side, side),
            flops_per_image=2 * self.multiply_adds(),
            # The first convolution reads pixels, not features, so Muon leaves it to AdamW.
            matrices={f"convs.{layer}.weight": 1 for layer in range(1, len(self.convs))},
            missing=WITHOUT_PATCHES,
        )

    def multiply_adds(self) -> int:
        """Of one forward pass on one image: 3 x 3 convolutions without padding, each before its pooling; the head."""
        convs = [conv for conv in self.convs if isinstance(conv, nn.Conv2d)]
        sides = [cnn_side(self.config.input_side, layer) for layer in range(len(convs) + 1)]
        convolutions = sum((side - 2) ** 2 * conv.weight.numel() for side, conv in zip(sides, convs, strict=False))
        return convolutions + head_multiply_adds(self.head)


def channels_last(images_BCHW: Tensor) -> Tensor:
    """The same numbers in the order row, column, channel, in which convolution and pooling are twice as fast on a CPU.

    With explicit strides: `contiguous(memory_format=...)` takes a single channel to be in both orders already, and its
    strides would send everything after it down the slow path.
    """
    _, channels, height, width = images_BCHW.shape
    rows = images_BCHW.permute(0, 2, 3, 1).contiguous()
    return rows.as_strided(images_BCHW.shape, (height * width * channels, 1, width * channels, channels))
