"""Tables and verdicts of docs/learn/, from the committed studies; docs.make_tables puts them into the pages.

`python -m docs.make_exercises` draws patch-cost.png.

A verdict compares each setting with one reference, in pairs of runs with the same seed: the mean difference of test
accuracy with its 95 % interval (Student's t). An interval that contains 0 gives no verdict.
"""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from scipy.stats import t as student

from docs.make_tutorial import WIDTH, keep
from vitlab.config.presets import IMAGE_PATCH_ROWS, PROJECTION_ROWS
from vitlab.look import style
from vitlab.look.style import BLUE, RED
from vitlab.text import counted, listed

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "studies"
DUEL = ROOT / "benchmarks" / "results" / "duel-xeon-2-threads.json"
DUELLISTS = {
    "keras:keras-cnn": "CNN of keras.io",
    "small": "ViT `small`",
    "cnn-tuned": "CNN `cnn-tuned`",
    "fast": "ViT `fast`",
}
# Of each study the cell that the others are compared with.
REFERENCES = {
    "learning-rate": "lr 0.001",
    "batch-size": "batch_size 256",
    "patch-size": "patch_size 14",
    "patch-size-long": "patch_size 14",
    "cut-edges": "image_size 30",
    "dimension": "embed_dim 64",
    "depth": "depth 2",
    "weight-decay": "weight_decay 0, shift 0",
    "augmentation-all": "rotate 0, zoom 0, shift 0, shear 0",
    "augmentation": "rotate 0, zoom 0, shift 0, shear 0",
    "pool": "pool mean",
    "attention": "attn_form qkv, pos_embed learned",
}
# Cells with a long name.
NAMES = {
    "rotate 0, zoom 0, shift 0, shear 0": "no augmentation",
    "rotate 12, zoom 0.12, shift 2, shear 8": "augmentation",
    "attn_form none, pos_embed none": "neither",
    "attn_form none, pos_embed learned": "positions only",
    "attn_form qkv, pos_embed none": "attention only",
    "attn_form qkv, pos_embed learned": "both",
}


@dataclass(frozen=True)
class Line:
    """A cell: test accuracies in percent by seed, arithmetic of a forward pass, and the paired difference from the
    reference in points with its 95 % interval (none for the reference itself)."""

    cell: str
    accuracies: dict[int, float]
    mflop: float
    difference: float | None = None
    margin: float | None = None

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.mean(self.accuracies.values())

    @property
    def verdict(self) -> str:
        """In one or two words."""
        if self.difference is None or self.margin is None:
            return "(reference)"
        if abs(self.difference) <= self.margin:
            return "cannot tell"
        return "better" if self.difference > 0 else "worse"


def rows_of(name: str) -> list[dict[str, Any]]:
    """The finished runs of a committed study."""
    texts = (STUDIES / f"learn-{name}" / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, texts) if row["status"] == "done"]


def lines_of(name: str) -> list[Line]:
    """The cells of a study in their order, each compared with the reference."""
    found: dict[str, Line] = {}
    for row in rows_of(name):
        line = found.setdefault(row["cell"], Line(row["cell"], {}, row["flops_per_image"] / 1e6))
        line.accuracies[row["seed"]] = 100 * row["test_top1"]
    order = [cell["name"] for cell in json.loads((STUDIES / f"learn-{name}" / "study.json").read_text())["cells"]]
    reference = found[REFERENCES[name]]
    return [compared(found[cell], reference) for cell in order]


def compared(line: Line, reference: Line) -> Line:
    """The line with its difference from the reference."""
    if line is reference:
        return line
    difference, margin = paired(line.accuracies, reference.accuracies)
    return Line(line.cell, line.accuracies, line.mflop, difference, margin)


def paired(ours: dict[int, float], theirs: dict[int, float]) -> tuple[float, float]:
    """Mean difference of runs with the same seed, and half the width of its 95 % interval."""
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    count = len(differences)
    margin = student.ppf(0.975, count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return statistics.mean(differences), float(margin)


def table(name: str) -> str:
    """The Markdown table of a study, with its circumstances."""
    lines = lines_of(name)
    costs = len({line.mflop for line in lines}) > 1
    heads = ["setting", "accuracy %", "difference", "verdict", *["MFLOP"] * costs]
    grid = [
        [
            NAMES.get(line.cell, line.cell),
            accuracy_text(line),
            difference_text(line),
            line.verdict,
            *[f"{line.mflop:.1f}"] * costs,
        ]
        for line in lines
    ]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *grid))
    about = json.loads((STUDIES / f"learn-{name}" / "table.json").read_text(encoding="utf-8"))["circumstances"]
    beside = f", {about['beside']} runs at a time" if about["beside"] > 1 else ""
    note = (
        f"{counted(len(lines[0].accuracies), 'seed')}, {about['train_images']:,} training images, "
        f"{counted(round(about['epochs']), 'epoch')}; {about['device_name']}, {counted(about['threads'], 'thread')}"
        f"{beside}, {about['precision']}, {about['date']}. All runs: `studies/learn-{name}/`."
    )
    return f"{body}\n\n{wrapped(note)}"


def wrapped(text: str) -> str:
    """A paragraph, broken into lines as in the rest of the pages."""
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def accuracy_text(line: Line) -> str:
    """93.69 ± 1.52."""
    return f"{line.mean:.2f} ± {statistics.stdev(line.accuracies.values()):.2f}"


def difference_text(line: Line) -> str:
    """-0.42 ± 0.12."""
    return "" if line.difference is None else f"{line.difference:+.2f} ± {line.margin:.2f}"


def verdict(name: str) -> str:
    """The same as one paragraph."""
    lines = lines_of(name)
    parts = {word: [line for line in lines if line.verdict == word] for word in ("better", "worse", "cannot tell")}
    reference = next(line for line in lines if line.difference is None)
    clear = [
        f"{worded(line.cell)} is {word} by {abs(line.difference or 0):.2f} ± {line.margin:.2f} points"
        for word in ("better", "worse")
        for line in parts[word]
    ]
    unit = " pixels" if reference.cell.startswith("image_size") else ""
    said = f"*Our study*: compared with {worded(reference.cell)}{unit} ({reference.mean:.2f} %), "
    said += f"{listed(clear)} (95 % intervals)." if clear else "nothing is clearly better or worse."
    if unclear := parts["cannot tell"]:
        each = [f"{worded(line.cell)} ({difference_text(line)})" for line in unclear]
        said += f" For {listed(each)}, {counted(len(reference.accuracies), 'seed')} cannot tell."
    return wrapped(said)


def worded(cell: str) -> str:
    """A cell's name for a sentence."""
    knob, _, value = cell.partition(" ")
    words = {"image_size": f"{value} x {value}", "embed_dim": f"dimension {value}"}
    return words.get(knob, f"`{cell}`")


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[0].upper() + text[1:]


def seed_tables() -> str:
    """The two tables that the seed page published."""
    tokens = {pair: (pair[0] // pair[1]) ** 2 for pair in IMAGE_PATCH_ROWS}
    one = "\n".join(
        f"| {image} / {patch} | {tokens[image, patch]} | {edge(image, patch)} | {accuracy:.2f} | {seconds:.0f} |"
        for (image, patch), (accuracy, seconds) in IMAGE_PATCH_ROWS.items()
    )
    two = "\n".join(
        f"| {dim} | {accuracy:.2f} | {seconds:.0f} |" for dim, (accuracy, seconds) in PROJECTION_ROWS.items()
    )
    return (
        f"| image / patch size | patches | cut off | accuracy % | seconds |\n{'| --- ' * 5}|\n{one}\n\n"
        f"(8 blocks, dimension 48, batches of 128.) And with images of 28 and patches of 7 pixels:\n\n"
        f"| projection dimension | accuracy % | seconds |\n{'| --- ' * 3}|\n{two}"
    )


def edge(image: int, patch: int) -> str:
    """How many pixels are cut off."""
    return f"{image % patch} pixels" if image % patch else "nothing"


def chance() -> str:
    """How far apart runs are that differ in nothing but the seed."""
    said = []
    for name, place in (("dimension", "the network of the command"), ("patch-size", "a network of exercise 4")):
        line = lines_of(name)[-1 if name == "dimension" else 0]
        each = listed([f"{score:.2f}" for score in sorted(line.accuracies.values())])
        said.append(f"{place} (`{line.cell}`): {each} %")
    return wrapped(
        f"{sentence('; '.join(said))}. The runs are in `studies/learn-dimension/` and `studies/learn-patch-size/`."
    )


def duel() -> str:
    """The best networks against the CNN of keras.io, in four columns."""
    runs = json.loads(DUEL.read_text(encoding="utf-8"))["runs"]
    lines = []
    for name, words in DUELLISTS.items():
        own = [run for run in runs if run["contestant"] == name]
        accuracies = [100 * run["end"]["test_top1"] for run in own]
        seconds = statistics.median(run["end"]["train_seconds"] for run in own)
        parts = own[0]["about"]["parameters"]
        parameters = parts if isinstance(parts, int) else sum(parts.values())
        spread = f"{statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}"
        lines.append(f"| {words} | {parameters:,} | {spread} | {seconds:.1f} |")
    head = f"| network | parameters | accuracy % | training s |\n{'| --- ' * 4}|"
    note = (
        f"Mean ± standard deviation of {counted(len(own), 'seed')}, median time, on two cores of an Intel Xeon. "
        "`fast` and `cnn-tuned` train on all 60,000 images, `small` and the CNN of keras.io on 54,000. "
        "[All about this comparison](../understand/speed.md#the-duel)."
    )
    return "\n".join([head, *lines]) + f"\n\n{wrapped(note)}"


def tables() -> dict[str, str]:
    """Every generated part of the pages, by its mark."""
    made = {"learn/seed-tables": seed_tables(), "learn/duel": duel(), "learn/chance": chance()}
    for name in REFERENCES:
        made |= {f"learn/{name}": table(name), f"learn/verdict-{name}": verdict(name)}
    return made


@style.applied
def draw_patch_cost(once: list[Line], longer: list[Line]) -> Figure:
    """Accuracy against arithmetic of the patch sizes after one epoch, and of some after eight; each seed is a dot."""
    figure, axes = style.subplots(WIDTH, 3.1)
    for lines, colour, marker, name in ((once, BLUE, "o", "1 epoch"), (longer, RED, "s", "8 epochs")):
        axes.plot([line.mflop for line in lines], [line.mean for line in lines], "-", color=colour, label=name)
        for line in lines:
            values = list(line.accuracies.values())
            axes.plot([line.mflop] * len(values), values, marker, color=colour, alpha=0.6)
    places = [line.mflop for line in once]
    sides = [int(line.cell.split()[-1]) for line in once]
    tokens = [counted((28 // side) ** 2, "token") for side in sides]
    names = [f"{side} x {side}\n{count}\n{at:.1f}" for side, count, at in zip(sides, tokens, places, strict=True)]
    axes.set(xscale="log", xlabel="patch, tokens, and MFLOP per image", ylabel="test accuracy in %")
    axes.set_xlim(places[-1] * 0.6, places[0] * 1.7)
    axes.set_xticks(places, names)
    axes.minorticks_off()
    axes.set_title("accuracy and cost of patch sizes")
    axes.legend(loc="lower center")
    axes.grid(axis="y")
    return figure


if __name__ == "__main__":
    keep("patch-cost", draw_patch_cost(lines_of("patch-size"), lines_of("patch-size-long")))
