"""Validation accuracy of recipes over seeds, to choose a recipe and weigh its ingredients without the test images.

    python -m benchmarks.validation accurate accurate/elastic=0 --seeds 3 --out FILE [--knobs device=cuda epochs=16]
    python -m benchmarks.validation --show FILE [FILE ...] --into docs/understand/speed.md

Contestants are presets with knobs, as in benchmarks/duel.py. Each trains on five sixths of the training images to its
last step and is measured once on the remaining sixth, with and without test-time shifts. Differences are to the first
contestant with the same seed, which splits and shuffles the images in the same way. The file is saved after each run,
and runs that it already holds are not repeated.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.pages import renew
from benchmarks.timing import complaint, parse_assignment
from benchmarks.verdict import difference, mean_sd
from vitlab import RunConfig, preset_config
from vitlab.errors import ConfigError, StorageError, VitlabError
from vitlab.files import read_json, write_json
from vitlab.machine import environment
from vitlab.runs.prepare import prepare
from vitlab.runs.session import origin
from vitlab.text import counted
from vitlab.training.evaluate import mean_loss, predict_logits, top_k
from vitlab.training.loop import fit

Row = dict[str, Any]
VAL_FRACTION = 1 / 6


def configuration(contestant: str, common: dict[str, Any]) -> RunConfig:
    """The configuration of a preset with knobs, such as "small/depth=3"; its own knobs win over ``common``."""
    preset, *words = contestant.split("/")
    knobs = {"val_fraction": VAL_FRACTION} | common | dict(map(parse_assignment, words))
    return preset_config(preset).with_knobs(**knobs)


def validate(config: RunConfig) -> Row:
    """Train to the last step and measure on the validation images; a training that diverges has accuracy 0."""
    prepared = prepare(config, lambda line: None)
    task = prepared.task
    if task.val is None:
        raise ConfigError("val_fraction is 0, so there are no validation images to choose by; raise it")
    outcome = fit(prepared.model, replace(task, val=None))
    row: Row = {
        "status": outcome.status,
        "train_seconds": round(outcome.counters.train_seconds, 4),
        "steps": outcome.counters.step,
        "environment": environment(task.machine) | origin(),
        "val_top1": 0.0,
        "val_top1_shifts": 0.0,
    }
    if outcome.status != "done":
        return row
    prepared.model.load_state_dict(outcome.weights)
    plain, shifted = (
        predict_logits(prepared.model, task.val, task.preprocess, task.machine, config.train.eval_batch_size, shifts)
        for shifts in (0, 1)
    )
    row |= {"val_images": len(task.val), "val_loss": mean_loss(plain, task.val.labels)}
    return row | {"val_top1": top_k(plain, task.val.labels, 1), "val_top1_shifts": top_k(shifted, task.val.labels, 1)}


def measure(contestants: list[str], seeds: Iterable[int], path: Path, common: dict[str, Any]) -> dict[str, Any]:
    """Run whatever is missing from ``path``, seed by seed; returns everything it then holds."""
    measured: dict[str, Any] = read_json(path) if path.exists() else {"common": common, "rows": []}
    if measured["common"] != common:
        raise StorageError(f"{path} was measured with {measured['common']}; use those --knobs, or another file")
    for seed in seeds:
        for name in contestants:
            if any((row["contestant"], row["seed"]) == (name, seed) for row in measured["rows"]):
                continue
            row = validate(configuration(name, common | {"seed": seed}))
            measured["rows"].append({"contestant": name, "seed": seed} | row)
            write_json(path, measured)
            print(f"{name} seed {seed}: {100 * row['val_top1']:.2f} % in {row['train_seconds']:.1f} s", file=sys.stderr)
    return measured


def table(rows: list[Row]) -> str:
    """A Markdown table with one line per contestant, in the order of the rows; the first is the reference.

    Knobs that all contestants share are listed once, below the table.
    """
    names = list(dict.fromkeys(row["contestant"] for row in rows))
    shared = [word for word in names[0].split("/")[1:] if len(names) > 1 and all(word in n.split("/") for n in names)]
    reference = {row["seed"]: row for row in rows if row["contestant"] == names[0]}
    lines = [
        "| recipe | seeds | validation top-1 % | difference | with shifts | difference | training s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        own = [row for row in rows if row["contestant"] == name]
        cells = ["`" + "/".join(word for word in name.split("/") if word not in shared) + "`", str(len(own))]
        for column in ("val_top1", "val_top1_shifts"):
            cells.append(mean_sd([100 * row[column] for row in own]))
            pairs = [100 * (row[column] - reference[row["seed"]][column]) for row in own if row["seed"] in reference]
            cells.append("" if name == names[0] else difference(pairs))
        cells.append(f"{statistics.median(row['train_seconds'] for row in own):.3g}")
        lines.append("| " + " | ".join(cells) + " |")
    where = "; ".join(sorted({circumstances(row["environment"]) for row in rows}))
    said = f"All with `{' '.join(shared)}`. " if shared else ""
    return "\n".join([*lines, "", f"{said}{where}."])


def circumstances(own: dict[str, Any]) -> str:
    """Where and when a run was made, in a phrase."""
    threads = f", {counted(own['threads'], 'thread')}" if own["device"] == "cpu" else ""
    return f"{own['device_name']}{threads}, {own['precision']}, torch {own['torch']}, {own['started_utc'][:10]}"


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestants", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=100, help="default 100; the duels begin with 0")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path, nargs="+")
    parser.add_argument("--into", type=Path, nargs="*", default=[], help="pages whose tables of this name to update")
    parser.add_argument("--knobs", nargs="*", default=[], metavar="NAME=VALUE", help="applied to every contestant")
    arguments = parser.parse_args()
    if arguments.show:
        rows = [row for path in arguments.show for row in read_json(path)["rows"]]
    elif arguments.out and arguments.contestants:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        common = dict(map(parse_assignment, arguments.knobs))
        rows = measure(arguments.contestants, seeds, arguments.out, common)["rows"]
    else:
        raise ConfigError("give contestants and --out FILE, or --show FILE")
    made = table(rows)
    renew(arguments.into, {(arguments.show or [arguments.out])[0].stem: made})
    print(made)
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except VitlabError as error:
        raise SystemExit(f"benchmarks.validation: {complaint(error)}") from None
