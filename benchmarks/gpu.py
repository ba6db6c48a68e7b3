"""Training time to 99.0 % and to 99.5 % on a GPU: tune recipes on validation images, then measure the best over seeds.

    python -m benchmarks.gpu tune 99.0 --out FILE       # every candidate below, 3 seeds each, on validation images
    python -m benchmarks.gpu measure 99.0 'fast/batch_size=512' --out benchmarks/results/NAME.json   # the chosen one

`tune` runs benchmarks/validation.py in one process, after a first round to warm up, and prints the fastest first.
`measure` runs benchmarks/duel.py on the GPU: 10 seeds, each run in a separate process, weights of the last step, test
accuracy recorded after each epoch but nothing selected by it. Training seconds leave out compilation and the recording
of the step as a CUDA graph; `process_seconds` in the file counts everything.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import validation
from benchmarks.duel import duel
from benchmarks.timing import complaint, parse_assignment
from benchmarks.validation import configuration, validate
from benchmarks.verdict import exceeds, table
from vitlab.errors import ConfigError, VitlabError
from vitlab.files import read_json, write_json

# Batches of 128 leave a GPU idle. Larger batches need higher learning rates and more epochs.
GRIDS: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "99.0": (
        "fast",
        {
            "compile": (True,),
            "lr": (0.01,),
            "warmup_epochs": (0.5,),
            "batch_size": (1024, 2048),
            "epochs": (3.5, 4.5, 5.5, 7),
            "muon_lr": (0.04, 0.07),
        },
    ),
    "99.5": (
        "small",
        {
            "compile": (True,),
            "lr": (0.01,),
            "batch_size": (512, 1024),
            "epochs": (20, 28),
            "muon_lr": (0.04,),
            "crop": (24,),
            "elastic": (1.5,),
            "depth": (2, 3),
        },
    ),
}


def candidates(bar: str) -> list[str]:
    """The names of all settings for ``bar``, in the form that duel.py takes."""
    preset, grid = GRIDS[bar]
    settings = (zip(grid, values, strict=True) for values in product(*grid.values()))
    return ["/".join([preset, *(f"{name}={word(value)}" for name, value in setting)]) for setting in settings]


def word(value: Any) -> str:
    """A knob's value as written on the command line."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def tune(bar: str, seeds: range, path: Path, common: dict[str, Any]) -> None:
    """Validate every candidate, save the measurements and print them."""
    names = candidates(bar)
    for name in names:  # warm up: the first runs compile and load libraries
        validate(configuration(name, common).with_knobs(epochs=1))
    rows = validation.measure(names, seeds, path, common)["rows"]
    seconds = {n: statistics.median(row["train_seconds"] for row in rows if row["contestant"] == n) for n in names}
    print(validation.table(sorted(rows, key=lambda row: seconds[row["contestant"]])))


def measure(bar: str, contestant: str, seeds: range, path: Path, device: str) -> None:
    """The chosen recipe over seeds, each in its own process, and a test of its mean against the bar."""
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
    parser.add_argument("contestant", nargs="?", help="for measure: a preset with knobs, as tune's table names it")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", help="use cpu to try the command on a machine without a GPU")
    parser.add_argument("--knobs", nargs="*", default=[], metavar="NAME=VALUE", help="for tune: for every candidate")
    arguments = parser.parse_args()
    if arguments.what == "tune":
        common = dict(map(parse_assignment, arguments.knobs)) | {"device": arguments.device}
        tune(arguments.bar, range(100, 100 + (arguments.seeds or 3)), arguments.out, common)
        return 0
    if arguments.contestant is None:
        raise ConfigError("measure needs a contestant, such as fast/batch_size=512; run `tune` to find one")
    measure(arguments.bar, arguments.contestant, range(arguments.seeds or 10), arguments.out, arguments.device)
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except VitlabError as error:
        raise SystemExit(f"benchmarks.gpu: {complaint(error)}") from None
