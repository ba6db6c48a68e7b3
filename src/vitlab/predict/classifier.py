"""A finished run as something that answers: a picture in, ranked labels out."""

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
from vitlab.data.pixels import resize
from vitlab.errors import RunError
from vitlab.model import CNN, ViT
from vitlab.predict import drawing
from vitlab.predict.decode import MAX_BYTES, ImageError, Pixels, decode, to_grey
from vitlab.runs.finished import open_run
from vitlab.runs.result import Result
from vitlab.training.preprocess import Preprocess

NOT_SURE = 0.5  # below this probability an answer is better not trusted
DRAWN = ("mnist",)  # the data sets whose images were made by the normalisation of a drawing

Picture = bytes | str | Path | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Label:
    """A class with its probability, 0 to 1."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network with everything that it needs to read a picture.

        from vitlab import Classifier

        classifier = Classifier.load("runs/first")
        best = classifier("seven.png")[0]
        print(best.name, best.probability)

    ``drawing`` names the normalisation that pictures get first, if the data set was made by one; ``result`` is
    result.json; ``digest`` the SHA-256 of model.safetensors; ``path`` the run folder; ``data_name`` that of its images.
    """

    name: str
    model: ViT | CNN
    preprocess: Preprocess
    classes: tuple[str, ...]
    channels: int
    config: RunConfig
    drawing: str | None
    result: Result
    digest: str
    path: Path
    data_name: str

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
            drawing=drawing.NAME if config.data.data in DRAWN else None,
            result=opened.result,
            digest=opened.result["model_sha256"],
            path=path,
            data_name=str(data.get("name", "unknown")),
        )

    def __call__(self, image: Picture, center: bool | None = None, top: int = 5) -> list[Label]:
        """The ``top`` likeliest labels of a picture, best first: the bytes or the path of a PNG or JPEG file, or an
        array as `prepare` takes it. ImageError when it cannot be read."""
        return self.labels(self.logits(self.prepare(image, center)), top)[0]

    def prepare(self, image: Picture, center: bool | None = None) -> Tensor:
        """uint8 [1, H, W, C], what `logits` takes: grey or coloured as the network wants it, and normalised as a
        drawing (28 x 28) if it was trained on such. An array is uint8 [H, W], [H, W, 1] or [H, W, 3].

        ``center`` False skips box and centre of mass of a drawing: the whole image is squeezed into 28 x 28. Other
        images that are larger than the stored ones of the data set are averaged down to their size, as image folders
        are when they are loaded: `preprocess` looks at four pixels for each of its own and would miss the rest.
        """
        pixels = self.pixels(image)
        if self.drawing is not None:
            shape = drawing.plain_drawing if center is False else drawing.center_drawing
            pixels = shape(pixels[..., 0]).placed[..., np.newaxis]
        else:
            pixels = resize(pixels, *map(min, pixels.shape[:2], self.stored_size))
        return torch.from_numpy(np.array(pixels))[None]  # a copy: the caller's array may change

    def pixels(self, image: Picture) -> Pixels:
        """uint8 [H, W, C] with as many channels as the network has, nothing else changed."""
        drawing = self.drawing is not None
        pixels = checked(image) if isinstance(image, np.ndarray) else decode(*read(image), drawing=drawing)
        if self.channels == 1:
            return to_grey(pixels)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of a stored image: of the catalogue's data sets their own, of others image_size."""
        card, side = CATALOGUE.get(self.config.data.data), self.preprocess.image_size
        return (card.height, card.width) if card else (side, side)

    def is_blank(self, image_1HWC: Tensor) -> bool:
        """Whether `prepare` has found no ink in a drawing: the network answers, but nothing was asked."""
        return self.drawing is not None and not bool(image_1HWC.any())

    def logits(self, images_BHWC: Tensor) -> Tensor:
        """uint8 [B, H, W, C] of one size -> float32 [B, K]."""
        with torch.inference_mode():
            logits: Tensor = self.model(self.preprocess(images_BHWC)).float()
        return logits

    def logits_of(self, images: Sequence[Tensor]) -> Tensor:
        """As `logits`, for a list of uint8 [1, H, W, C] whose sizes may differ: one pass through the network."""
        with torch.inference_mode():
            logits: Tensor = self.model(torch.cat([self.preprocess(image) for image in images])).float()
        return logits

    def labels(self, logits_BK: Tensor, top: int = 5) -> list[list[Label]]:
        """For each row of logits the ``top`` likeliest labels, best first; RunError if they are not finite."""
        if not bool(torch.isfinite(logits_BK).all()):
            raise RunError(f"{self.path}: the network's answer is not a finite number; train again with a lower lr")
        best = logits_BK.double().softmax(dim=1).topk(min(max(top, 1), len(self.classes)), dim=1)
        return [
            [Label(self.classes[index], index, chance) for chance, index in zip(chances, indices, strict=True)]
            for chances, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def changed(self) -> RunError:
        """The error for weights on the disk that are not those that were loaded."""
        return RunError(f"{self.path / 'model.safetensors'} has been changed while it was used; start again")


def read(image: bytes | str | Path) -> tuple[bytes, str]:
    """The bytes of a picture and a name for messages; ImageError when the file cannot be read."""
    if isinstance(image, bytes):
        return image, "the image"
    try:
        with open(image, "rb") as file:
            return file.read(MAX_BYTES + 1), str(image)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {str(image)!r}: {reason}; name a PNG or JPEG file that exists") from error


def checked(array: npt.NDArray[Any]) -> Pixels:
    """An array of pixels as uint8 [H, W, C]; ImageError when it is not one."""
    pixels: Pixels = array[..., np.newaxis] if array.ndim == 2 else array
    if array.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        shape = f"{array.dtype} {list(array.shape)}"
        raise ImageError(f"pixels must be uint8 [H, W], [H, W, 1] or [H, W, 3] with at least one pixel, not {shape}")
    return pixels
