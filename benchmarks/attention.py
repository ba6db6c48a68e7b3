"""Attention by explicit matrix products against torch's fused kernel, forward and backward, by number of tokens.

    python -m benchmarks.attention

Prints milliseconds per step (medians, the two interleaved) for 128 images and 2 heads of width 24. The number of
tokens at which the two cross on a CPU is `EXPLICIT_TOKENS_ON_CPU` in machine.py.
"""

from __future__ import annotations

import statistics

import torch
from torch import Tensor

from vitlab.config import MachineConfig, ModelConfig
from vitlab.machine import choose_machine
from vitlab.model.block import Attention

TOKENS = (4, 16, 49, 64, 100, 144, 196, 256)
REPEATS = 15


def main() -> None:
    """Print one line per number of tokens."""
    machine = choose_machine(MachineConfig())
    print(machine.describe())
    config = ModelConfig(embed_dim=48, num_heads=2)
    modules = {name: Attention(config, 0).to(machine.device) for name in ("explicit", "fused")}
    modules["fused"].fused = True
    for tokens in TOKENS:
        x = torch.randn(128, tokens, 48, device=machine.device, requires_grad=True)
        times: dict[str, list[float]] = {name: [] for name in modules}
        for _ in range(REPEATS):
            for name, module in modules.items():
                watch = machine.stopwatch()
                watch.start()
                step(module, x)
                times[name].append(1000 * watch.stop())
        explicit, fused = (statistics.median(times[name]) for name in modules)
        print(f"{tokens:4} tokens: explicit {explicit:7.2f} ms, fused {fused:7.2f} ms, ratio {fused / explicit:.2f}")


def step(module: Attention, x: Tensor) -> None:
    """One forward and backward pass."""
    module(x).square().mean().backward()


if __name__ == "__main__":
    main()
