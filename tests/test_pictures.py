"""Pictures: their layout against committed images, and what they do with data at the edges.

The images are made by `python -m tests.test_pictures`, without words, so that fonts do not matter, and small.
"""

from __future__ import annotations

import ast
import io
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import PIL.Image
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

from vitlab.look import attention, curves, images, inside, mistakes, robustness, study, style
from vitlab.look.mistakes import Mistake
from vitlab.model import Squares
from vitlab.studies.summary import Line
from vitlab.training.evaluate import Reliability

ROOT = Path(__file__).parents[1]
REFERENCES = Path(__file__).with_name("pictures")
DPI = 45
# Root mean square of grey levels, after a blur over 3 x 3 pixels: another matplotlib draws edges a little differently.
TOLERANCE = 3.0


def draw(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[Any]]:
    """Numbers in 0..1, always the same."""
    return np.random.default_rng(seed).random(shape)


def bars(count: int) -> style.Pixels:
    """Images [N, 13, 13, 1] of one bright bar, each one pixel lower."""
    images = np.zeros((count, 13, 13, 1), np.float32)
    for number in range(count):
        images[number, 3 + number : 6 + number, 2:11] = 1.0
    return images


def pixels(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 images, always the same."""
    return (255 * draw(*shape, seed=seed)).astype(np.uint8)


def tokens_of(resized: np.ndarray[Any, Any], grid: int, side: int) -> np.ndarray[Any, Any]:
    """The patches in reading order, cut by hand."""
    return np.stack(
        [resized[r * side : (r + 1) * side, c * side : (c + 1) * side] for r in range(grid) for c in range(grid)]
    )


def cut_patches() -> Figure:
    """A 13 x 13 image in 4 x 4 patches of 3 pixels, one pixel cut off."""
    ramp = np.linspace(0, 1, 13 * 13, dtype=np.float32).reshape(13, 13, 1)
    return images.draw_patches(pixels(7, 7, 1), ramp, tokens_of(ramp, 4, 3), Squares(4, 3))


def cropped_patches() -> Figure:
    """The middle 10 x 10 of a 14 x 14 image in 3 x 3 patches of 3 pixels that share 1 pixel with their neighbours."""
    return images.draw_patches(
        pixels(14, 14, 3), pixels(14, 14, 3), pixels(9, 5, 5, 3, seed=1), Squares(3, 3, 2), 1, 10
    )


def histories() -> dict[str, list[dict[str, Any]]]:
    """Two runs, the second of which diverged in its third epoch."""
    names = ("epoch", "lr", "train_loss", "val_loss", "train_top1", "val_top1", "train_seconds")
    good = [(n, 0.1 / n, 2.0 / n, 1.5 / n, 1 - 0.5 / n, 1 - 0.2 / n**2, 3.0 * n) for n in (1, 2, 3, 4, 5)]
    bad = [(1, 0.3, 2.5, 2.0, 0.4, 0.5, 2.0), (2, 0.3, 3.5, 4.0, 0.3, 0.2, 4.0), (3, 0.3, None, None, 0.1, 0.1, 6.0)]
    return {name: [dict(zip(names, row, strict=True)) for row in rows] for name, rows in (("a", good), ("b", bad))}


def counts() -> np.ndarray[Any, np.dtype[np.int64]]:
    """A confusion matrix that is nowhere symmetrical."""
    matrix = np.diag([90, 80, 70, 60, 50])
    matrix[0, 4], matrix[1, 2], matrix[3, 0], matrix[4, 1] = 9, 3, 1, 5
    return matrix


def gallery() -> Figure:
    found = [Mistake(n, n % 3, (n + 1) % 3, 1 - n / 20) for n in range(8)]
    return mistakes.draw_mistakes(pixels(8, 6, 6, 1), found, ("a", "b", "c"))


def calibration() -> Figure:
    edges = tuple(np.linspace(0, 1, 6).tolist())
    found = Reliability(edges, (0, 3, 20, 100, 400), (0.0, 0.3, 0.5, 0.7, 0.9), (0.0, 0.33, 0.7, 0.8, 0.95), 0.06)
    return mistakes.draw_reliability(found)


def heads() -> Figure:
    return attention.draw_heads(bars(1)[0], 3 * draw(2, 3, 4, 4), 2 * draw(2, 3, 4, 4, seed=1), 6, Squares(4, 3))


def needed() -> Figure:
    maps = {"one": 2 * draw(5, 4, 4), "two": 3 * draw(5, 4, 4, seed=1)}
    return attention.draw_deletion(bars(5), tuple("abcde"), maps, draw(5, 4, 4) - 0.4, Squares(4, 3))


def disturbed() -> Figure:
    strengths = (0.0, 1.0, 3.0)
    runs = {
        name: {kind: [(s, f / (1 + s)) for s in strengths] for kind in "vwxyz"} for name, f in (("a", 1.0), ("b", 0.8))
    }
    versions = dict.fromkeys("vwxyz", draw(3, 5, 5, 1))
    return robustness.draw_robustness(runs, dict.fromkeys("vwxyz", "pixels"), versions, 0.1)


def lens() -> Figure:
    layers = draw(4, 5)
    return inside.draw_lens(layers / layers.sum(1, keepdims=True), 2, tuple("abcde"), draw(4), draw(4, seed=1), 100)


def line(
    name: str,
    seconds: float,
    accuracy: float,
    interval: tuple[float, float] | None = None,
    on_front: bool = False,
    published: tuple[float, float] | None = None,
) -> Line:
    """A cell of a study of which nothing else matters."""
    return Line(
        name, {}, None, None, None, 1, {}, accuracy, None, interval, seconds, None, published, None, on_front=on_front
    )


def points() -> Figure:
    some = [line("a", 3, 90, (89, 91), True), line("b", 30, 95, (93, 96), True, (94, 60)), line("c", 31, 92)]
    return study.accuracy_against_time(some, "")


PICTURES: dict[str, Callable[[], Figure]] = {
    "patches-cut": cut_patches,
    "patches-cropped": cropped_patches,
    "examples": lambda: images.draw_examples(pixels(30, 5, 5, 1), np.arange(30) % 4, tuple("abcd")),
    "training": lambda: curves.draw_curves(histories()),
    "confusion": lambda: mistakes.draw_confusion(counts(), tuple("abcde")),
    "mistakes": gallery,
    "reliability": calibration,
    "heads": heads,
    "needed": needed,
    "lens": lens,
    "positions": lambda: inside.draw_positions(2 * draw(9, 9) - 1),
    "robustness": disturbed,
    "study": points,
}


def wordless(figure: Figure) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture, small, without any text: [height, width, 3]."""
    for text in figure.findobj(Text):
        text.set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI)
    return np.asarray(PIL.Image.open(out).convert("RGB"))


def blurred(image: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Means over 3 x 3 pixels."""
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    return sum(padded[a : a + height, b : b + width] for a in range(3) for b in range(3)) / 9  # type: ignore[return-value]


def distance(image: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """How different two pictures are; infinite when they are not of the same size."""
    if image.shape != other.shape:
        return math.inf
    return float(np.sqrt(np.mean((blurred(image) - blurred(other)) ** 2)))


def reference(name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(PIL.Image.open(REFERENCES / f"{name}.png").convert("RGB"))


@pytest.mark.parametrize("name", PICTURES)
def test_the_layout_is_that_of_the_committed_image(name: str) -> None:
    """After a wanted change: python -m tests.test_pictures, and look at what it made."""
    assert distance(wordless(PICTURES[name]()), reference(name)) < TOLERANCE


WRONG: dict[str, Callable[[], Figure]] = {
    "patches-cut": lambda: images.draw_patches(pixels(7, 7, 1), draw(13, 13, 1), pixels(16, 3, 3, 1), Squares(4, 3)),
    "confusion": lambda: mistakes.draw_confusion(counts().T, tuple("abcde")),
    "heads": lambda: attention.draw_heads(
        bars(1)[0], 3 * draw(2, 3, 4, 4).swapaxes(2, 3), 2 * draw(2, 3, 4, 4, seed=1), 6, Squares(4, 3)
    ),
    "positions": lambda: inside.draw_positions((2 * draw(9, 9) - 1).T),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_comparison_notices_what_is_swapped(name: str) -> None:
    assert distance(wordless(WRONG[name]()), reference(name)) > 2 * TOLERANCE


def test_committed_images_are_small_and_all_used() -> None:
    paths = list(REFERENCES.glob("*.png"))
    assert sorted(path.stem for path in paths) == sorted(PICTURES)
    assert max(path.stat().st_size for path in paths) < 20_000


def words(figure: Figure) -> str:
    """Everything that is written in a picture."""
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def test_patches_say_what_is_cut_off_and_number_every_token() -> None:
    said = words(cut_patches())
    assert "cut into 4 x 4 patches of 3 x 3" in said
    assert "cut off: 1 pixel" in said
    assert "16 tokens in reading order" in said
    assert set(map(str, range(1, 17))) <= set(said.split("\n"))
    assert "cropped away" in words(cropped_patches())
    assert "5 x 5 pixels each, 1 of them shared on every side" in words(cropped_patches())


def test_tokens_stand_in_reading_order() -> None:
    """Each token has a grey of its own; read from the drawn strip they must rise from left to right, line by line."""
    tokens = np.repeat(np.arange(16, dtype=np.uint8) * 16, 9).reshape(16, 3, 3, 1)
    figure = images.draw_patches(pixels(12, 12, 1), pixels(12, 12, 1), tokens, Squares(4, 3))
    strip = np.asarray(figure.axes[2].images[0].get_array())[..., 0]
    assert strip.shape[0] == 3  # one line
    seen = [round(255 * value) for value in strip[1] if value < 1.0]
    assert seen == [grey for grey in range(0, 256, 16) for _ in range(3)]


def test_a_hundred_classes_and_one_are_drawn() -> None:
    names = tuple(f"a long name of class {n}" for n in range(100))
    many = np.diag(np.arange(1, 101))
    many[3, 77] = 5
    figures = [
        images.draw_examples(pixels(300, 5, 5, 3), np.arange(300) % 100, names),
        mistakes.draw_confusion(many, names),
        mistakes.draw_classes([(n / 100, (n / 101, (n + 1) / 101)) for n in range(100)], names),
        inside.draw_lens(draw(3, 100) / 50, 99, names, draw(3), draw(3), 10),
        images.draw_examples(pixels(3, 5, 5, 1), np.zeros(3, np.int64), ("a",)),
        mistakes.draw_confusion(np.array([[7]]), ("a",)),
        mistakes.draw_classes([(1.0, (0.6, 1.0))], ("a",)),
    ]
    for figure in figures:
        assert style.to_bytes(figure).startswith(b"\x89PNG")
    assert "the worst 30 of 100 classes" in words(figures[2])


def test_settings_of_the_process_change_no_figure() -> None:
    """A matplotlibrc is read into these settings when matplotlib is imported."""
    plain = style.to_bytes(mistakes.draw_confusion(np.diag([3, 5]), ("a", "b")))
    own = {"text.usetex": True, "font.size": 40, "figure.facecolor": "red", "lines.linewidth": 9, "savefig.dpi": 10,
           "savefig.bbox": "tight", "axes.grid": True, "image.origin": "lower",
           "text.color": "blue", "axes.labelsize": 30, "xtick.labelsize": 30, "savefig.transparent": True}  # fmt: skip
    with mpl.rc_context(own):  # type: ignore[arg-type]
        assert style.to_bytes(mistakes.draw_confusion(np.diag([3, 5]), ("a", "b"))) == plain


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"text.usetex: True\nbackend: nonsense\nfont.size: large\n", 0), (b"\xff\xfe", 2)],
)
def test_a_matplotlibrc_in_the_folder(tmp_path: Path, content: bytes, code: int) -> None:
    (tmp_path / "matplotlibrc").write_bytes(content)
    program = (
        "import sys\nfrom vitlab.errors import VitlabError\ntry:\n    from vitlab.look import style, mistakes\n"
        "except VitlabError as error:\n    sys.exit(f'vitlab: {error}')\n"
        "import numpy as np\nstyle.to_bytes(mistakes.draw_confusion(np.diag([3, 5]), ('a', 'b')))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = found.stderr.splitlines()
    if code:
        assert len(lines) == 1
        assert "matplotlibrc" in lines[0]
    else:
        assert (found.returncode, lines) == (0, [])


def test_a_perfect_network_and_an_empty_bin_are_drawn() -> None:
    style.to_bytes(mistakes.draw_confusion(np.diag([3, 5]), ("a", "b")))
    nothing = Reliability((0.0, 0.5, 1.0), (0, 0), (0.0, 0.0), (0.0, 0.0), 0.0)
    style.to_bytes(mistakes.draw_reliability(nothing))


def test_a_history_that_diverged_leaves_a_gap_and_a_cross() -> None:
    figure = curves.draw_curves(histories())
    loss: Axes = figure.axes[0]
    drawn = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in loss.lines}
    assert np.isnan(drawn["b, training"]).tolist() == [False, False, True]
    assert drawn["diverged"].tolist() == [3.5]
    only = curves.draw_curves({"x": [histories()["b"][2]]})  # not one good epoch
    assert style.to_bytes(only).startswith(b"\x89PNG")
    style.to_bytes(curves.draw_curves({"x": [{"epoch": 1, "lr": None, "train_loss": math.nan}]}))


def test_accuracy_is_drawn_on_a_scale_of_errors() -> None:
    figure = curves.draw_curves({"x": histories()["a"]})
    accuracy: Axes = figure.axes[1]
    lines = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in accuracy.lines}
    assert lines["x, validation"][-1] == pytest.approx(100 * 0.2 / 25)
    assert accuracy.get_ylim()[0] > accuracy.get_ylim()[1]  # fewer errors are further up
    assert accuracy.yaxis.get_major_formatter()(0.5, 0) == "99.5"


def test_names_from_outside_are_not_taken_for_formulas_or_hidden() -> None:
    rows = histories()["a"]
    figure = curves.draw_curves({"_$run": rows, r"$\frac$": rows})
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][:2] == [r" _\$run, training", r" _\$run, validation"]
    names = (r"$\nonsense$", "猫")
    style.to_bytes(
        mistakes.draw_confusion(np.array([[3, 1], [0, 4]]), names)
    )  # a glyph that the font lacks: no warning


def test_a_map_has_each_patchs_colour_and_white_where_there_is_none() -> None:
    values = np.array([[0.0, 1.0], [1.0, 2.0]])
    shown = attention.tinted(values, Squares(2, 2, 1), 6, style.attention_norm(), style.LOOKED)
    assert shown[0].min() == shown[:, 5].min() == 1.0
    assert shown[1:3, 3:5].min() > 0.99  # an even share is white
    assert shown[1, 1, 2] > shown[1, 1, 0] + 0.1  # less is blue
    assert shown[3, 3, 0] > shown[3, 3, 2] + 0.3  # more is red
    assert np.array_equal(shown[3, 3], shown[4, 4])


def test_the_drawing_over_a_map_is_an_outline_that_changes_no_colour() -> None:
    image, values = np.zeros((14, 14, 1)), np.full((2, 2), 3.0)
    image[3:11, 5:9] = 1.0
    _, axes = style.subplots(3.0, 3.0)
    tint = attention.tinted(values, Squares(2, 7), 14, style.attention_norm(), style.LOOKED)
    style.show_pixels(axes, tint)
    style.outline(axes, image, 0, 0)
    (path,) = axes.collections[0].get_paths()
    (left, top), (right, bottom) = path.vertices.min(axis=0), path.vertices.max(axis=0)
    assert (left, top, right, bottom) == pytest.approx((4.5, 2.5, 8.5, 10.5))
    assert np.unique(tint.reshape(-1, 3), axis=0).shape == (1, 3), "ink and paper have the same colour"
    style.outline(axes, np.zeros((14, 14, 1)))
    style.outline(axes, np.random.default_rng(3).random((14, 14, 3)))
    assert len(axes.collections) == 1, "nothing is drawn there, and a photo has no outline"


def test_smoothed_and_plain_losses_do_not_share_an_axis() -> None:
    figure = curves.draw_curves({"a": histories()["a"]}, smoothed=True)
    loss, val_loss = figure.axes[:2]
    assert [str(line.get_label()) for line in loss.lines] == ["a, training"]
    assert [str(line.get_label()) for line in val_loss.lines] == ["a, validation"]
    probabilities = np.array([0.91, *9 * [0.01]])  # of smoothing 0.1 over ten classes
    assert curves.loss_floor(0.1, 10) == pytest.approx(stats.entropy(probabilities))
    assert curves.loss_floor(0.0, 10) == 0.0


def test_strengths_have_their_true_places_and_guessing_has_a_line() -> None:
    axes = disturbed().subfigs[0].axes[0]
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [0.0, 1.0, 3.0]
    assert np.asarray(axes.lines[-1].get_ydata()).tolist() == [10.0, 10.0]


def test_a_picture_is_the_same_bytes_every_time() -> None:
    for kind in ("png", "svg"):
        a, b = (style.to_bytes(gallery(), "svg" if kind == "svg" else "png") for _ in range(2))
        assert a == b


def test_only_look_imports_matplotlib_and_nobody_pyplot() -> None:
    for path in sorted((ROOT / "src" / "vitlab").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for_types = [
            node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ]
        tree.body = [node for node in tree.body if node not in for_types]
        for node in ast.walk(tree):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "matplotlib" for name in named):
                assert path.parent.name == "look", path
            assert not any("pyplot" in name for name in named), path


if __name__ == "__main__":
    for name, picture in PICTURES.items():
        PIL.Image.fromarray(wordless(picture())).save(REFERENCES / f"{name}.png", optimize=True)
