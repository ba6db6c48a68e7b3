"""A run folder: what one training run leaves on the disk, written atomically and checked when it is read.

    config.json         the configuration, every knob
    environment.json    versions, processor, threads, git commit
    data.json           classes, preprocessing, digest of the data
    history.jsonl       one row per epoch
    checkpoints/        the two newest resumable states, named by step and SHA-256
    model.safetensors   the selected weights
    result.json         how it ended: status, accuracy, times, parameters, digest of the weights

A run without result.json is still going on or was killed; `--resume` continues it in either case.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from vitlab import files
from vitlab.config import RunConfig
from vitlab.errors import ConfigError, DataError, RunError, storage_error
from vitlab.runs.result import KINDS, Result
from vitlab.text import quoted
from vitlab.training.step import Checkpoint

CHECKPOINT_NAME = re.compile(r"step-(\d{9})-([0-9a-f]{32})\.safetensors")
CHECKPOINT_FORMAT = "3"  # raise it when Counters or the tensors' names change
KEPT_CHECKPOINTS = 2
# What a process that is killed while it creates the folder may leave behind; config.json is written last.
BEFORE_CONFIG = (".lock", "data.json", "environment.json")
# What must not change if a resumed run is to give the same bits as an unbroken one.
FINGERPRINT: dict[str, Any] = {
    **dict.fromkeys(("torch", "device", "device_name", "cpu_capability", "precision", "attention", "kernels"), str),
    "threads": int,
    "compile": bool,
}
# The same, but runs of earlier versions have not recorded it.
LATER: dict[str, Any] = {
    **dict.fromkeys(("math_variables", "kernels_digest", "kernels_multiply_by"), str | None),
    "flush_denormals": bool | None,
}
ENVIRONMENT: dict[str, Any] = FINGERPRINT | {
    **LATER,
    **dict.fromkeys(("started_utc", "vitlab", "system", "python"), str),
    "resumed": list[dict[str, Any]],
    "git_commit": str | None,
}
DATA: dict[str, Any] = {"sha256": str, "classes": list[str], "channels": int, "preprocess": dict[str, Any]}
# What result.json must also hold if the run is done.
ENDED: dict[str, Any] = {"train_seconds": float, "images_per_second": float, "threads": int, "config_digest": str}
EPOCH: dict[str, Any] = {
    **dict.fromkeys(("epoch", "train_seconds", "train_top1"), float),
    **dict.fromkeys(("lr", "train_loss", "val_loss", "val_top1"), float | None),
}
AGAIN = "restore it from a backup, or train again"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run under ``path``."""

    path: Path

    @property
    def model_path(self) -> Path:
        """The selected weights."""
        return self.path / "model.safetensors"

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder for this process; RunInUseError if another one writes it."""
        return files.locked(
            self.path, f"{self.path} is being written by another vitlab process; wait for it or use another --out"
        )

    def config(self) -> RunConfig:
        """The run's configuration; RunError when it is missing or damaged."""
        if not os.path.isfile(self.path / "config.json"):  # unlike Path.is_file, False for impossible names
            raise RunError(
                f"{self.path} is not a run folder (no config.json); `vitlab train` names its run folder at the end"
            )
        try:
            return RunConfig.from_dict(files.read_json(self.path / "config.json"))
        except ConfigError as error:
            raise RunError(f"{self.path / 'config.json'} is damaged: {error}; {AGAIN}") from error

    def environment(self) -> dict[str, Any]:
        """environment.json; RunError when it is missing or damaged, as for every file below."""
        return self._table("environment.json", ENVIRONMENT)

    def data(self) -> dict[str, Any]:
        """data.json: the classes, the preprocessing and the digest of the images."""
        return self._table("data.json", DATA)

    def check_same_data(self, digest: str) -> None:
        """DataError unless ``digest`` is that of the images that the run began with."""
        if digest != self.data()["sha256"]:
            raise DataError(
                f"the data of {self.path} has changed since the run began (another SHA-256); start a new run"
            )

    def result(self) -> Result | None:
        """result.json, or None while the run has not ended."""
        if not (self.path / "result.json").exists():
            return None
        advice = f"delete it, and {self._resume} makes it again"
        result = Result.from_dict(self._table("result.json", KINDS, advice))
        if result.status == "done":
            self._table("result.json", ENDED, advice)
        if result.params == 0:
            raise RunError(f"{self.path / 'result.json'} is damaged: 'params' is 0; {advice}")
        return result

    def _table(self, name: str, kinds: dict[str, Any], advice: str = AGAIN) -> dict[str, Any]:
        path = self.path / name
        return files.check_table(path, files.read_json(path), kinds, advice)

    @property
    def _resume(self) -> str:
        return f"`vitlab train --resume {quoted(self.path)}`"

    def history(self) -> list[dict[str, Any]]:
        """The rows of history.jsonl, one per epoch."""
        path = self.path / "history.jsonl"
        rows = files.read_json_lines(path)
        return [files.check_table(path, row, EPOCH, AGAIN, f"row {n}: ") for n, row in enumerate(rows, start=1)]

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write one of the JSON files."""
        files.write_json(self.path / name, value)

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Write all rows; the file is small, and rewriting it leaves no incomplete line."""
        files.write_json_lines(self.path / "history.jsonl", rows)

    def save_weights(self, weights: dict[str, Tensor]) -> str:
        """Write model.safetensors and return its SHA-256, for result.json."""
        data = _pack(weights)
        files.write_bytes(self.model_path, data)
        return files.sha256(data)

    def load_weights(self, config_digest: str) -> tuple[dict[str, Tensor], Result]:
        """The selected weights, on the CPU, and the result; RunError unless weights and configuration have the digests
        in result.json."""
        result = self.result()
        if result is None or result.model_sha256 is None:
            if result is not None and result.status == "diverged":
                raise RunError(f"{self.path} diverged and has no finished model; start a new run with a lower lr")
            raise RunError(f"{self.path} has no finished model; {self._resume} continues the training")
        if result.config_digest != config_digest:
            raise RunError(
                f"{self.path / 'config.json'} has been changed since the run ended; restore it, or train again"
            )
        advice = f"delete {self.path / 'result.json'}, and {self._resume} makes it again"
        if not self.model_path.exists():
            raise RunError(f"{self.model_path} is missing; {advice}")
        data = files.read_bytes(self.model_path)
        if files.sha256(data) != result.model_sha256:
            raise RunError(f"{self.model_path} is damaged: its SHA-256 has changed; {advice}")
        return _unpack(data, self.model_path)[0], result

    def save_checkpoint(self, checkpoint: Checkpoint, config_digest: str) -> None:
        """Write a resumable state, then delete all but the newest few."""
        folder = self.path / "checkpoints"
        files.make_folder(folder)
        counters = files.to_json(checkpoint.counters, indent=None)
        metadata = {"format": CHECKPOINT_FORMAT, "config_digest": config_digest, "counters": counters}
        data = _pack(checkpoint.tensors, metadata)
        name = f"step-{checkpoint.counters['step']:09d}-{files.sha256(data)[:32]}.safetensors"
        files.write_bytes(folder / name, data)
        others = [path for path in self.checkpoints() if path.name != name]
        for old in others[KEPT_CHECKPOINTS - 1 :]:
            files.remove(old)

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, newest (by step, not by date) first."""
        found = (self.path / "checkpoints").glob("step-*.safetensors")
        return sorted((path for path in found if CHECKPOINT_NAME.fullmatch(path.name)), reverse=True)

    def load_checkpoint(self, config_digest: str) -> tuple[Checkpoint | None, list[Path]]:
        """The newest intact checkpoint (None: start again), and the damaged ones that are newer.

        RunError for a checkpoint of another version of vitlab, or of another configuration.
        """
        damaged: list[Path] = []
        for path in self.checkpoints():
            data = files.read_bytes(path)
            if path.name.split("-")[2] != f"{files.sha256(data)[:32]}.safetensors":
                damaged.append(path)
                continue
            tensors, metadata = _unpack(data, path)
            if metadata.get("format") != CHECKPOINT_FORMAT:
                advice = "resume it with that version, or start a new run"
                raise RunError(f"{path} is from another version of vitlab; {advice}")
            if metadata.get("config_digest") != config_digest:
                advice = "restore it, or start a new run"
                raise RunError(f"config.json has been changed since {path} was written; {advice}")
            return Checkpoint(tensors, json.loads(metadata["counters"])), damaged
        return None, damaged

    def sweep(self, damaged: list[Path]) -> None:
        """Delete damaged checkpoints, which would count as the newest, and temporary files of a killed process."""
        for path in [*damaged, *self.path.rglob(".*.tmp")]:
            files.remove(path)


def check_empty(path: Path) -> None:
    """RunError if ``path`` holds more than a process that was killed at the very start may leave behind."""
    try:
        names = [entry.name for entry in path.iterdir()] if os.path.lexists(path) else []
    except OSError as error:
        raise storage_error("use the folder", path, error) from error
    if any(name not in BEFORE_CONFIG and not name.endswith(".tmp") for name in names):
        advice = f"choose another --out, or continue that run with --resume {quoted(path)}"
        raise RunError(f"{path} is not empty; {advice}")


def _pack(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    return safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata
    )


def _unpack(data: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file: 8 bytes of header length, a JSON header, raw numbers."""
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise RunError(f"{path} is damaged: it is not a safetensors file; {AGAIN}") from error
    return tensors, header.get("__metadata__", {})
