"""Device, precision, threads, generators and clock; and that no other file knows their words."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import tokenize
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import vitlab
from vitlab import Classifier
from vitlab import machine as module
from vitlab.config import MachineConfig
from vitlab.errors import ConfigError
from vitlab.machine import (
    EXPLICIT_TOKENS_ON_CPU,
    Machine,
    Stopwatch,
    choose_machine,
    environment,
    gemm_gflops,
    private_randomness,
    seed_torch,
)
from vitlab.processor import available_cores

CPU = Machine(
    torch.device("cpu"), "fp32", 1, attention="auto", kernels="auto", compile=False, allocator="system", reason="test"
)


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)


# Choice


def test_the_cpu_as_asked() -> None:
    config = MachineConfig(device="cpu", threads=1, precision="fp32", allocator="system")
    chosen = choose_machine(config)
    assert (chosen.device.type, chosen.precision, chosen.threads) == ("cpu", "fp32", 1)
    assert torch.get_num_threads() == 1
    assert chosen.describe() == f"cpu, fp32, 1 thread, torch {torch.__version__} (as asked)"


@pytest.mark.parametrize(
    ("device", "there", "expected"),
    [
        ("auto", False, ("cpu", "no CUDA GPU")),
        ("auto", True, ("cuda", "CUDA GPU found")),
        ("cuda", True, ("cuda", "as asked")),
        ("cpu", True, ("cpu", "as asked")),
    ],
)
def test_automatic_device_and_its_reason(
    monkeypatch: pytest.MonkeyPatch, device: Any, there: bool, expected: tuple[str, str]
) -> None:
    pretend_gpu(monkeypatch, there)
    chosen = choose_machine(MachineConfig(device=device, threads=1, precision="fp32"))
    assert (chosen.device.type, chosen.reason) == expected


@pytest.mark.parametrize(("there", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_chosen_where_the_processor_multiplies_it_however_slow_it_is_now(
    monkeypatch: pytest.MonkeyPatch, there: bool, precision: str
) -> None:
    """A busy machine: half of the products in bf16, or in fp32, take a hundred times as long."""
    product, calls = torch.Tensor.__matmul__, itertools.count()

    def slow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if (a.dtype is torch.bfloat16) is there or next(calls) % 2:
            time.sleep(0.003)
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", slow)
    monkeypatch.setattr(module, "multiplies_bf16", lambda: there, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")  # also where it is AVX2
    for _ in range(5):
        assert choose_machine(MachineConfig(device="cpu", threads=1)).precision == precision
    assert choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32")).precision == "fp32"
    assert choose_machine(MachineConfig(device="cpu", threads=1, precision="bf16")).precision == "bf16"


def test_bf16_that_torch_would_emulate_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiplies_bf16", lambda: True, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert choose_machine(MachineConfig(device="cpu", threads=1)).precision == "fp32"


def test_fp32_means_float32_whatever_the_caller_chose_before() -> None:
    torch.set_float32_matmul_precision("medium")
    choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))
    assert torch.get_float32_matmul_precision() == "highest"


TEAM = """
import json, torch
from vitlab.config import MachineConfig
from vitlab.machine import choose_machine, environment
found = []
for threads in (2, None, None):
    machine = choose_machine(MachineConfig(device="cpu", threads=threads, precision="bf16"))
    ones = torch.ones(512, 512, dtype=torch.bfloat16)
    product = (ones @ ones).float()
    about = environment(machine)
    found.append([about["threads"], torch.get_num_threads(), product.min().item(), machine.reason])
print(json.dumps(found))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's OpenMP")
@pytest.mark.parametrize(
    ("variable", "least"),
    [("OMP_THREAD_LIMIT=1", True), ("OMP_MAX_ACTIVE_LEVELS=0", True), ("OMP_DYNAMIC=true", False)],
)
def test_threads_are_those_that_openmp_starts_and_no_work_is_lost(variable: str, least: bool) -> None:
    """All entries of the product of two matrices of ones of side 512 are 512. OMP_PROC_BIND must not matter."""
    name, _, value = variable.partition("=")
    environment = os.environ | {name: value, "OMP_PROC_BIND": "true"}
    done = subprocess.run([sys.executable, "-c", TEAM], capture_output=True, text=True, check=True, env=environment)
    asked, first, second = json.loads(done.stdout)
    threads = 1 if least else 2
    assert asked[:3] == [threads, threads, 512.0]
    assert asked[3] == ("as asked" + least * f"; OpenMP starts only 1 of 2 threads because of {variable}")
    assert first[:3] == second[:3] == [1 if least else available_cores()] * 2 + [512.0]


WAITING = """
import json, os, sys
{first}
import vitlab
print(json.dumps([os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")]))
"""


@pytest.mark.parametrize(
    ("first", "chosen", "found"),
    [
        ("", {}, ["passive", "1000", None]),
        ("", {"OMP_WAIT_POLICY": "active"}, ["active", None, None]),
        ("", {"GOMP_SPINCOUNT": "7"}, [None, "7", None]),
        ("", {"KMP_BLOCKTIME": "3"}, [None, None, "3"]),
        ("sys.modules['torch'] = None", {}, [None, None, None]),
    ],
)
def test_torchs_threads_sleep_unless_somebody_has_chosen(first: str, chosen: dict[str, str], found: list[Any]) -> None:
    """Where torch has been imported before, it is too late, and nothing changes."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    words = [sys.executable, "-c", WAITING.format(first=first)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=others | chosen)
    assert json.loads(done.stdout) == found


@pytest.mark.parametrize(("threads", "said"), [(None, "no CUDA GPU; 4 hyper-threads on 2 cores"), (1, "no CUDA GPU")])
def test_the_first_line_says_why_there_are_fewer_threads_than_processors(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, said: str
) -> None:
    monkeypatch.setattr(module, "limited_cores", lambda: (2, "4 hyper-threads on 2 cores"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = choose_machine(MachineConfig(threads=threads))
    assert chosen.threads == (threads or 2)
    assert chosen.reason == said


def test_a_classifier_takes_no_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, torch starts a thread for each core of the host; whoever chose fewer keeps them."""
    golden = Path(__file__).parent / "golden" / "vit-merged"
    for cores, expected in ((64, 3), (2, 2), (5, 2)):
        monkeypatch.setattr(module, "available_cores", lambda: cores)  # noqa: B023
        if cores == 64:
            torch.set_num_threads(3)
        Classifier.load(golden)
        assert torch.get_num_threads() == expected


def test_every_thread_flushes_denormals_also_one_that_was_there_before() -> None:
    """A million numbers below 1e-38, which two threads share."""
    choose_machine(MachineConfig(device="cpu", threads=2, precision="fp32", flush_denormals=False))
    tiny = torch.full((1_000_000,), 1e-39)
    assert (tiny * 1.0).count_nonzero() == len(tiny)
    choose_machine(MachineConfig(device="cpu", threads=2, precision="fp32"))
    assert (tiny * 1.0).count_nonzero() == 0


def test_denormals_are_flushed_unless_kept() -> None:
    tiny = torch.tensor([1e-39])
    choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))
    assert (tiny * 1.0).item() == 0.0
    choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32", flush_denormals=False))
    assert (tiny * 1.0).item() > 0.0


FAULTS = """
import resource, sys, torch
from vitlab.config import MachineConfig
from vitlab.machine import choose_machine
machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32", allocator=sys.argv[1]))
def work():
    return torch.ones(12_000_000) + 1  # 48 MB: above the most that glibc keeps by itself
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(machine.allocator, min(faults() for _ in range(12)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_kept_memory_is_not_fetched_again() -> None:
    faults = {}
    for allocator in ("keep", "system"):
        words = [sys.executable, "-c", FAULTS, allocator]
        chosen, count = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        if chosen != allocator:
            pytest.skip("no glibc here")
        faults[allocator] = int(count)
    assert faults["keep"] * 10 < faults["system"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"device=.cpu."):
        choose_machine(MachineConfig(device="cuda"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_was_asked_for_is_used_in_products(precision: Any) -> None:
    chosen = choose_machine(MachineConfig(device="cpu", precision=precision, threads=1))
    with chosen.autocast():
        product = torch.ones(3, 5) @ torch.ones(5, 2)
    assert product.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert (torch.ones(3, 5) @ torch.ones(5, 2)).dtype == torch.float32


def test_all_cores_that_the_process_may_use_unless_said_otherwise() -> None:
    chosen = choose_machine(MachineConfig(device="cpu"))
    assert chosen.threads == available_cores() == torch.get_num_threads() >= 1


@pytest.mark.parametrize(
    ("attention", "device", "tokens", "fused"),
    [
        ("auto", "cpu", EXPLICIT_TOKENS_ON_CPU, False), ("auto", "cpu", EXPLICIT_TOKENS_ON_CPU + 1, True),
        ("auto", "cuda", 1, True), ("fused", "cpu", 1, True), ("explicit", "cpu", 9999, False),
        ("explicit", "cuda", 9999, False),
    ],
)  # fmt: skip
def test_attention_is_fused_as_asked_or_where_it_pays(attention: str, device: str, tokens: int, fused: bool) -> None:
    assert replace(CPU, device=torch.device(device), attention=attention).fuses_attention(tokens) is fused


def test_in_bf16_on_a_cpu_attention_is_never_fused() -> None:
    assert not replace(CPU, precision="bf16").fuses_attention(10_000)


def test_the_environment_can_be_kept_as_json() -> None:
    found = json.loads(json.dumps(environment(CPU)))
    assert found["torch"] == torch.__version__
    assert (found["device"], found["precision"], found["threads"], found["attention"]) == ("cpu", "fp32", 1, "auto")
    assert None not in found.values()


def test_the_environment_names_what_else_changes_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in module.MATH_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = environment(CPU)
    assert (before["math_variables"], before["flush_denormals"]) == ("none", True)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    chosen = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32", flush_denormals=False))
    after = environment(chosen)
    assert after["math_variables"] == "MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=AVX2"
    assert after["flush_denormals"] is False


# Generators


def test_a_generator_is_a_function_of_its_arguments_and_touches_nothing_else() -> None:
    def draw(*arguments: Any) -> list[float]:
        numbers: list[float] = torch.rand(5, generator=CPU.generator(*arguments)).tolist()
        return numbers

    before = torch.get_rng_state()
    one = draw(0, "order", 3)
    torch.rand(7)
    assert draw(0, "order", 3) == one
    others = [draw(1, "order", 3), draw(0, "augment", 3), draw(0, "order", 4), draw(0, "order")]
    assert one not in others
    torch.set_rng_state(before)
    draw(0, "order", 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_torch_makes_the_global_generator_a_function_of_its_arguments() -> None:
    draws = []
    with private_randomness(torch.device("cpu")):
        for arguments in ((0, "init"), (0, "init"), (1, "init"), (0, "dropout"), (0, "init", 1)):
            seed_torch(*arguments)
            draws.append(torch.rand(1).item())
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4


def test_private_randomness_gives_the_callers_state_back_also_after_an_error() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    def disturb() -> None:
        with private_randomness(torch.device("cpu")):
            seed_torch(1, "init")
            raise KeyError

    with pytest.raises(KeyError):
        disturb()
    assert torch.equal(torch.rand(3), expected)


# Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock whose hands the test moves."""
    fake = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: fake.now))
    return fake


def test_a_stopwatch_adds_up_and_does_not_count_pauses(clock: SimpleNamespace) -> None:
    watch = CPU.stopwatch()
    clock.now += 1000
    assert watch.seconds == 0
    watch.start()
    clock.now += 3
    assert watch.seconds == 3
    assert watch.stop() == 3
    clock.now += 1000
    assert watch.seconds == 3
    watch.start()
    clock.now += 4
    assert watch.stop() == watch.stop() == watch.seconds == 7


def test_a_stopwatch_goes_on_from_the_seconds_of_an_earlier_process(clock: SimpleNamespace) -> None:
    watch = CPU.stopwatch(50.0)
    watch.start()
    clock.now += 3
    assert watch.stop() == 53


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_stopwatch_waits_for_queued_work_of_a_gpu_before_it_looks(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace, device: str
) -> None:
    waits = []

    def wait(device: torch.device) -> None:
        waits.append(device.type)
        clock.now += 10  # the queued work

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    watch = Stopwatch(torch.device(device))
    watch.start()
    clock.now += 3
    assert watch.stop() == (13 if device == "cuda" else 3)
    assert waits == (["cuda", "cuda"] if device == "cuda" else [])


def test_the_rate_of_products_counts_two_operations_for_each_multiply_add(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    # Looks at the clock: start 0; 1 and 2 are under 3 seconds, so two products; 3 is not; stop at 4.
    assert gemm_gflops(CPU, size=10, seconds=3.0) == pytest.approx(2 * 10**3 * 2 / 4 / 1e9)


# One owner

WORDS = {"cuda", "mps", "bfloat16", "manual_seed", "synchronize", "perf_counter"}
NAMES_THE_DEVICE = "sections.py"  # config: the choices of the knob `device`


def words_of(path: Path) -> set[str]:
    """Identifiers, and strings that are nothing but one of the words; comments and prose do not count."""
    with open(path, "rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    identifiers = {token.string for token in tokens if token.type == tokenize.NAME}
    strings = {token.string.strip("\"'") for token in tokens if token.type == tokenize.STRING}
    return WORDS & (identifiers | strings)


def test_only_machine_knows_the_words_of_devices_clocks_and_global_seeds() -> None:
    folder = Path(vitlab.__file__).parent
    found = {path.name: words_of(path) for path in sorted(folder.rglob("*.py"))}
    assert found.pop("machine.py") == WORDS
    assert found.pop(NAMES_THE_DEVICE) == {"cuda", "mps"}
    found.pop("hints.py")  # other programs' words, which people type
    assert {name: words for name, words in found.items() if words} == {}
