"""ONNX files and torch programs: the same numbers for every kind of network, or no file."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.command import vitlab
from tests.made_runs import make_run
from vitlab import Classifier, ViT
from vitlab.errors import ConfigError
from vitlab.export import onnx, program, whole
from vitlab.export.onnx import export_onnx
from vitlab.export.program import export_program
from vitlab.export.whole import ExportError, Whole, compare, largest_difference, noise

ONNX_EXTRA = ("onnx", "onnxruntime", "onnxscript")
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ONNX_EXTRA), reason="needs pip install -e '.[onnx]'"
)

# Every form that a network can have occurs; sizes are small, for the exporter's time grows with the depth.
NETWORKS: dict[str, dict[str, Any]] = {
    "small": dict(
        attn_bias=True, norm="rms", act="relu2", pool="flatten", patch_overlap=2, crop=21, linear_bias=False, depth=1
    ),
    "merged": dict(attn_form="merged", num_heads=1, pool="mean", pos_embed="sincos", attn_bias=True, depth=2),
    "no-attention": dict(attn_form="none", pool="cls", pos_embed="none", depth=1),
    "class-token": dict(pool="cls", image_size=33, patch_size=11, head_dim=5, depth=1),
    "seed": dict(
        mlp_last_gelu=True, head_hidden=(17, 13), init="keras", pool="flatten", image_size=72, patch_size=24, depth=1
    ),
    "cnn": dict(arch="cnn", cnn_channels=(5, 7), data="cifar10", channels=3, image_size=32),
}


def classifier(path: Path, name: str) -> Classifier:
    """The named network as a run."""
    return Classifier.load(make_run(path / name, **({"data": "mnist"} | NETWORKS[name])))


def outputs_of(path: Path, images: Tensor) -> dict[str, Tensor]:
    """What ONNX Runtime makes of the file, named as in it."""
    session = importlib.import_module("onnxruntime").InferenceSession(path.read_bytes())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(None, {"images": images.numpy()})), strict=True))


@needs_onnx
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "class-token"])  # see the next but one
def test_an_onnx_file_computes_what_the_classifier_does(tmp_path: Path, name: str) -> None:
    """From stored pixels to logits and attention, for numbers of images that it was neither traced nor checked with."""
    network = classifier(tmp_path, name)
    with_attention = network.config.model.arch == "vit" and network.config.model.attn_form != "none"
    facts = export_onnx(network, tmp_path / "new" / "net.onnx", with_attention)
    size, colours = (32, 3) if name == "cnn" else (28, 1)
    for count in (1, 3, 5):
        images = noise((size, size, colours), 100 + count)[:count]
        found = outputs_of(tmp_path / "new" / "net.onnx", images)
        torch.testing.assert_close(found.pop("logits"), network.logits(images), atol=1e-4, rtol=0)
        assert len(found) == (network.config.model.depth if with_attention else 0)
        if with_attention:
            assert isinstance(network.model, ViT)
            with torch.inference_mode():
                _, expected = network.model.forward_with_attention(network.preprocess(images))
            for layer, weights in enumerate(expected):
                torch.testing.assert_close(found[f"attention_{layer}"], weights, atol=1e-4, rtol=0)
    assert facts["max_difference"].keys() == {"1", "2", "7"}
    assert max(facts["max_difference"].values()) <= 1e-4
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["net.onnx"], "one file, with the weights in it"


@pytest.mark.parametrize("name", ["small", "merged", "no-attention", "cnn"])
def test_a_program_computes_what_the_classifier_does(tmp_path: Path, name: str) -> None:
    network = classifier(tmp_path, name)
    facts = export_program(network, tmp_path / "net.pt2")
    size, colours = (32, 3) if name == "cnn" else (28, 1)
    with whole.silence():
        again = torch.export.load(tmp_path / "net.pt2").module()
    for count in (1, 3):
        images = noise((size, size, colours), 100 + count)[:count]
        with torch.inference_mode():
            (logits,) = again(images)
        torch.testing.assert_close(logits, network.logits(images), atol=1e-4, rtol=0)
    assert facts["max_difference"].keys() == {"1", "2", "7"}


@needs_onnx
def test_an_onnx_file_says_what_it_is_and_nothing_about_this_machine(tmp_path: Path) -> None:
    network = classifier(tmp_path, "class-token")
    answer = vitlab(f"export {network.path} --to onnx --attention --out {tmp_path}/a.onnx --json")
    assert (answer.code, answer.err) == (0, "")
    facts = json.loads(answer.out)
    assert facts["input"] == ["B", 28, 28, 1]
    assert facts["outputs"] == {"logits": ["B", 10], "attention_0": ["B", 3, 10, 10]}
    model = importlib.import_module("onnx").load(str(tmp_path / "a.onnx"))
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["classes"]) == list(network.classes)
    assert about["sha256"] == network.digest
    assert about["drawing"] == "mnist-drawing"
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
    images = noise((28, 28, 1), 3)
    torch.testing.assert_close(
        outputs_of(tmp_path / "a.onnx", images)["logits"], network.logits(images), atol=1e-4, rtol=0
    )
    data = (tmp_path / "a.onnx").read_bytes()
    assert facts["bytes"] == len(data)
    assert not [word for word in (b".py", str(tmp_path).encode(), b"site-packages") if word in data]


def test_a_program_runs_without_vitlab(tmp_path: Path) -> None:
    network = classifier(tmp_path, "class-token")
    answer = vitlab(f"export {network.path} --to torch --out {tmp_path}/a.pt2")
    assert (answer.code, answer.err) == (0, "")
    first, second = answer.out.splitlines()
    assert first.endswith(" MB, images uint8 [B, 28, 28, 1] -> logits [B, 10]")
    assert second.startswith("largest difference from torch: ")
    np.save(tmp_path / "images.npy", noise((28, 28, 1), 3).numpy())
    script = """
import sys, warnings, json
sys.modules["vitlab"] = None
warnings.simplefilter("ignore")
import numpy, torch
extra = {"vitlab.json": ""}
program = torch.export.load("a.pt2", extra_files=extra).module()
(logits,) = program(torch.from_numpy(numpy.load("images.npy")))
print(json.dumps([logits.tolist(), json.loads(extra["vitlab.json"])]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    logits, about = json.loads(done.stdout)
    np.testing.assert_allclose(logits, network.logits(noise((28, 28, 1), 3)).numpy(), atol=1e-4)
    assert (about["sha256"], about["classes"]) == (network.digest, list(network.classes))
    with zipfile.ZipFile(tmp_path / "a.pt2") as archive:
        parts = [archive.read(name) for name in archive.namelist()]
    text = b"".join(parts)
    assert not [part for part in parts if part.startswith(b"PK") or part.startswith(b"\x80")], "torch.save, or a pickle"
    assert not [word for word in (b".py\\", str(Path.cwd()).encode(), b"site-packages") if word in text]


def test_a_program_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight changes between the export and the comparison."""
    run = make_run(tmp_path / "run", **NETWORKS["class-token"])
    write = program.program_bytes

    def changed(network: Whole, *rest: Any) -> bytes:
        data = write(network, *rest)
        with torch.no_grad():
            network.model.head[-1].bias.add_(0.01)  # type: ignore[operator]
        return data

    monkeypatch.setattr(program, "program_bytes", changed)
    answer = vitlab(f"export {run} --to torch --out {tmp_path}/out/net")
    assert answer.code == 1
    assert "out/net is not kept: its logits for 1 image differ from torch's by 1.0e-02" in answer.error
    assert not (tmp_path / "out").exists()


@needs_onnx
def test_an_onnx_file_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that is wrong for more than two images only."""
    network = classifier(tmp_path, "class-token")

    def wrong(data: bytes, names: list[str]) -> Any:
        return lambda images: {"logits": network.logits(images) + 2e-4 * (len(images) > 2)}

    monkeypatch.setattr(onnx, "onnx_bytes", lambda *rest: b"not looked at")
    monkeypatch.setattr(onnx, "runtime", wrong)
    answer = vitlab(f"export {network.path} --to onnx --out {tmp_path}/out/net")
    assert answer.code == 1
    assert "its logits for 7 images differ from torch's by 2.0e-04, more than 0.0001" in answer.error
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_compared_differs(tmp_path: Path) -> None:
    ones = torch.ones(2, 3)
    assert largest_difference(ones, ones + 0.5) == 0.5
    for wrong in (None, torch.ones(2, 4), ones * float("nan"), ones / 0):
        assert largest_difference(ones, wrong) == float("inf")
    network = Whole(classifier(tmp_path, "class-token")).eval()

    def failing(images: Tensor) -> dict[str, Tensor]:
        raise RuntimeError("Expected: 2\nmore")

    with pytest.raises(ExportError, match=r"fails for 1 image \(Expected: 2\)"):
        compare(network, failing, "net.onnx")
    with pytest.raises(ExportError, match="differ from torch's by inf"):
        compare(network, lambda images: {"logits": network(images)[0].detach()[:, :2]}, "net.onnx")


@pytest.mark.parametrize("missing", ONNX_EXTRA)
def test_without_the_extra_onnx_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    run = make_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, missing, None)
    answer = vitlab(f"export {run} --to onnx --out {tmp_path}/a.onnx")
    assert re.search("pip install '?onnx", answer.error)
    assert not (tmp_path / "a.onnx").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    network = classifier(tmp_path, "class-token")
    target = tmp_path / "here"
    target.write_text("mine")
    for form in ("onnx", "torch", "web"):
        answer = vitlab(f"export {network.path} --to {form} --out {target}")
        assert (answer.code, answer.error) == (
            2,
            f"vitlab: {target} already exists; choose another --out, or delete it",
        )
    with pytest.raises(ConfigError, match="already exists"):
        export_program(network, tmp_path)
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("export {run}", 2, "--to"),
        ("export {run} --to tflite", 2, "(use onnx)"),
        ("export {run} {run} --to onnx", 2, "takes one run, not 2"),
        ("export {run} --to torch --attention", 2, "--attention works only with --to onnx"),
        ("export {run} --to onnx --study x", 2, "--study works only with --to web"),
        ("export {run} --to torch --runs x", 2, "--runs works only with --to web"),
        ("export {run} --to onnx --attention", 1, "has no attention to export"),
        ("export nowhere --to torch", 8, "there is no run nowhere"),
        ("export {run} --to torch --out {run}/config.json/a.pt2", 6, "a file with that name already exists"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, line: str, code: int, words: str) -> None:
    run = make_run(tmp_path / "run", arch="cnn", cnn_channels=(3,))
    answer = vitlab(line.format(run=run))
    assert (answer.code, answer.out) == (code, "")
    assert words in answer.error
