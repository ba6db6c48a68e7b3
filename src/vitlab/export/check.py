"""Whether a folder that `vitlab export` wrote is whole. `sha256sum -c SHA256SUMS` says the same."""

from __future__ import annotations

import re
from pathlib import Path

from vitlab import files
from vitlab.errors import RunError, VitlabError
from vitlab.runs.check import Finding
from vitlab.runs.folder import SUMS

LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*)")
AGAIN = "export it again"


def sums(content: dict[str, bytes]) -> bytes:
    """SHA256SUMS for these files, as `sha256sum` writes it."""
    return "".join(f"{files.sha256(content[name])}  {name}\n" for name in sorted(content)).encode()


def check_export(folder: Path) -> list[Finding]:
    """A finding for each file of the folder."""
    if not files.exists(folder / SUMS):
        text = f"it was exported by an earlier version, so there are no digests to check it by; {AGAIN}"
        return [Finding(SUMS, "note", text)]
    try:
        text = files.read_bytes(folder / SUMS, advice=AGAIN).decode("ascii", "replace")
        lines = [LINE.fullmatch(line) for line in text.removesuffix("\n").split("\n")]
        if not all(lines) or any(".." in line[2].split("/") for line in lines if line):
            raise RunError(f"it is damaged; {AGAIN}")
    except VitlabError as error:
        return [Finding(SUMS, "damaged", str(error))]
    return [file_finding(folder, line[2], line[1]) for line in lines if line]


def file_finding(folder: Path, name: str, digest: str) -> Finding:
    """One file of the folder; folders on the way to it must not be links."""
    try:
        for parent in [*(folder / name).parents][: name.count("/")]:
            files.check_inner_folder(parent)
        if not files.exists(folder / name):
            return Finding(name, "missing", AGAIN)
        whole = files.digest_of(folder / name, AGAIN) == digest
    except VitlabError as error:
        return Finding(name, "damaged", str(error))
    return Finding(name, "ok") if whole else Finding(name, "damaged", f"its SHA-256 has changed; {AGAIN}")
