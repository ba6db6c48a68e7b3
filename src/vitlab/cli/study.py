"""vitlab study, vitlab compare."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.cli import flags
from vitlab.config import RunConfig
from vitlab.config.presets import PRESETS, preset_config
from vitlab.errors import ConfigError
from vitlab.files import exists, is_folder
from vitlab.studies.grid import (
    DEFAULT_SEEDS,
    NAMED,
    Cell,
    Study,
    combine,
    default_folder,
    fitted_base,
    make_cells,
    named_cells,
    parse_axis,
)
from vitlab.text import counted, printable, quoted, show, wrapped

if TYPE_CHECKING:
    from rich.table import Table

    from vitlab.studies.driver import Executor, Row
    from vitlab.studies.search import Search
    from vitlab.studies.summary import Line


def declare(children: flags.Children) -> None:
    """Both commands and their options."""
    usage = "NAME | --vary AXIS=VALUE,VALUE ... [--seeds N] [options]"
    parser = flags.add_command(children, study, "vary knobs over several seeds, for a table and a picture", usage)
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help=f"a named study: {', '.join(NAMED)}")
    add("--vary", metavar="AXIS=VALUES", nargs="+", action="extend", help="knobs to vary, or preset, with their values")
    add("--zip", action="store_true", help="combine the first values of all axes, then the second ones, ...")
    flags.add_base(parser, "vary around")
    add("--search", metavar="N", type=flags.count, help="let Optuna choose N settings within --vary")
    objectives = ("accuracy", "accuracy-time")
    add("--objective", choices=objectives, default="accuracy", help="what a search optimises [accuracy]")
    add("--status", metavar="DIR", type=flags.path, help="show a study's progress and exit")
    add_options(parser, "3; 1 for a search")
    usage = "PRESET PRESET ... [--seeds N] [options]"
    parser = flags.add_command(children, compare, "compare presets over several seeds, and say which is better", usage)
    parser.add_argument("presets", metavar="PRESET", nargs="+", help="for example: small keras-cnn")
    add_options(parser, "3")


def add_options(parser: flags.OneLineParser, seeds: str) -> None:
    """The options that both commands have."""
    add = parser.add_argument
    add("--seeds", metavar="N", type=flags.count, help=f"number of seeds: 0, 1, 2 ... [{seeds}]")
    add("--out", metavar="DIR", type=flags.path, help="folder of the study [runs/studies/NAME-DIGEST]")
    flags.add_runs(parser)
    add("--workers", metavar="N", type=flags.count, help="number of runs at a time; they share the cores [1]")
    executors = ("local", "ray", "slurm")
    add("--executor", choices=executors, default="local", help="compute here, on a Ray cluster or by Slurm [local]")
    add("--address", metavar="A", default="auto", help="address of the Ray cluster, HOST:PORT [auto]")
    storage = "folder that all nodes of the Ray cluster share, for runs in progress [they travel]"
    add("--storage", metavar="DIR", type=flags.path, help=storage)
    slurm = "options of sbatch: partition, account, mem, gres ...; time is in minutes [60]"
    add("--slurm", metavar="NAME=VALUE", nargs="+", action="extend", help=slurm)
    add("--retry-failed", action="store_true", help="try failed runs again")
    flags.add_output(parser)
    flags.add_knobs(parser)
    flags.hide(parser, "zip", "config", "objective", "runs", "executor", "address", "storage", "slurm", "retry_failed")


def study(arguments: argparse.Namespace) -> int:
    """Vary knobs around a preset, or run a named study, with several seeds for each setting. Finished runs are never
    repeated. Every knob is an option, and applies to every setting."""
    if arguments.status is not None:
        return status(arguments.status, arguments.json)
    check_axes(arguments.vary or [])
    knobs = given_knobs(arguments)
    search = chosen_search(arguments, knobs)
    cells = () if search else chosen_cells(arguments, knobs)
    name = arguments.name or ("search" if search else "study")
    seeds = range(arguments.seeds or (1 if search else DEFAULT_SEEDS))
    chosen = Study(name, cells, tuple(seeds), search.identity if search else None)
    chosen, folder, rows = carry_out(arguments, chosen, search)

    from vitlab.look.study import write_tables
    from vitlab.studies import table

    made = write_tables(chosen, folder, rows, arguments.runs or flags.RUNS)
    lines, notes, facts = made.lines, made.notes, made.facts
    if arguments.json:
        flags.print_json(facts)
    else:
        print_tables(chosen.name, lines, table.grid_of(lines), notes)
        show_files(folder)
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """Train presets in turn, seed by seed, on one machine: accuracy, time, and a sentence that compares the first
    preset with each of the others and gives the evidence."""
    names, knobs = arguments.presets, given_knobs(arguments)
    folders = [name for name in names if name not in PRESETS and is_folder(Path(name))]
    if folders:
        command = " --beside ".join(map(quoted, [*folders, "RUN"][:2]))
        text = f"{folders[0]} is a folder, but compare trains presets"
        raise ConfigError(f"{text}; to compare finished runs: `vitlab look {command}`")
    if len(set(names)) < len(names) or len(names) < 2:
        raise ConfigError("vitlab compare needs two or more different presets, such as small keras-cnn")
    cells = make_cells(preset_config(names[0]), [{"preset": name} for name in names], knobs)
    chosen = Study("compare", cells, tuple(range(arguments.seeds or DEFAULT_SEEDS)))
    chosen, folder, rows = carry_out(arguments, chosen)

    from vitlab.look.study import write_tables
    from vitlab.studies import table
    from vitlab.studies.compare import comparison
    from vitlab.studies.images import validation_cut

    runs = arguments.runs or flags.RUNS
    made = write_tables(chosen, folder, rows, runs)
    lines, notes = made.lines, made.notes
    facts = comparison(lines, rows, runs)
    if arguments.json:
        flags.print_json(facts)
        return 0
    grid = table.grid_of(lines)
    for row, line in zip(grid, facts["lines"], strict=True):
        row |= {f"s to {bar}": table.number(seconds, 1) for bar, seconds in line["seconds_to"].items()}
    notes.insert(-1, "Seconds to an accuracy are those of training until the validation images first reached it.")
    if len({validation_cut(cell.config) for cell in cells}) > 1:
        notes.insert(-1, "These presets validate on different images, so compare such seconds with care.")
    print_tables("side by side", lines, grid, notes)
    for pair in facts["pairs"]:
        show(pair["sentence"])
    show_files(folder)
    return 0


def show_files(folder: Path) -> None:
    """Where the tables are."""
    from vitlab.studies.driver import TABLES

    names = [name for name in TABLES if exists(folder / name)]
    show(f"saved in {folder}: {', '.join(names)}", f"next: vitlab look {quoted(folder)}   # a report")


def given_knobs(arguments: argparse.Namespace) -> dict[str, Any]:
    """The knobs that apply to every cell; ConfigError for --seed, of which a study has several."""
    knobs = flags.given_knobs(arguments)
    if "seed" in knobs:
        raise ConfigError("a study runs every setting with several seeds: use --seeds N instead of --seed")
    return knobs


def chosen_cells(arguments: argparse.Namespace, knobs: dict[str, Any]) -> tuple[Cell, ...]:
    """The cells of a named study, or of the axes around a preset."""
    if arguments.name is not None:
        if arguments.vary or arguments.preset or arguments.config:
            raise ConfigError("a named study has its own settings: leave out --vary, --preset and --config")
        if "=" in arguments.name:
            raise ConfigError(f"{arguments.name!r} is not a study; did you forget --vary? `--vary {arguments.name}`")
        return named_cells(arguments.name, knobs)
    if not arguments.vary:
        raise ConfigError(f"a study needs a name ({', '.join(NAMED)}) or --vary AXIS=VALUE,VALUE")
    if any(".." in word for word in arguments.vary):
        raise ConfigError("a range is for --search N, which chooses values from it; use --vary AXIS=VALUE,VALUE")
    axes = [parse_axis(word) for word in arguments.vary]
    base, knobs = around(arguments, [axis.name for axis in axes], knobs)
    return make_cells(base, combine(axes, arguments.zip), knobs)


def check_axes(words: Sequence[str]) -> None:
    """ConfigError for values that are written as in Python, with spaces or brackets."""
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else "="
        whole = f"{word}{following}" if word.endswith(",") and "=" not in following else word
        name, _, values = whole.partition("=")
        axis = f"--vary {name}={values.strip('[]()')}"
        if whole != word:
            raise ConfigError(f"no space after the comma: {axis}")
        if values.startswith(("[", "(")):
            raise ConfigError(f"values are written without brackets: {axis}")


def around(arguments: argparse.Namespace, axes: list[str], knobs: dict[str, Any]) -> tuple[RunConfig, dict[str, Any]]:
    """What a study of these axes varies around, and the knobs to set in all cells."""
    base = flags.named_config(arguments.preset, arguments.config)
    return fitted_base(base, axes, knobs, flags.notes(arguments.quiet))


def chosen_search(arguments: argparse.Namespace, knobs: dict[str, Any]) -> Search | None:
    """The search that --search asks for."""
    if arguments.search is None:
        return None
    from vitlab.studies.search import Search, load_optuna, parse_dimension

    if arguments.name is not None or not arguments.vary or arguments.zip:
        raise ConfigError("--search needs --vary KNOB=LOW..HIGH or KNOB=VALUE,VALUE, without a name and without --zip")
    if arguments.retry_failed:
        raise ConfigError("a search never repeats a failed setting; leave out --retry-failed")
    load_optuna()
    dimensions = tuple(map(parse_dimension, arguments.vary))
    for dimension in dimensions:
        if dimension.name in knobs:
            raise ConfigError(f"{dimension.name} is searched and fixed at the same time; leave out one of the two")
    base, knobs = around(arguments, [dimension.name for dimension in dimensions], knobs)
    with_time = arguments.objective == "accuracy-time"
    for name in ("data", "val_fraction", "val_split"):
        if any(dimension.name == name for dimension in dimensions):
            raise ConfigError(f"a search compares settings by the same validation images; leave {name} out of --vary")
    search = Search(base, knobs, dimensions, arguments.search, arguments.workers or 1, 0, with_time)
    if search.config.data.val_fraction == 0:
        raise ConfigError("a search needs validation images to choose by; set --val-fraction 0.1")
    return search


def carry_out(
    arguments: argparse.Namespace, chosen: Study, search: Search | None = None
) -> tuple[Study, Path, list[Row]]:
    """Run what is missing. The study (with the cells that a search has found), its folder and its rows; Interrupted if
    a signal stops it, after all its processes have ended."""
    from vitlab.progress import choose_watch
    from vitlab.studies.session import Place, run_study

    folder, runs = arguments.out or default_folder(chosen), arguments.runs or flags.RUNS
    place = Place(folder, runs, arguments.retry_failed, may_be_elsewhere=arguments.executor == "ray")
    executor = choose_executor(arguments, (search.config if search else chosen.cells[0].config), folder)
    chosen, rows = run_study(chosen, place, executor, choose_watch(arguments.quiet), search)
    return chosen, folder, rows


def choose_executor(arguments: argparse.Namespace, config: RunConfig, folder: Path) -> Executor:
    """Processes on this machine, a Ray cluster, or Slurm. ``folder`` is the study's."""
    for option, owner in (("storage", "ray"), ("slurm", "slurm")):
        if getattr(arguments, option) is not None and arguments.executor != owner:
            raise ConfigError(f"--{option} is for --executor {owner}; leave it out, or add that")
    cpus, gpus = config.machine.threads or 1, int(config.machine.wants_gpu)
    if arguments.executor == "ray":
        from vitlab.studies.executors.ray import RayExecutor

        return RayExecutor(arguments.address, cpus, gpus, arguments.storage)
    if arguments.executor == "slurm":
        from vitlab.studies.executors.slurm import IN_QUEUE, SlurmExecutor, parse_options

        options = parse_options(arguments.slurm or [])
        return SlurmExecutor(options, cpus, gpus, arguments.workers or IN_QUEUE, folder / "logs" / "submitit")
    from vitlab.processor import available_cores
    from vitlab.studies.executors.local import LocalExecutor

    return LocalExecutor(arguments.workers or 1, available_cores())


def print_tables(title: str, lines: Sequence[Line], grid: list[dict[str, str]], notes: list[str]) -> None:
    """A table for each of `summary.groups`; ``grid`` holds the texts of the lines, by heading."""
    from vitlab.studies.summary import groups
    from vitlab.studies.table import heading, without_empty

    texts = {line.cell: row for line, row in zip(lines, grid, strict=True)}
    tables = groups(lines)
    for number, group in enumerate(tables, start=1):
        rows = without_empty([texts[line.cell] for line in group])
        print_table(f"{title}: {heading(group)}", rows, notes if number == len(tables) else [])


def print_table(title: str, rows: list[dict[str, str]], notes: list[str]) -> None:
    """Rows of texts by heading on standard output, as wide as they need to be unless that is a terminal: there, columns
    are left out until the others fit, and no number is ever cut."""
    from rich.console import Console

    from vitlab.studies.table import LESS

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=240)
    shown, wide = drawn_table(title, rows, notes), console.options.update(width=1000)
    left_out = []
    for name in LESS:
        if console.measure(shown, options=wide).maximum <= console.width:
            break
        if name in rows[0]:
            left_out.append(name)
            rows = [{heading: text for heading, text in row.items() if heading != name} for row in rows]
            shown = drawn_table(title, rows, notes)
    console.print(shown)
    if left_out:
        show(*wrapped(f"left out because the terminal is narrow: {', '.join(left_out)}"))


def drawn_table(title: str, rows: list[dict[str, str]], notes: list[str]) -> Table:
    """A table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    from vitlab.studies.table import TEXTS

    caption = Text("\n".join(map(printable, notes)))  # Text: names are no markup
    shown = Table(title=Text(printable(title)), caption=caption, caption_justify="left", title_justify="left")
    for heading in rows[0]:
        is_text = heading in TEXTS
        shown.add_column(heading, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(text)) for text in row.values()))
    return shown


def status(folder: Path, as_json: bool) -> int:
    """Print what is done, failed and left of a study, which may still be running."""
    from vitlab.studies.driver import read_rows, read_study, why_failed

    about, stored = read_study(folder), {(row["cell"], row["seed"]): row for row in read_rows(folder)}
    jobs = [(cell["name"], seed) for seed in about["seeds"] for cell in about["cells"]]
    rows = [stored[job] for job in jobs if job in stored]
    failed = [row for row in rows if row["status"] != "done"]
    left = [f"{cell}, seed {seed}" for cell, seed in jobs if (cell, seed) not in stored]
    done = len(rows) - len(failed)
    facts = dict(study=about["name"], runs=len(jobs), done=done, failed=len(failed), left=left)
    if as_json:
        flags.print_json(facts)
        return 0
    counts = f"{done} of {counted(len(jobs), 'run')} done, {len(failed)} failed, {len(left)} left"
    show(f"{about['name']}: {counts}")
    for row in failed:
        show(f"failed  {row['cell']}, seed {row['seed']}: {why_failed(row)}")
    for name in left:
        show(f"left    {name}")
    return 0
