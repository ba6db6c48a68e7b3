"""Train one preset once and record its test accuracy after every epoch, without choosing anything by it.

    python -m benchmarks.contestant small --seed 3 [--data mnist] [--knobs epochs=2 depth=1]

Prints JSON lines: first the environment, then {"epoch", "train_seconds", "test_top1"} for each epoch (`train_seconds`
counts training steps only), then the final accuracy: as it is, with test-time shifts and flips, and with the mean
attention in place of each image's (benchmarks/fixed_attention.py). Before the clock starts, a copy of the network takes
two steps on random pixels and labels, which makes the libraries load what they need. The first line records how long
that and the imports took. benchmarks/keras_programs.py prints the same names.
"""

from __future__ import annotations

import time

STARTED = time.time()  # before torch is imported

import argparse  # noqa: E402
import json  # noqa: E402
from copy import deepcopy  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402

from benchmarks.fixed_attention import top1_with_mean  # noqa: E402
from benchmarks.timing import parse_assignment  # noqa: E402
from vitlab import RunConfig, preset_config  # noqa: E402
from vitlab.data.batches import DeviceSplit, to_device  # noqa: E402
from vitlab.machine import environment  # noqa: E402
from vitlab.model import ViT, parameters_by_part  # noqa: E402
from vitlab.runs.prepare import Prepared, prepare  # noqa: E402
from vitlab.runs.session import origin  # noqa: E402
from vitlab.training.evaluate import predict_logits, top_k  # noqa: E402
from vitlab.training.loop import Hooks, fit  # noqa: E402
from vitlab.training.step import Row, Task  # noqa: E402


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--knobs", nargs="*", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    knobs = dict(map(parse_assignment, arguments.knobs))
    compete(preset_config(arguments.preset).with_knobs(seed=arguments.seed, **knobs))


def compete(config: RunConfig) -> None:
    """Train ``config`` to its last step and print its accuracy."""
    imported = time.time() - STARTED
    prepared = prepare(config, lambda line: None)
    warmed = warm_up(prepared)
    say(
        program=config.preset,
        seed=config.train.seed,
        environment=environment(prepared.task.machine) | origin(),
        parameters=parameters_by_part(prepared.model),
        forward_flops=prepared.model.describe().flops_per_image,
        config=config.to_dict(),
        import_seconds=round(imported, 2),
        warm_up_seconds=round(warmed, 2),
    )
    assert prepared.dataset.test is not None
    test = to_device(prepared.dataset.test, prepared.task.machine.device)

    def on_epoch(row: Row) -> None:
        logits = logits_of(prepared, test)
        say(
            epoch=row["epoch"],
            steps=row["step"],
            train_seconds=round(row["train_seconds"], 3),
            test_top1=top_k(logits, test.labels, 1),
        )

    # No validation: nothing is selected by it, and the clock would not count it anyway.
    outcome = fit(prepared.model, replace(prepared.task, val=None), Hooks(on_epoch=on_epoch))
    prepared.model.load_state_dict(outcome.weights)
    further = {}
    if isinstance(prepared.model, ViT) and "attention" not in prepared.model.describe().missing:
        task, size = prepared.task, config.train.eval_batch_size
        further["test_top1_mean_attention"] = top1_with_mean(
            prepared.model, task.train, test, task.preprocess, task.machine, size
        )
    say(
        status=outcome.status,
        train_seconds=round(outcome.counters.train_seconds, 3),
        test_top1=top_k(logits_of(prepared, test), test.labels, 1),
        test_top1_shifts=top_k(logits_of(prepared, test, shifts=1), test.labels, 1),
        test_top1_flips=top_k(logits_of(prepared, test, flips=True), test.labels, 1),
        test_top1_shifts_flips=top_k(logits_of(prepared, test, shifts=1, flips=True), test.labels, 1),
        process_seconds=round(time.time() - STARTED, 2),
        **further,
    )


def warm_up(prepared: Prepared) -> float:
    """Let a copy of the network take two steps and one evaluation on random pixels; returns the seconds this took."""
    started, task = time.time(), prepared.task
    size = 2 * task.config.train.batch_size
    shape = (size, *task.train.images.shape[1:])
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, len(prepared.dataset.card.classes), (size,), generator=generator)
    noise = DeviceSplit(images.to(task.machine.device), labels.to(task.machine.device))
    model = deepcopy(prepared.model)
    if task.machine.compile:
        model.compile()  # deepcopy does not copy this
    config = task.config.with_knobs(epochs=1, warmup_epochs=0)
    fit(model, Task(config, noise, None, task.preprocess, task.machine, task.kernels))
    predict_logits(model, noise, task.preprocess, task.machine, config.train.eval_batch_size)
    return time.time() - started


def logits_of(prepared: Prepared, split: DeviceSplit, shifts: int = 0, flips: bool = False) -> torch.Tensor:
    """The network's logits; with ``shifts`` or ``flips`` averaged over moved or mirrored copies (`predict_logits`)."""
    task = prepared.task
    size = task.config.train.eval_batch_size
    return predict_logits(prepared.model, split, task.preprocess, task.machine, size, shifts, flips)


def say(**values: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
