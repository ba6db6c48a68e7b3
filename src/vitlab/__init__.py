"""vitlab: small Vision Transformers, trained from scratch on small images.

    import vitlab

    run = vitlab.train("small", data="digits", epochs=3)  # every knob is a keyword; a folder is chosen for you
    run.result["test_top1"], run.history, run.plot()
    run.predict(images).names, run.attention(image).weights
    run = vitlab.load("runs/NAME")

`train` and `load` give a `Run`, `study` and `compare` a `StudyResult`; docs/do/python.md is a guide. Below that level
are `load_dataset`, `build_model`, `train_run`, `load_model` and others, which do one thing each.

The names below are the public ones. They are imported when they are first used, because the command line must be able
to answer `--help` without waiting for torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

# How threads of torch wait for each other, unless somebody has chosen. By default they compute without pause for
# milliseconds, which takes cores from other programs and from vitlab's own kernels. OpenMP reads it when torch is
# loaded, so this comes first; torch's GNU runtime goes by the count, others by the policy.
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
if "torch" not in sys.modules and os.environ.keys().isdisjoint({*WAITING, "KMP_BLOCKTIME"}):
    os.environ.update(WAITING)

if TYPE_CHECKING:
    from vitlab.api import Attention, Run, StudyResult, compare, load, study, train
    from vitlab.config import RunConfig
    from vitlab.config.presets import PRESETS, preset_config
    from vitlab.data import CATALOGUE, Dataset, Split, load_dataset
    from vitlab.errors import VitlabError
    from vitlab.estimator import ViTClassifier
    from vitlab.model import CNN, ViT, build_model
    from vitlab.predict import Classifier, Label, Predictions
    from vitlab.runs.finished import evaluate_run, load_model
    from vitlab.runs.folder import RunFolder
    from vitlab.runs.result import Result
    from vitlab.runs.session import Reporter, resume_run, train_run
    from vitlab.training.preprocess import Preprocess

__version__ = "0.1.0"  # pyproject.toml, `vitlab --version` and the run folders read it here

__all__ = [
    "CATALOGUE",
    "CNN",
    "PRESETS",
    "Attention",
    "Classifier",
    "Dataset",
    "Label",
    "Predictions",
    "Preprocess",
    "Reporter",
    "Result",
    "Run",
    "RunConfig",
    "RunFolder",
    "Split",
    "StudyResult",
    "ViT",
    "ViTClassifier",
    "VitlabError",
    "build_model",
    "compare",
    "evaluate_run",
    "load",
    "load_dataset",
    "load_model",
    "preset_config",
    "resume_run",
    "study",
    "train",
    "train_run",
]

_HOME = {
    "api": ("Attention", "Run", "StudyResult", "compare", "load", "study", "train"),
    "config": ("RunConfig",),
    "data": ("CATALOGUE", "Dataset", "Split", "load_dataset"),
    "errors": ("VitlabError",),
    "estimator": ("ViTClassifier",),
    "runs.session": ("Reporter", "resume_run", "train_run"),
    "runs.finished": ("evaluate_run", "load_model"),
    "runs.result": ("Result",),
    "model": ("CNN", "ViT", "build_model"),
    "predict": ("Classifier", "Label", "Predictions"),
    "config.presets": ("PRESETS", "preset_config"),
    "training.preprocess": ("Preprocess",),
    "runs.folder": ("RunFolder",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"vitlab.{module}"), name)
    raise AttributeError(f"module 'vitlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
