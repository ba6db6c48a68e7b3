"""The strict readers: IDX, CIFAR, gzip, zip and tar, .npz."""

import bz2
import contextlib
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.toycards import CLASSES, HEIGHT, WIDTH, idx, packed, sha, toy_arrays, toy_card
from vitlab.data import CATALOGUE, DataFile, Dataset, Reading, load_dataset
from vitlab.data.formats import gunzip, read_cifar, read_idx, read_parts, splits_from_idx
from vitlab.errors import DataError

Packing = Literal["raw", "gzip", "zip", "tar"]
NUMBERS = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
GOOD_IDX = idx(NUMBERS)


def test_idx_is_read_in_its_order_and_can_be_written_to() -> None:
    array = read_idx(GOOD_IDX, 3, "x")
    np.testing.assert_array_equal(array, NUMBERS)
    array[0, 0, 0] = 9  # PyTorch warns about arrays that are read-only


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an IDX"),
        (GOOD_IDX[:15], "not an IDX"),
        (b"\x01" + GOOD_IDX[1:], "not an IDX"),
        (GOOD_IDX[:2] + b"\x0d" + GOOD_IDX[3:], "type 0x0d"),
        (GOOD_IDX[:3] + b"\x01" + GOOD_IDX[4:], "1 dimensions, not 3"),
        (GOOD_IDX[:-1], "states the shape"),
        (GOOD_IDX + b"\0", "states the shape"),
        (GOOD_IDX[:4] + b"\xff\xff\xff\xff" + GOOD_IDX[8:], "states the shape"),
    ],
)
def test_malformed_idx_is_a_data_error(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_idx(data, 3, "x")


def test_any_cut_or_changed_header_byte_of_idx_is_refused() -> None:
    for length in range(len(GOOD_IDX)):
        with pytest.raises(DataError):
            read_idx(GOOD_IDX[:length], 3, "x")
    for place in range(16):
        changed = bytearray(GOOD_IDX)
        changed[place] ^= 0x40
        with pytest.raises(DataError):
            read_idx(bytes(changed), 3, "x")


def parts(labels_from: int = 0, turn: bool = False) -> list[bytes]:
    images, labels, test_images, test_labels = toy_arrays()
    if turn:
        images, test_images = images.transpose(0, 2, 1), test_images.transpose(0, 2, 1)
    return [idx(images), idx(labels + labels_from), idx(test_images), idx(test_labels + labels_from)]


def test_transposed_images_are_righted() -> None:
    """As EMNIST stores them; 7 x 5 in the file are 5 x 7 for us."""
    train, _, test = splits_from_idx(replace(toy_card(), transposed=True), parts(turn=True))
    assert train.images.shape[1:] == (HEIGHT, WIDTH, 1)
    np.testing.assert_array_equal(train.images[..., 0], toy_arrays()[0])
    np.testing.assert_array_equal(test.images[..., 0], toy_arrays()[2])
    assert train.images.flags.c_contiguous


def test_labels_that_start_at_one_are_moved_to_zero() -> None:
    """As those of EMNIST letters."""
    train, *_ = splits_from_idx(replace(toy_card(), first_label=1), parts(labels_from=1))
    np.testing.assert_array_equal(train.labels, toy_arrays()[1])
    with pytest.raises(DataError, match="lowest is 1"):
        splits_from_idx(replace(toy_card(), first_label=1), parts())


def load_toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raws: list[bytes], **changes: Any) -> Dataset:
    """Load the toy set from ``raws``, with digests made to fit them."""
    (tmp_path / "toy").mkdir()
    files = []
    for file, raw in zip(toy_card().files, raws, strict=True):
        (tmp_path / "toy" / file.name).write_bytes(raw)
        files.append(replace(file, sha256=sha(raw), limit=10_000))
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    monkeypatch.setitem(CATALOGUE, "toy", replace(toy_card(), files=tuple(files), **changes))
    return load_dataset("toy")


@pytest.mark.parametrize(
    ("place", "raw", "words"),
    [
        (1, idx(np.full(13, len(CLASSES), np.uint8)), "a training label is 3; labels must be 0 to 2"),
        (3, idx(np.full(11, 200, np.uint8)), "a test label is 200"),
        (1, idx(np.zeros(12, np.uint8)), "13 images but 12 labels"),
        (
            0,
            idx(np.zeros((13, WIDTH, HEIGHT), np.uint8)),
            r"training images .* shape \(7, 5, 1\), not \(5, 7, 1\)",
        ),
        (2, idx(np.zeros((11, HEIGHT, 3), np.uint8)), "test images"),
    ],
)
def test_a_set_that_does_not_fit_its_card_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: int, raw: bytes, words: str
) -> None:
    raws = parts()
    raws[place] = raw
    with pytest.raises(DataError, match=words):
        load_toy(monkeypatch, tmp_path, raws)


def test_mean_and_std_are_computed_where_the_card_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scaled = toy_arrays()[0] / 255
    card = load_toy(monkeypatch, tmp_path, parts()).card
    assert card.mean == pytest.approx((scaled.mean(),))
    assert card.std == pytest.approx((scaled.std(),))


def test_mean_and_std_of_the_card_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load_toy(monkeypatch, tmp_path, parts(), mean=(0.25,), std=(0.5,)).card.mean == (0.25,)


def test_cifar_rows_are_label_then_red_green_blue() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    rows = b"".join(bytes([label]) + picture.tobytes() for label, picture in zip((4, 0, 9), pixels, strict=True))
    split = read_cifar(rows, "x")
    assert split.labels.tolist() == [4, 0, 9]
    assert split.images[1, 2, 5].tolist() == pixels[1, :, 2, 5].tolist()
    assert split.images[2, 31, 0].tolist() == pixels[2, :, 31, 0].tolist()
    with pytest.raises(DataError, match="whole rows"):
        read_cifar(rows[:-1], "x")


def made(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, *contents: bytes, **changes: Any) -> Dataset:
    """The data set ``name`` of the catalogue, its files replaced by ``contents``."""
    card = CATALOGUE[name]
    files = []
    for file, content in zip(card.files, contents, strict=True):
        (folder / file.name).write_bytes(content)
        md5 = hashlib.md5(content).hexdigest()
        files.append(replace(file, md5=md5) if file.md5 else replace(file, sha256=sha(content)))
    monkeypatch.setitem(CATALOGUE, name, replace(card, files=tuple(files), **changes))
    monkeypatch.setenv("VITLAB_DATA", str(folder))
    return load_dataset(name)


def random_images(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_cifar100_is_read_by_its_fine_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pixels = random_images(5, 3, 32, 32)
    rows = [
        bytes([coarse, fine]) + image.tobytes()
        for coarse, fine, image in zip(range(5), (7, 99, 0, 13, 2), pixels, strict=True)
    ]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as file:
        for member, content in (("train", b"".join(rows[:3])), ("test", b"".join(rows[3:]))):
            entry = tarfile.TarInfo(f"cifar-100-binary/{member}.bin")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    dataset = made(monkeypatch, tmp_path, "cifar100", archive.getvalue())
    assert dataset.test is not None
    assert (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == ([7, 99, 0], [13, 2])
    assert dataset.card.classes[7] == "beetle"  # the eighth of the sorted names
    np.testing.assert_array_equal(dataset.train.images, pixels[:3].transpose(0, 2, 3, 1))


def test_svhn_is_read_from_matlab_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from scipy.io import savemat

    images = random_images(5, 32, 32, 3)
    contents = []
    for part, labels in ((slice(0, 3), (1, 10, 3)), (slice(3, 5), (9, 10))):
        stream = io.BytesIO()
        savemat(stream, {"X": images[part].transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, np.newaxis]})
        contents.append(stream.getvalue())
    dataset = made(monkeypatch, tmp_path, "svhn", *contents)
    assert dataset.test is not None
    assert (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == ([1, 0, 3], [9, 0])
    np.testing.assert_array_equal(dataset.test.images, images[3:])


def test_usps_is_read_from_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A label is the digit plus 1; a pixel that is not named is 0, which is the middle grey."""
    lines = (b"1 1:-1 2:1 256:0.5\n10 17:-1\n", b"3 1:1\n")
    dataset = made(monkeypatch, tmp_path, "usps", *map(bz2.compress, lines))
    assert dataset.test is not None
    assert (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == ([0, 9], [2])
    first, second = dataset.train.images[..., 0]
    assert [first[0, 0], first[0, 1], first[0, 2], first[15, 15]] == [0, 255, 128, 191]
    assert [second[1, 0], second[0, 0]] == [0, 128]
    with pytest.raises(DataError, match="LIBSVM"):
        made(monkeypatch, tmp_path, "usps", bz2.compress(b"one two"), bz2.compress(lines[1]))


@pytest.mark.parametrize(("name", "channels"), [("pneumoniamnist", 1), ("bloodmnist", 3)])
def test_medmnist_brings_its_validation_images(
    name: str, channels: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shape = (28, 28) if channels == 1 else (28, 28, 3)
    arrays = {}
    for part, count in (("train", 5), ("val", 3), ("test", 2)):
        arrays[f"{part}_images"] = random_images(count, *shape)
        arrays[f"{part}_labels"] = np.arange(count, dtype=np.uint8)[:, np.newaxis] % 2
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    dataset = made(monkeypatch, tmp_path, name, stream.getvalue())
    assert dataset.val is not None
    assert dataset.val.labels.tolist() == [0, 1, 0]
    assert dataset.train.images.shape == (5, 28, 28, channels)
    del arrays["val_labels"]
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    with pytest.raises(DataError, match="does not hold val_images and val_labels"):
        made(monkeypatch, tmp_path, name, stream.getvalue())


def test_an_md5_is_checked_where_there_is_nothing_better(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made(monkeypatch, tmp_path, "usps", *map(bz2.compress, (b"1 1:1\n2 1:0\n", b"3 1:1\n")))
    path = tmp_path / "usps.bz2"
    path.write_bytes(bz2.compress(b"1 1:1\n3 1:0\n"))
    with pytest.raises(DataError, match="its MD5 is"):
        read_parts(path, CATALOGUE["usps"].files[0])


# ---- packed files ----


def test_gunzip_stops_at_its_bound() -> None:
    assert gunzip(packed(b"x" * 1000), 1000) == b"x" * 1000
    with pytest.raises(DataError, match="more than 999 bytes"):
        gunzip(packed(b"x" * 1000), 999)


@pytest.mark.parametrize("data", [b"plain", packed(b"x" * 1000)[:-5], packed(b"x" * 99) + b"junk"])
def test_gunzip_refuses_what_is_not_whole(data: bytes) -> None:
    with pytest.raises(DataError, match="gzip"):
        gunzip(data, 10_000)


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def file_of(data: bytes, packing: Packing, members: tuple[str, ...] = (), part_limit: int = 100) -> DataFile:
    return DataFile("f", sha(data), packing, len(data), part_limit, members=members)


@pytest.mark.parametrize(("pack", "packing"), [(zipped, "zip"), (tarred, "tar")])
def test_members_come_in_the_order_of_the_card(tmp_path: Path, pack: Callable[..., bytes], packing: Packing) -> None:
    data = pack({"junk": b"junk", "b": b"second", "a.gz": packed(b"first")})
    (tmp_path / "f").write_bytes(data)
    assert read_parts(tmp_path / "f", file_of(data, packing, ("a.gz", "b"))) == [b"first", b"second"]


@pytest.mark.parametrize(("pack", "packing"), [(zipped, "zip"), (tarred, "tar")])
@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"other": b"x"}, "'?a'?"),
        ({"a": bytes(101)}, "more than 100 bytes"),
        ({"a.gz": packed(bytes(101))}, "more than 100 bytes"),
        ({"a.gz": b"not gzip"}, "gzip"),
    ],
)
def test_an_archive_that_lacks_or_overfills_a_member_is_refused(
    tmp_path: Path, pack: Callable[..., bytes], packing: Packing, members: dict[str, bytes], words: str
) -> None:
    data = pack(members)
    (tmp_path / "f").write_bytes(data)
    wanted = ("a",) if "other" in members else tuple(members)
    with pytest.raises(DataError, match=words):
        read_parts(tmp_path / "f", file_of(data, packing, wanted))


@pytest.mark.parametrize("packing", ["gzip", "zip", "tar"])
def test_an_archive_is_not_opened_before_its_digest_fits(
    tmp_path: Path, packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker's archive never meets a parser."""
    monkeypatch.setattr("vitlab.data.formats._unpack", lambda *_: pytest.fail("it was opened"))
    good = packed(b"x")
    (tmp_path / "f").write_bytes(good[:-1] + b"\1")
    with pytest.raises(DataError, match="SHA-256"):
        read_parts(tmp_path / "f", file_of(good, packing, ("a",)))


def test_a_gzip_known_by_its_own_digest(tmp_path: Path) -> None:
    data = packed(b"content")
    (tmp_path / "f").write_bytes(data)
    assert read_parts(tmp_path / "f", file_of(data, "gzip")) == [b"content"]
    (tmp_path / "f").write_bytes(gzip.compress(b"content", 1, mtime=7))
    with pytest.raises(DataError, match=r"SHA-256|more than"):
        read_parts(tmp_path / "f", file_of(data, "gzip"))


def test_a_set_in_one_archive_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As EMNIST: one zip of gzipped IDX files, shared by several cards through their folder."""
    names = ("gzip/i.gz", "gzip/l.gz", "gzip/ti.gz", "gzip/tl.gz")
    data = zipped(dict(zip(names, map(packed, parts(1, turn=True)), strict=True)))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "f").write_bytes(data)
    files = (file_of(data, "zip", names, 1000),)
    card = replace(toy_card(), files=files, folder="shared", transposed=True, first_label=1)
    monkeypatch.setitem(CATALOGUE, "toy", card)
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    dataset = load_dataset("toy")
    np.testing.assert_array_equal(dataset.train.images[..., 0], toy_arrays()[0])
    assert dataset.test is not None
    np.testing.assert_array_equal(dataset.test.labels, toy_arrays()[3])


# ---- .npz ----

IMAGES, LABELS = np.arange(7 * 3 * 5, dtype=np.uint8).reshape(7, 3, 5), np.array([0, 1, 2, 0, 1, 2, 0])


def save(tmp_path: Path, **arrays: Any) -> str:
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    return str(tmp_path / "mine.npz")


def test_npz_with_all_parts(tmp_path: Path) -> None:
    colour = np.stack([IMAGES, IMAGES + 1, IMAGES + 2], axis=-1)
    arrays = {"x_train": colour, "y_train": LABELS.astype(np.uint8)}
    arrays |= {"x_val": colour[:2], "y_val": LABELS[:2], "x_test": colour[4:], "y_test": LABELS[4:]}
    dataset = load_dataset(save(tmp_path, **arrays))
    card = dataset.card
    assert (card.name, card.height, card.width, card.channels, card.classes) == (
        "mine",
        3,
        5,
        3,
        ("0", "1", "2"),
    )
    np.testing.assert_array_equal(dataset.train.images, colour)
    assert dataset.val is not None
    assert dataset.test is not None
    assert (dataset.val.labels.tolist(), dataset.test.labels.tolist()) == ([0, 1], [1, 2, 0])
    assert card.mean == pytest.approx(tuple((colour / 255).mean((0, 1, 2))))
    assert dataset.digest == sha((tmp_path / "mine.npz").read_bytes())
    assert str(tmp_path) in dataset.origin


def test_npz_with_images_and_labels_only(tmp_path: Path) -> None:
    dataset = load_dataset(save(tmp_path, images=IMAGES, labels=LABELS, classes=np.array(["x", "y", "z"])))
    assert (dataset.val, dataset.test, dataset.card.classes) == (None, None, ("x", "y", "z"))
    np.testing.assert_array_equal(dataset.train.images[..., 0], IMAGES)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_train": IMAGES / 255, "y_train": LABELS}, r"float64.*np\.round"),
        ({"x_train": IMAGES, "y_train": LABELS[:, None]}, r"ravel"),
        ({"x_train": IMAGES, "y_train": LABELS / 1}, "integers"),
        ({"x_train": IMAGES, "y_train": LABELS[:5]}, "7 images but 5 labels"),
        ({"x_train": IMAGES, "y_train": LABELS - 1}, "negative"),
        ({"x_train": IMAGES[0], "y_train": LABELS}, "N, H, W"),
        ({"x_train": IMAGES}, "x_train and y_train.*holds x_train"),
        ({"pictures": IMAGES}, "x_train and y_train.*images and labels.*pictures"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "x_test and y_test"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 1}, "test label is 3"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :2], "y_test": LABELS}, "test images"),
        ({"x_train": IMAGES, "y_train": LABELS * 0}, "only 1 class"),
        ({"x_train": IMAGES[:0], "y_train": LABELS[:0]}, "no training images"),
        ({"x_train": IMAGES, "y_train": LABELS, "classes": np.array(["a"])}, "only 1 class"),
        ({"x_train": IMAGES, "y_train": LABELS, "classes": np.arange(3)}, "strings"),
        ({"x_train": np.array([object()]), "y_train": LABELS}, "readable"),
    ],
)
def test_npz_that_does_not_fit_is_explained(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load_dataset(save(tmp_path, **arrays))
    assert "\n" not in str(caught.value)


def test_npz_may_hold_other_things_too(tmp_path: Path) -> None:
    dataset = load_dataset(save(tmp_path, images=IMAGES, labels=LABELS, notes=np.array([object()])))
    assert len(dataset.train) == 7


def npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(10**15, 3, 5), (2**40,), (-1, 3, 5), (0, 0, 0)])
def test_npz_that_states_an_absurd_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "mine.npz").write_bytes(zipped({"images.npy": npy_header(shape), "labels.npy": npy_header((3,))}))
    with pytest.raises(DataError):
        load_dataset(str(tmp_path / "mine.npz"))


def test_npz_with_any_byte_changed_ends_in_a_data_error_or_a_data_set(tmp_path: Path) -> None:
    good = zipped({f"{key}.npy": npy(array) for key, array in {"images": IMAGES, "labels": LABELS}.items()})
    for place in range(len(good)):
        changed = bytearray(good)
        changed[place] ^= 0xFF
        (tmp_path / "mine.npz").write_bytes(bytes(changed))
        with contextlib.suppress(DataError):
            load_dataset(str(tmp_path / "mine.npz"))


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_npz_never_unpickles(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> Any:
            return (open, (str(marker), "w"))

    path = save(tmp_path, x_train=np.array([Trap()]), y_train=LABELS)
    with pytest.raises(DataError):
        load_dataset(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [None, b"", b"not a zip", zipped({"x_train.npy": b"junk", "y_train.npy": b""})])
def test_npz_missing_or_damaged(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"mine\.npz"):
        load_dataset(str(tmp_path / "mine.npz"))


def npz_loaded(tmp_path: Path, **arrays: Any) -> tuple[Dataset, list[str]]:
    lines: list[str] = []
    return load_dataset(save(tmp_path, **arrays), lines.append), lines


@pytest.mark.parametrize(
    ("labels", "classes", "numbers", "told"),
    [
        (LABELS + 1, ("1", "2", "3"), LABELS, "1, 2 and 3 are 3 classes"),
        (LABELS * 450, ("0", "450", "900"), LABELS, "0, 450 and 900 are 3 classes"),
        (np.arange(7) + 1, ("1", "2", "3", "4", "5", "6", "7"), np.arange(7), "1, 2, 3 ... 7 are 7 classes"),
        ((LABELS * 9 + 2).astype(np.uint64), ("2", "11", "20"), LABELS, "2, 11 and 20 are 3 classes"),
        (LABELS, ("0", "1", "2"), LABELS, None),
    ],
)
def test_npz_classes_are_the_labels_that_occur(
    tmp_path: Path, labels: Any, classes: tuple[str, ...], numbers: Any, told: str | None
) -> None:
    dataset, lines = npz_loaded(tmp_path, x_train=IMAGES, y_train=labels, x_test=IMAGES[3:], y_test=labels[3:])
    assert dataset.card.classes == classes
    np.testing.assert_array_equal(dataset.train.labels, numbers)
    assert dataset.test is not None
    np.testing.assert_array_equal(dataset.test.labels, numbers[3:])
    assert dataset.train.labels.dtype == np.int64
    assert len(lines) == (told is not None)
    assert told is None or told in lines[0]


@pytest.mark.parametrize(("names", "said"), [(["a", "b", "a"], "two classes are called 'a'"),
                                              (["a", "\x1b[2J", "c"], "cannot be printed"),
                                              (["a", "", "c"], "cannot be printed")])  # fmt: skip
def test_npz_names_must_tell_the_classes_from_each_other(tmp_path: Path, names: list[str], said: str) -> None:
    images, labels = np.zeros((7, 3, 5), np.uint8), np.array([0, 1, 2, 0, 1, 2, 0])
    np.savez(tmp_path / "x.npz", images=images, labels=labels, classes=np.array(names))
    with pytest.raises(DataError, match=said):
        load_dataset(str(tmp_path / "x.npz"))
    assert load_dataset(str(tmp_path / "x.npz"), reading=Reading(tuple(names))).card.classes == tuple(names)


def test_npz_labels_index_the_names_that_are_given(tmp_path: Path) -> None:
    names = np.array(["x", "y", "z", "never"])
    dataset, lines = npz_loaded(tmp_path, images=IMAGES, labels=LABELS, classes=names)
    assert dataset.card.classes == tuple(names)
    assert lines == ["no training image shows 'never': the network cannot learn it"]
    with pytest.raises(DataError, match="a training label is 4"):
        npz_loaded(tmp_path, images=IMAGES, labels=LABELS * 2, classes=names)
    with pytest.raises(DataError, match=r"test images of 'never', but no training images"):
        npz_loaded(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:1], y_test=[3], classes=names)


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint16, np.int32])
def test_npz_whole_numbers_from_0_to_255_are_pixels(tmp_path: Path, kind: Any) -> None:
    dataset, _ = npz_loaded(tmp_path, images=IMAGES.astype(kind), labels=LABELS)
    np.testing.assert_array_equal(dataset.train.images[..., 0], IMAGES)


def test_npz_booleans_are_black_and_white(tmp_path: Path) -> None:
    dataset, _ = npz_loaded(tmp_path, images=IMAGES > 50, labels=LABELS)
    np.testing.assert_array_equal(dataset.train.images[..., 0], np.where(IMAGES > 50, 255, 0))


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (IMAGES.astype(int) * 16, "from 0 to 1,664: scale them"),
        (IMAGES.astype(int) - 1, "from -1 to 103: scale them"),
        (IMAGES / 104, "np.round(x * 255).astype(np.uint8)"),
        (IMAGES.astype(np.float32), "np.round(x).astype(np.uint8)"),
        (IMAGES / 52 - 1, "np.round((x + 1) * 127.5)"),
        (IMAGES * 3.5, "from 0 to 364: scale them"),
        (np.where(IMAGES == 3, np.nan, 0.5), "np.nan_to_num"),
        (IMAGES.astype(complex), "numbers from 0 to 255"),
        (IMAGES.astype(str), "numbers from 0 to 255"),
    ],
)
def test_npz_advice_fits_the_pixels(tmp_path: Path, images: Any, advice: str) -> None:
    """Followed literally, it must give the picture: `x * 255` for whole numbers would turn 255 into 1."""
    with pytest.raises(DataError) as caught:
        npz_loaded(tmp_path, images=images, labels=LABELS)
    assert advice in str(caught.value)
    assert ("x * 255" in str(caught.value)) == (advice == "np.round(x * 255).astype(np.uint8)")


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (LABELS / 1, "y.astype(int)"),
        (LABELS > 0, "y.astype(int)"),
        (LABELS / 2, "0.5 is not a class"),
        (np.eye(3)[LABELS], "y.argmax(1)"),
        (LABELS[:, None], "y.ravel()"),
        (np.array(["a", "b", "c"])[LABELS], "np.unique(y, return_inverse=True)"),
    ],
)
def test_npz_advice_fits_the_labels(tmp_path: Path, labels: Any, advice: str) -> None:
    with pytest.raises(DataError, match="must be integers") as caught:
        npz_loaded(tmp_path, images=IMAGES, labels=labels)
    assert advice in str(caught.value)


def test_npz_that_asks_for_more_memory_than_it_fills_is_damaged(tmp_path: Path) -> None:
    """Or a short header would make numpy ask for a petabyte, and memory would seem to be short."""
    content = {"images.npy": npy_header((10**15,)), "labels.npy": npy(LABELS)}
    (tmp_path / "mine.npz").write_bytes(zipped(content))
    with pytest.raises(DataError, match="states the shape"):
        load_dataset(str(tmp_path / "mine.npz"))
