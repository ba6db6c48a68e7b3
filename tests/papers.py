"""A drawn digit on sheets of paper as they are outside: uneven, lined, noisy, coloured."""

from __future__ import annotations

import numpy as np

from benchmarks.drawn_digits import Pen, draw
from tests.image_zoo import Pixels

PAPERS = ("shaded", "lit", "ruled", "squared", "noisy", "peppered", "coloured")
HEIGHT, WIDTH = 163, 151


def on_paper(kind: str | None, seed: int) -> Pixels:
    """uint8 [163, 151, 3], the digit ``seed`` mod 10; None: black ink on white paper."""
    random = np.random.default_rng([seed, 0 if kind is None else 1 + PAPERS.index(kind)])
    digit = draw(seed % 10, Pen(WIDTH, HEIGHT, 0.5, 0.48, 91, 12))[..., None] / 255
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    paper, ink = np.full((HEIGHT, WIDTH, 3), 255.0), np.zeros(3)
    if kind == "shaded":
        paper = (120 + 0.3 * columns * random.uniform(0.5, 1) + 0.4 * rows * random.uniform(0.5, 1))[..., None]
    elif kind == "lit":
        away = np.hypot(rows - random.uniform(20, 120), columns - random.uniform(20, 120))
        paper = (245 - 100 * (away / away.max()) ** 2)[..., None]
        ink = 0.15 * paper
    elif kind in ("ruled", "squared"):
        line = np.array([150, 180, 220]) + random.integers(-30, 20)
        paper[random.integers(3, 9) :: random.integers(11, 29)] = line
        if kind == "squared":
            paper[:, random.integers(3, 9) :: random.integers(11, 29)] = line
    elif kind == "coloured":
        paper, ink = paper * random.uniform(0.6, 1, 3), np.array([90.0, 20, 120]) * random.uniform(0, 1, 3)
    picture = paper * (1 - digit) + ink * digit
    if kind == "noisy":
        picture = 0.6 * picture + 50 + random.normal(0, 22, picture.shape)
    elif kind == "peppered":
        grain = random.random((HEIGHT, WIDTH, 1))
        picture = np.where(grain < 0.02, 0, np.where(grain > 0.98, 255, 0.5 * picture + 70))
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)
