"""What may be handed to a classifier as a picture, and how each kind becomes pixels.

Nothing is guessed: a number is a grey level only as uint8, since 0 to 1 and 0 to 255 look alike in a dark picture.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from vitlab.data.images import ImageError, Pixels, read_file

if TYPE_CHECKING:
    import PIL.Image

    Bytes = bytes | bytearray | memoryview
    Picture = Bytes | str | os.PathLike[str] | npt.NDArray[np.uint8] | torch.Tensor | PIL.Image.Image

Read = Callable[[bytes, str], Pixels]  # of a PNG or JPEG file and its name

SHAPES = "[H, W], [H, W, 1], [H, W, 3] or [H, W, 4] with at least one pixel"
TRANSPARENT = ("LA", "PA", "RGBa")  # besides "La", which Pillow converts only to "LA"


def to_pixels(value: object, read: Read) -> Pixels:
    """uint8 [H, W, 1 or 3] of a picture; ImageError for anything else.

    A path or the bytes of a file go to ``read``, which also fills transparency. An array is uint8 [H, W], [H, W, 1],
    [H, W, 3], or [H, W, 4] with transparency; a tensor too, or [C, H, W]: its first size is C if it is 1 or 3, then its
    last size if it is 1, 3 or 4, then its first size if it is 4. A PIL image may have any mode whose values have a
    known range.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return read(bytes(value), "the image")
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        return read(read_file(os.fsdecode(path)), os.fsdecode(path))
    if isinstance(value, np.ndarray):
        return _of_array(value, "an array of", read)
    if isinstance(value, torch.Tensor):
        return _of_tensor(value, read)
    pillow = sys.modules.get("PIL.Image")  # not imported: then this is none of its images
    if pillow is not None and isinstance(value, pillow.Image):
        return _of_pillow(value, read)
    known = "a path, the bytes of a PNG or JPEG file, a PIL image, or a uint8 array or tensor"
    hint = "; numpy.array(x, dtype='uint8') makes an array of it" if isinstance(value, list | tuple) else ""
    raise ImageError(f"a picture is {known}, not {type(value).__name__}{hint}")


def _of_array(array: npt.NDArray[Any], what: str, read: Read) -> Pixels:
    plain: npt.NDArray[Any] = np.asarray(array)
    pixels = plain[..., np.newaxis] if plain.ndim == 2 else plain
    if plain.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        shape = f"{plain.dtype} {list(plain.shape)}"
        raise ImageError(f"pixels must be uint8 {SHAPES}, not {what} {shape}{_advice(plain)}")
    if pixels.shape[2] < 4:
        return pixels
    import PIL.Image

    return _through_a_file(PIL.Image.fromarray(np.ascontiguousarray(pixels)), read)


def _advice(array: npt.NDArray[Any]) -> str:
    """How to make pixels of it, as far as its numbers tell."""
    if array.size == 0:
        return ""
    if array.dtype == np.uint8:
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            return "; x.transpose(1, 2, 0) puts its channels last"
        return "; pass its pictures one at a time" if array.ndim == 4 else ""
    if array.dtype == np.bool_:
        return "; convert it with x.astype('uint8') * 255"
    if array.dtype.kind not in "iuf":
        return ""
    if not np.isfinite(array).all():
        return "; some of its numbers are not finite"
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind in "iu":
        if low >= 0 and high <= 255:
            return "; convert it with x.astype('uint8')"
        return "; convert it with (x // 257).astype('uint8')" if array.dtype == np.uint16 else "; scale it to 0..255"
    if low >= 0 and high <= 1:
        return "; if its numbers are 0 to 1, convert it with (x * 255).round().astype('uint8')"
    if low >= 0 and high <= 255:
        return "; if its numbers are 0 to 255, convert it with x.round().astype('uint8')"
    return "; undo its normalisation and scale it to 0..255"


def _of_tensor(tensor: torch.Tensor, read: Read) -> Pixels:
    try:
        array = tensor.detach().cpu().numpy()
    except Exception:  # sparse, quantised, on the meta device, bfloat16, ...: each has its own error
        shape = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        raise ImageError(f"pixels must be uint8 {SHAPES} or [C, H, W], not a tensor of {shape}") from None
    if array.ndim == 3:
        first, last = array.shape[0], array.shape[2]
        if first in (1, 3) or (first == 4 and last not in (1, 3, 4)):
            array = array.transpose(1, 2, 0)
    return _of_array(array, "a tensor of", read)


def _of_pillow(picture: PIL.Image.Image, read: Read) -> Pixels:
    import PIL.ImageOps

    mode = picture.mode
    if 0 in picture.size:
        raise ImageError("the PIL image has no pixels")
    try:
        upright = PIL.ImageOps.exif_transpose(picture)
        if mode == "F" or mode.startswith("I"):
            return _of_deep(np.asarray(upright), mode)
        if mode == "La":
            upright = upright.convert("LA")
        if upright.mode in TRANSPARENT or upright.has_transparency_data:
            return _through_a_file(upright.convert("RGBA"), read)
        return _through_a_file(upright.convert("L" if mode in ("1", "L") else "RGB"), read)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a file that was opened and is damaged or closed: a dozen types
        raise ImageError(f"the PIL image of mode {mode} cannot be read ({error}); save it as PNG") from error


def _of_deep(values: npt.NDArray[Any], mode: str) -> Pixels:
    """uint8 [H, W, 1] of 16 bits of grey, as in files."""
    low, high = values.min(), values.max()
    if mode == "F" or low < 0 or high > 65535 or (not mode.startswith("I;16") and 0 < high <= 255):
        raise ImageError(
            f"a PIL image of mode {mode} does not say which number is white (its own are {low:g} to {high:g}); scale "
            "them to 0..255 and convert it to mode L"
        )
    pixels: Pixels = ((values.astype(np.int64) + 128) // 257).astype(np.uint8)[..., np.newaxis]
    return pixels


def _through_a_file(picture: PIL.Image.Image, read: Read) -> Pixels:
    """As if it had been saved as PNG: sizes are checked and transparency is filled in one place."""
    file = BytesIO()
    clean = picture.copy()
    clean.info = {}  # a profile or text would only swell the file
    clean.save(file, "PNG", compress_level=1)
    return read(file.getvalue(), "the image")
