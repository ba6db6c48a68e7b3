"""Compile the C files beside it for this very processor, keep the result, load it.

A compiled library lies in a cache folder under a name that is a digest of all that it depends on: the sources, the
flags, the compiler, and the instructions that the processor offers. So it is never out of date, machines that share a
folder do not disturb each other, and processes that build at once write the same thing, whole.
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

VERSION = 5  # vitlab_version() of blocks.c
SOURCES = Path(__file__).parent / "csrc"
# Not -ffast-math: it would make the whole process flush denormals when the library is loaded, hide the NaN of a
# diverging loss, and reorder sums that vec.h needs in their order.
FLAGS = (
    *("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *("-fno-strict-aliasing", "-fvisibility=hidden", "-fPIC", "-shared", "-fopenmp", "-Wno-psabi"),
)
COMPILE_SECONDS = 120


class NativeError(VitlabError):
    """The kernel cannot be had here; the message says why in one phrase."""


class ShapeStruct(ctypes.Structure):
    """``vitlab_shape`` of plan.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("batch", "tokens", "dim", "depth", "heads", "head_dim", "hidden")),
        *((name, ctypes.c_int) for name in ("attention", "rms", "relu2", "last_gelu", "threads")),
        *(("seed", ctypes.c_uint), ("dropout", ctypes.c_double), ("attn_dropout", ctypes.c_double)),
    ]


class Library:
    """A loaded kernel: ``dtype`` is that of its inputs, outputs and weights; products run in ``kind``."""

    def __init__(self, kind: Kind, path: Path) -> None:
        try:
            library = ctypes.CDLL(str(path))
            version = library.vitlab_version()
            self.forward, self.backward = library.vitlab_forward, library.vitlab_backward
            self.muon, self.dropout_mask = library.vitlab_muon, library.vitlab_dropout_mask
            self.affine = library.vitlab_affine
            self.embed, self.embed_gradients = library.vitlab_embed, library.vitlab_embed_gradients
            self.readout, self.readout_gradients = library.vitlab_readout, library.vitlab_readout_gradients
            self.embed_bytes, self.readout_bytes = library.vitlab_embed_bytes, library.vitlab_readout_bytes
            self.saved_bytes, self.workspace_bytes = library.vitlab_saved_bytes, library.vitlab_workspace_bytes
            self.muon_floats = library.vitlab_muon_floats
            self._use_tiles = library.vitlab_use_tiles
        except (OSError, AttributeError) as error:
            raise NativeError(f"the compiled kernel {path} does not load: {error}") from error
        if version != VERSION:
            raise NativeError(f"the compiled kernel {path} is of version {version}, not {VERSION}; delete it")
        self.kind, self.path = kind, path
        self.dtype = torch.float64 if kind == "double" else torch.float32
        self.muon_dtype = torch.float32
        for call in (self.forward, self.backward, self.muon, self.dropout_mask, self.affine):
            call.restype = None
        for call in (self.embed, self.embed_gradients, self.readout, self.readout_gradients):
            call.restype = None
        for measure in (self.muon_floats, self.embed_bytes, self.readout_bytes):
            measure.restype = ctypes.c_size_t
        for measure in (self.saved_bytes, self.workspace_bytes):
            measure.restype, measure.argtypes = ctypes.c_size_t, [ctypes.POINTER(ShapeStruct)]
        self._local = threading.local()

    def __deepcopy__(self, memo: object) -> Library:
        """Itself: copies of a network, as an average of its weights is one, share the code."""
        return self

    def use_tiles(self, wanted: bool) -> bool:
        """Whether products run on AMX tiles from now on: they do from the start, where these are to be had.

        To ask, or for tests of what runs elsewhere; of every user of this library, and not while one of them computes.
        """
        return bool(self._use_tiles(int(wanted)))

    def workspace(self, size: int) -> torch.Tensor:
        """At least ``size`` bytes that belong to the calling thread until its next call."""
        held: torch.Tensor | None = getattr(self._local, "workspace", None)
        if held is None or len(held) < size:
            held = self._local.workspace = torch.empty(size, dtype=torch.uint8)
        return held


def address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """Where a kernel finds the tensor's numbers; NULL for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def check_tensors(library: Library, *tensors: torch.Tensor | None) -> None:
    """ValueError unless each is what the kernel reads: of its type, on the CPU, contiguous."""
    for tensor in tensors:
        if tensor is not None and not (
            tensor.dtype is library.dtype and tensor.is_contiguous() and tensor.device.type == "cpu"
        ):
            raise ValueError(f"the kernel needs contiguous {library.dtype} on the CPU")


def load(kind: Kind, cache: Path) -> Library:
    """The kernel whose products run in ``kind``, compiled into the folder ``cache`` unless it is there.

    NativeError: there is no compiler, it fails, or the processor lacks the instructions. StorageError: the folder
    cannot be written.
    """
    compiler = find_compiler()
    target = describe_target(compiler)
    if kind == "bf16" and "__AVX512BF16__" not in target:
        raise NativeError(f"the processor or {compiler} has no AVX512-BF16")
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
