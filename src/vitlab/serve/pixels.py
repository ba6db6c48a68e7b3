"""Pixels that come as JSON: {"pixels": rows of numbers, or rows of [red, green, blue]}, whole numbers from 0 to 255."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from vitlab.serve.answers import Refusal
from vitlab.serve.limits import LARGEST_SIDE

SENTENCE = (
    'JSON must be {"pixels": rows}, 1 to 512 rows of 1 to 512 pixels each, all rows equally long; '
    "a pixel is a whole number from 0 to 255, or [red, green, blue], or [grey]"
)


def read_pixels(body: bytes) -> NDArray[np.uint8]:
    """uint8 [H, W, C] of a JSON body, C 1 or 3; Refusal with 422 for everything else."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, thousands of digits, too deep
        refuse("")
    if not isinstance(value, dict) or list(value) != ["pixels"]:
        refuse("")
    rows = value["pixels"]
    if not is_list(rows, LARGEST_SIDE) or not all(is_list(row, LARGEST_SIDE) for row in rows):
        refuse("")
    channels = len(rows[0][0]) if isinstance(rows[0][0], list) else 0
    if channels not in (0, 1, 3) or any(len(row) != len(rows[0]) for row in rows):
        refuse("")
    numbers = [number for row in rows for pixel in row for number in numbers_of(pixel, channels)]
    pixels = np.array(numbers, dtype=np.float64)
    if not ((pixels >= 0) & (pixels <= 255) & (pixels == np.floor(pixels))).all():
        refuse("")
    return pixels.astype(np.uint8).reshape(len(rows), len(rows[0]), channels or 1)


def is_list(value: Any, most: int) -> bool:
    """Whether it is a list with something in it, and not too much."""
    return isinstance(value, list) and 1 <= len(value) <= most


def numbers_of(pixel: Any, channels: int) -> list[float]:
    """The numbers of one pixel, of as many channels as the first one has (0: it is no list)."""
    if channels and (not isinstance(pixel, list) or len(pixel) != channels):
        refuse("")
    numbers = pixel if channels else [pixel]
    for number in numbers:
        # bool is an int to Python, but not a brightness; an integer may be too large for a float
        if type(number) is not float and (type(number) is not int or not 0 <= number <= 255):
            refuse("")
    return numbers


def refuse(constant: str) -> NoReturn:
    """What NaN, Infinity and everything else of a wrong kind lead to."""
    raise Refusal(422, SENTENCE)
