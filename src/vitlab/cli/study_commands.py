"""vitlab study, vitlab compare."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.cli.flags import chosen_config, given_knobs
from vitlab.config import RunConfig
from vitlab.config.presets import preset_config
from vitlab.errors import ConfigError, Interrupted
from vitlab.files import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vitlab.interrupts import StopRequest
    from vitlab.studies.driver import Driver, Row
    from vitlab.studies.executors import Executor
    from vitlab.studies.grid import Cell, Study
    from vitlab.studies.search import Search
    from vitlab.studies.summary import Line

DEFAULT_SEEDS = 3
STUDIES, RUNS = Path("runs/studies"), Path("runs/by-configuration")


def study(arguments: argparse.Namespace) -> int:
    """vitlab study [NAME]."""
    from vitlab.studies.grid import Study
    from vitlab.studies.summary import summarize

    if arguments.status is not None:
        return status(arguments.status, arguments.json)
    knobs = given_knobs(arguments)
    refuse_seed(knobs)
    search = chosen_search(arguments, knobs)
    seeds = seeds_of(arguments.seeds, 1 if search else DEFAULT_SEEDS)
    cells = () if search else chosen_cells(arguments, knobs)
    made = Study(arguments.name or ("search" if search else "study"), cells, seeds, identity_of(search))
    folder = arguments.out or STUDIES / f"{made.name}-{made.digest()[:8]}"
    base = search.base.with_knobs(**search.fixed) if search else made.cells[0].config
    with working(arguments, base, cells) as (driver_of, stop):
        if search:
            found, rows, complete = search.run(lambda some: driver_of(replace(made, cells=tuple(some)), folder).run())
            made = replace(made, cells=tuple(found))
        else:
            rows, complete = driver_of(made, folder).run(arguments.retry_failed)
    if not complete:
        raise interrupted(folder, len(rows), stop.signum)
    lines = summarize(made.cells, rows, "val" if search else "test")
    return conclude(made, folder, lines, rows, arguments, "validation" if search else "test")


def compare(arguments: argparse.Namespace) -> int:
    """vitlab compare PRESET PRESET ..."""
    from vitlab.studies import compare as comparing
    from vitlab.studies.grid import Study, make_cells
    from vitlab.studies.summary import summarize

    knobs = given_knobs(arguments)
    refuse_seed(knobs)
    if len(set(arguments.presets)) < len(arguments.presets) or len(arguments.presets) < 2:
        raise ConfigError("vitlab compare needs two or more different presets, such as small keras-cnn")
    first = preset_config(arguments.presets[0])
    cells = make_cells(first, [{"preset": name} for name in arguments.presets], knobs)
    made = Study("compare", cells, seeds_of(arguments.seeds, DEFAULT_SEEDS))
    folder = arguments.out or STUDIES / f"compare-{made.digest()[:8]}"
    with working(arguments, first, cells) as (driver_of, stop):
        rows, complete = driver_of(made, folder).run(arguments.retry_failed)
    if not complete:
        raise interrupted(folder, len(rows), stop.signum)
    lines = summarize(cells, rows)
    facts = comparing.compare(lines, rows, arguments.runs or RUNS)
    if arguments.json:
        print(to_json(facts, indent=None))
        return 0
    print_table(lines, rows, "side by side", bars=[line["seconds_to"] for line in facts["lines"]])
    for pair in facts["pairs"]:
        print(pair["sentence"])
    return 0


def refuse_seed(knobs: dict[str, Any]) -> None:
    """ConfigError for --seed, which a study has many of."""
    if "seed" in knobs:
        raise ConfigError("a study runs every cell with several seeds: use --seeds N instead of --seed")


def seeds_of(count: int | None, default: int) -> tuple[int, ...]:
    """The seeds 0 to count - 1."""
    return tuple(range(count if count is not None else default))


def chosen_cells(arguments: argparse.Namespace, knobs: dict[str, Any]) -> tuple[Cell, ...]:
    """The cells of a named study, or of the axes around a preset."""
    from vitlab.studies.grid import combine, make_cells, parse_axis
    from vitlab.studies.named import NAMED, named_cells

    if arguments.name is not None:
        if arguments.vary or arguments.preset or arguments.config:
            raise ConfigError("a named study brings its own cells: leave out --vary, --preset and --config")
        return named_cells(arguments.name, knobs)
    if not arguments.vary:
        raise ConfigError(f"a study needs a name ({', '.join(NAMED)}) or --vary AXIS=VALUE,VALUE")
    base = chosen_config(arguments.preset, arguments.config, {})
    return make_cells(base, combine([parse_axis(word) for word in arguments.vary], arguments.zip), knobs)


def chosen_search(arguments: argparse.Namespace, knobs: dict[str, Any]) -> Search | None:
    """The search that --search asks for."""
    if arguments.search is None:
        if any(".." in word for word in arguments.vary or ()):
            raise ConfigError("a range is for --search N, which chooses values from it; a study needs values")
        return None
    from vitlab.studies.search import Search, load_optuna, parse_dimension

    if arguments.name is not None or not arguments.vary or arguments.zip:
        raise ConfigError("--search needs --vary KNOB=LOW..HIGH or KNOB=VALUE,VALUE, and no name and no --zip")
    if arguments.retry_failed:
        raise ConfigError("a search takes a setting that failed as it is; leave out --retry-failed")
    base = chosen_config(arguments.preset, arguments.config, {})
    if base.with_knobs(**knobs).data.val_fraction == 0:
        raise ConfigError("a search needs validation images to choose by; set --val-fraction 0.1")
    load_optuna()
    dimensions = tuple(map(parse_dimension, arguments.vary))
    for dimension in dimensions:
        if dimension.name in knobs:
            raise ConfigError(f"{dimension.name} is searched and fixed at the same time; leave out one of the two")
    time = arguments.objective == "accuracy-time"
    return Search(base, knobs, dimensions, arguments.search, arguments.workers or 1, 0, time)


def identity_of(search: Search | None) -> Any:
    """What makes a search that search."""
    if search is None:
        return None
    base = search.base.with_knobs(**search.fixed)
    dimensions = [repr(dimension) for dimension in search.dimensions]
    return ["search", base.digest(), dimensions, search.trials, search.batch, search.with_time]


@contextmanager
def working(
    arguments: argparse.Namespace, base: RunConfig, cells: Sequence[Cell]
) -> Iterator[tuple[Callable[[Study, Path], Driver], StopRequest]]:
    """A function that makes the driver of a study, and whether a signal asked for the end; nothing goes on after it."""
    from vitlab.cli.study_progress import choose_watch
    from vitlab.data import load_dataset
    from vitlab.interrupts import stop_on_signals
    from vitlab.studies.driver import Driver

    executor = choose_executor(arguments, base)
    try:
        if arguments.executor == "local":  # before anything runs: are the images there?
            for data in dict.fromkeys([base.data.data, *(cell.config.data.data for cell in cells)]):
                load_dataset(data, lambda line: None)
        with choose_watch(arguments.quiet) as (note, show), stop_on_signals() as stop:
            runs = arguments.runs or RUNS
            yield (lambda made, folder: Driver(made, folder, runs, executor, note, show, stop)), stop
    finally:
        executor.stop()


def choose_executor(arguments: argparse.Namespace, base: RunConfig) -> Executor:
    """Processes on this machine, or a Ray cluster."""
    if arguments.executor == "ray":
        from vitlab.studies.executors.ray import RayExecutor

        return RayExecutor(arguments.address, base.machine.threads or 1, int(base.machine.wants_gpu))
    from vitlab.machine import available_cores
    from vitlab.studies.executors.local import LocalExecutor

    return LocalExecutor(arguments.workers or 1, available_cores())


def interrupted(folder: Path, rows: int, signum: int) -> Interrupted:
    """What Ctrl-C leaves to say."""
    where = shlex.quote(str(folder))
    return Interrupted(f"interrupted after {rows} runs; nothing is lost: the same line again goes on ({where})", signum)


def conclude(
    made: Study, folder: Path, lines: list[Line], rows: list[Row], arguments: argparse.Namespace, split: str
) -> int:
    """Write the table and the picture beside the rows, and print the table."""
    from vitlab.files import write_bytes, write_json
    from vitlab.look import study as picture
    from vitlab.studies import table

    where = circumstances_of(rows, arguments.runs or RUNS)
    notes = table.notes(lines, where, split)
    data = {"study": made.name, "digest": made.digest(), "seeds": list(made.seeds), "accuracy_on": split,
            "circumstances": where, "lines": [line.to_dict() for line in lines]}  # fmt: skip
    write_json(folder / "table.json", data)
    write_bytes(folder / "table.md", table.markdown(lines, notes).encode())
    write_bytes(folder / "table.csv", table.comma_separated(lines).encode())
    if any(line.seconds is not None and line.accuracy is not None for line in lines):
        picture.save(picture.accuracy_against_time(lines, f"{made.name}: {split} accuracy against time"), folder)
    if arguments.json:
        print(to_json(data, indent=None))
    else:
        print_table(lines, rows, made.name, where=where, split=split)
        print(f"saved in {folder}: table.md, table.csv, table.json, picture.png, picture.svg")
    return 0


def circumstances_of(rows: list[Row], runs: Path) -> dict[str, Any]:
    """Under which the rows were made, with processor, torch and date from the runs themselves."""
    from vitlab.runs.folder import RunFolder
    from vitlab.studies.summary import circumstances

    done = [row for row in rows if row["status"] == "done"]
    own = [RunFolder(runs / row["run"]).environment() for row in done if (runs / row["run"] / "config.json").exists()]
    extra = {name: sorted({str(e[name]) for e in own}) for name in ("device_name", "torch", "vitlab", "git_commit")}
    extra["date"] = sorted({str(e["started_utc"])[:10] for e in own})
    return circumstances(done) | {n: v[0] if len(v) == 1 else v for n, v in extra.items() if v}


def print_table(
    lines: list[Line],
    rows: list[Row],
    title: str,
    *,
    where: dict[str, Any] | None = None,
    split: str = "test",
    bars: list[dict[str, float | None]] | None = None,
) -> None:
    """The table on standard output, as wide as it needs to be where that is no terminal."""
    from rich.console import Console

    from vitlab.studies import table
    from vitlab.studies.summary import circumstances

    notes = table.notes(lines, where or circumstances(rows), split)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240)
    console.print(table.terminal(lines, title, notes, bars))


def status(folder: Path, as_json: bool) -> int:
    """vitlab study --status DIR: what is done, failed and left, also while a driver is at work."""
    from vitlab.studies.driver import read_rows, read_study

    made, rows = read_study(folder), read_rows(folder)
    total = len(made["cells"]) * len(made["seeds"])
    ended = {(row["cell"], row["seed"]) for row in rows}
    failed = [row for row in rows if row["status"] != "done"]
    left = [f"{c['name']}, seed {s}" for s in made["seeds"] for c in made["cells"] if (c["name"], s) not in ended]
    facts = {"study": made["name"], "runs": total, "done": len(rows) - len(failed), "failed": len(failed), "left": left}
    if as_json:
        print(to_json(facts, indent=None))
        return 0
    print(f"{made['name']}: {facts['done']} of {total} runs done, {len(failed)} failed, {len(left)} left")
    for row in failed:
        said = f": {row['log'][-1]}" if row.get("log") else ""
        print(f"failed  {row['cell']}, seed {row['seed']} ({row['status']}){said}")
    for name in left:
        print(f"left    {name}")
    return 0
