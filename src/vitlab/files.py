"""The only place that writes to the disk. Every write is atomic.

It goes to a temporary file in the target's folder, which is flushed to the disk and renamed over the target; then the
folder is flushed. So a reader sees the old bytes or the new ones, never a mixture, even after SIGKILL or a power cut.
Flushing the folder follows "All file systems are not created equal" (Pillai et al. 2014).
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
import tempfile
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vitlab.errors import ConfigError, RunError, RunInUseError, storage_error

HALF_MADE = ".part"


def user_cache() -> Path:
    """The folder for what can be made or downloaded again: VITLAB_CACHE, else the system's cache folder, else, where no
    home folder can be written, a private folder beside temporary files; ConfigError if another user could write it."""
    import platformdirs

    if named := os.environ.get("VITLAB_CACHE"):
        return Path(os.path.expanduser(named))
    try:
        usual = Path(platformdirs.user_cache_dir("vitlab"))
    except (RuntimeError, KeyError):  # neither HOME nor an entry in /etc/passwd
        return _private_folder()
    if not usual.is_absolute():
        return _private_folder()
    nearest = next(folder for folder in (usual, *usual.parents) if os.path.lexists(folder))
    return usual if nearest == usual or os.access(nearest, os.W_OK | os.X_OK) else _private_folder()


def _private_folder() -> Path:
    """A folder of this user in the folder for temporary files, where anybody may have made one before."""
    advice = "set VITLAB_CACHE to a folder of your own"
    try:
        path = Path(tempfile.gettempdir()) / f"vitlab-{os.geteuid()}"
        with suppress(FileExistsError):
            path.mkdir(0o700)
        found = path.lstat()
    except OSError as error:
        raise ConfigError(f"there is no folder for temporary files ({error.strerror}); {advice}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigError(f"{path} is not a private folder of yours; {advice}")
    return path


@contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """Lock ``folder`` for this process; RunInUseError(busy) if another one holds the lock, which ends with it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunInUseError(busy) from None
    except OSError as error:
        raise storage_error("lock", folder, error) from error
    try:
        yield
    finally:
        lock.release()


def make_folder(path: Path) -> None:
    """Create ``path`` and its parents; StorageError when the file system refuses."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create the folder", path, error) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically and durably; after a StorageError, ``path`` is the old file or the new."""
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        publish(Path(temporary), path)
    except OSError as error:
        raise storage_error("write", path, error) from error
    finally:
        if temporary is not None:
            remove(Path(temporary))


def publish(temporary: Path, path: Path) -> None:
    """Flush ``temporary`` (on the same file system) to the disk and rename it to ``path``."""
    try:
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise storage_error("write", path, error) from error


def write_folder(path: Path, content: Mapping[str, bytes], last: str) -> None:
    """Write files by relative name into ``path``: a new folder appears complete, or not at all.

    Into a folder that exists they are written one by one, ``last`` at the end; see `is_half_made`.
    """
    names = sorted(content, key=lambda name: (name == last, name))
    make_folder(path.parent)
    if os.path.lexists(path):
        _remove_temporary(path, names)
        _fill(path, names, content)
        return
    _sweep(path)
    half_made = path.parent / f".{path.name}.{secrets.token_hex(6)}{HALF_MADE}"
    make_folder(half_made)
    try:
        with _held(half_made):
            _fill(half_made, names, content)
            try:
                os.rename(half_made, path)
                _flush_folder(path.parent)
            except OSError as error:
                raise storage_error("write", path, error) from error
    except BaseException:
        shutil.rmtree(half_made, ignore_errors=True)
        raise


def is_half_made(path: Path, content: Mapping[str, bytes], last: str) -> bool:
    """Whether ``path`` is what `write_folder` leaves when it is killed: without ``last``, and every file in it has the
    bytes that would be written now, or is a temporary file of one of them."""
    temporary = {file for name in content for file in _temporary(path / name)}
    for folder, _, files in os.walk(path):
        for file in (Path(folder) / name for name in files):
            name = file.relative_to(path).as_posix()
            same = name in content and not file.is_symlink() and file.is_file() and read_bytes(file) == content[name]
            if name == last or not (same or file in temporary):
                return False
    return not (path.is_symlink() or any(folder.is_symlink() for folder in path.rglob("*")))


def _fill(path: Path, names: Sequence[str], content: Mapping[str, bytes]) -> None:
    for name in names:
        make_folder((path / name).parent)
        write_bytes(path / name, content[name])


def _temporary(path: Path) -> list[Path]:
    """Temporary files of `write_bytes` for ``path`` whose writer was killed."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.????????.tmp")) if path.parent.is_dir() else []


def _remove_temporary(path: Path, names: Sequence[str]) -> None:
    for name in names:
        for file in _temporary(path / name):
            remove(file)


def _sweep(path: Path) -> None:
    """Delete what killed calls of `write_folder` for ``path`` have left beside it."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 12}{HALF_MADE}"):
        with suppress(OSError), _held(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a lock on ``folder`` that leaves no file; OSError if another process holds it, or if it is no folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete ``path`` if it exists."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error("delete", path, error) from error


def sha256(data: bytes | memoryview) -> str:
    """The SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """``value`` as strict JSON; ValueError for a NaN or infinity, which would be a bug of ours."""
    return json.dumps(value, indent=indent, allow_nan=False)  # ASCII, because a path need not be valid UTF-8


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_bytes(path, (to_json(value) + "\n").encode())


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one line of JSON a row, atomically."""
    write_bytes(path, "".join(to_json(row, indent=None) + "\n" for row in rows).encode())


def read_bytes(path: Path) -> bytes:
    """The bytes of ``path``; RunError if it is missing."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing; restore it from a backup, or train again") from error
    except OSError as error:
        raise storage_error("read", path, error) from error


def read_json_lines(path: Path) -> list[Any]:
    """The JSON values in the lines of ``path``; RunError when it is missing or not JSON."""
    try:
        return [json.loads(line) for line in read_bytes(path).decode(errors="replace").splitlines()]
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: it is not valid JSON") from error


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; RunError when it is missing or not JSON."""
    try:
        return json.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: it is not valid JSON; restore it from a backup, or train again") from error


def check_table(path: Path, table: Any, kinds: Mapping[str, Any], advice: str, place: str = "") -> dict[str, Any]:
    """``table``, which was read from ``place`` in ``path``; RunError unless it is a dict with values of these types.
    A missing value counts as None."""
    if not isinstance(table, dict):
        raise RunError(f"{path} is damaged: {place}it is not a JSON object; {advice}")
    for name, kind in kinds.items():
        value = table.get(name)
        if not fits(value, kind):
            text = "missing" if value is None else repr(value)
            short = text if len(text) <= 40 else f"{text[:39]}…"
            raise RunError(f"{path} is damaged: {place}{name!r} is {short}; {advice}")
    return table


def fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value has a type such as int, float | None, dict[str, int], list[str] or tuple[float, float].
    Numbers must be finite, and whole numbers not negative."""
    outer, inner = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(fits(value, one) for one in inner)
    if outer is dict:
        return isinstance(value, dict) and all(fits(one, inner[1]) for one in value.values())
    if outer is tuple:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if outer is list:
        return isinstance(value, list) and all(fits(one, inner[0]) for one in value)
    if kind in (int, float):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return is_number and (kind is float or (isinstance(value, int) and value >= 0))
    return kind is Any or isinstance(value, kind)
