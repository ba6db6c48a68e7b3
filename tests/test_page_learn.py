"""The page's training in a real browser against torch: every layer's gradient, the optimizer, and whole runs."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from tests.browser import serve_folder, watched
from tests.page import page_folder, random_images, untrained
from vitlab.config import ModelConfig
from vitlab.export.lesson import digits_lesson, lesson_files
from vitlab.model import build_model
from vitlab.predict import Classifier
from vitlab.training.preprocess import Preprocess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WITHIN = 1e-4  # relative to the largest number of a tensor
IMAGES = 5
SMOOTHING = 0.1
RATES = {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "decay": 0.07}


def vit(**knobs: Any) -> ModelConfig:
    """Sizes are distinct primes where they can be, so that swapped axes cannot pass."""
    base: dict[str, Any] = dict(image_size=23, patch_size=7, embed_dim=22, depth=2, num_heads=2, mlp_ratio=1.5)
    return ModelConfig(**(base | knobs))


# name -> configuration, channels, classes
NETWORKS: dict[str, tuple[ModelConfig, int, int]] = {
    "layer-mean": (vit(), 1, 7),
    "cls-rgb": (vit(pool="cls", patch_overlap=3, crop=21, num_heads=3, head_dim=13, attn_bias=True), 3, 11),
    "fast-form": (
        vit(
            pool="flatten", patch_overlap=2, crop=15, patch_size=5, num_heads=1, attn_form="merged", attn_bias=True,
            norm="rms", act="relu2", linear_bias=False, embed_dim=13,
        ),
        1,
        5,
    ),
    "small-form": (vit(pool="flatten", patch_size=5, patch_overlap=2, attn_bias=True), 1, 10),
    "seed-form": (vit(pool="flatten", mlp_last_gelu=True, head_hidden=(23, 19), head_dim=17), 1, 3),
    "no-attention": (vit(attn_form="none", embed_dim=20, pos_embed="sincos", depth=3), 1, 2),
}  # fmt: skip

STEP = """async ([model, labels, smoothing, headOnly]) => {
    const { parseSafetensors } = await import("/net/safetensors.js");
    const { toInput } = await import("/net/preprocess.js");
    const { inOneArray, openLearner } = await import("/learn/network.js");
    const { crossEntropy } = await import("/learn/layers.js");
    const config = await (await fetch(`/models/${model}/config.json`)).json();
    const file = await (await fetch(`/models/${model}/model.safetensors`)).arrayBuffer();
    const { side, images } = await (await fetch(`/models/${model}/examples.json`)).json();
    const learner = openLearner(config, inOneArray(parseSafetensors(file)), labels.length + 2);
    const inputs = new Float32Array((labels.length + 2) * learner.inputLength);
    labels.forEach((_, i) => {
        const pixels = Uint8Array.from(atob(images[i]), (letter) => letter.charCodeAt(0));
        inputs.set(toInput({ width: side, height: side, pixels }, config), i * learner.inputLength);
    });
    const logits = learner.run(inputs, labels.length);
    const dlogits = new Float32Array(logits.length);
    const loss = crossEntropy(logits, labels, smoothing, dlogits, labels.length, config.classes.length);
    learner.back(dlogits, labels.length, headOnly);
    const gradients = [...learner.gradients.tensors].map(([name, { data }]) => [name, Array.from(data)]);
    return {
        loss: loss / labels.length,
        logits: Array.from(logits.subarray(0, labels.length * config.classes.length)),
        gradients: Object.fromEntries(gradients),
    };
}"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    """All of NETWORKS with random weights."""
    runs = tmp_path_factory.mktemp("runs")
    return {name: untrained(runs / name, *knobs) for name, knobs in NETWORKS.items()}


@pytest.fixture(scope="module")
def page(chromium: Browser, models: dict[str, Classifier], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One empty page for all tests of this file, with the page's modules and all models."""
    images = {name: random_images(13, 23, classifier.channels) for name, classifier in models.items()}
    bundles = {name: (models[name], images[name]) for name in models}
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", bundles)
    for file, data in lesson_files(None).items():
        (folder / file).write_bytes(data)
    with serve_folder(folder) as base, watched(chromium, base) as (page, complaints):
        page.goto(f"{base}/engine.html")
        yield page
        assert complaints == []


def near(values: object, expected: Tensor, what: str, within: float = WITHIN) -> None:
    """Equal to ``within`` of the largest expected number, which must not be zero."""
    got = torch.tensor(values, dtype=torch.float64).reshape(expected.shape)
    largest = expected.abs().max().item()
    assert largest > 1e-7, f"{what} is zero, which shows nothing"
    assert (got - expected).abs().max().item() <= within * largest, what


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_torch(name: str, page: Page, models: dict[str, Classifier]) -> None:
    """Of every parameter, against double precision: patches, positions, norms, attention, activations, pools, heads."""
    classifier = models[name]
    labels = torch.arange(IMAGES) % len(classifier.classes)
    got = page.evaluate(STEP, [name, labels.tolist(), SMOOTHING, False])
    model = copy.deepcopy(classifier.model).double()
    images = torch.from_numpy(random_images(13, 23, classifier.channels).images[:IMAGES])
    logits = model(classifier.preprocess(images).double())
    loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
    loss.backward()
    near(got["logits"], logits.detach(), "logits")
    assert got["loss"] == pytest.approx(loss.item(), rel=WITHIN)
    parameters = dict(model.named_parameters())
    assert set(got["gradients"]) == set(parameters)
    for key, parameter in parameters.items():
        assert parameter.grad is not None
        near(got["gradients"][key], parameter.grad, f"gradient of {key}")


def test_only_the_head_learns_if_asked(page: Page, models: dict[str, Classifier]) -> None:
    got, whole = (page.evaluate(STEP, ["seed-form", [0, 1, 2, 0, 1], SMOOTHING, only]) for only in (True, False))
    for key, values in got["gradients"].items():
        assert values == (whole["gradients"][key] if key.startswith("head.") else [0.0] * len(values))


ADAMW = """async ([tensors, gradients, rates]) => {
    const { inOneArray } = await import("/learn/network.js");
    const { createAdamW } = await import("/learn/adamw.js");
    const given = tensors.map(([name, shape, data]) => [name, { shape, data: Float32Array.from(data) }]);
    const parameters = inOneArray(new Map(given));
    const step = createAdamW(parameters, rates, (name) => name !== "frozen.weight");
    gradients.forEach((one, i) => step(Float32Array.from(one), rates.lr / (i + 1)));
    return [...parameters.tensors.values()].map(({ data }) => Array.from(data));
}"""


def test_adamw_is_torchs(page: Page) -> None:
    """Four steps; only matrices decay, and what is frozen stays."""
    torch.manual_seed(3)
    shapes = {"a.weight": (5, 3), "a.bias": (7,), "pos_embed": (2, 11), "frozen.weight": (3, 2)}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    gradients = [{name: torch.randn(shape) for name, shape in shapes.items()} for _ in range(4)]
    flat = [torch.cat([one.flatten() for one in step.values()]).tolist() for step in gradients]
    listed = [[name, list(shapes[name]), one.flatten().tolist()] for name, one in tensors.items()]
    got = page.evaluate(ADAMW, [listed, flat, RATES])
    leaves = {name: one.double().clone().requires_grad_() for name, one in tensors.items()}
    groups = [
        {"params": [leaves["a.weight"]], "weight_decay": RATES["decay"]},
        {"params": [leaves["a.bias"], leaves["pos_embed"]], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATES["lr"], betas=(RATES["beta1"], RATES["beta2"]), eps=RATES["eps"])
    for number, step in enumerate(gradients):
        for group in optimizer.param_groups:
            group["lr"] = RATES["lr"] / (number + 1)
        for name, leaf in leaves.items():
            leaf.grad = step[name].double()
        optimizer.step()
    for values, (name, leaf) in zip(got, leaves.items(), strict=True):
        near(values, leaf.detach(), name, 1e-6)


TRAIN = """async (seeds) => {
    const { startTraining } = await import("/training.js");
    const { loadFiles, read } = await import("/client.js");
    const trained = [];
    let tell = () => {};
    const training = startTraining((progress) => tell(progress), (sentence) => tell({ sentence }));
    await training.lesson();
    for (const [number, seed] of seeds.entries()) {
        const knobs = { patch: 10, width: 16, depth: 1, heads: 2, lr: 0.01, batch: 64, passes: 2, seed };
        training.send({ type: "begin", knobs, name: "test", own: null });
        const pixels = new Uint8Array(28 * 28);
        for (let y = 6; y < 22; y++) pixels.fill(240, 28 * y + 13, 28 * y + 16);
        const drawing = { width: 28, height: 28, channels: 1, pixels };
        training.send({ type: "drawing", drawing, center: true });
        training.send({ type: "run" });
        const end = await new Promise((resolve) => {
            tell = (progress) => {
                if (progress.sentence || (progress.step === progress.steps && progress.held)) resolve(progress);
            };
        });
        if (end.sentence) throw new Error(end.sentence);
        const { config, weights } = await training.files();
        await loadFiles(`own~${number}`, config, weights);
        const want = { drawing, center: true, hidden: [], disturb: {}, want: {} };
        const own = await read(`own~${number}`, want);
        trained.push({
            config, held: end.held, look: Array.from(end.look.probabilities), own: Array.from(own.probabilities),
            weights: btoa(Array.from(new Uint8Array(weights), (byte) => String.fromCharCode(byte)).join("")),
        });
    }
    return trained;
}"""


def test_a_network_trained_in_the_page_is_what_python_makes_of_its_files(page: Page) -> None:
    """On scikit-learn's digits: the same seed gives the same bytes, and torch the same accuracy on held-out images."""
    first, again, other = page.evaluate(TRAIN, [3, 3, 5])
    assert first["weights"] == again["weights"] != other["weights"]
    assert first["look"] == pytest.approx(first["own"], abs=1e-5)
    config = first["config"]
    knobs: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in config["model"].items()
    }
    model = build_model(ModelConfig(**knobs), 1, 10).eval()
    model.load_state_dict(load(base64.b64decode(first["weights"])))
    prepared = config["preprocess"]
    preprocess = Preprocess(prepared["image_size"], tuple(prepared["mean"]), tuple(prepared["std"]), prepared["crop"])
    held = digits_lesson().held
    with torch.inference_mode():
        logits = model(preprocess(torch.from_numpy(held.images)))
    labels = torch.from_numpy(held.labels)
    assert first["held"]["accuracy"] == pytest.approx(
        (logits.argmax(dim=1) == labels).double().mean().item(), abs=0.005
    )
    assert first["held"]["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-3)
    assert first["held"]["accuracy"] > 0.5
