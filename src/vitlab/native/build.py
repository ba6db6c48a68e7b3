"""Compile the C files of csrc/ for this processor, cache the library, and load it.

The cached file's name has two digests. The first covers everything the library depends on: the sources, the flags, the
compiler, and the processor's instructions. So a library is never out of date, machines can share a cache folder, and
processes that compile at the same time write identical files. The second is that of its bytes, so that a damaged file
is noticed before it runs. A file that another user may have written is never loaded.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from vitlab.errors import OutOfMemoryError, StorageError, VitlabError, storage_error
from vitlab.files import publish, remove, sha256
from vitlab.native.private import check_private, make_private, read_private
from vitlab.system import CRASHED, KILLED

# Products in bf16 or float; double, with and without the layout of bf16 (pairs), is for tests.
Kind = Literal["bf16", "float", "double", "pairs"]

Instructions = Literal["AVX512-BF16", "AVX-512", "AVX2", "NEON", "portable C"]

SOURCES = Path(__file__).parent / "csrc"
# Not -ffast-math: it would make the whole process flush denormals when the library is loaded, hide the NaN of a
# diverging loss, and reorder sums that vec.h needs in their order.
FLAGS = (
    *("-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *("-fno-strict-aliasing", "-fvisibility=hidden", "-fPIC", "-shared", "-pthread", "-Wno-psabi"),
)
# Where ATEN_CPU_CAPABILITY keeps torch from a processor's newest vectors, the kernels do without them, too.
WITHOUT = {"AVX2": "-mno-avx512f", "DEFAULT": "-mno-avx"}
OPTIMIZED: dict[Kind, str] = {"bf16": "-O3", "float": "-O3", "double": "-O1", "pairs": "-O1"}
COMPILE_SECONDS = 1200  # it takes 10 on a quiet machine
LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
# What a failing compiler or system says if the same command may succeed at another time.
FULL = ("No space left on device", "Disk quota exceeded")
BUSY = ("Killed", "Cannot allocate memory", "out of memory", "memory exhausted", "Resource temporarily unavailable")


class NativeError(VitlabError):
    """The kernels are unavailable on this machine, today and tomorrow; the message says why in one phrase."""


# The functions of the C library, without their prefix vitlab_, and the types of their results.
FUNCTIONS: dict[str, Any] = {
    **dict.fromkeys(("forward", "backward", "embed", "embed_gradients", "readout", "readout_gradients"), None),
    **dict.fromkeys(("muon", "dropout_mask", "affine", "pack", "predict"), None),
    **dict.fromkeys(("muon_floats", "embed_bytes", "readout_bytes", "saved_bytes", "workspace_bytes"), ctypes.c_size_t),
    **dict.fromkeys(("packed_bytes", "pack_bytes", "predict_bytes"), ctypes.c_size_t),
    **dict.fromkeys(("use_tiles", "lanes"), ctypes.c_int),
    **dict.fromkeys(("interrupt", "use_processors"), None),
}


class Library:
    """The loaded kernels: ``dtype`` is that of inputs, outputs and weights; products run in ``kind``.

    ``digest`` is that of the file's bytes; ``instructions`` names the vectors that it was compiled for; ``remarks`` are
    lines about the cache that the user should see.
    """

    def __init__(
        self, kind: Kind, path: Path, instructions: Instructions = "portable C", remarks: Sequence[str] = ()
    ) -> None:
        try:
            self.digest = sha256(path.read_bytes())[:16]
            self.c = ctypes.CDLL(str(path))
            for name, result in FUNCTIONS.items():
                getattr(self.c, f"vitlab_{name}").restype = result
        except (OSError, AttributeError) as error:
            raise NativeError(f"the compiled kernel {path} does not load: {error}") from error
        self.path, self.instructions, self.remarks = path, instructions, list(remarks)
        self.dtype = torch.float64 if kind in ("double", "pairs") else torch.float32
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

    @property
    def multiplies_by(self) -> str:
        """What computes products at the start: AMX tiles where processor and system allow them."""
        return "AMX tiles" if self.use_tiles(True) else self.instructions

    @property
    def lanes(self) -> int:
        """How many numbers a vector holds; columns are padded to multiples of it, which decides what is dropped."""
        return int(self.c.vitlab_lanes())

    def use_processors(self, numbers: Collection[int]) -> None:
        """Let the threads that the kernels start from now on run on these processors of the system; if there are none,
        where the calling thread may run."""
        self.c.vitlab_use_processors(len(numbers), (ctypes.c_int * len(numbers))(*numbers))

    def workspace(self, size: int) -> torch.Tensor:
        """At least ``size`` bytes, for the calling thread alone, valid until its next call."""
        held: torch.Tensor | None = getattr(self._local, "workspace", None)
        if held is None or len(held) < size:
            held = self._local.workspace = torch.empty(size, dtype=torch.uint8)
        return held


def load(kind: Kind, cache: Path, compiles: bool = True) -> Library:
    """The kernels whose products run in ``kind``, compiled into the folder ``cache`` if they are not there yet (or, if
    it ``compiles`` nothing, NativeError).

    If others can write to that folder or it cannot be used, they are compiled for this process alone. NativeError if
    there is no compiler, if it fails, or if the processor lacks the instructions; another VitlabError if compiling
    failed for a reason that may pass, such as a full disk.
    """
    compiler = find_compiler()
    # The macros that the compiler defines for this processor: its own version and every instruction set.
    target = _run([compiler, *_processor(), "-dM", "-E", "-x", "c", os.devnull])
    instructions = instructions_of(kind, set(target.split()))
    if kind == "bf16" and instructions != "AVX512-BF16":
        raise NativeError(f"this processor or {compiler} does not support AVX512-BF16")
    cache = Path(os.path.realpath(cache))  # what is checked is what is loaded, even if someone changes a link
    stem, remarks = f"blocks-{kind}-{_digest(kind, compiler, target)}", list[str]()
    if not compiles and not any(cache.glob(f"{stem}-*.so")):
        raise NativeError("they have not been compiled yet")
    try:
        path = _find_or_compile(kind, compiler, cache, stem, remarks)
        return Library(kind, path, instructions, remarks)
    except StorageError as error:
        remarks.append(f"compiling vitlab's kernels for this process alone: {error}")
    try:
        place = tempfile.TemporaryDirectory(prefix="vitlab-kernels-")
        check_private(Path(place.name))
    except (OSError, StorageError) as error:
        raise NativeError(f"there is no safe folder to compile them in: {error}") from error
    with place as name:
        return Library(kind, _compile(kind, compiler, Path(name), stem), instructions, remarks)


def instructions_of(kind: Kind, macros: set[str]) -> Instructions:
    """The vectors that the kernels use where the compiler defines ``macros``, as vec.h and product.h choose them."""
    if kind == "bf16" and "__AVX512BF16__" in macros:
        return "AVX512-BF16"
    if "__AVX512F__" in macros:
        return "AVX-512"
    if {"__AVX2__", "__FMA__"} <= macros:
        return "AVX2"
    return "NEON" if "__aarch64__" in macros else "portable C"


def _processor() -> list[str]:
    """The compiler's options for this processor, within the limits that torch has been given."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ["-mcpu=native"]
    limit = WITHOUT.get(torch.backends.cpu.get_cpu_capability())
    return ["-march=native", *([limit] if limit else [])]


def _find_or_compile(kind: Kind, compiler: str, cache: Path, stem: str, remarks: list[str]) -> Path:
    """The library in ``cache``, checked, or a new one that replaces it; StorageError if the folder is not safe or
    cannot be written."""
    if os.access(cache, os.W_OK) or not cache.exists():
        make_private(cache)
    check_private(cache)
    refused: list[Path] = []
    for path in sorted(cache.glob(f"{stem}-*.so")):
        data = read_private(path)
        if isinstance(data, bytes) and path.name == _name(stem, data):
            return path
        why = data if isinstance(data, str) else "it is damaged (its SHA-256 is not the one in its name)"
        remarks.append(f"{path} was not loaded: {why}; the kernels have been compiled again")
        refused.append(path)
    path = _compile(kind, compiler, cache, stem)
    for other in refused:
        if other != path:  # which is new, and perhaps in use by another process already
            remove(other)
    return path


def _name(stem: str, data: bytes) -> str:
    return f"{stem}-{sha256(data)[:32]}.so"


def find_compiler() -> str:
    """The C compiler to use: $CC, else the first of cc, gcc, clang; NativeError if there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    raise NativeError("no C compiler (cc, gcc or clang) is installed")


def _digest(kind: Kind, compiler: str, target: str) -> str:
    """Sixteen hexadecimal digits that differ whenever the compiled library may."""
    options = [*_processor(), OPTIMIZED[kind], *FLAGS]
    state = hashlib.sha256("\n".join([kind, compiler, target, *options]).encode())
    for source in sorted(SOURCES.glob("*.[ch]")):
        state.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def _compile(kind: Kind, compiler: str, folder: Path, stem: str) -> Path:
    """Compile all kernels into ``folder``, atomically, and return the library's path; NativeError if that fails."""
    try:
        place = tempfile.TemporaryDirectory(dir=folder, prefix=".build-")
    except OSError as error:
        raise storage_error("write to", folder, error) from error
    with place as name:
        built = Path(name) / "kernels.so"
        sources = map(str, sorted(SOURCES.glob("*.c")))
        # The compiler's own temporary files go there, too: one disk that can be full, not two.
        options = [*_processor(), OPTIMIZED[kind], *FLAGS, f"-DVITLAB_{kind.upper()}"]
        _run([compiler, *options, *sources, "-o", str(built), "-lm"], Path(name))
        _load_elsewhere(built)
        try:
            os.chmod(built, 0o755)  # whatever the umask says
            path = folder / _name(stem, built.read_bytes())
        except OSError as error:
            raise storage_error("write to", folder, error) from error
        publish(built, path)
    return path


def _load_elsewhere(built: Path) -> None:
    """NativeError if a process that loads the library crashes: better another one than this."""
    if sys.executable:
        command = [sys.executable, "-I", "-S", "-c", LOAD, str(built)]
        try:
            code = subprocess.run(command, capture_output=True, check=False).returncode
        except OSError:
            return  # what could not be tried is not known to crash
        if code in CRASHED:
            raise NativeError(f"the compiled kernels crash when they are loaded ({signal.Signals(-code).name})")


def _run(command: list[str], folder: Path | None = None) -> str:
    """What ``command``, whose temporary files go to ``folder``, prints. NativeError with its first error message if it
    fails, and another VitlabError if it may succeed at another time: whether kernels are used must not depend on how
    busy the machine is."""
    what = f"the compiler {command[0]}"
    later = "so vitlab's kernels cannot be compiled now; try again, or use --kernels plain"
    environment = os.environ | {"LC_ALL": "C"} | ({"TMPDIR": str(folder)} if folder else {})
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_SECONDS, errors="replace", env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise VitlabError(f"{what} has not finished after {COMPILE_SECONDS} s, {later}") from error
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
            raise OutOfMemoryError(f"{what} cannot be started ({error.strerror}), {later}") from error
        raise NativeError(f"{what} cannot be run: {error}") from error
    if done.returncode == 0:
        return done.stdout
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    complaint = next((line for line in lines if "error" in line.lower()), lines[0])
    if any(sign in done.stderr for sign in FULL):
        where = folder.parent if folder else "its temporary folder"
        raise StorageError(f"{what} cannot write to {where}: the disk is full; free some space, or use --kernels plain")
    if done.returncode == KILLED or any(sign in done.stderr for sign in BUSY):
        raise OutOfMemoryError(f"{what} was stopped ({complaint}), {later}")
    raise NativeError(f"{what} failed: {complaint}")
