"""Compile the C files of csrc/ for this processor, cache the library, and load it.

The cached file's name is a digest of everything the library depends on: the sources, the flags, the compiler, and the
processor's instructions. So it is never out of date, machines can share a cache folder, and processes that compile at
the same time write identical files.
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
from typing import Any, Literal

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


# The functions of the C library, without their prefix vitlab_, and the types of their results.
FUNCTIONS: dict[str, Any] = {
    **dict.fromkeys(("forward", "backward", "embed", "embed_gradients", "readout", "readout_gradients"), None),
    **dict.fromkeys(("muon", "dropout_mask", "affine"), None),
    **dict.fromkeys(("muon_floats", "embed_bytes", "readout_bytes", "saved_bytes", "workspace_bytes"), ctypes.c_size_t),
    "use_tiles": ctypes.c_int,
}


class Library:
    """The loaded kernels: ``dtype`` is that of inputs, outputs and weights; products run in ``kind``."""

    def __init__(self, kind: Kind, path: Path) -> None:
        try:
            self.c = ctypes.CDLL(str(path))
            for name, result in FUNCTIONS.items():
                getattr(self.c, f"vitlab_{name}").restype = result
        except (OSError, AttributeError) as error:
            raise NativeError(f"the compiled kernel {path} does not load: {error}") from error
        self.path = path
        self.dtype = torch.float64 if kind == "double" else torch.float32
        self._local = threading.local()

    def __deepcopy__(self, memo: object) -> Library:
        """Itself: copies of a network (such as its weight average) share the library."""
        return self

    def use_tiles(self, wanted: bool) -> bool:
        """Switch AMX tiles on (``wanted``) or off, and return whether products use them now; without them, vector
        instructions compute.

        Tiles are on from the start if the processor has them. The switch affects every user of the library: do not
        change it while another thread computes.
        """
        return bool(self.c.vitlab_use_tiles(int(wanted)))

    def workspace(self, size: int) -> torch.Tensor:
        """At least ``size`` bytes, for the calling thread alone, valid until its next call."""
        held: torch.Tensor | None = getattr(self._local, "workspace", None)
        if held is None or len(held) < size:
            held = self._local.workspace = torch.empty(size, dtype=torch.uint8)
        return held


def load(kind: Kind, cache: Path) -> Library:
    """The kernels whose products run in ``kind``, compiled into the folder ``cache`` if they are not there yet.

    NativeError if there is no compiler, if it fails, or if the processor lacks the instructions; StorageError if the
    folder cannot be written.
    """
    compiler = _find_compiler()
    # The macros that the compiler defines for this processor: its own version and every instruction set.
    target = _run([compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull])
    if kind == "bf16" and "__AVX512BF16__" not in target:
        raise NativeError(f"the processor or {compiler} has no AVX512-BF16")
    path = cache / f"blocks-{kind}-{_digest(kind, compiler, target)}.so"
    if not path.exists():
        _compile(kind, compiler, path)
    return Library(kind, path)


def _find_compiler() -> str:
    """The C compiler to use: $CC, else the first of cc, gcc, clang; NativeError if there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    raise NativeError("no C compiler (cc, gcc or clang) is installed")


def _digest(kind: Kind, compiler: str, target: str) -> str:
    """Sixteen hexadecimal digits that differ whenever the compiled library may."""
    state = hashlib.sha256("\n".join([kind, compiler, target, *FLAGS]).encode())
    for source in sorted(SOURCES.glob("*.[ch]")):
        state.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def _compile(kind: Kind, compiler: str, path: Path) -> None:
    """Compile all kernels to ``path``, atomically; NativeError if the compiler fails."""
    make_folder(path.parent)
    try:
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-")
    except OSError as error:
        raise StorageError(f"cannot write to {path.parent}: {error.strerror}") from error
    with folder as name:
        built = Path(name) / path.name
        sources = map(str, sorted(SOURCES.glob("*.c")))
        _run([compiler, *FLAGS, f"-DVITLAB_{kind.upper()}", *sources, "-o", str(built), "-lm"])
        publish(built, path)


def _run(command: list[str]) -> str:
    """What ``command`` prints; NativeError with its first error message if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeError(f"the compiler {command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        complaint = next((line for line in lines if "error" in line), lines[0])
        raise NativeError(f"the compiler {command[0]} failed: {complaint}")
    return done.stdout
