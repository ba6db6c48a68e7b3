"""The driver of a study, with an executor that only pretends to train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.studies import Pretender, a_study, cells, timeless
from vitlab.errors import RunError, RunInUseError
from vitlab.files import make_folder
from vitlab.studies import driver
from vitlab.studies.driver import Driver, Progress, read_rows, read_study
from vitlab.studies.grid import Study
from vitlab.studies.unit import Ending


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "WAIT_SECONDS", 0.0)


def drive(path: Path, executor: Pretender, study: Study | None = None, **options: Any) -> tuple[list[Any], bool]:
    retry = options.pop("retry_failed", False)
    return Driver(study or a_study(1, 2), path / "study", path / "runs", executor, **options).run(retry)


def test_runs_are_made_seed_by_seed_and_rows_keep_that_order(tmp_path: Path) -> None:
    executor = Pretender()
    rows, complete = drive(tmp_path, executor)
    assert complete
    assert executor.began == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert [(row["varied"]["depth"], row["seed"], row["status"], row["val_top1"]) for row in rows] == [
        (1, 0, "done", 0.01), (2, 0, "done", 0.02), (1, 1, "done", 0.01), (2, 1, "done", 0.02),
    ]  # fmt: skip
    assert {(row["attempts"], row["beside"]) for row in rows} == {(1, 1)}
    assert read_rows(tmp_path / "study") == rows
    stored = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [cell["name"] for cell in stored["cells"]] == ["depth 1", "depth 2"]


@pytest.mark.parametrize("slots", [1, 2, 3, 7])
def test_as_many_run_at_a_time_as_there_are_slots(slots: int, tmp_path: Path) -> None:
    executor = Pretender(slots=slots)
    rows, _ = drive(tmp_path, executor)
    assert executor.most == min(slots, 4)
    assert [row["seed"] for row in rows] == [0, 0, 1, 1]


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    first, _ = drive(tmp_path, Pretender())
    executor = Pretender()
    again, complete = drive(tmp_path, executor)
    assert (executor.began, complete, again) == ([], True, first)


def test_two_studies_share_their_runs(tmp_path: Path) -> None:
    drive(tmp_path, Pretender())
    executor = Pretender()
    other = Driver(a_study(2, 3, seeds=3), tmp_path / "other", tmp_path / "runs", executor)
    rows, complete = other.run()
    assert complete
    assert executor.began == [(3, 0), (3, 1), (2, 2), (3, 2)]
    assert len(rows) == 6


def test_two_cells_of_one_configuration_share_a_run(tmp_path: Path) -> None:
    (one,) = cells(5)
    twin = Study("twins", (one, type(one)("twin", {"depth": 5}, one.config)), (0,))
    executor = Pretender(slots=2)
    rows, complete = drive(tmp_path, executor, twin)
    assert (executor.began, complete) == ([(5, 0)], True)
    assert [row["cell"] for row in rows] == ["depth 5", "twin"]


def test_a_crash_is_tried_three_times_and_others_go_on(tmp_path: Path) -> None:
    notes: list[str] = []
    executor = Pretender({(1, 0): [-9, -9, -9], (2, 1): [1]})
    rows, complete = drive(tmp_path, executor, note=notes.append)
    assert complete
    assert executor.began == [(1, 0)] * 3 + [(2, 0), (1, 1), (2, 1), (2, 1)]
    bad, *good = rows
    assert (bad["status"], bad["exit_code"], bad["attempts"]) == ("crashed", -9, 3)
    assert bad["log"] == ["starting", "ended with -9"]
    assert bad["test_top1"] is None
    assert [(row["status"], row["attempts"]) for row in good] == [("done", 1), ("done", 1), ("done", 2)]
    assert notes[0] == "depth 1, seed 0 ended with exit code -9; trying again"


@pytest.mark.parametrize(
    ("code", "status", "tries"),
    [(4, "diverged", 1), (5, "out of memory", 3), (6, "disk", 3), (3, "crashed", 1), (8, "crashed", 1)],
)
def test_only_what_may_end_otherwise_is_tried_again(code: int, status: str, tries: int, tmp_path: Path) -> None:
    executor = Pretender({(1, 0): [code] * 3})
    rows, _ = drive(tmp_path, executor, a_study(1, seeds=1))
    assert (rows[0]["status"], rows[0]["attempts"], len(executor.began)) == (status, tries, tries)


def test_failed_runs_are_run_again_only_if_asked(tmp_path: Path) -> None:
    failed, _ = drive(tmp_path, Pretender({(2, 1): [4]}))
    executor = Pretender()
    assert drive(tmp_path, executor) == (failed, True)
    assert executor.began == []
    rows, _ = drive(tmp_path, executor, retry_failed=True)
    assert executor.began == [(2, 1)]
    assert [row["status"] for row in rows] == ["done"] * 4


def test_a_run_that_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    executor = Pretender({(1, 0): [7, 7, 7, 7, 7]})
    rows, complete = drive(tmp_path, executor)
    assert complete
    assert executor.began.count((1, 0)) == 6
    assert [(row["status"], row["attempts"]) for row in rows] == [("done", 1)] * 4


@pytest.mark.parametrize("after", range(4))
def test_an_interrupted_study_goes_on_where_it_was(after: int, tmp_path: Path) -> None:
    whole, _ = drive(tmp_path / "whole", Pretender())
    executor = Pretender()
    rows, complete = drive(tmp_path, executor, should_stop=lambda: len(read_rows(tmp_path / "study")) >= after)
    assert (len(rows), complete) == (after, False)
    again = Pretender()
    rows, complete = drive(tmp_path, again)
    assert complete
    assert executor.began[:after] + again.began == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert timeless(rows) == timeless(whole)


@pytest.mark.parametrize(
    "left", [".study.json.a1b2c3d4.tmp", ".lock", ".rows.jsonl.x_.tmp", "logs/.12.txt.qwertyui.tmp"]
)
def test_what_a_killed_driver_leaves_is_no_obstacle(left: str, tmp_path: Path) -> None:
    """A driver that dies while it writes study.json leaves a temporary file, and the same command goes on."""
    (tmp_path / "study" / "logs").mkdir(parents=True)
    (tmp_path / "study" / left).write_text("{")
    rows, complete = drive(tmp_path, Pretender())
    assert (len(rows), complete) == (4, True)
    assert not list((tmp_path / "study").rglob(".*.tmp"))


def test_of_two_drivers_that_start_at_once_one_wins(tmp_path: Path) -> None:
    """Not even the temporary files of the first are touched by the second."""
    folder = tmp_path / "study"
    folder.mkdir()
    with FileLock(folder / ".lock"):
        (folder / ".study.json.a1b2c3d4.tmp").write_text("{")
        with pytest.raises(RunInUseError, match="is in use by another vitlab study"):
            drive(tmp_path, Pretender())
        assert (folder / ".study.json.a1b2c3d4.tmp").exists()
        assert not (folder / "study.json").exists()


@pytest.mark.parametrize("damage", ["", "{torn", '{"cell": 7}\n', "[]\n"])
def test_damaged_rows_are_made_again_from_the_runs(damage: str, tmp_path: Path) -> None:
    before, _ = drive(tmp_path, Pretender({(2, 1): [4]}))
    rows, notes = tmp_path / "study" / "rows.jsonl", list[str]()
    rows.write_text(damage or rows.read_text()[:99])
    with pytest.raises(RunError, match=r"rows\.jsonl is damaged: .*; run the study again with the same call"):
        read_rows(tmp_path / "study")
    executor = Pretender({(2, 1): [4]})
    after, complete = drive(tmp_path, executor, note=notes.append)
    assert complete
    assert executor.began == [(2, 1)]  # only what failed has no result to read
    assert timeless(after) == timeless(before)
    assert notes == [f"{rows} is damaged; it is made again from the finished runs"]


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"run": "../.."}, "row 1: 'run' is '../..'"),
    ({"run": "/etc"}, "row 1: 'run' is '/etc'"),
    ({"run": "0123456789ab/.."}, "'run' is"),
    ({"run": "0123456789ab\n"}, "'run' is"),
    ({"run": ""}, "'run' is ''"),
    ({"status": "finished"}, "row 1: 'status' is 'finished'"),
    ({"test_top1": float("nan")}, "cannot be read as JSON"),
    ({"val_top1": float("inf")}, "cannot be read as JSON"),
    ({"params": 10**400}, "cannot be read as JSON"),
    ({"cell": ["depth 1"]}, "row 1: 'cell' is ['depth 1']"),
    ({"seed": -1}, "row 1: 'seed' is -1"),
    ({"seed": True}, "row 1: 'seed' is True"),
    ({"log": "text"}, "row 1: 'log' is 'text'"),
    ({"seed": 1}, "row 3 repeats an earlier one"),
]


@pytest.mark.parametrize(("change", "said"), BAD_ROWS, ids=[said for _, said in BAD_ROWS])
def test_rows_of_a_stranger_are_checked(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    first, *others = drive(tmp_path, Pretender())[0]
    text = "".join(json.dumps(row) + "\n" for row in [first | change, *others])
    (tmp_path / "study" / "rows.jsonl").write_text(text)
    with pytest.raises(RunError) as caught:
        read_rows(tmp_path / "study")
    assert said in str(caught.value)
    assert "run the study again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"name": 7}, {"seeds": [0.5]}, {"seeds": "01"}, {"cells": {}}, {"cells": [7]}, {"cells": [{"name": "x"}]}],
    ids=str,
)
def test_a_study_of_a_stranger_is_checked(change: dict[str, Any], tmp_path: Path) -> None:
    drive(tmp_path, Pretender())
    path = tmp_path / "study" / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=r"study\.json is damaged: .*; delete .* finished runs are kept"):
        read_study(tmp_path / "study")


def test_folders_that_are_something_else(tmp_path: Path) -> None:
    drive(tmp_path, Pretender())
    with pytest.raises(RunError, match="holds another study"):
        drive(tmp_path, Pretender(), a_study(1, 3))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(RunError, match="not empty and not a study"):
        Driver(a_study(1), tmp_path / "full", tmp_path / "runs", Pretender()).run()
    (tmp_path / "study" / "study.json").write_text("[]")
    with pytest.raises(RunError, match="damaged"):
        drive(tmp_path, Pretender())


def test_a_second_driver_says_so_and_leaves(tmp_path: Path) -> None:
    drive(tmp_path, Pretender())
    executor = Pretender()
    with FileLock(tmp_path / "study" / ".lock"), pytest.raises(RunInUseError, match="another vitlab study"):
        drive(tmp_path, executor)
    assert executor.began == []


def test_progress_counts_and_estimates(tmp_path: Path) -> None:
    seen: list[tuple[int, int, list[str]]] = []

    def show(progress: Progress) -> None:
        seen.append((len(progress.rows), progress.failed, list(progress.running)))

    drive(tmp_path, Pretender({(1, 0): [4]}), show=show)
    assert seen[0] == (0, 0, ["depth 1, seed 0"])
    assert seen[-1][:2] == (4, 1)
    progress = Progress(10, rows=[{"status": "done"}] * 4, seconds=[3.0, 5.0], slots=2)
    assert progress.seconds_left == 6 * 4.0 / 2
    assert Progress(10).seconds_left is None


class Cluster(Pretender):
    """Loses the place of (1, 0) ``losses`` times; ``brings``: each time after another checkpoint."""

    def __init__(self, losses: int, brings: bool) -> None:
        super().__init__()
        self.losses, self.brings = losses, brings

    def ended(self, seconds: float) -> list[Ending]:
        unit = self.running[0]
        if self.began[-1] != (1, 0) or not self.losses:
            return super().ended(seconds)
        self.running, self.losses = [], self.losses - 1
        if self.brings:
            name = f"step-{100 - self.losses:09d}-{'ab' * 16}.safetensors"
            make_folder(unit.folder / "checkpoints")
            (unit.folder / "checkpoints" / name).touch()
        return [Ending(unit, 1, "its node n1 is lost")]


def test_a_run_that_loses_its_place_goes_on_at_once_and_uses_up_no_attempt(tmp_path: Path) -> None:
    notes, executor = list[str](), Cluster(losses=23, brings=True)
    rows, complete = drive(tmp_path, executor, note=notes.append)
    assert complete
    assert [(row["status"], row["attempts"]) for row in rows] == [("done", 1)] * 4
    assert executor.began == [(1, 0)] * 24 + [(2, 0), (1, 1), (2, 1)]
    assert notes[0] == "depth 1, seed 0: its node n1 is lost; it continues from its checkpoint of step 78"
    assert len(notes) == 23


def test_a_run_that_never_gets_anywhere_is_given_up(tmp_path: Path) -> None:
    notes, executor = list[str](), Cluster(losses=10**6, brings=False)
    rows, _ = drive(tmp_path, executor, a_study(1, seeds=1), note=notes.append)
    assert [row["status"] for row in rows] == ["crashed"]
    assert notes[0] == "depth 1, seed 0: its node n1 is lost; it has no checkpoint yet and begins again"
    assert len(executor.began) == driver.MOST_LOSSES + 2
