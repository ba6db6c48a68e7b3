"""The page in use: choices and their address, keyboard, phone, faulty sites, and trained networks."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import serve_folder, watched
from tests.page import page_folder
from tests.reader import bars, drag, settle, strokes, visit, write_json
from tests.reader import base as base
from tests.reader import page as page
from tests.reader import site as site
from vitlab import load_dataset, preset_config, train_run
from vitlab.errors import DataError
from vitlab.predict import Classifier
from vitlab.serve.guard import POLICY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGE = Path(__file__).parents[1] / "src" / "vitlab" / "page"
FINER = "#scatter .loadable >> nth=1"


# Choices


def test_two_networks_are_compared_on_one_drawing(page: Page, base: str) -> None:
    visit(page, base)
    first = page.inner_text("#sure")
    page.select_option("#compare", "cnn")
    page.wait_for_selector("#sure2:text('%')")
    assert [page.inner_text("#name1"), page.inner_text("#name2")] == ["vit", "cnn"]
    second = page.inner_text("#sure2")
    assert page.inner_text("#sure") == first
    assert page.locator("#bars .other:visible").count() == 10
    visit(page, base, "model=cnn")
    assert page.inner_text("#sure") == second, "the same as when it is alone"


def test_a_network_is_not_compared_with_itself(page: Page, base: str) -> None:
    visit(page, base, "model=vit&compare=cnn")
    assert "vit" not in page.locator("#compare option").all_inner_texts()
    page.select_option("#model", "cnn")
    settle(page)
    assert page.is_hidden("#second")


def test_a_point_of_the_study_loads_its_network(page: Page, base: str) -> None:
    visit(page, base)
    assert page.locator("#scatter .measured").count() == 1
    page.click(FINER)
    page.wait_for_selector("#patch-grid .patch >> nth=48")
    assert page.input_value("#model") == "finer"
    assert page.get_attribute(FINER, "aria-pressed") == "true"


@pytest.mark.parametrize("kind", ["rotate", "shift", "noise"])
def test_a_disturbance_changes_the_reading_and_can_be_reset(page: Page, base: str, kind: str) -> None:
    visit(page, base)
    plain = bars(page)
    page.locator(f"#range-{kind}").fill({"rotate": "45", "shift": "3", "noise": "0.3"}[kind])
    settle(page)
    assert bars(page) != plain
    moved = [page.text_content(f"output[for=range-{name}]") for name in ("rotate", "shift", "noise")]
    calm, strong = ["0°", "0 px", "0"], {"rotate": "45°", "shift": "3 px", "noise": "0.3"}
    assert moved == [strong[name] if name == kind else calm[i] for i, name in enumerate(strong)]
    page.click("#calm")
    settle(page)
    assert bars(page) == plain


def test_below_the_threshold_it_is_not_sure(page: Page, base: str) -> None:
    visit(page, base)
    page.fill("#threshold", "0")
    page.wait_for_selector("#answer:not(.unsure)")
    assert re.fullmatch(r"\d", page.inner_text("#answer"))
    page.fill("#threshold", "0.95")
    page.wait_for_selector("#answer.unsure")
    assert page.inner_text("#answer") == "not sure"
    assert re.fullmatch(r"\d \([<> \d]+ %\) or \d \([<> \d]+ %\)", page.inner_text("#sure"))


def test_the_answer_is_spoken_once_it_settles(page: Page, base: str) -> None:
    visit(page, base)
    page.keyboard.press("3")
    assert page.text_content("#spoken") == "", "not at once"
    page.wait_for_selector("#spoken:text-matches('.+')", state="attached")
    assert re.match(r"The network reads|Not sure:", page.text_content("#spoken") or "")


def test_a_link_restores_everything(page: Page, base: str) -> None:
    visit(page, base, "model=finer&compare=cnn&center=0&rotate=20&shift=-2&noise=0.2&sure=0.3&patch=9&hide=3.17")
    drag(page, (30, 20), (70, 25), (45, 85))
    drag(page, (40, 50), (60, 55))
    settle(page)
    assert strokes(page) == 2
    link, said = page.url, bars(page)
    page.goto("about:blank")
    page.goto(link)
    settle(page)
    page.wait_for_selector("#sure2:text('%')")
    assert bars(page) == said
    assert page.is_hidden("#turn"), "the strokes are kept"
    assert page.inner_text("#attention-whose") == "from patch 9"
    assert page.locator("#patches .patch.gone").count() == 2
    assert [page.input_value(f"#range-{kind}") for kind in ("rotate", "shift", "noise")] == ["20", "-2", "0.2"]
    strokes(page)
    assert page.url == link


def test_choices_typed_into_the_address_keep_the_drawing(page: Page, base: str) -> None:
    visit(page, base, "patch=3")
    page.keyboard.press("8")
    settle(page)
    said = bars(page)
    page.evaluate("location.hash = 'model=vit&patch=4'")
    page.wait_for_selector("#attention-whose:text('from patch 4')")
    settle(page)
    assert bars(page) == said


def test_a_test_digit_is_in_the_link(page: Page, base: str) -> None:
    visit(page, base)
    page.click("#random")
    settle(page)
    said, truth = bars(page), page.inner_text("#truth")
    strokes(page)
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector("#truth:visible")
    settle(page)
    assert (bars(page), page.inner_text("#truth")) == (said, truth)


def test_a_link_to_a_network_that_is_not_here_says_so(page: Page, base: str) -> None:
    visit(page, base, "model=gone&patch=3")
    assert page.inner_text("#notice") == "The link asks for a network that this page does not have: gone."
    place = page.locator("#slate").bounding_box()
    page.click("#dismiss")
    assert page.is_hidden("#notice")
    assert page.locator("#slate").bounding_box() == place, "a notice moves nothing"
    assert page.input_value("#model") == "vit"
    assert page.inner_text("#attention-whose") == "from patch 3"


def test_a_notice_goes_away_by_itself(page: Page, base: str) -> None:
    page.add_init_script("const wait = setTimeout; window.setTimeout = (go, ms) => wait(go, ms > 5000 ? 50 : ms)")
    visit(page, base, "model=gone")
    page.wait_for_selector("#notice", state="hidden")
    assert page.input_value("#model") == "vit"


def test_an_endless_scribble_leaves_the_address_short(page: Page, base: str) -> None:
    visit(page, base)
    page.evaluate(
        """async () => {
            const { toHash, INITIAL, LONGEST } = await import("/state.js");
            const points = Array.from({ length: 200 }, (_, i) => [(37 * i) % 280, (91 * i) % 280]);
            const drawing = (strokes) => ({ ...INITIAL, model: "vit", drawing: { kind: "strokes", strokes } });
            const long = toHash(drawing(Array(9).fill({ width: 24, points })));
            const short = toHash(drawing([{ width: 24, points }]));
            if (long !== "model=vit" || !short.includes("strokes=") || short.length > LONGEST) throw new Error(long);
        }"""
    )


@pytest.mark.parametrize(
    "choices",
    ["model=..%2F..&strokes=%00%FF!&hide=9999.x.-1&patch=-3&rotate=NaN&noise=1e9&sure=7&test=99999&compare=<img>",
     "strokes=GA", "strokes=" + "A" * 9000, "%E0%A4%A", "test=77&patch=16&hide=17"],
)  # fmt: skip
def test_a_damaged_link_still_opens_the_page(page: Page, base: str, choices: str) -> None:
    visit(page, base, choices)
    assert page.input_value("#model") == "vit"
    assert page.inner_text("#bars li >> nth=0").startswith("0")
    assert page.locator(".patch.gone").count() == 0


# Keyboard, labels, small screens


def test_the_keyboard_alone_is_enough(page: Page, base: str) -> None:
    visit(page, base)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in ("model", "story", "save", "share", "slate"):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "slate"
    page.keyboard.press("4")
    settle(page)
    assert strokes(page) == 2, "a 4 has two"
    for key in ["ArrowLeft", " ", *["ArrowDown"] * 9, " "]:
        page.keyboard.press(key)
    settle(page)
    assert strokes(page) == 3
    page.keyboard.press("Backspace")
    assert strokes(page) == 2
    page.focus("[data-patch='0']")
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("[data-patch='5'][aria-pressed=true]")
    assert page.evaluate("document.activeElement.dataset.patch") == "5"
    page.focus(FINER)
    page.keyboard.press("Enter")
    page.wait_for_selector("#patch-grid .patch >> nth=48")


def test_every_control_has_a_name_and_headings_are_in_order(page: Page, base: str) -> None:
    visit(page, base, "compare=cnn")
    page.wait_for_selector("#scatter svg")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll(
                "button, select, input:not([hidden]), output, [role=button], [role=img], [role=application]")]
            .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.get_attribute("html", "lang") == "en"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    pointed = page.evaluate(
        "[...document.querySelectorAll('[for], [aria-describedby], [aria-labelledby]')].flatMap((e) => ['for',"
        "'aria-describedby', 'aria-labelledby'].map((name) => e.getAttribute(name)).filter(Boolean))"
    )
    assert set(pointed) <= set(ids)


@pytest.mark.parametrize("width", [320, 375, 800])
def test_nothing_overflows_a_small_screen_and_targets_are_large(chromium: Browser, base: str, width: int) -> None:
    options = dict(viewport=dict(width=width, height=812), has_touch=True, is_mobile=True, reduced_motion="reduce")
    with watched(chromium, base, **options) as (page, complaints):
        visit(page, base, "compare=cnn&hide=2&rotate=10")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for network in ("vit", "colour"):
            page.select_option("#model", network)
            page.wait_for_selector(f"#model-facts:text('{network}')")
            wide = page.evaluate(
                """() => [...document.querySelectorAll(".card, .card *:not(.map, .hidden-text, .name, .says, svg *)")]
                    .filter((e) => e.offsetParent && e.getBoundingClientRect().right >
                        e.closest(".card").getBoundingClientRect().right + 0.5).map((e) => e.outerHTML)"""
            )
            assert wide == [], network
        page.select_option("#model", "vit")
        small = page.evaluate(
            """() => [...document.querySelectorAll("button:not(.patch), select, input[type=range], label:has(input)")]
                .filter((e) => e.offsetParent && e.getBoundingClientRect().height < 44).map((e) => e.outerHTML)"""
        )
        assert small == []
        before = bars(page)
        page.locator("#slate").tap(position={"x": 100, "y": 100})
        settle(page)
        assert bars(page) != before, "a finger draws"
        assert page.is_visible("#chip")
        assert complaints == []


def test_text_has_enough_contrast() -> None:
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3), in light and dark mode."""
    light, dark = (palette(text) for text in re.findall(r":root \{(.*?)\n *\}", (PAGE / "style.css").read_text(), re.S))
    for colours in (light, light | dark):
        for text in ("ink", "soft", "accent", "second-text", "good"):
            for ground in ("paper", "card"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
        for painted in ("mark", "second"):
            assert contrast(colours[painted], colours["card"]) >= 3.0, painted


def palette(text: str) -> dict[str, str]:
    """The six-digit colours of a block of custom properties."""
    return dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6});", text))


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG's relative luminances."""
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("path", sorted(PAGE.rglob("*.*")), ids=lambda path: path.name)
def test_the_pages_files_insert_no_markup(path: Path) -> None:
    text = path.read_text()
    for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", ' style="', "https://"):
        assert word not in text, word


# The user's own networks, and faulty sites


def test_a_users_own_network_is_opened_from_its_two_files(page: Page, base: str, site: Path) -> None:
    visit(page, base)
    folder = site / "models" / "cnn"
    page.set_input_files("#model-files", [folder / "config.json", folder / "model.safetensors"])
    page.wait_for_selector("#model-facts:text('cnn')")
    settle(page)
    assert "were not compared" in page.inner_text("#selftest")
    own = bars(page)
    visit(page, base, "model=cnn")
    assert own == bars(page)


def test_a_damaged_network_of_the_user_leaves_the_page_as_it_was(
    page: Page, base: str, site: Path, tmp_path: Path
) -> None:
    visit(page, base)
    before = bars(page)
    config = (site / "models" / "cnn" / "config.json").read_bytes()
    write_bytes(tmp_path, {"config.json": config, "model.safetensors": b"\x09" * 99, "other.json": b"{"})
    page.set_input_files("#model-files", [tmp_path / "config.json", tmp_path / "model.safetensors"])
    page.wait_for_selector("#notice:visible")
    page.set_input_files("#model-files", tmp_path / "other.json")
    page.wait_for_selector("#notice:text('is not JSON')")
    assert bars(page) == before


def test_a_network_that_is_chosen_twice_while_it_loads_is_loaded_once(page: Page, base: str) -> None:
    asked: list[Any] = []
    page.route("**/models/cnn/config.json", lambda route: asked.append(route))
    visit(page, base)
    for name in ("cnn", "finer", "cnn"):
        page.select_option("#model", name)
    page.wait_for_timeout(300)
    for route in asked:
        route.continue_()
    page.wait_for_selector("#model-facts:text('cnn')")
    assert len(asked) == 1
    assert page.is_hidden("#notice")


def test_a_network_that_does_not_load_leaves_the_one_before(page: Page, base: str, site: Path) -> None:
    (site / "models" / "alone" / "config.json").rename(site / "models" / "alone" / "away.json")
    try:
        visit(page, base)
        before = bars(page)
        page.route("**/models/alone/config.json", lambda route: route.fulfill(body="{}", content_type="text/json"))
        page.select_option("#model", "alone")
        page.wait_for_selector("#notice:visible")
        settle(page)
        assert page.input_value("#model") == "vit"
        assert bars(page) == before
    finally:
        (site / "models" / "alone" / "away.json").rename(site / "models" / "alone" / "config.json")


def test_a_network_of_an_unknown_kind_is_refused_by_name(page: Page, base: str, site: Path) -> None:
    config = json.loads((site / "models" / "finer" / "config.json").read_text())
    other = {"arch": "perceiver", "image_size": 28, "patch_size": 4, "latents": 19}  # knobs that the page does not know
    page.route("**/models/finer/config.json", lambda route: route.fulfill(json=config | {"model": other}))
    visit(page, base)
    before = bars(page)
    page.select_option("#model", "finer")
    page.wait_for_selector("#notice:visible")
    why = 'This page cannot run a network of kind "perceiver"; it knows vit, cnn and mixer.'
    assert page.inner_text("#notice") == why
    settle(page)
    assert page.input_value("#model") == "vit", "the one before"
    assert bars(page) == before


def test_without_networks_the_page_says_how_to_get_one(chromium: Browser, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "bare", ignore=shutil.ignore_patterns("models*"))
    with serve_folder(tmp_path / "bare") as base, watched(chromium, base) as (page, complaints):
        page.goto(base + "/")
        page.wait_for_selector("#notice:text('vitlab export RUN --to web')")
        page.wait_for_selector("#selftest:text('No network is loaded.')")  # the next frame
        drag(page, (30, 50), (70, 50))
        assert strokes(page) == 1, "drawing still works"
        assert [line for line in complaints if "404" not in line] == []


def test_the_page_brings_the_servers_policy_to_any_host(chromium: Browser, site: Path) -> None:
    """Except for frame-ancestors, which a page cannot set. And the browser fetches nothing from elsewhere."""
    stated = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', (PAGE / "index.html").read_text())
    assert stated is not None
    assert stated[1] + "; frame-ancestors 'none'" == POLICY
    with (
        serve_folder(site, {}) as base,
        serve_folder(site, {"Access-Control-Allow-Origin": "*"}) as elsewhere,
        watched(chromium, base, reduced_motion="reduce") as (page, complaints),
    ):
        visit(page, base, "compare=cnn")
        assert complaints == []
        fetched = f"fetch('{elsewhere}/models.json').then(() => 'fetched', () => 'refused')"
        assert page.evaluate(fetched) == "refused"
        assert any("connect-src" in complaint for complaint in complaints)


def test_opened_as_a_file_it_says_how_to_serve_it(chromium: Browser, site: Path) -> None:
    page = chromium.new_page()
    page.goto((site / "index.html").as_uri())
    page.wait_for_selector("#notice:visible")
    assert "python -m http.server" in page.inner_text("#notice")
    assert page.is_hidden("#coming")
    page.close()


def write_bytes(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


# A trained network


SEVEN = [(28, 24), (48, 24), (70, 22), (60, 42), (52, 60), (46, 82)]
THREE = [(33, 26), (48, 19), (63, 26), (61, 38), (47, 47), (63, 53), (68, 65), (59, 78), (44, 81), (31, 75)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with a network trained on MNIST for a few seconds."""
    try:
        dataset = load_dataset("mnist")
    except DataError:
        pytest.skip("no MNIST here (VITLAB_DATA)")
    run = tmp_path_factory.mktemp("runs") / "fast"
    train_run(preset_config("fast").with_knobs(epochs=0.5, threads=1), run)
    test = dataset.test
    assert test is not None
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", {"fast": (Classifier.load(run), test)})
    listed = dict(id="fast", name="fast", test_top1=0.9, train_seconds=1.0, params=3, arch="vit")
    write_json(folder / "models.json", dict(format=1, models=[listed], study=None))
    return folder


def test_drawn_digits_are_read_correctly(chromium: Browser, trained: Path) -> None:
    with serve_folder(trained) as base, watched(chromium, base, reduced_motion="reduce") as (page, complaints):
        visit(page, base)
        assert page.inner_text("#answer") == "7", "the digit that draws itself"
        for points, digit in ((SEVEN, "7"), (THREE, "3")):
            page.click("#clear")
            drag(page, *points)
            settle(page)
            assert page.inner_text("#answer") == digit
        read = []
        for digit in "0123456789":
            page.keyboard.press(digit)
            settle(page)
            read.append(page.inner_text("#answer"))
        assert sum(a == b for a, b in zip(read, "0123456789", strict=True)) >= 9, read
        assert complaints == []


SLOW = """const Quick = window.Worker;
window.Worker = class extends Quick {
    set onmessage(handler) { super.onmessage = (event) => setTimeout(() => handler(event), 300); }
};"""


def test_the_last_of_quick_changes_is_read_however_slow_the_machine(page: Page, base: str) -> None:
    """The longer questions about an earlier drawing must not replace the one that waits."""
    page.add_init_script(SLOW)
    visit(page, base)
    page.keyboard.press("7")
    page.wait_for_timeout(60)
    page.keyboard.press("4")
    page.wait_for_timeout(1000)
    settle(page)
    shown = bars(page)
    visit(page, base, page.url.partition("#")[2])
    assert bars(page) == shown
