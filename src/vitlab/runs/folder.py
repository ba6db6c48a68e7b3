"""A run folder: what one training run leaves on the disk, written atomically and checked when it is read.

    config.json         the configuration, every knob
    environment.json    versions, processor, threads, git commit; digests of config.json and data.json
    data.json           classes, preprocessing, digest of the data
    history.jsonl       one row per epoch
    checkpoints/        the two newest resumable states, named by step and SHA-256
    epochs/             the weights after each epoch, in half precision (epochs.py; only with the knob keep_epochs)
    start.safetensors   the weights that training began with, if they came from another run (start.py)
    model.safetensors   the selected weights
    novelty.safetensors the distance from the training images (training/novelty.py)
    result.json         how it ended: status, accuracy, times, parameters, digests of all files

A run without result.json is still going on or was killed; `--resume` continues it in either case. Every file is read
here, and a file from a stranger or a failing disk ends in a RunError: it is an ordinary file of a limited size, it has
its digest (seal.py), it has its schema, and tensors have the names, shapes and types that the configuration implies.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from vitlab import files
from vitlab.config import RunConfig
from vitlab.data import Dataset
from vitlab.data.splits import MOST_CHANNELS
from vitlab.errors import ConfigError, DataError, RunError
from vitlab.files import AGAIN
from vitlab.runs.result import KINDS, Result
from vitlab.runs.seal import SEAL, check_seal, seal
from vitlab.runs.zoo import EPOCHS, why_no_run
from vitlab.text import quoted
from vitlab.training.novelty import FORMAT as NOVELTY_FORMAT
from vitlab.training.novelty import Novelty, from_parts, to_facts
from vitlab.training.step import Checkpoint

CHECKPOINT_NAME = re.compile(r"step-(\d{9})-([0-9a-f]{32})\.safetensors")
CHECKPOINT_FORMAT = "3"  # raise it when Counters or the tensors' names change
KEPT_CHECKPOINTS = 2
KEPT_EPOCH = re.compile(r"(epochs/)?epoch-\d{6}\.safetensors")
SUMS = "SHA256SUMS"  # `vitlab export` writes it into its folders; no run has one
# What a process that is killed while it creates the folder may leave behind; config.json is written last.
BEFORE_CONFIG = (".lock", "start.safetensors", "data.json", "environment.json")
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
    "ranks": int | None,
}
ENVIRONMENT: dict[str, Any] = FINGERPRINT | {
    **LATER,
    **dict.fromkeys(("started_utc", "vitlab", "system", "python"), str),
    "resumed": list[dict[str, Any]],
    "git_commit": str | None,
}
DATA: dict[str, Any] = {"sha256": str, "classes": list[str], "channels": int, "preprocess": dict[str, Any]}
START: dict[str, Any] = {
    **dict.fromkeys(("run", "model_sha256", "data_sha256", "sha256"), str),
    **dict.fromkeys(("taken", "adapted", "partly", "new", "left"), list[str]),
}
PREPROCESS: dict[str, Any] = {"image_size": int, "mean": list[float], "std": list[float], "crop": int | None}
# What result.json must also hold if the run is done.
ENDED: dict[str, Any] = {"train_seconds": float, "images_per_second": float, "threads": int, "config_digest": str}
EPOCH: dict[str, Any] = {
    **dict.fromkeys(("epoch", "train_seconds", "train_top1"), float),
    **dict.fromkeys(("lr", "train_loss", "val_loss", "val_top1"), float | None),
}
# `Counters`, which every checkpoint holds.
COUNTERS: dict[str, Any] = {
    **dict.fromkeys(("loss_sum", "correct_sum", "best_top1", "train_seconds", "wall_seconds"), float),
    **dict.fromkeys(("step", "best_epoch"), int),
    "rows": list[dict[str, Any]],
}
# The largest size in bytes of each kind of file that a run may have.
MOST = {
    **{"config.json": 1_000_000, "environment.json": 4_000_000, "result.json": 4_000_000},
    **{"data.json": 16_000_000, "history.jsonl": 64_000_000},
}
MOST_NOVELTY = 256_000_000
MOST_HEADER = 8_000_000  # bytes of a safetensors file that are not numbers
MOST_TENSORS = 1 << 40  # bytes of tensors, where no configuration says how many there should be
MOST_CLASSES = 100_000
CHECKPOINT_ADVICE = "delete it, and the run continues from an older one"

Shapes = Mapping[str, Tensor]  # the tensors that a file should hold; only names, shapes and types matter


@dataclass(frozen=True, init=False)
class RunFolder:
    """The files of one run under ``path``, which may also be given as a str. Every method checks what it reads:
    RunError for a file that is missing, damaged or was changed.

    >>> run = vitlab.train("fast", data="digits", epochs=2, progress=False)
    >>> folder = vitlab.RunFolder(run.path)
    >>> [row["epoch"] for row in folder.history()], folder.config().preset
    ([1, 2], 'fast')
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))

    @property
    def model_path(self) -> Path:
        """The selected weights."""
        return self.path / "model.safetensors"

    @property
    def start_path(self) -> Path:
        """The weights that training began with, if they came from another run."""
        return self.path / "start.safetensors"

    @property
    def novelty_path(self) -> Path:
        """The distance from the training images."""
        return self.path / "novelty.safetensors"

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder for this process; RunInUseError if another one writes it."""
        return files.locked(
            self.path, f"{self.path} is being written by another vitlab process; wait for it or use another --out"
        )

    def config(self) -> RunConfig:
        """The run's configuration; RunError when it is missing or damaged."""
        path = self.path / "config.json"
        if files.exists(self.path / SUMS):
            raise RunError(f"{self.path} is no run folder: `vitlab export` wrote it for other programs; name the run")
        if not files.exists(path):
            raise RunError(why_no_run(self.path))
        data = files.read_bytes(path, MOST["config.json"])
        values = files.parse_json(data, str(path))
        if isinstance(values, dict) and "preprocess" in values:
            advice = "`vitlab predict`, `serve` and `export` read it; name a run for anything else"
            raise RunError(f"{self.path} is no run folder, but a network from the page; {advice}")
        try:
            config = RunConfig.from_dict(values)
        except ConfigError as error:
            raise RunError(f"{path} is damaged: {error}; {AGAIN}") from error
        self._check_digest(path.name, data)
        return config

    def environment(self) -> dict[str, Any]:
        """environment.json; RunError when it is missing or damaged, as for every file below."""
        path = self.path / "environment.json"
        data = files.read_bytes(path, MOST[path.name])
        table = files.check_table(path, files.parse_json(data, str(path)), ENVIRONMENT | SEAL, AGAIN)
        check_seal(path, table, AGAIN)
        result = self.result()
        if result is not None and result.files is not None:  # before the end, its own digest is the only one
            self._check_digest(path.name, data)
        return table

    def data(self) -> dict[str, Any]:
        """data.json: the classes, the preprocessing and the digest of the images."""
        path = self.path / "data.json"
        data = files.read_bytes(path, MOST[path.name])
        table = files.check_table(path, files.parse_json(data, str(path)), DATA, AGAIN)
        channels, classes = table["channels"], len(table["classes"])
        settings = files.check_table(path, table["preprocess"], PREPROCESS, AGAIN, "preprocess: ")
        if not 1 <= channels <= MOST_CHANNELS or not 2 <= classes <= MOST_CLASSES:
            raise RunError(f"{path} is damaged: {channels} channels and {classes} classes are impossible; {AGAIN}")
        if any(map(files.LONE_BYTE.search, table["classes"])):
            raise RunError(f"{path} is damaged: the name of a class is not text; {AGAIN}")
        if not len(settings["mean"]) == len(settings["std"]) == channels or min(settings["std"]) <= 0:
            raise RunError(f"{path} is damaged: 'mean' and 'std' need {channels} numbers, std above 0; {AGAIN}")
        if table.get("start") is not None:
            files.check_table(path, table["start"], START, AGAIN, "start: ")
        self._check_digest(path.name, data)
        return table

    def is_for_browsers(self) -> bool:
        """Whether its network takes what a browser has: grey or colour of 8 bits, or drawings."""
        data = self.data()
        return data["channels"] in (1, 3) and (data.get("bits") != 16 or data.get("drawing") is not None)

    def check_same_data(self, dataset: Dataset, data: str | None = None) -> None:
        """DataError unless ``dataset`` has the images and the classes that the run began with. ``data``: where the user
        says that they are now."""
        own = self.config().data.data
        is_elsewhere = data is not None and os.path.abspath(os.path.expanduser(data)) != os.path.abspath(own)
        if is_elsewhere and dataset.digest != self.data()["sha256"]:
            raise DataError(
                f"--data says where the own images of {self.path} are now, and {data} holds others; start a new run to "
                f"train on them, or measure on them with --on {data}"
            )
        self.check_same_digest(dataset.digest)
        if list(dataset.card.classes) != self.data()["classes"]:
            raise DataError(f"{self.path / 'data.json'} does not name the classes of its data; restore it")

    def check_same_digest(self, digest: str) -> None:
        """DataError unless ``digest`` is that of the images that the run began with."""
        if digest != self.data()["sha256"]:
            raise DataError(
                f"the data of {self.path} has changed since the run began (another SHA-256); start a new run"
            )

    def result(self) -> Result | None:
        """result.json, or None while the run has not ended."""
        path = self.path / "result.json"
        if not files.exists(path):
            return None
        advice = f"delete it, and {self._resume} makes it again"
        table = files.check_table(path, files.read_json(path, MOST[path.name], advice), KINDS, advice)
        result = Result.from_dict(table)
        if result.status == "done":
            files.check_table(path, table, ENDED, advice)
        if result.params == 0:
            raise RunError(f"{path} is damaged: 'params' is 0; {advice}")
        check_seal(path, table, advice)
        return result

    def digests(self) -> dict[str, str] | None:
        """The SHA-256 of the run's files by name, from result.json once the run has ended, before that from
        environment.json; None for a run of an earlier version, which has none."""
        result = self.result()
        if result is not None:
            return result.files
        return self.environment().get("files") if files.exists(self.path / "environment.json") else None

    def _check_digest(self, name: str, data: bytes) -> None:
        """RunError unless ``data``, read from the file ``name``, are what vitlab wrote there."""
        known = self.digests()
        if known is None or (name not in known and name == "history.jsonl"):  # it grows until the run ends
            return
        if files.sha256(data) != known.get(name):
            what = "has been changed" if name == "config.json" else "is damaged: its SHA-256 has changed"
            raise RunError(f"{self.path / name} {what} since vitlab wrote it; {AGAIN}")

    def read(self, name: str, most: int = files.MOST_BYTES) -> bytes:
        """A further file of the run, by its name; RunError unless it has its digest."""
        data = files.read_bytes(self.path / name, most)
        self._check_digest(name, data)
        return data

    @property
    def _resume(self) -> str:
        return f"`vitlab train --resume {quoted(self.path)}`"

    def history(self) -> list[dict[str, Any]]:
        """The rows of history.jsonl, one per epoch."""
        path = self.path / "history.jsonl"
        data = files.read_bytes(path, MOST[path.name])
        rows = self._rows(files.parse_json_lines(data, str(path)), path)
        self._check_digest(path.name, data)
        return rows

    def _rows(self, rows: list[Any], path: Path) -> list[dict[str, Any]]:
        return [files.check_table(path, row, EPOCH, AGAIN, f"row {n}: ") for n, row in enumerate(rows, start=1)]

    def begin(self, config: RunConfig, data: dict[str, Any], environment: dict[str, Any]) -> None:
        """Write the files of a run that begins; config.json last: from then on `--resume` continues it."""
        written = {"data.json": data, "config.json": config.to_dict()}
        digests = {name: files.sha256(files.json_bytes(value)) for name, value in written.items()}
        self.write("data.json", data)
        self.write("environment.json", seal(environment, digests))
        self.write("config.json", written["config.json"])

    def go_on(self, environment: dict[str, Any]) -> None:
        """Write environment.json of a run that is resumed; the result of its interruption is void, and goes first,
        because it holds the digest of the old one."""
        files.remove(self.path / "result.json")
        names = ("data.json", "config.json")
        digests = {name: files.sha256(files.read_bytes(self.path / name, MOST[name])) for name in names}
        self.write("environment.json", seal(environment, environment.get("files") or digests))

    def write_result(self, result: Result) -> Result:
        """Write result.json, with the digests of all files of the run; return what it holds."""
        names = ["data.json", "config.json", "environment.json", "history.jsonl"]
        names += [name for name in files.names_in(self.path) if name.endswith(".safetensors")]
        files.check_inner_folder(self.path / EPOCHS)
        names += [f"{EPOCHS}/{name}" for name in files.names_in(self.path / EPOCHS) if KEPT_EPOCH.fullmatch(name)]
        digests = {name: files.digest_of(self.path / name) for name in names if files.is_ordinary(self.path / name)}
        with contextlib.suppress(RunError):  # a damaged environment.json must not cost the result
            digests |= self.environment().get("files") or {}
        sealed = seal(result.to_dict(), digests)
        self.write("result.json", sealed)
        return Result.from_dict(sealed)

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write one of the JSON files."""
        files.write_json(self.path / name, value)

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Write all rows; the file is small, and rewriting it leaves no incomplete line."""
        files.write_json_lines(self.path / "history.jsonl", rows)

    def save_weights(self, weights: dict[str, Tensor]) -> str:
        """Write model.safetensors and return its SHA-256, for result.json."""
        data = pack(weights)
        files.write_bytes(self.model_path, data)
        return files.sha256(data)

    def save_start(self, weights: dict[str, Tensor]) -> str:
        """Write start.safetensors and return its SHA-256, for data.json."""
        data = pack(weights)
        files.write_bytes(self.start_path, data)
        return files.sha256(data)

    def load_start(self, record: Mapping[str, Any], shapes: Shapes) -> dict[str, Tensor]:
        """The weights that training began with, which ``record`` in data.json describes; RunError if the file is
        missing or damaged."""
        data = files.read_bytes(self.start_path, most_bytes(shapes), AGAIN)
        if files.sha256(data) != record["sha256"]:
            raise RunError(f"{self.start_path} is damaged: its SHA-256 has changed; {AGAIN}")
        weights = unpack(data, self.start_path)[0]
        check_shapes(self.start_path, weights, shapes)
        check_finite(self.start_path, weights, weights)
        return weights

    def load_weights(self, config_digest: str, shapes: Shapes | None = None) -> tuple[dict[str, Tensor], Result]:
        """The selected weights, on the CPU, and the result; RunError unless weights and configuration have the digests
        in result.json, and the weights are finite and have the ``shapes``."""
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
        return self.read_weights(result.model_sha256, shapes, advice)[0], result

    def read_weights(self, digest: str | None, shapes: Shapes | None, advice: str) -> tuple[dict[str, Tensor], str]:
        """The tensors of model.safetensors, on the CPU, and its SHA-256; RunError unless they have the ``digest`` and
        the ``shapes``, where these are known, and are finite."""
        path = self.model_path
        data = files.read_bytes(path, most_bytes(shapes), advice)
        found = files.sha256(data)
        if digest is not None and found != digest:
            raise RunError(f"{path} is damaged: its SHA-256 has changed; {advice}")
        weights = unpack(data, path)[0]
        if shapes is not None:
            check_shapes(path, weights, shapes)
        check_finite(path, weights, weights)
        return weights, found

    def save_novelty(self, novelty: Novelty) -> str:
        """Write novelty.safetensors and return its SHA-256, for result.json."""
        # One entry, because safetensors writes several in an order that varies.
        data = pack(novelty.tensors(), {"novelty": files.to_json(to_facts(novelty), indent=None)})
        files.write_bytes(self.novelty_path, data)
        return files.sha256(data)

    def load_novelty(self, digest: str | None, width: int) -> Novelty | None:
        """The distance for a network with ``width`` traits, None without a ``digest`` in result.json (a run of an
        earlier version); RunError if the file is missing or damaged."""
        if digest is None:
            return None
        advice = f"delete {self.path / 'result.json'}, and {self._resume} makes it again"
        data = files.read_bytes(self.novelty_path, MOST_NOVELTY, advice)
        if files.sha256(data) != digest:
            raise RunError(f"{self.novelty_path} is damaged: its SHA-256 has changed; {advice}")
        tensors, metadata = unpack(data, self.novelty_path)
        check_finite(self.novelty_path, tensors, tensors)
        try:
            facts = files.parse_json(metadata["novelty"].encode(), str(self.novelty_path))
            if facts["format"] != NOVELTY_FORMAT:
                raise RunError(f"{self.novelty_path} is from another version of vitlab; use that version")
            return from_parts(tensors, facts, width)
        except (KeyError, TypeError):
            raise RunError(f"{self.novelty_path} is damaged: its metadata are missing; {advice}") from None
        except ValueError as error:
            raise RunError(f"{self.novelty_path} is damaged: {error}; {advice}") from None

    def save_checkpoint(self, checkpoint: Checkpoint, config_digest: str) -> None:
        """Write a resumable state, then delete all but the newest few."""
        folder = files.inner_folder(self.path / "checkpoints")
        counters = files.to_json(checkpoint.counters, indent=None)
        metadata = {"format": CHECKPOINT_FORMAT, "config_digest": config_digest, "counters": counters}
        data = pack(checkpoint.tensors, metadata)
        name = f"step-{checkpoint.counters['step']:09d}-{files.sha256(data)[:32]}.safetensors"
        files.write_bytes(folder / name, data)
        others = [path for path in self.checkpoints() if path.name != name]
        for old in others[KEPT_CHECKPOINTS - 1 :]:
            files.remove(old)

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, newest (by step, not by date) first."""
        folder = self.path / "checkpoints"
        files.check_inner_folder(folder)
        return [folder / name for name in reversed(files.names_in(folder)) if CHECKPOINT_NAME.fullmatch(name)]

    def load_checkpoint(
        self, config_digest: str, shapes: Shapes | None = None, best: Shapes | None = None
    ) -> tuple[Checkpoint | None, list[Path]]:
        """The newest intact checkpoint (None: start again), and the damaged ones that are newer; see
        `read_checkpoint`."""
        damaged: list[Path] = []
        for path in self.checkpoints():
            checkpoint = self.read_checkpoint(path, config_digest, shapes, best)
            if checkpoint is not None:
                return checkpoint, damaged
            damaged.append(path)
        return None, damaged

    def read_checkpoint(
        self, path: Path, config_digest: str, shapes: Shapes | None = None, best: Shapes | None = None
    ) -> Checkpoint | None:
        """One of `checkpoints`; None if it does not have the SHA-256 in its name. It must hold tensors with these
        ``shapes``, and either all or none of ``best``.

        RunError for a checkpoint of another version of vitlab, or of another configuration.
        """
        data = files.read_bytes(path, most_bytes(shapes) + most_bytes(best), CHECKPOINT_ADVICE)
        if path.name.split("-")[2] != f"{files.sha256(data)[:32]}.safetensors":
            return None
        tensors, metadata = unpack(data, path)
        if metadata.get("format") != CHECKPOINT_FORMAT:
            advice = "resume it with that version, or start a new run"
            raise RunError(f"{path} is from another version of vitlab; {advice}")
        if metadata.get("config_digest") != config_digest:
            advice = "restore it, or start a new run"
            raise RunError(f"config.json has been changed since {path} was written; {advice}")
        if shapes is not None:
            check_shapes(path, tensors, {**shapes, **(best or {})} if any(map(is_best, tensors)) else shapes)
        check_finite(path, tensors, [name for name in tensors if not name.startswith("optim/")])
        return Checkpoint(tensors, self._counters(path, metadata))

    def _counters(self, path: Path, metadata: dict[str, str]) -> dict[str, Any]:
        """The counters in a checkpoint's metadata."""
        read = files.parse_json(str(metadata.get("counters")), str(path), CHECKPOINT_ADVICE)
        counters = files.check_table(path, read, COUNTERS, CHECKPOINT_ADVICE)
        self._rows(counters["rows"], path)
        if counters["step"] != int(path.name.split("-")[1]) or counters.keys() != COUNTERS.keys():
            raise RunError(f"{path} is damaged: its counters are not those of its step; {CHECKPOINT_ADVICE}")
        return counters

    def sweep(self, damaged: Iterable[Path] = ()) -> None:
        """Delete damaged checkpoints, which would count as the newest, and temporary files of a killed process."""
        for path in damaged:
            files.remove(path)
        inner = [self.path / name for name in ("checkpoints", EPOCHS)]
        for folder in inner:
            files.check_inner_folder(folder)
        for folder in (self.path, *inner):
            files.sweep(folder)


def default_folders(config: RunConfig) -> Iterator[Path]:
    """runs/DATE-PRESET-DATA-sSEED, and the same with a number after it, for when that is taken."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    data = Path(config.data.data).stem or "data"
    path = Path("runs") / f"{now}-{config.preset or 'custom'}-{data}-s{config.train.seed}"
    return (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 10_000))


def is_best(name: str) -> bool:
    """Whether a tensor of a checkpoint belongs to the best epoch's weights."""
    return name.startswith("best/")


def check_empty(path: Path, advice: str | None = None) -> None:
    """RunError, with ``advice``, if ``path`` holds more than a process that was killed at the very start may leave."""
    files.refuse_file(path)
    if any(name not in BEFORE_CONFIG and not files.TEMPORARY.fullmatch(name) for name in files.names_in(path)):
        rest = f"; {advice}" if advice else f": it holds {what_is_in(path)}"
        raise RunError(f"{path} is not empty{rest}")


def what_is_in(path: Path) -> str:
    """What a folder holds that was to be a new run, and what to do."""
    folder, other = RunFolder(path), "choose another --out"
    try:
        folder.config()
        result = folder.result()
    except RunError:
        return f"other files; {other}"
    if result is not None and result.status in ("done", "diverged"):
        return f"a run that has ended; {other}"
    return f"a run that has not ended; {other}, or continue it with `vitlab train --resume {quoted(path)}`"


def most_bytes(shapes: Shapes | None) -> int:
    """The largest size of a safetensors file with these tensors; a generous one if they are not known."""
    return MOST_TENSORS if shapes is None else MOST_HEADER + sum(one.numel() * one.itemsize for one in shapes.values())


def check_shapes(path: Path, tensors: Shapes, shapes: Shapes) -> None:
    """RunError unless the tensors of ``path`` have exactly these names, shapes and types."""
    wrong = sorted(tensors.keys() ^ shapes.keys()) or [
        name for name, one in shapes.items() if (tensors[name].shape, tensors[name].dtype) != (one.shape, one.dtype)
    ]
    if wrong:
        raise RunError(f"config.json does not match {path} ({wrong[0]}); restore the file that was changed")


def check_finite(path: Path, tensors: Shapes, names: Iterable[str]) -> None:
    """RunError if one of the tensors ``names`` holds NaN or infinity."""
    for name in names:
        if not bool(torch.isfinite(tensors[name]).all()):
            raise RunError(f"{path} is damaged: {name} holds numbers that are not finite; train again with a lower lr")


def pack(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file."""
    return safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata
    )


def unpack(data: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file: 8 bytes of header length, a JSON header, raw numbers."""
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, OverflowError, RuntimeError, TypeError) as error:
        raise RunError(f"{path} is damaged: it is not a safetensors file; {AGAIN}") from error
    header = files.parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")], str(path))
    return tensors, header.get("__metadata__", {})
