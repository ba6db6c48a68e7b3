"""Search: what it proposes, that it finds something better, and that an interruption changes nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.studies import Pretender
from vitlab.config import RunConfig
from vitlab.errors import ConfigError
from vitlab.studies import driver, search
from vitlab.studies.driver import Driver, read_rows
from vitlab.studies.grid import Study
from vitlab.studies.search import Dimension, Search, parse_dimension

pytest.importorskip("optuna")

BASE = RunConfig().with_knobs(lr=1e-3, depth=2)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "WAIT_SECONDS", 0.0)


def hill(config: RunConfig) -> float:
    """Best at lr 0.03 and depth 5."""
    return 0.9 - 0.1 * math.log10(config.optim.lr / 0.03) ** 2 - 0.01 * (config.model.depth - 5) ** 2


def make(trials: int = 8, batch: int = 1, *, with_time: bool = False) -> Search:
    dimensions = (parse_dimension("lr=1e-4..1e-1"), parse_dimension("depth=1..8"))
    return Search(BASE, {}, dimensions, trials, batch, 0, with_time)


def run(path: Path, hunt: Search, stop_after: int = 10**6, score: Any = hill) -> tuple[list[str], list[Any], bool]:
    """Names of the cells, rows, and whether it came to its end."""
    executor = Pretender(slots=hunt.batch, score=score)

    def run_cells(cells: Any) -> tuple[list[Any], bool]:
        study = Study("search", tuple(cells), (0,), ["search"])
        stop = lambda: len(read_rows(path / "study")) >= stop_after  # noqa: E731
        return Driver(study, path / "study", path / "runs", executor, should_stop=stop).run()

    cells, rows, complete = hunt.run(run_cells)
    return [cell.name for cell in cells], rows, complete


def test_the_base_is_tried_first_and_something_better_is_found(tmp_path: Path) -> None:
    names, rows, complete = run(tmp_path, make(12))
    assert complete
    assert names[0] == "trial 0: lr 0.001, depth 2"
    assert len(set(names)) == len(rows) == 12
    assert max(row["val_top1"] for row in rows) > hill(BASE) + 0.05


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("after", [1, 4, 7])
def test_an_interrupted_search_proposes_what_the_unbroken_one_would(after: int, batch: int, tmp_path: Path) -> None:
    whole, whole_rows, _ = run(tmp_path / "whole", make(8, batch))
    _, rows, complete = run(tmp_path, make(8, batch), stop_after=after)
    assert not complete
    assert after <= len(rows) < 8
    names, rows, complete = run(tmp_path, make(8, batch))
    assert complete
    assert names == whole
    assert [row["val_top1"] for row in rows] == [row["val_top1"] for row in whole_rows]


def test_what_optuna_is_told_decides_what_it_proposes(tmp_path: Path) -> None:
    """If Optuna ignored the results, the proposals would be equal."""
    names = [
        run(tmp_path / str(i), make(20), score=s)[0] for i, s in enumerate((hill, lambda config: 1 - hill(config)))
    ]
    assert names[0] != names[1]


def test_accuracy_and_time_together(tmp_path: Path) -> None:
    _, rows, complete = run(tmp_path, make(5, with_time=True))
    assert complete
    assert len(rows) == 5


def test_settings_that_fail_do_not_end_the_search(tmp_path: Path) -> None:
    hunt = make(6)

    def run_cells(cells: Any) -> tuple[list[Any], bool]:
        return [{"cell": cell.name, "status": "diverged"} for cell in cells], True

    cells, _, complete = hunt.run(run_cells)
    assert (len(cells), complete) == (6, True)


@pytest.mark.parametrize(
    ("word", "dimension", "log"),
    [
        ("lr=1e-4..1e-2", Dimension("lr", 1e-4, 1e-2), True),
        ("depth=1..8", Dimension("depth", 1, 8), False),
        ("dropout=0..0.5", Dimension("dropout", 0.0, 0.5), False),
        ("batch-size=32..1024", Dimension("batch_size", 32, 1024), True),
    ],
)
def test_ranges(word: str, dimension: Dimension, log: bool) -> None:
    assert parse_dimension(word) == dimension
    assert dimension.log is log


def test_choices() -> None:
    assert parse_dimension("norm=layer,rms") == Dimension("norm", values=("layer", "rms"))


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("lr=1e-2..1e-4", "the range of lr must rise"),
        ("lr=1..1", "must rise"),
        ("norm=layer..rms", "norm has no range"),
        ("speed=1..2", "is not KNOB=LOW..HIGH"),
        ("lr=a..b", "lr"),
        ("crop=none..20", "must rise"),
    ],
)
def test_ranges_that_are_none(word: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        parse_dimension(word)


def test_a_base_outside_of_the_ranges_is_not_tried(tmp_path: Path) -> None:
    hunt = Search(BASE, {}, (parse_dimension("lr=0.01..0.1"),), 1, 1, 0, False)
    names, _, _ = run(tmp_path, hunt)
    assert "lr 0.001" not in names[0]


def test_without_optuna_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install '?optuna"):
        search.load_optuna()
