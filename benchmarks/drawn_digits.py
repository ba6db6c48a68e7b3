"""Are drawn digits read as well as test digits, wherever, however large and on whatever paper they are drawn?

    python -m benchmarks.drawn_digits runs/RUN runs/RUN ... --out benchmarks/results/NAME.json
    python -m benchmarks.drawn_digits runs/RUN --out FILE --picture sheets.png
    python -m benchmarks.drawn_digits --show benchmarks/results/NAME.json

First, thirty digits that consist of a few lines and arcs; a pixel is inked as far as the pen covers it. Every run
reads the same thirty pictures with centring (bounding box, longest side 20, centre of mass) and without (the whole
picture scaled to 28 x 28). It also reads the first 2,000 MNIST test images both ways, and unchanged. The digits were
drawn once, before any network had seen them, and have not been changed since.

Then, on each kind of paper (benchmarks/papers.py), the first 100 test digits and 100 of those lines and arcs with a pen
of any size. An answer is "sure" if vitlab would not call it unsure: a probability of at least 0.5, and no reason
against the picture. --picture draws some sheets of each kind, with what the network gets to see.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch

from benchmarks import papers
from benchmarks.timing import carry_out, markdown, options
from vitlab.config import MachineConfig
from vitlab.data import load_dataset
from vitlab.errors import ConfigError
from vitlab.machine import choose_machine, environment
from vitlab.predict import Classifier, center_drawing, decode
from vitlab.predict.classifier import NOT_SURE
from vitlab.runs.session import origin
from vitlab.training.evaluate import wilson_interval

Stroke = list[tuple[float, float]]
Pixels = npt.NDArray[np.uint8]

TEST_IMAGES = 2000
SHEETS = 100  # of each kind of paper and of ink
WAYS = ("as they are", "centred", "uncentred")


@dataclass(frozen=True)
class Pen:
    """How a digit is drawn: width and height of the canvas in pixels; the digit's centre as a fraction of both; the
    digit's height and the pen's thickness in pixels; dark ink on white, or white on black."""

    width: int
    height: int
    x: float
    y: float
    size: float
    thickness: float
    dark: bool = False


# Small, in a corner, with a thick pen; large and thin, dark on white; to the right on a wide canvas.
PENS = (
    Pen(280, 280, 0.28, 0.31, 90, 15),
    Pen(400, 300, 0.55, 0.52, 230, 19, dark=True),
    Pen(150, 97, 0.74, 0.58, 47, 6),
)


def arc(x: float, y: float, across: float, down: float, begin: float, end: float) -> Stroke:
    """Part of an ellipse. Degrees start at the right and go clockwise on the screen, because rows go down."""
    angles = np.radians(np.linspace(begin, end, 25))
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


# In a box of height 1: x from about 0.2 to 0.8, y from 0 (top) to 1.
DIGITS: tuple[list[Stroke], ...] = (
    [arc(0.5, 0.5, 0.3, 0.5, -90, 270)],
    [[(0.55, 0.0), (0.48, 1.0)]],
    [[*arc(0.5, 0.27, 0.27, 0.27, -170, 30), (0.2, 1.0), (0.8, 1.0)]],
    [arc(0.47, 0.25, 0.27, 0.25, -150, 90), arc(0.47, 0.74, 0.31, 0.26, -90, 150)],
    [[(0.36, 0.02), (0.2, 0.55), (0.8, 0.52)], [(0.66, 0.15), (0.6, 1.0)]],
    [[(0.78, 0.0), (0.32, 0.02), (0.27, 0.43), *arc(0.46, 0.69, 0.3, 0.31, -110, 150)]],
    [[*arc(0.72, 0.6, 0.5, 0.6, -100, -180), *arc(0.48, 0.72, 0.27, 0.28, -180, 180)]],
    [[(0.2, 0.03), (0.78, 0.03), (0.42, 1.0)]],
    [arc(0.5, 0.25, 0.24, 0.25, 90, 450), arc(0.5, 0.75, 0.29, 0.25, -90, 270)],
    [arc(0.48, 0.28, 0.27, 0.28, 0, 360), [(0.75, 0.28), (0.66, 1.0)]],
)


def draw(digit: int, pen: Pen) -> Pixels:
    """uint8 [height, width]: ink where a pixel's centre is within half the pen's thickness of a line, fading out over
    one pixel."""
    rows, columns = np.mgrid[0 : pen.height, 0 : pen.width] + 0.5
    nearest = np.full((pen.height, pen.width), np.inf)
    for stroke in DIGITS[digit]:
        places = [place(point, pen) for point in stroke]
        for begin, end in itertools.pairwise(places):
            nearest = np.minimum(nearest, distance(columns, rows, begin, end))
    ink = np.floor(255 * np.clip(pen.thickness / 2 - nearest + 0.5, 0, 1) + 0.5).astype(np.uint8)
    return 255 - ink if pen.dark else ink


def place(point: tuple[float, float], pen: Pen) -> tuple[float, float]:
    """A point of the digit's box in pixels of the canvas."""
    x, y = point
    return pen.width * pen.x + pen.size * (x - 0.5), pen.height * pen.y + pen.size * (y - 0.5)


def distance(x: Any, y: Any, begin: tuple[float, float], end: tuple[float, float]) -> Any:
    """Distance of each point (x, y) from the line between two points."""
    along, down = end[0] - begin[0], end[1] - begin[1]
    share = ((x - begin[0]) * along + (y - begin[1]) * down) / max(along**2 + down**2, 1e-12)
    share = np.clip(share, 0, 1)
    return np.hypot(x - begin[0] - share * along, y - begin[1] - share * down)


def test_inks(count: int) -> tuple[list[Any], list[int]]:
    """The first test digits as shares of ink, [280, 280, 1], and their labels."""
    test = load_dataset("mnist").test
    assert test is not None
    some = test.take(range(count))
    shares = [papers.inked(image, np.random.default_rng([11, i])) for i, image in enumerate(some.images[..., 0])]
    return shares, some.labels.tolist()


def stroke_inks(count: int) -> tuple[list[Any], list[int]]:
    """Digits of lines and arcs, each with its own pen, size and place."""
    shares = []
    for i in range(count):
        random = np.random.default_rng([13, i])
        size = random.uniform(70, 200)
        x, y = (0.5 + random.uniform(-1, 1) * (0.46 - size / 560) for _ in range(2))
        pen = Pen(papers.SIDE, papers.SIDE, x, y, size, size * random.uniform(0.07, 0.16))
        shares.append(draw(i % 10, pen)[..., np.newaxis] / 255)
    return shares, [i % 10 for i in range(count)]


INKS = {"test digits": test_inks, "lines and arcs": stroke_inks}


def on_papers(classifier: Classifier, count: int) -> dict[str, dict[str, dict[str, Any]]]:
    """For each kind of paper and of ink: how many answers are right, how many wrong and sure, and the reasons given."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for source, make in INKS.items():
        shares, labels = make(count)
        for kind in papers.PAPERS:
            sheets = (papers.sheet(kind, share, i) for i, share in enumerate(shares))
            examined = [classifier.examine(picture) for picture in sheets]
            logits = classifier.logits_of([image for image, _ in examined])
            best = [ranked[0] for ranked in classifier.labels(logits, 1)]
            right = [int(label.name) == truth for label, truth in zip(best, labels, strict=True)]
            sure = [
                label.probability >= NOT_SURE and reason is None
                for label, (_, reason) in zip(best, examined, strict=True)
            ]
            found.setdefault(kind, {})[source] = {
                "of": count,
                "right": sum(right),
                "wrong_and_sure": sum(not good and certain for good, certain in zip(right, sure, strict=True)),
                "reasons": sorted(reason for _, reason in examined if reason is not None),
            }
    return found


def contact_sheet(path: Path, columns: int = 8, side: int = 140) -> None:
    """A picture: a row for each kind of paper, and beside each sheet what the network gets."""
    shares = [share for pair in zip(*(make(columns // 2)[0] for make in INKS.values()), strict=True) for share in pair]
    rows = []
    for kind in papers.PAPERS:
        cells = []
        for i, share in enumerate(shares):
            made = papers.sheet(kind, share, i)
            pixels = decode(made, kind) if isinstance(made, bytes) else made
            small = PIL.Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))).resize((side, side))
            placed = PIL.Image.fromarray(center_drawing(pixels).placed).resize((side // 2, side // 2), 0).convert("RGB")
            strip = np.full((side, side // 2, 3), 128, np.uint8)
            strip[side // 4 : side // 4 + side // 2] = np.asarray(placed)
            cells += [np.asarray(small), strip]
        rows.append(np.concatenate(cells, axis=1))
    PIL.Image.fromarray(np.concatenate(rows)).save(path)


def read(classifier: Classifier, images: Sequence[Pixels], center: bool) -> list[int]:
    """What the network takes each grey picture for."""
    prepared = [classifier.prepare(image, center) for image in images]
    return classifier.logits_of(prepared).argmax(dim=1).tolist()


def score(answers: Sequence[int], labels: Sequence[int]) -> dict[str, Any]:
    """Number of correct answers, and the 95 % interval of their share."""
    right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
    return {"right": right, "of": len(labels), "interval": wilson_interval(right / len(labels), len(labels))}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All runs on the drawn digits and on the test images."""
    if not arguments.runs:
        raise ConfigError("name at least one run folder trained on mnist")
    if arguments.picture:
        contact_sheet(arguments.picture)
    machine = choose_machine(MachineConfig(device="cpu", threads=arguments.threads, precision="fp32"))
    labels = [digit for digit in range(10) for _ in PENS]
    drawn = [draw(digit, pen) for digit in range(10) for pen in PENS]
    test = load_dataset("mnist").test
    assert test is not None
    some = test.take(range(100 if arguments.quick else TEST_IMAGES))
    runs = {}
    for run in arguments.runs:
        classifier = Classifier.load(run)
        if classifier.drawing is None:
            raise ConfigError(f"{run} was not trained on drawings like those of mnist, so it reads none")
        grey, truth = list(some.images[..., 0]), some.labels.tolist()
        plain = classifier.logits(torch.from_numpy(some.images)).argmax(dim=1).tolist()
        answers = {center: read(classifier, drawn, center) for center in (True, False)}
        runs[classifier.name] = {
            "preset": classifier.config.preset,
            "epochs": classifier.config.train.epochs,
            "model_sha256": classifier.digest,
            "test_top1": classifier.result["test_top1"],
            "drawn": {"centred": score(answers[True], labels), "uncentred": score(answers[False], labels)},
            "papers": on_papers(classifier, 5 if arguments.quick else SHEETS),
            "answers": {"centred": answers[True], "uncentred": answers[False]},
            "test": dict(
                zip(
                    WAYS,
                    [score(plain, truth), *(score(read(classifier, grey, way), truth) for way in (True, False))],
                    strict=True,
                )
            ),
        }
    pens = [vars(pen) for pen in PENS]
    return {"environment": environment(machine) | origin(), "pens": pens, "labels": labels, "runs": runs}


def report(measured: dict[str, Any]) -> str:
    """One line per run."""
    head = [
        "run",
        "preset, epochs",
        "30 drawn digits, centred",
        "uncentred",
        "test digits as they are",
        "centred",
        "uncentred",
    ]
    rows = []
    for name, run in measured["runs"].items():
        drawn = [f"{run['drawn'][way]['right']} of {run['drawn'][way]['of']}" for way in WAYS[1:]]
        test = [f"{100 * run['test'][way]['right'] / run['test'][way]['of']:.2f} %" for way in WAYS]
        rows.append([name, f"{run['preset']}, {run['epochs']:g}", *drawn, *test])
    number = next(iter(measured["runs"].values()))["test"]["centred"]["of"]
    environ = measured["environment"]
    where = f"{environ['device_name']}, torch {environ['torch']}, fp32, {environ['started_utc'][:10]}"
    made = [markdown(head, rows), "", f"Test digits: the first {number:,} of MNIST. {where}."]
    return "\n".join([*made, *report_on_papers(measured["runs"])])


def report_on_papers(runs: dict[str, Any]) -> list[str]:
    """A table of the kinds of paper, unless the measurement is older than they are."""
    runs = {name: run["papers"] for name, run in runs.items() if "papers" in run}
    if not runs:
        return []
    head = ["paper", *(f"{name}, {source}" for name in runs for source in INKS)]
    rows = []
    for kind in next(iter(runs.values())):
        found = [run[kind][source] for run in runs.values() for source in INKS]
        rows.append([kind, *(f"{one['right']}, {one['wrong_and_sure']}" for one in found)])
    words = "Right answers of 100, and wrong ones that vitlab would call sure."
    return ["", markdown(head, rows), "", words]


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders trained on mnist")
    parser.add_argument("--picture", type=Path, help="also draw some sheets of each kind into this PNG file")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
