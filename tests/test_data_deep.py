"""16 bits and up to 16 channels: read as tifffile and NumPy read them, from the file to the network's answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import vitlab
from tests.command import vitlab as command
from tests.tiny import tiny_config
from vitlab import Classifier, Preprocess, RunFolder, Split
from vitlab.data import Reading, load_dataset
from vitlab.data.depth import depth_of
from vitlab.data.folder import find_files
from vitlab.data.images import ALL, Depth, ImageError, decode_layers, resize
from vitlab.data.splits import pixel_statistics
from vitlab.data.stored import IN_MEMORY
from vitlab.data.view import range_of, view
from vitlab.errors import ConfigError, DataError, VitlabError
from vitlab.text import ignore

Array = np.ndarray[Any, Any]
BASE = 0x7600  # the high byte of all pixels of `waves`


def noise(*shape: int, seed: int = 0, dtype: type = np.uint16) -> Array:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def waves(count: int, channels: int, seed: int = 0, side: int = 8) -> tuple[Array, Array]:
    """Rows or columns of waves, uint16 [count, side, side, channels], that differ in the low 8 bits alone."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    places = np.arange(side) * 1.7 + draw.uniform(0, 6, (count, 1))
    rows = np.repeat(np.sin(places)[:, :, None], side, axis=2)
    levels = np.where(labels[:, None, None], rows, rows.swapaxes(1, 2)) * 100 + 127
    images = np.rint(levels[..., None] + draw.normal(0, 5, (count, side, side, channels)))
    return (BASE + images.clip(0, 255)).astype(np.uint16), labels


def write_waves(root: Path, channels: int, count: int = 40, **options: Any) -> Path:
    for part, number, seed in (("train", count, 1), ("test", 12, 2)):
        for place, (image, label) in enumerate(zip(*waves(number, channels, seed), strict=True)):
            path = root / part / "ab"[label] / f"{place}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, image[..., 0] if channels == 1 else image, **options)
    return root


def pixels(path: Path, **depth: Any) -> Array:
    return decode_layers(path.read_bytes(), path.name, False, depth=Depth(**({"bits": 16} | depth))).pixels


FORMS: dict[str, dict[str, Any]] = {
    "plain": {"planarconfig": "contig"},
    "big end first": {"planarconfig": "contig", "byteorder": ">"},
    "planes": {"planarconfig": "separate"},
    "packed": {"planarconfig": "contig", "compression": "zlib"},
    "tiles": {"planarconfig": "contig", "tile": (16, 16)},
    "pages": {"imagej": True, "metadata": {"axes": "CYX"}},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16])
def test_a_tiff_gives_the_numbers_that_were_written(tmp_path: Path, channels: int, form: str) -> None:
    if channels == 1 and form in ("planes", "pages"):
        pytest.skip("one channel is one plane")
    image = noise(13, 17, channels, seed=channels)
    written = image.transpose(2, 0, 1) if form in ("planes", "pages") else image.squeeze()
    kind = "rgb" if channels == 3 and form != "pages" else "minisblack"
    tifffile.imwrite(tmp_path / "x.tif", written, photometric=kind, **FORMS[form])
    got = pixels(tmp_path / "x.tif")
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, image)


def test_white_may_be_zero_and_a_camera_may_have_been_turned(tmp_path: Path) -> None:
    image = noise(13, 17)
    tifffile.imwrite(tmp_path / "white.tif", image, photometric="miniswhite")
    np.testing.assert_array_equal(pixels(tmp_path / "white.tif")[..., 0], 65535 - image)
    for channels, place in ((1, "one.tif"), (4, "four.tif")):
        image = noise(13, 17, channels)
        turned = (274, "H", 1, 6, True)  # the first row is on the right
        plain: Any = FORMS["plain"] if channels > 1 else {}
        written = image.squeeze()
        tifffile.imwrite(tmp_path / place, written, photometric="minisblack", extratags=[turned], **plain)
        np.testing.assert_array_equal(pixels(tmp_path / place), np.rot90(image, -1))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (noise(9, 8, 17), "17 channels"),
        (noise(9, 8).astype(np.int16), "signed"),
        (noise(9, 8).astype(np.uint32), "32 bits"),
        (noise(9, 8, 4).astype(np.float32), "floating"),
    ],
)
def test_other_tiffs_are_refused_in_one_line(tmp_path: Path, array: Array, words: str) -> None:
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match=rf"x\.tif .*{words}") as caught:
        pixels(tmp_path / "x.tif")
    assert "\n" not in str(caught.value)


def test_a_folder_with_one_file_of_16_bits_is_read_with_16_bits(tmp_path: Path) -> None:
    deep, flat = noise(11, 7), noise(11, 7, dtype=np.uint8)
    colour = noise(11, 7, 3, seed=1)
    for label in "ab":
        (tmp_path / label).mkdir()
        Image.fromarray(deep).save(tmp_path / label / "0.png")
        Image.fromarray(flat).save(tmp_path / label / "1.png")
        tifffile.imwrite(tmp_path / label / "2.tif", colour, photometric="rgb")
    dataset = load_dataset(tmp_path)
    assert (dataset.bits, dataset.card.channels) == (16, 3)
    expected = np.stack([np.dstack([deep] * 3), np.dstack([flat.astype(np.uint16) * 257] * 3), colour])
    np.testing.assert_array_equal(dataset.train.images[:3], expected)
    before = load_dataset(tmp_path, reading=Reading(("a", "b"), size=(11, 7), formats=ALL))  # a run that had 8 bits
    assert before.train.images.dtype == np.uint8
    np.testing.assert_array_equal(before.train.images[0, ..., 0], np.rint(deep / 257))
    np.testing.assert_array_equal(before.train.images[1, ..., 0], flat)


def test_what_is_marked_as_transparency_may_be_a_channel(tmp_path: Path) -> None:
    """tifffile marks the fourth channel of every array so; real transparency is clear or opaque almost everywhere."""
    notes: list[str] = []
    found = find_files(write_waves(tmp_path / "waves", 4, 6), ALL, None, False, ignore)[1]["train"]
    with Image.open(found[0].path) as picture:
        assert picture.getexif()[338] == 2  # ExtraSamples: unassociated alpha
    assert depth_of(found, None, notes.append) == Depth(16, alpha=False)
    assert "marked as transparency" in notes[0]
    for number in range(4):
        image = noise(8, 8, 4, seed=number)
        image[..., 3] = np.where(np.arange(8) < 5, 65535, 0)
        path = tmp_path / "cut" / "ab"[number % 2] / f"{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, image)
    dataset = load_dataset(tmp_path / "cut")
    assert (dataset.card.channels, dataset.alpha) == (3, True)
    assert (dataset.train.images[:, :, 5:] == dataset.background * 257).all()


def test_images_of_3_and_4_channels_do_not_go_together(tmp_path: Path) -> None:
    write_waves(tmp_path, 4, 6)
    tifffile.imwrite(tmp_path / "train" / "a" / "colour.tif", noise(8, 8, 3), photometric="rgb")
    with pytest.raises(DataError, match=r"has 4 channels, train/a/colour\.tif only 3 channels"):
        load_dataset(tmp_path)


def test_resizing_keeps_16_bits_and_every_channel() -> None:
    """Against the mean of each 2 x 2 pixels, which bilinear averaging to the half is nearly, and of planes exactly."""
    image = np.repeat(np.repeat(noise(5, 6, 7), 4, axis=0), 4, axis=1)
    np.testing.assert_array_equal(resize(image, 20, 24), image)
    ramp = np.broadcast_to(np.arange(1000, 1016, dtype=np.uint16)[:, None, None], (16, 16, 2))
    np.testing.assert_allclose(
        resize(np.ascontiguousarray(ramp), 8, 8)[1:-1, 3, 1], 1002.5 + 2 * np.arange(6), atol=0.5
    )


def test_preprocessing_divides_by_white_exactly() -> None:
    levels = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(1, 256, 256, 1)
    unit = Preprocess(256, (0.0,), (1.0,))(levels).flatten().numpy()
    np.testing.assert_array_equal(unit, np.arange(65536, dtype=np.float32) / np.float32(65535))
    eight = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    same = (eight.to(torch.int32) * 257).to(torch.uint16)
    assert torch.equal(Preprocess(13, (0.3,), (0.2,))(eight), Preprocess(13, (0.3,), (0.2,))(same))


def test_mean_and_deviation_are_those_of_numpy() -> None:
    images = waves(23, 5)[0]
    mean, std = pixel_statistics(images)
    np.testing.assert_allclose(mean, (images / 65535).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 65535).std(axis=(0, 1, 2)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["folder", "npz", "packed"])
def test_from_the_disk_the_numbers_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))
    place = tmp_path / ("x" if kind == "folder" else "x.npz")
    if kind == "folder":
        write_waves(place, 4)
    else:
        images, labels = waves(40, 4)
        (np.savez if kind == "npz" else np.savez_compressed)(place, x_train=images, y_train=labels)
    whole = load_dataset(place)
    monkeypatch.setenv(IN_MEMORY, "1000")
    for _ in range(2):  # written, then found in the cache
        stored = load_dataset(place)
        assert stored.train.images.dtype == np.uint16
        assert stored.digest == whole.digest
        np.testing.assert_array_equal(stored.train.images[:], whole.train.images)
        assert (stored.card.mean, stored.card.std) == (whole.card.mean, whole.card.std)


@pytest.fixture(scope="module", params=[1, 4])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on a folder of TIFFs of one or four channels, and the folder."""
    place = tmp_path_factory.mktemp("deep")
    folder = write_waves(place / "waves", request.param, 160)
    knobs = dict(epochs=8, rotate=0.0, shift=0.0, dropout=0.0, attn_dropout=0.0, drop_path=0.0, lr=5e-3)
    return vitlab.train(tiny_config(folder, **knobs), out=place / "run", progress=False), folder


def test_a_network_sees_the_low_8_bits(trained: Any) -> None:
    """Whose answers to files, arrays, tensors and an .npz file are the same, and right."""
    run, folder = trained
    record = RunFolder(run.path).data()
    images, labels = waves(12, record["channels"], 2)
    assert (record["bits"], record["channels"]) == (16, images.shape[3])
    classifier = Classifier.load(run.path)
    files = sorted((folder / "test").rglob("*.tif"), key=lambda path: int(path.stem))
    answers = classifier.predict(files)
    assert (answers.indices == labels).mean() > 0.9
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    for given in (images, Split(images, labels), list(images), tensor, tensor / 65535, images / 65535):
        np.testing.assert_allclose(classifier.predict(given).probabilities, answers.probabilities, atol=2e-6)
    assert run.evaluate()["top1"] == pytest.approx((answers.indices == labels).mean())
    np.savez(folder.parent / "x.npz", x=images)
    done = command(f"predict {run.path} {folder.parent / 'x.npz'} --json")
    assert [json.loads(line)["label"] for line in done.out.splitlines()] == answers.names
    tifffile.imwrite(folder.parent / "five.tif", noise(8, 8, 5), planarconfig="contig", photometric="minisblack")
    with pytest.raises(ImageError, match=rf"five\.tif has 5 channels, but run was trained on {images.shape[3]}"):
        classifier.predict(folder.parent / "five.tif")
    with pytest.raises(ImageError, match="the pictures have 5 channels"):
        classifier.predict(Split(noise(3, 8, 8, 5), np.arange(3)))
    assert classifier.predict(files[:3])._repr_html_()


@pytest.mark.parametrize("trained", [4], indirect=True)
def test_reports_and_exports_show_or_refuse_it(trained: Any, tmp_path: Path) -> None:
    from vitlab.export import hub, program, web

    run, _ = trained
    classifier = Classifier.load(run.path)
    facts = program.export_program(classifier, tmp_path / "x.pt2")
    assert facts["type"] == "uint16"
    loaded: Any = torch.export.load(tmp_path / "x.pt2")
    again: Any = loaded.module()
    images = torch.from_numpy(waves(5, classifier.channels)[0])
    torch.testing.assert_close(again(images)[0], classifier.logits(images), atol=1e-4, rtol=1e-4)
    with pytest.raises(VitlabError, match="of 16 bits, but pages"):
        web.export_web([classifier], tmp_path / "web")
    with pytest.raises(VitlabError, match="of 16 bits, but pages"):
        hub.export_hub(classifier, tmp_path / "hub", "timm")
    assert not (tmp_path / "web").exists()
    attention = run.attention(images[0].numpy())
    assert np.ptp(attention.picture) < 0.01
    assert np.ptp(view(attention.picture, attention.shown)) > 0.9
    assert attention.plot()


@pytest.mark.parametrize("trained", [4], indirect=True)
def test_a_run_of_an_earlier_version_reads_as_it_did(trained: Any, tmp_path: Path) -> None:
    """Whose data.json does not name bits."""
    run, folder = trained
    record = {key: value for key, value in RunFolder(run.path).data().items() if key not in ("bits", "alpha")}
    dataset = load_dataset(folder, reading=Reading.of(record))
    assert dataset.train.images.dtype == np.uint8
    assert dataset.card.channels == 1  # the high bytes of red, green and blue


def test_views_show_what_there_is() -> None:
    grey, colour = noise(3, 5, 7, 1, dtype=np.uint8), noise(3, 5, 7, 3, dtype=np.uint8)
    assert view(grey) is grey
    assert view(colour) is colour
    np.testing.assert_array_equal(view(noise(5, 7, 6, dtype=np.uint8)), noise(5, 7, 6, dtype=np.uint8)[..., :3])
    two = noise(5, 7, 2, dtype=np.uint8)
    np.testing.assert_allclose(view(two)[..., 0], two.mean(axis=-1), atol=0.5)
    images = waves(9, 4)[0]
    shown = view(images, range_of(images))
    assert shown.shape == (9, 8, 8, 3)
    assert (shown.min(), shown.max()) == (0, 255)
    order = np.argsort(images[0, ..., 0], axis=None)
    assert (np.diff(shown[0, ..., 0].flatten()[order].astype(int)) >= 0).all()


def test_drawings_of_16_bits_are_drawings(tmp_path: Path) -> None:
    """MNIST, saved as PNG of 16 bits, is normalised like MNIST."""
    from vitlab.data.drawn import drawing_of
    from vitlab.export.lesson import digits_lesson

    images = digits_lesson().train.images[:50]
    assert drawing_of(images.astype(np.uint16) * 257) == drawing_of(images) == "mnist-drawing"


@pytest.mark.parametrize("trained", [4], indirect=True)
def test_rehearsal_and_weights_of_other_depths(trained: Any, tmp_path: Path) -> None:
    run, folder = trained
    with pytest.raises(ConfigError, match="bits"):
        vitlab.train(tiny_config(folder, rehearse="digits:0.2", epochs=1), out=tmp_path / "r", progress=False)
    shutil.rmtree(tmp_path / "r", ignore_errors=True)
    began = vitlab.train(
        tiny_config("digits", init_from=str(run.path), epochs=1, limit_train=40), out=tmp_path / "s", progress=False
    )
    assert RunFolder(began.path).data()["bits"] == 8
