"""Make the README's moving picture from a trained run: `python -m docs.make_moving_picture runs/SMALL`.

A 7 is drawn, cut into patches, and read; attention and probabilities are those of the run's own network. The first
frame is the last one again, so that a viewer that does not play shows the complete picture.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from scipy.interpolate import CubicSpline

from vitlab.look import style
from vitlab.look.attention import relative
from vitlab.look.inside import logit_lens
from vitlab.look.style import LOOKED, Floats, Pixels
from vitlab.model import ViT
from vitlab.predict import Classifier

PICTURE = Path(__file__).with_name("pictures") / "reads-a-seven.gif"
WIDTH, HEIGHT, SHARP = 1200, 444, 2  # pixels; drawn SHARP times as large, then reduced
SIDE, LEFT, STEP, TOP = 256, 40, 288, 84  # of the four squares: side, first left edge, distance, upper edge
PATCH, GAP = 32, 4  # of the cut picture
PAPER, CARD, INK, SOFT, LINE = "#f4f2ec", "#fffefb", "#1b2430", "#56606e", "#dedacf"
ACCENT, MARK, WARM, SLATE, FAINT = "#0072b2", "#d6257f", (234, 90, 51), "#0b0b12", "#b9b6ac"
SEVEN = ((30, 25), (48, 24), (69, 22), (61, 40), (52, 58), (46, 81))  # in hundredths of the side: the page's own 7
PEN = 0.085  # of the side
QUERIES = (16, 18, 25, 38, 19)  # patches whose attention is shown: along the stroke and back to its corner
LINKS = 7  # strongest patches to which lines are drawn
COLOURS = 128
HEADINGS = ("Draw", "Patches", "Attention", "Answer")
CAPTIONS = (
    "Draw a digit,\nhere a 7.",
    "The network cuts it\ninto 49 patches.",
    "Lines: where the\nmarked patch looks most.",
    "All patches together\ngive the answer.",
)
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Reading:
    """What the network saw and did: its input, uint8 [28, 28]; attention of the last block in multiples of an even
    share, mean over its heads, [49, 7, 7]; class probabilities after the embedding and after each block, [3, 10]."""

    pixels: Pixels
    attention: Floats
    answers: Floats


@dataclass(frozen=True)
class Scene:
    """One frame: which of the four steps have begun, how much of each is done (0 to 1), and its time in ms."""

    step: int
    drawn: float = 1.0
    moved: float = 1.0
    apart: float = 1.0
    query: int = len(QUERIES) - 1
    links: float = 1.0
    answer: float = 2.0
    milliseconds: int = 60


def scenes() -> Iterator[Scene]:
    """The whole story, once."""
    complete = Scene(4)
    yield replace(complete, milliseconds=2200)
    yield Scene(0, drawn=0.0, milliseconds=400)
    yield from (Scene(1, drawn=part) for part in eased(24))
    yield Scene(1, milliseconds=450)
    yield from (Scene(2, moved=part, apart=0.0) for part in eased(9))
    yield Scene(2, apart=0.0, milliseconds=400)
    yield from (Scene(2, apart=part) for part in eased(8))
    yield Scene(2, milliseconds=700)
    for query in range(len(QUERIES)):
        yield from (Scene(3, query=query, links=part) for part in eased(6))
        yield Scene(3, query=query, milliseconds=450)
    yield Scene(4, answer=0.0, milliseconds=450)
    for block in (0, 1):
        yield from (Scene(4, answer=block + part) for part in eased(6))
        yield Scene(4, answer=block + 1.0, milliseconds=450)
    yield replace(complete, milliseconds=800)


def eased(frames: int) -> list[float]:
    """From a little above 0 to 1, slower at both ends."""
    return [0.5 - 0.5 * float(np.cos(np.pi * frame / frames)) for frame in range(1, frames + 1)]


def stroke(part: float, side: float) -> list[tuple[float, float]]:
    """The first ``part`` of the 7, in a square of this side."""
    places = np.array(SEVEN) / 100
    at = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(places, axis=0).T))])
    curve = CubicSpline(at, places)(np.linspace(0, part * at[-1], 2 + round(120 * part)))
    return [(side * float(x), side * float(y)) for x, y in curve]


def pen_line(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], width: float, colour: str) -> None:
    """A line with round ends and joints."""
    draw.line(points, fill=colour, width=round(width))
    for x, y in points:
        draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=colour)


def read(run: Path) -> Reading:
    """Draws the whole 7 and lets the run's network read it, in fp32."""
    classifier = Classifier.load(run)
    model = classifier.model
    picture = Image.new("L", (280, 280))
    pen_line(ImageDraw.Draw(picture), stroke(1.0, 280), 280 * PEN, "white")
    image = classifier.prepare(picture)
    inputs = classifier.preprocess(image)
    if not isinstance(model, ViT) or model.config.grid != 7:
        raise SystemExit("the run must be a ViT with 7 x 7 patches, such as `small` trained on mnist")
    with torch.inference_mode():
        weights_LBhNN = model.forward_with_attention(inputs)[1]
    weights_pp = weights_LBhNN[-1, 0].float().mean(dim=0)
    return Reading(image[0, :, :, 0].numpy(), relative(weights_pp), logit_lens(model, inputs)[:, 0].numpy())


@cache
def font(size: float, serif: bool = False, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib, so that the picture is the same everywhere."""
    family = "DejaVu Serif" if serif else "DejaVu Sans"
    path = font_manager.findfont(font_manager.FontProperties(family=family, weight="bold" if bold else "normal"))
    return ImageFont.truetype(path, round(size * SHARP))


class Canvas:
    """Draws in the picture's pixels; the image is SHARP times as large."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH * SHARP, HEIGHT * SHARP), PAPER)
        self.draw = ImageDraw.Draw(self.image, "RGBA")

    def text(
        self, x: float, y: float, text: str, size: float, colour: str, anchor: str = "la", bold: bool = False
    ) -> None:
        self.draw.text((x * SHARP, y * SHARP), text, colour, font(size, bold=bold), anchor, spacing=8)

    def box(self, box: Box, fill: str | None, radius: float = 0, edge: str | None = None, width: float = 1) -> None:
        scaled = tuple(round(side * SHARP) for side in box)
        self.draw.rounded_rectangle(scaled, radius * SHARP, fill, edge, round(width * SHARP))

    def paste(self, pixels: npt.NDArray[np.uint8], box: Box) -> None:
        left, top, right, bottom = (round(side * SHARP) for side in box)
        size = (right - left, bottom - top)
        self.image.paste(Image.fromarray(pixels).convert("RGB").resize(size, Image.Resampling.NEAREST), (left, top))

    def curve(
        self, start: tuple[float, float], end: tuple[float, float], width: float, colour: tuple[int, ...]
    ) -> None:
        """An arc from start to end, bent to one side."""
        (ax, ay), (bx, by) = start, end
        mx, my = (ax + bx) / 2 + 0.22 * (by - ay), (ay + by) / 2 - 0.22 * (bx - ax)
        t = np.linspace(0, 1, 40)[:, np.newaxis]
        points = (1 - t) ** 2 * (ax, ay) + 2 * t * (1 - t) * (mx, my) + t**2 * (bx, by)
        scaled = [(SHARP * float(x), SHARP * float(y)) for x, y in points]
        self.draw.line(scaled, fill=colour, width=max(1, round(width * SHARP)), joint="curve")

    def finished(self) -> Image.Image:
        return self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def square(step: int) -> tuple[float, float]:
    """The upper left corner of the square of a step, counted from 0."""
    return LEFT + step * STEP, TOP


def draw_frame(scene: Scene, reading: Reading) -> Image.Image:
    """One frame."""
    canvas = Canvas()
    draw_words(canvas, scene)
    draw_pad(canvas, scene)
    if scene.step >= 2:
        draw_patches(canvas, scene, reading)
    if scene.step >= 3:
        draw_attention(canvas, scene, reading)
    if scene.step >= 4:
        draw_answer(canvas, scene, reading)
    return canvas.finished()


def draw_words(canvas: Canvas, scene: Scene) -> None:
    """Headings, captions and empty squares."""
    for step, (heading, caption) in enumerate(zip(HEADINGS, CAPTIONS, strict=True)):
        begun = step < scene.step
        x, y = square(step)
        canvas.box((x, 24, x + 40, 64), ACCENT if begun else FAINT, radius=20)
        canvas.text(x + 20, 44, str(step + 1), 22, "white", "mm", bold=True)
        title = font(29, serif=True, bold=True)
        canvas.draw.text(((x + 54) * SHARP, 44 * SHARP), heading, fill=INK if begun else FAINT, font=title, anchor="lm")
        canvas.box((x, y, x + SIDE, y + SIDE), CARD, radius=10, edge=LINE, width=1.5)
        if begun:
            canvas.text(x, y + SIDE + 20, caption, 20.5, SOFT)


def draw_pad(canvas: Canvas, scene: Scene) -> None:
    """The drawing area, with the pen while it moves."""
    x, y = square(0)
    canvas.box((x, y, x + SIDE, y + SIDE), SLATE, radius=10)
    if scene.drawn == 0:
        return
    points = [((x + px) * SHARP, (y + py) * SHARP) for px, py in stroke(scene.drawn, SIDE)]
    pen_line(canvas.draw, points, SIDE * PEN * SHARP, "#fffefb")
    if scene.drawn < 1:
        px, py = points[-1]
        ring = 17 * SHARP
        canvas.draw.ellipse((px - ring, py - ring, px + ring, py + ring), outline=MARK, width=3 * SHARP)


def patch_boxes(left: float, top: float, gap: float) -> list[Box]:
    """Where the 49 patches lie, with this gap between them, in the middle of a square."""
    start = (SIDE - 7 * PATCH - 6 * gap) / 2
    places = [start + number * (PATCH + gap) for number in range(7)]
    return [(left + x, top + y, left + x + PATCH, top + y + PATCH) for y in places for x in places]


def draw_patches(canvas: Canvas, scene: Scene, reading: Reading) -> None:
    """The network's input on its way from the drawing area, then its patches as they move apart."""
    (from_x, y), (to_x, _) = square(0), square(1)
    boxes = patch_boxes(from_x + scene.moved * (to_x - from_x), y, GAP * scene.apart)
    for number, box in enumerate(boxes):
        row, column = divmod(number, 7)
        canvas.paste(reading.pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4], box)
    if scene.step >= 3:
        mark(canvas, boxes[QUERIES[scene.query]])


def mark(canvas: Canvas, box: Box) -> None:
    """A frame around the patch whose attention is shown."""
    left, top, right, bottom = box
    canvas.box((left - 3, top - 3, right + 3, bottom + 3), None, radius=4, edge=MARK, width=3.5)


def draw_attention(canvas: Canvas, scene: Scene, reading: Reading) -> None:
    """How much the marked patch attends to each patch, as colours under the digit, and lines from the strongest."""
    boxes, query = patch_boxes(*square(2), GAP), QUERIES[scene.query]
    shares = reading.attention[query].flatten()
    colours = LOOKED(style.attention_norm()(shares))[:, :3]
    for number, (box, colour) in enumerate(zip(boxes, colours, strict=True)):
        row, column = divmod(number, 7)
        ink = reading.pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4, np.newaxis] / 255
        shade = (1 - scene.links) * np.array([1.0, 1.0, 1.0]) + scene.links * colour
        canvas.paste((255 * shade * (1 - 0.62 * ink)).astype(np.uint8), box)
    middles = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes]
    strongest = [int(number) for number in np.argsort(-shares) if number != query][:LINKS]
    for number in strongest:
        start, end = middles[number], middles[query]
        tip = tuple(a + scene.links * (b - a) for a, b in zip(start, end, strict=True))
        canvas.curve(start, cast(tuple[float, float], tip), 1.2 + 0.55 * min(float(shares[number]), 8.0), (*WARM, 215))
    mark(canvas, boxes[query])


def draw_answer(canvas: Canvas, scene: Scene, reading: Reading) -> None:
    """Ten bars: the probabilities after the embedding, after the first block, and at the end."""
    x, y = square(3)
    block = min(int(scene.answer), len(reading.answers) - 2)
    part = scene.answer - block
    chances = (1 - part) * reading.answers[block] + part * reading.answers[block + 1]
    best = int(chances.argmax())
    for digit, chance in enumerate(chances):
        middle = y + 19 + 24.2 * digit
        is_best = digit == best
        canvas.text(x + 20, middle, str(digit), 18, ACCENT if is_best else SOFT, "lm", bold=is_best)
        canvas.box((x + 46, middle - 8, x + 176, middle + 8), "#efede6", radius=4)
        length = 130 * float(chance)
        if length > 1:
            canvas.box((x + 46, middle - 8, x + 46 + length, middle + 8), ACCENT if is_best else "#8d949e", radius=4)
        if is_best:
            canvas.text(x + SIDE - 14, middle, f"{100 * chance:.0f} %", 18, ACCENT, "rm", bold=True)


def save(frames: list[Image.Image], milliseconds: list[int]) -> bytes:
    """An endless GIF in which all frames have one palette."""
    samples = frames[:: max(1, len(frames) // 8)]
    sheet = Image.new("RGB", (WIDTH, HEIGHT * len(samples)))
    for number, frame in enumerate(samples):
        sheet.paste(frame, (0, HEIGHT * number))
    palette = sheet.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=4)
    first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    out = io.BytesIO()
    first.save(out, "gif", save_all=True, append_images=rest, duration=milliseconds, loop=0, optimize=False)
    return out.getvalue()


def main(run: Path) -> None:
    """Write the picture."""
    reading, story = read(run), list(scenes())
    data = save([draw_frame(scene, reading) for scene in story], [scene.milliseconds for scene in story])
    PICTURE.write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
