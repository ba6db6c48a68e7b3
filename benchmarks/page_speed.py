"""The web page's networks in headless Chromium: milliseconds per reading, and how far their logits differ from torch's.

    python -m benchmarks.page_speed RUN [RUN ...] --out benchmarks/results/NAME.json
    python -m benchmarks.page_speed --show benchmarks/results/NAME.json

RUN is the folder of a finished run, preferably with its data set on this machine: 100 test images, beginning with one
of each class, are read once for the comparison and then repeatedly for the timing; runs take turns. Everything goes
through the page's modules, as a drawing does: a message to the worker, preprocessing without centring, the network, a
reply.

    forward       the network alone, from input to logits; this is the time that the page displays
    reading       from the call to the answer, on the main thread, with attention and logit lens
    deletion map  the same with a deletion map: one more forward pass per patch

The server sends the headers that give Chromium's clock a resolution of 5 microseconds instead of 100.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import carry_out, markdown, options
from tests.browser import STRICT, find_chromium, running, serve_folder, watched
from tests.page import page_folder
from vitlab.config import MachineConfig
from vitlab.errors import VitlabError
from vitlab.export.web import own_examples
from vitlab.machine import choose_machine, environment
from vitlab.predict import Classifier
from vitlab.runs.session import origin

AGREE = 1e-4
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}

READ = """async ([model, count, deletion]) => {
    const { load, read } = await import("/client.js");
    self.loaded ??= {};
    const { examples } = (self.loaded[model] ??= await load(model));
    const { side, channels, images } = examples;
    const [forward, reading, logits] = [[], [], []];
    for (let i = 0; i < count; i++) {
        const drawing = { width: side, height: side, channels, pixels: images[i % images.length] };
        const started = performance.now();
        const answer = await read(model, { drawing, center: false, hidden: [], disturb: {}, want: { deletion } });
        reading.push(performance.now() - started);
        forward.push(answer.milliseconds);
        logits.push(Array.from(answer.logits));
    }
    return { forward, reading, logits, images: images.length };
}"""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all runs in turn."""
    executable = find_chromium()
    if executable is None:
        raise VitlabError("this benchmark needs Chromium, which is not installed")
    readings, rounds, maps = (10, 2, 1) if arguments.quick else (100, 3, 5)
    runs = {path.name: Classifier.load(path) for path in arguments.runs}
    with tempfile.TemporaryDirectory() as folder:
        site = page_folder(Path(folder) / "site", {name: (run, own_examples(run)) for name, run in runs.items()})
        known = {name: json.loads((site / "models" / name / "examples.json").read_text()) for name in runs}
        with (
            serve_folder(site, STRICT | ISOLATED) as base,
            running(executable) as browser,
            watched(browser, base) as (page, complaints),
        ):
            page.goto(f"{base}/engine.html")
            first = {name: page.evaluate(READ, [name, len(known[name]["images"]), False]) for name in runs}
            turns = [
                {name: (page.evaluate(READ, [name, readings, False]), page.evaluate(READ, [name, maps, True]))}
                for _ in range(rounds)
                for name in runs
            ]
            if complaints:
                raise VitlabError(f"the page reported an error: {complaints[0]}")
            browser_version = f"Chromium {browser.version}"
    machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))
    return {
        "environment": environment(machine) | origin() | {"browser": browser_version, "load": os.getloadavg()[0]},
        "settings": {"readings": readings * rounds, "rounds": rounds, "maps": maps * rounds, "quick": arguments.quick},
        "runs": {
            name: about(run)
            | difference(name, first[name]["logits"], known[name]["logits"])
            | times([turn[name] for turn in turns if name in turn])
            for name, run in runs.items()
        },
    }


def about(run: Classifier) -> dict[str, Any]:
    """Identity and size of the network."""
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    return {"preset": run.config.preset, "digest": run.digest, "data": run.data_name, "parameters": parameters}


def difference(name: str, logits: list[list[float]], expected: list[list[float]]) -> dict[str, Any]:
    """The largest difference of the page's logits from torch's; VitlabError if it is too large."""
    gap = np.abs(np.array(logits) - np.array(expected))
    if not gap.max() <= AGREE:  # written this way to catch NaN
        raise VitlabError(f"{name}: the page's logits differ from torch's by {gap.max():.2g}, more than {AGREE:g}")
    agree = int((np.argmax(logits, axis=1) == np.argmax(expected, axis=1)).sum())
    return {"images": len(logits), "same_answer": agree, "largest_difference": float(f"{gap.max():.2g}")}


def times(turns: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Medians and 90th percentiles over all turns, in milliseconds."""
    return {
        "forward_ms": summary([value for plain, _ in turns for value in plain["forward"]]),
        "reading_ms": summary([value for plain, _ in turns for value in plain["reading"]]),
        "deletion_map_ms": summary([value for _, maps in turns for value in maps["reading"]]),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median and 90th percentile, to three digits."""
    median, p90 = np.percentile(values, [50, 90])
    return {"median": float(f"{median:.3g}"), "p90": float(f"{p90:.3g}")}


def report(measured: Mapping[str, Any]) -> str:
    """The table, and where and when it was measured."""
    rows = [
        [
            f"`{name}`",
            f"{run['parameters']:,}",
            *(f"{run[what]['median']:g} ({run[what]['p90']:g})" for what in ("forward_ms", "reading_ms")),
            f"{run['deletion_map_ms']['median']:g}",
            f"{run['largest_difference']:g}",
        ]
        for name, run in measured["runs"].items()
    ]
    head = ["run", "parameters", "forward ms", "reading ms", "deletion map ms", "largest difference from torch"]
    place, settings = measured["environment"], measured["settings"]
    counts = {run["images"] for run in measured["runs"].values()}
    return (
        f"{markdown(head, rows)}\n\n{place['browser']}, headless, {place['device_name']}, "
        f"{place['started_utc'][:10]}; median (90th percentile) of {settings['readings']} readings; "
        f"differences over {', '.join(map(str, sorted(counts)))} images. "
        f"Other programs ran on the machine: load {place['load']:.1f}."
    )


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of finished runs")
    arguments = parser.parse_args()
    return carry_out(arguments, lambda: measure(arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
