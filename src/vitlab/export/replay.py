"""How a network learned, for the page: the weights after some epochs of a run that kept them (`keep_epochs`).

The page loads a file only when a visitor moves its slider over training time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitlab import files
from vitlab.predict import Classifier
from vitlab.runs.epochs import KeptEpoch, kept_epochs, read_epoch
from vitlab.runs.folder import RunFolder

MOST_EPOCHS = 25  # of one network, evenly chosen
MOST_BYTES = 16_000_000  # of their files together


def replay_files(
    classifier: Classifier, note: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """What config.json says about the epochs, and their files by name; (None, {}) for a run that kept none. ``note``
    gets a line if not all of them go into the page."""
    folder = RunFolder(classifier.path)
    kept = list(kept_epochs(folder))
    if len(kept) < 2:
        return None, {}
    shapes = classifier.model.state_dict()
    size = 2 * sum(one.numel() for one in shapes.values())
    chosen = evenly(kept, min(MOST_EPOCHS, MOST_BYTES // size))
    if len(chosen) < len(kept):
        left = f"the page holds at most {MOST_EPOCHS} of a network and {MOST_BYTES / 1e6:.0f} MB"
        note(f"{classifier.path}: {len(chosen)} of {len(kept)} kept epochs go into the page, evenly chosen; {left}")
    read = [read_epoch(folder, epoch, shapes) for epoch in chosen]
    if not read:
        return None, {}
    learned = {row["epoch"]: row["train_top1"] for row in folder.history()}
    facts = {
        "epochs": kept[-1],
        "selected": classifier.result["selected_epoch"],
        "kept": [
            {
                "epoch": one.epoch,
                "val_top1": one.val_top1,
                "train_top1": learned.get(one.epoch),
                "sha256": files.sha256(one.data),
            }
            for one in read
        ],
    }
    return facts, {name_of(one): one.data for one in read}


def evenly(kept: list[int], count: int) -> list[int]:
    """Up to ``count`` of the epochs, the first and the last among them; none if that is less than two."""
    if count < 2:
        return []
    if len(kept) <= count:
        return kept
    last = len(kept) - 1
    return [kept[round(place * last / (count - 1))] for place in range(count)]


def name_of(kept: KeptEpoch) -> str:
    """Where the page finds the weights, below the folder of its model."""
    return f"epochs/{kept.epoch}.safetensors"
