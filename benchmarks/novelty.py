"""How often a network says "unlike anything it was trained on": of its own test images, and of everything else.

    python -m benchmarks.novelty runs/RUN runs/RUN ... --out benchmarks/results/NAME.json
    python -m benchmarks.novelty --show benchmarks/results/NAME.json

Test images of MNIST, of Fashion-MNIST and of CIFAR-10 (in grey), as their data sets store them; five kinds of noise,
drawn once from a seed; constant images of all shades. For networks that read drawings, Fashion-MNIST and uniform noise
also as drawings: through the preparation of a picture, and flagged too if that finds no drawing. Letters and digits of
matplotlib's fonts, and the thirty digits of benchmarks.drawn_digits, all through the preparation of a picture. A rate
comes with its 95 % interval (Wilson). An image of the network's own data is flagged by mistake, and so is a digit by a
network of digits.
"""

from __future__ import annotations

import argparse
import string
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from benchmarks.drawn_digits import PENS, draw
from benchmarks.timing import carry_out, markdown, options
from vitlab.config import MachineConfig
from vitlab.data import load_dataset
from vitlab.data.images import resize, to_grey
from vitlab.errors import ConfigError, DataError
from vitlab.machine import choose_machine, environment
from vitlab.predict import Classifier
from vitlab.randomness import numpy_generator
from vitlab.runs.session import origin
from vitlab.training.evaluate import wilson_interval

Pixels = npt.NDArray[np.uint8]
Sets = dict[str, list[Pixels]]

SIDE = 28  # of noise, and of every stored image but a photograph
NOISES = 1000  # images of each kind
PHOTOS = 2000
AS_DRAWINGS = ("fashion-mnist", "uniform noise")
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")


def stored_sets(photos: str, few: int | None) -> Iterator[tuple[str, Pixels]]:
    """Name and grey images [N, H, W] of each data set that is on this machine."""
    for name, data in (("mnist", "mnist"), ("fashion-mnist", "fashion-mnist"), ("cifar10, grey", photos)):
        try:
            test = load_dataset(data).test
        except DataError as error:
            print(f"without {name}: {error}")
            continue
        assert test is not None
        some = test.images[: few or (PHOTOS if name.startswith("cifar10") else None)]
        yield name, np.stack([to_grey(image)[..., 0] for image in some])


def noises(count: int) -> dict[str, Pixels]:
    """Images [count, 28, 28] of each kind of noise."""
    shape = (count, SIDE, SIDE)
    random = {name: numpy_generator(0, name) for name in ("uniform", "gaussian", "pepper", "sparse", "blobs", "smooth")}
    widths = random["blobs"].uniform(1, 6, count)
    grains = random["smooth"].normal(size=shape)
    smooth = np.stack([gaussian_filter(grain, width) for grain, width in zip(grains, widths, strict=True)])
    low, high = smooth.min(axis=(1, 2), keepdims=True), smooth.max(axis=(1, 2), keepdims=True)
    shades = np.linspace(0, 255, count)[:, np.newaxis, np.newaxis]
    made = {
        "uniform noise": random["uniform"].uniform(0, 256, shape),
        "gaussian noise": random["gaussian"].normal(128, 64, shape),
        "salt and pepper": 255 * (random["pepper"].random(shape) < 0.5),
        "sparse salt (5 %)": 255 * (random["sparse"].random(shape) < 0.05),
        "smooth blobs": 255 * (smooth - low) / (high - low),
        "constant": np.broadcast_to(shades, shape),
    }
    return {name: np.clip(images, 0, 255).astype(np.uint8) for name, images in made.items()}


def written(text: str) -> list[Pixels]:
    """Each character in each font, white on black, 200 x 200."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    found = []
    for name in FONTS:
        font = ImageFont.truetype(str(folder / f"{name}.ttf"), 120)
        for character in text:
            image = Image.new("L", (200, 200))
            ImageDraw.Draw(image).text((50, 20), character, fill=255, font=font)
            found.append(np.asarray(image))
    return found


def pictures() -> Sets:
    """Pictures that are prepared as `vitlab predict` does it."""
    digits = [draw(digit, pen) for digit in range(10) for pen in PENS]
    return {"letters": written(string.ascii_letters), "font digits": written(string.digits), "drawn digits": digits}


def flagged(classifier: Classifier, images: Pixels) -> int:
    """How many grey images [N, H, W] are beyond the limit: each resized to the data set's size, in its channels."""
    height, width = classifier.stored_size
    fitting = [image[..., np.newaxis] for image in images]
    fitting = [image if image.shape[:2] == (height, width) else resize(image, height, width) for image in fitting]
    pixels = torch.from_numpy(np.stack(fitting)).expand(-1, -1, -1, classifier.channels)
    verdicts = [verdict for some in pixels.split(500) for verdict in classifier.outputs(classifier.preprocess(some))[1]]
    return sum(map(bool, verdicts))


def refused(classifier: Classifier, images: Pixels) -> int:
    """How many grey images [N, H, W], read as drawings, are beyond the limit or show no drawing."""
    found = [classifier.examine(image) for image in images]
    verdicts = classifier.outputs_of([prepared for prepared, _ in found])[1]
    return sum(bool(unlike) or reason is not None for unlike, (_, reason) in zip(verdicts, found, strict=True))


def share(count: int, of: int) -> dict[str, Any]:
    """A rate with its 95 % interval."""
    return {"flagged": count, "of": of, "interval": wilson_interval(count / of, of)}


def rates(classifier: Classifier, stored: dict[str, Pixels], drawn: Sets) -> dict[str, Any]:
    """The share of each set that is beyond the limit."""
    found = {name: share(flagged(classifier, images), len(images)) for name, images in stored.items()}
    for name in AS_DRAWINGS if classifier.drawing is not None else ():
        if name in stored:
            few = stored[name]
            found[f"{name}, as drawings"] = share(refused(classifier, few), len(few))
    for name, images in drawn.items():
        verdicts = [classifier.is_unlike(image) for image in images]
        found[name] = share(sum(map(bool, verdicts)), len(images))
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All runs on all sets."""
    if not arguments.runs:
        raise ConfigError("name at least one run folder")
    machine = choose_machine(MachineConfig(device="cpu", threads=arguments.threads, precision="fp32"))
    few = 50 if arguments.quick else None
    stored = dict(stored_sets(arguments.photos, few)) | noises(few or NOISES)
    drawn = pictures()
    runs = {}
    for run in arguments.runs:
        classifier = Classifier.load(run)
        if classifier.bounds is None:
            raise ConfigError(f"{run} was made by an earlier version, which kept no distances; train again")
        runs[classifier.name] = {
            "preset": classifier.config.preset,
            "data": classifier.data_name,
            "epochs": classifier.config.train.epochs,
            "model_sha256": classifier.digest,
            "test_top1": classifier.result["test_top1"],
            "threshold": classifier.bounds.threshold,
            "calibrated_on": classifier.bounds.calibrated_on,
            "rates": rates(classifier, stored, drawn),
        }
    return {"environment": environment(machine) | origin(), "runs": runs}


def report(measured: dict[str, Any]) -> str:
    """One line per set, one column per run."""
    runs = measured["runs"]
    head = ["images", *(f"{name} ({run['data']})" for name, run in runs.items())]
    sets = list(dict.fromkeys(name for run in runs.values() for name in run["rates"]))
    rows = [[name, *(cell(run["rates"].get(name), name == run["data"]) for run in runs.values())] for name in sets]
    environ = measured["environment"]
    where = f"{environ['device_name']}, torch {environ['torch']}, fp32, {environ['started_utc'][:10]}"
    return "\n".join([markdown(head, rows), "", f"Own test images are in bold. {where}."])


def cell(rate: dict[str, Any] | None, own: bool) -> str:
    """A rate and its interval in percent; empty for a set that the run was not measured on."""
    if rate is None:
        return ""
    low, high = (100 * bound for bound in rate["interval"])
    text = f"{100 * rate['flagged'] / rate['of']:.1f} % ({low:.1f} to {high:.1f})"
    return f"**{text}**" if own else text


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders")
    parser.add_argument("--photos", default="cifar10", help="CIFAR-10: a data set's name or its .npz [cifar10]")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
