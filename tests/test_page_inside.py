"""Inside the page's networks, in a real browser against torch: parts switched off, and one patch opened.

The reference is written out by hand from the weights, and is first compared with the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.browser import serve_folder, watched
from tests.page import page_folder, random_images, untrained
from vitlab import Split, ViT
from vitlab.config import ModelConfig
from vitlab.model import Mixer
from vitlab.model.patches import patchify
from vitlab.predict import Classifier

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WITHIN = 1e-4


def vit(**knobs: Any) -> ModelConfig:
    base: dict[str, Any] = dict(image_size=28, patch_size=7, embed_dim=22, depth=3, num_heads=2, mlp_ratio=1.5)
    return ModelConfig(**(base | knobs))


# name -> configuration, channels, classes, side of the images; the place that is opened: patch, block, head
NETWORKS: dict[str, tuple[ModelConfig, int, int, int, tuple[int, int, int]]] = {
    "learned": (vit(pool="cls", head_hidden=(23,), attn_bias=True), 1, 10, 28, (13, 2, 1)),
    "merged": (vit(attn_form="merged", num_heads=1, embed_dim=13, pool="flatten", norm="rms"), 1, 7, 28, (5, 1, 0)),
    "plain": (vit(attn_form="none", embed_dim=20, pos_embed="sincos", pool="flatten"), 1, 5, 28, (3, 0, 1)),
    "colour": (
        vit(image_size=31, pool="cls", patch_overlap=3, act="relu2", mlp_last_gelu=True, num_heads=3, head_dim=11),
        *(3, 11, 31, (7, 0, 2)),
    ),
    "placeless": (vit(pos_embed="none", pool="mean", linear_bias=False, norm="rms", depth=1), 1, 10, 28, (0, 0, 0)),
    "mixer": (
        ModelConfig(arch="mixer", image_size=29, patch_size=5, embed_dim=14, depth=2, token_mlp_ratio=0.8),
        *(1, 7, 29, (13, 1, 0)),
    ),
    "cnn": (ModelConfig(arch="cnn", image_size=28, cnn_channels=(3, 5)), 1, 10, 28, (0, 0, 0)),
}

READ = """async ([model, index, cutsList, place]) => {
    const { load, read } = await import("/client.js");
    const { examples, cuts } = await load(model);
    const { side, channels } = examples;
    const drawing = { width: side, height: side, channels, pixels: examples.images[index] };
    const ask = (cuts, want) => read(model, { drawing, center: false, hidden: [], cuts, disturb: {}, want });
    const plain = (value) => ArrayBuffer.isView(value) ? Array.from(value)
        : value && typeof value === "object" && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)])) : value;
    const open = place && { patch: place[0], block: place[1], head: place[2] };
    const readings = [];
    for (const cuts of cutsList) readings.push(await ask(cuts, { deletion: true, curve: "shift", open }));
    return {
        cuts, causes: (await ask([], { causes: true })).causes,
        beyond: (await ask([], { open: { patch: 999, block: 0, head: 0 } })).opened,
        readings: readings.map(({ logits, whole, attention, deletion, curve, distance, opened }) => plain({
            logits, whole, deletion, curve, distance, opened, attention: attention.map(({ weights }) => plain(weights)),
        })),
    };
}"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Classifier, Split]]:
    """All of NETWORKS with random weights, each with three images."""
    runs = tmp_path_factory.mktemp("runs")
    return {
        name: (untrained(runs / name, config, channels, classes), random_images(3, side, channels))
        for name, (config, channels, classes, side, _) in NETWORKS.items()
    }


@pytest.fixture(scope="module")
def page(
    chromium: Browser, models: dict[str, tuple[Classifier, Split]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """One empty page for all tests here, on a server with the page's modules and all models."""
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", models)
    with serve_folder(folder) as base, watched(chromium, base) as (page, complaints):
        page.goto(f"{base}/engine.html")
        yield page
        assert complaints == []


class ByHand:
    """The forward pass of a ViT or a Mixer, written out for one image; ``cuts`` as the page names them."""

    def __init__(self, model: ViT | Mixer, cuts: tuple[str, ...] = ()) -> None:
        self.config, self.cuts = model.config, cuts
        self.w = dict(model.named_parameters()) | dict(model.named_buffers())
        self.seen: dict[tuple[int, str], Tensor] = {}  # (block, what) -> one row a token

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def norm(self, x: Tensor, name: str) -> Tensor:
        if self.config.norm == "rms":
            return x / (x.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        return F.layer_norm(x, x.shape[1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], 1e-6)

    def see(self, block: int, **what: Tensor) -> None:
        self.seen |= {(block, name): value for name, value in what.items()}

    def logits(self, image_CHW: Tensor) -> Tensor:
        config, cls = self.config, self.config.pool == "cls"
        pixels = patchify(image_CHW[None], config.patch_size, config.patch_overlap, config.margin)[0]
        x = embedded = self.linear(pixels, "patch_embed")
        if cls:
            x = torch.cat([self.w["cls_token"][None], x])
        if "pos" not in self.cuts and has_positions(config):
            self.see(-1, position=self.w["pos_embed"][int(cls) :])
            x = x + self.w["pos_embed"]
        self.see(-1, pixels=pixels, embedded=embedded, start=x[int(cls) :])
        for block in range(config.depth):
            self.see(block, before=x)
            if f"b{block + 1}" not in self.cuts:
                mixed = self.mixing(x, block) if config.arch == "mixer" else self.attention(x, block)
                x = self.mlp(mixed, block)
        x = self.norm(x, "norm")
        x = x[0] if cls else x.mean(0) if config.pool == "mean" else x.flatten()
        names = sorted({name.rsplit(".", 1)[0] for name in self.w if name.startswith("head.")})
        for name in names:
            x = self.linear(x if name == names[0] else F.gelu(x), name)
        return x

    def attention(self, x: Tensor, block: int) -> Tensor:
        if self.config.attn_form == "none":
            return x
        name, normed, outs = f"blocks.{block}", self.norm(x, f"blocks.{block}.norm1"), []
        for head in range(self.config.num_heads):
            if self.config.attn_form == "merged":
                q, k, v = self.linear(normed, f"{name}.attn.q"), normed, normed
            else:
                q, k, v = (
                    part.chunk(self.config.num_heads, dim=1)[head]
                    for part in self.linear(normed, f"{name}.attn.qkv").chunk(3, dim=1)
                )
            scores = q @ k.T / q.shape[1] ** 0.5
            if self.config.attn_bias:
                scores = scores + self.w[f"{name}.attn.bias"][head]
            weights = scores.softmax(1)
            if f"m{block + 1}" in self.cuts:
                weights = torch.full_like(weights, 1 / len(weights))
            if f"h{block + 1}.{head + 1}" in self.cuts:
                weights = torch.zeros_like(weights)
            outs.append(weights @ v)
            found = dict(q=q, k=k, v=v, scores=scores, weights=weights, carried=outs[-1])
            self.see(block, **{f"{what}{head}": value for what, value in found.items()})
        added = self.linear(torch.cat(outs, 1), f"{name}.attn.proj")
        self.see(block, attention_normed=normed, attention_added=added, attention_after=x + added)
        return x + added

    def mixing(self, x: Tensor, block: int) -> Tensor:
        name, normed = f"blocks.{block}", self.norm(x, f"blocks.{block}.norm1")
        added = self.linear(F.gelu(self.linear(normed.T, f"{name}.tokens.fc1")), f"{name}.tokens.fc2").T
        added = added * (f"t{block + 1}" not in self.cuts)
        self.see(block, mixing_normed=normed, mixing_added=added, mixing_after=x + added)
        return x + added

    def mlp(self, x: Tensor, block: int) -> Tensor:
        normed = self.norm(x, f"blocks.{block}.norm2")
        hidden = self.linear(normed, f"blocks.{block}.mlp.fc1")
        hidden = F.relu(hidden) ** 2 if self.config.act == "relu2" else F.gelu(hidden)
        added = self.linear(hidden, f"blocks.{block}.mlp.fc2")
        added = F.gelu(added) if self.config.mlp_last_gelu else added
        self.see(block, mlp_normed=normed, mlp_hidden=hidden, mlp_added=added, mlp_after=x + added)
        return x + added


def close(values: object, expected: Tensor) -> None:
    """Equal to 1e-4, in the shape of ``expected``."""
    got = torch.tensor(values, dtype=torch.float32)
    torch.testing.assert_close(got.reshape(expected.shape), expected.float(), rtol=0.0, atol=WITHIN)


def has_positions(config: ModelConfig) -> bool:
    return config.arch == "vit" and config.pos_embed != "none"


def all_cuts(config: ModelConfig) -> list[str]:
    """Everything that the page should be able to switch off."""
    found = []
    for block in range(1, config.depth + 1):
        found.append(f"b{block}")
        if config.arch == "mixer":
            found.append(f"t{block}")
        elif config.attn_form != "none":
            found += [f"m{block}", *(f"h{block}.{head + 1}" for head in range(config.num_heads))]
    return found + ["pos"] * has_positions(config)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "cnn"])
@torch.inference_mode()
def test_parts_that_are_switched_off_and_a_patch_that_is_opened(
    name: str, page: Page, models: dict[str, tuple[Classifier, Split]]
) -> None:
    classifier, images = models[name]
    config, place = NETWORKS[name][0], NETWORKS[name][4]
    model = classifier.model
    assert isinstance(model, (ViT, Mixer))
    image = classifier.preprocess(torch.from_numpy(images.images[1:2]))[0]
    torch.testing.assert_close(ByHand(model).logits(image), model(image[None])[0], rtol=0.0, atol=1e-5)

    parts = all_cuts(config)
    several = (*parts[1::3], "h99.1", "b99", "nonsense")  # the last three mean nothing here
    lists = [(), *((part,) for part in parts), several]
    result = page.evaluate(READ, [name, 1, [list(cuts) for cuts in lists], place])
    assert result["cuts"] == parts
    assert result["beyond"] is None
    probabilities = []
    for cuts, reading in zip(lists, result["readings"], strict=True):
        by_hand = ByHand(model, cuts)
        logits = by_hand.logits(image)
        probabilities.append(logits.softmax(0))
        close(reading["logits"], logits)
        close(reading["whole"], ByHand(model).logits(image).softmax(0))
        check_opened(reading["opened"], by_hand, place)
        check_maps(reading["attention"], by_hand)
    check_longer_questions(result, probabilities, parts)
    differences = [float((p - probabilities[0]).abs().max()) for p in probabilities[1:]]
    assert min(differences) > 10 * WITHIN, "each part must matter, or the comparison shows nothing"


def check_opened(opened: dict[str, Any], by_hand: ByHand, place: tuple[int, int, int]) -> None:
    """Every number that is shown of one patch, in one block and head."""
    patch, block, head = place
    token = patch + (by_hand.config.pool == "cls")
    skipped = f"b{block + 1}" in by_hand.cuts
    for what in ("pixels", "embedded", "start"):
        close(opened[what], by_hand.seen[-1, what][patch])
    if (-1, "position") in by_hand.seen:
        close(opened["position"], by_hand.seen[-1, "position"][patch])
    else:
        assert opened["position"] is None
    close(opened["before"], by_hand.seen[block, "before"][token])
    assert (opened["mlp"] is None) == skipped
    if skipped:
        assert opened["attention"] is opened["mixing"] is None
        return
    for what in ("normed", "hidden", "added", "after"):
        close(opened["mlp"][what], by_hand.seen[block, f"mlp_{what}"][token])
    if by_hand.config.arch == "mixer":
        assert opened["attention"] is None
        for what in ("normed", "added", "after"):
            close(opened["mixing"][what], by_hand.seen[block, f"mixing_{what}"][token])
        return
    assert opened["mixing"] is None
    if by_hand.config.attn_form == "none":
        assert opened["attention"] is None
        return
    for what in ("normed", "added", "after"):
        close(opened["attention"][what], by_hand.seen[block, f"attention_{what}"][token])
    for what in ("q", "k", "v", "scores", "weights", "carried"):
        close(opened["attention"][what], by_hand.seen[block, f"{what}{head}"][token])
    for what in ("keys", "values"):
        close(opened["attention"][what], by_hand.seen[block, f"{what[0]}{head}"])
    if by_hand.config.attn_bias:
        close(opened["attention"]["bias"], by_hand.w[f"blocks.{block}.attn.bias"][head][token])
    else:
        assert opened["attention"]["bias"] is None


def check_maps(attention: list[list[float]], by_hand: ByHand) -> None:
    """The weights as used; zero where something is switched off."""
    for block, weights in enumerate(attention):
        if f"b{block + 1}" in by_hand.cuts:
            assert not any(weights)
        else:
            heads = range(by_hand.config.num_heads)
            close(weights, torch.stack([by_hand.seen[block, f"weights{head}"] for head in heads]))


def check_longer_questions(result: dict[str, Any], probabilities: list[Tensor], parts: list[str]) -> None:
    """The summary is of the whole network; deletion map and curves are of what is left."""
    label = int(probabilities[0].argmax())
    causes = result["causes"]
    assert causes["label"] == label
    close(causes["probability"], probabilities[0][label])
    assert [effect["cut"] for effect in causes["effects"]] == parts
    for effect, after in zip(causes["effects"], probabilities[1:], strict=False):
        close(effect["probability"], after[label])
        assert effect["answer"] == int(after.argmax())
    for reading, left in zip(result["readings"], probabilities, strict=True):
        curve = reading["curve"]
        assert curve["label"] == int(left.argmax())
        close(curve["probabilities"][curve["strengths"].index(0)], left.max())


@torch.inference_mode()
def test_a_cut_network_is_read_with_black_patches(page: Page, models: dict[str, tuple[Classifier, Split]]) -> None:
    """The deletion map of what is left: the first patch by hand."""
    classifier, images = models["learned"]
    model = classifier.model
    assert isinstance(model, ViT)
    image = classifier.preprocess(torch.from_numpy(images.images[1:2]))[0]
    cuts = ("m2", "h1.1")
    before = ByHand(model, cuts).logits(image).softmax(0)
    image[:, :7, :7] = -0.13 / 0.31
    after = ByHand(model, cuts).logits(image).softmax(0)
    reading = page.evaluate(READ, ["learned", 1, [list(cuts)], None])["readings"][0]
    close(reading["deletion"][0], before.max() - after[before.argmax()])


def test_a_cnn_has_nothing_of_this(page: Page, models: dict[str, tuple[Classifier, Split]]) -> None:
    classifier, images = models["cnn"]
    result = page.evaluate(READ, ["cnn", 1, [["h1.1", "b2", "pos"]], [0, 0, 0]])
    close(result["readings"][0]["logits"], classifier.logits(torch.from_numpy(images.images[1:2]))[0])
    assert result["cuts"] == []
    assert result["causes"]["effects"] == []
    assert result["readings"][0]["opened"] is None


SUMS = """async ([model, index, [patch, block, head], first]) => {
    const { load, read } = await import("/client.js");
    const { matchOf, partOf, ends, shareOf } = await import("/panels/sums.js");
    const { side, channels, images } = (await load(model)).examples;
    const drawing = { width: side, height: side, channels, pixels: images[index] };
    const ask = (cuts) =>
        read(model, { drawing, center: false, hidden: [], cuts, disturb: {}, want: { open: { patch, block, head } } });
    const { opened: { attention }, logits } = await ask([]);
    const list = (value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
    const plain = (one) => Object.fromEntries(Object.entries(one).map(([name, value]) => [name, list(value)]));
    const even = await ask([`m${block + 1}`]);
    return {
        ends: ends(attention, first), even: matchOf(even.opened.attention, 0),
        matches: Array.from(attention.weights, (_, token) => plain(matchOf(attention, token))),
        parts: Array.from(attention.weights, (_, token) => list(partOf(attention, token))),
        shares: Array.from(logits, (_, i) => shareOf(logits, i).share),
    };
}"""


@pytest.mark.parametrize("name", ["learned", "merged", "colour"])
@torch.inference_mode()
def test_the_sums_that_the_story_shows(name: str, page: Page, models: dict[str, tuple[Classifier, Split]]) -> None:
    """One query with every key, what is taken of every value, and how scores become shares."""
    classifier, images = models[name]
    model, (patch, block, head) = classifier.model, NETWORKS[name][4]
    assert isinstance(model, ViT)
    by_hand = ByHand(model)
    logits = by_hand.logits(classifier.preprocess(torch.from_numpy(images.images[1:2]))[0])
    first = int(model.config.pool == "cls")
    token = patch + first
    got = page.evaluate(SUMS, [name, 1, [patch, block, head], first])
    q, k, v, scores, weights = (by_hand.seen[block, f"{what}{head}"] for what in ("q", "k", "v", "scores", "weights"))
    assert [one["token"] for one in got["matches"]] == list(range(len(k)))
    close([one["key"] for one in got["matches"]], k)
    close([one["products"] for one in got["matches"]], q[token] * k)
    close([one["sum"] for one in got["matches"]], k @ q[token])
    close([one["score"] for one in got["matches"]], scores[token])
    close([one["power"] for one in got["matches"]], scores[token].exp())
    close([one["total"] for one in got["matches"]], scores[token].exp().sum().expand(len(k)))
    close([one["share"] for one in got["matches"]], weights[token])
    biases = [one["bias"] for one in got["matches"]]
    if model.config.attn_bias:
        close(biases, model.get_parameter(f"blocks.{block}.attn.bias")[head][token])
    else:
        assert set(biases) == {None}
    close(got["parts"], weights[token][:, None] * v)
    among = weights[token][first:]
    assert got["ends"] == [first + int(among.argmax()), first + int(among.argmin())]
    close(got["shares"], logits.softmax(0))
    assert got["even"] is None, "where shares do not come from scores, no sum is shown"
