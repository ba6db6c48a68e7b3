"""The processor as the system describes it: its name, its instructions, and the cores that this process may use.

``root`` is the root of the file system, which tests replace.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from vitlab.openmp import bound_cores

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
    """CPU cores that this process may use: its affinity, and the quota of its container or batch job if that is less.

    A quota is rounded down, but to 1 at least: threads that wait for each other keep their cores busy, and a process
    that exceeds its quota is stopped for the rest of each period.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = max(len(os.sched_getaffinity(0)), bound_cores())
    else:
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *(int(quota) for quota in _quotas(root))]))


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
