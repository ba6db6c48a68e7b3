"""Compile the C files of csrc/ for this processor, cache the library, and load it.

The cached file's name is a digest of everything the library depends on: the sources, the flags, the compiler, and the
processor's instructions. So it is never out of date, machines can share a cache folder, and processes that build at the
same time write the same whole file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Literal

import torch

from vitlab.errors import StorageError, VitlabError
from vitlab.files import make_folder, publish

Kind = Literal["bf16", "float", "double"]

SOURCES = Path(__file__).parent / "csrc"
# Not -ffast-math: it would make the whole process flush denormals when the library is loaded, hide the NaN of a
# diverging loss, and reorder sums that vec.h needs in their order.
FLAGS = (
    *("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *("-fno-strict-aliasing", "-fvisibility=hidden", "-fPIC", "-shared", "-fopenmp", "-Wno-psabi"),
)
COMPILE_SECONDS = 120


class NativeError(VitlabError):
    """The kernels are unavailable on this machine; the message says why in one phrase."""


# The functions of the C library, without their prefix vitlab_: those that return a size, and the others.
SIZES = ["muon_floats", "embed_bytes", "readout_bytes", "saved_bytes", "workspace_bytes"]
CALLS = [
    "forward",
    "backward",
    "embed",
    "embed_gradients",
    "readout",
    "readout_gradients",
    "muon",
    "dropout_mask",
    "affine",
]


class Library:
    """A loaded kernel: ``dtype`` is that of its inputs, outputs and weights; products run in ``kind``."""

    def __init__(self, kind: Kind, path: Path) -> None:
        try:
            self.c = ctypes.CDLL(str(path))
            for name in CALLS:
                getattr(self.c, f"vitlab_{name}").restype = None
            for name in SIZES:
                getattr(self.c, f"vitlab_{name}").restype = ctypes.c_size_t
            self.c.vitlab_use_tiles.restype = ctypes.c_int
        except (OSError, AttributeError) as error:
            raise NativeError(f"the compiled kernel {path} does not load: {error}") from error
        self.kind, self.path = kind, path
        self.dtype = torch.float64 if kind == "double" else torch.float32
        self._local = threading.local()

    def __deepcopy__(self, memo: object) -> Library:
        """Itself: copies of a network (such as the average of its weights) share the code."""
        return self

    def use_tiles(self, wanted: bool) -> bool:
        """Run products on AMX tiles, or by vector instructions; whether tiles are in use now.

        Tiles are on from the start where the processor has them. The switch holds for every user of the library; do
        not turn it while one of them computes.
        """
        return bool(self.c.vitlab_use_tiles(int(wanted)))

    def workspace(self, size: int) -> torch.Tensor:
        """At least ``size`` bytes that belong to the calling thread until its next call."""
        held: torch.Tensor | None = getattr(self._local, "workspace", None)
        if held is None or len(held) < size:
            held = self._local.workspace = torch.empty(size, dtype=torch.uint8)
        return held


def load(kind: Kind, cache: Path) -> Library:
    """The kernel whose products run in ``kind``, compiled into the folder ``cache`` unless it is there.

    NativeError: there is no compiler, it fails, or the processor lacks the instructions. StorageError: the folder
    cannot be written.
    """
    compiler = find_compiler()
    target = describe_target(compiler)
    if kind == "bf16" and "__AVX512BF16__" not in target:
        raise NativeError(f"this processor or {compiler} does not support AVX512-BF16")
    path = cache / f"blocks-{kind}-{digest(kind, compiler, target)}.so"
    if not path.exists():
        compile_library(kind, compiler, path)
    return Library(kind, path)


def find_compiler() -> str:
    """The C compiler to use: $CC, else the first of cc, gcc, clang; NativeError if there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    raise NativeError("no C compiler (cc, gcc or clang) is installed")


def describe_target(compiler: str) -> str:
    """The macros that the compiler defines for this processor: its own version and every instruction set."""
    return run([compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull])


def digest(kind: Kind, compiler: str, target: str) -> str:
    """Sixteen hexadecimal digits that differ whenever the compiled library may."""
    state = hashlib.sha256("\n".join([kind, compiler, target, *FLAGS]).encode())
    for source in sorted(SOURCES.glob("*.[ch]")):
        state.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def compile_library(kind: Kind, compiler: str, path: Path) -> None:
    """Compile all kernels to ``path``, which is whole or absent; NativeError if the compiler fails."""
    make_folder(path.parent)
    try:
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-")
    except OSError as error:
        raise StorageError(f"cannot write to {path.parent}: {error.strerror}") from error
    with folder as name:
        built = Path(name) / path.name
        sources = map(str, sorted(SOURCES.glob("*.c")))
        run([compiler, *FLAGS, f"-DVITLAB_{kind.upper()}", *sources, "-o", str(built), "-lm"])
        publish(built, path)


def run(command: list[str]) -> str:
    """What ``command`` prints; NativeError with its first complaint if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeError(f"the compiler {command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        complaint = next((line for line in lines if "error" in line), lines[0])
        raise NativeError(f"the compiler {command[0]} failed: {complaint}")
    return done.stdout
