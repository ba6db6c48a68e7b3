"""The page's colours against those of the pictures: one quantity has one colour everywhere."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import Colormap, to_rgb

from tests.browser import serve_folder, watched
from tests.page import page_folder
from vitlab.look.style import LOOKED, NEEDED, SERIES, attention_norm, fall_norm

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGE = Path(__file__).parents[1] / "src" / "vitlab" / "page"
FINE = 101  # places of a scale that are compared: every hundredth, so the stops are among them
BYTE = 1 / 255


def constant(name: str) -> str:
    """The text of a list in colour.js."""
    found = re.search(rf"const {name} = \[\n(.*?)\n\];", (PAGE / "colour.js").read_text(), re.S)
    assert found is not None, name
    return found[1]


def assert_same_scale(places: list[float], colours: list[str], expected: Colormap) -> None:
    """Colours between these stops are those of the colour map, everywhere."""
    assert places == sorted(places)
    rgb = np.array([to_rgb(colour) for colour in colours])
    fine = np.linspace(0, 1, FINE)
    got = np.stack([np.interp(fine, places, rgb[:, c]) for c in range(3)], axis=1)
    assert np.abs(got - expected.resampled(FINE)(range(FINE))[:, :3]).max() < BYTE


def test_attention_has_the_colours_of_the_pictures() -> None:
    stops = re.findall(r'\[([\d.]+), "(#[0-9a-f]{6})"\]', constant("LOOKED"))
    assert_same_scale([float(place) for place, _ in stops], [colour for _, colour in stops], LOOKED)


def test_changes_of_probability_have_the_colours_of_the_pictures() -> None:
    assert mpl.colormaps["RdBu_r"] == NEEDED
    colours = re.findall(r'"(#[0-9a-f]{6})"', constant("NEEDED"))
    assert_same_scale(np.linspace(0, 1, len(colours)).tolist(), colours, NEEDED)


def test_the_two_networks_have_the_first_two_colours_of_a_series() -> None:
    """The same colour in light mode; in dark mode a lighter one of the same hue."""
    light, dark = re.findall(r":root \{(.*?)\n *\}", (PAGE / "style.css").read_text(), re.S)
    for name, reference in zip(("accent", "second"), SERIES, strict=False):
        assert variable(light, name) == reference.lower()
        assert hue(variable(dark, name)) == pytest.approx(hue(reference), abs=3)
    for block in (light, dark):
        assert hue(variable(block, "second-text")) == pytest.approx(hue(SERIES[1]), abs=3)


def variable(block: str, name: str) -> str:
    """A custom property's colour."""
    found = re.search(rf"--{name}: (#[0-9a-f]{{6}});", block)
    assert found is not None, name
    return found[1]


def hue(colour: str) -> float:
    """In degrees."""
    return 360 * colorsys.rgb_to_hls(*to_rgb(colour))[0]


@pytest.fixture(scope="module")
def page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """An empty page with the page's modules."""
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", {})
    with serve_folder(folder) as base, watched(chromium, base) as (page, complaints):
        page.goto(f"{base}/engine.html")
        yield page
        assert complaints == []


def test_the_scales_are_anchored_where_the_pictures_are(page: Page) -> None:
    """An even share is white; nothing, 2, 4 and 8 shares and changes by 0 and 100 points are at known places."""
    shares, falls = page.evaluate(
        """async ([shares, falls]) => {
            const { attentionColour, fallColour } = await import("/colour.js");
            return [shares.map((share) => attentionColour(share / 49, 49)), falls.map(fallColour)];
        }""",
        [[0, 0.5, 1, 2, 4, 8, 20], [-1, -0.25, 0, 0.25, 1]],
    )
    assert shares[2] == [255, 255, 255]
    places = [0, 0.25, 0.5, 2 / 3, 5 / 6, 1, 1]
    assert_colours(shares, LOOKED, places)
    assert np.asarray(attention_norm()([0, 0.5, 1, 2, 4, 8, 20])).tolist() == pytest.approx(places), (
        "as in the pictures"
    )
    assert_colours(falls, NEEDED, [0, 0.25, 0.5, 0.75, 1])
    assert np.asarray(fall_norm()([-1, -0.25, 0, 0.25, 1])).tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def assert_colours(got: list[list[int]], scale: Colormap, places: list[float]) -> None:
    expected = scale.resampled(2401)(np.round(2400 * np.array(places)).astype(int))[:, :3]
    assert np.abs(np.array(got) * BYTE - expected).max() < 1.5 * BYTE


def test_a_drawing_over_a_map_leaves_its_colours(page: Page) -> None:
    """In the middle of every patch, under thick ink, with none, and with colours: the same pixel."""
    centres = page.evaluate(
        """async () => {
            const { paintMap } = await import("/panels/maps.js");
            const { attentionColour } = await import("/colour.js");
            const squares = { grid: 4, side: 7, margin: 0, size: 28 };
            const shares = Float32Array.from({ length: 16 }, (_, i) => i / 64);
            const colour = (share) => attentionColour(share, 16);
            const disc = (x, y) => (Math.hypot(x - 14, y - 14) < 11 ? 1 : 0);
            const grey = Float32Array.from({ length: 784 }, (_, i) => disc(i % 28, Math.floor(i / 28)));
            const photo = Float32Array.from({ length: 3 * 784 }, (_, i) => (i % 17) / 17);
            return [[grey, 1], [new Float32Array(784), 1], [photo, 3]].map(([image, channels]) => {
                const canvas = document.createElement("canvas");
                paintMap(canvas, shares, colour, { squares, image, channels, mark: null, hidden: [], side: 280 });
                const { data } = canvas.getContext("2d").getImageData(0, 0, 280, 280);
                const at = (i) => 4 * (280 * (35 + 70 * Math.floor(i / 4)) + 35 + 70 * (i % 4));
                return [...shares].map((_, i) => [...data.slice(at(i), at(i) + 4)]);
            });
        }"""
    )
    assert centres[0] == centres[1] == centres[2]
