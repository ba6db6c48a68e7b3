"""From run folders to what is served: classifiers by id, and every file by its address."""

from __future__ import annotations

import re
from pathlib import Path

from vitlab.errors import ConfigError
from vitlab.export.bundle import as_json, bundle, describe, own_examples
from vitlab.predict import Classifier
from vitlab.web.pages import File, page_files

LONGEST_ID = 64


def load(runs: list[Path]) -> tuple[dict[str, Classifier], dict[str, File]]:
    """The classifiers of ``runs``, the first one first, and the page's files with theirs; RunError for a bad run."""
    classifiers: dict[str, Classifier] = {}
    for run in runs:
        classifier = Classifier.load(run)
        classifiers[model_id(classifier.name, set(classifiers))] = classifier
    return classifiers, page_files() | model_files(classifiers)


def model_files(classifiers: dict[str, Classifier]) -> dict[str, File]:
    """/models.json and /models/ID/... as the page reads them."""
    found, rows = {}, []
    for name, classifier in classifiers.items():
        for file, data in bundle(classifier, own_examples(classifier)).items():
            found[f"/models/{name}/{file}"] = File.of(file, data)
        card = describe(classifier)
        rows.append({"id": name} | {key: card[key] for key in ("name", "test_top1", "train_seconds", "params", "arch")})
    found["/models.json"] = File.of("models.json", as_json({"format": 1, "models": rows, "study": None}))
    return found


def model_id(name: str, taken: set[str]) -> str:
    """Small letters, digits, - and _ made from a run's name, with a number behind it if that is taken."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[: LONGEST_ID - 4] or "model"
    tries = (plain if n == 1 else f"{plain}-{n}" for n in range(1, 1000))
    found = next((candidate for candidate in tries if candidate not in taken), None)
    if found is None:
        raise ConfigError("too many runs of one name; name fewer")
    return found
