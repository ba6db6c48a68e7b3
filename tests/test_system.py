"""What differs between systems: without POSIX everything still imports, and files are as safe as they can be."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import vitlab
from vitlab import files, system

# What Windows does not have is hidden before vitlab is imported, but after the libraries, whose versions for Linux rely
# on it.
HIDE = """
import importlib, os, pkgutil, signal, sys
for name in ("numpy", "torch", "PIL.Image", "matplotlib.figure", "jinja2", "rich.live", "filelock", "platformdirs",
             "scipy.stats", "sklearn.base", "safetensors.torch", "socket", "subprocess", "asyncio", "multiprocessing",
             "concurrent.futures", "tempfile", "shutil", "http.server"):
    importlib.import_module(name)
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "O_TMPFILE", "geteuid", "getuid", "fork", "chown",
             "sched_getaffinity", "mkfifo", "setsid", "killpg", "getpgid", "statvfs", "getloadavg", "uname"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGBUS", "SIGCHLD", "SIGALRM", "SIGUSR1"):
    delattr(signal, name)
import vitlab
for found in pkgutil.walk_packages(vitlab.__path__, "vitlab."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
        print(found.name)
from pathlib import Path
from vitlab import files
folder = Path(sys.argv[1])
files.write_bytes(folder / "one", b"1\\r\\n")
files.write_folder(folder / "many", {"a": b"2", "b/c": b"3"}, "a")
with files.new_text(folder / "text") as file:
    file.write("4")
print(files.read_bytes(folder / "one"), sorted(os.listdir(folder)), files.user_cache().name)
"""


def test_every_module_imports_and_files_are_written_without_posix(tmp_path: Path) -> None:
    """In a process where nothing of POSIX is left that Windows lacks."""
    command = [sys.executable, "-c", HIDE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"VITLAB_CACHE": "c"})
    assert done.returncode == 0, done.stderr
    *names, last = done.stdout.splitlines()
    every = {found.name for found in pkgutil.walk_packages(vitlab.__path__, "vitlab.")}
    assert set(names) == {name for name in every if not name.endswith("__main__")}
    assert last == r"b'1\r\n' ['many', 'one', 'text'] c"
    assert (tmp_path / "many" / "b" / "c").read_bytes() == b"3"


def test_a_lock_on_a_folder_is_seen_by_others_and_leaves_nothing(tmp_path: Path) -> None:
    with system.holding(tmp_path) as is_held:
        assert is_held
        with pytest.raises(BlockingIOError), system.holding(tmp_path):
            pass
    with system.holding(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_where_no_lock_can_tell_unfinished_folders_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_made = tmp_path / f".out.{'0' * 12}{files.HALF_MADE}"
    half_made.mkdir()
    monkeypatch.setattr(system, "fcntl", None)
    files.write_folder(tmp_path / "out", {"a": b"1"}, "a")
    assert half_made.is_dir(), "somebody may be writing it"
    monkeypatch.undo()
    (tmp_path / "out" / "a").unlink()
    (tmp_path / "out").rmdir()
    files.write_folder(tmp_path / "out", {"a": b"1"}, "a")
    assert not half_made.exists(), "its writer is dead"
