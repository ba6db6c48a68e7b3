"""Networks as C: clean under strict compilers and sanitizers, the same numbers as torch, no more memory than stated."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.command import vitlab
from tests.made_runs import make_run
from tests.test_export_files import NETWORKS, classifier
from tests.tiny import tiny_config, write_npz
from vitlab import Classifier, ViT, train_run
from vitlab.export import gate
from vitlab.export.c import export_c, quoted, source
from vitlab.export.gate import Gate
from vitlab.export.int8 import rounded, with_int8
from vitlab.export.whole import ExportError, Whole, noise

STRICT = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wvla", "-Werror")
SANITIZED = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")
ARM = "arm-linux-gnueabihf-gcc"
# Reads images from standard input, writes their logits and answers.
DRIVER = """
#include <stdio.h>
#include "vitlab_model.h"

int main(void)
{
    static uint8_t image[VITLAB_HEIGHT * VITLAB_WIDTH * VITLAB_CHANNELS];
    float logits[VITLAB_CLASSES];
    while (fread(image, sizeof image, 1, stdin) == 1) {
        printf("%d", vitlab_predict(image, logits));
        for (int k = 0; k < VITLAB_CLASSES; k++)
            printf(" %.9g", (double)logits[k]);
        printf("\\n");
    }
    return 0;
}
"""

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def compile_program(folder: Path, compiler: str, *flags: str) -> Path:
    """The driver with the exported code, compiled without a single warning."""
    (folder / "driver.c").write_text(DRIVER)
    program = folder / "driver"
    command = [compiler, *STRICT, *flags, "driver.c", "vitlab_model.c", "-o", "driver", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return program


def run(program: list[str], images: Tensor) -> tuple[Tensor, Tensor]:
    """Answers [N] and logits [N, K] of the compiled program."""
    done = subprocess.run(program, input=images.numpy().tobytes(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    table = np.loadtxt(done.stdout.decode().splitlines(), ndmin=2)
    return torch.from_numpy(table[:, 0]).long(), torch.from_numpy(table[:, 1:]).float()


def everything(network: Classifier, most_loss: float = 100.0) -> Gate:
    """A gate that lets everything pass."""
    images = noise(Whole(network).shape, 11)
    return Gate(images, torch.arange(11) % 10, "test", most_loss)


@needs_compiler
@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_code_is_clean_and_computes_what_the_classifier_does(tmp_path: Path, name: str, int8: bool) -> None:
    network = classifier(tmp_path, name)
    export_c(network, tmp_path / "c", everything(network) if int8 else None)
    program = compile_program(tmp_path / "c", "gcc", *SANITIZED)
    images = noise(Whole(network).shape, 13)
    answers, logits = run([str(program)], images)
    if int8 and shutil.which("clang"):
        again = run([str(compile_program(tmp_path / "c", "clang"))], images)[1]
        torch.testing.assert_close(again, logits, atol=1e-5, rtol=0)
    whole = Whole(network).eval()
    if int8:
        whole.model = with_int8(whole.model)
    with torch.inference_mode():
        (expected,) = whole(images)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert torch.equal(answers, logits.argmax(dim=1))


@needs_compiler
@pytest.mark.parametrize("name", ["small", "cnn"])
def test_the_compiled_code_is_as_large_as_it_says(tmp_path: Path, name: str) -> None:
    network = classifier(tmp_path, name)
    facts = export_c(network, tmp_path / "c", everything(network))
    subprocess.run(["gcc", "-std=c11", "-O2", "-c", "vitlab_model.c"], cwd=tmp_path / "c", check=True)
    sections = subprocess.run(["size", "-A", "vitlab_model.o"], cwd=tmp_path / "c", capture_output=True, text=True)
    sizes = {line.split()[0]: int(line.split()[1]) for line in sections.stdout.splitlines() if line.startswith(".")}
    constants = sum(size for section, size in sizes.items() if section.startswith((".rodata", ".data.rel.ro")))
    assert facts["weight_bytes"] <= constants < facts["weight_bytes"] + 3000  # and the structs that point to them
    assert facts["memory_bytes"] <= sizes[".bss"] < facts["memory_bytes"] + 256  # arrays are aligned
    assert sizes.get(".data", 0) == 0
    text = subprocess.run(["nm", "-u", "vitlab_model.o"], cwd=tmp_path / "c", capture_output=True, text=True).stdout
    assert set(re.findall(r"U (\w+)", text)) <= {"expf", "erff", "sqrtf", "memset", "memcpy", "_GLOBAL_OFFSET_TABLE_"}


@pytest.mark.skipif(not (shutil.which(ARM) and shutil.which("qemu-arm")), reason="needs an Arm compiler and qemu-arm")
@pytest.mark.parametrize("name", ["merged", "seed", "cnn"])
def test_a_32_bit_arm_processor_computes_the_same(tmp_path: Path, name: str) -> None:
    network = classifier(tmp_path, name)
    export_c(network, tmp_path / "c")
    program = compile_program(tmp_path / "c", ARM, "-static")
    images = noise(Whole(network).shape, 5)
    _, logits = run(["qemu-arm", str(program)], images)
    torch.testing.assert_close(logits, network.logits(images), atol=1e-4, rtol=0)


@needs_compiler
def test_the_example_reads_a_picture_or_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    names = ("zero", 'a "quoted" one', "back\\slash??/", "drei; ä", *(str(number) for number in range(6)))
    network = Classifier.load(make_run(tmp_path / "run", "mnist", classes=names, **NETWORKS["small"]))
    answer = vitlab(f"export {network.path} --to c --out {tmp_path}/c")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"{tmp_path}/c: C11 for any processor, ")
    command = ["gcc", *STRICT, "-o", "example", "example.c", "vitlab_model.c", "-lm"]
    subprocess.run(command, cwd=tmp_path / "c", check=True)
    images = noise((28, 28, 1), 3)
    for image, logits in zip(images, network.logits(images), strict=True):
        Image.fromarray(image[:, :, 0].numpy()).save(tmp_path / "digit.ppm")
        done = subprocess.run([tmp_path / "c" / "example", tmp_path / "digit.ppm"], capture_output=True, text=True)
        assert done.returncode == 0
        (best,) = (line for line in done.stdout.splitlines() if line.startswith(">"))
        assert best.split()[-1] == f"{logits.max().item():.3f}"
        assert best[2:].startswith(names[int(logits.argmax())])
    Image.new("L", (27, 28)).save(tmp_path / "digit.ppm")
    for picture, words in (("digit.ppm", "28 x 28 pixels"), ("none.ppm", "cannot read")):
        done = subprocess.run([tmp_path / "c" / "example", tmp_path / picture], capture_output=True, text=True)
        assert done.returncode != 0
        assert words in done.stderr


def test_names_cannot_leave_their_string_or_comment(tmp_path: Path) -> None:
    assert quoted('a"b\\c?') == '"a\\042b\\134c\\077"'
    network = Classifier.load(make_run(tmp_path / "evil */ int x;", "mnist", **NETWORKS["small"]))
    export_c(network, tmp_path / "c")
    assert (tmp_path / "c" / "vitlab_model.h").read_text().splitlines()[0].count("*/") == 1


# int8


def test_rounding_is_torchs_for_each_row() -> None:
    weight = torch.randn(7, 11, generator=torch.Generator().manual_seed(5))
    weight[3] = 0
    whole, scales = rounded(weight)
    assert whole.dtype == torch.int8
    assert scales[3] == 0
    kept = [0, 1, 2, 4, 5, 6]
    expected = torch.fake_quantize_per_channel_affine(
        weight[kept], scales[kept], torch.zeros(6, dtype=torch.int32), 0, -127, 127
    )
    torch.testing.assert_close((whole * scales[:, None])[kept], expected)
    assert not whole[3].any()
    assert (whole[kept].abs().amax(dim=1) == 127).all()


def test_rounding_changes_matrices_alone(tmp_path: Path) -> None:
    model = classifier(tmp_path, "merged").model
    copy = with_int8(model)
    for (name, before), after in zip(model.named_parameters(), copy.parameters(), strict=True):
        assert torch.equal(before, after) is (before.dim() < 2), name
    assert isinstance(model, ViT)
    assert isinstance(copy, ViT)
    assert not torch.equal(model.pos_embed, copy.pos_embed)  # fixed waves are stored, too


def test_int8_that_costs_too_much_is_refused(tmp_path: Path) -> None:
    network = classifier(tmp_path, "cnn")
    whole, images = Whole(network).eval(), noise((32, 32, 3), 101)
    labels = whole(images)[0].argmax(dim=1)
    labels[:10] = (labels[:10] + 1) % 10  # 91 of 101 are right

    def wrong_once(part: Tensor) -> dict[str, Tensor]:
        logits = whole(part)[0]
        logits[50] = logits[50].roll(1)
        return {"logits": logits}

    cost = Gate(images, labels, "test", 1.0).check(whole, wrong_once, tmp_path / "x")
    assert cost == {
        "part": "test",
        "images": 101,
        "top1": 91 / 101,
        "top1_int8": 90 / 101,
        "same_answers": 100 / 101,
    }
    words = r"int8 lowers the accuracy on 101 test images from 90.10 to 89.11 %, by more than 0.9 points"
    with pytest.raises(ExportError, match=words):
        Gate(images, labels, "test", 0.9).check(whole, wrong_once, tmp_path / "x")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained, on images that are still there."""
    place = tmp_path_factory.mktemp("int8")
    train_run(tiny_config(write_npz(place / "glyphs.npz", train=397, test=101)), place / "run")
    return place / "run"


def test_int8_is_measured_on_the_runs_own_validation_images(tmp_path: Path, trained: Path) -> None:
    answer = vitlab(f"export {trained} --to c --int8 --most-loss 100 --out {tmp_path}/c")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert "40 validation images" in lines[1]
    network = Classifier.load(trained)
    found = gate.gate_of(network, None, 1.0, print)
    val = vitlab(f"evaluate {trained} --split val --json --quiet")
    facts = found.check(Whole(network).eval(), lambda part: {"logits": network.logits(part)}, tmp_path)
    assert f'"top1": {facts["top1"]}' in val.out
    assert facts["same_answers"] == 1


def test_an_onnx_file_in_int8_holds_rounded_products(tmp_path: Path, trained: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    answer = vitlab(f"export {trained} --to onnx --int8 --most-loss 100 --out {tmp_path}/a.onnx")
    assert answer.code == 0, answer.err
    assert re.search(r"int8: top-1 [\d.]+ % instead of [\d.]+ % on 40 validation images", answer.out)
    model = onnx.load(str(tmp_path / "a.onnx"))
    kinds = {
        onnx.TensorProto.DataType.Name(entry.data_type) for entry in model.graph.initializer if len(entry.dims) == 2
    }
    assert "INT8" in kinds
    assert {entry.key for entry in model.metadata_props} >= {"classes", "sha256"}


WRONG: dict[str, tuple[str, str]] = {
    "int8 for torch": ("--to torch --int8", "--int8 works only with --to onnx or c"),
    "a limit without int8": ("--to c --most-loss 1", "--most-loss works only with --int8"),
    "a place without int8": ("--to c --data x.npz", "--data works only with --int8"),
    "a limit that is no number": ("--to c --int8 --most-loss much", "must be a number from 0 to 100"),
    "images that are gone": ("--to c --int8", "mnist"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_work_is_one_line(
    tmp_path: Path, name: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, words = WRONG[name]
    run = trained
    if name == "images that are gone":
        run = make_run(tmp_path / "gone", str(tmp_path / "mnist.npz"), **NETWORKS["small"])
    answer = vitlab(f"export {run} {options} --out {tmp_path}/out")
    assert answer.code not in (0, None)
    assert words in answer.error
    assert not (tmp_path / "out").exists()


def test_a_mixer_is_refused(tmp_path: Path) -> None:
    network = Classifier.load(make_run(tmp_path / "mixer", "mnist", arch="mixer", pool="mean"))
    with pytest.raises(ExportError, match="arch mixer cannot be written as C"):
        export_c(network, tmp_path / "c")


def test_without_a_compiler_the_code_is_kept_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = classifier(tmp_path, "small")
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = vitlab(f"export {network.path} --to c --out {tmp_path}/c")
    assert "no C compiler is installed, so the code was not compiled" in answer.out
    assert source(network, False)[0] == (tmp_path / "c" / "vitlab_model.c").read_text()
