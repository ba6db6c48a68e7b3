"""Numbers of a study's table against values worked out by hand or taken from tables of Student's t."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from vitlab.cli.study import print_table
from vitlab.config import RunConfig
from vitlab.errors import RunError
from vitlab.look import study as picture
from vitlab.studies import table
from vitlab.studies.compare import pair, sentence, timed_apart
from vitlab.studies.grid import Cell
from vitlab.studies.summary import Line, binomial_sd, circumstances, groups, pareto, student, summarize, verdict


def cell(name: str, published: tuple[float, float] | None = None) -> Cell:
    return Cell(name, {"depth": name}, RunConfig(), published)


def row(name: str, seed: int, top1: float | None, seconds: float = 10.0, **changes: Any) -> dict[str, Any]:
    made = {
        "cell": name, "varied": {}, "seed": seed, "run": f"{name}{seed}", "status": "done", "test_top1": top1,
        "test_images": 10_000, "val_top1": 0.5, "val_images": 6_000, "train_seconds": seconds,
        "images_per_second": 100.0 / seconds,
        "params": 1000, "params_by_part": {"blocks": 250, "head": 750}, "flops_per_image": 2_000_000,
        "device": "cpu", "threads": 2, "precision": "fp32", "epochs": 1.0, "train_images": 54_000, "beside": 1,
    }  # fmt: skip
    return made | changes


def failed(name: str, seed: int, status: str) -> dict[str, Any]:
    return row(name, seed, None, status=status, train_seconds=None, images_per_second=None, params=None)


def test_mean_spread_and_interval_of_three_seeds() -> None:
    (line,) = summarize([cell("a")], [row("a", s, top1, 10.0 + s) for s, top1 in enumerate((0.93, 0.94, 0.95))])
    assert line.accuracy == pytest.approx(94.0)
    assert line.sd == pytest.approx(1.0)
    half = 4.302653 / math.sqrt(3)  # t(0.975, 2) from a table
    assert line.interval == pytest.approx((94 - half, 94 + half), abs=1e-5)
    assert line.seconds == 11.0
    assert (line.params, line.flops, line.done, line.rank) == (1000, 2_000_000, 3, 1)


def test_one_seed_has_the_interval_of_its_test_images() -> None:
    (line,) = summarize([cell("a")], [row("a", 0, 0.9)])
    assert line.sd is None
    # Wilson: (p + z^2/2n -+ z sqrt(p q / n + z^2/4n^2)) / (1 + z^2/n), n 10,000
    assert line.interval == pytest.approx((89.396, 90.573), abs=2e-3)


def test_student_is_that_of_the_tables() -> None:
    assert [student(n) for n in (1, 2, 4, 9)] == pytest.approx([12.7062, 4.3027, 2.7764, 2.2622], abs=1e-4)


def test_chance_alone() -> None:
    assert binomial_sd(90.0, 10_000) == pytest.approx(0.3)
    assert 0 < binomial_sd(100.0, 10_000) < 0.02


def test_failed_runs_are_counted_by_kind_and_spoil_nothing() -> None:
    rows = [row("a", 0, 0.9), failed("a", 1, "diverged"), failed("a", 2, "crashed"), failed("a", 3, "diverged")]
    one, other = summarize([cell("a"), cell("b")], [*rows, failed("b", 0, "out of memory")])
    assert (one.done, one.failed) == (1, {"crashed": 1, "diverged": 2})
    assert (other.accuracy, other.interval, other.seconds, other.rank, other.on_front) == (
        None,
        None,
        None,
        None,
        False,
    )


def test_without_test_images_and_for_a_search_validation_counts() -> None:
    (line,) = summarize([cell("a")], [row("a", 0, None), row("a", 1, None)])
    assert (line.accuracy, line.split, line.images) == (
        50,
        "validation",
        "validation images of mnist (a stratified 10 %)",
    )
    rows = [row("a", 0, 0.75), row("a", 1, 0.85)]
    (line,) = summarize([cell("a")], rows, "validation")
    assert (line.accuracy, line.split) == (50, "validation")
    (line,) = summarize([cell("a")], rows)
    assert (line.accuracy, line.split, line.images) == (80, "test", "test images of mnist")


def on(data: str, name: str, published: tuple[float, float] | None = None, **knobs: Any) -> Cell:
    return Cell(name, {}, RunConfig().with_knobs(data=data, **knobs), published)


def test_only_accuracies_on_the_same_images_are_ranked() -> None:
    """Two data sets, one without test images: each has its own ranks and its own front."""
    made = [on("pets", "a"), on("birds", "b"), on("pets", "c"), on("birds", "d", (40.0, 9.0))]
    tested = {"test_macro_f1": 0.25}
    rows = [
        row("a", 0, 0.6, 1.0, data_sha256="p" * 64, **tested),
        row("b", 0, None, 2.0, data_sha256="b" * 64),
        row("c", 0, 0.7, 4.0, data_sha256="p" * 64, **tested),
        row("d", 0, None, 3.0, data_sha256="b" * 64, val_top1=0.4),
    ]  # fmt: skip
    a, b, c, d = lines = summarize(made, rows)
    assert [(line.split, line.rank, line.on_front) for line in lines] == [
        ("test", 2, True), ("validation", 1, True), ("test", 1, True), ("validation", 2, False),
    ]  # fmt: skip
    assert groups(lines) == [[a, c], [b, d]]
    assert [line.metrics["macro_f1"] for line in lines] == [0.25, None, 0.25, None]
    assert (d.published, d.verdict) == (None, None)  # what is published is about test images
    text = table.markdown(lines, table.notes(lines, {}))
    assert text.count("| cell |") == 2
    assert "### Accuracy on test images of pets\n" in text
    assert "### Accuracy on validation images of birds (a stratified 10 %)\n" in text
    found = list(csv.DictReader(io.StringIO(table.comma_separated(lines))))
    assert [line["split"] for line in found] == ["test", "validation", "test", "validation"]
    plots = picture.accuracy_against_time(lines, "title").axes
    assert [[text.get_text() for text in axes.texts] for axes in plots] == [["c", "a"], ["d", "b"]]
    assert [axes.get_ylabel() for axes in plots] == [
        f"accuracy on {split} images in percent (95 % interval)" for split in ("test", "validation")
    ]


def test_validation_images_that_differ_are_not_compared() -> None:
    last = on("birds", "b", val_split="last")
    lines = summarize([on("birds", "a"), last, on("birds", "c")], [row(name, 0, None) for name in "abc"])
    assert [[line.cell for line in group] for group in groups(lines)] == [["a", "c"], ["b"]]
    assert lines[1].images == "validation images of birds (the last 10 %)"
    # The data set brings its own validation images, so the knobs that cut some off do not matter.
    own = [row(name, 0, None, validation="its own") for name in "ab"]
    first, second = lines = summarize([on("birds", "a"), last], own)
    assert (len(groups(lines)), first.images, second.rank) == (1, "validation images of birds", 2)
    tested = summarize([on("birds", "a"), last], [row("a", 0, 0.5), row("b", 0, 0.6)])
    assert len(groups(tested)) == 1  # of test images


def test_two_folders_of_one_name_are_two_data_sets() -> None:
    rows = [row("a", 0, 0.5, data_sha256="1" * 64), row("b", 0, 0.5, data_sha256="2" * 64)]
    lines = summarize([on("x/pets", "a"), on("y/pets", "b")], rows)
    assert [line.images for line in lines] == [
        "test images of pets, sha256 11111111",
        "test images of pets, sha256 22222222",
    ]
    same = summarize([on("x/pets", "a"), on("y/pets", "b")], [one | {"data_sha256": "1" * 64} for one in rows])
    assert len(groups(same)) == 1


def test_a_data_set_that_is_two_is_refused() -> None:
    rows = [row("a", 0, 0.5, data_sha256="1" * 64), row("a", 1, 0.5, data_sha256="2" * 64)]
    with pytest.raises(RunError, match="pets has changed between the runs of this study; run the study again"):
        summarize([on("x/pets", "a")], rows)


def test_ranks_and_what_cannot_be_told_from_the_best() -> None:
    spread = {"a": (0.90, 0.91, 0.92), "b": (0.905, 0.91, 0.925), "c": (0.600, 0.601, 0.602)}
    rows = [row(name, seed, top1) for name, scores in spread.items() for seed, top1 in enumerate(scores)]
    lines = {line.cell: line for line in summarize(list(map(cell, spread)), rows)}
    assert {name: line.rank for name, line in lines.items()} == {"a": 2, "b": 1, "c": 3}
    assert [lines[name].distinguishable for name in "abc"] == [False, False, True]
    marks = {name: table.grid_of([line])[0]["rank"] for name, line in lines.items()}
    assert marks == {"a": "2 =", "b": "1", "c": "3"}


def test_ranks_are_told_apart_pair_by_pair_not_by_intervals() -> None:
    """Seeds shift all cells alike: the intervals of a and b overlap, every difference is 0.4 to 0.6 points."""
    spread = {"a": (0.90, 0.92, 0.94), "b": (0.895, 0.916, 0.934), "c": (0.89, None, None)}
    rows = [row(name, seed, s) for name, scores in spread.items() for seed, s in enumerate(scores) if s is not None]
    a, b, c = summarize(list(map(cell, spread)), rows)
    assert a.interval is not None
    assert b.interval is not None
    assert b.interval[1] > a.interval[0]
    gains = stats.ttest_rel([0.90, 0.92, 0.94], [0.895, 0.916, 0.934])
    assert (b.distinguishable, gains.pvalue < 0.05) == (True, True)
    assert c.distinguishable is None, "a single seed tells nothing"
    others = [row("d", seed, s) for seed, s in ((7, 0.895), (8, 0.916), (9, 0.934))]
    (_, d) = summarize([cell("a"), cell("d")], [*rows[:3], *others])
    assert d.distinguishable is False, "other seeds are no pairs"
    assert "may be chance" in " ".join(table.notes([a, b, c], {}))


def test_the_front_is_what_nothing_beats_in_both() -> None:
    points: list[tuple[str, float | None, float | None]] = [
        ("slow and good", 9.0, 99.0), ("fast and poor", 1.0, 90.0), ("beaten", 9.5, 98.0), ("between", 5.0, 95.0),
        ("as fast, poorer", 1.0, 89.0), ("twin", 5.0, 95.0), ("unknown", None, 99.9),
    ]  # fmt: skip
    assert pareto(points) == {"slow and good", "fast and poor", "between", "twin"}


@pytest.mark.parametrize(
    ("scores", "published", "expected"),
    [
        ([93.9, 94.0, 94.1], 94.2, "reproduced"),
        ([93.9, 94.0, 94.1], 92.0, "better"),
        ([93.9, 94.0, 94.1], 96.5, "worse"),
        ([90.0, 94.0, 98.0], 95.0, "not distinguishable"),
        ([94.0, 94.0], 94.5, "reproduced"),  # 1.96 sqrt(1.5) 0.2375 = 0.57
        ([94.0, 94.0], 94.6, "worse"),
        ([94.0, 94.0], 93.4, "better"),
        ([94.0], 90.0, None),
    ],
)
def test_verdicts(scores: list[float], published: float, expected: str | None) -> None:
    assert verdict(scores, 10_000, published) == expected


# Tables and pictures


def lines_of_two(published: tuple[float, float] | None = (93.0, 100.0)) -> list[Line]:
    rows = [row("a", seed, 0.93 + seed / 100, 10.0) for seed in range(3)] + [row("b|c", 0, 0.97, 20.0)]
    return summarize([cell("a", published), cell("b|c")], rows)


def test_markdown_has_a_cell_for_every_column() -> None:
    lines = table.markdown(lines_of_two(), ["A note."]).splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines[:4]} == {lines[0].count("|")}
    for part in ("| a |", "94.00 ± 1.00", "1,000", "75.0 %", "| 93.00 | 100 |", "91.52 to 96.48"):
        assert part in lines[2]
    assert "b\\|c" in lines[3]
    assert lines[-1] == "A note."


def test_columns_that_say_nothing_are_left_out() -> None:
    assert "page: s" in table.grid_of(lines_of_two())[0]
    assert not {"page: s", "verdict", "failed"} & table.grid_of(lines_of_two(None))[0].keys()


def test_csv_holds_numbers() -> None:
    first, second = csv.DictReader(io.StringIO(table.comma_separated(lines_of_two())))
    assert float(first["accuracy"]) == pytest.approx(94)
    assert float(first["published_seconds"]) == 100
    assert (second["cell"], second["sd"], second["published_accuracy"]) == ("b|c", "", "")
    assert first["head_params"] == "750"


def test_json_is_plain() -> None:
    assert json.loads(json.dumps([line.to_dict() for line in lines_of_two()]))[1]["cell"] == "b|c"


def test_circumstances_name_what_differs() -> None:
    where = circumstances([row("a", 0, 0.9), row("a", 1, 0.9, threads=1)], Path("no runs"))
    assert (where["threads"], where["device"], where["epochs"]) == ([1, 2], "cpu", 1.0)
    assert "1 thread or 2 threads, 1 epoch, cpu" in table.notes(lines_of_two(), where)[-1]


def test_the_picture_shows_every_cell_with_its_interval_and_the_front() -> None:
    figure = picture.accuracy_against_time(lines_of_two(), "title")
    (axes,) = figure.axes
    assert sorted(text.get_text() for text in axes.texts) == ["a", "b|c"]
    points = [container[0].get_xydata().tolist()[0] for container in axes.containers]
    assert points == [[10.0, pytest.approx(94.0)], [20.0, pytest.approx(97.0)]]
    labels = [line.get_label() for line in axes.lines]
    assert "best for its time" in labels
    assert "the seed page, one run each" in labels
    with pytest.raises(ValueError, match="no cell"):
        picture.accuracy_against_time(summarize([cell("x")], []), "title")


# Compare


def test_pairs_are_compared_seed_by_seed() -> None:
    ours = [row("vit", s, top1, seconds) for s, top1, seconds in ((0, 0.991, 10), (1, 0.993, 10), (2, 0.995, 30))]
    theirs = [row("cnn", s, top1, 20.0) for s, top1 in ((0, 0.990), (1, 0.990), (2, 0.990))]
    theirs.append(failed("cnn", 3, "crashed"))
    vit, cnn = summarize([cell("vit"), cell("cnn")], [*ours, *theirs])
    facts = pair(vit, cnn, ours, theirs)
    assert (facts["pairs"], facts["faster_in"], facts["times_faster"]) == (3, 2, 2.0)
    assert facts["accuracy_gain"] == pytest.approx(0.3)
    assert facts["accuracy_gain_half_interval"] == pytest.approx(4.302653 * 0.2 / math.sqrt(3), abs=1e-5)
    assert facts["sentence"] == (
        "vit against cnn: faster in 2 of 3 pairs (2.00 times, median); accuracy on test images of mnist +0.30 ± "
        "0.50 points (95 % interval of the mean of 3 pairs): not distinguishable."
    )


@pytest.mark.parametrize(
    ("ends", "apart"),
    [
        (("10:00:00", "10:00:30"), False),
        (("10:00:00", "11:00:00"), True),
        (("10:00:00", None), True),  # of another study
        ((None, None), False),
    ],
)
def test_times_of_different_moments_are_compared_with_care(ends: tuple[str | None, ...], apart: bool) -> None:
    times = [end and f"2026-01-31T{end}Z" for end in ends]
    rows = [row(name, 0, 0.9, 10.0, ended_utc=end, wall_seconds=11.0) for name, end in zip("ab", times, strict=True)]
    assert timed_apart(rows) is apart
    a, b = summarize([cell("a"), cell("b")], rows)
    said = pair(a, b, rows[:1], rows[1:], timed_apart(rows))["sentence"]
    assert ("not all were timed at the same moment" in said) is apart


def test_accuracies_on_different_images_are_not_compared() -> None:
    rows = [row("a", 0, None, 10.0), row("b", 0, None, 20.0), row("c", 0, 0.9, 20.0)]
    a, b, c = summarize([on("birds", "a"), on("birds", "b", val_split="last"), on("pets", "c")], rows)
    facts = pair(a, b, rows[:1], rows[1:2])
    assert (facts["times_faster"], facts["accuracy_gain"]) == (2.0, None)
    assert facts["sentence"] == (
        "a against b: faster in 1 of 1 pair (2.00 times, median); accuracy cannot be compared: a was measured on "
        "validation images of birds (a stratified 10 %), b on validation images of birds (the last 10 %)."
    )
    facts = pair(a, c, rows[:1], rows[2:])
    assert (facts["pairs"], facts["times_faster"]) == (0, None)
    assert facts["sentence"].endswith("(a stratified 10 %), c on test images of pets.")
    unmeasured = [row("a", 0, None, 10.0, val_top1=None), row("b", 0, None, 20.0, val_top1=None)]
    a, b = summarize([on("birds", "a"), on("birds", "b")], unmeasured)
    assert table.heading([a, b]) == "no accuracy on birds"
    facts = pair(a, b, unmeasured[:1], unmeasured[1:])
    assert facts["sentence"] == (
        "a against b: faster in 1 of 1 pair (2.00 times, median); accuracy cannot be compared: there are no images to "
        "measure it on."
    )


@pytest.mark.parametrize(
    ("count", "gain", "half", "end"),
    [
        (3, 0.3, 0.1, "more accurate."),
        (3, -0.3, 0.1, "less accurate."),
        (1, 0.3, None, "which proves nothing."),
        (0, None, None, "no seed is done for both."),
    ],
)
def test_the_sentence_says_what_the_numbers_allow(count: int, gain: Any, half: Any, end: str) -> None:
    facts = {
        "ours": "a",
        "theirs": "b",
        "our_images": "x",
        "their_images": "x",
        "pairs": count,
        "faster_in": count,
        "times_faster": 2.0,
        "timed_apart": False,
    }
    assert sentence(facts | {"accuracy_gain": gain, "accuracy_gain_half_interval": half}).endswith(end)


@pytest.mark.parametrize(("width", "shown"), [(79, False), (101, True)])
def test_a_narrow_terminal_gets_no_further_metrics(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, shown: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    monkeypatch.setattr(table, "LESS", ("an extra score %",))
    print_table("title", [{"cell": "x" * 61, "an extra score %": "17.11", "failed": "3 stopped"}], [])
    assert ("extra score" in capsys.readouterr().out.split("left out")[0]) is shown


@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_narrow_terminal_gets_fewer_columns_and_whole_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    metrics = {"test_macro_f1": 0.917, "test_balanced_accuracy": 0.913, "test_calibration_error": 0.0123}
    rows = [row("patch_size 4", seed, 0.9123, 23.517, **metrics) for seed in range(3)]
    print_table("title", table.grid_of(summarize([cell("patch_size 4")], rows)), [])
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert ("patch_size 4" in text, "91.23 ± 0.00" in text, "23.5" in text) == (True, True, True), text
    assert "…" not in text
    assert ("macro F1" in text.split("left out")[0]) is False
    assert max(map(len, text.splitlines())) <= width


def test_a_table_says_how_many_runs_did_not_learn() -> None:
    rows = [row("a", seed, 0.1, learned=seed > 0) for seed in range(3)] + [row("b", 0, 0.9)]
    lines = summarize([cell("a"), cell("b")], rows)
    assert [line.not_learned for line in lines] == [1, 0]
    assert [texts["did not learn"] for texts in table.grid_of(lines)] == ["1 of 3", ""]
    assert "Did not learn: " in "\n".join(table.notes(lines, {}))
    assert "did not learn" not in table.grid_of(summarize([cell("b")], rows))[0]


def test_a_metric_that_some_runs_lack_is_left_out() -> None:
    """Rows that an earlier version wrote have no macro F1; a mean of the others would be that of fewer seeds."""
    rows = [row("a", 0, 0.5, test_macro_f1=0.25, test_calibration_error=0.5), row("a", 1, 0.7, test_macro_f1=0.75)]
    (line,) = summarize([cell("a")], rows)
    assert (line.metrics["macro_f1"], line.metrics["calibration_error"]) == (0.5, None)
