"""The processor as the system describes it: its name, its instructions, and the cores that this process may use.

``root`` is the root of the file system, which tests replace.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from vitlab.openmp import bound_processors
from vitlab.text import counted

ROOT = Path("/")
# Linux's names for instructions that multiply bf16: vectors and tiles of x86, vectors of ARM.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def cpu_name(root: Path = ROOT) -> str:
    """The processor's name as the system reports it."""
    return _cpuinfo(root).get("model name") or platform.processor() or platform.machine()


def multiplies_bf16(root: Path = ROOT) -> bool:
    """Whether the processor has instructions for bf16 products; False where the system does not say (not Linux)."""
    about = _cpuinfo(root)
    return not BF16_FLAGS.isdisjoint((about.get("flags") or about.get("Features") or "").split())


def _cpuinfo(root: Path) -> dict[str, str]:
    """What /proc/cpuinfo says of the first processor."""
    lines = _read(root / "proc/cpuinfo").lstrip().partition("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def available_cores(root: Path = ROOT) -> int:
    """CPU cores that this process may use: those of its affinity, and the quota of its container or batch job if that
    is less. The hyper-threads of a core share its arithmetic, so they count once.

    A quota is rounded down, but to 1 at least: a process that exceeds its quota is stopped for the rest of each period,
    all of its threads together.
    """
    return limited_cores(root)[0]


def limited_cores(root: Path = ROOT) -> tuple[int, str]:
    """`available_cores`, and in words why there are fewer than the system has processors; "" if there are not."""
    processors = _processors()
    of_macos = _cores_of_macos() if platform.system() == "Darwin" else None
    if of_macos:
        cores = min(of_macos, len(processors))
        why = f"{counted(cores, 'full core')} of {len(processors)} processors"
    else:
        cores = len({_siblings(root, processor) for processor in processors})
        why = f"{len(processors)} hyper-threads on {counted(cores, 'core')}"
    reasons = [why] if cores < len(processors) else []
    quota = min(_quotas(root), default=float(cores))
    if quota < cores:
        cores = max(1, int(quota))
        reasons.append(f"a quota of {counted(quota, 'core')}")
    return cores, ", ".join(reasons)


def _processors() -> set[int]:
    """The system's numbers of the processors that this process may use; each hyper-thread counts as one."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0)) | bound_processors()
    return set(range(os.cpu_count() or 1))


def _siblings(root: Path, processor: int) -> str:
    """The processors of one core, as Linux lists them; where it does not, each is a core."""
    listed = _read(root / f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list").strip()
    return listed or str(processor)


def _cores_of_macos() -> int | None:
    """Performance cores, or all cores where they are alike, without hyper-threads; None if the system is silent."""
    number, size = ctypes.c_int(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    try:
        ask = ctypes.CDLL(None).sysctlbyname
        for name in (b"hw.perflevel0.physicalcpu", b"hw.physicalcpu"):
            if ask(name, ctypes.byref(number), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0 and number.value > 0:
                return number.value
    except (AttributeError, OSError, TypeError):
        pass
    return None


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in cores, of this process's control groups and of all groups around them (cgroup v2 and v1)."""
    for group in _groups(root):
        v2 = _read(group / "cpu.max").split()
        v1 = [_read(group / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        for numbers in (v2, v1):
            try:
                quota, period = map(int, numbers)
            except ValueError:  # no such file, or "max"
                continue
            if quota > 0 and period > 0:
                yield quota / period


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups that may limit its processor time, innermost first."""
    own = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines() if line.count(":") >= 2]
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        mounted, folder = _unescape(fields[3]), root / _unescape(fields[4]).lstrip("/")
        for _, controllers, path in own:
            if kind[0] == "cgroup2" if controllers == "" else kind[0] == "cgroup" and "cpu" in controllers.split(","):
                # In a container, the mount may begin at its own group, whose path is that of the host.
                below = os.path.relpath(path, mounted) if f"{path}/".startswith(f"{mounted.rstrip('/')}/") else "."
                inner = folder / below if ".." not in Path(below).parts else folder
                yield from (inner, *(above for above in inner.parents if above.is_relative_to(folder)))


def _unescape(path: str) -> str:
    """A path of mountinfo, where a space is written as \\040."""
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
