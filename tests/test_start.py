"""Runs that start from the weights of another one: taken, frozen, resumed, continued, rehearsed."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import vitlab
from tests.command import vitlab as command
from tests.killing import trace
from tests.tiny import glyphs, tiny_config, write_npz
from vitlab import Reporter, RunFolder, evaluate_run, resume_run, train_run
from vitlab.config import OptimConfig
from vitlab.data import load_dataset
from vitlab.data.rehearsal import rehearse
from vitlab.errors import ConfigError, DataError, RunError
from vitlab.files import user_cache
from vitlab.model import build_model
from vitlab.native.build import NativeError, load
from vitlab.runs.finished import open_run
from vitlab.runs.start import initial_config, pinned
from vitlab.training.optim import build_optimizers, set_lr
from vitlab.training.step import Counters

SMALL = dict(dropout=0.0, attn_dropout=0.0, drop_path=0.0, optimizer="muon", ema_decay=0.5, weight_decay=0.3)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on three kinds of glyphs."""
    folder = tmp_path_factory.mktemp("first")
    train_run(tiny_config(write_npz(folder / "glyphs.npz"), **SMALL), folder / "run")
    return folder / "run"


def weights_of(path: Path, name: str = "model") -> dict[str, Tensor]:
    return load_file(path / f"{name}.safetensors")


def test_everything_fits_before_the_first_step(first: Path, tmp_path: Path) -> None:
    """The starting weights are those of the source bit for bit, and so are its logits and its preprocessing, although
    other images have another mean."""
    bright = glyphs(59, seed=3)
    np.savez(tmp_path / "bright.npz", x_train=bright.images // 2 + 90, y_train=bright.labels)
    config = initial_config(str(first), None, {"data": str(tmp_path / "bright.npz"), "epochs": 1})
    notes: list[str] = []
    train_run(config, tmp_path / "second", Reporter(note=notes.append))
    start, source = weights_of(tmp_path / "second", "start"), weights_of(first)
    assert start.keys() == source.keys()
    assert all(torch.equal(start[name], source[name]) for name in source)
    assert open_run(tmp_path / "second").preprocess == open_run(first).preprocess
    assert [note for note in notes if note.startswith("starting from run (weights ")]
    record, result = RunFolder(tmp_path / "second").data()["start"], RunFolder(first).result()
    assert result is not None
    assert (record["run"], record["model_sha256"]) == ("run", result.model_sha256)
    second = RunFolder(tmp_path / "second").result()
    assert second is not None
    assert second.start_top1 is not None


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("freeze", ["patches", "blocks:1", "all-but-head"])
def test_frozen_parts_are_bit_for_bit_what_they_were(first: Path, tmp_path: Path, freeze: str, optimizer: str) -> None:
    """In spite of weight decay, of an average of the weights, and of a limit on the whole gradient."""
    knobs: dict[str, Any] = {"freeze": freeze, "optimizer": optimizer, "epochs": 1, "grad_clip": 0.5}
    config = initial_config(str(first), None, knobs | {"decay_all": True})
    train_run(config, tmp_path / "run")
    before, after = weights_of(tmp_path / "run", "start"), weights_of(tmp_path / "run")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {"patches": ("patch_embed", "pos_embed"), "blocks:1": ("patch_embed", "pos_embed", "blocks.0.")}
    kept = {n for n in before if (not n.startswith("head") if freeze not in frozen else n.startswith(frozen[freeze]))}
    assert moved == before.keys() - kept


def test_the_kernels_support_frozen_parts_and_two_rates(first: Path, tmp_path: Path) -> None:
    """In bf16 they keep frozen parts as they are, and at both rates Muon's kernel moves as far as torch's step."""
    try:
        load("bf16", user_cache() / "native")
    except NativeError as error:
        pytest.skip(str(error))
    moves = {}
    for kernels in ("native", "plain"):
        knobs = {"freeze": "blocks:1", "epochs": 0.2, "precision": "bf16", "kernels": kernels, "init_lr_scale": 0.01}
        config = initial_config(str(first), None, knobs | {"depth": 3, "rotate": 0.0, "shift": 0.0, "ema_decay": 0.0})
        train_run(config, tmp_path / kernels)
        before, after = weights_of(tmp_path / kernels, "start"), weights_of(tmp_path / kernels)
        frozen = ("patch_embed", "pos_embed", "blocks.0.")
        assert all(torch.equal(before[name], after[name]) == name.startswith(frozen) for name in before)
        moves[kernels] = {name: (after[name] - before[name]).norm().item() for name in before}
    for name, size in moves["plain"].items():
        assert moves["native"][name] == pytest.approx(size, rel=0.3), name
    old, new = (moves["native"][f"blocks.{n}.mlp.fc1.weight"] for n in (1, 2))
    assert old < new / 30


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_old_parts_learn_at_their_own_rate(optimizer: str) -> None:
    """One step of sign-like size: the moves of the old parts are a tenth of what they would be."""
    config = OptimConfig(optimizer=optimizer, init_lr_scale=0.1, weight_decay=0.0, muon_weight_decay=0.0)  # type: ignore[arg-type]
    moves = []
    for old in ((), ("blocks.0.mlp.fc1.weight", "patch_embed.weight")):
        torch.manual_seed(0)
        model = build_model(tiny_config("digits").model, 1, 3)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizers = build_optimizers(model, config, model.describe().matrices, None, old)
        set_lr(optimizers, 1e-2)
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        for one in optimizers:
            one.step()
        moves.append({name: value - before[name] for name, value in model.state_dict().items()})
    for name, move in moves[0].items():
        factor = 0.1 if name in ("blocks.0.mlp.fc1.weight", "patch_embed.weight") else 1.0
        assert torch.allclose(moves[1][name], factor * move, atol=1e-6), name


def test_resuming_needs_the_source_no_more_and_is_bit_exact(first: Path, tmp_path: Path) -> None:
    """Stopped before the first checkpoint and after some; the source is gone; frozen parts, rates, other classes."""
    source = tmp_path / "source"
    shutil.copytree(first, source)
    data = write_npz(tmp_path / "four.npz", classes=4)
    knobs = {"data": str(data), "freeze": "blocks:1", "init_lr_scale": 0.3, "depth": 3, "dropout": 0.1}
    config = initial_config(str(source), None, knobs | {"rehearse": str(first.parent / "glyphs.npz"), "epochs": 2})
    train_run(config, tmp_path / "whole")

    def stop_at(step: int) -> Reporter:
        def press(task: object, counters: Counters, sums: Tensor) -> None:
            if counters.step == step:
                signal.raise_signal(signal.SIGINT)

        return Reporter(step=press)

    for step in (1, 7):
        train_run(config, tmp_path / f"stopped-{step}", stop_at(step))
    shutil.rmtree(tmp_path / "stopped-1" / "checkpoints")  # as if killed before the first one
    shutil.rmtree(source)
    for step in (1, 7):
        assert resume_run(tmp_path / f"stopped-{step}").status == "done"
        assert trace(tmp_path / f"stopped-{step}") == trace(tmp_path / "whole")
    result = RunFolder(tmp_path / "whole").result()
    assert result is not None
    assert evaluate_run(tmp_path / "whole")["top1"] == result.test_top1
    assert (tmp_path / "whole" / "start.safetensors").exists()
    start = tmp_path / "whole" / "start.safetensors"
    start.write_bytes(start.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match=r"start.safetensors is damaged"):
        evaluate_run(tmp_path / "whole")


def test_the_weights_belong_to_the_identity_of_a_run_and_their_place_does_not(first: Path, tmp_path: Path) -> None:
    shutil.copytree(first, tmp_path / "copy")
    train_run(tiny_config(first.parent / "glyphs.npz", seed=5, **SMALL), tmp_path / "other")
    here, copy, other = (
        pinned(initial_config(str(path), None, {"seed": 7})) for path in (first, tmp_path / "copy", tmp_path / "other")
    )
    assert here.digest() == copy.digest() != other.digest()
    with pytest.raises(ConfigError, match="holds other weights than init_sha256"):
        pinned(other.with_knobs(init_from=str(first)))
    with pytest.raises(RunError, match="no weights in 'nowhere' to start from"):
        pinned(here.with_knobs(init_from="nowhere"))


def test_the_command_line_takes_network_recipe_and_data_from_the_run(first: Path, tmp_path: Path) -> None:
    answer = command(f"train --init-from {first} --epochs 1 --lr 1e-4 --patch-size 4 --print-config")
    found, own = json.loads(answer.out), RunFolder(first).config()
    assert found["model"] == json.loads(json.dumps(own.to_dict()["model"] | {"patch_size": 4}))
    assert (found["optim"]["optimizer"], found["optim"]["lr"], found["data"]["data"]) == ("muon", 1e-4, own.data.data)
    answer = command(f"train --init-from {first} --preset fast --print-config")
    found = json.loads(answer.out)
    assert found["model"]["embed_dim"] == 12
    assert found["train"]["batch_size"] == vitlab.preset_config("fast").train.batch_size


def test_a_finished_run_is_continued_in_a_new_folder(first: Path, tmp_path: Path) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in first.iterdir())
    answer = command(f"train --resume {first} --epochs-more 2 --out {tmp_path / 'more'} --quiet")
    assert answer.code == 0, answer.err
    config, own = RunFolder(tmp_path / "more").config(), RunFolder(first).config()
    assert set(config.changed_knobs(own)) == {"epochs", "init_from", "init_sha256"}
    assert config.train.epochs == 2
    assert "before" in answer.out
    assert sorted((path.name, path.stat().st_mtime_ns) for path in first.iterdir()) == before
    assert "goes with --resume" in command("train --epochs-more 2").error
    assert "leave out --epochs" in command(f"train --resume {first} --epochs-more 2 --epochs 3").error


def test_another_cut_of_the_same_images_is_told(first: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    train_run(initial_config(str(first), None, {"seed": 1, "epochs": 1}), tmp_path / "run", Reporter(note=notes.append))
    assert [note for note in notes if "accuracy is optimistic" in note]


# Rehearsal


def test_rehearsed_images_are_joined_by_the_names_of_the_classes(tmp_path: Path) -> None:
    own, other = glyphs(53, classes=2, seed=1), glyphs(211, classes=3, size=10, seed=2)
    np.savez(tmp_path / "own.npz", x_train=own.images, y_train=own.labels, classes=np.array(["cat", "ape"]))
    np.savez(
        tmp_path / "other.npz", x_train=other.images, y_train=other.labels, classes=np.array(["ape", "bee", "cat"])
    )
    a, b = load_dataset(tmp_path / "own.npz"), load_dataset(tmp_path / "other.npz")
    mixed, done = rehearse(a, b, 0.75, seed=3)
    assert (mixed.card.classes, done.own_classes) == (("ape", "bee", "cat"), ("cat", "ape"))
    assert done.images == 159  # three of them for each of 53
    assert mixed.train.labels[:53].tolist() == [2 if label == 0 else 0 for label in own.labels]
    assert mixed.train.images.shape == (212, 8, 8, 1)
    assert set(mixed.train.labels[53:].tolist()) == {0, 1, 2}
    again, _ = rehearse(a, b, 0.75, seed=3)
    assert (mixed.train.images == again.train.images).all()
    assert rehearse(a, b, 0.95, seed=3)[1].images == 211  # as many as there are


def test_a_run_that_rehearses_says_what_was_forgotten(first: Path, tmp_path: Path) -> None:
    """Two classes of its own, three in all; reads its own images as before, and notices others to rehearse."""
    own = glyphs(61, classes=2, seed=5)
    np.savez(tmp_path / "own.npz", x_train=own.images, y_train=own.labels)
    old = tmp_path / "old.npz"
    shutil.copy(first.parent / "glyphs.npz", old)
    line = f"train --init-from {first} --data {tmp_path / 'own.npz'} --rehearse {old}:0.4 --epochs 1"
    answer = command(f"{line} --out {tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    assert "rehearsing " in answer.err
    assert "rehearsed images: top-1 " in answer.out
    result = RunFolder(tmp_path / "run").result()
    assert result is not None
    assert result.rehearsal_images == 31
    source = RunFolder(first).result()
    assert source is not None
    assert result.rehearsal_start_top1 == source.test_top1
    assert len(open_run(tmp_path / "run").classes) == 3
    assert evaluate_run(tmp_path / "run", "val")["top1"] == result.val_top1
    write_npz(old, train=83)
    with pytest.raises(DataError, match="rehearses have changed"):
        evaluate_run(tmp_path / "run", "val")


@pytest.mark.parametrize("text", ["mnist:0", "mnist:1", "mnist:1.5", ":0.5"])
def test_impossible_shares_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="rehearse takes DATA or DATA:SHARE"):
        tiny_config("digits", rehearse=text)


def test_python_starts_from_a_run(first: Path, tmp_path: Path) -> None:
    run = vitlab.train(init_from=vitlab.load(first), epochs=1, out=tmp_path / "run", progress=False)
    assert run.config.model == RunFolder(first).config().model
    assert run.result["start_top1"] is not None
