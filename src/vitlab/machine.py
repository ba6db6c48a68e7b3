"""The hardware: device, precision, threads, clocks and generators, chosen once per process.

The words cuda, mps, bfloat16, manual_seed, synchronize and perf_counter occur only here.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from vitlab import openmp
from vitlab.config import MachineConfig
from vitlab.errors import ConfigError
from vitlab.processor import available_cores, cpu_name, limited_cores, multiplies_bf16
from vitlab.randomness import derive_seed
from vitlab.ranks import ALONE, Ranks
from vitlab.text import counted

# Up to this many tokens, and always in bf16, attention on a CPU uses plain matrix products (docs/understand/log.md).
EXPLICIT_TOKENS_ON_CPU = 49
# Variables with which a user can change the bits that torch's libraries compute.
MATH_VARIABLES = (
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    *("ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG"),
)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
CHOSEN: set[str] = set()  # the kinds of devices that this process has chosen


@dataclass(frozen=True)
class Machine:
    """What was chosen for this process, as it is and not as it was wished; ``reason`` says why in one phrase.

    ``kernels_digest`` and ``kernels_multiply_by`` describe the compiled kernels, where they are used.
    ``torch_threads`` is for torch's own operations, if that differs from ``threads``. ``ranks`` says which process of
    the training this one is, if there are several.
    """

    device: torch.device
    precision: str
    threads: int
    attention: str
    kernels: str
    compile: bool
    allocator: str
    reason: str
    flush_denormals: bool = True
    kernels_digest: str | None = None
    kernels_multiply_by: str | None = None
    torch_threads: int | None = None
    ranks: Ranks = ALONE

    @property
    def reads_are_synchronous(self) -> bool:
        """Whether results are already on the host, where reading a number does not wait for the device."""
        return self.device.type == "cpu"

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A context in which torch's operations run in as many threads as were chosen for them."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.torch_threads or self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def autocast(self) -> AbstractContextManager[Any]:
        """A context in which matrix products run in the chosen precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def generator(self, seed: int, purpose: str, *counters: int) -> torch.Generator:
        """A generator on the device that depends only on its arguments."""
        return generator_on(self.device, seed, purpose, *counters)

    @property
    def needs_self_test(self) -> bool:
        """Whether nobody has tested vitlab on this kind of device."""
        return self.device.type == "mps"

    @property
    def sums(self) -> torch.dtype:
        """The type in which losses are added up: float64, where the device has it."""
        return torch.float64 if has_float64(self.device) else torch.float32

    @property
    def records(self) -> bool:
        """Whether whole training steps are recorded and replayed, which keeps a GPU from waiting for Python. Exchanges
        between ranks are not recorded."""
        return self.device.type == "cuda" and not self.ranks.several

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Work on another stream, which CUDA requires for trial runs before a recording."""
        if self.device.type != "cuda":
            yield
            return
        here, aside = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            yield
        here.wait_stream(aside)

    def record(self, call: Callable[[], Any], draws: torch.Generator) -> Callable[[], Any]:
        """Record ``call`` as a CUDA graph and return its replay; on a CPU, return ``call`` itself.

        A replay always works on the same memory. Its random numbers continue those of ``draws`` and of torch's
        generator.
        """
        if self.device.type != "cuda":
            return call
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(draws)
        with torch.cuda.graph(graph):
            call()
        return graph.replay

    def fuses_attention(self, tokens: int) -> bool:
        """Whether attention over ``tokens`` tokens uses torch's fused kernel."""
        if self.attention == "auto":
            return self.device.type != "cpu" or (tokens > EXPLICIT_TOKENS_ON_CPU and self.precision == "fp32")
        return self.attention == "fused"

    def stopwatch(self, seconds: float = 0.0) -> Stopwatch:
        """A stopped Stopwatch for this device, which starts from ``seconds``."""
        return Stopwatch(self.device, seconds)

    def describe(self) -> str:
        """One line for the start of a run."""
        how = counted(self.threads, "thread") + (", torch.compile" if self.compile else "")
        how = f"{self.ranks.count} ranks with {how} each" if self.ranks.several else how
        return f"{self.device}, {self.precision}, {how}, torch {torch.__version__} ({self.reason})"


def choose_machine(config: MachineConfig, ranks: Ranks = ALONE) -> Machine:
    """Set up this process (allocator, threads, denormals); ConfigError for a GPU that does not exist. The ``ranks`` on
    this machine divide the threads, and each takes a GPU.

    Nothing is timed, so that the same machine always makes the same choice, however busy it is.
    """
    device, reason = choose_device(config, ranks)
    allocator = config.allocator if config.allocator == "system" or keep_freed_memory() else "system"
    # fp32 means float32, also after a caller's wish for faster products
    if torch.get_float32_matmul_precision() != "highest":
        torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    flush = torch.set_flush_denormal(config.flush_denormals) and config.flush_denormals
    cores, limits = limited_cores()
    if limits and config.threads is None:
        reason = f"{reason}; {limits}"
    wanted = max(1, (config.threads or cores) // ranks.here)
    threads = use_threads(wanted, flush)
    if threads < wanted:
        reason = f"{reason}; {openmp.shortage(threads, wanted)}"
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    return Machine(
        *(device, precision, threads, config.attention, config.kernels, config.compile, allocator, reason, flush),
        ranks=ranks,
    )


def choose_device(config: MachineConfig, ranks: Ranks) -> tuple[torch.device, str]:
    """The device and why; ConfigError for a GPU that does not exist. Apple's GPU is never chosen unless asked for."""
    has_gpu = torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise ConfigError("torch finds no CUDA GPU for --device cuda; use --device cpu or auto")
    if config.device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("torch finds no Apple GPU for --device mps; use --device cpu or auto")
    if config.device == "mps" and config.precision == "bf16":
        raise ConfigError("--precision bf16 is not supported on Apple's GPU; use fp32")
    if config.device == "auto":
        chosen, reason = ("cuda", "CUDA GPU found") if has_gpu else ("cpu", "no CUDA GPU")
    else:
        chosen, reason = config.device, "as asked"
    if chosen == "mps" and ranks.several:
        raise ConfigError("there is only one Apple GPU, so it takes no ranks; leave out --ranks, or use --device cpu")
    CHOSEN.add(chosen)
    return own_gpu(ranks) if chosen == "cuda" and ranks.several else torch.device(chosen), reason


def has_float64(device: torch.device) -> bool:
    """Whether ``device`` computes in double precision."""
    return device.type != "mps"


def where_float64(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` where it can be computed with in float64: on its device, or copied to the host."""
    return tensor if has_float64(tensor.device) else tensor.cpu()


def own_gpu(ranks: Ranks) -> torch.device:
    """The GPU of this rank, made the current one; ConfigError if this machine has fewer GPUs than ranks."""
    gpus = torch.cuda.device_count()
    if ranks.here > gpus:
        raise ConfigError(f"{ranks.here} ranks need as many GPUs, and torch finds {gpus}; use fewer, or --device cpu")
    torch.cuda.set_device(ranks.local)
    return torch.device("cuda", ranks.local)


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Afterwards, restore what `choose_machine` sets for the whole process: threads, denormals, precision of products.

    Only the allocator stays as it was chosen: glibc does not say what it was.
    """
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    tf32, flushes = torch.backends.cudnn.allow_tf32, not (torch.tensor([1e-39]) * 1.0).item()
    try:
        yield
    finally:
        use_threads(threads, flushes)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = tf32


def use_threads(wanted: int, flush_denormals: bool | None = None) -> int:
    """Let the calling thread compute with ``wanted`` threads, or with as many as OpenMP starts: their number.

    All of them flush denormals or not, which is a setting of each thread; None leaves it as it is.
    """
    flush = None if flush_denormals is None else partial(torch.set_flush_denormal, flush_denormals)
    torch.set_num_threads(wanted)
    found = openmp.in_each_thread(wanted, flush)
    if found < wanted:
        torch.set_num_threads(found)
    return found


def use_available_threads() -> int:
    """Let the calling thread compute with as many threads as torch wants, but no more than it can have."""
    return use_threads(min(torch.get_num_threads(), available_cores()))


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` has instructions for bf16 products, and torch uses them.

    Other processors compute them too, but up to hundreds of times slower than in fp32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return False
    limited = torch.backends.cpu.get_cpu_capability() == "AVX2"  # ATEN_CPU_CAPABILITY: the processor has more
    return multiplies_bf16() and not limited and torch.backends.mkldnn.is_available()


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next step; False where there is no glibc.

    By default it returns freed blocks above 32 MB, and the top of the heap, to the kernel; the next step then pays a
    page fault for every 4 KB of them (docs/understand/log.md).
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, -1))
    except (OSError, AttributeError):
        return False


def seed_torch(seed: int, purpose: str, *counters: int) -> None:
    """Seed torch's global generator, which dropout and initial weights use, from the arguments alone."""
    value = derive_seed(seed, purpose, *counters)
    torch.default_generator.manual_seed(value)  # torch.manual_seed checks every kind of device each time
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
    if "mps" in CHOSEN:
        torch.mps.manual_seed(value)


def reseed(generator: torch.Generator, seed: int, purpose: str, *counters: int) -> None:
    """Seed ``generator`` from the other arguments alone."""
    generator.manual_seed(derive_seed(seed, purpose, *counters))


@contextmanager
def private_randomness(device: torch.device) -> Iterator[None]:
    """Afterwards, restore the caller's global random state on the CPU and on ``device``."""
    state = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    if state is not None:
        torch.mps.set_rng_state(state)


def generator_on(device: torch.device, seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A generator on ``device`` that depends only on its arguments."""
    return torch.Generator(device).manual_seed(derive_seed(seed, purpose, *counters))


@cache
def constant(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """``values`` in float32 on ``device``, copied there once: a copy makes a GPU wait, and cannot be recorded."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


class Stopwatch:
    """Adds up the seconds between start and stop; waits for the device at both, to count queued work."""

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        self._device = device
        self._before = seconds
        self._started: float | None = None

    def start(self) -> None:
        """Start or continue counting."""
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
        elif self._device.type == "mps":
            torch.mps.synchronize()


def environment(machine: Machine) -> dict[str, Any]:
    """What a reader needs to interpret or repeat a number: versions, processor, threads, precision."""
    device = machine.device
    settings = [f"{name}={os.environ[name]}" for name in MATH_VARIABLES if name in os.environ]
    chosen = ("threads", "precision", "attention", "kernels", "compile", "flush_denormals")
    found = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device.type,
        "device_name": device_name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        **{name: getattr(machine, name) for name in chosen},
        "allocator": machine.allocator,
        "math_variables": " ".join(settings) or "none",
        "kernels_digest": machine.kernels_digest,
        "kernels_multiply_by": machine.kernels_multiply_by,
        "ranks": machine.ranks.count if machine.ranks.several else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def device_name(device: torch.device) -> str:
    """The model of a GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"GPU of {cpu_name()}" if device.type == "mps" else cpu_name()


def gemm_gflops(machine: Machine, size: int = 1024, seconds: float = 0.5) -> float:
    """Measured rate of a size x size matrix product in the machine's precision, in 10^9 operations a second."""
    dtype = torch.bfloat16 if machine.precision == "bf16" else torch.float32
    a = torch.randn(size, size, device=machine.device).to(dtype)
    watch = machine.stopwatch()
    done = 0
    with torch.no_grad(), machine.computing():
        a @ a
        watch.start()
        while watch.seconds < seconds:
            a @ a
            done += 1
    return 2.0 * size**3 * done / watch.stop() / 1e9
