"""vitlab doctor."""

from __future__ import annotations

import argparse
import os
from typing import Any, Literal

from vitlab import __version__
from vitlab.cli import flags
from vitlab.text import show, wrapped

PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")


def declare(children: flags.Children) -> None:
    """The command and its options."""
    parser = flags.add_command(children, doctor, "show what vitlab finds on this machine")
    flags.add_output(parser, has_progress=False)


def doctor(arguments: argparse.Namespace) -> int:
    """Show the versions, device, number format, kernels and folders that vitlab uses on this machine."""
    from vitlab.config import MachineConfig
    from vitlab.data.sources import cache_root
    from vitlab.machine import choose_machine, environment, gemm_gflops, has_bf16
    from vitlab.native.accelerate import load_kernels

    remarks: list[str] = []
    _, machine = load_kernels(choose_machine(MachineConfig()), remarks.append)
    found: dict[str, Any] = {"vitlab": __version__} | environment(machine)
    fp32, bf16 = (gemm_gflops(choose_machine(MachineConfig(precision=one))) for one in PRECISIONS)
    instructions = "has" if has_bf16(machine.device) else "lacks"
    why = f"the {'GPU' if machine.device.type != 'cpu' else 'processor'} {instructions} bf16 instructions"
    found["chosen_because"] = "; ".join([machine.reason, why, *remarks])
    # Measured for the reader; no choice depends on it.
    found |= {"gemm_fp32_gflops": round(fp32, 1), "gemm_bf16_gflops": round(bf16, 1)}
    found["bf16_speed"] = f"{bf16 / fp32:.1f} times that of fp32 in this measurement"
    found |= {"cache": str(cache_root()), "VITLAB_DATA": os.environ.get("VITLAB_DATA")}
    if arguments.json:
        flags.print_json(found)
        return 0
    width = max(map(len, found)) + 2
    for name, value in found.items():
        show(*wrapped(str(value), f"{name:<{width}}", " " * width))
    return 0
