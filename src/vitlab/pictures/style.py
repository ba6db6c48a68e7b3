"""What all pictures share: colours, sizes, mosaics of small images, and the bytes of a figure.

Letters in names: N images, S side in pixels, C channels, R rows and Q columns of a mosaic.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Figure  # for those who hold figures without drawing them
from matplotlib.layout_engine import ConstrainedLayoutEngine

Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[Any]  # uint8 in 0..255, or floating in 0..1
P = ParamSpec("P")

# Okabe and Ito 2008, "Color Universal Design": told apart by almost everybody, also in grey.
BLUE, ORANGE, GREEN, PURPLE, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
FLOOR = 0.01  # percent: where an error of 0 is drawn on a logarithmic axis
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY, PALE, INK = "0.55", "0.88", "0.15"
DPI = 130
PAD = 0.07  # inches around every plot
WIDTH = 8.0  # inches, of a picture as wide as a page

# Comes with matplotlib, so that pictures look the same everywhere; the others help out with letters that it lacks.
FONT = "DejaVu Sans"
HELPERS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Arial Unicode MS", "Noto Sans Devanagari"),
)


def helping(wanted: Sequence[str], there: Sequence[str]) -> list[str]:
    """The font and those of ``wanted`` that are ``there``."""
    return [FONT, *(name for name in wanted if name in there)]


FAMILIES = helping(HELPERS, font_manager.get_font_names())
STYLE: Any = {
    "font.family": FAMILIES,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": False,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "image.cmap": "gray",
    "svg.hashsalt": "vitlab",  # the same picture is the same file
    "savefig.dpi": DPI,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A picture's function, drawing in the house's style whatever the process has set."""
    decorated: Callable[P, Figure] = mpl.rc_context(STYLE)(draw)
    return decorated


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that finds its own margins."""
    layout = ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")


def to_bytes(figure: Figure, kind: Literal["png", "svg"] = "png") -> bytes:
    """The figure as a file's bytes, which are the same for the same figure."""
    out = io.BytesIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a class may be named in any script
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


def undrawable(names: Sequence[str]) -> str:
    """The letters of ``names`` that no font of FAMILIES has, each once; they become boxes."""
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in FAMILIES]
    known = set().union(*(font.get_charmap() for font in fonts))
    return "".join(sorted({letter for name in names for letter in name if letter.isprintable()} - set(map(chr, known))))


def in_unit(images: Pixels) -> Floats:
    """uint8 pixels to 0..1; others clipped into it."""
    return images / np.float32(255) if images.dtype == np.uint8 else np.clip(images, 0.0, 1.0).astype(np.float32)


def as_colour(images: Pixels) -> Floats:
    """[..., 1 or 3] -> [..., 3] in 0..1."""
    unit = in_unit(images)
    return np.repeat(unit, 3, axis=-1) if unit.shape[-1] == 1 else unit


def mosaic(images_RQSSC: Pixels, gap: int, beside: int | None = None) -> Floats:
    """Images in rows and columns on white with ``gap`` pixels between them, ``beside`` each other if that is another
    number: [height, width, 3]."""
    rows, columns, height, width = images_RQSSC.shape[:4]
    beside = gap if beside is None else beside
    out = np.ones((rows * (height + gap) - gap, columns * (width + beside) - beside, 3), np.float32)
    colours = as_colour(images_RQSSC)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + gap), column * (width + beside)
            out[top : top + height, left : left + width] = colours[row, column]
    return out


def fill_rows(images_NSSC: Pixels, columns: int) -> Pixels:
    """[N, S, S, C] -> [R, columns, S, S, C], the last row filled up with white."""
    missing = -len(images_NSSC) % columns
    white = np.full((missing, *images_NSSC.shape[1:]), 255 if images_NSSC.dtype == np.uint8 else 1, images_NSSC.dtype)
    return np.concatenate([images_NSSC, white]).reshape(-1, columns, *images_NSSC.shape[1:])


def show_pixels(axes: Axes, image: Pixels, **options: Any) -> None:
    """An image without axes, every pixel a sharp square."""
    axes.imshow(as_colour(image) if image.ndim == 3 else image, interpolation="nearest", **options)
    axes.set_axis_off()


def centres(count: int, side: int, gap: int) -> Floats:
    """Where the middles of a mosaic's rows or columns are, in its pixels."""
    return np.arange(count) * (side + gap) + (side - 1) / 2


def label_mosaic(axes: Axes, rows: Sequence[str], columns: Sequence[str], sides: tuple[int, int], gap: int) -> None:
    """Names to the left of a mosaic's rows and above its columns, in place of ticks."""
    axes.set_axis_on()
    axes.spines[:].set_visible(False)
    axes.set_yticks(centres(len(rows), sides[0], gap), rows)
    axes.set_xticks(centres(len(columns), sides[1], gap), columns)
    axes.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)


def plain(name: str) -> str:
    """A name from outside as matplotlib shows it: a dollar would begin a formula, a first underscore hides a label."""
    return (" " + name if name.startswith("_") else name).replace("$", r"\$")


def with_article(name: str, article: str = "a") -> str:
    """A cat, an owl, an 8: for names that are read aloud."""
    spoken = name.lower()
    vowel = spoken[:1] in tuple("aeio8") or spoken in ("11", "18")
    return f"{article}{'n' if vowel else ''} {name}"


def short(name: str, most: int = 14) -> str:
    """A class's name, cut where it is too long for its place."""
    return plain(name if len(name) <= most else name[: most - 1] + "…")


def run_name(name: str, most: int = 34) -> str:
    """A run's name, cut in its middle where it is too long for a legend: names often differ at their ends."""
    half = (most - 1) // 2
    return plain(name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}")


def accuracy_axis(axes: Axes, errors: Sequence[float]) -> None:
    """The y axis of a plot of errors in percent, drawn as accuracy: from 99 to 99.9 as far as from 90 to 99."""
    some = [error for error in errors if error > 0]
    low, high = (min(some), max(some)) if some else (0.1, 10.0)
    axes.set_yscale("log")
    axes.set_ylim(min(100.0, high * 1.25), low / 1.25)
    steps = [100, 80, 60, 40, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01]
    axes.set_yticks([step for step in steps if low / 1.25 <= step <= high * 1.25], minor=False)
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda error, _: f"{'≥' if error <= FLOOR else ''}{100 - error:.4g}")
    axes.grid(axis="y")


def log_time_axis(axes: Axes, times: Sequence[float]) -> None:
    """A logarithmic x axis of seconds with plain numbers, not too many."""
    axes.set_xscale("log")
    digits = "125" if max(times) > 10 * min(times) else "123456789"
    for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in digits else "")
