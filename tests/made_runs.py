"""Run folders without training: a network with random weights, and everything that a finished run has beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.tiny import tiny_config
from vitlab import RunFolder
from vitlab.model import build_model
from vitlab.runs.seal import SEAL

DIGITS = tuple("0123456789")


def make_run(
    path: Path, data: str = "digits", channels: int = 1, classes: tuple[str, ...] = DIGITS, **knobs: Any
) -> Path:
    """A finished run that claims to be trained on ``data``; every weight is random, none is at its start."""
    config = tiny_config(data, **(dict(image_size=28, patch_size=7, dropout=0.0) | knobs))
    size = config.model
    torch.manual_seed(17)
    model = build_model(size, channels, len(classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    path.mkdir(parents=True)
    folder = RunFolder(path)
    preprocess = {"image_size": size.image_size, "mean": [0.3] * channels, "std": [0.4] * channels}
    named = {"name": Path(data).stem, "channels": channels, "classes": list(classes), "sha256": "0" * 64}
    folder.write("data.json", named | {"preprocess": preprocess | {"crop": size.input_side}})
    folder.write("config.json", config.to_dict())
    numbers = {"test_top1": 0.75, "test_top1_interval": [0.7, 0.8], "test_images": 31, "train_seconds": 1.5}
    numbers |= {"images_per_second": 20.0, "threads": 1}
    ended = {
        "status": "done",
        "config_digest": config.digest(),
        "model_sha256": folder.save_weights(model.state_dict()),
    }
    folder.write("result.json", numbers | ended)
    return path


def unseal(run: Path) -> Path:
    """Make a run look like one of an earlier version, without digests: a stranger can do that, too."""
    for name in ("environment.json", "result.json"):
        if (run / name).exists():
            values = json.loads((run / name).read_text())
            (run / name).write_text(json.dumps({key: value for key, value in values.items() if key not in SEAL}))
    return run
