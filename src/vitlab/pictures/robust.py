"""Accuracy against disturbances. The numbers are those of `vitlab.look.robust`.

Letters in names: R strengths, S side in pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitlab.pictures.style import MARKERS, SERIES, WIDTH, Pixels, as_colour, new_figure, run_name, styled

Curves = Mapping[str, Sequence[tuple[float, float]]]
PANELS = 3  # beside each other


@styled
def robustness(runs: Mapping[str, Curves], units: Mapping[str, str], versions: Mapping[str, Pixels]) -> Figure:
    """A plot for each disturbance, the runs over each other: accuracy at each strength, and one image at that strength
    under it ([R, S, S, C], by the disturbance's name). Strengths are evenly spaced, whatever they are."""
    rows = math.ceil(len(units) / PANELS)
    figure = new_figure(WIDTH, 2.75 * rows)
    places = np.ravel(np.asarray(figure.subfigures(rows, PANELS)))
    for place, (name, unit) in zip(places, units.items(), strict=False):
        upper, lower = place.subplots(2, 1, height_ratios=(4.2, 1), sharex=True, gridspec_kw={"hspace": 0.0})
        draw_curves(upper, {run: curves[name] for run, curves in runs.items()}, f"{name}: {unit}")
        draw_strip(lower, versions[name])
        if place in places[::PANELS]:
            upper.set_ylabel("accuracy %")
    spare = places[len(units) :]
    if len(spare) and len(runs) > 1:
        handles, names = upper.get_legend_handles_labels()
        spare[0].legend(handles, names, loc="center", fontsize=9)
    return figure


def draw_curves(axes: Axes, runs: Mapping[str, Sequence[tuple[float, float]]], title: str) -> None:
    """One disturbance."""
    for number, (name, curve) in enumerate(runs.items()):
        colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        scores = [100 * score for _, score in curve]
        axes.plot(range(len(curve)), scores, marker=marker, markersize=4, color=colour, label=run_name(name))
    strengths = [f"{strength:g}" for strength, _ in next(iter(runs.values()))]
    axes.set_xticks(range(len(strengths)), strengths)
    axes.tick_params(axis="x", labelbottom=True, length=0)
    axes.set(ylim=(0, 103), xlim=(-0.5, len(strengths) - 0.5))
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.set_title(title, fontsize=8.5)
    axes.grid(axis="y")


def draw_strip(axes: Axes, versions_RSSC: Pixels) -> None:
    """The same image at each strength, side by side under the ticks."""
    count, side = versions_RSSC.shape[:2]
    colours = as_colour(versions_RSSC)
    framed = np.ones((count, side + 2, side + 2, 3), np.float32)
    framed[:, 1:-1, 1:-1] = colours
    whole = framed.transpose(1, 0, 2, 3).reshape(side + 2, -1, 3)
    axes.imshow(whole, extent=(-0.5, count - 0.5, -0.5, 0.5), interpolation="nearest", aspect="equal")
    axes.set_axis_off()
