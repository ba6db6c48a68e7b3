"""Dropout of a head, whose numbers are many: on a CPU its mask comes from vitlab's kernel, where there is one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.model.kernels import Kernels
from vitlab.native import dropout_mask


class Dropout(nn.Module):
    """Zero each number with probability ``rate`` while training, and scale up the others (Srivastava et al. 2014)."""

    def __init__(self, rate: float, kernels: Kernels) -> None:
        super().__init__()
        self.rate, self.kernels = rate, kernels

    def forward(self, x: Tensor) -> Tensor:
        """Shape in, shape out."""
        library = self.kernels.native
        if not self.training or not self.rate:
            return x
        if library is None:
            return F.dropout(x, self.rate)
        seed = int(torch.randint(2**32, ()))
        return x * dropout_mask(x.shape, self.rate, x.dtype, library, self.kernels.threads, seed)
