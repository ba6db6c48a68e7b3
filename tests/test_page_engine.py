"""The page's networks in a real browser against torch: every knob, and everything that a reading shows.

Weights are random, and MNIST is not needed; for trained networks on MNIST: benchmarks/page_speed.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.browser import serve_folder, watched
from tests.page import page_folder, random_images, untrained, with_bounds
from vitlab import Split, ViT, preset_config
from vitlab.config import ModelConfig
from vitlab.look.attention import black, patch_deletion
from vitlab.look.inside import logit_lens
from vitlab.look.robustness import mapped
from vitlab.model import Mixer, Squares
from vitlab.predict import Classifier

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WITHIN = 1e-4
IMAGES = 100
CLOSELY = 3  # images for which everything is compared, not just the logits


def vit(**knobs: Any) -> ModelConfig:
    """Sizes are distinct primes where they can be, so that swapped axes cannot pass."""
    base: dict[str, Any] = dict(image_size=28, patch_size=7, embed_dim=22, depth=2, num_heads=2, mlp_ratio=1.5)
    return ModelConfig(**(base | knobs))


def mixer(**knobs: Any) -> ModelConfig:
    base: dict[str, Any] = dict(arch="mixer", image_size=28, patch_size=5, embed_dim=14, depth=3, token_mlp_ratio=0.8)
    return ModelConfig(**(base | knobs))


# name -> configuration, channels, classes, side of the stored images
NETWORKS: dict[str, tuple[ModelConfig, int, int, int]] = {
    "small": (preset_config("small").model, 1, 10, 28),
    "fast": (preset_config("fast").model, 1, 10, 28),
    "seed": (preset_config("seed-28x7").model, 1, 10, 28),
    "keras-cnn": (preset_config("keras-cnn").model, 1, 10, 28),
    "head-dim": (vit(num_heads=3, head_dim=11, attn_bias=True, mlp_last_gelu=True, head_hidden=(23, 19)), 1, 7, 28),
    "no-attention": (vit(attn_form="none", embed_dim=20, pos_embed="sincos", pool="flatten", norm="rms"), 1, 5, 28),
    "cls-rgb-cut": (vit(image_size=31, pool="cls", patch_overlap=3, act="relu2"), 3, 11, 31),
    "cls-waves": (vit(pool="cls", pos_embed="sincos", embed_dim=12, linear_bias=False, depth=3), 1, 10, 28),
    "beyond-margin": (vit(crop=26, patch_size=5, patch_overlap=3, pos_embed="none"), 1, 10, 28),
    "resized": (vit(image_size=33, crop=20, patch_size=5, patch_overlap=2), 3, 10, 23),
    "merged-layer": (vit(attn_form="merged", num_heads=1, embed_dim=13, pool="mean"), 1, 10, 28),
    "mixer-rgb-crop": (
        mixer(image_size=31, crop=29, patch_overlap=1, pool="flatten", mlp_last_gelu=True, head_hidden=(17,)),
        *(3, 7, 31),
    ),
    "mixer-rms": (mixer(patch_size=4, embed_dim=13, depth=2, norm="rms", act="relu2"), 1, 10, 28),
    "cnn-rgb-crop": (ModelConfig(arch="cnn", image_size=29, crop=27, cnn_channels=(5, 7)), 3, 10, 29),
    "cnn-deep": (ModelConfig(arch="cnn", image_size=37, cnn_channels=(3, 11, 5)), 1, 3, 41),
}

READ_ALL = """async ([model, closely]) => {
    const { load, read } = await import("/client.js");
    const { examples, selftest, squares } = await load(model);
    const { side, channels } = examples;
    const readings = [];
    for (const [i, pixels] of examples.images.entries()) {
        const drawing = { width: side, height: side, channels, pixels };
        const want = { deletion: i < closely, inside: i < closely };
        readings.push(await read(model, { drawing, center: false, hidden: [], disturb: {}, want }));
    }
    const lists = ({ attention, lens, deletion, image, probabilities }) => ({
        attention: attention.map(({ heads, tokens, weights }) => ({ heads, tokens, weights: Array.from(weights) })),
        lens: lens.map((row) => Array.from(row)),
        deletion: Array.from(deletion), image: Array.from(image), probabilities: Array.from(probabilities),
    });
    return {
        logits: readings.map((reading) => Array.from(reading.logits)),
        distances: readings.map((reading) => reading.distance), unlike: readings.map((reading) => reading.unlike),
        closely: readings.slice(0, closely).map(lists), selftest, squares,
    };
}"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Classifier, Split]]:
    """All of NETWORKS with random weights, each with a hundred images."""
    runs = tmp_path_factory.mktemp("runs")
    networks = {
        name: (untrained(runs / name, config, channels, classes), random_images(IMAGES, side, channels))
        for name, (config, channels, classes, side) in NETWORKS.items()
    }
    seen = {name: random_images(41, side, channels, seed=2) for name, (_, channels, _, side) in NETWORKS.items()}
    networks = {
        # "cls-waves": as a run of an earlier version, which does not say what it was trained on.
        name: (one if name == "cls-waves" else with_bounds(one, seen[name]), images)
        for name, (one, images) in networks.items()
    }
    drawn = untrained(runs / "drawn", vit(), drawing="mnist-drawing")
    return networks | {"drawn": (drawn, random_images(IMAGES, 28))}


@pytest.fixture(scope="module")
def base(
    chromium: Browser, models: dict[str, tuple[Classifier, Split]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server with the page's modules and all models."""
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", models)
    with serve_folder(folder) as address:
        yield address


@pytest.fixture
def page(chromium: Browser, base: str) -> Iterator[Page]:
    """An empty page of that server; at the end it must have reported no problem."""
    with watched(chromium, base) as (page, complaints):
        page.goto(f"{base}/engine.html")
        yield page
        assert complaints == []


def assert_close(values: object, expected: Tensor) -> None:
    """Equal to 1e-4, in the shape of ``expected``."""
    got = torch.tensor(values, dtype=torch.float32)
    torch.testing.assert_close(got.reshape(expected.shape), expected.float(), rtol=0.0, atol=WITHIN)


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_that_a_reading_shows_is_what_torch_computes(
    name: str, page: Page, models: dict[str, tuple[Classifier, Split]]
) -> None:
    classifier, examples = models[name]
    images = torch.from_numpy(examples.images)
    result = page.evaluate(READ_ALL, [name, CLOSELY])

    logits = classifier.logits(images)
    assert logits.std(dim=0).min() > 10 * WITHIN, "the answers must depend on the image"
    assert_close(result["logits"], logits)
    assert result["selftest"]["agree"] is True
    assert result["selftest"]["images"] == 10
    assert result["selftest"]["maxDifference"] <= WITHIN
    check_distances(classifier, images, result)

    inputs = classifier.preprocess(images[:CLOSELY])
    squares = Squares(result["squares"]["grid"], result["squares"]["side"], result["squares"]["margin"])
    assert result["squares"]["size"] == inputs.shape[-1]
    with torch.inference_mode():
        falls = patch_deletion(
            classifier.model, inputs, logits[:CLOSELY].argmax(dim=1), black(classifier.preprocess), squares=squares
        )
        assert_close([reading["deletion"] for reading in result["closely"]], falls)
        pixels = replace(classifier.preprocess, mean=(0.0,), std=(1.0,))(images[:CLOSELY])
        assert_close([reading["image"] for reading in result["closely"]], pixels.permute(0, 2, 3, 1))
        assert_close([reading["probabilities"] for reading in result["closely"]], logits[:CLOSELY].softmax(dim=1))
        check_inside(classifier, inputs, result["closely"])


def check_distances(classifier: Classifier, images: Tensor, result: dict[str, Any]) -> None:
    """Distances from the training images, and verdicts where they do not hang on the last digits."""
    bounds = classifier.bounds
    if bounds is None:
        assert result["distances"] == result["unlike"] == [None] * len(images)
        return
    distances = classifier.novelty(images)
    assert distances.std() > 0.01 * bounds.threshold, "the distances must depend on the image"
    torch.testing.assert_close(
        torch.tensor(result["distances"], dtype=torch.float64), distances, rtol=1e-3, atol=1e-3 * bounds.threshold
    )
    assert result["selftest"]["maxDistance"] <= 1e-3
    clear = ((distances / bounds.threshold - 1).abs() > 2e-3).tolist()
    verdicts = zip(result["unlike"], bounds.is_unlike(distances), clear, strict=True)
    assert all(page == python for page, python, is_clear in verdicts if is_clear)
    assert sum(clear) > len(images) / 2


def check_inside(classifier: Classifier, inputs: Tensor, readings: list[dict[str, Any]]) -> None:
    """Attention and logit lens of a ViT; a CNN has neither, a Mixer no attention."""
    if isinstance(classifier.model, Mixer):
        assert all(reading["attention"] == [] for reading in readings)
        assert_close([reading["lens"] for reading in readings], mixer_lens(classifier.model, inputs))
        return
    if not isinstance(classifier.model, ViT):
        assert all(reading["attention"] == [] and reading["lens"] == [] for reading in readings)
        return
    lens = logit_lens(classifier.model, inputs)
    assert_close([reading["lens"] for reading in readings], lens.transpose(0, 1))
    _, weights = classifier.model.forward_with_attention(inputs)
    if classifier.model.config.attn_form == "none":
        assert all(reading["attention"] == [] for reading in readings)
        return
    depth, count, heads, tokens, _ = weights.shape
    for reading in readings:
        assert [(layer["heads"], layer["tokens"]) for layer in reading["attention"]] == [(heads, tokens)] * depth
    got = [[layer["weights"] for layer in reading["attention"]] for reading in readings]
    assert_close(got, weights.transpose(0, 1).reshape(count, depth, heads, tokens, tokens))


def mixer_lens(model: Mixer, inputs: Tensor) -> Tensor:
    """[B, depth + 1, K]: the head's probabilities after the embedding and after each block."""
    x, rows = model.tokens(inputs), []
    for block in (*model.blocks, None):
        rows.append(model.head(model.pool(model.norm(x))).softmax(dim=1))
        x = x if block is None else block(x)
    return torch.stack(rows, dim=1)


DISTURBED = """async ([model, index, job]) => {
    const { load, read } = await import("/client.js");
    const { examples } = await load(model);
    const { side, channels } = examples;
    const drawing = { width: side, height: side, channels, pixels: examples.images[index] };
    const reading = await read(model, { drawing, center: false, ...job });
    const { label, strengths, probabilities } = reading.curve;
    return { logits: Array.from(reading.logits), label, strengths, probabilities: Array.from(probabilities) };
}"""


@pytest.mark.parametrize("name", ["fast", "resized", "cnn-rgb-crop"])
def test_a_disturbed_reading_and_its_curve(name: str, page: Page, models: dict[str, tuple[Classifier, Split]]) -> None:
    """Rotated and shifted before the crop, then with a patch hidden; the curve varies the rotation only."""
    classifier, examples = models[name]
    image = torch.from_numpy(examples.images[5:6])
    result = page.evaluate(
        DISTURBED,
        [name, 5, dict(hidden=[2], disturb=dict(rotate=13, shift=1.7), want=dict(deletion=False, curve="rotate"))],
    )
    squares = page.evaluate("async (m) => (await (await import('/client.js')).load(m)).squares", name)

    def logits(degrees: float) -> Tensor:
        inputs = classifier.preprocess(image, lambda images: mapped(images, degrees, 1.7))
        first, side = squares["margin"], squares["side"]  # patch 2: the first row, the third column
        left = first + 2 * side
        inputs[:, :, first : first + side, left : left + side] = black(classifier.preprocess).view(1, -1, 1, 1)
        with torch.inference_mode():
            answer: Tensor = classifier.model(inputs)[0].float()
        return answer

    assert_close(result["logits"], logits(13))
    label = int(logits(0).argmax())
    assert result["label"] == label
    assert 0 in result["strengths"]
    assert len(result["strengths"]) == 13
    expected = torch.stack([logits(degrees).softmax(dim=0)[label] for degrees in result["strengths"]])
    assert_close(result["probabilities"], expected)


NEWEST = """async (model) => {
    const { load, read } = await import("/client.js");
    const { examples } = await load(model);
    const readOne = (pixels) => {
        const drawing = { width: 28, height: 28, channels: 1, pixels };
        const want = { deletion: true, curve: "shift" };
        return read(model, { drawing, center: false, hidden: [], disturb: {}, want });
    };
    const readings = await Promise.all(examples.images.slice(0, 20).map(readOne));
    return readings.map((reading) => reading && {
        logits: Array.from(reading.logits), deletion: reading.deletion !== null, curve: reading.curve !== null,
    });
}"""


def test_the_newest_drawing_wins(page: Page, models: dict[str, tuple[Classifier, Split]]) -> None:
    classifier, examples = models["small"]
    readings = page.evaluate(NEWEST, "small")
    assert [i for i, reading in enumerate(readings) if reading] == [0, 19], "the jobs in between are replaced"
    assert (readings[0]["deletion"], readings[0]["curve"]) == (False, False), "the first one was cut short"
    assert (readings[19]["deletion"], readings[19]["curve"]) == (True, True)
    logits = classifier.logits(torch.from_numpy(examples.images[[0, 19]]))
    assert_close([readings[0]["logits"], readings[19]["logits"]], logits)


def test_two_models_read_at_the_same_time(page: Page, models: dict[str, tuple[Classifier, Split]]) -> None:
    result = page.evaluate(f"async () => Promise.all([({READ_ALL})(['small', 2]), ({READ_ALL})(['merged-layer', 2])])")
    for name, answer in zip(("small", "merged-layer"), result, strict=True):
        classifier, examples = models[name]
        assert_close(answer["logits"], classifier.logits(torch.from_numpy(examples.images)))


@pytest.mark.parametrize(("name", "channels"), [("small", 3), ("cls-rgb-cut", 1)])
def test_a_drawing_in_other_colours_than_the_network_reads(
    name: str, channels: int, page: Page, models: dict[str, tuple[Classifier, Split]]
) -> None:
    classifier, _ = models[name]
    side = min(classifier.preprocess.image_size, *classifier.stored_size)  # larger ones are averaged down first
    picture = random_images(1, side, channels, seed=3).images[0]
    logits = page.evaluate(
        """async ([model, side, channels, pixels]) => {
            const { load, read } = await import("/client.js");
            await load(model);
            const drawing = { width: side, height: side, channels, pixels: Uint8Array.from(pixels) };
            const job = { drawing, center: false, hidden: [], disturb: {}, want: {} };
            return Array.from((await read(model, job)).logits);
        }""",
        [name, side, channels, picture.flatten().tolist()],
    )
    assert_close(logits, classifier.logits(classifier.prepare(np.ascontiguousarray(picture)))[0])


@pytest.mark.parametrize("center", [True, False])
def test_a_drawing_of_any_size_is_normalised_first(
    center: bool, page: Page, models: dict[str, tuple[Classifier, Split]]
) -> None:
    """Within one grey level of the classifier's result; exact from there on."""
    classifier, _ = models["drawn"]
    drawing = np.zeros((131, 97), np.uint8)
    drawing[13:89, 41:52] = 211
    drawing[71:83, 19:41] = 97
    result = page.evaluate(
        """async ([height, width, pixels, center]) => {
            const { load, read } = await import("/client.js");
            await load("drawn");
            const drawing = { width, height, channels: 1, pixels: Uint8Array.from(pixels) };
            const { steps, logits } = await read("drawn", { drawing, center, hidden: [], disturb: {}, want: {} });
            return { placed: Array.from(steps.placed), side: steps.side, logits: Array.from(logits) };
        }""",
        [*drawing.shape, drawing.flatten().tolist(), center],
    )
    placed = torch.tensor(result["placed"], dtype=torch.uint8).view(1, 28, 28, 1)
    assert result["side"] == 28
    assert (placed.int() - classifier.prepare(drawing, center).int()).abs().max() <= 1
    assert_close(result["logits"], classifier.logits(placed)[0])
