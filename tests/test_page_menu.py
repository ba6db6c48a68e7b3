"""From a study on disk to the page's menu."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser import serve_folder, watched
from tests.made_runs import make_run
from tests.studies import a_study
from vitlab import Classifier, RunConfig
from vitlab.export.web import export_web
from vitlab.files import write_json_lines
from vitlab.studies.driver import write_study
from vitlab.studies.grid import Study, make_cells

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_an_exported_study_says_its_accuracies_in_percent(chromium: Browser, tmp_path: Path) -> None:
    study, rows = a_study(1, 2, seeds=1), []
    for job, right, seconds in zip(study.order, (0.9942, 0.9713), (31.0, 17.0), strict=True):
        result = {"test_top1": right, "val_top1": None, "test_images": 10_000, "train_seconds": seconds}
        rows.append({"cell": job.cell.name, "seed": 0, "status": "done", "run": job.digest} | result)
    write_study(study, tmp_path / "study")
    write_json_lines(tmp_path / "study" / "rows.jsonl", rows)
    classifier = Classifier.load(make_run(tmp_path / "run", "mnist"))
    export_web([classifier], tmp_path / "out", tmp_path / "study", tmp_path / "none")
    with serve_folder(tmp_path / "out") as base, watched(chromium, base, reduced_motion="reduce") as (page, complaints):
        page.goto(f"{base}/")
        page.wait_for_selector("#scatter svg")
        titles = page.locator("#scatter title").all_text_contents()
        first, second = (job.cell.name for job in study.order)
        assert sorted(titles) == sorted([f"{first}: 99.42 % in 31 s", f"{second}: 97.13 % in 17 s"])
        page.wait_for_selector("body.answered")
        assert complaints == []


def test_accuracies_on_different_images_share_no_plot(chromium: Browser, tmp_path: Path) -> None:
    """Two data sets of which one has no test images: a plot for each, under the images that it is about."""
    base = RunConfig()
    study = Study("two", make_cells(base, [dict(data=d, depth=n) for d in ("pets", "birds") for n in (1, 2)], {}), (0,))
    rows = []
    for job, seconds in zip(study.order, (10.0, 20.0, 30.0, 40.0), strict=True):
        tested = job.config.data.data == "pets"
        result = {"test_top1": 0.75 if tested else None, "val_top1": 0.5, "val_images": 50, "train_seconds": seconds}
        rows.append({"cell": job.cell.name, "seed": 0, "status": "done", "run": job.digest} | result)
    write_study(study, tmp_path / "study")
    write_json_lines(tmp_path / "study" / "rows.jsonl", rows)
    classifier = Classifier.load(make_run(tmp_path / "run", "mnist"))
    export_web([classifier], tmp_path / "out", tmp_path / "study", tmp_path / "none")
    with (
        serve_folder(tmp_path / "out") as base_url,
        watched(chromium, base_url, reduced_motion="reduce") as (page, said),
    ):
        page.goto(f"{base_url}/")
        page.wait_for_selector("#scatter svg")
        plots = page.locator("#scatter svg")
        assert [plots.nth(number).locator("title").count() for number in range(plots.count())] == [2, 2]
        assert page.locator("#scatter p").all_inner_texts() == [
            "Accuracy on test images of pets", "Accuracy on validation images of birds (a stratified 10 %)",
        ]  # fmt: skip
        page.wait_for_selector("body.answered")
        assert said == []
