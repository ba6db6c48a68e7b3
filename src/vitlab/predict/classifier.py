"""A finished run as a classifier: a picture in, ranked labels out."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitlab.config import RunConfig
from vitlab.data import CATALOGUE, Reading
from vitlab.data.drawn import DARK, LIGHT, SIDE, are_normalised
from vitlab.data.images import FIRST_DECODING, Depth, ImageError, Pixels, decode, resize, to_grey
from vitlab.errors import RunError
from vitlab.model import Network
from vitlab.native.prediction import Predictor
from vitlab.predict import drawing
from vitlab.predict.drawing import BRIGHT
from vitlab.predict.inputs import many_in, read_ahead, refuse_rows, to_pixels
from vitlab.predict.predictions import NOT_SURE as NOT_SURE
from vitlab.predict.predictions import SHOWN, Answer, Label, Predictions, how_many
from vitlab.predict.web import is_web_network, open_web_network
from vitlab.runs.finished import open_run
from vitlab.runs.result import Result
from vitlab.runs.zoo import place
from vitlab.text import counted, printable
from vitlab.training.novelty import Novelty, traits
from vitlab.training.preprocess import Preprocess

if TYPE_CHECKING:
    from vitlab.predict.inputs import Picture, Pictures

TOGETHER = 256  # pictures that are read and put through the network at a time

Examined = tuple[Tensor, str | None]  # what `Classifier.examine` gives


@dataclass(frozen=True, eq=False)
class Batch:
    """Some pictures on their way through the network: each as `Classifier.examine` gives it, or why it cannot be read.
    Of the M that can be read: ``images``, ``logits`` float32 [M, K], and whether each is ``unlike`` the training
    images."""

    examined: list[Examined | ImageError]
    images: list[Tensor]
    logits: Tensor
    unlike: list[bool | None]

    @property
    def reasons(self) -> list[str | None]:
        """Why no drawing that can be read was found, of each that can be read."""
        return [one[1] for one in self.examined if not isinstance(one, ImageError)]

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """[M, K], the softmax of the logits."""
        return np.asarray(self.logits.double().softmax(dim=1).numpy())

    def check(self) -> Batch:
        """The same; ImageError if a picture cannot be read."""
        for one in self.examined:
            if isinstance(one, ImageError):
                raise one
        return self


@dataclass(frozen=True, eq=False, repr=False)
class Classifier:
    """A trained network with everything it needs to classify pictures, on the CPU.

    >>> run = vitlab.train("fast", data="digits", epochs=1, progress=False)
    >>> classifier = vitlab.Classifier.load(run.path)
    >>> images = vitlab.load_dataset("digits").test.images  # uint8 [360, 8, 8, 1]
    >>> best = classifier(images[0])[0]                     # one picture: its labels, the best first
    >>> best.name in classifier.classes, 0 < best.probability <= 1
    (True, True)
    >>> classifier.predict(images).probabilities.shape      # many: see `Predictions`
    (360, 10)

    ``drawing`` names the normalisation that pictures get first, if the data set consists of normalised drawings;
    ``size`` is the height and width of its images, which older run folders do not tell;
    ``result`` is result.json; ``digest`` the SHA-256 of model.safetensors; ``path`` the run folder; ``data_name`` the
    name of its data set and ``data_digest`` its SHA-256; ``background`` the grey that transparency becomes; ``bounds``
    says how far from its training images an image is, and from where on it is unlike them all (None: the run folder was
    made by an earlier version); ``decoding`` is the way in which the files of its data set were decoded, and ``depth``
    how much of them was kept (None: by an earlier version).
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
    data_digest: str = ""
    background: int = 0
    bounds: Novelty | None = None
    size: tuple[int, int] | None = None
    decoding: int = FIRST_DECODING
    depth: Depth | None = None

    @classmethod
    def load(cls, run: str | os.PathLike[str]) -> Classifier:
        """The network of a finished run, checked against its digests, on the CPU; RunError if there is none. ``run``
        may also be a folder with a network that the page saved, or one of an exported page (see `predict.web`)."""
        folder = place(run)
        if is_web_network(folder):
            return cls._of_web(folder)
        opened = open_run(folder)
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
            data_digest=data["sha256"],
            data_name=printable(str(data.get("name", "unknown"))),
            size=reading.size,
            decoding=reading.decoding,
            depth=reading.depth,
        )

    @classmethod
    def _of_web(cls, path: Path) -> Classifier:
        """The network of the page in ``path``; how it was trained is not known."""
        opened = open_web_network(path)
        facts, side = opened.facts, opened.preprocess.image_size
        return cls(
            name=printable(facts["name"]),
            model=opened.model,
            preprocess=opened.preprocess,
            classes=tuple(facts["classes"]),
            channels=facts["channels"],
            config=opened.config,
            drawing=facts["drawing"],
            result=Result("done", model_sha256=opened.digest),
            digest=opened.digest,
            path=path,
            background=facts["background"] or 0,
            bounds=opened.bounds,
            data_name=printable(facts["data"] or "unknown"),
            size=(side, side),
        )

    def __repr__(self) -> str:
        return f"<Classifier {self.name}: {self.model.describe().name} for {counted(len(self.classes), 'class')}>"

    def __call__(self, image: Picture, center: bool | None = None, top: int = 5) -> list[Label]:
        """The ``top`` most likely labels of a picture, best first: the path or the bytes of a PNG or JPEG file, a PIL
        image, or an array or tensor of pixels (see `predict`). ImageError when it cannot be read."""
        return self.labels(self.logits(self.prepare(image, center)), top)[0]

    def predict(self, images: Pictures, center: bool | None = None) -> Predictions:
        """The answers to one or many pictures, computed a few hundred at a time, so that memory stays small.

        ``images`` is one of

        - an array [H, W], [N, H, W] or [N, H, W, C] with C 1 (grey), 3 (red, green, blue) or 4 (with transparency);
          one of three sizes is a single picture [H, W, C] if its last size is 1, 3 or 4; of pictures in rows,
          x.reshape(-1, H, W) makes one. Its numbers are whole ones
          from 0 to 255, or floats from 0 to 1. For a network of other channels or 16 bits (`bits`), it is [H, W, C] or
          [N, H, W, C] with as many, and uint16 goes from 0 to 65535;
        - a torch tensor, where [N, C, H, W] and [C, H, W] are understood, too;
        - a path or the bytes of a PNG or JPEG file, or a PIL image;
        - a list or any other iterable of these, or a `Split`.

        Pictures of any size are reduced to that of the data set. If the network was trained on drawings like MNIST's,
        each picture that is not yet normalised in their way is: its ink is found, scaled and centred; ``center`` False
        leaves it where it is. ImageError, in one line, for a picture that cannot be read or numbers that may mean
        several things.
        """
        chances, unlike, shown = [np.zeros((0, len(self.classes)))], list[bool | None](), list[Pixels]()
        for batch in self.batches(images, center):
            batch.check()
            chances.append(batch.probabilities)
            unlike += batch.unlike
            shown += [one[0].numpy() for one in batch.images[: SHOWN - len(shown)]]
        known = np.array([bool(one) for one in unlike]) if self.bounds is not None else None
        return Predictions(self.classes, np.concatenate(chances), known, tuple(shown))

    def answers(self, images: Pictures, center: bool | None = None) -> Iterator[Answer | ImageError]:
        """The answer to each picture in turn, or why it cannot be read; what `predict` takes. Pictures are read as
        answers are asked for, a few hundred at a time, so there may be any number of them."""
        for batch in self.batches(images, center):
            blank = map(self.is_blank, batch.images)
            made = map(partial(Answer, self.classes), batch.probabilities, batch.reasons, blank, batch.unlike)
            yield from (one if isinstance(one, ImageError) else next(made) for one in batch.examined)

    def batches(self, images: Pictures, center: bool | None = None) -> Iterator[Batch]:
        """The pictures and the network's outputs, TOGETHER at a time: the way of many pictures through the network."""
        for examined in self._examined(images, center):
            read = [image for image, _ in (one for one in examined if not isinstance(one, ImageError))]
            logits_MK, unlike_M = self.outputs_of(read) if read else (torch.zeros(0, len(self.classes)), [])
            self.check_finite(logits_MK)
            yield Batch(examined, read, logits_MK, unlike_M)

    def _examined(self, images: Pictures, center: bool | None) -> Iterator[list[Examined | ImageError]]:
        """The pictures as `examine` gives them, TOGETHER at a time."""
        found = many_in(images, self.channels, self.bits, self.sizes)
        if not isinstance(found, np.ndarray):
            yield from read_ahead(found, partial(self._tried, center=center), TOGETHER)
            return
        for start in range(0, len(found), TOGETHER):
            yield self._examine_array(found[start : start + TOGETHER], center)

    def _tried(self, image: Any, center: bool | None) -> Examined | ImageError:
        """`examine`, or the reason why it cannot; one that is given in place of a picture is passed on."""
        try:
            return image if isinstance(image, ImageError) else self.examine(image, center)
        except ImageError as error:
            return error

    def _examine_array(self, pixels_BHWC: Pixels, center: bool | None) -> list[Examined | ImageError]:
        """The same for [B, H, W, C] of the network's bits: pictures that are as those of the data set already need no
        work."""
        if self.drawing is not None:
            ready_B = np.zeros(len(pixels_BHWC), bool)
            if center is None and pixels_BHWC.shape[1:] == (SIDE, SIDE, 1):
                grey_BHW = 255 - pixels_BHWC[..., 0] if self.drawing == DARK else pixels_BHWC[..., 0]
                ready_B = are_normalised(grey_BHW, ground=0) & (grey_BHW.max(axis=(1, 2)) >= BRIGHT)
        else:
            fits = {self.channels, pixels_BHWC.shape[3]} <= {1, 3} or self.channels == pixels_BHWC.shape[3]
            ready = fits and all(map(operator.le, pixels_BHWC.shape[1:3], self.stored_size))
            ready_B = np.full(len(pixels_BHWC), ready)
        wanted_BHWC = pixels_BHWC
        if self.channels != pixels_BHWC.shape[3] and ready_B.any():
            batch, height, width, _ = pixels_BHWC.shape
            rows = pixels_BHWC.reshape(batch * height, width, -1)
            changed = to_grey(rows) if self.channels == 1 else np.repeat(rows, 3, axis=2)
            wanted_BHWC = changed.reshape(batch, height, width, self.channels)
        return [
            (torch.from_numpy(wanted.copy())[None], None) if is_ready else self._tried(pixels, center)
            for pixels, wanted, is_ready in zip(pixels_BHWC, wanted_BHWC, ready_B, strict=True)
        ]

    def is_unlike(self, image: Picture, center: bool | None = None) -> bool | None:
        """Whether a picture is unlike anything that the network was trained on, so that its labels mean nothing. About
        1 % of pictures like the training images count as unlike, too. None if the run folder does not say."""
        return self.outputs(self.preprocess(self.prepare(image, center)))[1][0]

    def prepare(self, image: Picture, center: bool | None = None) -> Tensor:
        """The first part of `examine`."""
        return self.examine(image, center)[0]

    def examine(self, image: Picture, center: bool | None = None) -> Examined:
        """[1, H, W, C], as `logits` takes it: with the network's bits and number of channels, and normalised as a
        drawing (28 x 28) if it was trained on drawings.

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
        """[H, W, C] with the network's bits and number of channels, otherwise unchanged; of a drawing with its colours,
        since ink may differ from its paper in nothing else."""
        if isinstance(image, np.ndarray | Tensor):
            refuse_rows(tuple(image.shape), self.channels, self.sizes, one=True)
        read = partial(self.decode, is_local=not isinstance(image, bytes | bytearray | memoryview))
        pixels = to_pixels(image, read, self.channels, self.bits)
        if self.drawing is not None or pixels.shape[2] == self.channels:
            return pixels
        self._check_channels(pixels, "the picture")
        if self.channels == 1:
            return to_grey(pixels)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))

    @property
    def bits(self) -> int:
        """16 if it takes uint16 images, from 0 to 65535, else 8. Drawings become uint8 when they are normalised."""
        return 8 if self.drawing is not None or self.depth is None else self.depth.bits

    def decode(self, data: bytes, name: str, is_local: bool) -> Pixels:
        """[H, W, C] of the bytes of a file, as the images of the data set were decoded. ``is_local``: the
        user's own file, which may take more memory than a stranger's."""
        drawing = self.drawing is not None
        least = None if drawing else max(self.stored_size)
        how: dict[str, Any] = {"decoding": self.decoding, "depth": None if drawing else self.depth}
        pixels = decode(data, name, drawing, local=is_local, least=least, under=self.background, **how)
        self._check_channels(pixels, printable(name))
        return pixels

    def _check_channels(self, pixels: Pixels, name: str) -> None:
        """ImageError for channels that cannot become those of the network: only grey and colour can."""
        if self.drawing is None and pixels.shape[2] != self.channels and not {pixels.shape[2], self.channels} <= {1, 3}:
            own = counted(pixels.shape[2], "channel")
            raise ImageError(f"{name} has {own}, but {self.name} was trained on {self.channels}; use one with as many")

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of an image of the data set: in older run folders from its card, or image_size."""
        if self.size is not None:
            return self.size
        card, side = CATALOGUE.get(self.config.data.data), self.preprocess.image_size
        return (card.height, card.width) if card else (side, side)

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """Heights and widths that pictures in rows may have: that of the data set's images, and the network's."""
        side = self.preprocess.image_size
        return {self.stored_size, (side, side)}

    def is_blank(self, image_1HWC: Tensor) -> bool:
        """Whether `prepare` found no ink in a drawing: the network's answer then means nothing."""
        return self.drawing is not None and bool((image_1HWC == image_1HWC.flatten()[0]).all())

    def logits(self, images_BHWC: Tensor) -> Tensor:
        """uint8 [B, H, W, C] of one size -> float32 [B, K]."""
        return self.run_network(self.preprocess(images_BHWC))

    def logits_of(self, images: Sequence[Tensor]) -> Tensor:
        """Like `logits`, for a list of uint8 [1, H, W, C] whose sizes may differ: one pass through the network."""
        return self.run_network(self.inputs_of(images))

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
        return self.outputs(self.inputs_of(images))

    def inputs_of(self, images: Sequence[Tensor]) -> Tensor:
        """The network's input [B, C, S, S] for a list of uint8 [1, H, W, C] whose sizes may differ."""
        if len({image.shape for image in images}) == 1:  # many times as fast
            return self.preprocess(torch.cat(list(images)))
        return torch.cat([self.preprocess(image) for image in images])

    def _logits_and_distances(self, inputs_BCSS: Tensor, bounds: Novelty) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            logits_BK, features_BF = self._network.with_features(inputs_BCSS)
            return logits_BK, bounds.distance(traits(self.model, self.preprocess, inputs_BCSS, features_BF, logits_BK))

    def run_network(self, inputs_BCSS: Tensor) -> Tensor:
        """float32 [B, C, S, S], as `preprocess` gives it -> float32 [B, K]."""
        with torch.inference_mode():
            return self._network(inputs_BCSS)

    @cached_property
    def _network(self) -> Predictor:
        return Predictor(self.model, self.config.machine.kernels != "plain")

    def check_finite(self, logits_BK: Tensor) -> None:
        """RunError unless all numbers are finite."""
        if not bool(torch.isfinite(logits_BK).all()):
            raise RunError(f"{self.path}: the network's answer is not a finite number; train again with a lower lr")

    def labels(self, logits_BK: Tensor, top: int = 5) -> list[list[Label]]:
        """For each row of logits the ``top`` most likely labels, best first; RunError if they are not finite."""
        self.check_finite(logits_BK)
        best = logits_BK.double().softmax(dim=1).topk(min(how_many(top), len(self.classes)), dim=1)
        return [
            [Label(self.classes[index], index, chance) for chance, index in zip(chances, indices, strict=True)]
            for chances, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def drawing_in(data: dict[str, Any], config: RunConfig) -> str | None:
    """The normalisation that data.json names; before it did, only networks for mnist had one."""
    if "drawing" not in data:
        return LIGHT if config.data.data == "mnist" else None
    return data["drawing"] if data["drawing"] in (LIGHT, DARK) else None
