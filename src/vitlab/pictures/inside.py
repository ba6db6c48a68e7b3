"""What lies inside a trained ViT. The numbers are those of `vitlab.look.inside`.

Letters in names: L blocks, K classes, p patches, s side of a patch in pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vitlab.pictures.style import (
    BLUE,
    INK,
    RED,
    WIDTH,
    Floats,
    fill_rows,
    mosaic,
    new_figure,
    short,
    show_pixels,
    styled,
    with_article,
)


@styled
def filters(components_NssC: Floats) -> Figure:
    """The strongest principal components of the patch embedding, strongest first; grey is 0."""
    columns = min(7, len(components_NssC))
    most = np.abs(components_NssC).max(axis=(1, 2, 3), keepdims=True)
    cells = fill_rows(0.5 + 0.5 * components_NssC / np.maximum(most, 1e-12), columns)
    figure = new_figure(5.2, 0.1 + 5.2 * len(cells) / columns)
    axes = figure.add_subplot()
    show_pixels(axes, mosaic(cells, max(1, components_NssC.shape[1] // 5)))
    return figure


@styled
def positions(similarity_pp: Floats) -> Figure:
    """A small map for each patch, at its own place: how similar its position is to that of every other patch."""
    count = len(similarity_pp)
    grid = round(math.sqrt(count))
    maps = similarity_pp.reshape(grid, grid, grid, grid)
    gap = max(1, grid // 6)
    step = grid + gap
    whole = np.full((grid * step - gap, grid * step - gap), math.nan)
    for row in range(grid):
        for column in range(grid):
            whole[row * step : row * step + grid, column * step : column * step + grid] = maps[row, column]
    figure = new_figure(5.2, 4.5)
    axes = figure.add_subplot()
    shown = axes.imshow(whole, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    middles = np.arange(grid) * step + (grid - 1) / 2
    axes.set_xticks(middles, [str(number + 1) for number in range(grid)])
    axes.set_yticks(middles, [str(number + 1) for number in range(grid)])
    axes.set(xlabel="column of the patch", ylabel="row of the patch")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_label("cosine similarity", color=INK)
    bar.outline.set_visible(False)
    return figure


@styled
def logit_lens(
    lens_LK: Floats, truth: int, classes: Sequence[str], right_L: Floats, sure_L: Floats, count: int
) -> Figure:
    """Left: the probability of each class for one image, read after the embedding and after each block. Right, over
    ``count`` images: how often the right class is first there, and its mean probability."""
    depths = ["embedding", *(f"block {number}" for number in range(1, len(lens_LK)))]
    figure = new_figure(WIDTH, max(2.6, 1.2 + 0.24 * len(depths)))
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    left.imshow(lens_LK, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    several = len(classes)
    step = max(1, math.ceil(several / 20))
    turned = 90 if max(len(short(name)) for name in classes) > 3 else 0
    left.set_xticks(range(0, several, step), [short(name) for name in classes[::step]], rotation=turned)
    left.set_yticks(range(len(depths)), depths)
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    left.set(
        title=f"one image, {with_article(short(classes[truth]))}: probability in %"
        if several <= 12
        else "one image: probability"
    )
    if several <= 12 and len(depths) <= 20:
        for row, values in enumerate(lens_LK):
            for column, value in enumerate(values.tolist()):
                if value >= 0.005:
                    style = {"ha": "center", "va": "center", "fontsize": 7.5}
                    left.text(column, row, f"{100 * value:.0f}", color="white" if value > 0.6 else INK, **style)
    places = range(len(depths))
    right.plot([100 * value for value in right_L], places, "o-", color=BLUE, label="right class first")
    right.plot([100 * value for value in sure_L], places, "s--", color=RED, label="its mean probability")
    right.set(ylim=(len(depths) - 0.5, -0.5), xlim=(0, 103), xlabel="percent", title=f"over {count:,} images")
    right.set_yticks(list(places), [""] * len(depths))
    right.grid(axis="x")
    right.legend(loc="lower left")
    return figure
