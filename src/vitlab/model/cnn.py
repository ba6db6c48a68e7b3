"""The small CNN of keras.io's "Simple MNIST convnet": the opponent that the seed page lost against."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.config import ModelConfig, cnn_side
from vitlab.model.dropout import Dropout
from vitlab.model.kernels import PLAIN, Kernels


class CNN(nn.Module):
    """For each layer a 3 x 3 convolution without padding, ReLU and 2 x 2 max pooling; then one dense layer."""

    def __init__(self, config: ModelConfig, in_channels: int, num_classes: int, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        channels = (in_channels, *config.cnn_channels)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, kernel_size=3) for a, b in pairwise(channels))
        side = cnn_side(config.input_side, len(config.cnn_channels))
        self.head = nn.Sequential(Dropout(config.head_dropout, kernels), nn.Linear(channels[-1] * side**2, num_classes))
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
        x = channels_last(images_BCHW)
        for conv in self.convs:
            x = F.relu(F.max_pool2d(conv(x), 2))  # equal to pooling after ReLU, on a quarter of the numbers
        return x.flatten(1)


def channels_last(images_BCHW: Tensor) -> Tensor:
    """The same numbers in the order row, column, channel, in which convolution and pooling are twice as fast on a CPU.

    With explicit strides: of a single channel `contiguous(memory_format=...)` thinks that it is in both orders, and
    leaves strides behind that send everything after it down the slow path.
    """
    _, channels, height, width = images_BCHW.shape
    rows = images_BCHW.permute(0, 2, 3, 1).contiguous()
    return rows.as_strided(images_BCHW.shape, (height * width * channels, 1, width * channels, channels))
