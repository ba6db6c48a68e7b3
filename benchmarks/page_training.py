"""Training in the page, in headless Chromium: seconds to 95 %, the final accuracy, and frames per second meanwhile.

    python -m benchmarks.page_training --out benchmarks/results/NAME.json
    python -m benchmarks.page_training --show benchmarks/results/NAME.json

The page of the packaged network `mnist` is exported, and the panel "Train one here" is used as a visitor does, with its
default knobs, once for each seed. Accuracy is on the page's held-out images, which are training images of the data set
that the page does not train on; if MNIST is not on this machine, they are scikit-learn's digits. Seconds count training
alone, without the measurements and the maps; `wall` is everything, from the click to the end. Frames are counted by
requestAnimationFrame while it trains.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.timing import carry_out, markdown, options
from tests.browser import STRICT, find_chromium, running, serve_folder, watched
from vitlab.config import MachineConfig
from vitlab.errors import VitlabError
from vitlab.export.web import export_web
from vitlab.machine import choose_machine, environment
from vitlab.predict import Classifier
from vitlab.runs.session import origin
from vitlab.runs.zoo import place

ENOUGH = 0.95

# What the worker reports is read where the page receives it: from the message itself, not from the page's words.
LISTEN = """
window.progress = [];
const Plain = window.Worker;
window.Worker = class extends Plain {
    constructor(...given) {
        super(...given);
        this.addEventListener("message", ({ data }) => {
            if (data.type !== "progress") return;
            const { step, steps, seconds, images, batch, held } = data;
            window.progress.push({ step, steps, seconds, images, batch, held, now: performance.now() });
        });
    }
};
"""
FRAMES = """() => {
    window.frames_ = [];
    const count = (now) => { window.frames_.push(now); requestAnimationFrame(count); };
    requestAnimationFrame(count);
}"""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train with each seed, each time on a fresh page."""
    executable = find_chromium()
    if executable is None:
        raise VitlabError("this benchmark needs Chromium, which is not installed")
    seeds = [0] if arguments.quick else list(range(arguments.seeds))
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        export_web([Classifier.load(place("mnist"))], site)
        lesson = json.loads((site / "lesson.json").read_text())
        with serve_folder(site, STRICT) as base, running(executable) as browser:
            runs = []
            for seed in seeds:
                with watched(browser, base, viewport={"width": 1280, "height": 900}) as (page, complaints):
                    page.add_init_script(LISTEN)
                    page.goto(base)
                    page.wait_for_selector("body.settled", timeout=60_000)
                    page.select_option("#train-seed-knob", str(seed))
                    if arguments.quick:
                        page.select_option("#train-passes-knob", "1")
                    page.evaluate(FRAMES)
                    page.click("#train-play")
                    page.wait_for_selector("#train-now:has-text('Finished')", timeout=1_800_000)
                    page.wait_for_timeout(500)
                    runs.append(facts(seed, page.evaluate("window.progress"), page.evaluate("window.frames_")))
                    if complaints:
                        raise VitlabError(f"the page reported an error: {complaints[0]}")
            browser_version = f"Chromium {browser.version}"
    machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))
    return {
        "environment": environment(machine) | origin() | {"browser": browser_version, "load": os.getloadavg()[0]},
        "settings": {
            "data": lesson["data"],
            "train": lesson["train"],
            "held": lesson["held"],
            "quick": arguments.quick,
        },
        "runs": runs,
    }


def facts(seed: int, progress: list[dict[str, Any]], frames: list[float]) -> dict[str, Any]:
    """One training: its curve and the figures from it."""
    scored = [one for one in progress if one["held"] is not None]
    start, end = progress[0]["now"], progress[-1]["now"]
    enough = next((one for one in scored if one["held"]["accuracy"] >= ENOUGH), None)
    during = [frame for frame in frames if start <= frame <= end]
    gaps = sorted(after - before for before, after in itertools.pairwise(during))
    return {
        "seed": seed,
        "seconds_to_95": None if enough is None else round(enough["seconds"], 2),
        "wall_to_95": None if enough is None else round((enough["now"] - start) / 1000, 2),
        "accuracy": scored[-1]["held"]["accuracy"],
        "seconds": round(progress[-1]["seconds"], 2),
        "wall": round((end - start) / 1000, 2),
        "images": progress[-1]["images"],
        "frames_per_second": round(1000 * len(gaps) / (during[-1] - during[0]), 1) if len(gaps) else None,
        "longest_frame_ms": round(gaps[-1], 1) if gaps else None,
        "curve": [[one["images"], round(one["seconds"], 2), round(one["held"]["accuracy"], 4)] for one in scored],
    }


def report(result: dict[str, Any]) -> str:
    """A table with a row for each seed."""
    rows = [
        [
            str(run["seed"]),
            "not reached" if run["seconds_to_95"] is None else f"{run['seconds_to_95']:.1f}",
            f"{100 * run['accuracy']:.1f}",
            f"{run['seconds']:.1f}",
            "-" if run["frames_per_second"] is None else f"{run['frames_per_second']:.0f}",
        ]
        for run in result["runs"]
    ]
    settings, there = result["settings"], result["environment"]
    table = markdown(["seed", "seconds to 95 %", "accuracy, %", "seconds", "frames a second"], rows)
    mean = statistics.mean(100 * run["accuracy"] for run in result["runs"])
    return (
        f"{table}\n\n{settings['train']:,} training and {settings['held']:,} held-out images of {settings['data']}; "
        f"mean accuracy {mean:.1f} %. {there['browser']}, headless; load {there['load']:.1f}."
    )


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings [3]")
    arguments = parser.parse_args()
    return carry_out(arguments, lambda: measure(arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
