"""Axes, cells and named studies."""

from __future__ import annotations

from typing import Any

import pytest

from vitlab.config import RunConfig
from vitlab.config.presets import PRESETS, preset_config
from vitlab.errors import ConfigError
from vitlab.studies.grid import NAMED, Axis, Study, combine, make_cells, name_of, named_cells, parse_axis


@pytest.mark.parametrize(
    ("word", "axis"),
    [
        ("patch_size=4,7,14", Axis("patch_size", (4, 7, 14))),
        ("patch-size=4", Axis("patch_size", (4,))),
        ("lr=1e-3,0.01", Axis("lr", (1e-3, 0.01))),
        ("norm=layer,rms", Axis("norm", ("layer", "rms"))),
        ("flip=true,false", Axis("flip", (True, False))),
        ("crop=none,20", Axis("crop", (None, 20))),
        ("cnn_channels=16,64/32,64/8", Axis("cnn_channels", ((16, 64), (32, 64), (8,)))),
        ("preset=small,keras-cnn", Axis("preset", ("small", "keras-cnn"))),
    ],
)
def test_axes_are_read(word: str, axis: Axis) -> None:
    assert parse_axis(word) == axis


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("patchsize=4,7", ("no knob 'patchsize'", "patch_size?")),
        ("patch_size", ("has no values; give some, as in",)),
        ("patch_size=", ("axis patch_size has no values", 'vary={"patch_size": [4, 7, 14]}')),
        ("patch_size=4,", ("patch_size",)),
        ("patch_size=4,big", ("patch_size", "big")),
        ("depth=2,4,2", ("axis depth has the same value twice",)),
        ("seed=1,2", ("seed cannot be an axis", "seeds=N")),
    ],
)
def test_axes_that_are_none(word: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_axis(word)
    assert all(part in str(caught.value) for part in words), caught.value


def test_axes_are_crossed_or_zipped() -> None:
    axes = [Axis("depth", (1, 2)), Axis("embed_dim", (16, 32))]
    pairs = [(cell["depth"], cell["embed_dim"]) for cell in combine(axes, zipped=False)]
    assert pairs == [(1, 16), (1, 32), (2, 16), (2, 32)]
    assert [tuple(cell.values()) for cell in combine(axes, zipped=True)] == [(1, 16), (2, 32)]
    with pytest.raises(ConfigError, match="depth has 2, embed_dim has 3"):
        combine([axes[0], Axis("embed_dim", (16, 32, 48))], zipped=True)
    with pytest.raises(ConfigError, match="axis depth is given twice"):
        combine([axes[0], axes[0]], zipped=False)


def test_cells_carry_what_varies_and_what_is_fixed() -> None:
    cells = make_cells(RunConfig(), [{"depth": 3, "crop": None}, {"depth": 5, "crop": 20}], {"epochs": 7.0})
    assert [cell.name for cell in cells] == ["depth 3, crop none", "depth 5, crop 20"]
    assert [(c.config.model.depth, c.config.model.crop, c.config.train.epochs) for c in cells] == [
        (3, None, 7),
        (5, 20, 7),
    ]


def test_a_preset_is_an_axis_too() -> None:
    (cnn,) = make_cells(preset_config("small"), [{"preset": "keras-cnn", "batch_size": 64}], {"epochs": 2.0})
    assert cnn.name == "keras-cnn, batch_size 64"
    assert cnn.config == preset_config("keras-cnn").with_knobs(batch_size=64, epochs=2.0)


def test_a_cell_that_cannot_work_is_named() -> None:
    with pytest.raises(ConfigError, match="cell patch_size 40: patch_size 40 is larger than image_size 28"):
        make_cells(RunConfig(), [{"patch_size": 7}, {"patch_size": 40}], {})
    with pytest.raises(ConfigError, match="depth is varied and fixed"):
        make_cells(RunConfig(), [{"depth": 2}], {"depth": 3})


@pytest.mark.parametrize(
    ("varied", "name"),
    [
        ({}, "base"),
        ({"cnn_channels": (16, 64), "head_hidden": ()}, "cnn_channels 16+64, head_hidden none"),
        ({"lr": 0.001, "flip": True}, "lr 0.001, flip on"),
    ],
)
def test_names_of_cells(varied: dict[str, Any], name: str) -> None:
    assert name_of(varied) == name


def test_the_order_is_seed_by_seed() -> None:
    cells = make_cells(RunConfig(), [{"depth": 1}, {"depth": 2}], {})
    order = Study("x", cells, (5, 7)).order
    assert [(job.cell.name, job.config.train.seed) for job in order] == [
        ("depth 1", 5), ("depth 2", 5), ("depth 1", 7), ("depth 2", 7),
    ]  # fmt: skip
    assert len({job.digest for job in order}) == 4
    assert order[0].digest == order[0].config.digest()


def test_a_study_is_another_one_with_other_cells_or_seeds() -> None:
    one, two = (make_cells(RunConfig(), [{"depth": depth}], {}) for depth in (1, 2))
    digests = {Study("x", one, (0,)).digest(), Study("x", two, (0,)).digest(), Study("x", one, (0, 1)).digest()}
    assert len(digests) == 3
    assert Study("another name", one, (0,)).digest() == Study("x", one, (0,)).digest()


@pytest.mark.parametrize("name", NAMED)
def test_named_studies_have_cells_that_work(name: str) -> None:
    cells = named_cells(name, {})
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({cell.config.digest() for cell in cells}) == len(cells)


def test_the_seeds_tables_stand_beside_what_the_page_says() -> None:
    pages = {
        name: [cell.published for cell in named_cells(name, {})] for name in ("seed-image-patch", "seed-projection")
    }
    assert pages["seed-image-patch"] == [
        (94.91, 412), (93.96, 414), (95.59, 165), (94.93, 166), (94.62, 97), (93.72, 96), (93.43, 72), (94.68, 313),
    ]  # fmt: skip
    assert pages["seed-projection"] == [(93.78, 122), (93.59, 95), (93.38, 82), (91.33, 63)]
    assert named_cells("seed-best", {})[0].published == PRESETS["seed-best"].published == (98.94, 7200)


def test_a_shortened_study_is_not_compared_with_the_page() -> None:
    assert {cell.published for cell in named_cells("seed-projection", {"limit_train": 2000})} == {None}
    assert None not in {cell.published for cell in named_cells("seed-projection", {"threads": 1})}


def test_a_study_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"no study 'seed-projektion' .did you mean seed-projection"):
        named_cells("seed-projektion", {})
