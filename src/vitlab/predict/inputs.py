"""What may be handed to a classifier as a picture, and how each kind becomes pixels.

What numbers mean is said in `data.arrays`: whole numbers are grey levels from 0 to 255, floats go from 0 to 1. To a
network that was trained on 16 bits, uint16 is grey levels from 0 to 65535; to one with 2 or 4 to 16 channels, pictures
are arrays of as many, or TIFF files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from vitlab.data import Split
from vitlab.data.ahead import ahead
from vitlab.data.arrays import COLOURS, channels_last, to_array, to_levels
from vitlab.data.images import ImageError, Pixels, read_file, with_bits
from vitlab.data.stored import Stored
from vitlab.text import counted

if TYPE_CHECKING:
    import PIL.Image

    Bytes = bytes | bytearray | memoryview
    Picture = Bytes | str | os.PathLike[str] | npt.NDArray[Any] | torch.Tensor | PIL.Image.Image
    Pictures = Picture | Split | Iterable[Picture]

SLIM = 8  # times its width: from there on the height of an array is a number of rows
FILES = (str, os.PathLike, bytes, bytearray, memoryview)

Made = TypeVar("Made")
Read = Callable[[bytes, str], Pixels]  # of a PNG or JPEG file and its name
Sizes = Collection[tuple[int, int]]  # heights and widths of the images that a network was made for

SHAPES = "[H, W], [H, W, 1], [H, W, 3] or [H, W, 4] with at least one pixel"
TRANSPARENT = ("LA", "PA", "RGBa")  # besides "La", which Pillow converts only to "LA"


def to_pixels(value: object, read: Read, channels: int = 3, bits: int = 8) -> Pixels:
    """uint8 [H, W, 1 or 3] of a picture, or uint16 for a network of 16 ``bits``, or [H, W, C] for one of C ``channels``
    that are neither grey nor colours; ImageError for anything else.

    A path or the bytes of a file go to ``read``, which also fills transparency. An array is [H, W], [H, W, 1],
    [H, W, 3], or [H, W, 4] with transparency; a tensor too, or [C, H, W]: its first size is C if it is 1 or 3, then its
    last size if it is 1, 3 or 4, then its first size if it is 4. Its numbers are grey levels from 0 to 255, or floats
    from 0 to 1 (`data.arrays`). A PIL image may have any mode whose values have a known range.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return read(bytes(value), "the image")
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        return read(read_file(os.fsdecode(path)), os.fsdecode(path))
    if isinstance(value, np.ndarray):
        return _of_array(value, "an array of", read, channels, bits)
    if isinstance(value, torch.Tensor):
        return _of_tensor(value, read, channels, bits)
    pillow = sys.modules.get("PIL.Image")  # not imported: then this is none of its images
    if pillow is not None and isinstance(value, pillow.Image):
        return _of_pillow(value, read, bits)
    known = "a path, the bytes of a PNG or JPEG file, a PIL image, or an array or tensor of pixels"
    raise ImageError(f"a picture is {known}, not {type(value).__name__}{_as_array(value)}")


def _as_array(value: object) -> str:
    """How to make an array of what is no picture."""
    if isinstance(value, list | tuple):
        return "; numpy.array(x, dtype='uint8') makes an array of it"
    return "; numpy.asarray(x) makes an array of it" if hasattr(value, "__array__") else ""


def _of_array(array: npt.NDArray[Any], what: str, read: Read, channels: int, bits: int) -> Pixels:
    plain: npt.NDArray[Any] = to_array(array)
    pixels = plain[..., np.newaxis] if plain.ndim == 2 else plain
    if channels not in COLOURS:
        if pixels.ndim != 3 or pixels.shape[2] != channels or 0 in pixels.shape:
            raise ImageError(f"a picture for this network is [H, W, {channels}], not {what} {list(plain.shape)}")
        return to_levels(pixels, bits)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        shape = f"{plain.dtype} {list(plain.shape)}"
        raise ImageError(f"a picture's pixels are {SHAPES}, not {what} {shape}{_advice(plain.shape)}")
    pixels = to_levels(pixels, bits)
    if pixels.shape[2] < 4:
        return pixels
    if bits == 16:
        raise ImageError("a picture for a network of 16 bits has no transparency: [H, W] or [H, W, 3]")
    import PIL.Image

    return _through_a_file(PIL.Image.fromarray(np.ascontiguousarray(pixels)), read)


def _advice(shape: tuple[int, ...]) -> str:
    """How to make one picture of pixels with this shape."""
    if 0 in shape:
        return ""
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; x.transpose(1, 2, 0) puts its channels last"
    return "; pass its pictures one at a time, or all of them to predict" if len(shape) == 4 else ""


def _of_tensor(tensor: torch.Tensor, read: Read, channels: int, bits: int) -> Pixels:
    array = to_array(tensor)
    if array.ndim == 3 and channels not in COLOURS:
        array = array.transpose(1, 2, 0) if array.shape[0] == channels else array
    elif array.ndim == 3:
        first, last = array.shape[0], array.shape[2]
        if first in (1, 3) or (first == 4 and last not in (1, 3, 4)):
            array = array.transpose(1, 2, 0)
    return _of_array(array, "a tensor of", read, channels, bits)


def many_in(value: object, channels: int, bits: int = 8, sizes: Sizes = ()) -> Pixels | Iterable[Any]:
    """The pictures in what `Classifier.predict` takes: [N, H, W, C] with the ``bits`` of the network of an array or a
    tensor of several, otherwise the pictures one by one. ``channels`` of the network decides what a tensor [3, H, W]
    is: one picture in colour, if it sees colours; otherwise that is ambiguous: ImageError. ``sizes`` are those of its
    images, whose pixels [N, H * W * C] holds in rows: ImageError, too."""
    if isinstance(value, Split):
        images = _fitting(value.images, channels)
        is_array = not isinstance(images, Stored) and images.dtype in (np.uint8, np.uint16)
        return with_bits(images, bits) if is_array else images
    if isinstance(value, np.ndarray | torch.Tensor):
        shape, tensor = tuple(value.shape), isinstance(value, torch.Tensor)
        refuse_rows(shape, channels, sizes)
        if channels not in COLOURS:
            return _many_layers(value, shape, tensor, channels, bits)
        if len(shape) == 4:
            if 4 in (shape[3], shape[1] if tensor else 0):  # transparency is filled picture by picture
                return iter(value)
            return to_levels(_fitting(channels_last(to_array(value), first=tensor), channels), bits)
        if len(shape) != 3 or _is_one(shape, tensor, channels):
            return [value]
        return to_levels(channels_last(to_array(value), first=tensor), bits)
    pillow = sys.modules.get("PIL.Image")
    is_picture = pillow is not None and isinstance(value, pillow.Image)
    if is_picture or isinstance(value, bytes | bytearray | memoryview | str | os.PathLike):
        return [value]
    if isinstance(value, Mapping):
        raise ImageError(f"pictures are a list, an array or a tensor, not {type(value).__name__}; list(x.values()) is")
    if hasattr(value, "to_numpy") and hasattr(value, "columns"):  # iterating gives the names of its columns
        advice = f"x.to_numpy().reshape({_sizes(channels, min(sizes, default=(28, 28)))}) of rows of pixels"
        raise ImageError(f"pictures are a list, an array or a tensor, not {type(value).__name__}; use {advice}")
    return value if isinstance(value, Iterable) else [value]


def refuse_rows(shape: tuple[int, ...], channels: int, sizes: Sizes, one: bool = False) -> None:
    """ImageError for a shape [n, h * w * c] or [h * w * c] with (h, w) in ``sizes``: n pictures in rows. Where ``one``
    picture is asked for, [n, h * w * c] is one unless n is below h or very large: no picture is so wide or high.
    """
    if len(shape) not in (1, 2) or any(shape[-1] == width for _, width in sizes):
        return
    size = next((size for size in sizes if size[0] * size[1] * channels == shape[-1]), None)
    if size is None:
        return
    ways = f"x.reshape({_sizes(channels, size)})"
    if len(shape) == 1 or shape[0] < size[0] or (one and shape[0] > SLIM * shape[1]):
        what = "one picture in a row" if len(shape) == 1 else f"{counted(shape[0], 'picture')} in rows"
        raise ImageError(f"{list(shape)} looks like {what}; pass {ways}")
    if not one:
        raise ImageError(
            f"{list(shape)} may be {shape[0]} pictures in rows or one picture; pass {ways} for rows, or x[None] for one"
        )


def _sizes(channels: int, size: tuple[int, int]) -> str:
    """What `reshape` takes to make pictures of rows."""
    return ", ".join(map(str, (-1, *size) if channels == 1 else (-1, *size, channels)))


def _fitting(images: Any, channels: int) -> Any:
    """The same [N, H, W, C]; ImageError if C cannot become ``channels``: grey and colour can become each other."""
    own = images.shape[3]
    if own != channels and not {own, channels} <= set(COLOURS):
        raise ImageError(f"the pictures have {own} channels, but the network was trained on {channels}; use others")
    return images


def _many_layers(value: Any, shape: tuple[int, ...], tensor: bool, channels: int, bits: int) -> Pixels | Iterable[Any]:
    """The same for a network whose channels are neither grey nor colours."""
    if len(shape) != 4:
        return [value]
    array = to_array(value)
    if tensor and shape[1] == channels:
        array = array.transpose(0, 2, 3, 1)
    if array.shape[3] != channels:
        form = f"[N, {channels}, H, W]" if tensor else f"[N, H, W, {channels}]"
        raise ImageError(f"pictures for this network are {form}, not {list(shape)}")
    return to_levels(array, bits)


def read_ahead(pictures: Iterable[Any], read: Callable[[Any], Made], together: int) -> Iterator[list[Made]]:
    """What ``read`` makes of each picture, in their order, ``together`` at a time. Files are read in threads, while the
    caller works on the pictures before them; no more than two such lists are held."""
    # Others stay in this thread, since the same PIL image, for example, may come twice.
    return ahead(pictures, read, together, lambda one: isinstance(one, FILES))


def _is_one(shape: tuple[int, ...], tensor: bool, channels: int) -> bool:
    """Whether an array or tensor of three sizes is one picture, not several in grey; ImageError if it may be both."""
    if shape[2] in (1, 3, 4) or (tensor and (shape[0] == 1 or (shape[0] == 3 and channels == 3))):
        return True
    if not tensor and shape[0] == 3 == channels:
        raise ImageError(
            f"an array {list(shape)} may be one picture in colour or 3 grey ones; pass x.transpose(1, 2, 0) for one, "
            "or x[..., None] for several"
        )
    if tensor and shape[0] in (3, 4):
        raise ImageError(
            f"a tensor {list(shape)} may be one picture of {shape[0]} channels or {shape[0]} grey pictures; "
            "pass x[None] for one, or x[:, None] for several"
        )
    return False


def _of_pillow(picture: PIL.Image.Image, read: Read, bits: int) -> Pixels:
    import PIL.ImageOps

    mode = picture.mode
    if 0 in picture.size:
        raise ImageError("the PIL image has no pixels")
    try:
        upright = PIL.ImageOps.exif_transpose(picture)
        if mode == "F" or mode.startswith("I"):
            return with_bits(_of_deep(np.asarray(upright), mode), bits)
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
    """uint16 [H, W, 1] of 16 bits of grey, as in files."""
    low, high = values.min(), values.max()
    if mode == "F" or low < 0 or high > 65535 or (not mode.startswith("I;16") and 0 < high <= 255):
        raise ImageError(
            f"a PIL image of mode {mode} does not say which number is white (its own are {low:g} to {high:g}); scale "
            "them to 0..255 and convert it to mode L"
        )
    pixels: Pixels = values.astype(np.uint16)[..., np.newaxis]
    return pixels


def _through_a_file(picture: PIL.Image.Image, read: Read) -> Pixels:
    """As if it had been saved as PNG: sizes are checked and transparency is filled in one place."""
    file = BytesIO()
    clean = picture.copy()
    clean.info = {}  # a profile or text would only swell the file
    clean.save(file, "PNG", compress_level=1)
    return read(file.getvalue(), "the image")
