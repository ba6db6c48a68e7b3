"""A run belongs to the images that it was trained on: no study reuses it, or ranks it, with others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import vitlab
from tests.studies import Pretender
from tests.tiny import glyphs, tiny_config, write_npz
from vitlab.errors import DataError
from vitlab.files import read_json_lines, sha256, write_json, write_json_lines
from vitlab.studies import driver
from vitlab.studies.driver import Driver, read_rows
from vitlab.studies.grid import Study, make_cells
from vitlab.studies.unit import Unit


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "WAIT_SECONDS", 0.0)


def digest(path: Path) -> str:
    return sha256(path.read_bytes())


def drive(place: Path, executor: Pretender, data: str, **options: Any) -> list[Any]:
    base = tiny_config(data)
    study = Study("depths", make_cells(base, [{"depth": 1}, {"depth": 2}], {}), (0,))
    rows, complete = Driver(study, place / "study", place / "runs", executor, **options).run()
    assert complete
    return rows


def test_runs_on_images_that_have_changed_are_never_reused(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "pets.npz")
    old, first = data.read_bytes(), digest(data)
    before = drive(tmp_path, Pretender(), str(data))
    assert {row["data_sha256"] for row in before} == {first}
    (tmp_path / "study" / "table.json").write_text("{}")

    write_npz(data, train=89)
    notes: list[str] = []
    executor = Pretender()
    after = drive(tmp_path, executor, str(data), note=notes.append)
    assert executor.began == [(1, 0), (2, 0)]
    assert {row["data_sha256"] for row in after} == {digest(data)} != {first}
    assert [row["run"] for row in after] == [f"{row['run']}-{digest(data)[:12]}" for row in before]
    assert read_rows(tmp_path / "study") == after
    assert notes == [f"{data} has changed since it was last trained on: 2 runs are trained anew"]
    assert not (tmp_path / "study" / "table.json").exists()  # of other images

    data.write_bytes(old)  # both versions are kept, so nothing is trained a third time
    executor = Pretender()
    assert [row["run"] for row in drive(tmp_path, executor, str(data))] == [row["run"] for row in before]
    assert executor.began == []


def test_another_study_does_not_take_runs_on_other_images(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "pets.npz")
    before = drive(tmp_path, Pretender(), str(data))
    write_npz(data, train=89)
    executor, base = Pretender(), tiny_config(data)
    study = Study("other", make_cells(base, [{"depth": 2}, {"depth": 3}], {}), (0,))
    rows, _ = Driver(study, tmp_path / "other", tmp_path / "runs", executor).run()
    assert executor.began == [(2, 0), (3, 0)]
    assert rows[0]["run"] == f"{before[1]['run']}-{digest(data)[:12]}"
    assert "-" not in rows[1]["run"]  # its name was free


def test_the_same_images_are_the_same_whatever_their_date(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "pets.npz")
    first = drive(tmp_path, Pretender(), str(data))
    os.utime(data, (1, 1))
    executor = Pretender()
    assert drive(tmp_path, executor, str(data)) == first
    assert executor.began == []


def test_a_relative_path_means_other_images_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, train in (("here", 97), ("there", 89)):
        (tmp_path / name).mkdir()
        write_npz(tmp_path / name / "pets.npz", train=train)
    monkeypatch.chdir(tmp_path / "here")
    here = drive(tmp_path, Pretender(), "pets.npz")
    monkeypatch.chdir(tmp_path / "there")
    executor = Pretender()
    there = drive(tmp_path, executor, "pets.npz")
    assert executor.began == [(1, 0), (2, 0)]
    assert [{row["data_sha256"] for row in rows} for rows in (here, there)] == [
        {digest(tmp_path / name / "pets.npz")} for name in ("here", "there")
    ]


@pytest.mark.parametrize("known", ["in the run folder", "nowhere"])
def test_rows_of_earlier_versions_are_checked_too(known: str, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "pets.npz")
    rows = drive(tmp_path, Pretender(), str(data))
    earlier = [
        {name: value for name, value in row.items() if name not in ("data_sha256", "validation")} for row in rows
    ]
    write_json_lines(tmp_path / "study" / "rows.jsonl", earlier)
    for row in rows if known == "nowhere" else ():
        for file in (tmp_path / "runs" / row["run"]).iterdir():
            file.unlink()
    executor = Pretender()
    again = drive(tmp_path, executor, str(data))
    assert executor.began == ([] if known == "in the run folder" else [(1, 0), (2, 0)])
    assert [row["data_sha256"] for row in again] == [digest(data)] * 2


def test_images_that_change_while_the_study_runs_end_it(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "pets.npz")
    began = digest(data)

    class Changing(Pretender):
        """The images change before the second run."""

        def begin(self, unit: Unit) -> None:
            assert unit.data_sha256 == began
            if self.began:
                write_npz(data, train=89)
                self.codes[2, 0] = [DataError.exit_code]
            super().begin(unit)

    with pytest.raises(DataError, match=r"pets\.npz has changed while the study ran; run the same call again"):
        drive(tmp_path, Changing(), str(data))
    assert [row["data_sha256"] for row in read_rows(tmp_path / "study")] == [began]
    executor = Pretender()
    rows = drive(tmp_path, executor, str(data))
    assert executor.began == [(1, 0), (2, 0)]
    assert {row["data_sha256"] for row in rows} == {digest(data)}


def test_nodes_of_a_cluster_with_other_images_give_no_result(tmp_path: Path) -> None:
    """The images are not on this machine: the first run decides which ones the study is about."""

    class Cluster(Pretender):
        def trained_on(self, unit: Unit) -> str:
            return "ab"[unit.config["model"]["depth"] - 1] * 64

    good, bad = drive(tmp_path, Cluster(), str(tmp_path / "there.npz"))
    assert (good["status"], good["data_sha256"]) == ("done", "a" * 64)
    assert (bad["status"], bad["test_top1"]) == ("other data", None)


def test_validation_images_that_come_with_the_data_are_known(tmp_path: Path) -> None:
    a, b = glyphs(53), glyphs(19)
    for name, own in (("own", {"x_val": b.images, "y_val": b.labels}), ("cut", {})):
        path = tmp_path / f"{name}.npz"
        np.savez(path, x_train=a.images, y_train=a.labels, **own)  # type: ignore[arg-type]
        rows = drive(tmp_path / name, Pretender(), str(path))
        assert {row["validation"] for row in rows} == {"its own" if own else "a stratified 10 %"}


# As a user sees it


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "with.npz")
    train = glyphs(53)
    np.savez(tmp_path / "without.npz", x_train=train.images, y_train=train.labels)
    write_json(tmp_path / "tiny.json", tiny_config("with.npz", epochs=1, checkpoint_seconds=60.0).to_dict())
    return tmp_path


def test_no_table_mixes_test_and_validation_images(place: Path) -> None:
    answer = vitlab("study --config tiny.json --vary data=with.npz,without.npz --seeds 1 --out out --workers 2")
    assert answer.code == 0, answer.err
    assert "no test images in without.npz: accuracies are on validation images" in answer.err
    assert "data with.npz, seed 0:" in answer.err
    assert "of test images in" in answer.err
    assert "of validation images in" in answer.err
    text = (place / "out" / "table.md").read_text()
    for part in ("with.npz", "without.npz (a stratified 10 %)"):
        split = "validation" if "without" in part else "test"
        assert f"study: accuracy on {split} images of {part}" in " ".join(answer.out.split())
        assert f"### Accuracy on {split} images of {part}\n" in text
    assert text.count("| cell |") == 2
    assert "ranked only against those on the same images" in text
    header, *rows = [line.split(",") for line in (place / "out" / "table.csv").read_text().splitlines()]
    place_of = {name: header.index(name) for name in ("data", "split", "rank", "macro_f1")}
    assert [row[place_of["split"]] for row in rows] == ["test", "validation"]
    assert [row[place_of["rank"]] for row in rows] == ["1", "1"]
    assert rows[0][place_of["macro_f1"]]
    assert not rows[1][place_of["macro_f1"]]  # a metric of test images
    told = vitlab("look out")
    assert told.code == 0, told.err
    page = (place / "out" / "report.html").read_text()
    for part in ("Accuracy on test images of with.npz", "Accuracy on validation images of without.npz"):
        assert part in page
    assert "2 tables" in page


def test_a_study_of_data_that_has_changed_trains_anew_and_says_so(place: Path) -> None:
    line = "study --config tiny.json --vary depth=1,2 --seeds 1 --out out --data with.npz --workers 2"
    assert vitlab(line).code == 0
    write_npz(place / "with.npz", train=89, test=29)
    again = vitlab(line)
    assert again.code == 0, again.err
    assert "with.npz has changed since it was last trained on: 2 runs are trained anew" in again.err
    rows = read_json_lines(place / "out" / "rows.jsonl")
    assert [(row["test_images"], row["data_sha256"]) for row in rows] == [(29, digest(place / "with.npz"))] * 2


def test_a_cell_that_cannot_use_the_images_is_one_error_before_anything_runs(place: Path) -> None:
    train = glyphs(60)
    order = np.argsort(train.labels, kind="stable")  # the last tenth is one class
    np.savez(place / "sorted.npz", x_train=train.images[order], y_train=train.labels[order])
    line = "study --config tiny.json --vary val_split=stratified,last --data sorted.npz --val-fraction 0.4 --out out"
    answer = vitlab(line)
    assert answer.code in (2, 3)
    assert answer.error.startswith("vitlab: cell val_split last: ")
    assert not (place / "out").exists()
    assert not (place / "runs").exists()


@pytest.mark.parametrize("knob", ["data=with.npz,without.npz", "val_fraction=0.1..0.5", "val_split=last,stratified"])
def test_a_search_compares_by_the_same_validation_images(knob: str, place: Path) -> None:
    pytest.importorskip("optuna")
    answer = vitlab(f"study --config tiny.json --vary {knob} lr=1e-4..1e-2 --search 3 --out out")
    assert answer.code == 2
    assert "by the same validation images; leave " + knob.partition("=")[0] in answer.error
