"""Compare settings and presets over several seeds: a table, a picture and a report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab import html
from vitlab.api.given import Data, as_table, given_knobs, is_shown, named_config, plain
from vitlab.config import RunConfig
from vitlab.config.presets import preset_config
from vitlab.config.run import knob_name
from vitlab.errors import ConfigError
from vitlab.processor import available_cores
from vitlab.progress import choose_notes, choose_watch
from vitlab.studies import table
from vitlab.studies.compare import pair, timed_apart
from vitlab.studies.driver import Row
from vitlab.studies.executors.local import LocalExecutor
from vitlab.studies.grid import (
    DEFAULT_SEEDS,
    NAMED,
    PRESET,
    RUNS,
    Axis,
    Cell,
    Study,
    combine,
    default_folder,
    fitted_base,
    make_cells,
    named_cells,
)
from vitlab.studies.session import Place, run_study
from vitlab.studies.summary import Line, groups
from vitlab.text import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Columns that a notebook has no room for; `StudyResult.table` has them all.
LEFT_OUT = ("in the head", "MFLOP", "images/s", *(column.heading for column in table.FURTHER))
EXAMPLE = 'vary={"patch_size": [4, 7]}'
MOST_SENTENCES = 3  # that a notebook shows


def study(
    name: str | None = None,
    *,
    vary: Mapping[str, Sequence[Any]] | None = None,
    preset: str | RunConfig | None = None,
    data: Data | None = None,
    seeds: int = DEFAULT_SEEDS,
    zipped: bool = False,
    out: str | os.PathLike[str] | None = None,
    workers: int = 1,
    retry_failed: bool = False,
    progress: bool = True,
    **knobs: Any,
) -> StudyResult:
    """Train every setting with several seeds, each run in a separate process, and compare accuracy and time.

    Either ``name`` is that of a ready study, such as "seed-projection" (all: `vitlab.studies.grid.NAMED`), or ``vary``
    lists the values of one or more knobs, or of "preset", around ``preset`` (by default one that fits the data, usually
    "small"). All combinations are
    trained; ``zipped``: only the first values of all knobs together, then the second ones, and so on. ``data`` and
    ``knobs`` apply to every setting; for both see `train`. Seeds are 0 to ``seeds`` - 1.

    ``out``: the study's folder; by default runs/studies/NAME-DIGEST. Its runs are in runs/by-configuration, or next to
    ``out`` in by-configuration. Finished runs are never repeated, so the same call again continues an interrupted
    study, or shows a finished one at once. ``workers``: runs at a time, which share the cores. ``retry_failed``: try
    runs again that failed.

    ConfigError names an impossible setting before anything is trained; Interrupted after Ctrl-C.

    >>> result = vitlab.study(vary={"depth": [1, 2]}, preset="fast", data="digits", epochs=1, seeds=1, progress=False)
    >>> [line["cell"] for line in result.lines]
    ['depth 1', 'depth 2']
    >>> result.rows[0]["status"], result.rows[0]["test_top1"] > 0.2
    ('done', True)
    """
    if not isinstance(name, str | None):
        raise ConfigError(f"the name of a study is text, not {type(name).__name__}; {EXAMPLE} lists values of knobs")
    knobs = fixed_knobs(knobs, data, out)
    if name is not None and vary is None:
        cells = named_cells(name, knobs)
    else:
        cells = varied_cells(vary, preset, knobs, zipped, quiet=not is_shown(progress))
    if name is not None and (vary is not None or preset is not None):
        raise ConfigError("a named study has its own settings: leave out vary and preset")
    return carried_out(Study(name or "study", cells, seeds_to(seeds)), out, workers, retry_failed, progress)


def compare(
    *presets: str,
    data: Data | None = None,
    seeds: int = DEFAULT_SEEDS,
    out: str | os.PathLike[str] | None = None,
    workers: int = 1,
    retry_failed: bool = False,
    progress: bool = True,
    **knobs: Any,
) -> StudyResult:
    """Train two or more presets in turn, seed by seed, on this machine. ``sentences`` of the result compare the first
    with each of the others and give the evidence. For the parameters see `study`.

    >>> result = vitlab.compare("fast", "cnn-tuned", data="digits", epochs=1, seeds=1, progress=False)
    >>> result.sentences[0].startswith("fast against cnn-tuned: faster in ")
    True
    """
    if not all(isinstance(preset, str) for preset in presets):
        raise ConfigError('compare takes names of presets: vitlab.compare("small", "keras-cnn")')
    if len(set(presets)) < len(presets) or len(presets) < 2:
        raise ConfigError('compare needs two or more different presets: vitlab.compare("small", "keras-cnn")')
    knobs = fixed_knobs(knobs, data, out)
    cells = make_cells(preset_config(presets[0]), [{PRESET: name} for name in presets], knobs)
    return carried_out(Study("compare", cells, seeds_to(seeds)), out, workers, retry_failed, progress)


def seeds_to(count: int) -> tuple[int, ...]:
    """The seeds of a study."""
    if type(count) is not int or not 1 <= count <= 10_000:
        raise ConfigError(f"seeds is the number of seeds, from 1 to 10,000, not {count!r}")
    return tuple(range(count))


def fixed_knobs(knobs: Mapping[str, Any], data: Data | None, out: str | os.PathLike[str] | None) -> dict[str, Any]:
    """The knobs that apply to every setting; arrays are stored where the study's runs find them."""
    if "seed" in knobs:
        raise ConfigError("a study trains every setting with several seeds: pass seeds=N, not seed")
    return given_knobs(knobs, data, RUNS.parent if out is None else Path(out).parent)


def varied_cells(
    vary: Mapping[str, Sequence[Any]] | None,
    preset: str | RunConfig | None,
    knobs: dict[str, Any],
    zipped: bool,
    quiet: bool = True,
) -> tuple[Cell, ...]:
    """One setting for each combination of the values in ``vary``."""
    if not vary:
        raise ConfigError(f"a study needs a name ({', '.join(NAMED)}) or {EXAMPLE}")
    if not isinstance(vary, Mapping):
        raise ConfigError(f"vary is a dict, such as {EXAMPLE}, not {vary!r}")
    axes = [axis_of(name, values) for name, values in vary.items()]
    base, knobs = fitted_base(named_config(preset), [axis.name for axis in axes], knobs, choose_notes(quiet))
    return make_cells(base, combine(axes, zipped), knobs)


def axis_of(name: str, values: Any) -> Axis:
    """A knob, or "preset", with its values; ConfigError for an unknown one, or without several values."""
    if name != PRESET:
        name = knob_name(name, f"{name!r} in vary is no knob")
    if name == "seed":
        raise ConfigError("seed cannot be varied: seeds=N trains every setting with N seeds")
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise ConfigError(f'vary={{"{name}": ...}} takes a list of values, not {values!r}')
    made = tuple(tuple(one) if isinstance(one, list) else one for one in map(plain, values))
    if not made or len(set(map(repr, made))) < len(made):
        raise ConfigError(f"vary has {'the same value twice' if made else 'no values'} for {name}")
    return Axis(name, made)


def carried_out(
    chosen: Study, out: str | os.PathLike[str] | None, workers: int, retry_failed: bool, progress: bool
) -> StudyResult:
    """Train what is missing, and write the tables."""
    from vitlab.look.study import write_tables

    if not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"workers is the number of runs at a time, from 1, not {workers!r}")
    folder = default_folder(chosen) if out is None else Path(out)
    runs = RUNS if out is None else folder.parent / RUNS.name
    executor, watch = LocalExecutor(workers, available_cores()), choose_watch(quiet=not is_shown(progress))
    chosen, rows = run_study(chosen, Place(folder, runs, retry_failed), executor, watch)
    made = write_tables(chosen, folder, rows, runs)
    return StudyResult(chosen.name, folder, runs, rows, made.lines, made.notes)


@dataclass(frozen=True, eq=False, repr=False)
class StudyResult:
    """What a study or a comparison found; `study` and `compare` make one.

    ``rows``: one dict per run, in the order of training: "cell" (the setting's name), "seed", "status", the metrics of
    `Result`, times, "run" (the name of its folder in ``runs``), ... ``path`` is the study's folder. Accuracies in
    ``rows`` are from 0 to 1, those in ``lines`` and ``table`` in percent.

    >>> result = vitlab.study(vary={"depth": [1, 2]}, preset="fast", data="digits", epochs=1, seeds=1, progress=False)
    >>> len(result.table), sorted(result.path.glob("table.*"))[0].name
    (2, 'table.csv')
    >>> figure = result.plot()
    """

    name: str
    path: Path
    runs: Path
    rows: list[Row]
    cells: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """One dict per setting, as in table.csv: "cell", "accuracy" (mean over the seeds, percent), "sd", "low" and
        "high" (95 % interval), "rank", "seconds" (median of training), "params", "flops", ..."""
        return [table.values_of(line) for line in self.cells]

    @property
    def table(self) -> Any:
        """The same as a pandas DataFrame if pandas is installed, otherwise `lines`."""
        return as_table(self.lines)

    @cached_property
    def pairs(self) -> list[dict[str, Any]]:
        """The first setting compared with each of the others, seed by seed: "accuracy_gain" (points) with
        "accuracy_gain_half_interval" (95 %), "times_faster" (median), "sentence", ..."""
        own = {line.cell: [row for row in self.rows if row["cell"] == line.cell] for line in self.cells}
        first, *others = self.cells
        apart = timed_apart(self.rows)
        return [pair(first, other, own[first.cell], own[other.cell], apart) for other in others]

    @property
    def sentences(self) -> list[str]:
        """What `pairs` say, each with its evidence."""
        return [pair["sentence"] for pair in self.pairs]

    def plot(self) -> Figure:
        """Accuracy against training time, one point with its 95 % interval per setting; ConfigError without any."""
        from vitlab.look.study import accuracy_against_time

        try:
            return accuracy_against_time(self.cells, self.name)
        except ValueError as error:
            raise ConfigError(f"there is nothing to draw: {error}") from None

    def report(self) -> Path:
        """Write report.html into the study's folder; its path."""
        from vitlab.look.write import look_at_study

        written = look_at_study(self.path, self.runs)
        assert written.report is not None
        return written.report

    def __repr__(self) -> str:
        failed = sum(row["status"] != "done" for row in self.rows)
        also = f", {failed} failed" if failed else ""
        sizes = f"{counted(len(self.cells), 'setting')}, {counted(len(self.rows), 'run')}{also}"
        return f"<StudyResult {self.name}: {sizes}, in {self.path}>"

    def _repr_html_(self) -> str:
        parts = [html.text(sentence) for sentence in self.sentences[:MOST_SENTENCES]]
        for group in groups(self.cells):
            rows = [
                {heading: words for heading, words in row.items() if heading not in LEFT_OUT}
                for row in table.without_empty(table.grid_of(group))
            ]
            shown = [[html.text(words) for words in row.values()] for row in rows]
            parts += [html.text(table.heading(group)), html.table(list(rows[0]), shown)]
        return html.block(*parts, *(f"<small>{html.text(note)}</small>" for note in self.notes))
