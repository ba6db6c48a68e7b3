"""Folders for transformers and timm, read by the libraries themselves: the same logits, or a refusal that says why.

timm needs torchvision, which vitlab does not install; where it cannot be loaded, names and shapes are compared with
what timm 1.0.31 has.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from tests.command import snapshot, vitlab
from tests.made_runs import make_run
from vitlab import Classifier, ViT, files, load_dataset
from vitlab.advice import for_the_command_line
from vitlab.config import ModelConfig, RunConfig
from vitlab.config.presets import PRESETS
from vitlab.data.images import to_grey
from vitlab.errors import ConfigError, StorageError
from vitlab.export import hub, tensors
from vitlab.export.hub import TABLES, export_hub, pictures, rgb
from vitlab.export.whole import ExportError


def importable(name: str) -> bool:
    """Whether a library can be loaded; with a torchvision of another torch, timm cannot."""
    try:
        importlib.import_module(name)
    except Exception:
        return False
    return True


needs_transformers = pytest.mark.skipif(not importable("transformers"), reason="needs pip install transformers")
needs_timm = pytest.mark.skipif(not importable("timm"), reason="needs timm, and torchvision for the installed torch")

# Everything that both can express; sizes are primes where they can be. 5 x 5 leaves pixels at the edge, 3 cut off.
TEXTBOOK: dict[str, Any] = dict(
    data="digits", image_size=8, patch_size=3, embed_dim=14, num_heads=2, depth=3, mlp_ratio=1.64, pool="cls"
)
NETWORKS: dict[str, dict[str, Any]] = {
    "textbook": TEXTBOOK,
    "merged": TEXTBOOK | dict(attn_form="merged", num_heads=1, linear_bias=False, pos_embed="sincos", embed_dim=12),
    "colour": dict(data="cifar10", channels=3, image_size=32, crop=27, patch_size=5, embed_dim=14, num_heads=7)
    | dict(pos_embed="none", pool="cls", depth=1, classes=("cat", "dog", "7 < 8")),
}
ONLY: dict[str, dict[str, Any]] = {
    "transformers": {"relu2": TEXTBOOK | dict(act="relu2")},
    "timm": {"mean": TEXTBOOK | dict(pool="mean", norm="rms", mlp_ratio=1.5)},
}


def classifier(path: Path, name: str) -> Classifier:
    """The named network as a run."""
    return Classifier.load(make_run(path / name, **(NETWORKS | ONLY["transformers"] | ONLY["timm"])[name]))


def noise(network: Classifier, count: int) -> Tensor:
    """Random images uint8 [count, S, S, C] that need no resizing."""
    side = network.preprocess.image_size
    draw = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, side, side, network.channels), generator=draw).to(torch.uint8)


def real_digits() -> Tensor:
    """100 real digits uint8 [100, 8, 8, 1] that no network here was trained on."""
    split = load_dataset("digits").test
    assert split is not None
    return torch.from_numpy(split.images[:100])


def read_with_transformers(folder: Path) -> tuple[Any, Any]:
    """Processor and model, as a user gets them."""
    library = importlib.import_module("transformers")
    return (
        library.AutoImageProcessor.from_pretrained(folder),
        library.AutoModelForImageClassification.from_pretrained(folder),
    )


@pytest.fixture(scope="module")
def textbook(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A network that both libraries can express."""
    return classifier(tmp_path_factory.mktemp("runs"), "textbook")


@pytest.fixture
def without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)


@needs_transformers
@pytest.mark.parametrize("name", [*NETWORKS, *ONLY["transformers"]])
def test_transformers_computes_the_same_logits(tmp_path: Path, name: str) -> None:
    """For 100 test digits (noise for the network that sees colours), from the picture to the logits."""
    network = classifier(tmp_path, name)
    facts = export_hub(network, tmp_path / "out", "transformers")
    assert facts["reader"].startswith("transformers ")
    assert facts["max_difference"].keys() == {"1", "2", "7"}
    images = real_digits() if network.channels == 1 else noise(network, 100)
    processor, model = read_with_transformers(tmp_path / "out")
    expected = network.logits(images)
    coloured = [one.convert("RGB") for one in pictures(images)]
    for prepared in (pictures(images), coloured, [np.array(one) for one in coloured]):
        with torch.inference_mode():
            logits = model(**processor(prepared, return_tensors="pt")).logits
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert model.config.id2label == dict(enumerate(network.classes))
    assert model.config.num_labels == len(network.classes) == expected.shape[1]


@needs_transformers
def test_transformers_finds_every_weight_under_the_names_of_its_own_files(textbook: Classifier, tmp_path: Path) -> None:
    """No name is missing, unexpected or of another shape, and it saves the same names again."""
    library = importlib.import_module("transformers")
    export_hub(textbook, tmp_path / "out", "transformers")
    model, told = library.ViTForImageClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(told.values()), told
    model.save_pretrained(tmp_path / "again")
    ours, theirs = (safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@needs_transformers
def test_the_pipeline_and_the_lines_of_the_card_work(
    textbook: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A grey PNG: the pipeline opens it as RGB, which a textbook with one channel would refuse."""
    export_hub(textbook, tmp_path / "out", "transformers")
    images = noise(textbook, 1)
    pictures(images)[0].save(tmp_path / "picture.png")
    chances = textbook.logits(images)[0].softmax(dim=0)
    answers = importlib.import_module("transformers").pipeline("image-classification", model=tmp_path / "out", top_k=10)
    for answer in answers(str(tmp_path / "picture.png")):
        assert answer["score"] == pytest.approx(float(chances[int(answer["label"])]), abs=1e-5)
    capsys.readouterr()
    run_card(tmp_path)
    assert capsys.readouterr().out.strip() == str(int(chances.argmax()))


def run_card(path: Path) -> None:
    """The Python of path/out/README.md, on path/picture.png."""
    found = re.search(r"```python\n(.*?)```", (path / "out" / "README.md").read_text(), re.DOTALL)
    assert found is not None
    code = found[1].replace('"."', repr(str(path / "out"))).replace("picture.png", str(path / "picture.png"))
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("to", TABLES)
@pytest.mark.usefixtures("without_transformers")
def test_without_the_library_vitlab_reads_the_files_again(
    tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in (*NETWORKS, *ONLY[to]):
        facts = export_hub(classifier(tmp_path, name), tmp_path / f"{name}-out", to)
        assert facts["reader"] == f"vitlab, because {to} is not installed"
        assert max(facts["max_difference"].values()) <= 1e-4


def test_a_library_that_cannot_be_loaded_is_named(
    textbook: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm with the torchvision of another torch raises RuntimeError on import."""

    def broken() -> Any:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setitem(hub.READERS, "timm", broken)
    facts = export_hub(textbook, tmp_path / "out", "timm")
    assert facts["reader"] == "vitlab, because timm cannot be loaded: operator torchvision::nms does not exist"


# --- timm

BLOCK = {"norm1.weight": [14], "norm1.bias": [14], "attn.qkv.weight": [42, 14], "attn.qkv.bias": [42]}
BLOCK |= {"attn.proj.weight": [14, 14], "attn.proj.bias": [14], "norm2.weight": [14], "norm2.bias": [14]}
BLOCK |= {"mlp.fc1.weight": [23, 14], "mlp.fc1.bias": [23], "mlp.fc2.weight": [14, 23], "mlp.fc2.bias": [14]}
# The state dict of timm 1.0.31's VisionTransformer(img_size=8, patch_size=3, embed_dim=14, depth=3, num_heads=2,
# mlp_ratio=1.68, num_classes=10).
TIMM = {"cls_token": [1, 1, 14], "pos_embed": [1, 5, 14], "norm.weight": [14], "norm.bias": [14]}
TIMM |= {"patch_embed.proj.weight": [14, 3, 3, 3], "patch_embed.proj.bias": [14]}
TIMM |= {"head.weight": [10, 14], "head.bias": [10]}
TIMM |= {f"blocks.{number}.{name}": shape for number in range(3) for name, shape in BLOCK.items()}


def test_the_names_and_shapes_are_those_of_timm(textbook: Classifier, tmp_path: Path) -> None:
    export_hub(textbook, tmp_path / "out", "timm")
    found = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    assert {name: list(tensor.shape) for name, tensor in found.items()} == TIMM
    about = json.loads((tmp_path / "out" / "config.json").read_text())
    assert int(about["model_args"]["embed_dim"] * about["model_args"]["mlp_ratio"]) == 23


@needs_timm
@pytest.mark.parametrize("name", [*NETWORKS, *ONLY["timm"]])
def test_timm_computes_the_same_logits(tmp_path: Path, name: str) -> None:
    timm = importlib.import_module("timm")
    network = classifier(tmp_path, name)
    assert export_hub(network, tmp_path / "out", "timm")["reader"] == f"timm {timm.__version__}"
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    images = noise(network, 11)
    with torch.inference_mode():
        logits = model(torch.stack([transform(one.convert("RGB")) for one in pictures(images)]))
    torch.testing.assert_close(logits, network.logits(images), atol=1e-4, rtol=0)
    assert list(model.pretrained_cfg["label_names"]) == list(network.classes)
    pictures(images)[0].save(tmp_path / "picture.png")
    run_card(tmp_path)


# --- what they cannot express


@pytest.mark.parametrize("to", TABLES)
def test_every_field_of_the_network_is_in_the_table(to: str) -> None:
    """A new field fails here until somebody decides what the libraries make of it."""
    assert TABLES[to].keys() == {field.name for field in fields(ModelConfig)}


@pytest.mark.parametrize("to", TABLES)
def test_the_preset_textbook_is_for_them_and_no_other_of_ours(to: str) -> None:
    can = {
        name for name, preset in PRESETS.items() if all(one.fits(preset.config.model) for one in TABLES[to].values())
    }
    assert can - {"cnn-tuned", "keras-cnn"} == {"textbook"}


@pytest.mark.parametrize(
    ("knobs", "to", "words"),
    [
        (dict(patch_overlap=1), "both", "patch_overlap 1; train with --patch-overlap 0,"),
        (dict(attn_bias=True), "both", "attn_bias on; train with --no-attn-bias,"),
        (dict(head_dim=5), "both", "head_dim 5; train with --head-dim none,"),
        (dict(attn_form="none"), "both", "attn_form none; train with --attn-form qkv,"),
        (dict(mlp_last_gelu=True), "both", "mlp_last_gelu on; train with --no-mlp-last-gelu,"),
        (dict(head_hidden=(11, 13)), "both", "head_hidden 11 13; train with --head-hidden none,"),
        (dict(pool="flatten"), "both", "pool flatten; train with --pool cls,"),
        (dict(pool="mean"), "transformers", "pool mean; train with --pool cls,"),
        (dict(norm="rms"), "transformers", "norm rms; train with --norm layer,"),
        (dict(act="relu2"), "timm", "act relu2; train with --act gelu,"),
        (dict(crop=5), "timm", "crop 5; train with --crop none,"),
        (
            dict(patch_overlap=1, attn_bias=True, pool="flatten"),
            "both",
            "patch_overlap 1, attn_bias on and pool flatten; train with --patch-overlap 0, --no-attn-bias, --pool cls,",
        ),
    ],
)
def test_a_refusal_names_the_knobs(
    textbook: Classifier, tmp_path: Path, knobs: dict[str, Any], to: str, words: str
) -> None:
    """All reasons in one line; with the flags that it names, the network is one that the library can express."""
    config = textbook.config.with_knobs(**knobs)
    for name in TABLES if to == "both" else (to,):
        owner = {"transformers": "transformers' ViT", "timm": "timm's ViT"}[name]
        with for_the_command_line():
            with pytest.raises(ExportError) as raised:
                export_hub(replace(textbook, config=config), tmp_path / "out", name)
            said = str(raised.value)
        assert said == f"{textbook.path}: {owner} cannot express {words} or start from --preset textbook"
        assert not (tmp_path / "out").exists()
        assert all(one.fits(follow(config, words).model) for one in TABLES[name].values())


def follow(config: RunConfig, advice: str) -> RunConfig:
    """The configuration with the flags in the advice."""
    told = advice.split("train with ")[1].removesuffix(",")
    changed: dict[str, Any] = {}
    for flag in re.findall(r"--([a-z-]+)(?: ([^-\s,]+))?", told):
        name = flag[0].replace("-", "_")
        number = {"none": () if name == "head_hidden" else None, "0": 0}.get(flag[1], flag[1])
        changed |= {name.removeprefix("no_"): False} if name.startswith("no_") else {name: number}
    return config.with_knobs(**changed)


@pytest.mark.parametrize(
    ("arch", "kind"),
    [(dict(arch="cnn", cnn_channels=(3,)), "convolutional network"), (dict(arch="mixer"), "MLP-Mixer")],
)
def test_other_networks_are_refused_in_one_line(tmp_path: Path, arch: dict[str, Any], kind: str) -> None:
    run = make_run(tmp_path / "run", **arch)
    answer = vitlab(f"export {run} --to transformers")
    assert answer.code == 1
    assert f"transformers' ViT cannot express a {kind}; start from --preset textbook" in answer.error


def test_a_field_in_no_table_is_refused(textbook: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {name: limit for name, limit in TABLES["timm"].items() if name != "init"}
    monkeypatch.setitem(TABLES, "timm", table)
    with pytest.raises(ExportError, match="cannot express init vit"):
        export_hub(textbook, tmp_path / "out", "timm")


# --- the folder


@pytest.mark.usefixtures("without_transformers")
def test_a_copy_that_computes_something_else_is_not_kept(
    textbook: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patch that is transposed on its way: the mistake that is easiest to make."""
    write = tensors.kernel
    monkeypatch.setattr(tensors, "kernel", lambda *given: write(*given).mT)
    with pytest.raises(ExportError, match="out is not kept: its logits for 1 image differ from torch's by"):
        export_hub(textbook, tmp_path / "out", "transformers")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_transformers")
def test_colours_are_read_as_their_grey(textbook: Classifier, tmp_path: Path) -> None:
    """What Pillow and vitlab make of a coloured picture, except for rounding it to whole levels."""
    assert isinstance(textbook.model, ViT)
    weights = tensors.shared_form(textbook.model)
    colour = np.random.default_rng(7).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    mean, std = (
        torch.tensor(rgb(values)).view(3, 1, 1) for values in (textbook.preprocess.mean, textbook.preprocess.std)
    )
    inputs = (torch.from_numpy(colour).permute(2, 0, 1) / 255 - mean) / std
    grey = torch.from_numpy(to_grey(colour))[None]
    assert np.array_equal(grey[0, ..., 0], np.array(Image.fromarray(colour).convert("L")))
    found = tensors.compute(weights, inputs[None], heads=2, act="gelu")
    torch.testing.assert_close(found, textbook.logits(grey), atol=0.01, rtol=0)
    turned = tensors.compute(weights, inputs.flip(0)[None], heads=2, act="gelu")
    assert (turned - found).abs().max() > 0.03, "red and blue are exchanged"


@pytest.mark.usefixtures("without_transformers")
def test_the_command_writes_a_folder_that_can_be_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", **(TEXTBOOK | dict(data="mnist", image_size=28)))
    answer = vitlab("export run --to transformers")
    assert (answer.code, answer.err) == (0, "")
    first, second, third = answer.out.splitlines()
    assert first.endswith(" MB in 5 files; read by vitlab, because transformers is not installed")
    assert second.startswith("largest difference from torch: ")
    assert third.startswith("next: AutoModelForImageClassification.from_pretrained('run-transformers')")
    before = snapshot(tmp_path / "run-transformers")
    assert vitlab("check run-transformers").out.startswith(
        "run-transformers: an export\nok       README.md, config.json"
    )
    assert "run-transformers already exists" in vitlab("export run --to transformers").error
    facts = json.loads(vitlab("export run --to transformers --out again --json").out)
    assert (facts["files"], facts["input"], facts["outputs"]) == (5, ["B", 3, 28, 28], {"logits": ["B", 10]})
    assert snapshot(tmp_path / "again") == before, "the same run gives the same bytes"
    card = (tmp_path / "again" / "README.md").read_text()
    assert "The preparation of drawings" in card, "a network for MNIST's digits expects them centred"
    weights = tmp_path / "again" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    answer = vitlab("check again")
    assert answer.code == 8
    assert "damaged  model.safetensors: its SHA-256 has changed; export it again" in answer.out
    assert (
        "again is no run folder: `vitlab export` wrote it for other programs"
        in vitlab("predict again picture.png").error
    )


@pytest.mark.usefixtures("without_transformers")
def test_the_card_says_when_images_are_resized_and_escapes_names(tmp_path: Path) -> None:
    names = ("a_b", "<script>", "`x`")
    run = make_run(tmp_path / "run", classes=names, **(TEXTBOOK | dict(image_size=11)))
    export_hub(Classifier.load(run), tmp_path / "out", "transformers")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The images of the data set have 8 x 8 pixels" in card
    assert "(a\\_b, &lt;script&gt;, &#96;x&#96;)" in card
    assert "The preparation of drawings" not in card


@pytest.mark.usefixtures("without_transformers")
def test_nothing_is_overwritten_and_a_full_disk_leaves_nothing(
    textbook: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for name in ("mine", "mine/notes.txt"):
        with pytest.raises(ConfigError, match="already exists"):
            export_hub(textbook, tmp_path / name, "transformers")
    before = snapshot(tmp_path)

    def full(path: Path, data: bytes) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(files, "write_bytes", full)
    with pytest.raises(StorageError):
        export_hub(textbook, tmp_path / "out", "transformers")
    assert snapshot(tmp_path) == before
