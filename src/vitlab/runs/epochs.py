"""The weights after each epoch, in half precision, which a run with the knob `keep_epochs` leaves in its folder.

epochs/epoch-000000.safetensors holds the weights before training, epoch-000007 those after the seventh epoch: the ones
that evaluation uses, so the running average if the run has one. Each is written before the checkpoint that follows it,
so a resumed run has the same files, bit for bit. result.json has their SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitlab import files
from vitlab.errors import RunError
from vitlab.files import AGAIN
from vitlab.runs.folder import KEPT_EPOCH, RunFolder, check_finite, check_shapes, most_bytes, pack, unpack
from vitlab.runs.zoo import EPOCHS
from vitlab.training.evaluate import predict_logits, top_k
from vitlab.training.step import Counters, Task

FORMAT = 1  # raise it when the tensors or the metadata change
LARGEST = torch.finfo(torch.float16).max
FACTS: dict[str, Any] = {"format": int, "epoch": int, "val_top1": float | None}


@dataclass(frozen=True, eq=False)
class KeptEpoch:
    """The weights after ``epoch``, the bytes of their file, and the share of validation images that they got right."""

    epoch: int
    val_top1: float | None
    weights: dict[str, Tensor]
    data: bytes


def keep_epoch(folder: RunFolder, task: Task, counters: Counters, model: nn.Module) -> None:
    """Write the weights of ``model`` after the last row of ``counters``, or before training if it has none."""
    epoch = len(counters.rows)
    top1 = counters.rows[-1]["val_top1"] if epoch else untrained_top1(task, model)
    facts = files.to_json({"format": FORMAT, "epoch": epoch, "val_top1": top1}, indent=None)
    weights = {name: halved(value) for name, value in model.state_dict().items()}
    data = pack(weights, {"kept": facts})  # one entry, because safetensors writes several in an order that varies
    files.write_bytes(files.inner_folder(folder.path / EPOCHS) / f"epoch-{epoch:06d}.safetensors", data)


def untrained_top1(task: Task, model: nn.Module) -> float | None:
    """The accuracy on validation images before training, which history.jsonl does not have."""
    if task.val is None:
        return None
    logits = predict_logits(model, task.val, task.preprocess, task.machine, task.config.train.eval_batch_size)
    return top_k(logits, task.val.labels, 1)


def halved(value: Tensor) -> Tensor:
    """Numbers in half precision; one too large for it becomes the largest there is, which no working network has."""
    return value.detach().clamp(-LARGEST, LARGEST).half() if value.is_floating_point() else value.detach()


def forget_epochs(folder: RunFolder, after: int) -> None:
    """Delete the weights of epochs that a resumed run trains again."""
    for epoch, path in kept_epochs(folder).items():
        if epoch > after:
            files.remove(path)


def kept_epochs(folder: RunFolder) -> dict[int, Path]:
    """The files by epoch, in order; none of a run that keeps none."""
    place = folder.path / EPOCHS
    files.check_inner_folder(place)
    return {int(name[6:12]): place / name for name in files.names_in(place) if KEPT_EPOCH.fullmatch(name)}


def read_epoch(folder: RunFolder, epoch: int, shapes: Mapping[str, Tensor]) -> KeptEpoch:
    """The weights after an epoch; RunError unless the file has its digest and tensors with these names and
    ``shapes``."""
    path = kept_epochs(folder)[epoch]
    data = folder.read(f"{EPOCHS}/{path.name}", most_bytes(shapes))
    weights, metadata = unpack(data, path)
    check_shapes(path, weights, {name: halved(one) for name, one in shapes.items()})
    check_finite(path, weights, weights)
    read = files.parse_json(str(metadata.get("kept")), str(path))
    facts = files.check_table(path, read, FACTS, AGAIN)
    if facts["format"] != FORMAT or facts["epoch"] != epoch:
        raise RunError(f"{path} is damaged or from another version of vitlab; {AGAIN}")
    return KeptEpoch(epoch, facts["val_top1"], weights, data)
