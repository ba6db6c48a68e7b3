"""The page as a static folder: its files, one bundle for each model, and the table of a study as a menu."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from vitlab import files
from vitlab.data import CATALOGUE, Split
from vitlab.export.bundle import MOST_EXAMPLES, as_json, bundle, own_examples
from vitlab.export.study import Point, study_points
from vitlab.export.whole import ExportError, check_new
from vitlab.model import count_parameters
from vitlab.predict import Classifier
from vitlab.studies.driver import read_study

Note = Callable[[str], None]

FORMAT = 1
STATIC = (".html", ".js", ".css", ".svg", ".png", ".json", ".webmanifest")


def export_web(
    classifiers: Sequence[Classifier],
    out: Path,
    study: Path | None = None,
    runs: Path = Path("runs/by-configuration"),
    note: Note = lambda line: None,
    page: Traversable | None = None,
) -> dict[str, Any]:
    """Write the page with ``classifiers`` (the first is shown first) to the new folder ``out``; facts about it.

    ``study``: the folder of a study; its points become the menu, those whose run lies in ``runs`` with their models.
    ``page`` stands in for the page's own files. ConfigError if ``out`` holds something, ExportError without a page.
    """
    check_new(out, folder=True)
    shown = page_files(page)
    models, content = gather(classifiers, study, runs, note)
    content |= shown
    # The first page that a browser asks for comes last: a folder that was interrupted shows nothing false.
    order = sorted(content, key=lambda name: (name == "index.html", name))
    for name in order:
        files.make_folder((out / name).parent)
        files.write_bytes(out / name, content[name])
    size = sum(map(len, content.values()))
    return {"to": "web", "path": str(out), "models": len(models), "files": len(content), "bytes": size}


def gather(
    classifiers: Sequence[Classifier], study: Path | None, runs: Path, note: Note
) -> tuple[dict[str, Classifier], dict[str, bytes]]:
    """The models by id, those of ``classifiers`` first, and what the page reads of them: models.json, models/ID/..."""
    points = [] if study is None else study_points(study, runs, note)
    models = named(classifiers, note)
    models |= named([point.classifier for point in points if point.classifier is not None], taken=models)
    content: dict[str, bytes] = {}
    known: dict[str, Split | None] = {}
    for model_id, classifier in models.items():
        note(f"{classifier.path}: {model_id}")
        data = files.to_json([vars(classifier.config.data), classifier.config.train.seed])
        if data not in known:
            known[data] = own_examples(classifier)
            if known[data] is not None and classifier.config.data.data not in CATALOGUE:
                note(f"up to {MOST_EXAMPLES} images of {classifier.config.data.data} are among the page's files")
        parts = bundle(classifier, known[data])
        content |= {f"models/{model_id}/{name}": part for name, part in parts.items()}
    content["models.json"] = as_json(index(models, points, None if study is None else str(read_study(study)["name"])))
    return models, content


def page_files(page: Traversable | None = None) -> dict[str, bytes]:
    """Every file of the page (by default the one in this package) by its address; ExportError if there is no index.html
    among them."""
    page = page or resources.files("vitlab") / "page"
    found = dict(walk(page, "")) if page.is_dir() else {}
    if "index.html" not in found:
        raise ExportError("this installation of vitlab has no page (vitlab/page/index.html); install it again")
    return found


def walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    """(address, content) of all files below ``folder`` that belong on a static host."""
    found: list[tuple[str, bytes]] = []
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            found += walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(STATIC) and not entry.name.startswith("."):
            found.append((prefix + entry.name, entry.read_bytes()))
    return found


def named(
    classifiers: Sequence[Classifier], note: Note = lambda line: None, taken: dict[str, Classifier] | None = None
) -> dict[str, Classifier]:
    """The models by id, which is made from the run's name; the same weights are taken once, also those of ``taken``."""
    taken = taken or {}
    made: dict[str, Classifier] = {}
    for classifier in classifiers:
        others = taken | made
        twin = next((other for other in others.values() if other.digest == classifier.digest), None)
        if twin is None:
            made[new_id(classifier.name, others)] = classifier
        else:
            note(f"{classifier.path} is left out: its weights are those of {twin.path}")
    return made


def new_id(name: str, taken: dict[str, Classifier]) -> str:
    """An address from a name: lower-case letters, digits, - and _, at most 64 of them, and not one of ``taken``."""
    base = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).lstrip("-_")[:60].rstrip("-") or "model"
    tries = (base if number == 1 else f"{base[:56]}-{number}" for number in range(1, len(taken) + 2))
    return next(candidate for candidate in tries if candidate not in taken)


def index(models: dict[str, Classifier], points: Sequence[Point] = (), study: str | None = None) -> dict[str, Any]:
    """models.json: what the page can load, and the study's points."""
    names = [classifier.name for classifier in models.values()]
    ids = {classifier.digest: model_id for model_id, classifier in models.items()}
    rows = [point.to_dict(None if point.classifier is None else ids[point.classifier.digest]) for point in points]
    return {
        "format": FORMAT,
        "models": [entry(model_id, classifier, names) for model_id, classifier in models.items()],
        "study": None if study is None else {"name": study, "points": rows},
    }


def entry(model_id: str, classifier: Classifier, names: list[str]) -> dict[str, Any]:
    """One model in models.json; it goes by its id where another has the same name."""
    result = classifier.result
    return {
        "id": model_id,
        "name": classifier.name if names.count(classifier.name) == 1 else model_id,
        "test_top1": result["test_top1"],
        "train_seconds": result["train_seconds"],
        "params": count_parameters(classifier.model),
        "arch": classifier.config.model.arch,
    }
