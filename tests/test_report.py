"""`vitlab look RUN`: what it writes, what it says, and that it does so for every kind of run."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from tests.browser import watched
from tests.command import vitlab
from tests.made_runs import unseal
from tests.tiny import glyphs, tiny_config, write_npz
from vitlab import train_run
from vitlab.look import write
from vitlab.look.style import undrawable

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ALL = {
    "examples", "patches", "augmentation", "training", "confusion", "mistakes", "reliability", "classes", "attention",
    "attention-heads", "attention-distance", "filters", "positions", "lens", "robustness",
}  # fmt: skip
LINES = {"training", "reliability", "classes", "attention-distance", "lens", "robustness"}
VOID = {"meta", "link", "img", "br", "hr"}


class Reader(HTMLParser):
    """Tags with their attributes, the text, and whether everything that was opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data.replace("\u00a0", " ") + "\n"

    def all(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of every tag of this name."""
        return [attributes for tag, attributes in self.tags if tag == name]


def check_page(path: Path) -> Reader:
    """A page that stands alone: everything in it, nothing from outside, nothing that runs, headings in order."""
    text = path.read_text(encoding="utf-8")
    page = Reader(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "base", "form"}
    for attributes in page.all("img"):
        assert attributes["alt"]
        assert re.match(r"data:image/(png|svg\+xml);base64,[A-Za-z0-9+/=]+$", attributes["src"] or "")
    targets = [attributes["href"] or "" for tag, attributes in page.tags if attributes.get("href")]
    anchors = {f"#{attributes['id']}" for _, attributes in page.tags if attributes.get("id")}
    assert all(target == "data:," or target in anchors or not re.match(r"[a-z]+:|/|#", target) for target in targets)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    assert not re.search(r"\b(nan|None|inf)\b", page.text), "a blank"
    return page


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data sets of glyphs, a few of them with wrong labels, so that there are mistakes to show."""
    folder = tmp_path_factory.mktemp("report")
    a, b = glyphs(97, seed=1), glyphs(31, seed=2)
    wrong = [(split.labels + (np.arange(len(split)) % 7 == 6)) % 3 for split in (a, b)]
    np.savez(folder / "glyphs.npz", x_train=a.images, y_train=wrong[0], x_test=b.images, y_test=wrong[1])
    np.savez(folder / "alone.npz", x_train=a.images, y_train=wrong[0])
    return folder


def trained(place: Path, name: str, data: str = "glyphs.npz", **knobs: Any) -> Path:
    """A run of a second."""
    base: dict[str, Any] = dict(epochs=2, val_fraction=0.2, checkpoint_seconds=60.0, drop_path=0.0)
    train_run(tiny_config(place / data, **(base | knobs)), place / name)
    return place / name


@pytest.fixture(scope="module")
def looked(place: Path) -> Path:
    """A run with everything, another one beside it, written by the command."""
    run = trained(place, "tiny", epochs=4)
    other = trained(place, "other", arch="cnn", cnn_channels=(5,))
    answer = vitlab(f"look {run} --beside {other} --quiet --json")
    assert (answer.code, answer.err) == (0, "")
    told = json.loads(answer.out)
    assert told["left_out"] == {}
    assert told["report"] == str(run / "report.html")
    assert {Path(path).name for path in told["pictures"]} == {path.name for path in (run / "pictures").iterdir()}
    return run


def result_of(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "result.json").read_text())
    return value


def test_every_picture_is_there_as_png_and_lines_as_svg_too(looked: Path) -> None:
    found: dict[str, set[str]] = {".png": set(), ".svg": set()}
    for path in (looked / "pictures").iterdir():
        found[path.suffix].add(path.stem)
    assert found == {".png": ALL, ".svg": LINES}
    for name in ALL:
        with PIL.Image.open(looked / "pictures" / f"{name}.png") as image:
            assert min(image.size) > 150
            assert np.asarray(image.convert("L")).std() > 5, f"{name} is not empty"


def test_the_report_stands_alone_and_shows_every_picture(looked: Path) -> None:
    page = check_page(looked / "report.html")
    assert len(page.all("img")) == len(ALL)
    assert (looked / "report.html").stat().st_size < 5_000_000


def test_the_report_says_the_numbers_of_the_run(looked: Path) -> None:
    page, result = check_page(looked / "report.html").text, result_of(looked)
    low, high = result["test_top1_interval"]
    errors = round((1 - result["test_top1"]) * result["test_images"])
    for text in (
        f"{100 * result['test_top1']:.2f} %",
        f"of {result['test_images']} test images are classified correctly (95 % interval {100 * low:.2f} to ",
        f"{100 * high:.2f} %)",
        f"{result['params']:,}, {100 * result['params_by_part']['head'] / result['params']:.0f} % of them in the class",
        f"{result['train_seconds']:.1f} s on 1 thread of",
        f"{errors} errors on 31 test images" if errors != 1 else "1 error on 31 test images",
        "cut into 4 x 4 patches of 2 x 2 pixels: the network reads 16 tokens of 4 numbers each",
        f"Training drew a new version of every image in all its {result['steps']} steps.",
        result["model_sha256"],
    ):
        assert text in page, text
    sentence = next(
        line for line in page.splitlines() if line.startswith("Compared with other (a custom configuration): ")
    )
    other = result_of(looked.with_name("other"))
    assert f"{100 * other['test_top1']:.2f} % in {other['train_seconds']:.1f} s" in sentence
    alone, beside = map(int, re.findall(r"Only tiny is right on (\d+) images?, only other on (\d+)", sentence)[0])
    assert alone - beside == round(31 * (result["test_top1"] - other["test_top1"]))


def test_captions_have_at_least_two_sentences(looked: Path) -> None:
    text = (looked / "report.html").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert len(captions) == len(ALL)
    for caption in captions:
        assert len(re.findall(r"[.:;](?= |$)", caption)) >= 2, caption
        assert re.search(r"\d", caption), caption


def test_the_model_card_has_its_sections_and_no_blanks(looked: Path) -> None:
    card, result = (looked / "README.md").read_text(), result_of(looked)
    head = card.split("---\n")[1]
    assert f"value: {result['test_top1']:.6g}}}]" in head
    assert "library_name: vitlab\n" in head
    titles = [
        "Details",
        "Uses",
        "Limits",
        "Training data",
        "Evaluation",
        "Environment",
        "Specification",
        "How to start",
    ]
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == titles
    for section in re.split(r"^## .*$", card, flags=re.MULTILINE)[1:]:
        assert len(section.strip()) > 60
    assert not re.search(r"\b(None|nan|TODO|null)\b", re.sub(r"```json.*?```", "", card, flags=re.DOTALL))
    assert result["model_sha256"] in card
    assert result["data_sha256"] in card
    assert "mnist-drawing" not in card
    for link in re.findall(r"\]\(([^)]*)\)", card):
        assert (looked / link).exists(), link


def test_the_card_says_how_to_start_in_lines_that_run(looked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(looked)
    (code,) = re.findall(r"```python\n(.*?)```", (looked / "README.md").read_text(), re.DOTALL)
    PIL.Image.fromarray(glyphs(1).images[0, ..., 0]).save(looked / "picture.png")
    space: dict[str, Any] = {}
    exec(code, space)
    assert space["classifier"].classes == ("0", "1", "2")
    (looked / "picture.png").unlink()


def test_the_report_opens_in_a_browser_without_a_request_or_a_complaint(looked: Path, chromium: Browser) -> None:
    address = (looked / "report.html").as_uri()
    for width, scheme in ((1280, "light"), (375, "dark")):
        options: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        with watched(chromium, address.rsplit("/", 1)[0], **options) as (page, complaints):
            page.goto(address)
            page.evaluate("location.hash = 'data'")
            assert page.locator("details[open]").count() == 1, "a link opens what is folded"
            page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing sticks out"
            assert page.evaluate("[...document.images].filter(i => i.complete && i.naturalWidth > 0).length") == len(
                ALL
            )
            narrow = width == 375
            for frame in page.locator("figure.wide .frame").all():
                assert frame.evaluate("f => f.scrollWidth > f.clientWidth") == narrow
                hint = frame.evaluate("f => getComputedStyle(f, '::before').content")
                assert ("sideways" in hint) == narrow
                if narrow:
                    frame.focus()
                    assert frame.evaluate("f => document.activeElement === f"), "the keyboard gets there"
            captions = page.locator("figcaption").evaluate_all("all => all.map(f => f.getBoundingClientRect().right)")
            assert max(captions) <= width
            dimmed = page.locator("figure img").first.evaluate("i => getComputedStyle(i).filter")
            assert dimmed == ("brightness(0.9)" if scheme == "dark" else "none")
            assert complaints == []


def quick(figure: Figure, kind: str = "png") -> bytes:
    """A coarse picture without a proper layout, for tests that want to know only that it can be drawn."""
    figure.set_layout_engine("none")
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(out, format="png", dpi=15)
    return out.getvalue()


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "to_bytes", quick)


def look(run: Path, words: str = "") -> dict[str, str]:
    """Look at a run, check its page, and return what was left out."""
    answer = vitlab(f"look {run} {words} --quiet --json")
    assert (answer.code, answer.err) == (0, "")
    page = check_page(run / "report.html").text
    left_out: dict[str, str] = json.loads(answer.out)["left_out"]
    for title, reason in left_out.items():
        assert title in page
        assert reason in page
    return left_out


NO_BLOCKS = {"Patches", "Attention heads, rollout and distance", "Filters, positions, logit lens"}


@pytest.mark.parametrize(
    ("name", "knobs", "expected"),
    [
        ("cnn", dict(arch="cnn", cnn_channels=(5,)), NO_BLOCKS),
        (
            "noattn",
            dict(attn_form="none", pool="mean", pos_embed="sincos", rotate=0.0, shift=0.0),
            {"Attention heads, rollout and distance", "Augmentation"},
        ),
        ("cls", dict(pool="cls", embed_dim=9, pos_embed="none"), {"Similarity of positions"}),
        ("cut", dict(image_size=11, crop=7, patch_size=3, patch_overlap=2, num_heads=1, attn_form="merged"), set()),
        ("one-patch", dict(patch_size=8, depth=1), {"Similarity of positions"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("coarse")
def test_every_kind_of_network_is_looked_at(place: Path, name: str, knobs: dict[str, Any], expected: set[str]) -> None:
    assert set(look(trained(place, name, epochs=1, **knobs))) == expected


@pytest.mark.usefixtures("coarse")
def test_colour_and_a_hundred_classes(place: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, size=(300, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(300) % 100
    np.savez(place / "many.npz", x_train=images, y_train=labels, x_test=images[:103], y_test=labels[:103])
    run = trained(place, "many", "many.npz", epochs=1)
    assert look(run) == {}
    assert "100 classes" in (run / "README.md").read_text()


@pytest.mark.usefixtures("coarse")
def test_names_from_outside_stay_names_and_the_place_of_the_data_stays_at_home(tmp_path: Path) -> None:
    """Classes named in Markdown, in HTML and in a script that the font lacks, in a folder whose path is private."""
    names = ("_a_", "<b>*", "[猫](x)")
    for part, images in (("train", glyphs(30)), ("test", glyphs(9))):
        for number, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
            folder = tmp_path / "private" / "pets" / part / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    run = tmp_path / "run_of_*me*"
    train_run(tiny_config(tmp_path / "private" / "pets", epochs=1, checkpoint_seconds=60.0), run)
    left_out = json.loads(vitlab(f"look '{run}' --quiet --json").out)["left_out"]
    if "猫" in undrawable(names):
        assert "no font on this machine has 猫; they appear as boxes" in left_out["Some letters of names"]
    card = (run / "README.md").read_text(encoding="utf-8")
    body = card.split("---\n", 2)[2]
    assert r"(&lt;b&gt;\*, \[猫\](x), \_a\_)" in body
    assert r"# run\_of\_\*me\*" in body
    assert not [name for name in names if name in body]
    for text in (card, (run / "report.html").read_text(encoding="utf-8")):
        assert "private" not in text
        assert "pets" in text


@pytest.mark.usefixtures("coarse")
def test_without_test_images_the_validation_images_judge_and_the_page_says_so(place: Path) -> None:
    run = trained(place, "alone", "alone.npz")
    assert look(run) == {}
    text = check_page(run / "report.html").text
    assert "validation images are classified correctly" in text
    assert "The data set has no test images; these may have selected the epoch" in text


@pytest.mark.usefixtures("coarse")
def test_without_validation_images_too_errors_are_not_drawn(place: Path) -> None:
    run = trained(place, "all", "alone.npz", val_fraction=0.0)
    assert set(look(run)) == {"Confusion, mistakes, reliability, classes", "Robustness"}
    assert "The data set has no test images; these were used for training" in check_page(run / "report.html").text


def edited(run: Path, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A copy of a run whose result.json was changed."""
    copy = run.with_name(name)
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("pictures", "*.html", "*.md"))
    (copy / "result.json").write_text(json.dumps(change(result_of(run))))
    return unseal(copy)


@pytest.mark.usefixtures("coarse")
def test_a_run_that_diverged_shows_what_it_kept(place: Path, looked: Path) -> None:
    names = ("test_top1", "test_top5", "test_loss", "test_top1_interval", "test_images")
    copy = edited(looked, "diverged", lambda result: result | {"status": "diverged"} | dict.fromkeys(names))
    rows = [json.loads(line) for line in (copy / "history.jsonl").read_text().splitlines()]
    rows[-1] |= {"train_loss": None, "val_loss": None}
    (copy / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert look(copy) == {}
    text = check_page(copy / "report.html").text
    assert "The run diverged: its loss became infinite or NaN. These are the weights of epoch" in text
    assert "the run diverged" in (copy / "README.md").read_text().lower()


@pytest.mark.usefixtures("coarse")
def test_a_card_that_somebody_edited_stays(looked: Path) -> None:
    copy = edited(looked, "edited", dict)
    (copy / "README.md").write_text("mine")
    answer = vitlab(f"look {copy}")
    assert (copy / "README.md").read_text() == "mine"
    assert "README.md was edited; leaving it unchanged" in answer.err
    assert answer.out.splitlines()[-1] == f"report: {copy / 'report.html'}"
    assert "model card" not in answer.out


@pytest.mark.usefixtures("coarse")
def test_what_a_machine_calls_itself_stays_text(looked: Path) -> None:
    copy = edited(looked, "machine", dict)
    environment = json.loads((copy / "environment.json").read_text())
    (copy / "environment.json").write_text(json.dumps(environment | {"device_name": "a_b <i>", "system": "*x*"}))
    unseal(copy)
    look(copy)
    card = (copy / "README.md").read_text()
    assert r"on 1 thread of a\_b &lt;i&gt;, fp32; \*x\*, Python" in card
    assert "1 thread of a_b &lt;i&gt;, fp32" in (copy / "report.html").read_text()


@pytest.mark.usefixtures("coarse")
def test_pictures_of_an_earlier_look_that_are_not_made_any_more_go(place: Path) -> None:
    run = trained(place, "again", arch="cnn", cnn_channels=(5,), epochs=1)
    (run / "pictures").mkdir()
    for name in ("attention-heads.png", "lens.svg", "mine.png", "patches-of-mine.png", "notes.txt"):
        (run / "pictures" / name).write_text("old")
    look(run)
    left = {path.name for path in (run / "pictures").iterdir() if path.read_bytes() == b"old"}
    assert left == {"mine.png", "patches-of-mine.png", "notes.txt"}
    assert not {"attention-heads.png", "lens.svg"} & {path.name for path in (run / "pictures").iterdir()}
    assert set(write.NAMES) == ALL | {"deletion", "mixing"}


def test_what_cannot_be_looked_at_is_said_in_one_line(place: Path, looked: Path) -> None:
    lost = edited(looked, "lost", lambda result: result | {"status": "diverged", "model_sha256": None})
    going = edited(looked, "going", dict)
    (going / "result.json").unlink()
    elsewhere = trained(place, "elsewhere", write_npz(place / "more.npz", train=89).name, epochs=1)
    twin = place / "twin" / "tiny"
    shutil.copytree(looked, twin)
    for line, code, parts in (
        (f"look {lost}", 8, ("diverged and has no finished model", "lower lr")),
        (f"look {going}", 8, ("has no finished model", "vitlab train --resume")),
        (f"look {place}", 8, (" run",)),
        (f"look {looked} --image 31", 8, ("no test image 31", "0 to 30")),
        (f"look {looked} --patch 17", 8, ("has no patch 17", "1 to 16")),
        (f"look {place / 'other'} --patch 1", 8, ("convolutional",)),
        (f"look {looked} --beside {elsewhere}", 8, ("trained on other images",)),
        (f"look {looked} --beside {twin}", 8, ("two of the runs are called tiny",)),
        (f"look {looked} --out x", 2, ("--out does not apply to a run",)),
        ("look", 2, ("needs a run folder",)),
        ("look --data nonsense", 3, ("no data set or folder 'nonsense'",)),
        ("look --data digits --beside x", 2, ("--beside does not apply to a data set",)),
    ):
        answer = vitlab(f"{line} --quiet")
        assert answer.code == code, line
        for part in parts:
            assert part in answer.error, line


@pytest.mark.usefixtures("coarse")
def test_the_image_and_the_patch_can_be_chosen(looked: Path) -> None:
    look(looked, "--image 7 --patch 16")
    text = check_page(looked / "report.html").text
    assert "(test image 7)" in text
    assert "Patch 16 (framed)" in text
