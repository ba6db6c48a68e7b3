"""Studies that have a name: the seed page's tables, and our own questions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vitlab.config.knobs import did_you_mean
from vitlab.config.presets import DEFAULT_PRESET, PRESETS, preset_config
from vitlab.errors import ConfigError
from vitlab.studies.grid import Cell, combine, make_cell, parse_axis


@dataclass(frozen=True)
class Named:
    """What a named study asks, and its cells: presets, or axes around a preset, or settings by name."""

    about: str
    presets: tuple[str, ...] = ()
    base: str = DEFAULT_PRESET
    axes: tuple[str, ...] = ()
    settings: tuple[tuple[str, dict[str, Any]], ...] = ()


STILL: dict[str, Any] = dict(rotate=0.0, zoom=0.0, shift=0.0, shear=0.0)

NAMED: dict[str, Named] = {
    "seed-image-patch": Named(
        "the seed page's first table: image size and patch size, one epoch.",
        presets=tuple(f"seed-{pair}" for pair in ("48x6", "56x7", "32x6", "64x12", "32x8", "28x7", "21x7", "28x4")),
    ),
    "seed-projection": Named(
        "the seed page's second table: projection dimension, one epoch.",
        presets=tuple(f"seed-dim{dim}" for dim in (64, 48, 32, 16)),
    ),
    "seed-best": Named("the seed page's best run, 100 epochs.", presets=("seed-best",)),
    "patch-size": Named(
        "how small patches should be, and what looking into the neighbours is worth.",
        axes=("patch_size=4,7,14", "patch_overlap=0,2"),
    ),
    "depth-width": Named("deeper or wider.", axes=("depth=1,2,4", "embed_dim=32,64,96")),
    "augmentation": Named(
        "what each random change of the images is worth.",
        settings=(
            ("all", {}),
            ("none", STILL),
            ("rotate only", STILL | dict(rotate=12.0)),
            ("zoom only", STILL | dict(zoom=0.12)),
            ("shift only", STILL | dict(shift=2.0)),
            ("shear only", STILL | dict(shear=8.0)),
            ("all, to the end", dict(clean_tail=0.0)),
        ),
    ),
    "tokens-vs-time": Named(
        "what the number of patches costs: 4, 9, 16, 25, 49 and 81 of them.",
        axes=("patch_size=14,9,7,5,4,3",),
    ),
}  # fmt: skip


def named_cells(name: str, fixed: dict[str, Any]) -> tuple[Cell, ...]:
    """The cells of the study ``name``, with ``fixed`` knobs in all of them; ConfigError if there is none such."""
    study = find(name)
    if study.presets:
        return tuple(published_cell(preset, fixed) for preset in study.presets)
    base = preset_config(study.base)
    if study.settings:
        return tuple(make_cell(base, knobs, fixed, setting) for setting, knobs in study.settings)
    return tuple(make_cell(base, varied, fixed) for varied in combine([parse_axis(word) for word in study.axes], False))


def published_cell(preset: str, fixed: dict[str, Any]) -> Cell:
    """A preset with what was published for it, unless ``fixed`` knobs make it another run."""
    cell = make_cell(preset_config(preset), {"preset": preset}, fixed)
    same = cell.config.digest() == preset_config(preset).digest()
    return replace(cell, published=PRESETS[preset].published if same else None)


def find(name: str) -> Named:
    """The study of that name."""
    if name not in NAMED:
        raise ConfigError(f"there is no study {name!r}{did_you_mean(name, NAMED)}; known: {', '.join(NAMED)}")
    return NAMED[name]
