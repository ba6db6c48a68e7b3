"""Corrections in the page: digits that the network `mnist` reads wrongly are drawn and corrected; what has it learned?

    python -m benchmarks.corrections --out benchmarks/results/NAME.json
    python -m benchmarks.corrections --show benchmarks/results/NAME.json

Headless Chromium opens the exported page. Digits of the kinds below are drawn in turn, each with its own jitter, until
the network has read 20 of them wrongly. Each of these is corrected in the panel "Teach it", which then trains. New
drawings of the kinds that were corrected, with other jitter, are read before and after; they are never chosen by how
they are read. The page measures accuracy and loss on images that it carries and does not learn from, and torch measures
the downloaded network on all test images of MNIST.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.timing import carry_out, markdown, options
from tests.browser import STRICT, download, find_chromium, running, serve_folder, watched
from vitlab.config import MachineConfig
from vitlab.data import load_dataset
from vitlab.errors import VitlabError
from vitlab.export.web import export_web
from vitlab.machine import choose_machine, environment
from vitlab.predict import Classifier
from vitlab.runs.session import origin
from vitlab.runs.zoo import place
from vitlab.text import counted

if TYPE_CHECKING:
    from playwright.sync_api import Page

WRONG = 20
NEW = 10  # new drawings of each kind
MOST = 400  # drawings to look for wrong ones
# Follows a link, which must show another drawing, and waits until the network has read it.
FOLLOW = """(address) => new Promise((done) => {
    let gone = false;
    const watcher = new MutationObserver(() => {
        const answered = document.body.classList.contains("answered");
        gone ||= !answered;
        if (!gone || !answered) return;
        watcher.disconnect();
        done();
    });
    watcher.observe(document.body, { attributeFilter: ["class"] });
    location.hash = address;
})"""

Line = list[tuple[float, float]]


def arc(x: float, y: float, wide: float, high: float, start: float, end: float) -> Line:
    """Points of an ellipse, between two angles in degrees; 0 is right, 90 is down."""
    angles = np.radians(np.linspace(start, end, 14))
    return [(x + wide * math.cos(angle), y + high * math.sin(angle)) for angle in angles]


# kind -> digit, lines on a square of 255 x 255
KINDS: dict[str, tuple[int, list[Line]]] = {
    "7 with a bar and a foot": (7, [[(75, 60), (180, 60), (115, 200), (165, 203)], [(85, 130), (175, 126)]]),
    "1 with a long flag and a base": (1, [[(70, 125), (135, 50), (135, 205)], [(75, 205), (195, 205)]]),
    "slanted 4": (4, [[(140, 50), (60, 120), (175, 165)], [(195, 75), (105, 215)]]),
    "open 9": (9, [[(165, 70), (120, 55), (85, 85), (100, 120), (140, 122)], [(180, 65), (172, 140), (160, 215)]]),
    "mirrored 3": (3, [arc(130, 88, 45, 38, -40, -270), arc(130, 165, 52, 42, 270, 40)]),
    "0 with a slash": (0, [arc(128, 128, 55, 78, 0, 360), [(175, 65), (80, 190)]]),
    "mirrored 2": (2, [[*arc(125, 95, 45, 42, 0, -180), (85, 130), (185, 200), (75, 200)]]),
    "6 like a b": (6, [[(90, 40), (90, 195)], arc(122, 165, 35, 36, 180, 540)]),
    "5 like an S": (5, [[*arc(132, 88, 45, 36, -30, -220), *arc(125, 165, 50, 40, -60, 150)]]),
    "8 of two rings": (8, [arc(128, 78, 30, 30, 0, 360), arc(128, 172, 36, 36, 0, 360)]),
}


def link(lines: list[Line], draw: np.random.Generator) -> str:
    """The address, after #, of one drawing: turned, sheared, squeezed, shifted, each point displaced, any pen."""
    angle, shear = draw.uniform(-0.17, 0.17), draw.uniform(-0.15, 0.15)
    wide, high = draw.uniform(0.8, 1.1, 2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    change = turn @ np.array([[wide, shear], [0, high]])
    middle, width = 128 + draw.uniform(-12, 12, 2), int(draw.integers(16, 31))
    data = bytearray()
    for line in lines:
        points = (np.array(line) - 128 + draw.normal(0, 3, (len(line), 2))) @ change.T + middle
        data += bytes([width, len(line), *np.clip(np.rint(points), 0, 255).astype(np.uint8).ravel().tolist()])
    return "model=mnist&sure=0&strokes=" + base64.urlsafe_b64encode(bytes(data)).decode().rstrip("=")


def answer(page: Page, address: str) -> str:
    """What the page reads in this drawing. The network that is chosen stays: the link does not name one."""
    page.evaluate(FOLLOW, address)
    return page.inner_text("#answer")


def one(page: Page, seed: int, wanted: int, out: Path, before: Classifier) -> dict[str, Any]:
    """Twenty wrong ones, corrected and taught."""
    draw = np.random.default_rng(seed)
    kinds = list(KINDS)
    wrong: Counter[str] = Counter()
    tried = 0
    while wrong.total() < wanted and tried < MOST:
        kind = kinds[tried % len(kinds)]
        digit, lines = KINDS[kind]
        tried += 1
        if answer(page, link(lines, draw)) != str(digit):
            page.click(f"#correct-labels button:nth-child({digit + 1})")
            wrong[kind] += 1
    if page.locator("#correct-list li").count() != wrong.total():
        raise VitlabError("the page has not collected every correction")
    new = [(kind, KINDS[kind][0], link(KINDS[kind][1], draw)) for kind in kinds if wrong[kind] for _ in range(NEW)]
    read = {"before": [answer(page, address) == str(digit) for _, digit, address in new]}
    started = time.perf_counter()
    page.click("#correct-teach")
    page.wait_for_selector("#correct-now:has-text('Taught')", timeout=600_000)
    seconds = time.perf_counter() - started
    read["after"] = [answer(page, address.removeprefix("model=mnist&")) == str(digit) for _, digit, address in new]
    if "Corrected here" not in page.inner_text("#selftest"):
        raise VitlabError("the page went back to the original network")
    table = page.locator("#correct-table tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(c => c.innerText))"
    )
    download(page, "#correct-save", out, 2)
    rows = {
        kind: {
            "corrections": wrong[kind],
            "new": NEW,
            **{
                when: sum(r for r, (k, _, _) in zip(right, new, strict=True) if k == kind)
                for when, right in read.items()
            },
        }
        for kind in kinds
        if wrong[kind]
    }
    return {
        "seed": seed,
        "drawn": tried,
        "corrections": wrong.total(),
        "seconds": round(seconds, 1),
        "kinds": rows,
        "page": table,
        "mnist": {"before": tested(before), "after": tested(Classifier.load(out))},
    }


def tested(classifier: Classifier) -> dict[str, float]:
    """Accuracy and loss on MNIST's test images."""
    test = load_dataset("mnist").test
    assert test is not None
    labels = torch.from_numpy(test.labels)
    model = classifier.model.eval()
    with torch.inference_mode():
        parts = [model(classifier.preprocess(part)) for part in torch.from_numpy(test.images).split(1000)]
    logits = torch.cat(parts)
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    return {"accuracy": (logits.argmax(dim=1) == labels).double().mean().item(), "loss": round(loss, 5)}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Each seed on a fresh page."""
    executable = find_chromium()
    if executable is None:
        raise VitlabError("this benchmark needs Chromium, which is not installed")
    before = Classifier.load(place("mnist"))
    seeds, wanted = ([0], 3) if arguments.quick else (list(range(arguments.seeds)), WRONG)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        export_web([before], site)
        lesson = json.loads((site / "lesson.json").read_text())
        with serve_folder(site, STRICT) as base, running(executable) as browser:
            version = f"Chromium {browser.version}"
            runs = []
            for seed in seeds:
                with watched(browser, base, viewport={"width": 1280, "height": 900}) as (page, complaints):
                    page.goto(base)
                    page.wait_for_selector("body.settled", timeout=60_000)
                    runs.append(one(page, seed, wanted, Path(folder) / str(seed), before))
                    if complaints:
                        raise VitlabError(f"the page reported an error: {complaints[0]}")
    machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))
    return {
        "environment": environment(machine) | origin() | {"browser": version, "load": os.getloadavg()[0]},
        "settings": {"wrong": wanted, "new": NEW, "rehearsed": lesson["data"], "quick": arguments.quick},
        "runs": runs,
    }


def report(result: dict[str, Any]) -> str:
    """A row for each kind, over all seeds, and one for what it knew before."""
    runs = result["runs"]
    rows = []
    for kind in KINDS:
        found = [run["kinds"][kind] for run in runs if kind in run["kinds"]]
        if found:
            sums = {name: sum(row[name] for row in found) for name in ("corrections", "new", "before", "after")}
            rows.append(
                [kind, str(sums["corrections"]), *(f"{sums[when]} of {sums['new']}" for when in ("before", "after"))]
            )
    for name, scale, digits, unit in (("accuracy", 100, 2, " %"), ("loss", 1, 4, "")):
        means = [statistics.mean(run["mnist"][when][name] for run in runs) for when in ("before", "after")]
        rows.append(
            [f"MNIST's 10,000 test images, {name}", "", *(f"{scale * mean:.{digits}f}{unit}" for mean in means)]
        )
    known = f"{runs[0]['page'][1][0].split()[0]} images of the page"
    for number, name in ((1, "accuracy"), (2, "loss")):
        cells = [[float(run["page"][number][when].removesuffix(" %")) for run in runs] for when in (1, 2)]
        unit, digits = (" %", 1) if number == 1 else ("", 3)
        means = [f"{statistics.mean(values):.{digits}f}{unit}" for values in cells]
        rows.append([f"{known}, {name}", "", *means])
    there, settings = result["environment"], result["settings"]
    browser = f"{there['browser']}, headless; load {there['load']:.1f}"
    seconds = statistics.mean(run["seconds"] for run in runs)
    return (
        f"{markdown(['new drawings, right', 'corrections', 'before', 'after'], rows)}\n\n"
        f"`mnist`, {counted(len(runs), 'seed')}, {settings['wrong']} corrections each, taught in {seconds:.0f} s; "
        f"rehearsed: training images of {settings['rehearsed']}. {browser}."
    )


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="pages [3]")
    arguments = parser.parse_args()
    return carry_out(arguments, lambda: measure(arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
