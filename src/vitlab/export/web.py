"""The page as a static folder: its files, one bundle for each model, and a study's table as a menu."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch

from vitlab import files
from vitlab.config import RunConfig
from vitlab.data import Split
from vitlab.errors import ConfigError, RunError
from vitlab.export.bundle import bundled
from vitlab.export.check import sums
from vitlab.export.lesson import lesson_files
from vitlab.export.map import MOST_IMAGES, images_for, map_files
from vitlab.export.own import is_public, others, own_data, stored_images
from vitlab.export.preview import PREVIEW, head, preview
from vitlab.export.replay import replay_files
from vitlab.export.single import single_file
from vitlab.export.whole import ExportError, check_new, for_browsers
from vitlab.model import count_parameters
from vitlab.predict import Classifier
from vitlab.runs.folder import MOST_TENSORS, SUMS, RunFolder
from vitlab.runs.prepare import cut
from vitlab.runs.result import shown_metrics
from vitlab.studies.driver import AGAIN, Row, read_rows, read_study
from vitlab.studies.grid import Cell
from vitlab.studies.images import digest_in, short_name
from vitlab.studies.summary import Line, summarize, with_digests
from vitlab.text import listed

Note = Callable[[str], None]
Make = Callable[[], dict[str, bytes]]  # files by name
Point = tuple[Line, Classifier | None]  # a cell of a study, with the model of its first seed if its run exists

FORMAT = 1
START = "index.html"
STATIC = (".html", ".js", ".css", ".svg", ".png", ".json", ".webmanifest")
MOST_EXAMPLES = 100
MOST_MODELS = 24  # models of a study on a page; those with the best trade of accuracy for time come first


def export_web(
    classifiers: Sequence[Classifier],
    out: Path,
    study: Path | None = None,
    runs: Path = Path("runs/by-configuration"),
    note: Note = lambda line: None,
    page: Traversable | None = None,
    lesson: bool = True,
    with_map: bool | None = None,
    own_images: bool = False,
    single: bool = False,
    address: str | None = None,
) -> dict[str, Any]:
    """Write the page with ``classifiers``, in this order, to the new folder ``out`` and return facts about it; if
    ``single``, to the new file ``out``.

    ``study``: a study's folder, whose cells become the menu; those whose run is in ``runs`` come with their models.
    ``page`` replaces the page's own files; ``lesson``, ``with_map``, ``own_images``: see `gather`; ``address``: where
    the page will be, for the picture that links to it show. ConfigError if it is none, or if ``out`` is neither empty
    nor what a killed export of the same page has left; ExportError if there is no page; RunError for a network that the
    page cannot compute.
    """
    if single or (out / START).exists() or not out.is_dir():
        check_new(out, folder=not single)
    for classifier in classifiers:
        if why_not := classifier.model.describe().missing.get("page"):
            raise RunError(f"{classifier.path}: {why_not}; leave this run out, or use --to onnx or torch")
    shown = page_files(page)
    models, content = gather(classifiers, study, runs, note, lesson, with_map, own_images)
    first = next(iter(models), None)
    if first is not None:
        config, examples = (json.loads(content[f"models/{first}/{name}.json"]) for name in ("config", "examples"))
        tags = head(config, address, picture=not single)
        shown[START] = shown[START].replace(b"</title>\n", b"</title>\n" + tags.encode(), 1)
    if single:
        data = single_file(shown, content)
        files.write_bytes(out, data)
        return {"to": "web", "path": str(out), "models": len(models), "files": 1, "bytes": len(data)}
    content |= bundled(shown)
    if first is not None:
        content[PREVIEW] = preview(config, examples)
    content[SUMS] = sums(content)
    if not files.is_half_made(out, content, START):
        check_new(out, folder=True)
    files.write_folder(out, content, START)  # what a browser opens first is written last
    size = sum(map(len, content.values()))
    return {"to": "web", "path": str(out), "models": len(models), "files": len(content), "bytes": size}


def gather(
    classifiers: Sequence[Classifier],
    study: Path | None,
    runs: Path,
    note: Note,
    lesson: bool = True,
    with_map: bool | None = None,
    own_images: bool = False,
    later: dict[str, Make] | None = None,
) -> tuple[dict[str, Classifier], dict[str, bytes]]:
    """The models by id, those of ``classifiers`` first, and the files that the page reads: models.json, models/ID/,
    lesson.json and lesson.png, maps/.

    Images of data sets that not anybody can download are in none of them, unless ``own_images``; a line to ``note``
    says which. Without ``lesson`` there are no images to train on; ``with_map`` False: no map, True: a map even of the
    user's own images. ``later`` gets, by model, what makes the files of its map, and then these are not made now.
    """
    points = [] if study is None else study_points(study, runs, note)
    own = named(classifiers, note)
    models = own | named([classifier for _, classifier in points if classifier is not None], taken=own)
    first = next(iter(models), None)
    content: dict[str, bytes] = {}
    known: dict[str, Split | None] = {}
    examples: dict[str, Split | None] = {}
    shown = {model_id: own_images or is_public(classifier) for model_id, classifier in models.items()}
    for model_id, classifier in models.items():
        if why_not := for_browsers(classifier):
            raise RunError(f"{classifier.path}: {why_not}; use vitlab predict, or vitlab export --to onnx or torch")
        note(f"{classifier.path}: {model_id}")
        images = digest_in(classifier.path)  # at one path there may have been other images
        data = files.to_json([vars(classifier.config.data), classifier.config.train.seed, images])
        if data not in known:
            known[data] = own_examples(classifier)
            if known[data] is not None and not is_public(classifier):
                note(about_own(classifier, own_images, lesson and model_id == first, with_map))
        examples[model_id] = known[data]
        parts = bundle(classifier, known[data] if shown[model_id] else None)
        content |= {f"models/{model_id}/{name}": part for name, part in parts.items()}
    if lesson:
        content |= lesson_files(models[first] if first is not None and shown[first] else None)
    menu = index(models, points, None if study is None else str(read_study(study)["name"]))
    for entry in menu["models"]:
        if entry["id"] in own:  # not for those of a study, of which there may be many
            model_id, one = entry["id"], own[entry["id"]]
            replay, kept = replay_files(one, note)
            on_map = examples[model_id] if shown[model_id] or with_map else None
            drawn = {} if with_map is False else map_of(model_id, one, on_map, later)
            has_map = bool(drawn) or (later is not None and model_id in later)
            entry |= ({} if replay is None else {"replay": replay}) | ({"map": True} if has_map else {})
            content |= {f"models/{model_id}/{name}": part for name, part in kept.items()} | drawn
    content["models.json"] = as_json(menu)
    return models, content


def page_files(page: Traversable | None = None) -> dict[str, bytes]:
    """Every file of the page (by default the one in this package) by its address; ExportError without index.html."""
    page = page or resources.files("vitlab") / "page"
    found = dict(walk(page, "")) if page.is_dir() else {}
    if START not in found:
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


def map_of(
    model_id: str, classifier: Classifier, examples: Split | None, later: dict[str, Make] | None
) -> dict[str, bytes]:
    """The files of a network's map by address; {} if there is none, or if it is in ``later`` now."""
    if later is None:
        drawn = map_files(classifier, examples)
        return {f"models/{model_id}/{name}" if name == "map.json" else name: part for name, part in drawn.items()}
    if images_for(classifier, examples) is not None:
        later[model_id] = partial(map_files, classifier, examples, f"models/{model_id}/map.png")
    return {}


def about_own(classifier: Classifier, included: bool, lesson: bool, with_map: bool | None) -> str:
    """A sentence about images that are nobody's but the user's: what the page shows of them, or would show."""
    known = f"up to {MOST_EXAMPLES} to try"
    on_map = "" if with_map is False else f"a map of up to {MOST_IMAGES:,}"
    learned = "up to 5,000 to train on" if lesson else ""
    data = classifier.data_name
    if included:
        what = listed([part for part in (known, on_map, learned) if part])
        return f"everybody who opens the page can see images of {data}: {what}"
    what = listed([part for part in (known, "" if with_map else on_map, learned) if part])
    only = f" but those on the map (up to {MOST_IMAGES:,})" if with_map else ""
    return f"the page shows no images of {data}{only}; --own-images adds them for everybody who opens it: {what}"


# --- models.json: what the page can load


def named(
    classifiers: Sequence[Classifier], note: Note = lambda line: None, taken: dict[str, Classifier] | None = None
) -> dict[str, Classifier]:
    """New models by id, which is made from the run's name. Models with equal weights, or with those of a model in
    ``taken``, are kept once."""
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
    """An id from a name: up to 64 lower-case letters, digits, - and _, not in ``taken``."""
    base = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).lstrip("-_")[:60].rstrip("-") or "model"
    tries = (base if number == 1 else f"{base[:56]}-{number}" for number in range(1, len(taken) + 2))
    return next(candidate for candidate in tries if candidate not in taken)


def index(models: dict[str, Classifier], points: Sequence[Point], study: str | None) -> dict[str, Any]:
    """models.json: what the page can load, and the study's points, with fractions where `Line` has percent."""
    names = [classifier.name for classifier in models.values()]
    ids = {classifier.digest: model_id for model_id, classifier in models.items()}
    rows = [
        {
            "id": None if classifier is None else ids[classifier.digest],
            "cell": line.cell,
            "seconds": line.seconds,
            "accuracy": None if line.accuracy is None else line.accuracy / 100,
            "interval": None if line.interval is None else [bound / 100 for bound in line.interval],
            "on_front": line.on_front,
            "on": line.images,
        }
        for line, classifier in points
    ]
    entries = [
        {
            "id": model_id,
            "name": one.name if names.count(one.name) == 1 else model_id,  # the id distinguishes equal names
            "test_top1": one.result["test_top1"],
            "on": images_of(one, models.values()),
            "train_seconds": one.result["train_seconds"],
            "params": count_parameters(one.model),
            "arch": one.config.model.arch,
        }
        for model_id, one in models.items()
    ]
    return {"format": FORMAT, "models": entries, "study": study and {"name": study, "points": rows}}


def images_of(classifier: Classifier, others: Iterable[Classifier]) -> str:
    """The images of a model's test accuracy, so that the page compares only models that were tested on the same."""
    name, digest = short_name(classifier.config.data.data), str(classifier.result["data_sha256"])
    alike = {str(one.result["data_sha256"]) for one in others if short_name(one.config.data.data) == name}
    return f"test images of {name}{f', sha256 {digest[:8]}' if len(alike) > 1 else ''}"


def study_points(folder: Path, runs: Path, note: Note) -> list[Point]:
    """A point for each cell that has an accuracy and a time; RunError if ``folder`` is not a study, or if none has."""
    if not files.exists(folder / "study.json"):
        raise RunError(f"{folder} is not a study (no study.json); `vitlab study` names its folder at the end")
    rows = with_digests(read_rows(folder), runs)
    try:
        stored = read_study(folder)["cells"]
        cells = [Cell(cell["name"], cell["varied"], RunConfig.from_dict(cell["config"])) for cell in stored]
        lines = [line for line in summarize(cells, rows) if line.accuracy is not None and line.seconds is not None]
    except (KeyError, TypeError, ConfigError):
        raise RunError(f"{folder} is damaged; {AGAIN}") from None
    if not lines:
        raise RunError(f"{folder} has no finished run yet; `vitlab study --status {folder}` shows its progress")
    chosen = sorted(lines, key=lambda line: (not line.on_front, line.rank or 0))[:MOST_MODELS]
    models = {line.cell: model_of(line.cell, rows, runs, note) for line in chosen}
    return [(line, models.get(line.cell)) for line in lines]


def model_of(cell: str, rows: list[Row], runs: Path, note: Note) -> Classifier | None:
    """The model of a cell's first finished seed; None, with a note, if the page cannot have it."""
    row = next(row for row in rows if row["cell"] == cell and row["status"] == "done")
    try:
        classifier = Classifier.load(runs / row["run"])
        why_not = classifier.model.describe().missing.get("page")
        if row["data_sha256"] not in (None, digest_in(classifier.path)):
            why_not = "its run was trained on other images since"
    except RunError as error:
        why_not = str(error)
    if why_not:
        note(f"leaving out the model of {cell}: {why_not}")
    # Its folder is named by a digest, which says nothing to a reader.
    return None if why_not else replace(classifier, name=cell)


# --- models/ID/: one model as the page reads it


def bundle(classifier: Classifier, examples: Split | None) -> dict[str, bytes]:
    """config.json, model.safetensors and, where the run has it, novelty.safetensors (byte for byte), and examples.json
    by name.

    ``examples`` are images of the run's own data set, see `own_examples`; None means others, see `others`. RunError if
    the weights on the disk are not those that were loaded.
    """
    folder = RunFolder(classifier.path)
    own = {"model.safetensors": unchanged(folder.model_path, classifier.digest)}
    if classifier.bounds is not None:
        own["novelty.safetensors"] = unchanged(folder.novelty_path, classifier.result.novelty_sha256)
    return own | {
        "config.json": as_json(describe(classifier)),
        "examples.json": as_json(examples_of(classifier, examples)),
    }


def unchanged(path: Path, digest: str | None) -> bytes:
    """The bytes of a run's file; RunError if they are not those that were loaded."""
    data = files.read_bytes(path, MOST_TENSORS)
    if files.sha256(data) != digest:
        raise RunError(f"{path} changed while it was in use; run the command again")
    return data


def as_json(value: dict[str, Any]) -> bytes:
    """One line of JSON, for a program to read."""
    return (files.to_json(value, indent=None) + "\n").encode()


def describe(classifier: Classifier) -> dict[str, Any]:
    """config.json of a bundle: what a program needs to prepare images, and facts about the model."""
    config, result, bounds = classifier.config, classifier.result, classifier.bounds
    numbers = ("test_top1", "test_top1_interval", "test_images", "train_seconds")
    return {
        "format": FORMAT,
        "name": classifier.name,
        "arch": config.model.arch,
        "model": asdict(config.model),
        "channels": classifier.channels,
        "classes": list(classifier.classes),
        "preprocess": asdict(classifier.preprocess),
        "drawing": classifier.drawing,
        "background": classifier.background,
        "data": classifier.data_name,
        "params": count_parameters(classifier.model),
        **{name: result[name] for name in numbers},
        "metrics": list(shown_metrics(result)),
        "preset": config.preset,
        "label_smoothing": config.optim.label_smoothing,
        "sha256": classifier.digest,
        "novelty": bounds and {"threshold": bounds.threshold, "sha256": result.novelty_sha256},
    }


def own_examples(classifier: Classifier) -> Split | None:
    """The test images of the run's own data set (validation images where there are none), if they are on this machine
    and unchanged; nothing is downloaded."""
    dataset = own_data(classifier)
    return None if dataset is None else dataset.test or cut(dataset, classifier.config).val


def examples_of(classifier: Classifier, examples: Split | None) -> dict[str, Any]:
    """examples.json: images, labels (null where unknown), torch's logits for them, their distances from the training
    images (null where these are unknown), and a sentence that says whose images they are (null: the data set's)."""
    known, credit = True, None
    if examples is None:
        examples, known, credit = others(classifier)
    chosen = examples.take(one_of_each_first(examples, MOST_EXAMPLES))
    images = stored_images(classifier, chosen)
    stored = torch.from_numpy(images)
    logits = classifier.logits(stored)
    return {
        "side": images.shape[1],
        "channels": classifier.channels,
        "images": [base64.b64encode(image.tobytes()).decode() for image in images],
        "labels": chosen.labels.tolist() if known else [None] * len(chosen),
        "logits": logits.tolist(),
        "distances": None if classifier.bounds is None else classifier.novelty(stored).tolist(),
        "credit": credit,
    }


def one_of_each_first(split: Split, count: int) -> list[int]:
    """Up to ``count`` indices: the first image of each of the first ten classes, then the others in their order."""
    first: dict[int, int] = {}
    for number, label in enumerate(split.labels.tolist()):
        first.setdefault(label, number)
    chosen = [first[label] for label in sorted(first)][:10]
    taken = set(chosen)
    others = [number for number in range(len(split)) if number not in taken]
    return (chosen + others)[:count]
