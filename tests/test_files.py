"""The door to the disk: a file is whole or absent, an error leaves what was there, and JSON is strict."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from vitlab import files
from vitlab.errors import ConfigError, RunError, StorageError
from vitlab.files import (
    digest_of,
    exists,
    inner_folder,
    locked,
    make_folder,
    names_in,
    publish,
    read_bytes,
    read_json,
    read_json_lines,
    remove,
    sha256,
    sweep,
    to_json,
    user_cache,
    write_bytes,
    write_json,
    write_json_lines,
)

OLD, NEW = b"old" * 1001, b"newer" * 101  # small enough to wait in a buffer


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file that is already there, alone in its folder."""
    path = tmp_path / "state.bin"
    path.write_bytes(OLD)
    return path


def failing(error: BaseException) -> Any:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    return fail


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_writing_replaces_the_whole_file_and_leaves_nothing_else(target: Path) -> None:
    write_bytes(target, NEW)
    assert target.read_bytes() == NEW
    assert names(target.parent) == ["state.bin"]


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664), (0o077, 0o600)])
def test_new_files_have_the_rights_that_the_umask_leaves(tmp_path: Path, umask: int, rights: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "state.bin", NEW)
    finally:
        os.umask(before)
    assert (tmp_path / "state.bin").stat().st_mode & 0o777 == rights


def test_a_link_is_replaced_and_what_it_leads_to_is_left_alone(target: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(target)
    write_bytes(link, NEW)
    assert (link.is_symlink(), link.read_bytes(), target.read_bytes()) == (False, NEW, OLD)


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "disk is full"), (errno.EIO, "input/output"), (errno.EROFS, "read-only")]
)
def test_a_failed_write_leaves_the_old_file_and_no_other(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, hint: str
) -> None:
    monkeypatch.setattr(os, call, failing(OSError(number, os.strerror(number))))
    with pytest.raises(StorageError, match=hint) as caught:
        write_bytes(target, NEW)
    monkeypatch.undo()
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == OLD
    assert names(target.parent) == ["state.bin"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_in_the_middle_of_a_write(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file = os.fdopen

    def on_a_full_disk(handle: int, mode: str) -> Any:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, handle)
        os.close(full)
        return open_file(handle, mode)

    monkeypatch.setattr(os, "fdopen", on_a_full_disk)
    with pytest.raises(StorageError, match="disk is full"):
        write_bytes(target, NEW)
    assert target.read_bytes() == OLD
    assert names(target.parent) == ["state.bin"]


def test_a_failed_folder_flush_is_reported_and_the_file_is_whole(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitlab.system.flush_folder", failing(OSError(errno.EIO, "io")))
    with pytest.raises(StorageError):
        write_bytes(target, NEW)
    assert target.read_bytes() == NEW
    assert names(target.parent) == ["state.bin"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_bytes(target, NEW)
    assert target.read_bytes() == OLD
    assert names(target.parent) == ["state.bin"]


@pytest.fixture
def journal(target: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order; at the rename, the state of both files is checked."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flush(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        assert is_folder or os.fstat(handle).st_size == len(NEW)  # nothing waits in Python's buffer
        events.append("flush folder" if is_folder else "flush file")
        fsync(handle)

    def rename(source: Any, destination: Any) -> None:
        assert Path(source).parent == Path(destination).parent
        assert Path(source).read_bytes() == NEW
        assert Path(destination).read_bytes() == OLD
        events.append("rename")
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    return events


@pytest.mark.parametrize("way", ["write_bytes", "publish"])
def test_bytes_are_on_the_disk_before_the_rename_and_the_rename_after(
    target: Path, journal: list[str], way: str
) -> None:
    if way == "write_bytes":
        write_bytes(target, NEW)
    else:
        (target.parent / "part").write_bytes(NEW)
        publish(target.parent / "part", target)
    assert journal == ["flush file", "rename", "flush folder"]
    assert target.read_bytes() == NEW
    assert names(target.parent) == ["state.bin"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failed_publish_leaves_the_old_file(target: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    part = target.parent / "part"
    part.write_bytes(NEW)
    monkeypatch.setattr(os, call, failing(OSError(errno.ENOSPC, "full")))
    with pytest.raises(StorageError, match="disk is full"):
        publish(part, target)
    assert target.read_bytes() == OLD
    assert part.read_bytes() == NEW


def test_publishing_a_file_that_is_missing_is_a_storage_error(target: Path) -> None:
    with pytest.raises(StorageError, match=r"state\.bin"):
        publish(target.parent / "part", target)
    assert target.read_bytes() == OLD


@pytest.mark.parametrize("place", ["missing/new.bin", "state.bin/new.bin", "x" * 300])
def test_writing_where_no_file_can_be_is_a_storage_error(target: Path, place: str) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(target.parent / place, NEW)
    assert names(target.parent) == ["state.bin"]


def test_folders_are_made_with_their_parents_and_may_be_there(target: Path) -> None:
    folder = target.parent / "a" / "b"
    make_folder(folder)
    make_folder(folder)
    assert folder.is_dir()
    for path in (target, target / "a"):
        with pytest.raises(StorageError, match="cannot create the folder"):
            make_folder(path)


def test_remove_deletes_what_is_there_and_is_content_with_nothing(target: Path) -> None:
    remove(target)
    assert names(target.parent) == []
    remove(target)
    with pytest.raises(StorageError, match="cannot delete"):
        remove(target.parent)


def test_sha256_is_the_published_digest() -> None:
    # FIPS 180-2, appendix B.1
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(memoryview(NEW)) == hashlib.sha256(NEW).hexdigest()


# JSON


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_refused_before_anything_is_written(target: Path, number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json({"loss": [number]})
    for write in (write_json, write_json_lines):
        with pytest.raises(ValueError, match="JSON"):
            write(target, [number])
    assert target.read_bytes() == OLD


VALUE = {"name": "Zürich 数", "path": "\udcff", "rows": [1, 2.5, None, True], "nested": {"b": 1, "a": []}}


def test_json_comes_back_as_it_was(target: Path) -> None:
    write_json(target, VALUE)
    assert read_json(target) == VALUE
    text = target.read_text("utf-8")
    assert text.endswith("}\n")
    assert text.isascii()  # and so a path that is not valid UTF-8 can be written, too
    assert json.loads(text) == VALUE


def test_json_lines_hold_one_row_a_line(target: Path) -> None:
    rows = [VALUE, {"text": "two\nlines"}, 3]
    write_json_lines(target, iter(rows))
    lines = target.read_bytes().decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == rows
    write_json_lines(target, [])
    assert target.read_bytes() == b""


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": 1', b"\xff\xfe", b"{'a': 1}", b"1 2"])
def test_damaged_json_is_a_run_error_that_names_the_file(target: Path, data: bytes) -> None:
    target.write_bytes(data)
    with pytest.raises(RunError, match=r"state\.bin is damaged"):
        read_json(target)


def test_a_missing_file_is_a_run_error_and_an_unreadable_one_a_storage_error(target: Path) -> None:
    for read in (read_bytes, read_json, read_json_lines, digest_of):
        with pytest.raises(RunError, match=r"absent is missing"):
            read(target.parent / "absent")
        with pytest.raises(RunError, match="is missing"):
            read(target.parent / "with\0zero")
        with pytest.raises(StorageError, match="cannot read"):
            read(target / "below")
    assert read_bytes(target) == OLD


def strange_things(folder: Path) -> dict[str, Path]:
    """What may stand where a file should, by its word in a message; reading some of them would never end."""
    made = {"a folder": folder / "folder", "a pipe": folder / "pipe", "a link": folder / "link"}
    made["a folder"].mkdir()
    os.mkfifo(made["a pipe"])
    made["a link"].symlink_to("/dev/zero")
    made["a device or socket"] = folder / "socket"
    with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(folder):  # a socket's path must be short
        one.bind("socket")
    return made


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    for word, path in strange_things(tmp_path).items():
        for read in (read_bytes, read_json, read_json_lines, digest_of):
            with pytest.raises(RunError, match=f"is {word}, not an ordinary file; ") as caught:
                read(path)
            assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)  # holes take no room
    with pytest.raises(RunError, match="larger than 64,000,000 bytes"):
        read_json(tmp_path / "huge")
    (tmp_path / "seven").write_bytes(b"7" * 7)
    assert read_bytes(tmp_path / "seven", most=7) == b"7" * 7
    with pytest.raises(RunError, match="larger than 6 bytes"):
        read_bytes(tmp_path / "seven", most=6)


# What Python's json takes although no writer of ours makes it.
NOT_JSON = {
    "a name twice": '{"a": 1, "b": {"c": 1, "c": 2}}',
    "NaN": '{"a": NaN}',
    "infinity": "[-Infinity]",
    "a number that becomes infinite": "[1e999]",
    "a number with a thousand digits": f"[{'9' * 1000}]",
    "half a character": r'["\ud83d"]',
    "half a character as a name": r'{"\udc00": 1}',
    "deep nesting": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "bytes that are no text": b'["\xff"]'.decode("latin-1"),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_json_is_read_strictly(tmp_path: Path, name: str) -> None:
    for end, read in (("", read_json), ("\n", read_json_lines)):
        (tmp_path / "a.json").write_bytes((NOT_JSON[name] + end).encode("latin-1"))
        with pytest.raises(RunError, match=r"a\.json.* is damaged: it is not valid JSON") as caught:
            read(tmp_path / "a.json")
        assert len(str(caught.value)) < 200 + len(str(tmp_path))


def test_whole_characters_and_bytes_of_paths_are_text(tmp_path: Path) -> None:
    value = {"emoji \U0001f600": ["\udcff", 10**29]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


# Folders


def test_an_inner_folder_is_made_but_a_link_to_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pictures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="pictures is a link, not a folder; "):
        inner_folder(tmp_path / "run" / "pictures")
    for path in strange_things(tmp_path / "run").values():
        if not path.is_dir():
            with pytest.raises(RunError, match="not a folder; "):
                inner_folder(path)
    assert inner_folder(tmp_path / "run" / "checkpoints").is_dir()
    assert names(tmp_path / "elsewhere") == []


def test_a_lock_that_is_a_link_is_refused_and_its_target_kept(tmp_path: Path, target: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").symlink_to(target)
    with pytest.raises(RunError, match=r"\.lock is not an ordinary file"), locked(run, "busy"):
        pass
    assert target.read_bytes() == OLD


def test_each_folder_that_is_made_is_flushed_into_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr("vitlab.system.flush_folder", flushed.append)
    make_folder(tmp_path / "a" / "b" / "c")
    assert sorted(flushed) == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    make_folder(tmp_path / "a" / "b" / "c")
    assert len(flushed) == 3


def test_sweeping_deletes_temporary_files_of_ours_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vitlab.files.remove", lambda path: None)  # as if killed before the end
        patch.setattr("vitlab.files.publish", failing(StorageError("full")))
        with pytest.raises(StorageError):
            write_bytes(tmp_path / "state.bin", NEW)
    (left,) = names(tmp_path)
    kept = ["notes.tmp", "state.bin.part", ".hidden", ".tmp"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".a.b0000000.tmp").mkdir()
    sweep(tmp_path)
    assert left not in names(tmp_path)
    assert names(tmp_path) == sorted([*kept, ".a.b0000000.tmp"])
    sweep(tmp_path / "missing")


def test_a_disk_that_fails_while_a_folder_is_listed_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listdir", failing(OSError(errno.EIO, "io")))
    with pytest.raises(StorageError, match=r"cannot list .*input/output"):
        names_in(tmp_path)
    monkeypatch.setattr(os, "lstat", failing(OSError(errno.EIO, "io")))
    with pytest.raises(StorageError, match=r"cannot read .*input/output"):
        exists(tmp_path)


def test_what_is_not_there_has_no_names_and_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("absent", "n" * 300, "loop/below", "a\0b"):
        assert not exists(tmp_path / name)
    assert names_in(tmp_path / "absent") == []
    assert exists(tmp_path / "loop")


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither HOME nor an entry in /etc/passwd; the private folder."""
    for name in ("VITLAB_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return tmp_path / f"vitlab-{os.geteuid()}"


def test_without_a_home_the_cache_is_a_private_folder(homeless: Path) -> None:
    for _ in range(2):
        assert user_cache() == homeless
        assert stat.S_IMODE(homeless.stat().st_mode) == 0o700


def test_a_home_that_cannot_be_written_counts_as_none(
    homeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's --user gives HOME=/."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert user_cache() == home / ".cache" / "vitlab"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert user_cache() == homeless
    (home / ".cache" / "vitlab").mkdir(parents=True)
    assert user_cache() == home / ".cache" / "vitlab", "it may hold what can be read"


@pytest.mark.parametrize("kind", ["open", "link", "file", "foreign"])
def test_a_private_folder_that_others_prepared_is_refused(
    homeless: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "open":
        homeless.mkdir()
        homeless.chmod(0o770)
    elif kind == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        homeless.symlink_to(tmp_path / "theirs")
    elif kind == "file":
        homeless.touch()
    else:
        homeless.mkdir(mode=0o700)
        lstat = Path.lstat
        monkeypatch.setattr(Path, "lstat", lambda path: os.stat_result((*lstat(path)[:4], 54321, *lstat(path)[5:])))
    with pytest.raises(ConfigError, match="VITLAB_CACHE"):
        user_cache()


def test_the_cache_that_is_named_is_taken(homeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "mine"))
    assert user_cache() == tmp_path / "mine"
    assert not homeless.exists()


def test_a_half_made_folder_is_recognised_whatever_the_size_of_its_files(tmp_path: Path) -> None:
    content = {"index.html": b"page", "model.safetensors": bytes(files.MOST_BYTES + 1)}
    (tmp_path / "model.safetensors").write_bytes(content["model.safetensors"])
    assert files.is_half_made(tmp_path, content, "index.html")
    (tmp_path / "model.safetensors").write_bytes(b"1" + content["model.safetensors"][1:])
    assert not files.is_half_made(tmp_path, content, "index.html")
