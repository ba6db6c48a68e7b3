"""The distance from the training images: its definition, its threshold, its file, and who reports it."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from tests.command import vitlab
from tests.image_zoo import saved
from tests.serving import running
from tests.test_resume import interrupted_at
from tests.tiny import glyphs, on_cpu, tiny_config, tiny_model_config, write_npz
from vitlab import Classifier, RunFolder, resume_run, train_run
from vitlab.config import ModelConfig
from vitlab.errors import RunError
from vitlab.files import sha256
from vitlab.model import CNN, Mixer, ViT, build_model
from vitlab.native.prediction import Packed
from vitlab.runs import session
from vitlab.training import novelty
from vitlab.training.novelty import (
    STATISTICS,
    Novelty,
    calibrated,
    fit,
    fit_novelty,
    from_parts,
    shrunk_covariance,
    to_facts,
    traits,
)
from vitlab.training.preprocess import Preprocess

PLAIN = Preprocess(8, (0.0,), (1.0,))


def rows(count: int, width: int, seed: int = 3) -> Tensor:
    """Correlated traits of very different sizes, float64 [count, width]."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(count, width)) @ draw.normal(size=(width, width)) * 10.0 ** draw.integers(-1, 3, width)
    return torch.from_numpy(mixed + draw.normal(size=width))


def bounds(traits_ND: Tensor, labels_N: Tensor, threshold: float = 1.0) -> Novelty:
    two = fit(traits_ND[:, :-STATISTICS], labels_N), fit(traits_ND[:, -STATISTICS:], labels_N)
    return Novelty(*two, torch.ones(2), threshold, "validation", 11)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of three kinds of bars, 8 x 8, that has learnt them."""
    folder = tmp_path_factory.mktemp("runs")
    knobs = dict(epochs=9, drop_path=0.0, dropout=0.0, attn_dropout=0.0, checkpoint_seconds=1e6)
    train_run(tiny_config(write_npz(folder / "glyphs.npz", train=307), **knobs), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return Classifier.load(run)


# --- the distance


@pytest.mark.parametrize(("count", "width"), [(211, 5), (13, 7), (5, 17)])
def test_the_shrunk_covariance_is_scikit_learns(count: int, width: int) -> None:
    centred = rows(count, width) / rows(count, width).std(dim=0)
    covariance, share = ledoit_wolf(centred.numpy(), assume_centered=True)
    assert share > novelty.LEAST_SHRINKAGE
    np.testing.assert_allclose(shrunk_covariance(centred).numpy(), covariance, rtol=1e-10)


def test_the_distance_is_scipys_mahalanobis_to_the_nearest_class_mean() -> None:
    traits_ND, labels = rows(137, 7), torch.arange(137) % 3
    traits_ND[labels == 1] += 50
    means = torch.stack([traits_ND[labels == label].mean(dim=0) for label in range(3)])
    rests = traits_ND - means[labels]
    spread = rests.square().mean(dim=0).sqrt()
    covariance, _ = ledoit_wolf((rests / spread).numpy(), assume_centered=True)
    inverse = np.linalg.inv(covariance * np.outer(spread, spread))
    others = rows(11, 7, seed=5)
    expected = cdist(others.numpy(), means.numpy(), "mahalanobis", VI=inverse).min(axis=1)
    np.testing.assert_allclose(fit(traits_ND, labels)(others).numpy(), expected, rtol=1e-5)


def test_a_class_without_images_counts_for_nothing() -> None:
    traits_ND, labels = rows(53, 5), torch.arange(53) % 2 * 4
    assert len(fit(traits_ND, labels).centres) == 2


def test_traits_are_the_mean_over_places_the_logits_and_the_cells() -> None:
    images = torch.rand(5, 1, 15, 15)
    for pool in ("flatten", "mean", "cls"):
        vit = build_model(tiny_model_config(pool=pool), 1, 7).eval()
        assert isinstance(vit, ViT)
        tokens = vit.norm(vit.through_blocks(vit.tokens(images)))
        check_traits(vit, images, tokens[:, 0] if pool == "cls" else tokens.mean(dim=1))
    mixer = build_model(tiny_model_config(arch="mixer", pool="flatten", head_dim=None), 1, 7).eval()
    assert isinstance(mixer, Mixer)
    x = mixer.tokens(images)
    for block in mixer.blocks:
        x = block(x)
    check_traits(mixer, images, mixer.norm(x).mean(dim=1))
    cnn = build_model(ModelConfig(arch="cnn", image_size=15, cnn_channels=(3, 5)), 1, 7).eval()
    assert isinstance(cnn, CNN)
    maps = images
    for conv in cnn.convs:
        maps = F.max_pool2d(F.relu(conv(maps)), 2)
    check_traits(cnn, images, maps.mean(dim=(2, 3)))


def check_traits(model: ViT | CNN | Mixer, images: Tensor, means: Tensor) -> None:
    with torch.no_grad():
        features = model.features(images)
        found = traits(model, replace(PLAIN, image_size=15), images, features, model.head(features))
        expected = torch.cat([means, model(images)], dim=1)
        torch.testing.assert_close(found[:, : expected.shape[1]].float(), expected, rtol=1e-4, atol=1e-5)
    assert novelty.trait_count(model, 1) == found.shape[1] == expected.shape[1] + 32 + 6


def test_cells_are_mean_and_deviation_by_channel_row_and_column() -> None:
    images = torch.rand(3, 2, 13, 13)
    found = novelty.cells(images).view(3, 2, 4, 4, 2).numpy()
    edges = (0, 3, 6, 9, 13)
    for row, column in ((0, 0), (0, 3), (2, 1), (3, 3)):
        cell = images[:, :, edges[row] : edges[row + 1], edges[column] : edges[column + 1]].numpy()
        np.testing.assert_allclose(found[:, :, row, column, 0], cell.mean(axis=(2, 3)), rtol=1e-5)
        np.testing.assert_allclose(found[:, :, row, column, 1], cell.std(axis=(2, 3)), rtol=1e-5)
    small = torch.rand(2, 1, 3, 3)
    assert novelty.cells(small).view(2, 4, 4, 2)[:, 3, 1, 0].tolist() == small[:, 0, 2, 0].tolist()


def reference(x: Any) -> list[float]:
    """The statistics of one grey image [S, S] in 0 to 1, pixel by pixel."""
    side, pixels = len(x), [float(value) for value in x.ravel()]
    edges = sum(abs(x[i + 1, j] - x[i, j]) + abs(x[j, i + 1] - x[j, i]) for i in range(side - 1) for j in range(side))
    light, middle = sum(value > 0.9 for value in pixels), sum(0.1 < value < 0.9 for value in pixels)
    shares = [sum(pixels), light, middle, edges]
    root = math.sqrt(sum(value**2 for value in pixels) / len(pixels))
    return [*(share / len(pixels) for share in shares), edges / (sum(pixels) + 1), root]


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_the_pixels_before_normalisation(channels: int) -> None:
    stored = np.random.default_rng(5).choice([0, 3, 25, 26, 127, 229, 230, 255], (7, 13, 13, 1)).astype(np.uint8)
    images = torch.from_numpy(stored.repeat(channels, axis=3))
    preprocess = Preprocess(13, (0.13, 0.19, 0.23)[:channels], (0.31, 0.29, 0.37)[:channels])
    found = novelty.statistics(preprocess.denormalize(preprocess(images)))
    expected = [reference(image[..., 0] / 255) for image in stored]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    model = build_model(tiny_model_config(image_size=13), channels, 7).eval()
    ends = novelty.traits_of(model, images, preprocess, 5)[:, -STATISTICS:]
    np.testing.assert_allclose(ends.numpy(), expected, rtol=1e-5)


def test_statistics_average_the_channels() -> None:
    colours = torch.rand(5, 3, 11, 11)
    expected = [reference(image.mean(dim=0).double().numpy()) for image in colours]
    np.testing.assert_allclose(novelty.statistics(colours).numpy(), expected, rtol=1e-5)


def test_statistics_of_constant_and_tiny_images_are_finite() -> None:
    for value in (0.0, 0.5, 1.0):
        for side in (1, 2, 7):
            assert bool(torch.isfinite(novelty.statistics(torch.full((3, 1, side, side), value))).all())
    assert novelty.statistics(torch.ones(1, 1, 7, 7))[0].tolist() == [1, 1, 0, 0, 0, 1]


# --- its threshold


def test_the_larger_distance_counts_each_in_units_of_its_99th_percentile() -> None:
    fitted, labels, held = rows(137, 7 + STATISTICS), torch.arange(137) % 3, rows(211, 7 + STATISTICS, seed=5)
    found = calibrated(fitted, labels, held, "validation")
    one = fit(fitted[:, :7], labels)(held[:, :7]).numpy()
    two = fit(fitted[:, 7:], labels)(held[:, 7:]).numpy()
    # 211 images: at most 2 may be beyond, so the third largest is the quantile.
    one_scale, two_scale = np.sort(one)[-3], np.sort(two)[-3]
    assert found.scales.tolist() == pytest.approx([one_scale, two_scale], rel=1e-6)
    score = np.maximum(one / one_scale, two / two_scale)
    np.testing.assert_allclose(found.distance(held).numpy(), score, rtol=1e-6)
    assert found.threshold == pytest.approx(np.sort(score)[-3], rel=1e-6)
    assert sum(found.is_unlike(found.distance(held))) == 2


def test_images_that_never_vary_have_a_scale() -> None:
    same = torch.ones(13, 7 + STATISTICS, dtype=torch.float64)
    found = calibrated(same, torch.zeros(13, dtype=torch.int64), same, "training")
    assert found.scales.tolist() == pytest.approx([novelty.LEAST_SCALE] * 2)
    assert (found.threshold, found.is_unlike(found.distance(same))) == (0.0, [False] * 13)
    assert found.is_unlike(found.distance(same + 1)) == [True] * 13


def test_at_most_one_in_a_hundred_held_out_images_is_beyond_the_threshold() -> None:
    model = build_model(tiny_config("digits").model, 1, 3)
    found = fit_novelty(model, on_cpu(glyphs(101)), on_cpu(glyphs(307, seed=7)), PLAIN, seed=1, batch_size=13)
    assert found is not None
    distances = found.distance(novelty.traits_of(model, on_cpu(glyphs(307, seed=7)).images, PLAIN, 17))
    assert found.threshold == pytest.approx(sorted(distances.tolist())[-4], rel=1e-5), "3 of 307 are beyond"
    assert sum(found.is_unlike(distances)) in (3, 4)  # other batches round otherwise
    assert (found.calibrated_on, found.images) == ("validation", 307)


def test_without_validation_images_a_tenth_of_the_training_images_is_held_out() -> None:
    model = build_model(tiny_config("digits").model, 1, 3)
    found = fit_novelty(model, on_cpu(glyphs(107)), None, PLAIN, seed=1, batch_size=13)
    assert found is not None
    assert (found.calibrated_on, found.images) == ("training", 10)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_handful_of_images_is_enough_or_there_is_no_distance(count: int) -> None:
    model = build_model(tiny_config("digits").model, 1, 3)
    found = fit_novelty(model, on_cpu(glyphs(count)), None, PLAIN, seed=1, batch_size=13)
    assert (found is None) == (count == 1)
    if found is not None:
        assert math.isfinite(found.threshold)


def test_networks_that_learned_nothing_or_too_much() -> None:
    split = on_cpu(glyphs(29))
    constant = build_model(tiny_config("digits").model, 1, 3)
    with torch.no_grad():
        for parameter in constant.parameters():
            parameter.zero_()
    found = fit_novelty(constant, split, split, PLAIN, seed=1, batch_size=13)
    assert found is not None
    assert found.is_unlike(found.distance(novelty.traits_of(constant, split.images, PLAIN, 13))) == [False] * 29
    with torch.no_grad():
        constant.head[-1].bias.fill_(math.inf)  # type: ignore[operator]
    assert fit_novelty(constant, split, split, PLAIN, seed=1, batch_size=13) is None


def test_a_distance_that_is_no_number_is_beyond() -> None:
    found = bounds(rows(53, 5 + STATISTICS), torch.arange(53) % 3)
    broken = torch.zeros(2, 5 + STATISTICS, dtype=torch.float64)
    broken[0, 0] = broken[1, -1] = math.nan
    assert found.is_unlike(found.distance(broken)) == [True, True]
    assert found.is_unlike(torch.tensor([0.5, 1.0, 1.5, math.nan, math.inf])) == [
        False, False, True, True, True,
    ]  # fmt: skip


# --- its file


def test_training_does_not_notice_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"))
    state = torch.get_rng_state()
    with_it = train_run(config, tmp_path / "with")
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(session, "measure_novelty", lambda *_: None)
    without = train_run(config, tmp_path / "without")
    assert with_it.model_sha256 == without.model_sha256
    assert with_it.test_loss == without.test_loss
    assert with_it.novelty_sha256 == sha256((tmp_path / "with" / "novelty.safetensors").read_bytes())
    assert without.novelty_sha256 is None
    assert Classifier.load(tmp_path / "without").is_unlike(np.zeros((8, 8), np.uint8)) is None


def test_a_resumed_run_has_the_same_file(tmp_path: Path) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), val_fraction=0.2)
    whole = train_run(config, tmp_path / "whole")
    interrupted_at(7, lambda reporter: train_run(config, tmp_path / "run", reporter))
    assert not (tmp_path / "run" / "novelty.safetensors").exists()
    assert resume_run(tmp_path / "run").novelty_sha256 == whole.novelty_sha256


@pytest.mark.parametrize("data", ["flip", "cut", "missing"])
def test_a_damaged_file_is_refused_in_one_line(data: str, run: Path, tmp_path: Path) -> None:
    copy = RunFolder(copied(run, tmp_path))
    stored = bytearray(copy.novelty_path.read_bytes())
    if data == "missing":
        copy.novelty_path.unlink()
    else:
        stored[-5] ^= 1
        copy.novelty_path.write_bytes(stored if data == "flip" else stored[:-4])
    answer = vitlab(f"predict {copy.path} {tmp_path / 'x.png'}")
    assert answer.code == RunError.exit_code
    assert answer.err.count("\n") == 1
    assert "novelty.safetensors is " in answer.err
    assert "makes it again" in answer.err


def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def changed(found: Novelty, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts with one fault."""
    tensors, facts = found.tensors(), to_facts(found)
    match what:
        case "nan":
            tensors["mean"] = tensors["mean"] * math.nan
        case "narrow":
            tensors = {name: tensor[..., 1:] for name, tensor in tensors.items()}
        case "oblong":
            tensors["whitening"] = tensors["whitening"][1:]
        case "no classes":
            tensors["centres"] = tensors["centres"][:0]
        case "double":
            tensors["centres"] = tensors["centres"].double()
        case "scalar":
            tensors["mean"] = tensors["mean"][0]
        case "one less":
            del tensors["centres"]
        case "no statistics":
            del tensors["statistics_centres"]
        case "wide statistics":
            tensors["statistics_mean"] = tensors["statistics_mean"].repeat(2)
        case "zero scale":
            tensors["scales"] = tensors["scales"] * 0
        case "one scale":
            tensors["scales"] = tensors["scales"][:1]
        case "infinite":
            facts["threshold"] = math.inf
        case "word":
            facts["threshold"] = "far"
        case "no threshold":
            del facts["threshold"]
    return tensors, facts


FAULTS = ["nan", "narrow", "oblong", "no classes", "double", "scalar", "one less", "infinite", "word", "no threshold"]
FAULTS += ["no statistics", "wide statistics", "zero scale", "one scale"]


@pytest.mark.parametrize("what", FAULTS)
def test_a_file_that_does_not_fit_is_refused_although_its_digest_is_right(
    what: str, run: Path, classifier: Classifier
) -> None:
    assert classifier.bounds is not None
    width = len(classifier.bounds.traits.mean) + STATISTICS
    tensors, facts = changed(classifier.bounds, what)
    with pytest.raises(ValueError, match=r"fit|finite|metadata"):
        from_parts(tensors, facts, width)
    again = from_parts(*changed(classifier.bounds, "nothing"), width)
    assert again.threshold == classifier.bounds.threshold


@pytest.mark.parametrize("number", [1, 3])
def test_a_file_of_another_format_is_refused(
    number: int, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = RunFolder(copied(run, tmp_path))
    bounds = Classifier.load(run).bounds
    assert bounds is not None
    monkeypatch.setattr(novelty, "FORMAT", number)
    digest = copy.save_novelty(bounds)
    monkeypatch.undo()
    with pytest.raises(RunError, match="another version"):
        copy.load_novelty(digest, len(bounds.traits.mean) + STATISTICS)


# --- who reports it


def noise(count: int) -> Any:
    return np.random.default_rng(2).integers(0, 256, (count, 8, 8, 1)).astype(np.uint8)


def test_noise_is_unlike_bars_and_other_bars_are_not(classifier: Classifier) -> None:
    bars = glyphs(500, seed=23).images
    assert classifier.bounds is not None
    limit = classifier.bounds.threshold
    assert float((classifier.novelty(torch.from_numpy(noise(200))) > limit).float().mean()) >= 0.95
    assert float((classifier.novelty(torch.from_numpy(bars)) > limit).float().mean()) <= 0.06
    assert classifier.is_unlike(noise(1)[0]) is True
    assert classifier.is_unlike(saved(Image.fromarray(bars[0, ..., 0]))) is False


def test_logits_and_verdicts_come_from_one_pass(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.from_numpy(np.concatenate([noise(3), glyphs(4).images]))
    passes: list[int] = []
    model = classifier.model
    assert isinstance(model, ViT)
    handle = model.patch_embed.register_forward_hook(lambda layer, given, made: passes.append(len(made)))
    compute = Packed._compute

    def by_kernel(packed: Packed, images: torch.Tensor, *rest: Any) -> torch.Tensor:
        passes.append(len(images))
        return compute(packed, images, *rest)

    monkeypatch.setattr(Packed, "_compute", by_kernel)
    logits, unlike = classifier.outputs(classifier.preprocess(images))
    handle.remove()
    assert passes == [7]
    assert torch.equal(logits, classifier.logits(images))
    assert classifier.bounds is not None
    assert unlike == classifier.bounds.is_unlike(classifier.novelty(images))


def test_predict_says_so_beside_the_label(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(1)[0, ..., 0]).save("noise.png")
    Image.fromarray(glyphs(1).images[0, ..., 0]).save("bar.png")
    lines = vitlab(f"predict {run} noise.png bar.png").out.splitlines()
    assert lines[0].endswith("   unlike anything it was trained on")
    assert "unlike" not in lines[1]
    rows = [json.loads(line) for line in vitlab(f"predict {run} noise.png bar.png --json").out.splitlines()]
    assert [(row["unlike"], row["sure"]) for row in rows] == [(True, False), (False, True)]


def test_a_run_folder_that_does_not_say_gives_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old = Path(__file__).parent / "golden" / "vit-qkv"
    Image.fromarray(noise(1)[0, ..., 0]).save("noise.png")
    (line,) = vitlab(f"predict {old} noise.png --json").out.splitlines()
    assert json.loads(line)["unlike"] is None
    with pytest.raises(RunError, match="train again"):
        Classifier.load(old).novelty(torch.from_numpy(noise(1)))


def test_the_server_says_what_the_classifier_says(classifier: Classifier) -> None:
    old = replace(classifier, bounds=None, name="old")
    pictures = [saved(Image.fromarray(image[..., 0])) for image in (noise(1)[0], glyphs(1).images[0])]
    with running({"new": classifier, "old": old}) as server:
        assert [server.predict(picture).json["unlike"] for picture in pictures] == [True, False]
        assert server.predict(pictures[0], "?model=old").json["unlike"] is None
