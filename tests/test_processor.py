"""What the system says of the processor: instructions, and cores under quotas, from made-up file systems."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from vitlab.processor import available_cores, cpu_name, limited_cores, multiplies_bf16


def lay_out(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def x86(flags: str) -> str:
    block = f"processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon: the 4th\nflags\t\t: {flags}\nbugs\t\t:"
    return f"{block}\n\n{block.replace('the 4th', 'another')}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (x86("fpu avx512f avx512_bf16 avx512vl"), True),
        (x86("fpu amx_bf16 amx_tile"), True),
        (x86("fpu avx2 avx512f avx512_vnni"), False),
        (x86("fpu avx512_bf16_not"), False),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd i8mm bf16 dgh\nCPU part\t: 0xd40", True),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd crc32\nCPU part\t: 0xd08", False),
        ("", False),
    ],
)
def test_bf16_is_a_matter_of_instructions(tmp_path: Path, text: str, found: bool) -> None:
    assert multiplies_bf16(lay_out(tmp_path, {"proc/cpuinfo": text})) is found


def test_the_name_may_hold_a_colon_and_a_system_may_say_nothing(tmp_path: Path) -> None:
    assert cpu_name(lay_out(tmp_path, {"proc/cpuinfo": x86("fpu")})) == "Xeon: the 4th"
    assert cpu_name(tmp_path / "none")
    assert not multiplies_bf16(tmp_path / "none")


V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
CPU1 = "sys/fs/cgroup/cpu,cpuacct"
# own groups, mounts, files with limits, cores of eleven
QUOTAS: list[tuple[str, str, str, dict[str, str], int]] = [
    ("no limit", "0::/", V2, {}, 11),
    ("max", "0::/a", V2, {"sys/fs/cgroup/a/cpu.max": "max 100000"}, 11),
    ("container's own root", "0::/", V2, {"sys/fs/cgroup/cpu.max": "300000 100000"}, 3),
    ("own group", "0::/a/b", V2, {"sys/fs/cgroup/a/b/cpu.max": "200000 100000"}, 2),
    ("a group around it", "0::/a/b", V2, {"sys/fs/cgroup/a/cpu.max": "250000 50000"}, 5),
    (
        "the least of both",
        "0::/a/b",
        V2,
        {"sys/fs/cgroup/a/cpu.max": "300000 100000", "sys/fs/cgroup/a/b/cpu.max": "700000 100000"},
        3,
    ),
    ("another's group", "0::/a/b", V2, {"sys/fs/cgroup/a/c/cpu.max": "100000 100000"}, 11),
    ("rounded down", "0::/a", V2, {"sys/fs/cgroup/a/cpu.max": "199000 100000"}, 1),
    ("one at least", "0::/a", V2, {"sys/fs/cgroup/a/cpu.max": "20000 100000"}, 1),
    ("more than there are", "0::/a", V2, {"sys/fs/cgroup/a/cpu.max": "9900000 100000"}, 11),
    ("damaged", "0::/a", V2, {"sys/fs/cgroup/a/cpu.max": "?"}, 11),
    (
        "version 1",
        "4:memory:/x\n3:cpu,cpuacct:/a/b\n0::/",
        V1,
        {f"{CPU1}/a/b/cpu.cfs_quota_us": "400000", f"{CPU1}/a/b/cpu.cfs_period_us": "100000"},
        4,
    ),
    (
        "version 1, around it",
        "3:cpu,cpuacct:/a/b",
        V1,
        {
            f"{CPU1}/a/b/cpu.cfs_quota_us": "-1",
            f"{CPU1}/a/b/cpu.cfs_period_us": "100000",
            f"{CPU1}/a/cpu.cfs_quota_us": "350000",
            f"{CPU1}/a/cpu.cfs_period_us": "50000",
        },
        7,
    ),
    (
        "version 1, mounted from the container's group on",
        "3:cpu,cpuacct:/docker/123",
        V1.replace(" / /sys", " /docker/123 /sys"),
        {f"{CPU1}/cpu.cfs_quota_us": "200000", f"{CPU1}/cpu.cfs_period_us": "100000"},
        2,
    ),
    (
        "outside of the name space",
        "0::/../../x",
        V2,
        {"sys/fs/cgroup/cpu.max": "200000 100000", "x/cpu.max": "100000 100000"},
        2,
    ),
    (
        "both versions",
        "3:cpu,cpuacct:/a\n0::/a",
        f"{V2.replace('/sys/fs/cgroup', '/sys/fs/cgroup/uni')}\n{V1}",
        {
            "sys/fs/cgroup/uni/a/cpu.max": "500000 100000",
            f"{CPU1}/a/cpu.cfs_quota_us": "300000",
            f"{CPU1}/a/cpu.cfs_period_us": "100000",
        },
        3,
    ),
    ("a space", "0::/a b", V2.replace("/sys/fs", "/sys\\040x/fs"), {"sys x/fs/cgroup/a b/cpu.max": "200000 100000"}, 2),
]


@pytest.mark.parametrize(
    ("own", "mounts", "limits", "cores"), [case[1:] for case in QUOTAS], ids=[case[0] for case in QUOTAS]
)
def test_cores_under_quotas(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str, mounts: str, limits: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(11)), raising=False)
    root = lay_out(tmp_path, {"proc/self/cgroup": own, "proc/self/mountinfo": f"1 0 8:1 / / rw - ext4 x rw\n{mounts}"})
    assert available_cores(lay_out(root, limits)) == cores


def test_cores_are_those_of_the_process_where_the_system_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2, 3, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert available_cores(tmp_path) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores(tmp_path) == 64


@pytest.mark.parametrize(
    ("allowed", "siblings", "quota", "cores", "why"),
    [
        (range(6), ["0,3", "1,4", "2,5"] * 2, "max", 3, "6 hyper-threads on 3 cores"),
        (range(4), ["0-1", "0-1", "2-3", "2-3"], "max", 2, "4 hyper-threads on 2 cores"),
        ({0, 1, 2}, ["0,3", "1,4", "2,5"] * 2, "max", 3, ""),  # one of each core: none is shared
        ({1, 4}, ["0,3", "1,4", "2,5"] * 2, "max", 1, "2 hyper-threads on 1 core"),
        (range(6), ["0,3", "1,4", "2,5"] * 2, "250000", 2, "6 hyper-threads on 3 cores, a quota of 2.5 cores"),
        (range(6), ["0,3", "1,4", "2,5"] * 2, "500000", 3, "6 hyper-threads on 3 cores"),
        (range(3), ["0", "1", "2"], "199000", 1, "a quota of 1.99 cores"),
        (range(5), [], "max", 5, ""),  # the system does not say
    ],
)
def test_hyper_threads_count_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: Any, siblings: list[str], quota: str, cores: int, why: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(allowed), raising=False)
    texts = {
        f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": text
        for number, text in enumerate(siblings)
    }
    texts |= {"proc/self/cgroup": "0::/", "proc/self/mountinfo": V2, "sys/fs/cgroup/cpu.max": f"{quota} 100000"}
    root = lay_out(tmp_path, texts)
    assert limited_cores(root) == (cores, why)
    assert available_cores(root) == cores


@pytest.mark.parametrize(
    ("told", "cores", "why"),
    [
        ({b"hw.perflevel0.physicalcpu": 4, b"hw.physicalcpu": 8}, 4, "4 full cores of 8 processors"),
        ({b"hw.physicalcpu": 8}, 8, ""),
        ({}, 8, ""),
    ],
)
def test_on_macos_performance_cores_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: dict[bytes, int], cores: int, why: str
) -> None:
    """By a system library that writes what it is asked for through a pointer, like that of macOS."""

    class System:
        def sysctlbyname(self, name: bytes, value: Any, size: Any, new: None, length: Any) -> int:
            assert ctypes.sizeof(value._obj) == size._obj.value == 4
            if name in told:
                value._obj.value = told[name]
            return 0 if name in told else -1

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: System())
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert limited_cores(tmp_path) == (cores, why)
