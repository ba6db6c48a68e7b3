"""Search: Optuna proposes settings, the driver runs them, and validation accuracy decides.

Nothing of Optuna is stored. Its sampler is seeded; after an interruption the search is replayed from the finished runs
in the same batches, so Optuna proposes the same settings as without the interruption.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vitlab.config import RunConfig
from vitlab.config.knobs import inner_type, knob_type
from vitlab.config.run import knob_name, read_value
from vitlab.errors import ConfigError, import_optional, pip_install
from vitlab.studies.driver import Row
from vitlab.studies.grid import PRESET, Cell, make_cell, name_of, parse_axis

LOG_FROM = 10.0  # a range whose ends differ by this factor is searched on a logarithmic scale


@dataclass(frozen=True)
class Dimension:
    """A knob with its range (``values`` None) or its choices."""

    name: str
    low: Any = None
    high: Any = None
    values: tuple[Any, ...] | None = None

    @property
    def log(self) -> bool:
        """Whether the range is searched on a logarithmic scale."""
        return bool(self.low > 0 and self.high / self.low >= LOG_FROM)

    def suggest(self, trial: Any) -> Any:
        """The value for an Optuna trial."""
        if self.values is not None:  # by number: Optuna takes no tuples as choices
            return self.values[trial.suggest_categorical(self.name, list(range(len(self.values))))]
        if isinstance(self.low, int):
            return trial.suggest_int(self.name, self.low, self.high, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def place_of(self, value: Any) -> Any | None:
        """``value`` as Optuna takes it; None if it is outside of the dimension."""
        if self.values is not None:
            return self.values.index(value) if value in self.values else None
        return value if value is not None and self.low <= value <= self.high else None


def parse_dimension(word: str) -> Dimension:
    """The range in "lr=1e-4..1e-2", or the choices in "depth=1,2,4"; ConfigError for anything else."""
    name, _, text = word.partition("=")
    if ".." not in text:
        axis = parse_axis(word)
        if axis.name == PRESET:
            raise ConfigError("a search varies knobs around one preset; leave out --search to vary presets")
        return Dimension(axis.name, values=axis.values)
    name = knob_name(name, f"{word!r} is not KNOB=LOW..HIGH")
    if inner_type(knob_type(RunConfig, name))[0] not in (int, float):
        raise ConfigError(f"{name} has no range; use choices, as in --vary norm=layer,rms")
    low, high = (read_value(name, end) for end in text.split("..", 1))
    if low is None or high is None or not low < high:
        raise ConfigError(f"the range of {name} must rise, as in {name}=LOW..HIGH, not {text}")
    return Dimension(name, low, high)


@dataclass(frozen=True)
class Search:
    """``trials`` settings, ``batch`` of them at a time, by validation accuracy, or by accuracy and time."""

    base: RunConfig
    fixed: dict[str, Any]
    dimensions: tuple[Dimension, ...]
    trials: int
    batch: int
    seed: int
    with_time: bool

    @property
    def config(self) -> RunConfig:
        """The configuration that the search starts from."""
        return self.base.with_knobs(**self.fixed)

    @property
    def identity(self) -> list[Any]:
        """What makes it this search: two searches with equal identities propose the same settings."""
        dimensions = [repr(dimension) for dimension in self.dimensions]
        return ["search", self.config.digest(), dimensions, self.trials, self.batch, self.with_time]

    def run(self, run_cells: Callable[[Sequence[Cell]], tuple[list[Row], bool]]) -> tuple[list[Cell], list[Row], bool]:
        """All cells, their rows, and whether the search is complete. The base is tried first if the ranges hold it."""
        optuna = load_optuna()
        directions = ["maximize", "minimize"] if self.with_time else ["maximize"]
        study = optuna.create_study(directions=directions, sampler=optuna.samplers.TPESampler(seed=self.seed))
        start = self.start()
        if start is not None:
            study.enqueue_trial(start)
        cells: list[Cell] = []
        rows: list[Row] = []
        while len(cells) < self.trials:
            asked = [study.ask() for _ in range(min(self.batch, self.trials - len(cells)))]
            cells += [self.cell_of(trial) for trial in asked]
            rows, complete = run_cells(cells)
            if not complete:
                return cells, rows, False
            for trial, cell in zip(asked, cells[-len(asked) :], strict=True):
                values = self.values_of([row for row in rows if row["cell"] == cell.name])
                study.tell(trial, values, state=None if values else optuna.trial.TrialState.FAIL)
        return cells, rows, True

    def start(self) -> dict[str, Any] | None:
        """The base's own setting as Optuna takes it; None if it lies outside of a dimension."""
        own = self.config.values()
        places = {dimension.name: dimension.place_of(own[dimension.name]) for dimension in self.dimensions}
        return None if None in places.values() else places

    def cell_of(self, trial: Any) -> Cell:
        """The cell of a trial's proposal."""
        varied = {dimension.name: dimension.suggest(trial) for dimension in self.dimensions}
        return make_cell(self.base, varied, self.fixed, f"trial {trial.number}: {name_of(varied)}")

    def values_of(self, rows: list[Row]) -> list[float] | None:
        """The values of a setting to report to Optuna; None if none of its runs is done."""
        done = [row for row in rows if row["status"] == "done" and row["val_top1"] is not None]
        if not done:
            return None
        values = [statistics.mean(row["val_top1"] for row in done)]
        return [*values, statistics.median(row["train_seconds"] for row in done)] if self.with_time else values


def load_optuna() -> Any:
    """The module optuna, silent; ConfigError if it is not installed."""
    missing = ConfigError(f"--search needs Optuna, which is not installed: {pip_install('optuna')}")
    optuna: Any = import_optional("optuna", missing)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
