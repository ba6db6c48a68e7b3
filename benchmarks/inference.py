"""Prediction: milliseconds for one image, images a second for many; torch and ONNX Runtime side by side.

    pip install -e '.[bench]'
    python -m benchmarks.inference fast small keras-cnn --out benchmarks/results/NAME.json
    python -m benchmarks.inference --show benchmarks/results/NAME.json

The network alone, in evaluation mode, from preprocessed float32 images to logits, all runtimes in one process with
the same number of threads, in turns: torch in fp32 with plain operations; torch as vitlab chooses on this machine
(precision, kernels); ONNX Runtime in fp32, the network exported by torch with a free batch size. Networks are freshly
initialised, since speed does not depend on training, and then every weight is moved a little, since some layers start
at zero and would hide a difference. Logits of the two fp32 runtimes must agree to 1e-4. A preset may carry knobs.
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
from vitlab.runs.prepare import Prepared, prepare
from vitlab.runs.session import origin

Predict = Callable[[Tensor], Tensor]
BATCHES = (1, 32, 1000)
AGREE = 1e-4
NOISE = 0.02  # standard deviation of what is added to every weight
BENCH_EXTRA = ("onnx", "onnxscript", "onnxruntime")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All presets, runtimes and batch sizes in turns."""
    versions = {name: optional(name).__version__ for name in BENCH_EXTRA}
    machine = choose_machine(MachineConfig(device="cpu", threads=arguments.threads))
    batches = (1, 8) if arguments.quick else BATCHES
    rounds, turn = (2, 0.02) if arguments.quick else (arguments.rounds, arguments.turn)
    calls: dict[str, Any] = {}
    presets: dict[str, Any] = {}
    for name in arguments.presets:
        prepared = prepared_for(name, machine)
        runtimes = runtimes_of(prepared)
        presets[name] = about(prepared) | {"differences": differences(name, prepared, runtimes)}
        for runtime, predict in runtimes.items():
            calls |= {f"{name} {runtime} {n}": partial(predict, noise(prepared, n)) for n in batches}
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
    """The preset's network, its weights moved; the smallest data set with MNIST's classes lends its card."""
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
    """The ways to compute the same logits, [B, C, S, S] -> [B, K]."""
    card, machine = prepared.dataset.card, prepared.task.machine
    plain = build_model(prepared.config.model, card.channels, len(card.classes)).eval()
    plain.load_state_dict(prepared.model.state_dict())
    return {
        "torch fp32": partial(torch_predict, plain, replace(machine, precision="fp32")),
        f"torch {machine.precision}, as chosen": partial(torch_predict, prepared.model, machine),
        "ONNX Runtime fp32": onnx_predict(plain, noise(prepared, 3), machine.threads),
    }


@torch.inference_mode()
def torch_predict(model: nn.Module, machine: Machine, images: Tensor) -> Tensor:
    """As `predict_logits` calls the network."""
    with machine.autocast():
        logits: Tensor = model(images).float()
    return logits


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
    """The network as an ONNX file's bytes, for any number of images; what the exporter says aloud is left out."""
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
    """How far each runtime's logits are at most from those of the first; VitlabError if an fp32 one is too far."""
    images = noise(prepared, 97)
    logits = {runtime: predict(images) for runtime, predict in runtimes.items()}
    reference = next(iter(logits.values()))
    found = {runtime: float((values - reference).abs().max()) for runtime, values in logits.items()}
    if float(reference.std()) < 100 * AGREE:
        raise VitlabError(f"the logits of {name} hardly differ from each other; they can prove no agreement")
    for runtime, difference in found.items():
        if runtime.endswith("fp32") and not difference <= AGREE:
            raise VitlabError(f"{runtime} is {difference:.1e} away from torch's logits of {name}, more than {AGREE}")
    return found


def about(prepared: Prepared) -> dict[str, Any]:
    """What was measured."""
    config = prepared.config
    return {
        "config": config.to_dict(),
        "parameters": count_parameters(prepared.model),
        "forward_flops_per_image": prepared.model.describe().flops_per_image,
    }


def report(measured: dict[str, Any]) -> str:
    """One line for each preset and runtime."""
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
    return "\n".join([markdown(head, rows), "", f"{circumstances(environment)} {extras}."])


def main() -> int:
    """Measure and keep, or show what was kept."""
    parser = options(__doc__)
    parser.add_argument("presets", nargs="*", default=["fast", "small", "keras-cnn"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--turn", type=float, default=0.2, metavar="SECONDS", help="about so long in one go")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
