"""Prediction speed of torch, vitlab and ONNX Runtime: milliseconds for one image, images per second for many.

    pip install -e '.[bench]'
    python -m benchmarks.inference fast small accurate keras-cnn --out benchmarks/results/NAME.json
    python -m benchmarks.inference --show benchmarks/results/NAME.json

Times only the network in evaluation mode, from preprocessed float32 images to logits. All runtimes take turns in one
process with the same number of threads: torch in fp32 with plain operations; vitlab in fp32, as classifiers predict (by
torch what the kernels do not know); vitlab as it evaluates in bf16, if it does on this machine; ONNX Runtime in fp32,
with the network exported by torch for any batch size. Speed does
not depend on training, so networks are freshly initialised; a little noise on every weight keeps layers that start at
zero from hiding a difference. Logits of the two fp32 runtimes must agree to 1e-4. A preset can have knobs.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import (
    carry_out,
    circumstances,
    contestant,
    interleaved,
    markdown,
    optional,
    options,
    quartiles,
    rate,
    spread,
)
from vitlab.config import MachineConfig
from vitlab.errors import VitlabError
from vitlab.machine import Machine, choose_machine, environment
from vitlab.model import build_model, count_parameters
from vitlab.native.prediction import Predictor, forward_of, library_for_predictions
from vitlab.runs.prepare import Prepared, prepare
from vitlab.runs.session import origin
from vitlab.text import listed

Predict = Callable[[Tensor], Tensor]
BATCHES = (1, 32, 256)
OURS, ONNX = "vitlab fp32", "ONNX Runtime fp32"
AGREE = 1e-4
NOISE = 0.02  # standard deviation of the noise on every weight
BENCH_EXTRA = ("onnx", "onnxscript", "onnxruntime")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all presets, runtimes and batch sizes in turn."""
    versions = {name: optional(name).__version__ for name in BENCH_EXTRA}
    machine = choose_machine(MachineConfig(device="cpu", threads=arguments.threads))
    library_for_predictions(compiles=True)
    batches = (1, 8) if arguments.quick else BATCHES
    rounds, turn = (2, 0.02) if arguments.quick else (arguments.rounds, arguments.turn)
    calls: dict[str, Any] = {}
    presets: dict[str, Any] = {}
    for name in arguments.presets:
        prepared = prepared_for(name, machine)
        runtimes = runtimes_of(prepared)
        presets[name] = about(prepared) | {"differences": differences(name, prepared, runtimes)}
        for runtime, call in runtimes.items():
            calls |= {f"{name} {runtime} {n}": partial(call, noise(prepared, n)) for n in batches}
    taken = interleaved(machine, calls, rounds, turn)
    for name, preset in presets.items():
        preset["seconds"] = {
            runtime: {str(n): quartiles(taken[f"{name} {runtime} {n}"]) for n in batches}
            for runtime in preset["differences"]
        }
    return {
        "environment": environment(machine) | origin() | versions,
        "settings": {"rounds": rounds, "turn_seconds": turn, "quick": arguments.quick, "batches": list(batches)},
        "presets": presets,
    }


def prepared_for(name: str, machine: Machine) -> Prepared:
    """The preset's network with noise on its weights, on `digits`: the smallest data set with MNIST's classes."""
    here = {"data": "digits", "force_flip": True, "device": "cpu", "threads": machine.threads}
    config = contestant(name, **(here | {"precision": machine.precision}))
    prepared = prepare(config, lambda line: None)
    draw = prepared.task.machine.generator(0, "inference weights")
    with torch.no_grad():
        for parameter in prepared.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=NOISE)
    prepared.model.eval()
    return prepared


def runtimes_of(prepared: Prepared) -> dict[str, Predict]:
    """Name -> function, [B, C, S, S] -> [B, K]: the runtimes that compute the same logits."""
    card, machine = prepared.dataset.card, prepared.task.machine
    plain = build_model(prepared.config.model, card.channels, len(card.classes)).eval()
    plain.load_state_dict(prepared.model.state_dict())
    fp32 = replace(machine, precision="fp32")
    as_evaluated = {"vitlab bf16": partial(predict, forward_of(prepared.model, machine), machine)}
    return {
        "torch fp32": partial(predict, plain, fp32),
        OURS: partial(predict, Predictor(plain), fp32),
        **(as_evaluated if machine.precision == "bf16" else {}),
        ONNX: onnx_predict(plain, noise(prepared, 3), machine.threads),
    }


@torch.inference_mode()
def predict(forward: Predict, machine: Machine, images: Tensor) -> Tensor:
    """Logits, computed as `predict_logits` does."""
    with machine.autocast():
        return forward(images).float()


def onnx_predict(model: nn.Module, example: Tensor, threads: int) -> Predict:
    """The network in ONNX Runtime, on ``threads`` threads."""
    runtime = optional("onnxruntime")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    session = runtime.InferenceSession(exported(model, example), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def predict(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return predict


def exported(model: nn.Module, example: Tensor) -> bytes:
    """The network as the bytes of an ONNX file for any number of images, without the exporter's output."""
    shapes = ({0: torch.export.Dim("batch")},)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def noise(prepared: Prepared, count: int) -> Tensor:
    """Random images of the network's input size."""
    side, channels = prepared.config.model.input_side, prepared.dataset.card.channels
    return torch.randn(count, channels, side, side, generator=prepared.task.machine.generator(count, "inference"))


def differences(name: str, prepared: Prepared, runtimes: dict[str, Predict]) -> dict[str, float]:
    """Largest difference of each runtime's logits from the first's; VitlabError if an fp32 runtime differs too much."""
    images = noise(prepared, 97)
    logits = {runtime: call(images) for runtime, call in runtimes.items()}
    reference = next(iter(logits.values()))
    found = {runtime: float((values - reference).abs().max()) for runtime, values in logits.items()}
    if float(reference.std()) < 100 * AGREE:
        raise VitlabError(f"the logits of {name} are nearly constant, so comparing them would prove nothing")
    for runtime, difference in found.items():
        if runtime.endswith("fp32") and not difference <= AGREE:
            raise VitlabError(f"{name}: logits of {runtime} differ from torch's by {difference:.1e}, more than {AGREE}")
    return found


def about(prepared: Prepared) -> dict[str, Any]:
    """Configuration and size of the network."""
    config = prepared.config
    return {
        "config": config.to_dict(),
        "parameters": count_parameters(prepared.model),
        "forward_flops_per_image": prepared.model.describe().flops_per_image,
    }


def report(measured: dict[str, Any]) -> str:
    """One line per preset and runtime."""
    first, *more = measured["settings"]["batches"]
    head = ["preset", "runtime", "ms for one image", *(f"images/s, {n:,} at once" for n in more), "logits differ by"]
    rows = []
    for name, preset in measured["presets"].items():
        for runtime, seconds in preset["seconds"].items():
            rates = [spread(rate(seconds[str(n)], n), digits=0) for n in more]
            difference = preset["differences"][runtime]
            cells = [spread(seconds[str(first)], 1e3, 3), *rates, f"{difference:.1e}" if difference else "0"]
            rows.append([f"`{name}`", runtime, *cells])
    environment = measured["environment"]
    extras = ", ".join(f"{name} {environment[name]}" for name in BENCH_EXTRA)
    return "\n".join([markdown(head, rows), *against_onnx(measured), "", f"{circumstances(environment)} {extras}."])


def against_onnx(measured: dict[str, Any]) -> list[str]:
    """How many times as fast as ONNX Runtime vitlab is in fp32, each round by itself; nothing in older files."""
    sizes, parts = [str(n) for n in measured["settings"]["batches"]], []
    for name, preset in measured["presets"].items():
        seconds = preset["seconds"]
        if OURS in seconds and ONNX in seconds:
            ratios = [np.divide(seconds[ONNX][n]["values"], seconds[OURS][n]["values"]) for n in sizes]
            parts.append(f"`{name}` {listed([f'{np.median(ratio):.2f}' for ratio in ratios])}")
    if not parts:
        return []
    return ["", f"Times as fast as {ONNX}, with {listed(sizes)} at once (medians over rounds): {'; '.join(parts)}."]


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("presets", nargs="*", default=["fast", "small", "accurate", "keras-cnn"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--turn", type=float, default=0.2, metavar="SECONDS", help="about how long each turn takes")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
