"""What rounding to int8 costs: accuracy before and after on the same images, and a limit to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitlab.errors import DataError
from vitlab.export.whole import ExportError, Outputs, Whole
from vitlab.predict import Classifier
from vitlab.runs.finished import open_run
from vitlab.text import counted

MOST_LOSS = 0.3  # points of accuracy that int8 may cost, unless more is allowed
TOGETHER = 500  # images
MOST_IMAGES = 10_000


@dataclass(frozen=True, eq=False)
class Gate:
    """``images`` uint8 [N, H, W, C] and ``labels`` [N] of a ``part`` of the run's data, and how many points of accuracy
    int8 may cost on them."""

    images: Tensor
    labels: Tensor
    part: str
    most_loss: float = MOST_LOSS

    def check(self, whole: Whole, copy: Callable[[Tensor], Outputs], out: Path) -> dict[str, Any]:
        """top1 of the network and of its rounded ``copy``, and the share of equal answers. ExportError if the copy
        loses too much."""
        with torch.inference_mode():
            parts = self.images.split(TOGETHER)
            before = torch.cat([whole(part)[0].argmax(dim=1) for part in parts])
            after = torch.cat([copy(part)["logits"].argmax(dim=1) for part in parts])
        top1, rounded = (int((answers == self.labels).sum()) / len(self.labels) for answers in (before, after))
        if 100 * (top1 - rounded) > self.most_loss + 1e-9:
            images = counted(len(self.labels), f"{self.part} image")
            raise ExportError(
                f"{out} is not kept: int8 lowers the accuracy on {images} from {100 * top1:.2f} to {100 * rounded:.2f} "
                f"%, by more than {self.most_loss:g} points; leave out --int8, or allow more with --most-loss POINTS"
            )
        same = int((before == after).sum()) / len(self.labels)
        facts = {"part": self.part, "images": len(self.labels)}
        return facts | {"top1": top1, "top1_int8": rounded, "same_answers": same}


def gate_of(classifier: Classifier, data: str | None, most_loss: float, note: Callable[[str], None]) -> Gate:
    """The gate with the run's validation images (at most 10,000) or, where it has none, its test images. ``data``:
    where the images are now, if they have moved. DataError without them."""
    asked = {"device": "cpu", "kernels": "plain", "precision": "fp32"}
    prepared = open_run(classifier.path).prepare(note, asked, data, "measuring the accuracy of int8")
    for part, split in (("validation", prepared.dataset.val), ("test", prepared.dataset.test)):
        if split is not None:
            images, labels = split.images[:MOST_IMAGES], split.labels[:MOST_IMAGES]
            return Gate(torch.from_numpy(images), torch.from_numpy(labels), part, most_loss)
    raise DataError(f"{classifier.path} has no validation or test images to measure the accuracy of int8 on")
