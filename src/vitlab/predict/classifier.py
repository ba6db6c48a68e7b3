"""A finished run as a classifier: a picture in, ranked labels out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vitlab.config import RunConfig
from vitlab.data import CATALOGUE, Reading
from vitlab.data.drawn import DARK, LIGHT
from vitlab.data.images import Pixels, decode, resize, to_grey
from vitlab.errors import RunError
from vitlab.model import Network
from vitlab.predict import drawing
from vitlab.predict.inputs import to_pixels
from vitlab.runs.finished import open_run
from vitlab.runs.result import Result
from vitlab.text import printable
from vitlab.training.novelty import Novelty, traits
from vitlab.training.preprocess import Preprocess

if TYPE_CHECKING:
    from vitlab.predict.inputs import Picture

NOT_SURE = 0.5  # below this probability an answer should not be trusted


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
    name of its data set; ``background`` the grey that transparency becomes; ``bounds`` says how far from its training
    images an image is, and from where on it is unlike them all (None: the run folder was made by an earlier version).
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
    background: int = 0
    bounds: Novelty | None = None
    size: tuple[int, int] | None = None

    @classmethod
    def load(cls, run: str | os.PathLike[str]) -> Classifier:
        """The network of a finished run, checked against its digests, on the CPU; RunError if there is none."""
        opened = open_run(Path(run))
        path, config, data, model = opened.folder.path, opened.config, opened.data, opened.network()
        reading = Reading.of(data)
        return cls(
            name=printable(path.name or path.absolute().name),
            model=model,
            preprocess=opened.preprocess,
            classes=opened.classes,
            channels=data["channels"],
            config=config,
            drawing=drawing_in(data, config),
            result=opened.result,
            digest=opened.result["model_sha256"],
            path=path,
            background=reading.background,
            bounds=opened.novelty(model),
            data_name=printable(str(data.get("name", "unknown"))),
            size=reading.size,
        )

    def __call__(self, image: Picture, center: bool | None = None, top: int = 5) -> list[Label]:
        """The ``top`` most likely labels of a picture, best first: the path or the bytes of a PNG or JPEG file, a PIL
        image, or a uint8 array or tensor (see `inputs.to_pixels`). ImageError when it cannot be read."""
        return self.labels(self.logits(self.prepare(image, center)), top)[0]

    def is_unlike(self, image: Picture, center: bool | None = None) -> bool | None:
        """Whether a picture is unlike anything that the network was trained on, so that its labels mean nothing. About
        1 % of pictures like the training images count as unlike, too. None if the run folder does not say."""
        return self.outputs(self.preprocess(self.prepare(image, center)))[1][0]

    def prepare(self, image: Picture, center: bool | None = None) -> Tensor:
        """The first part of `examine`."""
        return self.examine(image, center)[0]

    def examine(self, image: Picture, center: bool | None = None) -> tuple[Tensor, str | None]:
        """uint8 [1, H, W, C], as `logits` takes it: with the network's number of channels, and normalised as a drawing
        (28 x 28) if it was trained on drawings.

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
        pixels = to_pixels(image, partial(self.decode, is_local=not isinstance(image, bytes | bytearray | memoryview)))
        if self.drawing is not None:
            return pixels
        if self.channels == 1:
            return to_grey(pixels)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))

    def decode(self, data: bytes, name: str, is_local: bool) -> Pixels:
        """uint8 [H, W, 1 or 3] of the bytes of a file, as the images of the data set were decoded. ``is_local``: the
        user's own file, which may take more memory than a stranger's."""
        drawing = self.drawing is not None
        least = None if drawing else max(self.stored_size)
        return decode(data, name, drawing, local=is_local, least=least, under=self.background)

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

    def novelty(self, images_BHWC: Tensor) -> Tensor:
        """uint8 [B, H, W, C] of one size -> float64 [B]: how far each image is from the training images (see
        `training.novelty`); `bounds.threshold` is the limit. RunError if the run folder does not say."""
        if self.bounds is None:
            raise RunError(f"{self.path} is of an earlier version, which did not measure distances; train again")
        return self._logits_and_distances(self.preprocess(images_BHWC), self.bounds)[1]

    def outputs(self, inputs_BCSS: Tensor) -> tuple[Tensor, list[bool | None]]:
        """From one pass, logits as `run_network` gives them, and for each image whether it `is_unlike` the rest."""
        if self.bounds is None:
            return self.run_network(inputs_BCSS), [None] * len(inputs_BCSS)
        logits_BK, distances_B = self._logits_and_distances(inputs_BCSS, self.bounds)
        return logits_BK, [*self.bounds.is_unlike(distances_B)]

    def outputs_of(self, images: Sequence[Tensor]) -> tuple[Tensor, list[bool | None]]:
        """`outputs` of a list of uint8 [1, H, W, C] whose sizes may differ."""
        return self.outputs(torch.cat([self.preprocess(image) for image in images]))

    def _logits_and_distances(self, inputs_BCSS: Tensor, bounds: Novelty) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            features_BF = self.model.features(inputs_BCSS)
            logits_BK: Tensor = self.model.head(features_BF).float()
            return logits_BK, bounds.distance(traits(self.model, self.preprocess, inputs_BCSS, features_BF, logits_BK))

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
