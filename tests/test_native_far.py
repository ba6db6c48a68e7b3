"""The kernels on AArch64: cross-compiled, run by an emulator, and held against the same references as at home.

Skipped without aarch64-linux-gnu-gcc and qemu-aarch64 (on Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross,
qemu-user).
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import (
    test_native,
    test_native_affine,
    test_native_dropout,
    test_native_ends,
    test_native_prediction,
    test_optim,
)
from vitlab.native import ops
from vitlab.native.build import FLAGS, OPTIMIZED, SOURCES, instructions_of

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
# As in native_far.c.
NOTHING, BUFFER, BUFFERS, NUMBER, MATRICES = range(5)
FUNCTIONS = (
    *("forward", "backward", "embed", "embed_gradients", "readout", "readout_gradients", "muon", "affine"),
    *("muon_floats", "embed_bytes", "readout_bytes", "saved_bytes", "workspace_bytes", "lanes"),
    *("pack", "predict", "packed_bytes", "pack_bytes", "predict_bytes"),
)


class Far:
    """The library of another processor: what `Library` is to the functions of ops.py. Call one at a time."""

    dtype = torch.float32

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.c, self.held = process, self, torch.empty(0, dtype=torch.uint8)

    def __getattr__(self, name: str) -> Any:
        """The kernel of this name."""
        return lambda *arguments: self.call(FUNCTIONS.index(name.removeprefix("vitlab_")), arguments)

    @property
    def lanes(self) -> int:
        """As in `Library`."""
        return self.call(FUNCTIONS.index("lanes"), ())

    def workspace(self, size: int) -> Tensor:
        """As in `Library`."""
        self.held = torch.full((size,), 255, dtype=torch.uint8)  # not a number: what others have left must not count
        return self.held

    def call(self, name: int, arguments: tuple[Any, ...]) -> int:
        """The result of a function, whose buffers are then as it has left them."""
        words, buffers = bytearray(struct.pack("<2q", name, len(arguments))), list[tuple[int, int]]()
        for argument in arguments:
            self.put(argument, words, buffers)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(words)
        self.process.stdin.flush()
        result = int.from_bytes(self.process.stdout.read(8), "little")
        for address, size in buffers:
            data = self.process.stdout.read(size)
            assert len(data) == size, "the program has crashed"
            ctypes.memmove(address, data, size)
        return result

    def put(self, argument: Any, words: bytearray, buffers: list[tuple[int, int]]) -> None:
        """Append an argument as native_far.c reads it."""

        def place(kind: tuple[int, ...], address: int, size: int) -> None:
            words.extend(struct.pack(f"<{len(kind) + 1}q", *kind, size) + ctypes.string_at(address, size))
            buffers.append((address, size))

        if argument is None:
            words.extend(struct.pack("<q", NOTHING))
        elif isinstance(argument, int):
            words.extend(struct.pack("<2q", NUMBER, argument))
        elif isinstance(argument, Tensor):
            place((BUFFER,), argument.data_ptr(), argument.nbytes)
        elif isinstance(argument, ctypes.c_void_p):  # the workspace
            assert argument.value == self.held.data_ptr()
            place((BUFFER,), self.held.data_ptr(), self.held.nbytes)
        elif isinstance(argument, ctypes.Array):
            words.extend(struct.pack("<2q", MATRICES, len(argument)))
            for one in argument:
                words.extend(bytes(one))
                for address in (one.weight, one.momentum, one.grad):
                    place((), address, 4 * one.rows * one.columns)
        elif isinstance(argument, list | tuple):
            words.extend(struct.pack("<2q", BUFFERS, len(argument)))
            for one in argument:
                self.put(one, words, buffers)
        else:  # by reference
            place((BUFFER,), ctypes.addressof(argument._obj), ctypes.sizeof(argument._obj))


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """The kernels in fp32, compiled as on a computer with that processor."""
    if shutil.which(COMPILER) is None or shutil.which(EMULATOR) is None:
        pytest.skip(f"{COMPILER} or {EMULATOR} is missing")
    program = tmp_path_factory.mktemp("far") / "kernels"
    options = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC")]
    sources = [*map(str, sorted(SOURCES.glob("*.c"))), str(Path(__file__).parent / "native_far.c")]
    command = [COMPILER, OPTIMIZED["float"], *options, "-static", "-DVITLAB_FLOAT", *sources, "-o", str(program), "-lm"]
    subprocess.run(command, check=True)
    with subprocess.Popen([EMULATOR, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Far(process)
        process.kill()


@pytest.fixture(autouse=True)
def elsewhere(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of other files compute there."""
    monkeypatch.setitem(test_native.LOADED, "float", far)
    monkeypatch.setattr(test_optim, "load", lambda kind, cache: far)
    monkeypatch.setattr(ops, "argument", lambda value: value)  # with its size, unlike an address


def test_it_is_that_processor(far: Far) -> None:
    macros = subprocess.run([COMPILER, "-dM", "-E", "-x", "c", "/dev/null"], capture_output=True, text=True, check=True)
    assert instructions_of("float", set(macros.stdout.split())) == "NEON"
    assert far.lanes == 8


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [(2, 17, 13, 19, 3, 5), (7, 23, 48, 96, 2, 24), (3, 67, 65, 97, 1, 61)], ids=str)
def test_blocks(size: tuple[int, int, int, int, int, int], threads: int) -> None:
    test_native.test_float_is_the_plain_block_for_any_size_and_number_of_threads(*size, threads)


@pytest.mark.parametrize("form", test_native_dropout.FORMS, ids=lambda f: "-".join(map(str, f.values())))
def test_dropout(form: dict[str, Any]) -> None:
    test_native_dropout.test_the_plain_block_agrees_when_it_drops_the_same(form, 5, 3, 0.3, 0.15, "float", 2, 5e-5)


@pytest.mark.parametrize(("act", "bad"), [("gelu", float("nan")), ("relu2", float("inf"))])
def test_a_nan_is_seen(act: str, bad: float) -> None:
    test_native.test_a_nan_is_seen("float", act, bad)


def test_both_ends() -> None:
    for embedding in test_native_ends.EMBEDDINGS:
        test_native_ends.test_the_embedding_is_the_plain_one(embedding, 2, "float", True)
    for readout in test_native_ends.READOUTS:
        test_native_ends.test_the_readout_is_the_plain_one(readout, 2, "float")


def test_whole_networks() -> None:
    for knobs in test_native_prediction.NETWORKS:
        test_native_prediction.test_the_network_is_the_plain_one(knobs, "float", 3)


def test_maps_of_images() -> None:
    for config in (test_native_affine.MILD, test_native_affine.BENT):
        test_native_affine.test_it_is_the_definition(config, "reflect", (7, 3, 11, 17))


def test_muon() -> None:
    test_optim.test_the_native_step_is_the_same_up_to_rounding(2)


def test_repetition_is_bit_for_bit() -> None:
    test_native.test_repetition_is_bit_for_bit("float", 3)
