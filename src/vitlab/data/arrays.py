"""Arrays of pixels as people have them in memory, and how they become uint8 [N, H, W, C].

What an array means is never guessed from a picture's content, only from its type, shape and range:

- uint8 and other whole numbers are grey levels from 0 to 255, bool is black and white, floats go from 0 to 1;
- NumPy arrays have their channels last, as Pillow, Keras and scikit-image do, torch tensors first.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab.data.images import ImageError, Pixels

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


def to_levels(array: Array) -> Pixels:
    """The same shape as uint8, 0 black and 255 white; ImageError with advice for numbers that may mean several things.

    The whole array is looked at: one float above 1 shows that none of them is a share of white.
    """
    if array.dtype == np.uint8:
        return array
    wrong = why_no_levels(array)
    if wrong:
        raise ImageError(f"pixels are uint8 from 0 to 255, or floats from 0 to 1, but {wrong}")
    levels = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), AT_ONCE):
        some = array[start : start + AT_ONCE]
        if array.dtype.kind == "f":
            some = np.clip(np.rint(some * 255.0), 0, 255)
        levels[start : start + AT_ONCE] = some * np.uint8(255) if array.dtype.kind == "b" else some
    return levels


def why_no_levels(array: Array) -> str | None:
    """Why the numbers of an array are no grey levels, and what to do; None if they are."""
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
            return f"{range_}; if 255 is white, convert them with x.round().astype('uint8')"
        return f"{range_}; undo their normalisation, for example with x * std + mean"
    if low >= 0 and high == 1:
        return f"{range_}; if 1 is white, convert them with x.astype('uint8') * 255"
    if low >= 0 and high <= 255:
        return None
    if array.dtype == np.uint16:
        return f"{range_}; if 65535 is white, convert them with (x // 257).astype('uint8')"
    return f"{range_}; scale them to 0 to 255"


def channels_last(array: Array, first: bool) -> Array:
    """[N, H, W], [N, H, W, C] or [N, C, H, W] -> [N, H, W, C]; ``first``: whether to prefer [N, C, H, W], as for
    tensors, where both fit. ImageError for another shape."""
    if array.ndim == 3:
        array = array[..., np.newaxis]
    shape = list(array.shape)
    if array.ndim != 4 or 0 in shape[1:]:
        raise ImageError(f"images are [N, H, W], [N, H, W, C] or, as a tensor, [N, C, H, W], not {shape}")
    fits_last, fits_first = shape[3] in COLOURS, shape[1] in COLOURS
    if fits_first and (first or not fits_last):
        return array.transpose(0, 2, 3, 1)
    if fits_last:
        return array
    raise ImageError(f"images have 1 channel (grey) or 3 (red, green, blue), but these are {shape}")
