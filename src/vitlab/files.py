"""The only place that writes to the disk, and the one that reads the files of runs and studies.

Every write is atomic. It goes to a temporary file in the target's folder, which is flushed to the disk and renamed over
the target; then the folder is flushed. So a reader sees the old bytes or the new ones, never a mixture, even after
SIGKILL or a power cut. Flushing the folder follows "All file systems are not created equal" (Pillai et al. 2014).

A run folder may come from a stranger. So reading follows no links, waits for no pipe, and reads no more than a limit;
JSON must be strict; and folders inside a run folder must not be links.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from vitlab import system
from vitlab.errors import ConfigError, RunError, RunInUseError, storage_error

HALF_MADE = ".part"

AGAIN = "restore it from a backup, or train again"
MOST_BYTES = 64_000_000  # of a file, unless its reader knows better
MOST_DIGITS = 30  # of a whole number in JSON
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]+\.tmp")  # what a killed process may leave behind
# An entry is not there, or has a name that no file can have.
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
KINDS = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFREG: "a file"}
# Half a character; but those in the second range stand for bytes of a path that is no text.
LONE_SURROGATE, LONE_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]"), re.compile("[\udc80-\udcff]")


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
        path = Path(tempfile.gettempdir()) / f"vitlab-{system.user()}"
        with suppress(FileExistsError):
            path.mkdir(0o700)
        found = path.lstat()
    except OSError as error:
        raise ConfigError(f"there is no folder for temporary files ({error.strerror}); {advice}") from error
    ours = system.user() is None or (found.st_uid == system.user() and not found.st_mode & 0o077)
    if not (stat.S_ISDIR(found.st_mode) and ours):
        raise ConfigError(f"{path} is not a folder that only you can use; {advice}")
    return path


@contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """Lock ``folder`` for this process; RunInUseError(busy) if another one holds the lock, which ends with it."""
    from filelock import FileLock, Timeout

    path = folder / ".lock"
    if exists(path) and not is_ordinary(path):
        raise RunError(f"{path} is not an ordinary file; delete it")  # locking a link would empty the file behind it
    lock = FileLock(path, timeout=0)
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
    """Create ``path`` and its parents, durably; StorageError when the file system refuses."""
    try:
        new = []
        for folder in (path, *path.parents):
            if folder.is_dir():
                break
            new.append(folder)
        path.mkdir(parents=True, exist_ok=True)
        for folder in new:
            with suppress(PermissionError):  # a folder that may be written to, but not read
                system.flush_folder(folder.parent)
    except OSError as error:
        raise storage_error("create the folder", path, error) from error


@contextmanager
def claimed(candidates: Iterable[Path]) -> Iterator[Path]:
    """Create the first of these folders that does not exist yet; no other process gets the same one. It is deleted at
    the end if it is still empty."""
    path, made_parent = next(found for path in candidates if (found := _make_new(path)) is not None)
    try:
        yield path
    finally:
        with suppress(OSError):  # it is not empty
            path.rmdir()
            if made_parent:
                path.parent.rmdir()


def _make_new(path: Path) -> tuple[Path, bool] | None:
    """The new folder and whether its parent is new too; None if it exists already."""
    made_parent = not path.parent.exists()
    make_folder(path.parent)
    try:
        path.mkdir()
        with suppress(PermissionError):
            system.flush_folder(path.parent)
    except FileExistsError:
        return None
    except OSError as error:
        raise storage_error("create the folder", path, error) from error
    return path, made_parent


def inner_folder(path: Path) -> Path:
    """``path``, a folder inside a run or study folder, created if it is missing. RunError if it is a link, which could
    lead to anybody's files."""
    check_inner_folder(path)
    make_folder(path)
    return path


def check_inner_folder(path: Path) -> None:
    """RunError if ``path`` is there, but not a folder: a link, for example."""
    kind = _status(path)
    if kind not in (0, stat.S_IFDIR):
        raise RunError(f"{path} is {KINDS.get(kind, 'a device or socket')}, not a folder; delete it, or move it")


def exists(path: Path) -> bool:
    """Whether there is a file, folder, link or anything else; StorageError when the disk does not say."""
    return bool(_status(path))


def is_ordinary(path: Path) -> bool:
    """Whether ``path`` is a file that `read_bytes` reads."""
    return _status(path) == stat.S_IFREG


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder and no link to one."""
    return _status(path) == stat.S_IFDIR


def _status(path: Path) -> int:
    """What kind of thing is at ``path`` (S_IFLNK if it is a link); 0 if there is nothing."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except ValueError:  # a name that no file can have
        return 0
    except OSError as error:
        if error.errno in ABSENT:
            return 0
        raise storage_error("read", path, error) from error


def names_in(folder: Path) -> list[str]:
    """The sorted names in ``folder``; none if it is missing."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error("list", folder, error) from error


def refuse_file(folder: Path) -> None:
    """ConfigError if there is a file where a new folder is to be."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file; name a new folder")


def sweep(folder: Path) -> None:
    """Delete what killed processes have left in ``folder``: temporary files of `write_bytes`, and nothing else."""
    for name in names_in(folder):
        if TEMPORARY.fullmatch(name) and is_ordinary(folder / name):
            remove(folder / name)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically and durably; after a StorageError, ``path`` is the old file or the new. A
    link at ``path`` is replaced, not followed."""
    temporary: Path | None = None
    try:
        handle, temporary = _new_file(path)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        publish(temporary, path)
    except OSError as error:
        raise storage_error("write", path, error) from error
    finally:
        if temporary is not None:
            remove(temporary)


def _new_file(path: Path) -> tuple[int, Path]:
    """A new file beside ``path``, with the rights that the user's umask leaves."""
    while True:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        with suppress(FileExistsError):
            return os.open(temporary, system.CREATE, 0o666), temporary


@contextmanager
def new_text(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file to write line by line. It appears at ``path`` when the block has ended without an error, complete;
    otherwise, and if the process is killed, nothing appears. ConfigError if there is something at ``path``."""
    check_free(path)
    try:
        handle, temporary = _hidden_file(path)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                yield file
                file.flush()
                os.fsync(handle)
                _name(temporary or handle, path)
        finally:
            if temporary is not None:
                remove(temporary)
    except OSError as error:
        raise storage_error("write", path, error) from error


def check_free(path: Path) -> None:
    """ConfigError if there is something at ``path``."""
    if exists(path):
        raise ConfigError(f"{path} already exists; choose another name, or delete it")


def _hidden_file(path: Path) -> tuple[int, Path | None]:
    """A new file without a name on the file system of ``path``, which vanishes with this process; where there are no
    such files, one with a temporary name."""
    handle = system.open_unnamed(path.absolute().parent)
    return _new_file(path) if handle is None else (handle, None)


def _name(file: Path | int, path: Path) -> None:
    """Give a finished file its name; ConfigError if that was taken meanwhile."""
    try:
        system.give_name(file, path)
    except FileExistsError:
        check_free(path)
        raise
    except OSError:
        if isinstance(file, int) or not is_ordinary(file):
            raise
        check_free(path)  # a file system without links
        publish(file, path)


def open_log(path: Path) -> BinaryIO:
    """``path``, to append to; RunError if it is a link, which could lead to anybody's file."""
    if exists(path) and not is_ordinary(path):
        raise RunError(f"{path} is not an ordinary file; delete it, or move it")
    try:
        return open(path, "ab", opener=lambda name, flags: os.open(name, flags | system.NO_LINK, 0o666))
    except OSError as error:
        raise storage_error("write", path, error) from error


def publish(temporary: Path, path: Path) -> None:
    """Flush ``temporary`` (on the same file system) to the disk and rename it to ``path``."""
    try:
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        system.flush_folder(path.parent)
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
    with new_folder(path) as half_made:
        _fill(half_made, names, content)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which appears as ``path`` when the block has ended without an error; otherwise, and if the
    process is killed, nothing appears. A folder that is at ``path`` already is replaced."""
    _sweep(path)
    half_made = path.parent / f".{path.name}.{secrets.token_hex(6)}{HALF_MADE}"
    make_folder(half_made)
    try:
        with system.holding(half_made):
            yield half_made
            try:
                if is_folder(path):
                    shutil.rmtree(path)
                os.rename(half_made, path)
                system.flush_folder(path.parent)
            except OSError as error:
                raise storage_error("write", path, error) from error
    except BaseException:
        shutil.rmtree(half_made, ignore_errors=True)
        raise


@contextmanager
def new_binary(path: Path) -> Iterator[BinaryIO]:
    """A new file to write in pieces, flushed to the disk at the end; StorageError when the file system refuses."""
    try:
        with os.fdopen(os.open(path, system.CREATE, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error("write", path, error) from error


def is_half_made(path: Path, content: Mapping[str, bytes], last: str) -> bool:
    """Whether ``path`` is what `write_folder` leaves when it is killed: without ``last``, and every file in it has the
    bytes that would be written now, or is a temporary file of one of them."""
    temporary = {file for name in content for file in _temporary(path / name)}
    for folder, _, files in os.walk(path):
        for file in (Path(folder) / name for name in files):
            name = file.relative_to(path).as_posix()
            same = name in content and is_ordinary(file) and digest_of(file) == sha256(content[name])
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
    """Delete the unfinished folders next to ``path`` that killed calls of `write_folder` left there."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 12}{HALF_MADE}"):
        with suppress(OSError), system.holding(folder) as is_held:
            if is_held:
                shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete the file ``path``, or the link itself, if it exists."""
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


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    return (to_json(value) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_bytes(path, json_bytes(value))


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one line of JSON a row, atomically."""
    write_bytes(path, "".join(to_json(row, indent=None) + "\n" for row in rows).encode())


def read_bytes(path: Path, most: int = MOST_BYTES, advice: str = AGAIN) -> bytes:
    """The bytes of the ordinary file ``path``; RunError if it is missing, a link, a pipe or the like, or has more than
    ``most`` bytes."""
    with _ordinary(path, advice) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise RunError(f"{path} is damaged: it is larger than {most:,} bytes; {advice}")
        return file.read(size)


def digest_of(path: Path, advice: str = AGAIN) -> str:
    """The SHA-256 of the ordinary file ``path``, of any size; errors as for `read_bytes`."""
    with _ordinary(path, advice) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _ordinary(path: Path, advice: str) -> Iterator[io.BufferedReader]:
    """An ordinary file, open for reading. Opening follows no link and does not wait for the other end of a pipe."""
    try:
        handle = os.open(path, system.READ | system.NO_LINK)
        try:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                with os.fdopen(handle, "rb", closefd=False) as file:
                    yield file
                    return
        finally:
            os.close(handle)
    except (FileNotFoundError, ValueError) as error:  # ValueError: a name that no file can have
        raise RunError(f"{path} is missing; {advice}") from error
    except OSError as error:
        if _status(path) in (0, stat.S_IFREG, stat.S_IFDIR):
            raise storage_error("read", path, error) from error
    raise RunError(f"{path} is {KINDS.get(_status(path), 'a device or socket')}, not an ordinary file; {advice}")


def read_json_lines(path: Path, most: int = MOST_BYTES, advice: str = AGAIN) -> list[Any]:
    """The JSON values in the lines of ``path``; RunError when it is missing or not JSON."""
    return parse_json_lines(read_bytes(path, most, advice), str(path), advice)


def parse_json_lines(data: bytes, where: str, advice: str = AGAIN) -> list[Any]:
    """The JSON values in the lines of ``data``, which is that of ``where``; see `parse_json`."""
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    return [parse_json(line, f"{where}: line {number}", advice) for number, line in enumerate(lines, start=1)]


def read_json(path: Path, most: int = MOST_BYTES, advice: str = AGAIN) -> Any:
    """The JSON value in ``path``; RunError when it is missing or not JSON."""
    return parse_json(read_bytes(path, most, advice), str(path), advice)


def parse_json(data: bytes | str, where: str, advice: str = AGAIN) -> Any:
    """A JSON value, read strictly: no NaN or infinity, no name twice, no endless number, and text that is text.
    RunError that begins with ``where`` for anything else."""
    try:
        value = json.loads(
            data if isinstance(data, str) else data.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_int=_whole,
            parse_float=_finite,
        )
        _check_text(value)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where} is damaged: it is not valid JSON; {advice}") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _refuse(word: str) -> typing.NoReturn:
    raise ValueError(f"JSON has no {word}")


def _whole(digits: str) -> int:
    return int(digits) if len(digits) <= MOST_DIGITS else _refuse("number of that length")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if abs(number) < float("inf") else _refuse("infinite number")


def _check_text(value: Any) -> None:
    """ValueError if a text holds half a character, which no program can print or send."""
    if isinstance(value, str):
        if LONE_SURROGATE.search(value):
            _refuse("half a character")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_text(name)
            _check_text(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_text(inner)


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
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
        return is_number and (kind is float or (isinstance(value, int) and value >= 0))
    return kind is Any or isinstance(value, kind)
