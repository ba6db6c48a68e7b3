"""What attention is worth: the same recipe with it, without it, and with something simpler in its place.

    python -m benchmarks.attention_worth --budgets "3 s" "1 min" --seeds 3 --out benchmarks/results/NAME.json
    python -m benchmarks.attention_worth --show benchmarks/results/NAME.json --picture docs/pictures/NAME.png

For digits (MNIST), clothes (Fashion-MNIST) and photos (CIFAR-10, as `cifar10.npz` in the current folder: arrays
x_train, y_train, x_test, y_test), and for trainings of about three seconds, a minute and ten minutes on two cores, four
networks share everything but how patches exchange information:

    attention       the recipe as it is
    its mean        the same trained network, but each head's weights are their mean over training images
    MLP-Mixer       dense layers along the patches instead of attention (arch mixer)
    none            patches meet only in the head, which reads all of them or their mean

All are trained for the same number of epochs, so those without attention take less time. Each run is a separate process
(benchmarks/contestant.py); all networks run with one seed before any runs with the next. The file is saved after each
run, and runs that it already holds are not repeated.
"""

from __future__ import annotations

import argparse
import io
import statistics
from pathlib import Path
from typing import Any

from benchmarks.duel import duel
from benchmarks.timing import markdown, optional
from benchmarks.verdict import circumstances, difference, mean_sd, ratio_interval
from vitlab.errors import StorageError
from vitlab.files import read_json, write_bytes
from vitlab.look.style import BLUE, GREEN, INK, ORANGE, RED

Run = dict[str, Any]
BUDGETS = ("3 s", "1 min", "10 min")
# The recipe of each data set and budget, as a contestant of benchmarks/duel.py.
PHOTOS = "data=cifar10.npz/image_size=32/crop=28/flip=true/rotate=0/shear=0"
RECIPES: dict[tuple[str, str], str] = {
    ("digits", "3 s"): "fast",
    ("digits", "1 min"): "small",
    ("digits", "10 min"): "accurate",
    ("clothes", "3 s"): "fast/data=fashion-mnist/flip=true/rotate=4/shear=3/shift=1",
    ("clothes", "1 min"): "fashion",
    ("photos", "3 s"): f"fast/{PHOTOS}/epochs=0.75",
    ("photos", "1 min"): "colour/data=cifar10.npz/val_fraction=0/epochs=8",
    ("photos", "10 min"): "cifar/data=cifar10.npz",
}
# What stands for attention, and how: knobs that change the recipe, or the accuracy to read from the recipe's own run.
VARIANTS: dict[str, str] = {
    "attention": "",
    "MLP-Mixer": "/arch=mixer",
    "none": "/attn_form=none/attn_bias=false/locality=0/num_heads=1",
}
MEAN = "its mean"
COLOURS = {"attention": BLUE, MEAN: ORANGE, "MLP-Mixer": GREEN, "none": RED}
TICKS = (0.5, 0.6, 0.8, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 40, 50)  # percent, on a logarithmic axis
MARKERS = {"attention": "o", MEAN: "D", "MLP-Mixer": "s", "none": "^"}


def contestants(budgets: list[str]) -> list[str]:
    """Every recipe of these budgets with every variant, for benchmarks/duel.py."""
    recipes = [recipe for (_, budget), recipe in RECIPES.items() if budget in budgets]
    return [recipe + knobs for recipe in recipes for knobs in VARIANTS.values()]


def accuracies(runs: list[Run], recipe: str) -> dict[str, dict[int, float]]:
    """By variant and seed: test accuracy in percent."""
    found = {
        name: {run["seed"]: 100 * run["epochs"][-1]["test_top1"] for run in runs if run["contestant"] == recipe + knobs}
        for name, knobs in VARIANTS.items()
    }
    found[MEAN] = {
        run["seed"]: 100 * run["end"]["test_top1_mean_attention"] for run in runs if run["contestant"] == recipe
    }
    return {name: found[name] for name in COLOURS}


def report(measured: dict[str, Any]) -> str:
    """One line for each recipe and variant, with the difference from the recipe as it is."""
    runs, rows = measured["runs"], []
    for (data, budget), recipe in RECIPES.items():
        scores = accuracies(runs, recipe)
        if not scores["attention"]:
            continue
        for name, own in scores.items():
            if not own:
                rows.append([f"{data}, {budget}", name, "", "", ""])
                continue
            pairs = [own[seed] - scores["attention"][seed] for seed in sorted(own.keys() & scores["attention"].keys())]
            less = "" if name == "attention" else difference(pairs)
            rows.append([f"{data}, {budget}", name, mean_sd([*own.values()]), less, seconds_text(runs, recipe, name)])
    head = ["images, budget", "between patches", "test top-1 %", "difference", "training s"]
    counts = sorted({len(accuracies(runs, recipe)["attention"]) for recipe in RECIPES.values()} - {0})
    return "\n".join(
        [
            markdown(head, rows),
            "",
            f"{' or '.join(map(str, counts))} seeds, ± standard deviation over them. Difference: in points from the",
            "same recipe with attention, by seed; mean ± standard error. Seconds are medians, and in brackets the",
            f"share of the time with attention. {circumstances(runs)}",
        ]
    )


def seconds_text(runs: list[Run], recipe: str, name: str) -> str:
    """Median training seconds of a variant, and its share of the recipe's own time."""
    if name == MEAN:
        return ""
    taken = {
        variant: {r["seed"]: r["epochs"][-1]["train_seconds"] for r in runs if r["contestant"] == recipe + knobs}
        for variant, knobs in VARIANTS.items()
    }
    if not taken[name]:
        return ""
    middle = f"{statistics.median(taken[name].values()):.1f}"
    if name == "attention" or not taken[name].keys() & taken["attention"].keys():
        return middle
    return f"{middle} ({100 * ratio_interval(taken['attention'], taken[name])[0]:.0f} %)"


def draw(measured: dict[str, Any], path: Path) -> None:
    """A panel for each kind of images: errors by budget, a line for each variant, a dot for each seed."""
    optional("matplotlib").use("Agg")
    kinds = list(dict.fromkeys(data for data, _ in RECIPES))
    figure, panels = optional("matplotlib.pyplot").subplots(1, len(kinds), figsize=(9.6, 3.6), layout="constrained")
    for data, panel in zip(kinds, panels, strict=True):
        for name, colour in COLOURS.items():
            points = [
                (place, sorted(100 - score for score in accuracies(measured["runs"], recipe)[name].values()))
                for place, budget in enumerate(BUDGETS)
                if (recipe := RECIPES.get((data, budget)))
            ]
            known = [(place, errors) for place, errors in points if errors]
            middles = [statistics.mean(errors) for _, errors in known]
            style = {"color": colour, "marker": MARKERS[name]}
            panel.plot([place for place, _ in known], middles, label=name, markersize=7, **style)
            for place, errors in known:
                panel.plot([place] * len(errors), errors, ".", color=colour, markersize=4, alpha=0.6)
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(optional("matplotlib.ticker").FixedLocator(TICKS))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_locator(optional("matplotlib.ticker").NullLocator())
        panel.set_xticks(range(len(BUDGETS)), BUDGETS)
        panel.set_xlim(-0.3, len(BUDGETS) - 0.7)
        panel.set_title(data, color=INK)
        panel.set_xlabel("training on two cores")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("wrong on test images, %")
    panels[-1].legend(title="between patches", fontsize=9)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    write_bytes(path, image.getvalue())


def main() -> int:
    """Measure what is missing, or show a saved measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path)
    parser.add_argument("--picture", type=Path, help="draw the measurement to this PNG file")
    arguments = parser.parse_args()
    if arguments.show:
        measured = read_json(arguments.show)
    elif arguments.out:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        measured = duel(contestants(arguments.budgets), seeds, arguments.threads, arguments.out)
    else:
        raise StorageError("nowhere to save the result; add --out FILE")
    if arguments.picture:
        draw(measured, arguments.picture)
    print(report(measured))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
