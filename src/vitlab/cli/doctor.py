"""vitlab doctor."""

from __future__ import annotations

import argparse
import os
from importlib import metadata
from typing import Any

from vitlab.cli import flags
from vitlab.text import show


def declare(children: flags.Children) -> None:
    """The command and its options."""
    flags.add_output(flags.add_command(children, doctor, "show what vitlab finds on this machine"))


def doctor(arguments: argparse.Namespace) -> int:
    """Show the versions, device, number format, kernels and folders that vitlab uses on this machine."""
    from vitlab.config import MachineConfig
    from vitlab.data.sources import cache_root
    from vitlab.machine import bf16_gain, choose_machine, environment, gemm_gflops
    from vitlab.native.accelerate import load_kernels

    why_plain: list[str] = []
    kernels, machine = load_kernels(choose_machine(MachineConfig()), why_plain.append)
    found: dict[str, Any] = {"vitlab": metadata.version("vitlab")} | environment(machine)
    gain = f"bf16 products are {bf16_gain(machine.device):.1f} times as fast as fp32"
    found["chosen_because"] = "; ".join([machine.reason, gain, *why_plain])
    if kernels is not None:
        found["kernels_multiply_by"] = "AMX tiles" if kernels.library.use_tiles(True) else "AVX512-BF16"
    found["gemm_fp32_gflops"] = round(gemm_gflops(choose_machine(MachineConfig(precision="fp32"))), 1)
    found["gemm_bf16_gflops"] = round(gemm_gflops(choose_machine(MachineConfig(precision="bf16"))), 1)
    found |= {"cache": str(cache_root()), "VITLAB_DATA": os.environ.get("VITLAB_DATA")}
    if arguments.json:
        flags.print_json(found)
        return 0
    width = max(map(len, found))
    for name, value in found.items():
        show(f"{name:<{width}}  {value}")
    return 0
