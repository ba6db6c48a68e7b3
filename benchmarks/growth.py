"""How the time of a training step grows with tokens, width, depth and batch size, and a cost model to explain it.

    python -m benchmarks.growth --out benchmarks/results/NAME.json --picture docs/NAME.png
    python -m benchmarks.growth --show benchmarks/results/NAME.json [--picture FILE.png]

Starting from the preset `small`, one quantity varies at a time: tokens (through patch_size and crop), embed_dim, depth
or batch_size. Each point times `train_step` on random images that need no augmentation: forward, loss, backward,
optimizers, bookkeeping; points take turns. The model for the time of one image is

    seconds per image  =  a  +  b FLOPs  +  c bytes  +  d operations / batch

- FLOPs: three times the arithmetic of the forward pass's products (`vitlab.model.Description`); 1/b is the rate
  at which small products run.
- bytes: three times the activations that the blocks read and write in a forward pass (`block_bytes`), as if no cache
  existed; 1/c is the rate at which element-wise work moves data.
- operations / batch: torch operators of one step (forward, backward, optimizers), divided by its images. They run once
  per step, however few images it has; d is the cost of launching one.
- a: everything else that an image costs.

The four coefficients minimise the squared relative errors; none may be negative. Blocks and attention run as torch's
plain operations, which the formula describes. --knobs changes that (kernels=auto attention=auto), or any other knob.
"""

from __future__ import annotations

import argparse
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks.steps import ReadyStep, operators_of, set_up
from benchmarks.timing import (
    carry_out,
    circumstances,
    contestant,
    interleaved,
    markdown,
    optional,
    options,
    parse_assignment,
    quartiles,
)
from benchmarks.timing import spread as with_quartiles
from vitlab.config import MachineConfig, ModelConfig
from vitlab.files import write_bytes
from vitlab.machine import choose_machine, environment
from vitlab.runs.session import origin

Point = dict[str, Any]
AXES: dict[str, list[dict[str, int]]] = {
    "tokens": [
        {"patch_size": patch, "crop": crop}
        for patch, crop in ((14, 28), (7, 28), (4, 20), (4, 28), (3, 24), (2, 20), (2, 24), (2, 28))
    ],
    "embed_dim": [{"embed_dim": dim} for dim in (16, 32, 48, 64, 96, 128, 192)],
    "depth": [{"depth": depth} for depth in (1, 2, 3, 4, 6, 8)],
    "batch_size": [{"batch_size": size} for size in (8, 16, 32, 64, 128, 256, 512, 1024)],
}
FORM = {"kernels": "plain", "attention": "explicit"}  # what block_bytes describes
TERMS = {"a": "an image", "b": "FLOPs", "c": "bytes", "d": "operations"}
LABELS = {"tokens": "tokens", "embed_dim": "width (embed_dim)", "depth": "depth (blocks)", "batch_size": "batch size"}


def block_bytes(config: ModelConfig, product: int, fused: bool) -> int:
    """Bytes of activations that one block reads and writes in its forward pass on one image.

    Letters: N tokens, D embed_dim, h heads, d width of a head, H hidden units of the MLP. A number that goes into or
    comes out of a product takes ``product`` bytes (4, or 2 in bf16), one of the residual stream or a norm 4 bytes.
    Numbers read plus numbers written:

    - two norms 2 x 2 N D and two sums 2 x 2 N D in 4 bytes; each sum also reads its branch, N D
    - in bf16 each norm's result is converted: N D in 4 bytes and N D in 2 ("merged": the values too)
    - queries, keys and values: read N D, write 3 N h d ("merged": one of the three, from one head of width D)
    - scores: read 2 N h d, write h N^2; scaling 2 h N^2; softmax 2 h N^2; product with the values: read
      h N^2 + N h d, write N h d. ``fused`` attention reads 3 N h d, writes N h d and never stores the scores.
    - copies into the layout that products need, three before attention and one after: 4 x 2 N h d (not if merged or
      fused)
    - projection: read N h d, write N D
    - MLP: read N D, write N H; activation 2 N H; read N H, write N D
    """
    tokens, dim, heads = config.grid**2 + (config.pool == "cls"), config.embed_dim, config.num_heads
    attends, merged = config.attn_form != "none", config.attn_form == "merged"
    width = dim if merged else heads * config.width_per_head
    branches = 1 + attends
    residual = 4 * branches * 4 * tokens * dim
    converted = (branches + merged) * (4 + product) * tokens * dim if product < 4 else 0
    mlp = 3 * tokens * dim + 4 * tokens * config.mlp_hidden
    if not attends:
        return residual + converted + product * mlp
    linear = 3 * tokens * dim + (2 if merged else 4) * tokens * width
    copies = 0 if merged or fused else 8 * tokens * width
    scores = 4 * tokens * width + (0 if fused else 6 * heads * tokens**2)
    return residual + converted + product * (mlp + linear + copies + scores)


def fit(points: list[Point]) -> dict[str, float]:
    """The model's coefficients in seconds per unit, by least squares of the relative errors."""
    table = np.array([[*features(point).values()] for point in points])
    measured = np.array([point["seconds_per_image"]["median"] for point in points])
    relative = table / measured[:, None]
    size = np.linalg.norm(relative, axis=0)
    found, _ = nnls(relative / size, np.ones(len(points)))
    return {name: float(value) for name, value in zip(TERMS, found / size, strict=True)}


def features(point: Point) -> dict[str, float]:
    """The quantities that the coefficients multiply."""
    launched = point["operations"] / point["batch_size"]
    return {"a": 1.0, "b": point["flops_per_image"], "c": point["bytes_per_image"], "d": launched}


def modelled(point: Point, coefficients: dict[str, float]) -> float:
    """Seconds per image according to the model."""
    return sum(coefficients[name] * value for name, value in features(point).items())


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all points in turn and fit the model."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    given = dict(map(parse_assignment, arguments.knobs))
    here = {"data": "digits", "threads": machine.threads, "precision": machine.precision} | FORM | given
    axes = {name: steps[:2] for name, steps in AXES.items()} if arguments.quick else AXES
    if arguments.quick:
        here |= {"embed_dim": 8, "batch_size": 4}
    base = contestant(arguments.base, **here)
    points: list[Point] = []
    calls: dict[str, Any] = {}
    for axis, variations in axes.items():
        for knobs in variations:
            config = contestant(arguments.base, **(here | knobs))
            name = config.digest()
            if name not in calls:
                calls[name] = random_step(config, arguments.noise_seed)
            points.append({"axis": axis, "name": name, "knobs": knobs} | describe(calls[name]))
    rounds, turn = (2, 0.02) if arguments.quick else (arguments.rounds, arguments.turn)
    taken = interleaved(machine, calls, rounds, turn)
    for point in points:
        point["seconds_per_image"] = quartiles([seconds / point["batch_size"] for seconds in taken[point["name"]]])
    unique = list({point["name"]: point for point in points}.values())
    return {
        "environment": environment(machine) | origin(),
        "settings": {"rounds": rounds, "turn_seconds": turn, "quick": arguments.quick, "base": base.to_dict()},
        "coefficients": fit(unique),
        "points": points,
    }


def random_step(config: Any, seed: int) -> ReadyStep:
    """A step on noise of the network's input size; of the data set, only the number of classes matters."""
    bench = set_up(config)
    size, side, device = config.train.batch_size, config.model.input_side, bench.task.machine.device
    draw = bench.task.machine.generator(seed, "growth")
    channels, classes = bench.prepared.dataset.card.channels, len(bench.prepared.dataset.card.classes)
    images = torch.randn(size, channels, side, side, generator=draw, device=device)
    return ReadyStep(bench, images, torch.randint(0, classes, (size,), generator=draw, device=device))


def describe(step: ReadyStep) -> Point:
    """Sizes and costs of one point."""
    prepared = step.bench.prepared
    config, machine = prepared.config.model, prepared.task.machine
    tokens = config.grid**2 + (config.pool == "cls")
    fused = machine.fuses_attention(tokens=config.grid**2)
    product = 2 if machine.precision == "bf16" else 4
    step()  # the first step also allocates the optimizers' state
    return {
        "tokens": tokens,
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "batch_size": len(step.labels),
        "fused_attention": fused,
        "flops_per_image": 3 * prepared.model.describe().flops_per_image,
        "bytes_per_image": 3 * config.depth * block_bytes(config, product, fused),
        "operations": sum(operators_of(machine, step).calls.values()),
    }


def report(measured: dict[str, Any]) -> str:
    """The points with the model's predictions, its coefficients and its errors."""
    head = ["axis", *LABELS.values(), "MFLOP", "MB", "operations a step", "µs an image", "model", "error"]
    rows: list[list[str]] = []
    errors: dict[str, float] = {}
    for point in measured["points"]:
        model, middle = modelled(point, measured["coefficients"]), point["seconds_per_image"]["median"]
        errors[point["name"]] = abs(model / middle - 1)  # the base is a point on several axes
        costs = [f"{point[name] / 1e6:.2f}" for name in ("flops_per_image", "bytes_per_image")]
        cells = [point["axis"], *(str(point[name]) for name in LABELS), *costs, str(point["operations"])]
        cells += [with_quartiles(point["seconds_per_image"], 1e6), f"{1e6 * model:,.1f}"]
        rows.append([*cells, f"{100 * (model / middle - 1):+.0f} %"])
    lines = [markdown(head, rows), "", explanation(measured["coefficients"])]
    mean, most = np.mean([*errors.values()]), max(errors.values())
    lines += [f"Relative error {100 * mean:.0f} % on average, {100 * most:.0f} % at most."]
    return "\n".join([*lines, circumstances(measured["environment"])])


def explanation(coefficients: dict[str, float]) -> str:
    """The coefficients as rates."""
    a, b, c, d = (coefficients[name] for name in TERMS)
    rates = [f"{1 / (1e9 * value):,.0f} {unit}" if value else "none" for value, unit in ((b, "GFLOP/s"), (c, "GB/s"))]
    return f"Model: {1e6 * a:.1f} µs an image, products {rates[0]}, bytes {rates[1]}, {1e6 * d:.1f} µs an operation."


def draw(measured: dict[str, Any], path: Path) -> None:
    """Four panels: measured points with their quartiles, and the model as a line."""
    optional("matplotlib").use("Agg")
    figure, panels = optional("matplotlib.pyplot").subplots(2, 2, figsize=(9.0, 6.6), layout="constrained")
    for (axis, label), panel in zip(LABELS.items(), panels.flat, strict=True):
        points = sorted((p for p in measured["points"] if p["axis"] == axis), key=lambda point: float(point[axis]))
        x = [point[axis] for point in points]
        times = [point["seconds_per_image"] for point in points]
        low, middle, high = (1e6 * np.array([time[name] for time in times]) for name in ("q1", "median", "q3"))
        model = [1e6 * modelled(point, measured["coefficients"]) for point in points]
        panel.plot(x, model, color="tab:orange", label="model")
        panel.errorbar(x, middle, [middle - low, high - middle], fmt="o", color="tab:blue", label="measured", capsize=3)
        if axis == "batch_size":
            panel.set_xscale("log", base=2)
            panel.set_xticks(x, [str(value) for value in x])
        panel.set_ylim(bottom=0)
        panel.set_xlabel(label, fontsize=12)
        panel.set_ylabel("training step, µs an image", fontsize=12)
        panel.tick_params(labelsize=11)
        panel.grid(alpha=0.3)
    panels.flat[0].legend(fontsize=12)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    write_bytes(path, image.getvalue())


def measure_and_draw(measured: dict[str, Any], path: Path | None) -> str:
    """The report; also draws the picture if ``path`` is given."""
    if path is not None:
        draw(measured, path)
    return report(measured)


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("--picture", type=Path, help="draw the measurement to this PNG file")
    parser.add_argument("--base", default="small", metavar="PRESET")
    parser.add_argument("--knobs", nargs="*", default=[], metavar="NAME=VALUE", help="for all points")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=float, default=0.3, metavar="SECONDS", help="about how long each turn takes")
    parser.add_argument("--noise-seed", type=int, default=0)
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), partial(measure_and_draw, path=arguments.picture))


if __name__ == "__main__":
    raise SystemExit(main())
