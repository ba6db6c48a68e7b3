"""A small residual network for colour images: the opponent of our ViTs where the CNN of keras.io is too weak.

Its shape is that of ResNet-9 (Page 2018, "How to Train Your ResNet", the DAWNBench entry of myrtle.ai): convolutions
of 3 x 3 with batch norm, pooling after the first convolution of each stage, and a residual pair of convolutions (He et
al. 2016, "Deep Residual Learning") in every second one.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.model.cnn import DELETION_GRID, WITHOUT_PATCHES, channels_last
from vitlab.model.description import Description, Squares, head_multiply_adds
from vitlab.model.patches import check_preprocessed
from vitlab.text import listed

MOMENTUM = 0.1  # of the running mean and variance; torch's default
EPS = 1e-5
LOGIT_SCALE = 0.125  # of the features, so that training starts undecided; Page's value


class BatchNorm(nn.Module):
    """Batch norm (Ioffe and Szegedy 2015) without torch's counter of batches, which is an integer among the weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The same shape, each channel normalised over the batch, or while predicting by the running values."""
        of_batch = self.training and self.weight.requires_grad  # what is frozen keeps its running values
        running = self.running_mean, self.running_var
        return F.batch_norm(x_BCHW, *running, self.weight, self.bias, of_batch, MOMENTUM, EPS)  # type: ignore[arg-type]


class Layer(nn.Module):
    """A 3 x 3 convolution that keeps the size, pooling of 2 x 2 if ``pools``, batch norm, ReLU."""

    def __init__(self, channels: int, wider: int, pools: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, wider, kernel_size=3, padding=1, bias=False)
        self.norm = BatchNorm(wider)
        self.pools = pools
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H, W], or half of each side."""
        x = self.conv(x_BCHW)
        return F.relu(self.norm(F.max_pool2d(x, 2) if self.pools else x))


class Pair(nn.Module):
    """Two layers around which the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = Layer(channels, channels), Layer(channels, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The same shape."""
        out: Tensor = x_BCHW + self.second(self.first(x_BCHW))
        return out


class ResNet(nn.Module):
    """``cnn_channels`` (a, b, c, d): a layer of a channels, then one stage of each further width, which halves the
    sides; the first, third, ... stage ends with a residual pair. Then the maximum over places and one dense layer.

    >>> import torch
    >>> config = vitlab.ModelConfig(arch="resnet", image_size=32, cnn_channels=(16, 32, 64, 128))
    >>> model = vitlab.build_model(config, in_channels=3, num_classes=10)
    >>> list(model(torch.zeros(5, 3, 32, 32)).shape)  # float [B, C, side, side] -> logits [B, K]
    [5, 10]
    """

    def __init__(self, config: ModelConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        stages: list[nn.Module] = [Layer(in_channels, config.cnn_channels[0])]
        for stage, (channels, wider) in enumerate(pairwise(config.cnn_channels)):
            stages.append(Layer(channels, wider, pools=True))
            stages += [Pair(wider)] if stage % 2 == 0 else []
        self.stages = nn.ModuleList(stages)
        dense = nn.Linear(config.cnn_channels[-1], num_classes)
        nn.init.xavier_uniform_(dense.weight)
        nn.init.zeros_(dense.bias)
        self.head = nn.Sequential(nn.Dropout(config.head_dropout), dense)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """[B, C, side, side], preprocessed -> logits [B, K]."""
        logits_BK: Tensor = self.head(self.features(images_BCHW))
        return logits_BK

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The largest value of each channel in the last feature map, scaled: [B, C]."""
        check_preprocessed(images_BCHW)
        x = channels_last(images_BCHW)
        for stage in self.stages:
            x = stage(x)
        return x.amax(dim=(2, 3)) * LOGIT_SCALE

    def over_places(self, features_BF: Tensor) -> Tensor:
        """What `features` gives, as [B, 1, channels]."""
        return features_BF.unsqueeze(1)

    def describe(self) -> Description:
        """What the rest of the program needs to know about it."""
        config, side = self.config, max(1, self.config.input_side // DELETION_GRID)
        convs = [name for name, module in self.named_modules() if isinstance(module, nn.Conv2d)]
        return Description(
            name="ResNet",
            kind="residual convolutional network",
            line=f"{listed([str(count) for count in config.cnn_channels])} channels",
            squares=Squares(config.input_side // side, side),
            flops_per_image=2 * self.multiply_adds(),
            # The first convolution reads pixels, not features, so Muon leaves it to AdamW.
            matrices={f"{name}.weight": 1 for name in convs[1:]},
            missing=WITHOUT_PATCHES | {"page": "the page cannot compute batch norm"},
        )

    def multiply_adds(self) -> int:
        """Of one forward pass on one image: convolutions and the dense layer; batch norm is not counted."""
        side, total = self.config.input_side, 0
        for stage in self.stages:
            convs = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
            total += side**2 * sum(conv.weight.numel() for conv in convs)
            if isinstance(stage, Layer) and stage.pools:
                side //= 2
        return total + head_multiply_adds(self.head)
