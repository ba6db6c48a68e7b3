"""The files of a model in a real browser: intact ones are read, all others refused in one sentence."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy

import vitlab
from tests.browser import serve_folder, watched
from tests.page import page_folder, random_images, untrained
from vitlab.config import ModelConfig

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TINY = ModelConfig(image_size=15, patch_size=5, embed_dim=14, depth=3, num_heads=2, head_dim=11)


@pytest.fixture(scope="module")
def served(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with the page's modules and a tiny model: its address, and its folder."""
    tiny = untrained(tmp_path_factory.mktemp("runs") / "tiny", TINY)
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", {"tiny": (tiny, random_images(13, 15))})
    with serve_folder(folder) as address:
        yield address, folder


@pytest.fixture(scope="module")
def page(chromium: Browser, served: tuple[str, Path]) -> Iterator[Page]:
    """An empty page of that server; at the end it must have reported no problem."""
    with watched(chromium, served[0]) as (page, complaints):
        page.goto(f"{served[0]}/engine.html")
        yield page
        assert complaints == []


def as_text(data: bytes) -> str:
    """Bytes as text that can be passed to the browser."""
    return base64.b64encode(data).decode()


BYTES = "(text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))"

# --- safetensors ---

PARSE = f"""async (text) => {{
    const {{ parseSafetensors }} = await import("/net/safetensors.js");
    try {{
        const tensors = parseSafetensors(({BYTES})(text).buffer);
        return Object.fromEntries([...tensors].map(([name, {{ shape, data }}]) => [name, [shape, Array.from(data)]]));
    }} catch (error) {{
        return `${{error.constructor.name}}: ${{error.message}}`;
    }}
}}"""


def stored(header: object, data: bytes = b"") -> bytes:
    """A file with this header, valid or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def test_what_the_safetensors_package_writes_is_read(page: Page) -> None:
    draw = np.random.default_rng(0)
    tensors = {
        name: draw.normal(size=shape).astype(np.float32)
        for name, shape in {"one": (1,), "b.weight": (3, 5), "deep": (2, 3, 5, 7), "none": (0, 4), "number": ()}.items()
    }
    read = page.evaluate(PARSE, as_text(safetensors.numpy.save(tensors, metadata={"format": "pt"})))
    assert {name: shape for name, (shape, _) in read.items()} == {k: list(v.shape) for k, v in tensors.items()}
    for name, (_, values) in read.items():
        assert values == tensors[name].ravel().tolist()


def test_half_precision_is_read_exactly(page: Page) -> None:
    """Every number that there is, the smallest and infinity among them."""
    every = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16)
    numbers = every[np.isfinite(every)]
    read = page.evaluate(
        PARSE, as_text(safetensors.numpy.save({"all": numbers, "far": np.array([np.inf, -np.inf], np.float16)}))
    )
    assert read["all"][1] == numbers.astype(float).tolist()
    assert read["far"][1] == [np.inf, -np.inf]


DAMAGED = {
    "nothing": (b"", "too few"),
    "seven bytes": (b"1234567", "too few"),
    "another format": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a safetensors file"),
    "a header longer than the file": (struct.pack("<Q", 2**40) + b"{}", "cut short"),
    "a header of 2^63 bytes": (struct.pack("<Q", 2**63) + b"{}", "cut short"),
    "no JSON": (stored(b"{a: 1}"), "not JSON"),
    "no UTF-8": (stored(b'{"\xff": 1}'), "not JSON"),
    "a list": (stored([1, 2]), "not a JSON object"),
    "half precision": (stored(tensor("BF16", (2,), (0, 4)), bytes(4)), 'type "BF16"'),
    "no entry": (stored({"a": None}), "has type undefined"),
    "no shape": (stored(tensor(shape="2"), bytes(8)), "are invalid"),
    "a negative size": (stored(tensor(shape=(-2,)), bytes(8)), "are invalid"),
    "half a place": (stored(tensor(offsets=(0,)), bytes(8)), "are invalid"),
    "outside the file": (stored(tensor(), bytes(7)), "outside the file"),
    "backwards": (stored(tensor(offsets=(8, 0)), bytes(8)), "outside the file"),
    "another number of bytes": (stored(tensor(shape=(3,)), bytes(8)), "cannot hold the shape 3"),
    "a huge shape": (stored(tensor(shape=(2**31, 2**31)), bytes(8)), "cannot hold"),
    "a hole": (stored(tensor(offsets=(4, 12)), bytes(12)), "gaps"),
    "more at the end": (stored(tensor(), bytes(9)), "1 byte at the end"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_in_one_sentence(name: str, page: Page) -> None:
    data, reason = DAMAGED[name]
    answer = page.evaluate(PARSE, as_text(data))
    assert isinstance(answer, str), "it was read"
    assert answer.startswith("FileError: ")
    assert reason in answer
    assert "\n" not in answer
    assert answer.endswith(".")


# --- loading ---

MISFITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another format": (lambda config: config.update(format=2), "format 2"),
    "no format": (lambda config: config.pop("format"), "format undefined"),
    "a run's own": (lambda config: (config.pop("format"), config.update(optim={})), "vitlab export"),
    "no model": (lambda config: config.pop("model"), "model is missing"),
    "unknown attention": (lambda config: config["model"].update(attn_form="flash"), "attn_form must be one of"),
    "unknown kind": (lambda config: config["model"].update(arch="rnn"), 'of kind "rnn"; it knows vit, cnn and mixer'),
    "no kind": (lambda config: config["model"].pop("arch"), "of kind undefined"),
    "wider": (lambda config: config["model"].update(embed_dim=18), "blocks.0.norm1.weight is 14, not 18"),
    "deeper": (lambda config: config["model"].update(depth=4), "blocks.3.norm1.weight is missing"),
    "shallower": (lambda config: config["model"].update(depth=2), "the network has no blocks.2."),
    "more classes": (lambda config: config["classes"].append("x"), "head.1.weight is 10 x 14, not 11 x 14"),
    "no patches": (lambda config: config["model"].update(patch_size=0), "patch_size must be"),
    "half a pixel": (lambda config: config["model"].update(patch_size=4.5), "patch_size must be"),
    "looks too far": (lambda config: config["model"].update(patch_overlap=10**6), "patch_overlap must be"),
    "not yes or no": (lambda config: config["model"].pop("mlp_last_gelu"), "mlp_last_gelu must be true or false"),
    "too many patches": (
        lambda config: (
            config["model"].update(image_size=64, patch_size=1),
            config["preprocess"].update(image_size=64),
        ),
        "fewer than 1024 patches",
    ),
    "huge": (lambda config: config["model"].update(image_size=10**9), "images up to 512 pixels"),
    "another crop": (lambda config: config["preprocess"].update(crop=13), "preprocess.crop"),
    "no deviation": (lambda config: config["preprocess"].update(std=[0]), "preprocess.std"),
    "a CNN": (lambda config: config["model"].update(arch="cnn", cnn_channels=[3]), "convs.0.weight is missing"),
    "classes that are no names": (lambda config: config.update(classes=[{}] * 10), "classes must be a list of names"),
    "no name": (lambda config: config.pop("name"), "name must be text"),
    "a name that is none": (lambda config: config.update(name={"a": 1}), "name must be text"),
    "data without a name": (lambda config: config.update(data=[7]), "data must be text or null"),
    "another normalisation": (lambda config: config.update(drawing="cats"), "drawing must be"),
    "accuracy in words": (lambda config: config.update(test_top1="good"), "test_top1 must be a number or null"),
    "parameters in a list": (lambda config: config.update(params=[3]), "params must be a number or null"),
    "half an interval": (lambda config: config.update(test_top1_interval=[0.5]), "must be two numbers or null"),
    "a digest that is a number": (lambda config: config.update(sha256=7), "sha256 must be 64 hex digits"),
    "another file's digest": (lambda config: config.update(sha256="0" * 64), "names a different SHA-256"),
    "odd heads": (lambda config: config["model"].update(head_dim=None, num_heads=3), "not divisible by num_heads 3"),
}


def load_files(page: Page, config: Any, weights: bytes) -> Any:
    """What the page says about a configuration and weights that were dropped on it."""
    return page.evaluate(
        f"""async ([config, text]) => {{
            const {{ loadFiles }} = await import("/client.js");
            const loading = loadFiles("own", config, ({BYTES})(text).buffer);
            return loading.then(({{ squares, selftest }}) => [squares, selftest], (error) => error.message);
        }}""",
        [config, as_text(weights)],
    )


@pytest.mark.parametrize("name", MISFITS)
def test_a_model_that_does_not_fit_is_refused_in_one_sentence(name: str, page: Page, served: tuple[str, Path]) -> None:
    change, reason = MISFITS[name]
    folder = served[1] / "models" / "tiny"
    config = json.loads((folder / "config.json").read_text())
    change(config)
    answer = load_files(page, config, (folder / "model.safetensors").read_bytes())
    assert isinstance(answer, str), "it was loaded"
    assert reason in answer
    assert answer.endswith(".")


def test_a_users_intact_files_are_loaded(page: Page, served: tuple[str, Path]) -> None:
    folder = served[1] / "models" / "tiny"
    config = json.loads((folder / "config.json").read_text())
    answer = load_files(page, config, (folder / "model.safetensors").read_bytes())
    assert answer == [{"grid": 3, "side": 5, "margin": 0, "size": 15}, None]


def test_a_users_model_may_lack_facts(page: Page, served: tuple[str, Path]) -> None:
    folder = served[1] / "models" / "tiny"
    config = json.loads((folder / "config.json").read_text())
    nothing = dict.fromkeys(("params", "test_top1", "test_images", "test_top1_interval", "train_seconds", "sha256"))
    assert isinstance(load_files(page, config | nothing, (folder / "model.safetensors").read_bytes()), list)


def test_a_bundle_that_was_changed_in_transit_is_refused(chromium: Browser, served: tuple[str, Path]) -> None:
    """One bit of the weights: only the digest can tell. After a refusal the worker still works."""
    folder = served[1] / "models" / "tiny"
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    changed = served[1] / "models" / "changed"
    changed.mkdir()
    for name in ("config.json", "examples.json"):
        (changed / name).write_bytes((folder / name).read_bytes())
    (changed / "model.safetensors").write_bytes(weights)
    with watched(chromium, served[0]) as (page, complaints):
        page.goto(f"{served[0]}/engine.html")
        answers = page.evaluate("""async () => {
            const { load, read } = await import("/client.js");
            const outcome = (promise) => promise.then((answer) => answer.selftest.agree, (error) => error.message);
            const first = await Promise.all([outcome(load("changed")), outcome(load("missing"))]);
            return [...first, await outcome(read("missing", { drawing: {}, want: {} })), await outcome(load("tiny"))];
        }""")
    assert "SHA-256" in answers[0]
    assert "the server answered 404" in answers[1]
    assert "has not been loaded" in answers[2]
    assert answers[3] is True
    assert all("404" in complaint for complaint in complaints), "the browser logs the missing file"


def test_an_answer_that_is_not_a_number_is_reported(page: Page, tmp_path: Path, served: tuple[str, Path]) -> None:
    """As after training that diverged."""
    tiny = untrained(tmp_path / "tiny", TINY)
    weights = {name: value.numpy().copy() for name, value in tiny.model.state_dict().items()}
    weights["head.1.bias"][3] = np.nan
    config = json.loads((served[1] / "models" / "tiny" / "config.json").read_text()) | {"sha256": None}
    assert isinstance(load_files(page, config, safetensors.numpy.save(weights)), list)
    answer = page.evaluate("""async () => {
        const { read } = await import("/client.js");
        const drawing = { width: 15, height: 15, channels: 1, pixels: new Uint8Array(225) };
        const reading = read("own", { drawing, center: true, hidden: [], disturb: {}, want: {} });
        return reading.then(() => "read", (error) => error.message);
    }""")
    assert "not a finite number" in answer


# Knobs with which the page computes nothing: for training only, those that show in the shapes of the weights, and
# those of networks that the page refuses.
UNUSED = {
    *("mlp_ratio", "token_mlp_ratio", "dropout", "attn_dropout", "head_dropout", "drop_path"),
    *("init", "patch_init", "locality", "attn_bias_shared"),
}


def test_the_page_knows_every_knob_of_the_network() -> None:
    """A new knob must be computed by the page, or be listed as one that it may ignore: else it shows wrong answers."""
    config = Path(vitlab.__file__).parent / "page" / "net" / "config.js"
    knobs, _ = config.read_text().split("@typedef {object} Config")
    known = set(re.findall(r"@property {.*} (\w+)\n", knobs))
    assert known | UNUSED == {field.name for field in fields(ModelConfig)}
    assert not known & UNUSED
