"""The page's slider over training time, in headless Chromium: milliseconds for each step, and what it loads.

    python -m benchmarks.page_replay RUN [RUN ...] --out benchmarks/results/NAME.json
    python -m benchmarks.page_replay --show benchmarks/results/NAME.json

RUN is the folder of a finished run with `keep_epochs`. A step is from the slider's event to the frame in which the page
says what the network of that epoch answers: loading (from this machine), unpacking, building the network, one reading,
and drawing the panels. "First" steps load a file that the page does not have yet; the others find it there.
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
from vitlab.config import MachineConfig
from vitlab.errors import VitlabError
from vitlab.export.web import export_web
from vitlab.machine import choose_machine, environment
from vitlab.predict import Classifier
from vitlab.runs.epochs import kept_epochs
from vitlab.runs.folder import RunFolder
from vitlab.runs.session import origin

STEP = """async (to) => {
    const slider = document.getElementById("replay-epoch");
    const place = Math.max(0, Math.min(to, Number(slider.max) - 1));
    const says = document.getElementById("replay-now");
    const before = says.textContent;
    const started = performance.now();
    slider.value = String(place);
    slider.dispatchEvent(new Event("input"));
    while (says.textContent === before || says.textContent.startsWith("Loading")) {
        await new Promise((go) => requestAnimationFrame(go));
    }
    return performance.now() - started;
}"""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Each run on a page of its own."""
    executable = find_chromium()
    if executable is None:
        raise VitlabError("this benchmark needs Chromium, which is not installed")
    rounds = 1 if arguments.quick else 5
    with running(executable) as browser:
        runs = {path.name: slide(browser, path, rounds) for path in arguments.runs}
        browser_version = f"Chromium {browser.version}"
    machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))
    return {
        "environment": environment(machine) | origin() | {"browser": browser_version, "load": os.getloadavg()[0]},
        "settings": {"rounds": rounds, "quick": arguments.quick},
        "runs": runs,
    }


def slide(browser: Any, path: Path, rounds: int) -> dict[str, Any]:
    """Sizes, and times of the steps, of one run."""
    classifier = Classifier.load(path)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        export_web([classifier], site, lesson=False)
        entry = json.loads((site / "models.json").read_text())["models"][0]
        if "replay" not in entry:
            raise VitlabError(f"{path} kept no epochs; train it with --keep-epochs")
        kept = [file.stat().st_size for file in (site / "models" / entry["id"] / "epochs").iterdir()]
        with serve_folder(site, STRICT) as base, watched(browser, base) as (page, complaints):
            page.goto(base)
            page.wait_for_selector("body.settled", timeout=60_000)
            first = [page.evaluate(STEP, len(kept) - 1)]
            page.wait_for_timeout(2000)  # the others are fetched meanwhile
            order = [place for _ in range(rounds) for place in range(len(kept))]
            steps = [page.evaluate(STEP, place) for place in order]
            if complaints:
                raise VitlabError(f"the page reported an error: {complaints[0]}")
    parameters = sum(parameter.numel() for parameter in classifier.model.parameters())
    stored = [file.stat().st_size for file in kept_epochs(RunFolder(path)).values()]
    return {
        "parameters": parameters,
        "kept": len(stored),
        "kept_bytes": sum(stored),
        "on_page": len(kept),
        "on_page_bytes": sum(kept),
        "first_ms": round(first[0], 1),
        "step_ms": [round(float(one), 1) for one in np.percentile(steps, [50, 90])],
        "steps": len(steps),
    }


def report(measured: Mapping[str, Any]) -> str:
    """The table, and where and when it was measured."""
    rows = [
        [
            f"`{name}`",
            f"{run['parameters']:,}",
            f"{run['on_page']} of {run['kept']}, {run['on_page_bytes'] / 1e6:.2f} MB",
            f"{run['step_ms'][0]:g} ({run['step_ms'][1]:g})",
            f"{run['first_ms']:g}",
        ]
        for name, run in measured["runs"].items()
    ]
    place = measured["environment"]
    return (
        f"{markdown(['run', 'parameters', 'epochs on the page', 'ms for a step', 'ms for the first'], rows)}\n\n"
        f"{place['browser']}, headless, {place['device_name']}, {place['started_utc'][:10]}; median (90th percentile). "
        f"Other programs ran on the machine: load {place['load']:.1f}."
    )


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of finished runs with keep_epochs")
    arguments = parser.parse_args()
    return carry_out(arguments, lambda: measure(arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
