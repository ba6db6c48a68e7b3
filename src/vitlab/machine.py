"""What the work runs on: device, precision, threads, clock and generators, chosen once and said aloud.

The words cuda, bfloat16, manual_seed, synchronize and perf_counter occur here and nowhere else.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from vitlab.config import MachineConfig
from vitlab.errors import ConfigError
from vitlab.randomness import derive_seed

# Up to so many tokens attention on a CPU is plain matrix products; docs/log.md has the measurements.
EXPLICIT_TOKENS_ON_CPU = 49


@dataclass(frozen=True)
class Machine:
    """The choices that hold for this process; ``reason`` says in one phrase why."""

    device: torch.device
    precision: str
    threads: int
    attention: str
    reason: str

    def autocast(self) -> AbstractContextManager[Any]:
        """Context in which matrix products run in the chosen precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def generator(self, seed: int, purpose: str, *counters: int) -> torch.Generator:
        """A generator on the device that depends on nothing but its arguments."""
        return torch.Generator(self.device).manual_seed(derive_seed(seed, purpose, *counters))

    def fuses_attention(self, tokens: int) -> bool:
        """Whether attention over ``tokens`` tokens uses torch's fused kernel."""
        if self.attention == "auto":
            return self.device.type != "cpu" or tokens > EXPLICIT_TOKENS_ON_CPU
        return self.attention == "fused"

    def stopwatch(self, seconds: float = 0.0) -> Stopwatch:
        """A stopped Stopwatch for this device that already shows ``seconds``."""
        return Stopwatch(self.device, seconds)

    def describe(self) -> str:
        """One line for the start of a run."""
        return f"{self.device}, {self.precision}, {self.threads} threads, torch {torch.__version__} ({self.reason})"


def choose_machine(config: MachineConfig) -> Machine:
    """Set up this process (thread count) and return what was chosen; ConfigError when it cannot be had."""
    has_gpu = torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise ConfigError("device cuda was asked for, but torch finds no CUDA GPU; use --device cpu or auto")
    on_gpu = has_gpu and config.device != "cpu"
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "fp32"
    torch.backends.cudnn.allow_tf32 = False  # fp32 means float32; matrix products have it off already
    threads = config.threads or available_cores()
    torch.set_num_threads(threads)
    reason = "as asked" if config.device != "auto" else "CUDA GPU found" if on_gpu else "no CUDA GPU"
    return Machine(torch.device("cuda" if on_gpu else "cpu"), precision, threads, config.attention, reason)


def available_cores() -> int:
    """CPU cores that this process may use, which in a container can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def seed_torch(seed: int, purpose: str, *counters: int) -> None:
    """Make what torch's global generator gives from here on (dropout, initial weights) a function of the arguments."""
    torch.manual_seed(derive_seed(seed, purpose, *counters))


@contextmanager
def private_randomness(device: torch.device) -> Iterator[None]:
    """Leave the caller's global random state, on the CPU and on ``device``, as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


class Stopwatch:
    """Adds up seconds between start and stop; waits for the device at both, so that queued work is counted."""

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        self._device = device
        self._before = seconds
        self._started: float | None = None

    def start(self) -> None:
        """Go on counting."""
        self._wait()
        self._started = time.perf_counter()

    def stop(self) -> float:
        """Pause, and return the seconds so far."""
        self._wait()
        self._before = self.seconds
        self._started = None
        return self._before

    @property
    def seconds(self) -> float:
        """Seconds so far, without waiting for the device."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._before + running

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def environment(machine: Machine) -> dict[str, Any]:
    """What a reader needs to judge or repeat a number: versions, processor, threads, precision."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": machine.device.type,
        "device_name": device_name(machine.device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": machine.threads,
        "precision": machine.precision,
        "attention": machine.attention,
    }


def device_name(device: torch.device) -> str:
    """The processor's or GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def gemm_gflops(machine: Machine, size: int = 1024, seconds: float = 0.5) -> float:
    """Measured rate of a size x size matrix product in the machine's precision, in 10^9 operations a second."""
    a = torch.randn(size, size, device=machine.device)
    watch = machine.stopwatch()
    done = 0
    with torch.no_grad(), machine.autocast():
        a @ a
        watch.start()
        while watch.seconds < seconds:
            a @ a
            done += 1
    return 2.0 * size**3 * done / watch.stop() / 1e9
