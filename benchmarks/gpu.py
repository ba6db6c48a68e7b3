"""What a GPU needs to 99.0 % and to 99.5 %: recipes tuned on validation images there, then measured over seeds.

    python -m benchmarks.gpu tune 99.0 --out FILE       # every candidate below, 3 seeds each, on validation images
    python -m benchmarks.gpu measure 99.0 'fast/batch_size=512' --out benchmarks/results/NAME.json   # the chosen one

`tune` is benchmarks/validation.py in one process after a first round that warms up; it prints the fastest first.
`measure` is the duel of benchmarks/duel.py on the GPU: each run in a process of its own, 10 seeds, the last step's
weights, the test images looked at once, cold times beside the warm ones. Training seconds do not count the recording of
the step as a CUDA graph, as they do not count compilation; `process_seconds` in the file counts everything.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import validation
from benchmarks.duel import duel
from benchmarks.validation import configuration, validate
from benchmarks.verdict import exceeds, table
from vitlab.config.words import parse_assignment
from vitlab.errors import ConfigError, VitlabError
from vitlab.files import read_json, write_json

# A GPU is idle in batches of 128: larger ones, with rates that rise with them, and the passes that they cost.
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
    """Names, as the duel takes them, of all settings for ``bar``."""
    preset, grid = GRIDS[bar]
    settings = (zip(grid, values, strict=True) for values in product(*grid.values()))
    return ["/".join([preset, *(f"{name}={word(value)}" for name, value in setting)]) for setting in settings]


def word(value: Any) -> str:
    """A knob's value as the command line has it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def tune(bar: str, seeds: range, path: Path, common: dict[str, Any]) -> None:
    """Validate every candidate, keep what was measured, show it."""
    names = candidates(bar)
    for name in names:  # the first ones to run compile, and load what they need
        validate(configuration(name, common).with_knobs(epochs=1))
    rows = validation.measure(names, seeds, path, common)["rows"]
    seconds = {n: statistics.median(row["train_seconds"] for row in rows if row["contestant"] == n) for n in names}
    print(validation.table(sorted(rows, key=lambda row: seconds[row["contestant"]])))


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
