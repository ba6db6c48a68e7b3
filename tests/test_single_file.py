"""The page as one file, opened from the disk in a real browser: the same numbers as Python's, and no request."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.browser import watched
from tests.command import vitlab
from tests.made_runs import make_run
from tests.reader import settle
from vitlab import Classifier
from vitlab.export.single import single_file
from vitlab.export.web import examples_of, page_files
from vitlab.export.whole import ExportError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RECORD = """(() => {
    const Plain = Worker;
    window.Worker = class extends Plain {
        constructor(...all) {
            super(...all);
            this.addEventListener("message", ({ data }) => { if (data.type === "reading") window.last = data; });
        }
    };
})();"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and beside it the page with it in one file."""
    folder = tmp_path_factory.mktemp("single")
    run = make_run(folder / "run")
    answer = vitlab(f"export {run} --to web --single-file --out {folder / 'page.html'} --quiet")
    assert answer.code == 0, answer.error
    assert "1 file" in answer.out
    assert "open it in a browser" in answer.out
    return run


def test_it_reads_as_python_does_and_asks_for_nothing(chromium: Browser, run: Path) -> None:
    """Known digits, from file://; the page's own comparison agrees, and its training finds its images."""
    classifier = Classifier.load(run)
    known = examples_of(classifier, None)
    pixels = b"".join(base64.b64decode(image) for image in known["images"])
    images = np.frombuffer(pixels, np.uint8).reshape(-1, known["side"], known["side"], 1)
    logits = classifier.logits(torch.from_numpy(images.copy()))
    folder = run.parent.as_uri()
    options: dict[str, Any] = dict(viewport=dict(width=1280, height=900), reduced_motion="reduce")
    with watched(chromium, folder, **options) as (page, complaints):
        asked: list[str] = []
        page.context.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        page.add_init_script(RECORD)
        for index in (0, 7, 23):
            page.goto("about:blank")
            page.goto(f"{folder}/page.html#test={index}")
            settle(page)
            assert page.evaluate("Array.from(window.last.logits)") == pytest.approx(logits[index].tolist(), abs=1e-4)
        assert "10 of 10 known pictures" in page.inner_text("#selftest")
        page.click("#train-step")
        page.wait_for_selector("#train-shown:visible")
        assert {url for url in asked if not url.startswith("blob:")} == {f"{folder}/page.html"}
        assert complaints == []


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("index.html", b'http-equiv="Content-Security-Policy"', b"", "needs a policy"),
        ("index.html", b"</head>", b"", "needs a policy, </head>"),
        ("style.css", b":root", b"/* */ a::after { content: '</style>' } :root", "a style sheet holds </style"),
        ("main.js", b"const panels", b'const end = "</script>";\nconst panels', "cannot be joined"),
    ],
)
def test_what_would_break_the_file_is_refused(name: str, old: bytes, new: bytes, reason: str) -> None:
    page = page_files()
    assert old in page[name]
    with pytest.raises(ExportError, match=reason):
        single_file(page | {name: page[name].replace(old, new)}, {})


def test_an_existing_file_is_left_alone(run: Path) -> None:
    out = run.parent / "mine.html"
    out.write_text("mine")
    assert "already exists" in vitlab(f"export {run} --to web --single-file --out {out}").error
    assert out.read_text() == "mine"
    assert "--single-file works only with --to web" in vitlab(f"export {run} --to onnx --single-file").error
