"""The page's arithmetic in a real browser: normalisation of drawings, disturbances, resizing, GELU."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from tests.browser import serve_folder, watched
from tests.page import page_folder
from tests.papers import PAPERS, on_paper
from vitlab.look.robustness import mapped
from vitlab.predict import center_drawing, plain_drawing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WITHIN = 1e-4


@pytest.fixture(scope="module")
def page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """An empty page of a server with the page's modules; at the end it must have reported no problem."""
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", {})
    with serve_folder(folder) as base, watched(chromium, base) as (page, complaints):
        page.goto(f"{base}/engine.html")
        yield page
        assert complaints == []


def as_text(data: bytes) -> str:
    """Bytes as text that can be passed to the browser."""
    return base64.b64encode(data).decode()


BYTES = "(text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))"

DRAWINGS = f"""async ([text, width, height, channels]) => {{
    const {{ centerDrawing, plainDrawing }} = await import("/net/drawing.js");
    const picture = {{ width, height, channels, pixels: ({BYTES})(text) }};
    return [centerDrawing, plainDrawing].map((shape) => {{
        const {{ inverted, box, scaled, placed, reason }} = shape(picture);
        const size = scaled && [scaled.height, scaled.width];
        const pixels = scaled && Array.from(scaled.pixels);
        return {{ inverted, box, reason, size, scaled: pixels, placed: Array.from(placed) }};
    }});
}}"""


def strokes(draw: np.random.Generator, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A polygon drawn with a round pen of any thickness, soft at its edge."""
    corners = draw.random((4, 2)) * (width, height)
    along = np.linspace(0, 1, 60)[:, None]
    line = np.concatenate([a + along * (b - a) for a, b in pairwise(corners)])
    rows, columns = np.mgrid[:height, :width] + 0.5
    distance = np.min(np.hypot(columns[..., None] - line[:, 0], rows[..., None] - line[:, 1]), axis=-1)
    ink = np.clip(draw.uniform(0.8, 0.05 * width + 1.5) - distance, 0, 1) * draw.uniform(60, 255)
    grey: npt.NDArray[np.uint8] = ink.astype(np.uint8)
    return grey


def drawings() -> Iterator[npt.NDArray[np.uint8]]:
    """Strokes on canvases of many sizes, both polarities; and shapes that lie exactly between two places."""
    draw = np.random.default_rng(0)
    for number in range(24):
        grey = strokes(draw, *draw.integers(9, 110, 2))
        yield 255 - grey if number % 3 == 0 else grey
    for side in (20, 40, 42, 100):
        square = np.zeros((140, 131), np.uint8)
        square[7 : 7 + side, 3 : 3 + side // 2] = 200
        yield square
    rows, columns = np.mgrid[:140, :140]
    for side in (27, 61, 110):  # discs: their sums are the same, up to the last bit, on both sides of the middle
        for middle in (69.0, 69.5):
            disc = side / 2 - np.hypot(rows - middle, columns - 64.5)
            yield (255 * np.clip(disc, 0, 1)).astype(np.uint8)
    yield from (np.zeros((28, 28), np.uint8), np.full((1, 1), 255, np.uint8), np.full((3, 1), 77, np.uint8))
    yield np.eye(13, dtype=np.uint8) * 20
    yield np.eye(13, dtype=np.uint8) * 19  # one below ink
    yield strokes(draw, 701, 587)  # larger than what ink is looked for in
    wide = np.zeros((601, 1009), np.uint8)
    wide[500:543, 31:101] = strokes(draw, 70, 43)  # small in a large picture: looked at again
    yield wide
    placed = center_drawing(strokes(draw, 61, 53)).placed
    yield from (placed, 255 - placed)  # comes back as it is
    for paper in PAPERS:
        for number in range(2):
            yield on_paper(paper, seed=number)


def test_a_drawing_becomes_what_python_makes_of_it(page: Page) -> None:
    for grey in drawings():
        height, width, channels = (*grey.shape, 1)[:3]
        result = page.evaluate(DRAWINGS, [as_text(grey.tobytes()), width, height, channels])
        for steps, answer in zip((center_drawing(grey), plain_drawing(grey)), result, strict=True):
            assert (answer["inverted"], answer["reason"]) == (steps.inverted, steps.reason)
            assert answer["box"] == (None if steps.box is None else list(steps.box))
            if steps.box is not None:
                assert answer["size"] == list(steps.scaled.shape)
                assert np.abs(np.array(answer["scaled"]) - steps.scaled.astype(int).ravel()).max() <= 1
            assert np.abs(np.array(answer["placed"]) - steps.placed.astype(int).ravel()).max() <= 1


@pytest.mark.parametrize(("degrees", "right"), [(0.0, 2.0), (0.0, -1.3), (17.0, 0.0), (-90.0, 0.0), (200.0, 3.7)])
def test_a_turned_and_shifted_image(degrees: float, right: float, page: Page) -> None:
    image = torch.rand(1, 3, 13, 13, generator=torch.Generator().manual_seed(1))
    result = page.evaluate(
        """async ([image, degrees, right]) => {
            const { mapped } = await import("/net/disturb.js");
            return Array.from(mapped(Float32Array.from(image), 3, 13, degrees, right));
        }""",
        [image.flatten().tolist(), degrees, right],
    )
    torch.testing.assert_close(torch.tensor(result), mapped(image, degrees, right).flatten(), rtol=0.0, atol=WITHIN)


@pytest.mark.parametrize(("height", "width", "size"), [(11, 7, 29), (31, 37, 13), (1, 1, 5), (8, 8, 8)])
def test_an_image_is_resized_as_torch_does_it(height: int, width: int, size: int, page: Page) -> None:
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2))
    result = page.evaluate(
        """async ([image, width, height, size]) => {
            const { resizeBilinear } = await import("/net/preprocess.js");
            return Array.from(resizeBilinear(Float32Array.from(image), 3, width, height, size));
        }""",
        [image.flatten().tolist(), width, height, size],
    )
    expected = F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False, antialias=False)
    torch.testing.assert_close(torch.tensor(result), expected.flatten(), rtol=0.0, atol=1e-5)


def test_noise_is_normal_clipped_and_always_the_same(page: Page) -> None:
    first, second, wide = page.evaluate("""async () => {
        const { noisy } = await import("/net/disturb.js");
        const grey = new Float32Array(40_000).fill(0.5);
        return [noisy(grey, 0.1), noisy(grey, 0.1), noisy(grey, 2)].map((image) => Array.from(image));
    }""")
    assert first == second
    assert np.mean(first) == pytest.approx(0.5, abs=0.002)
    assert np.std(first) == pytest.approx(0.1, abs=0.002)
    assert np.mean(np.abs(np.array(first) - 0.5) < 0.1) == pytest.approx(0.683, abs=0.01)  # one standard deviation
    assert np.abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.02
    assert (min(wide), max(wide)) == (0.0, 1.0)


def test_gelu_to_the_last_digits(page: Page) -> None:
    x = torch.cat([torch.linspace(-9, 9, 4001), torch.tensor([0.0, -6.5, 6.5, 1e-8, -1e30, 1e30])])
    result = page.evaluate(
        """async (numbers) => {
            const { gelu } = await import("/net/gelu.js");
            const x = Float32Array.from(numbers);
            gelu(x, x.length);
            return Array.from(x);
        }""",
        x.tolist(),
    )
    expected = F.gelu(x.double())
    torch.testing.assert_close(torch.tensor(result, dtype=torch.float64), expected, rtol=1e-7, atol=1e-9)
