"""How well does a network learn another hand from 50 digits a class: from given weights, and from scratch?

    python -m benchmarks.fine_tuning RUN --out benchmarks/results/fine-tuning-NAME.json
    python -m benchmarks.fine_tuning --show benchmarks/results/fine-tuning-NAME.json

RUN is a finished run on MNIST. A hand is a slant, a turn, proportions, a thickness and USPS' coarse resolution, drawn
anew for each seed; each digit varies around them. Its 500 training digits are made of images that RUN has not been
trained on (its validation images), its test digits of MNIST's test images. Every training sees the same number of
images: about as many as `small` trains on in 6 seconds on two quiet cores.

--choose is for choosing --share and --scale: other hands, and the rest of RUN's validation images instead of the test
images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import carry_out, markdown, options
from vitlab.config import MachineConfig
from vitlab.data import Split, load_dataset
from vitlab.machine import choose_machine, environment
from vitlab.randomness import numpy_generator
from vitlab.runs.finished import load_model
from vitlab.runs.folder import RunFolder
from vitlab.runs.prepare import cut
from vitlab.runs.session import origin, train_run
from vitlab.runs.start import initial_config

PER_CLASS = 50
TEST = 2000
OTHER_HANDS = 1000  # the first seed of the hands that choose the settings
BUDGET = 40_000  # training images, with repetitions


def hand(split: Split, seed: int, part: str) -> Split:
    """The digits as another hand writes them."""
    style, draws = numpy_generator(seed, "hand"), numpy_generator(seed, f"hand/{part}")
    side = style.choice([-1.0, 1.0], 2)
    slant, turn = side * style.uniform([0.3, 0.2], [0.5, 0.4])
    width, height = style.uniform([0.6, 0.85], [0.8, 1.1])
    count = len(split)
    slants = torch.from_numpy(slant + 0.1 * draws.standard_normal(count)).float()
    turns = torch.from_numpy(turn + 0.1 * draws.standard_normal(count)).float()
    rotation = torch.stack([turns.cos(), -turns.sin(), turns.sin(), turns.cos()], dim=1).view(count, 2, 2)
    shape = torch.tensor([[1 / width, 0.0], [0.0, 1 / height]], dtype=torch.float32).expand(count, 2, 2).clone()
    shape[:, 0, 1] = slants
    theta = torch.cat([shape @ rotation, torch.zeros(count, 2, 1)], dim=2)
    images = torch.from_numpy(split.images[..., 0]).float().unsqueeze(1) / 255
    bend = F.interpolate(
        torch.from_numpy(0.06 * draws.standard_normal((count, 2, 4, 4))).float(), size=(28, 28), mode="bicubic"
    ).permute(0, 2, 3, 1)
    images = F.grid_sample(images, F.affine_grid(theta, list(images.shape), False) + bend, align_corners=False)
    if style.integers(2):
        images = F.max_pool2d(images, 3, stride=1, padding=1)
    images = F.interpolate(images, size=(16, 16), mode="bilinear", antialias=True, align_corners=False)
    images = F.interpolate(images, size=(28, 28), mode="bilinear", align_corners=False)
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return Split(pixels, split.labels)


def first_of_each(split: Split, seed: int) -> tuple[Split, Split]:
    """PER_CLASS images of each class, drawn by the seed, and all others."""
    order = numpy_generator(seed, "own digits").permutation(len(split))
    chosen = np.concatenate([order[split.labels[order] == label][:PER_CLASS] for label in range(10)])
    return split.take(chosen), split.take(np.setdiff1d(order, chosen))


def accuracy(run: Path, split: Split) -> float:
    """Share of the images that the network recognises, as it is stored."""
    model, preprocess, _ = load_model(run)
    images = torch.from_numpy(split.images).split(1000)
    with torch.inference_mode():
        answers = torch.cat([model(preprocess(some)).argmax(dim=1) for some in images])
    return float((answers == torch.from_numpy(split.labels)).double().mean())


def measure_seed(run: str, seed: int, share: float, scale: float, budget: int, choose: bool) -> dict[str, Any]:
    """Accuracy after training from scratch, from the weights, and from the weights with rehearsal."""
    whole = load_dataset("mnist")
    divided = cut(whole, RunFolder(run).config())
    unseen = divided.val
    assert unseen is not None, "RUN needs validation images, which it has not been trained on"
    assert whole.test is not None
    own, rest = first_of_each(unseen, seed)
    known = rest if choose else whole.test  # images of the hands that RUN knows
    train, test = hand(own, seed, "train"), hand(known.take(range(TEST)), seed, "test")
    ways: dict[str, dict[str, Any]] = {
        "scratch": {"init_from": None},
        "fine-tuned": {},
        "with rehearsal": {"rehearse": f"mnist:{share}"},
    }
    row: dict[str, Any] = {"seed": seed}
    names = np.array([str(digit) for digit in range(10)])
    before = accuracy(Path(run), known)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "own.npz"
        np.savez(
            data, x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels, classes=names
        )
        if choose:  # without the images that choose
            rehearsed = f"{folder}/rehearsed.npz:{share}"
            np.savez(
                rehearsed.rpartition(":")[0], x_train=divided.train.images, y_train=divided.train.labels, classes=names
            )
            ways["with rehearsal"]["rehearse"] = rehearsed
        for way, knobs in ways.items():
            images = len(train) / (1 - share) if "rehearse" in knobs else len(train)
            fixed = {"val_fraction": 0.0, "select": "last", "drawings": "yes", "seed": seed, "data": str(data)}
            config = initial_config(run, None, fixed | {"epochs": budget / images, "init_lr_scale": scale})
            config = config.with_knobs(**knobs)
            result = train_run(config, Path(folder) / way)
            row[way] = {
                "top1": result.test_top1,
                "before": result.start_top1,
                "mnist": accuracy(Path(folder) / way, known),
                "mnist_before": before,
                "steps": result.steps,
                "seconds": result.train_seconds,
            }
    return row


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All seeds."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    budget = 2_000 if arguments.quick else BUDGET
    settings: dict[str, Any] = {"share": arguments.share, "init_lr_scale": arguments.scale, "budget": budget}
    settings["images"] = "validation" if arguments.choose else "test"
    first = OTHER_HANDS if arguments.choose else 0
    rows = [
        measure_seed(arguments.run, seed, arguments.share, arguments.scale, budget, arguments.choose)
        for seed in range(first, first + arguments.seeds)
    ]
    preset = RunFolder(arguments.run).config().preset
    return {"environment": environment(machine) | origin(), "preset": preset, "settings": settings, "rows": rows}


def report(measured: dict[str, Any]) -> str:
    """A line for each way, mean and standard deviation over the seeds."""
    rows = measured["rows"]

    def points(way: str, name: str) -> str:
        values = [100 * row[way][name] for row in rows if row[way][name] is not None]
        if not values:
            return "-"
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.2f}{spread}"

    table = [
        [
            way,
            points(way, "top1"),
            points(way, "mnist"),
            f"{statistics.mean(row[way]['steps'] for row in rows):.0f}",
            f"{statistics.mean(row[way]['seconds'] for row in rows):.0f}",
        ]
        for way in ("scratch", "fine-tuned", "with rehearsal")
    ]
    before = ["before training", points("fine-tuned", "before"), points("with rehearsal", "mnist_before"), "0", "0"]
    environ, settings = measured["environment"], measured["settings"]
    where = f"{environ['device_name']}, {environ['threads']} threads, {environ['started_utc'][:10]}"
    head = ["", "own digits, %", "MNIST, %", "steps", "seconds"]
    note = (
        f"`{measured['preset']}`, 500 own digits, {len(rows)} seeds, {settings['budget']:,} training images in each "
        f"training; init_lr_scale {settings['init_lr_scale']:g}, rehearsal share {settings['share']:g}"
        f"{'; validation images' if settings.get('images') == 'validation' else ''}. {where}."
    )
    return "\n".join([markdown(head, [before, *table]), "", note])


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("run", nargs="?", help="a finished run on MNIST")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.9, help="of MNIST's images in rehearsal [0.9]")
    parser.add_argument("--choose", action="store_true", help="other hands, validation images")
    parser.add_argument("--scale", type=float, default=0.3, help="init_lr_scale [0.3]")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
