"""What a study varies: axes, the cells that they span (one configuration each), and the studies that have a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from vitlab.config import RunConfig
from vitlab.config.hints import did_you_mean
from vitlab.config.knobs import digest
from vitlab.config.presets import DEFAULT_PRESET, PRESETS, preset_config
from vitlab.config.run import AUTO, is_list, knob_name, read_value
from vitlab.errors import ConfigError
from vitlab.text import value as knob_text

RUNS, STUDIES = Path("runs/by-configuration"), Path("runs/studies")  # where runs and studies go by default
DEFAULT_SEEDS = 3
PRESET = "preset"  # the one axis that is not a knob

# The seed page's tables and its best run, cell by cell.
SEED_STUDIES = {
    "seed-image-patch": [f"seed-{pair}" for pair in ("48x6", "56x7", "32x6", "64x12", "32x8", "28x7", "21x7", "28x4")],
    "seed-projection": [f"seed-dim{dim}" for dim in (64, 48, 32, 16)],
    "seed-best": ["seed-best"],
}
# Questions of our own: axes around the default preset.
GRID_STUDIES = {
    "patch-size": ["patch_size=4,7,14", "patch_overlap=0,2"],
    "depth-width": ["depth=1,2,4", "embed_dim=32,64,96"],
    "tokens-vs-time": ["patch_size=14,9,7,5,4,3"],  # 4, 9, 16, 25, 49 and 81 patches
}
STILL: dict[str, Any] = dict(rotate=0.0, zoom=0.0, shift=0.0, shear=0.0)
# Questions of our own: named settings of the default preset.
SETTING_STUDIES: dict[str, dict[str, dict[str, Any]]] = {
    "augmentation": {
        "all": {},
        "none": STILL,
        "rotate only": STILL | dict(rotate=12.0),
        "zoom only": STILL | dict(zoom=0.12),
        "shift only": STILL | dict(shift=2.0),
        "shear only": STILL | dict(shear=8.0),
        "all, to the end": dict(clean_tail=0.0),
    }
}
NAMED = (*SEED_STUDIES, *GRID_STUDIES, *SETTING_STUDIES)


@dataclass(frozen=True)
class Axis:
    """A knob, or "preset", and the values that it takes."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """One setting: its name, what is varied in it, its configuration (with any seed), and the accuracy in percent and
    training seconds that have been published for it."""

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
        """For people; unique within a study."""
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
    """Cells and the seeds that each is run with. ``identity`` identifies a search, whose cells are not known before."""

    name: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    identity: Any = None

    @property
    def order(self) -> list[Job]:
        """All runs, seed by seed: a machine that becomes slower slows all cells alike."""
        return [Job(cell, seed) for seed in self.seeds for cell in self.cells]

    def digest(self) -> str:
        """Differs when cells or seeds do."""
        cells = self.identity or [[cell.name, cell.config.digest()] for cell in self.cells]
        return digest([cells, list(self.seeds)])


def default_folder(study: Study) -> Path:
    """Where a study goes unless the user says otherwise."""
    return STUDIES / f"{study.name}-{study.digest()[:8]}"


def parse_axis(word: str) -> Axis:
    """The axis in "patch_size=4,7,14"; / separates the values of a knob that is a list ("cnn_channels=16,64/32,64").

    ConfigError for an unknown knob, missing values, a value that cannot be read, or the same one twice.
    """
    name, equals, text = word.partition("=")
    if not equals:
        raise ConfigError(f"{word!r} has no values; give some, as in --vary patch_size=4,7,14")
    if name != PRESET:
        name = knob_name(name, f"--vary {word}: there is no knob {name!r}")
    if not text:
        raise ConfigError(f"axis {name} has no values; give some, as in --vary patch_size=4,7,14")
    if name == "seed":
        raise ConfigError("seed cannot be an axis; --seeds N runs every setting with N seeds")
    values: tuple[Any, ...]
    if name == PRESET:
        values = tuple(text.split(","))
    elif is_list(name):
        values = tuple(read_value(name, part.split(",")) for part in text.split("/"))
    else:
        values = tuple(read_value(name, part) for part in text.split(","))
    if len(set(values)) < len(values):
        raise ConfigError(f"axis {name} has the same value twice: {text}; leave out one")
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
        raise ConfigError(f"--zip needs the same number of values on each axis: {lengths}")
    return [dict(zip(names, values, strict=True)) for values in zip(*(axis.values for axis in axes), strict=True)]


def fitted_base(
    base: RunConfig | None, axes: Iterable[str], fixed: dict[str, Any], note: Callable[[str], None]
) -> tuple[RunConfig, dict[str, Any]]:
    """What cells with these ``axes`` vary around: ``base``, or if that is None what fits the data; and the knobs
    ``fixed`` without those that it decided. ``note`` gets a line on what was chosen. Presets that are compared decide
    for themselves."""
    if PRESET in axes:
        return base or preset_config(DEFAULT_PRESET), fixed
    from vitlab.data.glance import fitted_to_data

    made = fitted_to_data(base, fixed, note)
    return made, {name: value for name, value in fixed.items() if (name, value) != ("image_size", AUTO)}


def make_cells(base: RunConfig, combinations: list[dict[str, Any]], fixed: dict[str, Any]) -> tuple[Cell, ...]:
    """One cell for each combination, with the knobs ``fixed`` in all of them; ConfigError names an impossible cell."""
    return tuple(make_cell(base, varied, fixed) for varied in combinations)


def make_cell(base: RunConfig, varied: dict[str, Any], fixed: dict[str, Any], name: str | None = None) -> Cell:
    """The cell of one combination."""
    knobs = {key: value for key, value in varied.items() if key != PRESET}
    for key in knobs.keys() & fixed.keys():
        raise ConfigError(f"{key} is varied and fixed at the same time; leave out --{key.replace('_', '-')}")
    name = name or name_of(varied)
    if PRESET in varied:
        base = preset_config(varied[PRESET])
    try:
        config = base.with_knobs(**fixed, **knobs)
    except ConfigError as error:
        raise ConfigError(f"cell {name}: {error}") from error
    if config.train.init_from is not None:  # the digest of the weights is part of what the cell is
        from vitlab.runs.start import pinned  # with torch

        config = pinned(config)
    return Cell(name, varied, config)


def name_of(varied: dict[str, Any]) -> str:
    """A cell's name, such as "patch_size 4, embed_dim 48"; a preset has its own."""
    words = [value if key == PRESET else f"{key} {knob_text(value, '+')}" for key, value in varied.items()]
    return ", ".join(words) or "base"


def named_cells(name: str, fixed: dict[str, Any]) -> tuple[Cell, ...]:
    """The cells of the study ``name``, with the knobs ``fixed`` in all of them; ConfigError for an unknown name."""
    if name not in NAMED:
        raise ConfigError(f"there is no study {name!r}{did_you_mean(name, NAMED)}; known: {', '.join(NAMED)}")
    if name in SEED_STUDIES:
        return tuple(published_cell(preset, fixed) for preset in SEED_STUDIES[name])
    base = preset_config(DEFAULT_PRESET)
    if name in GRID_STUDIES:
        return make_cells(base, combine([parse_axis(word) for word in GRID_STUDIES[name]], zipped=False), fixed)
    return tuple(make_cell(base, varied, fixed, setting) for setting, varied in SETTING_STUDIES[name].items())


def published_cell(preset: str, fixed: dict[str, Any]) -> Cell:
    """A preset with what was published for it, unless ``fixed`` makes it another run."""
    cell = make_cell(preset_config(preset), {PRESET: preset}, fixed)
    same = cell.config.digest() == preset_config(preset).digest()
    return replace(cell, published=PRESETS[preset].published if same else None)
