"""Digests by which a run's files are checked.

environment.json and result.json are sealed: they hold `format`, the SHA-256 of other files (`files`), and their own
(`sha256`), which is that of all their other entries. environment.json is written first and holds the digests of
config.json and data.json; result.json is written last and holds those of every file. Checkpoints have their SHA-256 in
their names.

A run folder of an earlier version has neither `format` nor `sha256`. No single damaged bit makes a sealed file look
like one of those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitlab import files
from vitlab.errors import RunError

FORMAT = 2  # 1: before there were seals
SEAL: dict[str, Any] = {"format": int | None, "files": dict[str, str] | None, "sha256": str | None}


def seal(values: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """``values`` with their seal; ``digests``: the SHA-256 of other files by name."""
    inner = {name: value for name, value in values.items() if name not in SEAL}
    sealed = {"format": FORMAT} | inner | {"files": dict(digests)}
    return sealed | {"sha256": digest_of(sealed)}


def check_seal(path: Path, values: Mapping[str, Any], advice: str) -> None:
    """RunError if ``values``, which ``path`` holds, are not those that were sealed."""
    stored = values.get("sha256")
    if stored is None and values.get("format") is None:
        return  # of an earlier version
    if stored != digest_of({name: value for name, value in values.items() if name != "sha256"}):
        raise RunError(f"{path} is damaged: its SHA-256 has changed; {advice}")
    if (values.get("format") or 0) > FORMAT:
        raise RunError(f"{path} is from a later version of vitlab; use that version")


def digest_of(values: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON values, whatever the order and layout in their file."""
    return files.sha256(json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
