"""What a data set's images look like, found out without reading them all: their usual size, whether any has colour, and
how many there are to train on.

That decides how large the network's input is and how long it trains (config/fitting.py). The first must be known before
images are read, because photos are reduced to it on the way.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitlab.advice import spoken
from vitlab.config import RunConfig
from vitlab.config.fitting import Shape, fitted, place_to_look_at
from vitlab.data.cards import CATALOGUE
from vitlab.data.depth import depth_of
from vitlab.data.folder import find_files, usual_size
from vitlab.data.images import ALL, Depth, ImageError, decode_layers, read_file
from vitlab.data.layout import TABLES
from vitlab.data.npz import KEYS, SHORT_KEYS
from vitlab.data.paths import open_regular
from vitlab.data.pixels import pixel_columns, pixel_tables
from vitlab.data.tables import Table, table_at
from vitlab.errors import DataError
from vitlab.text import ignore

LOOKED_AT = 32  # images, evenly spaced, that are asked whether they have colour
LEAST = 32  # pixels: larger photos are decoded at a fraction
MOST_BYTES = 64_000_000  # of a table of pixels whose lines are counted; in a larger one images are not few


def glance(place: str | os.PathLike[str]) -> Shape | None:
    """The shape of the images of a data set, as `load_dataset` names it; None if it cannot be told. Errors are left to
    whoever loads them.

    >>> from vitlab.data.glance import glance
    >>> glance("cifar10")
    Shape(height=32, width=32, channels=3, may_flip=True, bits=8, images=None)
    """
    name = os.fspath(place)
    if name in CATALOGUE:
        card = CATALOGUE[name]
        return Shape(card.height, card.width, card.channels, card.may_flip, images=card.train_images)
    path = Path(os.path.expanduser(name))
    try:
        if name.endswith(".npz"):
            return _of_npz(path)
        if name.lower().endswith(TABLES):
            table = table_at(path)
            return None if table is None else _of_pixels(table) or _of_folder(path.parent, (path.name,))
        if not os.path.isdir(path):
            return None
        tables = pixel_tables(path, None)
        return _of_pixels(tables[0]) if tables else _of_folder(path)
    except (DataError, OSError, ValueError, zipfile.BadZipFile):
        return None


def fitted_to_data(base: RunConfig | None, knobs: Mapping[str, Any], note: Callable[[str], None]) -> RunConfig:
    """`fitting.fitted` for the data set that the knobs or ``base`` name; ``note`` gets the line on what was chosen.

    Without the knob ``data`` the images are those that a preset is made for, and nothing is looked at.
    """
    data = place_to_look_at(base, knobs)
    config, line = fitted(base, knobs, None if data is None else glance(data))
    if line:
        note(spoken(line))
    return config


def _of_pixels(table: Table) -> Shape | None:
    columns = pixel_columns(table)
    if columns is None:
        return None
    lines = None
    if table.path.stat().st_size <= MOST_BYTES:
        lines = table.path.read_bytes().count(b"\n") - columns.has_names
    return Shape(columns.side, columns.side, columns.channels, images=lines)


def _of_folder(root: Path, labels: tuple[str, ...] | None = None) -> Shape | None:
    _, found = find_files(root, ALL, labels, False, ignore)
    there = [one for one in found["train"] if one.size]
    if not there:
        return None
    (height, width), _ = usual_size([one.size for one in there if one.size])
    some = there[:: math.ceil(len(there) / LOOKED_AT)]
    depth = depth_of(there, None, ignore)
    channels = max(_channels(one.path, depth) for one in some)
    return Shape(height, width, channels, bits=8 if depth is None else depth.bits, images=len(there))


def _channels(path: Path, depth: Depth | None) -> int:
    try:
        layers = decode_layers(read_file(path), path.name, strict=False, least=LEAST, depth=depth)
        return int(layers.pixels.shape[2])
    except ImageError:  # reported when it is read
        return 1


def _of_npz(path: Path) -> Shape | None:
    """From the header of the training images, and the first of them: grey images may be stored as colour, and 8 bits
    as 16."""
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        names = (f"{keys['train'][0]}.npy" for keys in (KEYS, SHORT_KEYS))
        name = next((name for name in names if name in archive.namelist()), None)
        if name is None:
            return None
        with archive.open(name) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            (count, height, width, *rest), by_columns, dtype = read(stream)
            channels = rest[0] if rest else 1
            is_plain = channels == 1 and dtype != np.uint16
            if is_plain or by_columns or dtype.hasobject or not 0 < height * width * channels <= 2**26:
                return Shape(height, width, channels, images=count)
            images = min(count, LOOKED_AT)
            data = stream.read(images * height * width * channels * dtype.itemsize)
    pixels = np.frombuffer(data, dtype).reshape(images, -1, channels)
    bits = 16 if dtype.newbyteorder("=") == np.uint16 and (pixels > 255).any() else 8
    is_grey = channels in (1, 3) and (pixels == pixels[..., :1]).all()
    return Shape(height, width, 1 if is_grey else channels, bits=bits, images=count)
