"""What each command does. torch and everything that needs it are imported inside the command that uses them."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.cli.flags import chosen_config, given_knobs
from vitlab.config import RunConfig
from vitlab.config.presets import PRESETS, preset_config
from vitlab.errors import ConfigError, DivergedError, Interrupted
from vitlab.files import to_json

if TYPE_CHECKING:
    from vitlab.runs.result import Result


def version_or_help(version: bool, parser: argparse.ArgumentParser) -> int:
    """vitlab --version, or vitlab alone."""
    if version:
        print(f"vitlab {metadata.version('vitlab')}")
    else:
        parser.print_help()
    return 0


def train(arguments: argparse.Namespace) -> int:
    """vitlab train."""
    knobs = given_knobs(arguments)
    if arguments.resume is not None:
        if arguments.preset or arguments.config or arguments.out or arguments.print_config:
            raise ConfigError(
                "--resume continues a run with its own configuration; "
                "leave out --preset, --config, --out and --print-config"
            )
        path, config = arguments.resume, None
    else:
        config = chosen_config(arguments.preset, arguments.config, knobs)
        path = arguments.out or default_folder(config)
        if arguments.print_config:
            print(to_json(config.to_dict()))
            return 0
    from vitlab.cli.progress import choose_reporter
    from vitlab.runs.session import resume_run, train_run

    reporter = choose_reporter(arguments.quiet)
    if config is None:
        result = resume_run(path, reporter, asked=knobs, allow_drift=arguments.allow_drift)
    else:
        result = train_run(config, path, reporter)
    return conclude_train(result, path, arguments)


def default_folder(config: RunConfig) -> Path:
    """runs/<date>-<preset>-<data>-s<seed>, with a number behind it if that is taken."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    data = Path(config.data.data).stem or "data"
    path = Path("runs") / f"{now}-{config.preset or 'custom'}-{data}-s{config.train.seed}"
    tries = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 1000))
    return next(candidate for candidate in tries if not candidate.exists())


def conclude_train(result: Result, path: Path, arguments: argparse.Namespace) -> int:
    """Print how a run ended; raises for an end that is not a good one."""
    if arguments.json:
        print(to_json(result.to_dict(), indent=None), flush=True)
    elif result["status"] == "done":
        print_result(result, path)
    if result["status"] == "interrupted":
        raise Interrupted(
            f"interrupted after step {result['steps']}; nothing is lost: vitlab train --resume {quoted(path)}",
            result["signal"],
        )
    if result["status"] == "diverged":
        kept = f"the weights of epoch {result['selected_epoch']} are kept in {path}"
        raise DivergedError(
            f"the loss stopped being a finite number in step {result['steps'] + 1}; "
            f"{kept if result['model_sha256'] else f'no epoch ended well before it, see {path}'}; "
            f"try a lower --lr, a longer --warmup-epochs or --grad-clip 1"
        )
    return 0


def print_result(result: Result, path: Path) -> None:
    """The result for people; the last line names the run folder and what to do next."""
    print_accuracy(result)
    speed, where = result["images_per_second"], f"{result['threads']} threads on {result['device']}"
    print(f"trained in {result['train_seconds']:.1f} s ({speed:,.0f} images/s, {where})")
    print(f"saved in {path}{next_command(path)}")


def next_command(path: Path) -> str:
    """What one may want to type now."""
    return f"   next: vitlab look {quoted(path)}"


def quoted(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def print_accuracy(result: Result) -> None:
    """Top-1 with its interval, top-5, loss."""
    if result["test_top1"] is None:
        print("no test images, so no test accuracy" + validation_phrase(result))
        return
    test = {name.removeprefix("test_"): value for name, value in result.to_dict().items() if name.startswith("test_")}
    print(accuracy_line("test", test) + validation_phrase(result))


def accuracy_line(split: str, numbers: dict[str, Any]) -> str:
    """Top-1 with its interval, top-5 and loss of a split, for people."""
    low, high = numbers["top1_interval"]
    loss = "not finite" if numbers["loss"] is None else f"{numbers['loss']:.4f}"
    return (
        f"{split} top-1 {100 * numbers['top1']:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f}), "
        f"top-5 {100 * numbers['top5']:.2f} %, loss {loss}, on {numbers['images']:,} images"
    )


def validation_phrase(result: Result) -> str:
    """Which epoch's weights these are."""
    if result["val_top1"] is None:
        return ""
    return f"; weights of epoch {result['selected_epoch']}, validation top-1 {100 * result['val_top1']:.2f} %"


def evaluate(arguments: argparse.Namespace) -> int:
    """vitlab evaluate RUN."""
    from vitlab.cli.progress import choose_reporter
    from vitlab.runs.finished import evaluate_run

    knobs = given_knobs(arguments)
    numbers = evaluate_run(
        arguments.run, arguments.split, choose_reporter(arguments.quiet), asked=knobs, shifts=arguments.shifts
    )
    if arguments.json:
        print(to_json(numbers, indent=None))
        return 0
    print(accuracy_line(numbers["split"], numbers))
    return 0


def presets(arguments: argparse.Namespace) -> int:
    """vitlab presets [NAME]."""
    if arguments.name is not None:
        config = preset_config(arguments.name)
        if arguments.json:
            print(to_json(config.to_dict(), indent=None))
            return 0
        preset = PRESETS[arguments.name]
        print(f"{arguments.name}: {preset.about}\nsource: {preset.source}\nexpected: {preset.expected}")
        print(to_json(config.to_dict()))
        return 0
    if arguments.json:
        rows = {name: {"about": p.about, "source": p.source, "expected": p.expected} for name, p in PRESETS.items()}
        print(to_json(rows, indent=None))
        return 0
    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        print(f"{name:<{width}}  {preset.about}\n{'':<{width}}  expected: {preset.expected}")
    return 0


def data(arguments: argparse.Namespace) -> int:
    """vitlab data list | fetch NAME ... | check NAME ..."""
    from vitlab.cli import data_commands

    if arguments.action == "list":
        if arguments.names:
            raise ConfigError("vitlab data list takes no names; `vitlab data check NAME` looks at one")
        return data_commands.list_data(arguments.json)
    if not arguments.names:
        raise ConfigError(f"vitlab data {arguments.action} needs the name of a data set; `vitlab data list` shows them")
    if arguments.action == "fetch":
        return data_commands.fetch_data(arguments.names, arguments.json, arguments.quiet)
    return data_commands.check_data(arguments.names, arguments.json)


def doctor(arguments: argparse.Namespace) -> int:
    """vitlab doctor."""
    from vitlab.config import MachineConfig
    from vitlab.data.sources import cache_root
    from vitlab.machine import choose_machine, environment, gemm_gflops
    from vitlab.native.accelerate import load_kernels

    why_plain: list[str] = []
    kernels, machine = load_kernels(choose_machine(MachineConfig()), why_plain.append)
    found: dict[str, Any] = {"vitlab": metadata.version("vitlab")} | environment(machine)
    found |= {"chosen_because": "; ".join([machine.reason, *why_plain])}
    if kernels is not None:
        found["kernels_multiply_by"] = "AMX tiles" if kernels.library.use_tiles(True) else "AVX512-BF16"
    found["gemm_fp32_gflops"] = round(gemm_gflops(choose_machine(MachineConfig(precision="fp32"))), 1)
    found["gemm_bf16_gflops"] = round(gemm_gflops(choose_machine(MachineConfig(precision="bf16"))), 1)
    found |= {"cache": str(cache_root()), "VITLAB_DATA": os.environ.get("VITLAB_DATA")}
    if arguments.json:
        print(to_json(found, indent=None))
        return 0
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")
    return 0
