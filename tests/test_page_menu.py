"""From a study on disk to the page's menu."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser import serve_folder, watched
from tests.made_runs import make_run
from tests.studies import a_study
from vitlab import Classifier
from vitlab.export.web import export_web
from vitlab.files import write_json_lines
from vitlab.studies.driver import write_study

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
