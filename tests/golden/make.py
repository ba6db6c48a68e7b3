"""Made the run folders beside this file, with vitlab at commit c7468c5: `python make.py` in an empty folder.

They stand for every run that users have: later versions must open, evaluate, predict, export and resume them
(tests/test_golden.py). Do not make them again with a later version.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import torch
from vitlab.presets import PRESETS

from vitlab import Reporter, RunConfig, evaluate_run, load_dataset, load_model, train_run
from vitlab.config.knobs import flat_fields
from vitlab.machine import choose_machine

BASE = dict(
    data="digits", limit_train=211, image_size=8, epochs=3, batch_size=53, lr=3e-3, threads=1, precision="fp32",
    kernels="plain", device="cpu", checkpoint_seconds=1e9, rotate=5.0, label_smoothing=0.1,
)  # fmt: skip
VIT = dict(patch_size=2, embed_dim=12, depth=2, num_heads=3)
RUNS = {
    "vit-qkv": VIT | dict(pool="cls", dropout=0.1, drop_path=0.1, ema_decay=0.9),
    "vit-merged": VIT | dict(
        num_heads=1, attn_form="merged", attn_bias=True, norm="rms", act="relu2", linear_bias=False, pool="flatten",
        optimizer="muon", init="zero", crop=6, patch_overlap=1, elastic=0.5, select="last",
    ),
    "cnn": dict(arch="cnn", cnn_channels=(5,), head_dropout=0.2, optimizer="muon"),
}  # fmt: skip


def stop_after(steps: int) -> Reporter:
    """Ask for the end like Ctrl-C, after so many steps."""

    def step(task: object, counters: object, sums: object) -> None:
        if counters.step == steps:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)

    return Reporter(step=step)


def main() -> None:
    runs = {}
    images = torch.from_numpy(load_dataset("digits").test.images[:7])
    for name, knobs in RUNS.items():
        config = RunConfig().with_knobs(**(BASE | knobs))
        result = train_run(config, Path(name))
        train_run(config, Path(f"{name}-interrupted"), stop_after(7))
        model, preprocess, classes = load_model(Path(name))
        with torch.inference_mode():
            logits = model(preprocess(images))
        runs[name] = {
            "digest": config.digest(), "model_sha256": result["model_sha256"], "evaluate": evaluate_run(Path(name)),
            "logits": logits.tolist(), "classes": classes,
        }  # fmt: skip
    presets = {name: preset.config.digest() for name, preset in PRESETS.items()}
    expected = {
        "knobs": " ".join(name for name in flat_fields(RunConfig) if name != "elastic"),
        "presets": presets,
        "runs": runs,
    }
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    choose_machine(RunConfig().with_knobs(threads=1, precision="fp32").machine)
    main()
