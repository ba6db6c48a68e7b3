"""What a study varies: axes from words, and the cells, one configuration each, that they make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

from vitlab.config import RunConfig
from vitlab.config.knobs import digest
from vitlab.config.presets import preset_config
from vitlab.config.run import is_list, knob_name, read_value
from vitlab.errors import ConfigError

PRESET = "preset"  # the one axis that is no knob


@dataclass(frozen=True)
class Axis:
    """A knob, or "preset", and the values that it takes."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """One setting: its name, what of it varies, its configuration (whose seed counts for nothing), and what has been
    published for it: accuracy in percent and training seconds."""

    name: str
    varied: dict[str, Any]
    config: RunConfig
    published: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """A cell with a seed: one run."""

    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        """For people, and unique in a study."""
        return f"{self.cell.name}, seed {self.seed}"

    @cached_property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return replace(self.cell.config, train=replace(self.cell.config.train, seed=self.seed))

    @cached_property
    def digest(self) -> str:
        """The name of the run's folder."""
        return self.config.digest()


@dataclass(frozen=True)
class Study:
    """Cells and the seeds that each is run with; ``order`` of the runs is seed by seed, so that a machine that slows
    down slows all cells alike. ``identity`` stands for the cells where they are only found on the way."""

    name: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    identity: Any = None

    @property
    def order(self) -> list[Job]:
        """All runs as they are to be made."""
        return [Job(cell, seed) for seed in self.seeds for cell in self.cells]

    def digest(self) -> str:
        """Differs when cells or seeds do."""
        cells = self.identity or [[cell.name, cell.config.digest()] for cell in self.cells]
        return digest([cells, list(self.seeds)])


def parse_axis(word: str) -> Axis:
    """An axis from "patch_size=4,7,14"; values of a knob that is a list are parted by / ("cnn_channels=16,64/32,64").

    ConfigError for a knob that does not exist, no values, a value that cannot be read, or the same one twice.
    """
    name, equals, text = word.partition("=")
    phrase = f"{word!r} is not AXIS=VALUE,VALUE for a knob or preset"
    if not equals:
        raise ConfigError(phrase)
    if name != PRESET:
        name = knob_name(name, phrase)
    if not text:
        raise ConfigError(f"axis {name} has no values; give some, as in --vary patch_size=4,7,14")
    if name == "seed":
        raise ConfigError("seed is no axis: every cell is run with --seeds N seeds")
    words: list[Any] = (
        [part.split(",") for part in text.split("/")] if name != PRESET and is_list(name) else text.split(",")
    )
    values = tuple(words if name == PRESET else (read_value(name, part) for part in words))
    if len(set(values)) < len(values):
        raise ConfigError(f"axis {name} has the same value twice: {text}")
    return Axis(name, values)


def combine(axes: list[Axis], zipped: bool) -> list[dict[str, Any]]:
    """Every combination of the axes' values; ``zipped``: the first values together, then the second, and so on."""
    names = [axis.name for axis in axes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"axis {twice} is given twice; put its values into one --vary {twice}=...")
    if not zipped:
        return [dict(zip(names, values, strict=True)) for values in product(*(axis.values for axis in axes))]
    if len({len(axis.values) for axis in axes}) > 1:
        lengths = ", ".join(f"{axis.name} has {len(axis.values)}" for axis in axes)
        raise ConfigError(f"--zip takes values together, so all axes need as many: {lengths}")
    return [dict(zip(names, values, strict=True)) for values in zip(*(axis.values for axis in axes), strict=True)]


def make_cells(base: RunConfig, combinations: list[dict[str, Any]], fixed: dict[str, Any]) -> tuple[Cell, ...]:
    """One cell for each combination; ConfigError names the cell that cannot work. ``fixed`` holds for all of them."""
    return tuple(make_cell(base, varied, fixed) for varied in combinations)


def make_cell(base: RunConfig, varied: dict[str, Any], fixed: dict[str, Any], name: str | None = None) -> Cell:
    """The cell of one combination."""
    knobs = {key: value for key, value in varied.items() if key != PRESET}
    for key in knobs.keys() & fixed.keys():
        raise ConfigError(f"{key} is varied and fixed at the same time; leave out --{key.replace('_', '-')}")
    name = name or name_of(varied)
    try:
        if PRESET in varied:
            base = preset_config(varied[PRESET])
        config = base.with_knobs(**fixed, **knobs)
    except ConfigError as error:
        raise ConfigError(f"cell {name}: {error}") from error
    return Cell(name, varied, config)


def name_of(varied: dict[str, Any]) -> str:
    """A cell's name, such as "patch_size 4, embed_dim 48"; a preset's name stands alone."""
    return ", ".join(value if key == PRESET else f"{key} {shown(value)}" for key, value in varied.items()) or "base"


def shown(value: Any) -> str:
    """A value in a name."""
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
