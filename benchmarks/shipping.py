"""Networks to ship: what int8 costs in accuracy and saves in bytes and time, as ONNX and as C.

    pip install -e '.[bench]'
    python -m benchmarks.shipping mnist-fast mnist runs/accurate --out benchmarks/results/shipping-NAME.json
    python -m benchmarks.shipping --show benchmarks/results/shipping-NAME.json

Each network (a finished run or one of the zoo) is exported four times, ONNX and C in float32 and int8, and every copy
answers all test images of the run's data; its accuracy is set beside torch's on the same images. Calibration and the
gate use the run's validation images, if it has any. Times are of one thread, from stored uint8 images to logits; the
copies take turns. The C code is compiled for this processor (-O3 -march=native); its sizes are also those of the object
file for 32-bit Arm (-Os), and instructions a picture are counted in qemu, where compiler and qemu-arm are installed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import carry_out, circumstances, interleaved, markdown, options, quartiles, spread
from vitlab.config import MachineConfig
from vitlab.export import c
from vitlab.export.gate import Gate, gate_of
from vitlab.export.onnx import onnx_bytes, runtime
from vitlab.export.onnx_int8 import quantized
from vitlab.export.whole import Whole, metadata
from vitlab.machine import Machine, choose_machine, environment
from vitlab.native.build import find_compiler
from vitlab.predict import Classifier
from vitlab.runs.finished import open_run
from vitlab.runs.session import origin

BATCHES = (1, 32)
ARM = ("arm-linux-gnueabihf-gcc", "-std=c11", "-Os", "-ffast-math")
ONE_PICTURE = """
#include "vitlab_model.h"
static uint8_t image[VITLAB_HEIGHT * VITLAB_WIDTH * VITLAB_CHANNELS];
int main(int count, char **words)
{
    float logits[VITLAB_CLASSES];
    (void)words;
    return count > 1 ? vitlab_predict(image, logits) : 0;
}
"""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All networks in turn."""
    machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32", kernels="plain"))
    rounds, turn = (2, 0.02) if arguments.quick else (9, 0.2)
    networks = {name: network(name, machine, rounds, turn, arguments.quick) for name in arguments.networks}
    settings = {"rounds": rounds, "turn_seconds": turn, "quick": arguments.quick}
    return {"environment": environment(machine) | origin(), "settings": settings, "networks": networks}


def network(name: str, machine: Machine, rounds: int, turn: float, quick: bool) -> dict[str, Any]:
    """One network in its four forms."""
    classifier = Classifier.load(name)
    whole, gate = Whole(classifier).eval(), gate_of(classifier, None, 100.0, lambda line: None)
    test = tests_of(classifier, 200 if quick else None)
    with tempfile.TemporaryDirectory(prefix="vitlab-shipping-") as place:
        data = onnx_bytes(whole, metadata(classifier))
        rounded = quantized(data, gate.images)
        forms: dict[str, dict[str, Any]] = {
            "ONNX": {"bytes": len(data), "run": runtime(data, whole.names)},
            "ONNX int8": {"bytes": len(rounded), "run": runtime(rounded, whole.names)},
        }
        for form, int8 in (("C", None), ("C int8", gate)):
            forms[form] = in_c(classifier, whole, Path(place) / form.replace(" ", "-"), int8)
        calls = {
            f"{form} {n}": partial(facts["run"], test.images[:n].contiguous())
            for form, facts in forms.items()
            for n in BATCHES
        }
        taken = interleaved(machine, calls, rounds, turn)
        for form, facts in forms.items():
            facts |= test.check(whole, facts.pop("run"), Path(name))
            facts["seconds"] = {str(n): quartiles(taken[f"{form} {n}"]) for n in BATCHES}
    return {"parameters": sum(map(Tensor.numel, classifier.model.parameters())), "forms": forms}


def tests_of(classifier: Classifier, limit: int | None) -> Gate:
    """The run's test images."""
    asked = {"device": "cpu", "kernels": "plain", "precision": "fp32"}
    split = open_run(classifier.path).prepare(lambda line: None, asked, None, "measuring").dataset.test
    assert split is not None
    return Gate(torch.from_numpy(split.images[:limit]), torch.from_numpy(split.labels[:limit]), "test", 100.0)


def in_c(classifier: Classifier, whole: Whole, folder: Path, int8: Gate | None) -> dict[str, Any]:
    """The network as compiled C, with its sizes."""
    facts = c.export_c(classifier, folder, int8)
    fast = ("-O3", "-march=native", "-ffast-math", *c.FLAGS[2:], c.FLAGS[0])
    own: dict[str, Any] = {"run": c.compiled(find_compiler(), folder, whole, fast)}
    own |= {
        "bytes": facts["weight_bytes"],
        "memory_bytes": facts["memory_bytes"],
        "difference": facts["max_difference"],
    }
    return own | on_arm(folder)


def on_arm(folder: Path) -> dict[str, Any]:
    """Flash and RAM of the object file for 32-bit Arm, and the instructions of one picture; nothing if the compiler or
    qemu is missing."""
    if not (shutil.which(ARM[0]) and shutil.which("qemu-arm")):
        return {}
    (folder / "one.c").write_text(ONE_PICTURE)
    subprocess.run([*ARM, "-c", "vitlab_model.c"], cwd=folder, check=True)
    lines = subprocess.run(["size", "-A", "vitlab_model.o"], cwd=folder, check=True, capture_output=True, text=True)
    sizes = {
        words[0]: int(words[1])
        for words in map(str.split, lines.stdout.splitlines())
        if words[:1] and words[0][0] == "."
    }
    flash = sum(size for name, size in sizes.items() if re.match(r"\.(text|rodata|data)", name))
    subprocess.run([*ARM, "-static", "one.c", "vitlab_model.c", "-o", "one", "-lm"], cwd=folder, check=True)
    with_picture, without = (instructions(folder, arguments) for arguments in (["picture"], []))
    return {"arm_flash_bytes": flash, "arm_ram_bytes": sizes[".bss"], "arm_instructions": with_picture - without}


def instructions(folder: Path, arguments: list[str]) -> int:
    """How many instructions the program runs: qemu logs one line for each."""
    command = ["qemu-arm", "-singlestep", "-d", "nochain,exec", "./one", *arguments]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        return sum(line.startswith(b"Trace") for line in process.stderr)


def report(measured: dict[str, Any]) -> str:
    """A line for each network and form."""
    head = [
        "network",
        "form",
        "top-1, torch",
        "top-1",
        "same answers",
        "weights, kB",
        *(f"ms, {n} at once" for n in BATCHES),
    ]
    arm = ["network", "form", "working memory, kB", "Arm: flash, kB", "RAM, kB", "million instructions an image"]
    rows, arm_rows = [], []
    for name, found in measured["networks"].items():
        for form, facts in found["forms"].items():
            percents = [f"{100 * facts[key]:.2f} %" for key in ("top1", "top1_int8", "same_answers")]
            times = [spread(facts["seconds"][str(n)], 1e3, 2) for n in BATCHES]
            rows.append([f"`{Path(name).name}`", form, *percents, f"{facts['bytes'] / 1e3:.1f}", *times])
            if "arm_flash_bytes" in facts:
                sizes = [f"{facts[key] / 1e3:.1f}" for key in ("memory_bytes", "arm_flash_bytes", "arm_ram_bytes")]
                arm_rows.append([f"`{Path(name).name}`", form, *sizes, f"{facts['arm_instructions'] / 1e6:.1f}"])
    images = {form["images"] for found in measured["networks"].values() for form in found["forms"].values()}
    where = f"On {' or '.join(f'{n:,}' for n in sorted(images))} test images. {circumstances(measured['environment'])}"
    tables = [markdown(head, rows), *([markdown(arm, arm_rows)] if arm_rows else []), where]
    return "\n\n".join(tables)


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("networks", nargs="*", default=["mnist-fast", "mnist"])
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
