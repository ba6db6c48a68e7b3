"""Arrays of pixels as people have them in memory, and how they become uint8 or uint16 [N, H, W, C].

What an array means is never guessed from a picture's content, only from its type, shape and range:

- uint8 and other whole numbers are grey levels from 0 to 255, bool is black and white, floats go from 0 to 1;
- uint16 with a number above 255 is grey levels from 0 to 65535; to a network that was trained on such images, all whole
  numbers except uint8 are;
- NumPy arrays have their channels last, as Pillow, Keras and scikit-image do, torch tensors first.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab.data.images import ImageError, Pixels, with_bits
from vitlab.data.splits import MOST_CHANNELS

Array = npt.NDArray[Any]

AT_ONCE = 1024  # rows that are converted at once: floats take up to eight times as much memory as their pixels
ROUNDING = 1e-5  # beyond 0 and 1, where resizing in float32 may lead
COLOURS = (1, 3)


def is_tensor(value: object) -> bool:
    """Whether this is a torch tensor. torch is not imported: without it, nothing is one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_array(value: Any) -> Array:
    """The numbers of an array or a tensor, on whatever device it is; ImageError for what is none."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ImageError("some numbers of this array are masked; x.filled(0) gives them a value")
    if not is_tensor(value):
        try:
            return np.asarray(value)
        except ValueError:
            raise ImageError(
                "these cannot become an array, since they differ in size; make them the same size"
            ) from None
    try:
        tensor = value.detach().cpu()
        return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    except Exception as error:  # sparse, quantised, on the meta device, ...: each has its own error
        shape = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        raise ImageError(f"a tensor of {shape} cannot become an array of pixels ({error})") from error


def is_deep(array: Array) -> bool:
    """Whether whole numbers go from 0 to 65535: uint16, and one is above 255."""
    return array.dtype == np.uint16 and array.size > 0 and bool(array.max() > 255)


def to_levels(array: Array, bits: int | None = None) -> Pixels:
    """The same shape as uint8, 0 black and 255 white, or as uint16, 65535 white; ImageError with advice for numbers
    that may mean several things. ``bits`` 8 or 16: what it must become; None: 16 for uint16 with numbers above 255.

    The whole array is looked at: one float above 1 shows that none of them is a share of white.
    """
    if array.dtype == np.uint8:
        return with_bits(array, bits or 8)
    if bits is None:
        bits = 16 if is_deep(array) else 8
    if bits == 16 and array.dtype == np.uint16:
        return array.astype(np.uint16, copy=False)  # in the order of bytes that torch takes
    wrong = why_no_levels(array, bits)
    white = 65535 if bits == 16 else 255
    if wrong:
        type_ = "uint16 from 0 to 65535" if bits == 16 else "uint8 from 0 to 255"
        raise ImageError(f"pixels are {type_}, or floats from 0 to 1, but {wrong}")
    levels = np.empty(array.shape, np.uint16 if bits == 16 else np.uint8)
    for start in range(0, len(array), AT_ONCE):
        some = array[start : start + AT_ONCE]
        if array.dtype.kind == "f":
            some = np.clip(np.rint(some.astype(np.float64) * white) if bits == 16 else np.rint(some * 255.0), 0, white)
        levels[start : start + AT_ONCE] = some * levels.dtype.type(white) if array.dtype.kind == "b" else some
    return levels


def why_no_levels(array: Array, bits: int = 8) -> str | None:
    """Why the numbers of an array are no grey levels of so many bits, and what to do; None if they are."""
    kind = array.dtype.kind
    if kind == "b" or array.size == 0:
        return None
    if kind not in "iuf":
        return f"these are {array.dtype}"
    low, high = float(array.min()), float(array.max())
    if kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        return "some of these are not finite numbers; x = numpy.nan_to_num(x) replaces them"
    range_ = f"these are {array.dtype} from {low:g} to {high:g}"
    if kind == "f":
        if low >= -ROUNDING and high <= 1 + ROUNDING:
            return None
        if low >= 0 and high <= 255:
            other = f"; if {high:g} is white, use x / {high:g}" if high < 128 else ""
            return f"{range_}; if 255 is white, convert them with x.round().astype('uint8'){other}"
        return f"{range_}; undo their normalisation, for example with x * std + mean"
    if bits == 16:
        return None if low >= 0 and high <= 65535 else f"{range_}; scale them to 0 to 65535"
    if low >= 0 and high == 1:
        return f"{range_}; if 1 is white, convert them with x.astype('uint8') * 255"
    if low >= 0 and high <= 255:
        return None
    if array.dtype == np.uint16:
        return f"{range_}; if 65535 is white, convert them with (x // 257).astype('uint8')"
    return f"{range_}; scale them to 0 to 255, or to 0 to 65535 and x.astype('uint16')"


def channels_last(array: Array, first: bool) -> Array:
    """[N, H, W], [N, H, W, C] or [N, C, H, W] -> [N, H, W, C]; ``first``: whether to prefer [N, C, H, W], as for
    tensors, where both fit. ImageError for another shape, or for one that may easily be the other.

    A size of 1 or 3 is taken for the channels before one of 2 to 16 is.
    """
    if array.ndim == 3:
        array = array[..., np.newaxis]
    shape = list(array.shape)
    if array.ndim != 4 or 0 in shape[1:]:
        raise ImageError(f"images are [N, H, W], [N, H, W, C] or, as a tensor, [N, C, H, W], not {shape}")
    fits_last, fits_first = shape[3] in COLOURS, shape[1] in COLOURS
    if not fits_last and not fits_first:
        fits_last, fits_first = shape[3] <= MOST_CHANNELS, first and shape[1] <= MOST_CHANNELS
        if not first:
            refuse_channels_first(shape)
    if fits_first and (first or not fits_last):
        return array.transpose(0, 2, 3, 1)
    if fits_last:
        return array
    raise ImageError(
        f"images have 1 (grey), 3 (red, green, blue) or up to {MOST_CHANNELS} channels, but these are {shape}"
    )


def rows_advice(shape: Sequence[int], name: str = "x") -> str:
    """How to make pictures of an array [N, H * W * C] of this ``name``; empty for another shape."""
    if len(shape) != 2:
        return ""
    for channels, end in ((1, ""), (3, ", 3")):
        side = math.isqrt(shape[1] // channels)
        if side > 1 and side * side * channels == shape[1]:
            return f"; {name}.reshape(-1, {side}, {side}{end}) makes pictures of rows"
    return f"; {name}.reshape(-1, H, W) makes pictures of rows"


def refuse_channels_first(shape: Sequence[int]) -> None:
    """ImageError for the shape of an array that may as well be [N, C, H, W] of square images."""
    if len(shape) == 4 and shape[1] <= MOST_CHANNELS and shape[2] == shape[3] != shape[1] and shape[3] not in COLOURS:
        raise ImageError(f"images are [N, H, W, C], and {list(shape)} looks like [N, C, H, W]; x.transpose(0, 2, 3, 1)")
