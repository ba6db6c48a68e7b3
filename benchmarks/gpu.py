"""What a GPU needs to 99.0 % and to 99.5 %: recipes tuned on validation images there, then measured over seeds.

    python -m benchmarks.gpu tune 99.0 --out FILE       # every candidate below, 3 seeds each, on validation images
    python -m benchmarks.gpu measure 99.0 'fast/batch_size=512' --out benchmarks/results/NAME.json   # the chosen one

`tune` trains in this one process and prints, fastest first, validation accuracy and training seconds. `measure` is the
duel of benchmarks/duel.py on the GPU: each run in a process of its own, 10 seeds, the last step's weights, the test
images looked at once, cold times beside the warm ones. Training seconds do not count the recording of the step as a
CUDA graph, as they do not count compilation; `process_seconds` in the file counts everything.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.duel import duel
from benchmarks.verdict import exceeds, mean_sd, table
from vitlab import RunConfig, preset_config
from vitlab.config.words import parse_assignment
from vitlab.errors import ConfigError, VitlabError
from vitlab.evaluate import predict_logits, top_k
from vitlab.files import read_json, write_json
from vitlab.machine import environment
from vitlab.prepare import prepare
from vitlab.train import fit

# A GPU is idle in batches of 128: larger ones, with rates that rise with them, and the passes that they cost.
GRIDS: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "99.0": ("fast", {"batch_size": (256, 512, 1024), "epochs": (1.75, 2.5, 3.5), "muon_lr": (0.02, 0.04)}),
    "99.5": ("small", {"batch_size": (256, 512, 1024), "epochs": (14, 20, 28), "muon_lr": (0.02, 0.04)}),
}


def candidates(bar: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names, as the duel takes them, and knobs of all settings for ``bar``."""
    preset, grid = GRIDS[bar]
    for values in product(*grid.values()):
        knobs = dict(zip(grid, values, strict=True))
        yield "/".join([preset, *(f"{name}={value:g}" for name, value in knobs.items())]), knobs


def validate(config: RunConfig) -> dict[str, Any]:
    """Train to the last step; validation top-1 and training seconds."""
    prepared = prepare(config, lambda line: None)
    task = prepared.task
    outcome = fit(prepared.model, replace(task, val=None))
    if outcome.status != "done" or task.val is None:
        return {"val_top1": 0.0, "train_seconds": outcome.counters.train_seconds}
    prepared.model.load_state_dict(outcome.weights)
    logits = predict_logits(prepared.model, task.val, task.preprocess, task.machine, config.train.eval_batch_size)
    return {
        "val_top1": top_k(logits, task.val.labels, 1),
        "train_seconds": round(outcome.counters.train_seconds, 4),
        "environment": environment(task.machine),
    }


def tune(bar: str, seeds: range, path: Path, common: dict[str, Any]) -> None:
    """Validate every candidate, keep what was measured, show it."""
    measured: dict[str, Any] = {"bar": bar, "common": common, "rows": []}
    for seed in (seeds[0] - 1, *seeds):  # the first round warms up and is not kept
        for name, knobs in candidates(bar):
            config = preset_config(GRIDS[bar][0]).with_knobs(val_fraction=1 / 12, seed=seed, **knobs, **common)
            row = validate(config)
            if seed in seeds:
                measured["rows"].append({"name": name, "seed": seed} | row)
        write_json(path, measured)
        print(f"seed {seed} done", file=sys.stderr)
    print(tuning_table(measured["rows"]))


def tuning_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of candidates, fastest first."""
    lines = ["| candidate | seeds | validation top-1 % | training s |", "| --- | --- | --- | --- |"]
    names = dict.fromkeys(row["name"] for row in rows)
    own = {name: [row for row in rows if row["name"] == name] for name in names}
    seconds = {name: statistics.median(row["train_seconds"] for row in own[name]) for name in names}
    for name in sorted(names, key=lambda name: seconds[name]):
        top1 = mean_sd([100 * row["val_top1"] for row in own[name]])
        lines.append(f"| `{name}` | {len(own[name])} | {top1} | {seconds[name]:.3f} |")
    return "\n".join(lines)


def measure(bar: str, contestant: str, seeds: range, path: Path, device: str) -> None:
    """The chosen recipe over seeds, a process each, and the test of its mean against the bar."""
    runs = duel([contestant], seeds, 2, path, device)["runs"]
    top1 = [100 * run["epochs"][-1]["test_top1"] for run in runs]
    measured = read_json(path) | {
        "bar": bar,
        "p_mean_at_most_bar": exceeds(top1, float(bar)) if len(top1) > 1 else None,
    }
    write_json(path, measured)
    print(table(runs, contestant))
    cold = statistics.median(run["end"]["process_seconds"] for run in runs)
    print(f"\np (mean at most {bar} %): {measured['p_mean_at_most_bar']}; whole process, cold: {cold:.1f} s")


def main() -> int:
    """Tune or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tune", "measure"])
    parser.add_argument("bar", choices=GRIDS)
    parser.add_argument("contestant", nargs="?", help="to measure: a preset with its knobs, as a row of tune names it")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", help="cpu tries the command where there is no GPU")
    parser.add_argument("--knobs", nargs="*", default=[], metavar="NAME=VALUE", help="to tune: for every candidate")
    arguments = parser.parse_args()
    if arguments.what == "tune":
        common = dict(map(parse_assignment, arguments.knobs)) | {"device": arguments.device}
        tune(arguments.bar, range(100, 100 + (arguments.seeds or 3)), arguments.out, common)
        return 0
    if arguments.contestant is None:
        raise ConfigError("measure needs a contestant, such as fast/batch_size=512; `tune` finds one")
    measure(arguments.bar, arguments.contestant, range(arguments.seeds or 10), arguments.out, arguments.device)
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except VitlabError as error:
        raise SystemExit(f"benchmarks.gpu: {error}") from None
