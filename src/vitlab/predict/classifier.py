"""A finished run as a classifier: a picture in, ranked labels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitlab.config import RunConfig
from vitlab.data import CATALOGUE
from vitlab.data.drawn import DARK, LIGHT
from vitlab.data.images import ImageError, Pixels, decode, read_file, resize, to_grey
from vitlab.errors import RunError
from vitlab.model import Network
from vitlab.predict import drawing
from vitlab.runs.finished import open_run
from vitlab.runs.result import Result
from vitlab.training.preprocess import Preprocess

NOT_SURE = 0.5  # below this probability an answer should not be trusted

Picture = bytes | str | Path | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Label:
    """A class with its probability, 0 to 1."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network with everything it needs to classify a picture.

        from vitlab import Classifier

        classifier = Classifier.load("runs/first")
        best = classifier("seven.png")[0]
        print(best.name, best.probability)

    ``drawing`` names the normalisation that pictures get first, if the data set consists of normalised drawings;
    ``size`` is the height and width of its images, which older run folders do not tell;
    ``result`` is result.json; ``digest`` the SHA-256 of model.safetensors; ``path`` the run folder; ``data_name`` the
    name of its data set.
    """

    name: str
    model: Network
    preprocess: Preprocess
    classes: tuple[str, ...]
    channels: int
    config: RunConfig
    drawing: str | None
    result: Result
    digest: str
    path: Path
    data_name: str
    size: tuple[int, int] | None = None

    @classmethod
    def load(cls, run: Path | str) -> Classifier:
        """The network of a finished run, checked against its digests, on the CPU; RunError if there is none."""
        opened = open_run(Path(run))
        path, config, data = opened.folder.path, opened.config, opened.data
        return cls(
            name=path.name or path.absolute().name,
            model=opened.network(),
            preprocess=opened.preprocess,
            classes=opened.classes,
            channels=data["channels"],
            config=config,
            drawing=drawing_in(data, config),
            result=opened.result,
            digest=opened.result["model_sha256"],
            path=path,
            data_name=str(data.get("name", "unknown")),
            size=(data["height"], data["width"]) if "height" in data and "width" in data else None,
        )

    def __call__(self, image: Picture, center: bool | None = None, top: int = 5) -> list[Label]:
        """The ``top`` most likely labels of a picture, best first: the bytes or the path of a PNG or JPEG file, or an
        array as described at `prepare`. ImageError when it cannot be read."""
        return self.labels(self.logits(self.prepare(image, center)), top)[0]

    def prepare(self, image: Picture, center: bool | None = None) -> Tensor:
        """The first part of `examine`."""
        return self.examine(image, center)[0]

    def examine(self, image: Picture, center: bool | None = None) -> tuple[Tensor, str | None]:
        """uint8 [1, H, W, C], as `logits` takes it: with the network's number of channels, and normalised as a drawing
        (28 x 28) if it was trained on drawings. An array is uint8 [H, W], [H, W, 1] or [H, W, 3].

        ``center`` False does not crop and centre a drawing: the whole image is squeezed into 28 x 28. Other images that
        are larger than those of the data set are averaged down to their size, as image folders are on loading:
        `preprocess` samples only four pixels for each pixel that it makes, and would miss the rest. The second
        part says in a few words why no drawing was found that can be read, else it is None.
        """
        pixels, reason = self.pixels(image), None
        if self.drawing is not None:
            steps = (drawing.plain_drawing if center is False else drawing.center_drawing)(pixels)
            placed = 255 - steps.placed if self.drawing == DARK else steps.placed
            pixels, reason = np.repeat(placed[..., np.newaxis], self.channels, axis=2), steps.reason
        else:
            pixels = resize(pixels, *map(min, pixels.shape[:2], self.stored_size))
        return torch.from_numpy(np.array(pixels))[None], reason  # a copy, since the caller's array may change

    def pixels(self, image: Picture) -> Pixels:
        """uint8 [H, W, C] with the network's number of channels, otherwise unchanged; of a drawing with its colours,
        since ink may differ from its paper in nothing else."""
        if isinstance(image, np.ndarray):
            pixels = checked(image)
        else:
            data, name = (image, "the image") if isinstance(image, bytes) else (read_file(image), str(image))
            pixels = decode(data, name, drawing=self.drawing is not None)
        if self.drawing is not None:
            return pixels
        if self.channels == 1:
            return to_grey(pixels)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of an image of the data set: in older run folders from its card, or image_size."""
        if self.size is not None:
            return self.size
        card, side = CATALOGUE.get(self.config.data.data), self.preprocess.image_size
        return (card.height, card.width) if card else (side, side)

    def is_blank(self, image_1HWC: Tensor) -> bool:
        """Whether `prepare` found no ink in a drawing: the network's answer then means nothing."""
        return self.drawing is not None and bool((image_1HWC == image_1HWC.flatten()[0]).all())

    def logits(self, images_BHWC: Tensor) -> Tensor:
        """uint8 [B, H, W, C] of one size -> float32 [B, K]."""
        return self.run_network(self.preprocess(images_BHWC))

    def logits_of(self, images: Sequence[Tensor]) -> Tensor:
        """Like `logits`, for a list of uint8 [1, H, W, C] whose sizes may differ: one pass through the network."""
        return self.run_network(torch.cat([self.preprocess(image) for image in images]))

    def run_network(self, inputs_BCSS: Tensor) -> Tensor:
        """float32 [B, C, S, S], as `preprocess` gives it -> float32 [B, K]."""
        with torch.inference_mode():
            logits: Tensor = self.model(inputs_BCSS).float()
        return logits

    def labels(self, logits_BK: Tensor, top: int = 5) -> list[list[Label]]:
        """For each row of logits the ``top`` most likely labels, best first; RunError if they are not finite."""
        if not bool(torch.isfinite(logits_BK).all()):
            raise RunError(f"{self.path}: the network's answer is not a finite number; train again with a lower lr")
        best = logits_BK.double().softmax(dim=1).topk(min(max(top, 1), len(self.classes)), dim=1)
        return [
            [Label(self.classes[index], index, chance) for chance, index in zip(chances, indices, strict=True)]
            for chances, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def drawing_in(data: dict[str, Any], config: RunConfig) -> str | None:
    """The normalisation that data.json names; before it did, only networks for mnist had one."""
    if "drawing" not in data:
        return LIGHT if config.data.data == "mnist" else None
    return data["drawing"] if data["drawing"] in (LIGHT, DARK) else None


def checked(array: npt.NDArray[Any]) -> Pixels:
    """An array of pixels as uint8 [H, W, C]; otherwise ImageError."""
    pixels: Pixels = array[..., np.newaxis] if array.ndim == 2 else array
    if array.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        shape = f"{array.dtype} {list(array.shape)}"
        raise ImageError(f"pixels must be uint8 [H, W], [H, W, 1] or [H, W, 3] with at least one pixel, not {shape}")
    return pixels
