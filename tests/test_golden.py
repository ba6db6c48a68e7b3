"""Run folders of an older vitlab (tests/golden, made by make.py there): every later version goes on with them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.command import vitlab
from vitlab import Classifier, RunConfig, RunFolder, evaluate_run, load_dataset, resume_run
from vitlab.config import AugmentConfig
from vitlab.config.knobs import flat_fields, knob
from vitlab.config.presets import PRESETS
from vitlab.machine import choose_machine, environment
from vitlab.runs.folder import FINGERPRINT

GOLDEN = Path(__file__).parent / "golden"
RECORD: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
EXPECTED = RECORD["runs"]
RUNS = sorted(EXPECTED)

# The knobs that existed when these runs were made. Every later one has an inert value; see `knob`.
FIRST_KNOBS = frozenset(RECORD["knobs"].split())


@pytest.fixture
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / request.param))


@pytest.mark.parametrize("name", RUNS)
def test_digests_are_what_they_were(name: str) -> None:
    assert RunFolder(GOLDEN / name).config().digest() == EXPECTED[name]["digest"]


@pytest.mark.parametrize("name", sorted(RECORD["presets"]))
def test_digests_of_presets_are_what_they_were(name: str) -> None:
    assert PRESETS[name].config.digest() == RECORD["presets"][name]


def test_every_later_knob_has_an_inert_value() -> None:
    fields = {name: field_ for name, (_, field_) in flat_fields(RunConfig).items()}
    assert fields.keys() >= FIRST_KNOBS
    assert {name for name, one in fields.items() if "inert" in one.metadata} == fields.keys() - FIRST_KNOBS


@dataclass(frozen=True)
class LaterAugment(AugmentConfig):
    """A later version's section with one knob more."""

    swirl: float = knob(0.25, "A knob that today's version does not know.", inert=0.0)


@dataclass(frozen=True)
class LaterConfig(RunConfig):
    """A later version's configuration."""

    augment: LaterAugment = field(default_factory=lambda: LaterAugment(swirl=0.0))


@pytest.mark.parametrize("name", RUNS)
def test_a_knob_more_changes_no_digest_until_it_does_something(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitlab.config.run.flat_fields", lambda cls: flat_fields(LaterConfig))
    today = RunFolder(GOLDEN / name).config()
    old = vars(today.augment)
    later = LaterConfig(**(vars(today) | {"augment": LaterAugment(**old, swirl=0.0)}))
    assert later.digest() == EXPECTED[name]["digest"]
    moved = LaterConfig(**(vars(today) | {"augment": LaterAugment(**old, swirl=0.25)}))
    assert moved.digest() != later.digest()


@pytest.mark.parametrize("name", RUNS)
def test_they_evaluate_as_they_did(name: str) -> None:
    old = EXPECTED[name]["evaluate"]
    now = evaluate_run(GOLDEN / name)
    assert [now[key] for key in ("top1", "top5", "images")] == [old[key] for key in ("top1", "top5", "images")]
    assert now["loss"] == pytest.approx(old["loss"], abs=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_they_predict_as_they_did(name: str) -> None:
    classifier = Classifier.load(GOLDEN / name)
    test = load_dataset("digits").test
    assert test is not None
    logits = classifier.logits(torch.from_numpy(test.images[:7]))
    np.testing.assert_allclose(logits.numpy(), EXPECTED[name]["logits"], atol=1e-5)
    assert list(classifier.classes) == EXPECTED[name]["classes"]


@pytest.mark.parametrize("form", ["onnx", "torch", "web"])
@pytest.mark.parametrize("name", RUNS)
def test_they_export(name: str, form: str, tmp_path: Path) -> None:
    """`vitlab export` compares the file with torch before it keeps it."""
    answer = vitlab(f"export {GOLDEN / name} --to {form} --out {tmp_path / 'out'}")
    assert answer.code == 0, answer.err
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize("copied", [f"{name}-interrupted" for name in RUNS], indirect=True)
def test_they_resume(copied: Path) -> None:
    """To the very weights where processor and torch are those of the golden run, else to nearby ones."""
    name = copied.name.removesuffix("-interrupted")
    folder = RunFolder(copied)
    assert folder.result() is not None
    result = resume_run(copied, allow_drift=True)
    assert (result["status"], result["steps"]) == ("done", 12)
    resumed = folder.load_weights(EXPECTED[name]["digest"])[0]
    golden = RunFolder(GOLDEN / name).load_weights(EXPECTED[name]["digest"])[0]
    for part, weight in golden.items():
        torch.testing.assert_close(resumed[part], weight, rtol=1e-3, atol=1e-4)
    here = environment(choose_machine(folder.config().machine))
    if all(folder.environment()[key] == here[key] for key in FINGERPRINT):
        assert result["model_sha256"] == EXPECTED[name]["model_sha256"]
