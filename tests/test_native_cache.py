"""The cache of compiled kernels: what others may have written is never run, what is damaged is compiled again."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.test_native import STUBS, fake_compiler, library
from vitlab.config import MachineConfig
from vitlab.errors import OutOfMemoryError, StorageError, VitlabError
from vitlab.files import sha256
from vitlab.machine import choose_machine, has_bf16
from vitlab.native import accelerate, build
from vitlab.native.accelerate import keep_compiled_code_private, load_kernels
from vitlab.native.build import NativeError, load

ROOT_ONLY = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
NOBODY = 65534


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Kernels that do nothing, which compile in a moment."""
    library("float")  # or skip
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "blocks.c").write_text(STUBS)
    monkeypatch.setattr(build, "SOURCES", folder)
    return folder


@pytest.fixture
def cache(sources: Path, tmp_path: Path) -> Path:
    """A cache with the library. In another folder than the one it was first loaded from, which the system remembers."""
    load("float", tmp_path / "first")
    return Path(shutil.copytree(tmp_path / "first", tmp_path / "cache"))


def only(cache: Path) -> Path:
    (path,) = cache.glob("*.so")
    return path


def hostile(path: Path, marker: Path) -> None:
    """Put a library that writes ``marker`` when it is loaded in the place of ``path``."""
    source = path.parent.parent / "hostile.c"
    write = f'__attribute__((constructor)) static void go(void) {{ FILE *f = fopen("{marker}", "w"); fclose(f); }}'
    source.write_text(f"#include <stdio.h>\n{STUBS}{write}\n")
    path.unlink()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True)


def given_away(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def writable(path: Path) -> None:
    path.chmod(0o666)


def linked(path: Path) -> None:
    path.symlink_to(path.rename(path.parent.parent / "elsewhere.so"))


@pytest.mark.parametrize("change", [pytest.param(given_away, marks=ROOT_ONLY), writable, linked])
@pytest.mark.parametrize("renamed", [False, True], ids=["", "with the digest of its own bytes"])
def test_a_library_that_others_may_have_written_is_not_loaded(
    cache: Path, tmp_path: Path, change: Callable[[Path], None], renamed: bool
) -> None:
    path, marker = only(cache), tmp_path / "marker"
    own = path.read_bytes()
    hostile(path, marker)
    if renamed:
        path = path.rename(cache / path.name.replace(sha256(own)[:32], sha256(path.read_bytes())[:32]))
    change(path)
    found = load("float", cache)
    assert not marker.exists()
    (remark,) = found.remarks
    assert str(path) in remark
    assert "compiled again" in remark
    assert only(cache).read_bytes() == own
    assert stat.S_IMODE(only(cache).stat().st_mode) == 0o755
    assert load("float", cache).remarks == []


def flip_a_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :]


@pytest.mark.parametrize("harm", [flip_a_bit, lambda data: data[:4097], lambda data: b"", lambda data: data + b"\0"])
def test_a_damaged_library_is_compiled_again(cache: Path, harm: Callable[[bytes], bytes]) -> None:
    path = only(cache)
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    (remark,) = load("float", cache).remarks
    assert remark.startswith(f"{path} was not loaded: it is damaged")
    assert only(cache).read_bytes() == whole
    assert load("float", cache).remarks == []


def test_many_that_find_a_damaged_library_do_not_take_it_from_each_other(cache: Path) -> None:
    path = only(cache)
    path.write_bytes(flip_a_bit(path.read_bytes()))
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(load, "float", cache) for _ in range(4)]
    assert {one.result().path for one in found} == {path}


def test_a_folder_that_others_can_write_to_is_closed(cache: Path) -> None:
    cache.chmod(0o777)
    assert load("float", cache).remarks == []
    assert stat.S_IMODE(cache.stat().st_mode) == 0o755


@ROOT_ONLY
def test_a_folder_of_another_user_is_not_used(cache: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hostile(only(cache), marker)
    given_away(cache)
    found = load("float", cache)
    assert not marker.exists()
    assert found.path.parent != cache
    assert not found.path.exists()  # it was this process's alone
    (remark,) = found.remarks
    assert f"{cache} belongs to another user" in remark


@ROOT_ONLY
def test_a_shared_folder_of_root_that_nobody_else_can_write_to_is_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a user 4711; a library of user 4712 in it is not."""
    monkeypatch.setattr("vitlab.native.private.user", lambda: 4711)
    path = only(cache)
    assert (load("float", cache).path, load("float", cache).remarks) == (path, [])
    os.chown(path, 4712, 4712)
    (remark,) = load("float", cache).remarks
    assert remark.startswith(f"{path} was not loaded: it belongs to another user")


@pytest.mark.parametrize(("mode", "used"), [(0o777, False), (0o775, False), (0o1777, True), (0o755, True)])
def test_a_folder_that_others_could_exchange_is_not_used(cache: Path, mode: int, used: bool) -> None:
    parent = cache.parent / "parent"
    parent.mkdir()
    inner = cache.rename(parent / "cache")
    parent.chmod(mode)
    found = load("float", inner)
    assert (found.path.parent == inner) is used
    assert found.remarks == ([] if used else [found.remarks[0]])
    assert used or f"chmod go-w {parent}" in found.remarks[0]


def test_a_link_that_others_could_change_is_followed_only_once(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    link = tmp_path / "open" / "cache"
    link.symlink_to(cache)
    link.parent.chmod(0o777)
    assert load("float", link).path == only(cache)


def test_what_is_created_is_the_users_alone_whatever_the_umask(sources: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = load("float", tmp_path / "new" / "deep" / "cache").path
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent, *path.parents[1:3])]
    assert modes == [0o755, 0o700, 0o755, 0o755]


def test_without_a_cache_the_kernels_are_compiled_for_the_process(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = load("float", tmp_path / "file" / "cache")
    (remark,) = found.remarks
    assert remark.startswith("compiling vitlab's kernels for this process alone: cannot use the folder")


def test_a_library_that_crashes_does_not_take_vitlab_with_it(sources: Path, tmp_path: Path) -> None:
    crash = "#include <stdlib.h>\n__attribute__((constructor)) static void go(void) { abort(); }\n"
    (sources / "blocks.c").write_text(STUBS + crash)
    for _ in range(2):
        with pytest.raises(NativeError, match=r"crash when they are loaded \(SIGABRT\)"):
            load("float", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("exec sleep 30", VitlabError, "has not finished after 0.2 s"),
        ('echo "cc: fatal error: Killed signal terminated program cc1" >&2; exit 1', OutOfMemoryError, "Killed"),
        (
            'echo "x.o: No space left on device" >&2; exit 1',
            StorageError,
            "vitlab-kernels-.*: the disk is full",
        ),
        ("kill -9 $$", OutOfMemoryError, "was stopped"),
    ],
)
@pytest.mark.parametrize("kernels", ["auto", "native"])
def test_what_may_pass_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, error: type[VitlabError], words: str, kernels: str
) -> None:
    """Busy or full machines must not choose other kernels, which round differently: an error, and the way out."""
    monkeypatch.setattr(build, "COMPILE_SECONDS", 0.2 if "sleep" in script else 60)
    script = f'case "$*" in *-dM*) echo "#define __AVX512BF16__ 1";; *) {script};; esac'
    monkeypatch.setenv("CC", str(fake_compiler(tmp_path, script)))
    monkeypatch.setattr(accelerate, "library", lambda kind: load("bf16", tmp_path / "cache"))
    machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="bf16", kernels=kernels))  # type: ignore[arg-type]
    with pytest.raises(error, match=rf"{words}.*kernels=.plain."):
        load_kernels(machine, lambda line: pytest.fail(line))
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="torch's limits are those of x86")
def test_what_torch_is_limited_to_limits_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """ATEN_CPU_CAPABILITY, which torch reads once."""
    library("float")  # or skip
    for limit, found in (("AVX2", ("AVX2", "portable C")), ("DEFAULT", ("portable C",))):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda limit=limit: limit)
        words = ["cc", *build._processor(), "-dM", "-E", "-x", "c", "/dev/null"]
        macros = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert build.instructions_of("bf16", set(macros.split())) in found
        assert not has_bf16(torch.device("cpu")) or limit == "DEFAULT"


def test_remarks_are_made_once(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    found = load("float", cache)
    found.remarks.append("something about the cache")
    monkeypatch.setattr(accelerate, "library", lambda kind: found)
    machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="bf16"))
    notes: list[str] = []
    for _ in range(2):
        kernels, chosen = load_kernels(machine, notes.append)
        assert kernels is not None
        assert (chosen.kernels, chosen.kernels_digest) == ("native", sha256(only(cache).read_bytes())[:16])
    assert notes == ["something about the cache"]


def test_torchs_compiler_keeps_its_code_in_a_folder_of_the_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "chosen")
    keep_compiled_code_private(pytest.fail)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "chosen"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    keep_compiled_code_private(pytest.fail)
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folder == tmp_path / "cache" / "inductor"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    folder.parent.chmod(0o777)
    notes: list[str] = []
    keep_compiled_code_private(notes.append)
    other = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert other != folder
    assert stat.S_IMODE(other.stat().st_mode) == 0o700
    assert "chmod go-w" in notes[0]


def test_a_folder_in_place_of_the_library_is_not_loaded(cache: Path) -> None:
    path = only(cache)
    path.unlink()
    path.mkdir()
    found = load("float", cache)
    refused, alone = found.remarks
    assert refused.startswith(f"{path} was not loaded: it is not a file")
    assert alone.startswith("compiling vitlab's kernels for this process alone: ")
    assert found.path.parent != cache
    assert path.is_dir()
