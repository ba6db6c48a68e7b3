"""The static page: what is in the folder, and that a program that knows nothing of vitlab finds its way in it."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from tests.command import snapshot, vitlab
from tests.made_runs import make_run
from tests.studies import a_study
from tests.tiny import tiny_config, write_npz
from vitlab import Classifier, Split, files, load_dataset, train_run
from vitlab.data.drawn import drawing_of
from vitlab.errors import ConfigError, RunError, StorageError
from vitlab.export import web
from vitlab.export.bundle import bundled
from vitlab.export.lesson import lesson_files
from vitlab.export.web import bundle, export_web, new_id, one_of_each_first, own_examples
from vitlab.export.whole import ExportError
from vitlab.files import read_json, write_json_lines
from vitlab.runs.zoo import place
from vitlab.studies.driver import write_study

LESSON = ("lesson.json", "lesson.png")
START_ALONE = {"index.html": b'<head><script type="module" src="a.js"></script>\n</head>', "a.js": b""}
BUNDLE = ("config.json", "examples.json", "model.safetensors")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page of five files, and two that no host should show."""
    texts = {
        "index.html": '<head>\n<link rel="stylesheet" href="style.css">\n'
        '<script type="module" src="main.js"></script>\n</head>',
        "main.js": 'import { width } from "./panels/bars.js";\nconsole.log(width);\n',
        "panels/bars.js": "export const width = 7;\n",
        "style.css": "b {\n  margin: 0;\n}\n",
        "mark.svg": "<svg/>",
        "__init__.py": "",
        ".hidden.js": "",
    }
    for name, text in texts.items():
        (tmp_path / "page" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "page" / name).write_text(text)
    return tmp_path / "page"


def files_in(folder: Path) -> list[str]:
    return sorted(name for name, what in snapshot(folder).items() if what != "folder")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def pixels_of(examples: dict[str, Any]) -> torch.Tensor:
    """The images of examples.json, uint8 [N, H, W, C]."""
    shape = (examples["side"], examples["side"], examples["channels"])
    raw = [np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape) for text in examples["images"]]
    return torch.from_numpy(np.stack(raw))


def test_the_folder_holds_the_page_and_each_model(tmp_path: Path, page: Path) -> None:
    runs = [make_run(tmp_path / "First Run", "mnist"), make_run(tmp_path / "cnn", arch="cnn", cnn_channels=(3,))]
    facts = export_web([Classifier.load(run) for run in runs], tmp_path / "out", page=page)
    models = [f"models/{name}/{file}" for name in ("cnn", "first-run") for file in BUNDLE]
    drawn = [name for name in files_in(tmp_path / "out") if name.startswith("maps/") or name.endswith("map.json")]
    assert len(drawn) == 2, "only one of them reads drawings"
    assert files_in(tmp_path / "out") == sorted(
        [
            "SHA256SUMS",
            "index.html",
            "mark.svg",
            "page.js",
            "page.css",
            "preview.png",
            "models.json",
            *LESSON,
            *models,
            *drawn,
        ]
    )
    assert "const width=7;" in (tmp_path / "out" / "page.js").read_text()
    assert (facts["models"], facts["files"]) == (2, 9 + len(models) + len(drawn))
    index = read(tmp_path / "out" / "models.json")
    assert index["study"] is None
    assert [model["id"] for model in index["models"]] == ["first-run", "cnn"], "in the order that was asked for"
    first = index["models"][0]
    assert (first["name"], first["test_top1"], first["train_seconds"], first["arch"]) == ("First Run", 0.75, 1.5, "vit")
    assert first["params"] == sum(value.numel() for value in Classifier.load(runs[0]).model.parameters())


def test_a_bundle_says_all_that_a_reader_needs(tmp_path: Path) -> None:
    classifier = Classifier.load(make_run(tmp_path / "run", "mnist", pos_embed="sincos"))
    parts = bundle(classifier, None)
    assert sorted(parts) == list(BUNDLE)
    assert parts["model.safetensors"] == (tmp_path / "run" / "model.safetensors").read_bytes()
    config = json.loads(parts["config.json"])
    stored = read(tmp_path / "run" / "config.json")
    assert config["model"] == stored["model"]
    assert config["preprocess"] == {"image_size": 28, "mean": [0.3], "std": [0.4], "crop": 28}
    assert config["classes"] == list("0123456789")
    assert (config["format"], config["arch"], config["channels"]) == (1, "vit", 1)
    assert (config["drawing"], config["data"]) == ("mnist-drawing", "mnist")
    assert (config["test_top1"], config["test_top1_interval"], config["test_images"]) == (0.75, [0.7, 0.8], 31)
    assert config["sha256"] == read(tmp_path / "run" / "result.json")["model_sha256"]
    assert not [part for part in parts.values() if str(tmp_path).encode() in part], "nothing about this machine"


def test_examples_and_their_logits(tmp_path: Path) -> None:
    """Without the run's own images: scikit-learn's digits, the first ten one of each."""
    classifier = Classifier.load(make_run(tmp_path / "run", "nothing-here"))
    assert own_examples(classifier) is None
    examples = json.loads(bundle(classifier, None)["examples.json"])
    assert examples["labels"][:10] == list(range(10))
    assert len(examples["labels"]) == len(examples["images"]) == len(examples["logits"]) == 100
    logits = classifier.logits(pixels_of(examples))
    np.testing.assert_allclose(logits.numpy(), examples["logits"], atol=1e-6)
    assert examples["side"] == 28


def test_examples_are_the_runs_own_test_images_if_they_are_here(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "toy.npz")
    train_run(tiny_config(data, epochs=1, checkpoint_seconds=30.0), tmp_path / "run")
    classifier = Classifier.load(tmp_path / "run")
    test = load_dataset(str(data)).test
    assert test is not None
    examples = json.loads(bundle(classifier, own_examples(classifier))["examples.json"])
    assert (examples["side"], examples["channels"]) == (8, 1)
    found = sorted(image.tobytes() for image in pixels_of(examples).numpy())
    assert found == sorted(image.tobytes() for image in test.images)
    assert examples["labels"][:3] == [0, 1, 2]
    assert sorted(examples["labels"]) == sorted(test.labels.tolist())
    write_npz(data, test=29)
    assert own_examples(classifier) is None, "these are other images"


def test_the_first_examples_are_one_of_each_class() -> None:
    labels = np.array([2, 2, 0, 2, 1, 0, 2])
    assert one_of_each_first(Split(np.zeros((7, 1, 1, 1), np.uint8), labels), 6) == [2, 4, 0, 1, 3, 5]


def test_examples_fit_networks_of_other_pictures(tmp_path: Path) -> None:
    """Without its own images, a network that sees colour gets scikit-learn's photographs; one that sees grey and does
    not read digits gets digits whose classes nobody knows."""
    run = make_run(tmp_path / "grey", "pets", 1, ("cat", "dog"), image_size=16, patch_size=8)
    examples = json.loads(bundle(Classifier.load(run), None)["examples.json"])
    assert (examples["side"], examples["channels"], set(examples["labels"])) == (8, 1, {None})
    assert (len(examples["images"]), examples["credit"]) == (100, None)
    run = make_run(tmp_path / "run", "pets", 3, ("cat", "dog"), image_size=16, patch_size=8)
    examples = json.loads(bundle(Classifier.load(run), None)["examples.json"])
    assert (examples["side"], examples["channels"], set(examples["labels"])) == (16, 3, {None})
    assert "CC BY 2.0" in examples["credit"]
    images = pixels_of(examples).numpy()
    flower = load_sample_image("flower.jpg").astype(float)
    middle = flower[:, 106:533].mean((0, 1))  # 427 x 427 of 427 x 640 pixels
    np.testing.assert_allclose(images[0].mean((0, 1)), middle, atol=2)
    np.testing.assert_allclose(images[3].mean((0, 1)), flower[:213, :213].mean((0, 1)), atol=2)
    assert len(np.unique(images.reshape(18, -1), axis=0)) == 18
    wide = Split(np.full((3, 5, 11, 3), 77, np.uint8), np.arange(3))
    examples = json.loads(bundle(Classifier.load(run), wide)["examples.json"])
    assert pixels_of(examples).shape == (3, 16, 16, 3), "squeezed into a square, as in training"


def test_weights_that_were_exchanged_meanwhile_are_not_shipped(tmp_path: Path) -> None:
    classifier = Classifier.load(make_run(tmp_path / "run"))
    (tmp_path / "run" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(RunError, match="changed while it was in use"):
        bundle(classifier, None)


def test_ids_are_safe_and_unique() -> None:
    taken: dict[str, Any] = {}
    names = ["20261126-small", "Zoë's run!", "../../etc", "", "--x", "A", "a", "a", "7" * 99, "7" * 99, "<script>"]
    for name in names:
        taken[new_id(name, taken)] = None
    assert len(taken) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", model_id) for model_id in taken)
    assert list(taken)[:2] == ["20261126-small", "zo-s-run"]


def test_a_study_is_a_menu_of_points_and_models(tmp_path: Path, page: Path) -> None:
    """Three cells; the run of one has been deleted, one was named on the command line too."""
    study = a_study(1, 2, 3, seeds=1)
    runs, rows = tmp_path / "by-configuration", []
    for job, score, seconds in zip(study.order, (0.9, 0.8, 0.95), (10.0, 20.0, 30.0), strict=True):
        result = {"test_top1": score, "val_top1": None, "test_images": 100, "train_seconds": seconds}
        rows.append({"cell": job.cell.name, "seed": 0, "status": "done", "run": job.digest} | result)
    for job in study.order[:2]:
        make_run(runs / job.digest, "mnist", depth=job.cell.config.model.depth)
    write_study(study, tmp_path / "study")
    write_json_lines(tmp_path / "study" / "rows.jsonl", rows)
    named = Classifier.load(runs / study.order[0].digest)
    notes: list[str] = []
    export_web([named], tmp_path / "out", tmp_path / "study", runs, notes.append, page)
    index = read(tmp_path / "out" / "models.json")
    assert index["study"]["name"] == "depths"
    points = index["study"]["points"]
    assert [point["cell"] for point in points] == [cell.name for cell in study.cells]
    assert [point["accuracy"] for point in points] == pytest.approx([0.9, 0.8, 0.95]), "fractions, like test_top1"
    assert [point["seconds"] for point in points] == [10, 20, 30]
    assert [point["on_front"] for point in points] == [True, False, True]
    assert all(low < point["accuracy"] < high for point in points for low, high in [point["interval"]])
    ids = [model["id"] for model in index["models"]]
    assert [point["id"] for point in points] == [*ids, None]
    assert len(ids) == 2, "the same weights are there once"
    assert any(note.startswith(f"leaving out the model of {study.cells[2].name}") for note in notes)


def test_the_examples_of_a_model_are_images_of_its_own_data(tmp_path: Path) -> None:
    """Two runs on one path, between which the images were replaced: those of the first are gone."""
    path = write_npz(tmp_path / "glyphs.npz")
    config = tiny_config(path, epochs=1, checkpoint_seconds=60.0)
    train_run(config, tmp_path / "before")
    write_npz(path, train=89, test=29)
    train_run(config.with_knobs(lr=1e-3), tmp_path / "after")
    runs = [Classifier.load(tmp_path / name) for name in ("after", "before")]
    _, content = web.gather(runs, None, tmp_path, lambda note: None, own_images=True)
    labels = {name: json.loads(content[f"models/{name}/examples.json"])["labels"] for name in ("after", "before")}
    assert len(labels["after"]) == 29
    assert set(labels["before"]) == {None}  # other images, whose classes are not the network's
    entries = json.loads(content["models.json"])["models"]
    assert len({entry["on"] for entry in entries}) == 2  # so the page does not compare them


def test_own_images_are_shown_to_everybody_only_if_their_owner_says_so(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "family.npz", train=101, test=29)
    train_run(tiny_config(path, epochs=1, checkpoint_seconds=60.0), tmp_path / "run")
    classifier, notes = Classifier.load(tmp_path / "run"), list[str]()

    def shows(**wanted: Any) -> tuple[set[str], str]:
        """What has images of the family, and what is said about it."""
        notes.clear()
        _, content = web.gather([classifier], None, tmp_path, notes.append, **wanted)
        labels = json.loads(content["models/run/examples.json"])["labels"]
        has_map = any(name.startswith("maps/") for name in content)
        assert has_map == ("models/run/map.json" in content)
        assert has_map == ("map" in json.loads(content["models.json"])["models"][0])
        lesson = "lesson.json" in content and json.loads(content["lesson.json"])["data"] == "family"
        found = {"examples": labels != [None] * len(labels), "map": has_map, "lesson": lesson}
        (said,) = [note for note in notes if "family" in note]
        return {name for name, is_in in found.items() if is_in}, said

    assert shows()[0] == set()
    assert "no images of family; --own-images adds them" in shows()[1]
    everything, said = shows(own_images=True)
    assert everything == {"examples", "map", "lesson"}
    assert "everybody who opens the page can see images of family: up to 100 to try, a map" in said
    assert shows(own_images=True, lesson=False, with_map=False)[0] == {"examples"}
    assert "train on" not in shows(own_images=True, lesson=False)[1]
    only_map, said = shows(with_map=True)
    assert only_map == {"map"}
    assert "but those on the map" in said


def test_a_run_that_has_been_trained_on_other_images_since_is_left_out(tmp_path: Path, page: Path) -> None:
    study, notes = a_study(1, seeds=1), list[str]()
    (job,) = study.order
    row = {"cell": job.cell.name, "seed": 0, "status": "done", "run": job.digest, "data_sha256": "7" * 64}
    result = {"test_top1": 0.75, "val_top1": None, "test_images": 100, "train_seconds": 10.0}
    classifier = Classifier.load(make_run(tmp_path / "runs" / job.digest, "mnist", depth=1))
    write_study(study, tmp_path / "study")
    for digest, left_out in (("7" * 64, True), ("0" * 64, False)):
        write_json_lines(tmp_path / "study" / "rows.jsonl", [row | result | {"data_sha256": digest}])
        notes.clear()
        export_web(
            [classifier], tmp_path / f"out{digest[0]}", tmp_path / "study", tmp_path / "runs", notes.append, page
        )
        assert any("its run was trained on other images since" in note for note in notes) is left_out
        (point,) = read_json(tmp_path / f"out{digest[0]}" / "models.json")["study"]["points"]
        assert (point["id"] is None, point["on"]) == (left_out, "test images of mnist")


def test_a_folder_that_is_no_study(tmp_path: Path, page: Path) -> None:
    classifier = Classifier.load(make_run(tmp_path / "run"))
    with pytest.raises(RunError, match="is not a study"):
        export_web([classifier], tmp_path / "out", tmp_path, page=page)
    write_study(a_study(1), tmp_path / "study")
    with pytest.raises(RunError, match="has no finished run yet"):
        export_web([classifier], tmp_path / "out", tmp_path / "study", page=page)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a page in place of vitlab's own; an empty folder may be there already, one with a file may not."""
    monkeypatch.setattr(web, "page_files", lambda place: START_ALONE)
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run")
    (tmp_path / "run-web").mkdir()
    answer = vitlab("export run --to web")
    assert answer.code == 0
    assert answer.out.splitlines()[0].startswith("run-web: the page with 1 model, ")
    assert "python -m http.server --bind 127.0.0.1 --directory run-web" in answer.out
    before = snapshot(tmp_path / "run-web")
    assert "run-web already exists" in vitlab("export run --to web").error
    assert snapshot(tmp_path / "run-web") == before
    facts = json.loads(vitlab("export run run --to web --out again --json --quiet").out)
    assert (facts["to"], facts["path"], facts["models"]) == ("web", "again", 1)
    assert snapshot(tmp_path / "again") == before, "the same run gives the same bytes"


def test_a_link_to_the_page_shows_a_picture_and_a_title(tmp_path: Path) -> None:
    """With vitlab's own page; the name of a run is not markup."""
    make_run(tmp_path / 'a "b" <c>')
    classifier = Classifier.load(tmp_path / 'a "b" <c>')
    export_web([classifier], tmp_path / "out", lesson=False, address="https://example.org/x/index.html")
    tags = dict(
        re.findall(r'<meta property="([^"]+)" content="([^"]*)">', (tmp_path / "out" / "index.html").read_text())
    )
    assert tags["og:title"] == "Show a picture and watch a &quot;b&quot; &lt;c&gt; read it"
    assert tags["og:image"] == "https://example.org/x/preview.png"
    with Image.open(tmp_path / "out" / "preview.png") as picture:
        assert picture.size == (1200, 630)
    export_web([classifier], tmp_path / "one.html", lesson=False, single=True)
    single = (tmp_path / "one.html").read_text()
    assert 'property="og:title"' in single
    assert "og:image" not in single, "a mail has no place for it"
    with pytest.raises(ConfigError, match="begins with https"):
        export_web([classifier], tmp_path / "other", address="example.org")


def test_without_a_page_there_is_no_folder(tmp_path: Path) -> None:
    classifier = Classifier.load(make_run(tmp_path / "run"))
    (tmp_path / "page").mkdir()
    with pytest.raises(ExportError, match="has no page"):
        export_web([classifier], tmp_path / "out", page=tmp_path / "page")
    assert not (tmp_path / "out").exists()


def test_an_export_that_was_killed_can_be_repeated(tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after each file: beside the folder if it is new, in it if it was there and empty."""
    classifier = Classifier.load(make_run(tmp_path / "run"))
    export_web([classifier], tmp_path / "whole", page=page, with_map=False)
    whole = snapshot(tmp_path / "whole")
    write = files.write_bytes

    class Killed(BaseException):
        pass

    count = len(files_in(tmp_path / "whole"))
    for there, tried in ((False, (0, count // 2, count - 1)), (True, range(count))):
        for most in tried:
            out = tmp_path / f"{there}-{most}"
            if there:
                out.mkdir()
            written: list[Path] = []

            def dying(path: Path, data: bytes, most: int = most, written: list[Path] = written) -> None:
                if len(written) == most:
                    (path.parent / f".{path.name}.abcd_123.tmp").write_bytes(data[:3])
                    raise Killed
                written.append(path)
                write(path, data)

            with monkeypatch.context() as patch:
                patch.setattr(files, "write_bytes", dying)
                patch.setattr("shutil.rmtree", lambda *args, **options: None)  # a killed process clears nothing
                with pytest.raises(Killed):
                    export_web([classifier], out, page=page, with_map=False)
            assert out.exists() == there, "a new folder is complete or absent"
            export_web([classifier], out, page=page, with_map=False)
            assert snapshot(out) == whole
            assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["notes.txt", "page.js", "models/run/config.json", ".page.js.swp", "index.html"])
def test_a_folder_with_a_file_of_the_users_is_left_alone(tmp_path: Path, page: Path, name: str) -> None:
    classifier = Classifier.load(make_run(tmp_path / "run"))
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    (out / "page.css").write_bytes(bundled(web.page_files(page))["page.css"])
    before = snapshot(out)
    with pytest.raises(ConfigError, match="already exists"):
        export_web([classifier], out, page=page)
    assert snapshot(out) == before


def test_a_failed_export_leaves_nothing(tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier.load(make_run(tmp_path / "run"))
    before = snapshot(tmp_path)

    def full(path: Path, data: bytes) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(files, "write_bytes", full)
    with pytest.raises(StorageError):
        export_web([classifier], tmp_path / "out", page=page)
    assert snapshot(tmp_path) == before


def test_an_export_that_is_running_is_not_swept_away(tmp_path: Path, page: Path) -> None:
    classifier = Classifier.load(make_run(tmp_path / "run"))
    running, killed = (tmp_path / f".out.{letter * 12}.part" for letter in "ab")
    for folder in (running, killed):
        (folder / "models").mkdir(parents=True)
    handle = os.open(running, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    export_web([classifier], tmp_path / "out", page=page)
    os.close(handle)
    assert (running.exists(), killed.exists()) == (True, False)


def test_the_images_to_train_on_are_no_test_images_and_can_be_left_out(tmp_path: Path) -> None:
    """scikit-learn's digits here: all of its training images once, as MNIST's authors would have placed them."""
    facts = json.loads(lesson_files(None)["lesson.json"])
    sheet = np.asarray(Image.open(io.BytesIO(lesson_files(None)["lesson.png"])))
    train = load_dataset("digits").train
    labels = list(base64.b64decode(facts["labels"]))
    assert facts["train"] + facts["held"] == len(labels) == len(train)
    assert np.bincount(labels).tolist() == np.bincount(train.labels).tolist()
    cells = sheet.reshape(-1, 28, facts["columns"], 28).swapaxes(1, 2).reshape(-1, 28, 28)[: len(labels)]
    assert drawing_of(cells[..., np.newaxis]) == "mnist-drawing"
    assert len(np.unique(cells, axis=0)) > 0.95 * len(train)
    assert not set(files_in(export_without(tmp_path))) & set(LESSON)


def export_without(tmp_path: Path) -> Path:
    """A page without images to train on."""
    export_web([Classifier.load(place("mnist-fast"))], tmp_path / "bare", lesson=False)
    return tmp_path / "bare"
