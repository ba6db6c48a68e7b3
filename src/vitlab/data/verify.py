"""Is a file the one that its card means? Its digest says so, and only then its parts are used."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from vitlab.data.cards import DataFile
from vitlab.data.formats import gunzip
from vitlab.errors import DataError
from vitlab.files import sha256


def read_parts(path: Path, file: DataFile) -> list[bytes]:
    """The raw parts of the file at ``path``, checked against its digest; DataError gives the reason only."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > file.limit:
                raise DataError(f"it has {size:,} bytes, more than {file.limit:,}")
            if file.packing == "raw":
                raw = (
                    gunzip(stream, file.part_limit)
                    if stream.peek(2)[:2] == b"\x1f\x8b"
                    else stream.read(file.limit + 1)
                )
                compare(sha256(raw), file)
                return [raw]
            compare(digest_of(stream), file)
            stream.seek(0)
            return _unpack(stream, file)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, KeyError) as error:
        raise DataError(f"it cannot be read ({error})") from error


def digest_of(stream: IO[bytes]) -> str:
    """The SHA-256 of an open file from where it stands, without holding it in memory."""
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def compare(found: str, file: DataFile) -> None:
    """DataError, with the reason only, when the digest ``found`` is not that of ``file``."""
    if found != file.sha256:
        raise DataError(f"its SHA-256 is {found[:12]}..., not {file.sha256[:12]}...")


def _unpack(stream: IO[bytes], file: DataFile) -> list[bytes]:
    if file.packing == "gzip":
        return [gunzip(stream, file.part_limit)]
    members = _zip_members(stream, file) if file.packing == "zip" else _tar_members(stream, file)
    return [_member(members, name, file) for name in file.members]


def _zip_members(stream: IO[bytes], file: DataFile) -> dict[str, bytes]:
    members = {}
    with zipfile.ZipFile(stream) as archive:
        for name in file.members:
            with archive.open(name) as member:
                members[name] = member.read(file.part_limit + 1)
    return members


def _tar_members(stream: IO[bytes], file: DataFile) -> dict[str, bytes]:
    members = {}
    with tarfile.open(fileobj=stream, mode="r|gz") as archive:  # one pass: seeking would unpack it twice
        for entry in archive:
            member = archive.extractfile(entry) if entry.name in file.members else None
            if member is not None:
                members[entry.name] = member.read(file.part_limit + 1)
    return members


def _member(members: dict[str, bytes], name: str, file: DataFile) -> bytes:
    if name not in members:
        raise DataError(f"it does not hold {name}")
    if len(members[name]) > file.part_limit:
        raise DataError(f"its member {name} unpacks to more than {file.part_limit:,} bytes")
    return gunzip(members[name], file.part_limit) if name.endswith(".gz") else members[name]
