"""What all figures share: colours, fonts, sizes, mosaics of small images, and a figure as bytes.

Letters in names: N images, S side in pixels, C channels, R rows and Q columns of a mosaic.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from vitlab.data.view import view
from vitlab.text import printable

Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[Any]  # uint8 in 0..255, or floating in 0..1


# Okabe and Ito 2008, "Color Universal Design": distinguishable with any colour vision, also in grey.
BLUE, ORANGE, GREEN, PURPLE, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
SOFTWARE = "vitlab"  # what a PNG says it was made by
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY, PALE, INK = "0.55", "0.88", "0.15"
# Attention: white is uniform, blue less, orange and red more. Deletion: red where the probability falls, blue where it
# rises.
LOOKED = LinearSegmentedColormap.from_list(
    "looked", [(0.0, "#b9cfe4"), (0.5, "#ffffff"), (0.66, "#fdc171"), (0.83, "#ea5a33"), (1.0, "#8f0a0a")]
)
NEEDED = mpl.colormaps["RdBu_r"]
MOST_SHARES = 8.0  # where the scale of attention ends
DPI = 130
PAD = 0.07  # inches around every plot
WIDTH = 8.0  # inches, of a figure as wide as the page
COLUMN = 5.2  # inches, of a figure of half that width

# Comes with matplotlib, so figures look the same everywhere; the others add letters that it lacks.
FONT = "DejaVu Sans"
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Arial Unicode MS", "Noto Sans Devanagari"),
)


def families(fallbacks: Sequence[str], installed: Sequence[str]) -> list[str]:
    """The font, and the fallbacks that are installed."""
    return [FONT, *(name for name in fallbacks if name in installed)]


FAMILIES = families(FALLBACKS, font_manager.get_font_names())
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
    "svg.hashsalt": "vitlab",  # the same figure gives the same file
    "savefig.dpi": DPI,
}
WINDOWS = ("backend", "interactive", "keymap", "macosx", "tk", "toolbar", "webagg")  # no matter of figures in files


def whole_style() -> Any:
    """STYLE over matplotlib's own defaults, so that neither a matplotlibrc nor the process changes a figure."""
    return {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith(WINDOWS)} | STYLE


applied = mpl.rc_context(whole_style())  # decorates a function that draws


class ShownFigure(Figure):
    """A figure that a notebook shows as it is: matplotlib teaches notebooks that only when pyplot is imported."""

    def _repr_png_(self) -> bytes:
        return to_bytes(self)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, with automatic margins."""
    layout = ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD)
    return ShownFigure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")


def subplots(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A new figure and its axes, as `pyplot.subplots` returns them."""
    figure = new_figure(width, height)
    return figure, figure.subplots(rows, columns, **options)


def is_ours(picture: bytes) -> bool:
    """Whether `to_bytes` made this PNG."""
    return f"tEXtSoftware\0{SOFTWARE}".encode() in picture[:1000]


def to_bytes(figure: Figure, kind: str = "png") -> bytes:
    """The figure as a file's bytes; the same figure gives the same bytes."""
    out = io.BytesIO()
    with mpl.rc_context(whole_style()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # class names may be in any script
        metadata = {"Date": None} if kind == "svg" else {"Software": SOFTWARE}
        figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


def undrawable(names: Sequence[str]) -> str:
    """The letters of ``names`` that no font of FAMILIES has, each once; they are drawn as boxes."""
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in FAMILIES]
    known = set().union(*(font.get_charmap() for font in fonts))
    return "".join(sorted({letter for name in names for letter in name if letter.isprintable()} - set(map(chr, known))))


def as_colour(images: Pixels) -> Floats:
    """[..., C], uint8, uint16 or floating -> [..., 3] in 0..1, clipped: what `view` shows of them."""
    images = view(images)
    unit = images / np.float32(255) if images.dtype == np.uint8 else np.clip(images, 0.0, 1.0).astype(np.float32)
    return np.repeat(unit, 3, axis=-1) if unit.shape[-1] == 1 else unit


def mosaic(images_RQSSC: Pixels, gap: int, gap_across: int | None = None) -> Floats:
    """Images in rows and columns on white, ``gap`` pixels apart, ``gap_across`` between columns if that differs:
    [height, width, 3]."""
    rows, columns, height, width = images_RQSSC.shape[:4]
    across = gap if gap_across is None else gap_across
    margins = ((0, 0), (0, 0), (0, gap), (0, across), (0, 0))
    cells = np.pad(as_colour(images_RQSSC), margins, constant_values=1).swapaxes(1, 2)
    return cells.reshape(rows * (height + gap), columns * (width + across), 3)[:-gap, :-across]


def fill_rows(images_NSSC: Pixels, columns: int) -> Pixels:
    """[N, S, S, C] -> [R, columns, S, S, 1 or 3]; white fills the last row."""
    images_NSSC = view(images_NSSC)
    missing = -len(images_NSSC) % columns
    white = np.full((missing, *images_NSSC.shape[1:]), 255 if images_NSSC.dtype == np.uint8 else 1, images_NSSC.dtype)
    return np.concatenate([images_NSSC, white]).reshape(-1, columns, *images_NSSC.shape[1:])


def attention_norm() -> FuncNorm:
    """The scale of attention in multiples of uniform attention, the same in every picture and on the page: from 0 to 1
    in proportion, from 1 to MOST_SHARES by the logarithm."""

    def place(shares: Floats) -> Floats:
        above = np.log(np.maximum(shares, 1.0)) / math.log(MOST_SHARES)
        placed: Floats = 0.5 + 0.5 * np.where(np.asarray(shares) <= 1.0, np.asarray(shares) - 1.0, above)
        return placed

    def shares(place: Floats) -> Floats:
        back: Floats = np.where(place <= 0.5, 2.0 * place, MOST_SHARES ** (2.0 * place - 1.0))
        return back

    return FuncNorm((place, shares), 0.0, MOST_SHARES, clip=True)


def fall_norm() -> FuncNorm:
    """The scale of falls of probability, -1 to 1, the same in every picture and on the page: the signed root, so that
    small ones show."""

    def place(falls: Floats) -> Floats:
        root: Floats = np.sign(falls) * np.sqrt(np.abs(falls))
        return root

    def falls(root: Floats) -> Floats:
        square: Floats = np.sign(root) * np.square(root)
        return square

    return FuncNorm((place, falls), -1.0, 1.0, clip=True)


def show_pixels(axes: Axes, image: Pixels) -> None:
    """An image without axes, every pixel a sharp square."""
    axes.imshow(as_colour(image), interpolation="nearest")
    axes.set_axis_off()


def outline(axes: Axes, image_SSC: Pixels, left: float = 0, top: float = 0) -> None:
    """A thin line around the drawing in a grey image [S, S, 1] whose first pixel is at (left, top). A colour image has
    no outline."""
    if image_SSC.shape[-1] != 1 or not np.ptp(image_SSC):
        return
    light = image_SSC[..., 0].astype(np.float64)
    height, width = light.shape
    middle = (light.min() + light.max()) / 2
    axes.contour(
        left + np.arange(width), top + np.arange(height), light, [middle], colors=INK, linewidths=0.7, alpha=0.8
    )


def centres(count: int, side: int, gap: int) -> Floats:
    """The centres of a mosaic's rows or columns, in its pixels."""
    return np.arange(count) * (side + gap) + (side - 1) / 2


def label_mosaic(axes: Axes, rows: Sequence[str], columns: Sequence[str], sides: tuple[int, int], gap: int) -> None:
    """Names to the left of a mosaic's rows and above its columns, as ticks; ``sides`` are an image's height, width."""
    axes.set_axis_on()
    axes.spines[:].set_visible(False)
    axes.set_yticks(centres(len(rows), sides[0], gap), rows)
    axes.set_xticks(centres(len(columns), sides[1], gap), columns)
    axes.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)


def escaped(name: str) -> str:
    """A user's name for matplotlib, where a dollar starts a formula and a first underscore hides a label."""
    return printable(" " + name if name.startswith("_") else name).replace("$", r"\$")


def short(name: str, most: int = 14) -> str:
    """A class name, cut at the end if it is too long."""
    return escaped(name if len(name) <= most else name[: most - 1] + "…")


def run_name(name: str, most: int = 34) -> str:
    """A run's name, cut in the middle if it is too long: names often differ at their ends."""
    half = (most - 1) // 2
    return escaped(name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}")
