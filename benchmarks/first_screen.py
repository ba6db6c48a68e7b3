"""The README's table: what the presets reach, in words that need no explanation.

    python -m benchmarks.first_screen benchmarks/results/duel-xeon-2-threads.json --into README.md

The same runs with every column: benchmarks/duel.py.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.pages import renew
from benchmarks.verdict import mean_sd, ratio_interval
from vitlab.files import read_json

NAME = "first-screen"  # of the table's marks
AGAINST = "keras:keras-cnn"
# Contestants in the table's order: the name shown, and what it is.
SHOWN = {
    "small": ("`small`", "Vision Transformer, the default"),
    "fast": ("`fast`", "smaller, and trained briefly"),
    "fast/attn_form=none/attn_bias=false": ("`fast` without attention", "the same network, attention removed"),
    "cnn-tuned": ("`cnn-tuned`", "the best small CNN that we could build"),
    AGAINST: ("Keras CNN", "the basic CNN from the examples of Keras"),
}


def report(measured: dict[str, Any]) -> str:
    """The table of a duel's runs, and a sentence on how they were measured."""
    runs = {name: [run for run in measured["runs"] if run["contestant"] == name] for name in SHOWN}
    lines = ["| network | what it is | accuracy % | training | times faster |", "| --- | --- | ---: | ---: | ---: |"]
    theirs = seconds(runs[AGAINST])
    for name, (shown, what) in SHOWN.items():
        top1 = mean_sd([100 * run["epochs"][-1]["test_top1"] for run in runs[name]])
        own = seconds(runs[name])
        cells = (shown, what, top1, f"{statistics.median(own.values()):.1f} s", times(own, theirs))
        lines += [
            "| " + " | ".join((*cells[:2], *(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in cells[2:]))) + " |"
        ]
    about = runs["small"][0]["about"]["environment"]
    date = max(run["started_utc"] for every in runs.values() for run in every)[:10]
    lines += [
        "",
        f"Each network was trained {len(theirs)} times from different random starts, `small` and the Keras CNN",
        "on 54,000 training images, the others on all 60,000. Accuracy: the share of the 10,000 test images that are",
        "classified correctly, mean ± standard deviation. Training time (median): without loading and evaluation.",
        f"Times faster: than the Keras CNN. {about['device_name']}, {about['threads']} threads, {date}.",
    ]
    return "\n".join(lines)


def seconds(runs: list[dict[str, Any]]) -> dict[int, float]:
    """Training seconds of each run, by its seed."""
    return {run["seed"]: run["epochs"][-1]["train_seconds"] for run in runs}


def times(own: dict[int, float], theirs: dict[int, float]) -> str:
    """How many times as long ``theirs`` take, with two digits at least."""
    middle = ratio_interval(own, theirs)[0]
    return "1" if own == theirs else f"{middle:.0f}" if middle >= 10 else f"{middle:.1f}"


def main() -> int:
    """Print the table, and put it into pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--into", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    made = report(read_json(arguments.file))
    renew(arguments.into, {NAME: made})
    print(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
