"""One picture as pixels: a PNG or JPEG file of any mode, checked before a pixel is decoded.

Image folders, `vitlab predict` and `vitlab serve` all read pictures here. Pillow is imported when the first one comes.
"""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vitlab.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]

MAX_BYTES = 64 * 2**20  # of an encoded file
MAX_PIXELS = 4_000_000
MAX_SIDE = 65_535  # as in JPEG: resizing a row of millions of pixels takes a gigabyte of weights
MAX_SCANS = 100  # of a JPEG: ten are usual, and each goes over the whole picture even if it is 14 bytes long
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
SCAN = b"\xff\xda"
KEPT = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")  # the PNG chunks that pixels depend on
# Other formats, only to name them in a message: (offset, bytes found there, name).
OTHERS = (
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (4, b"ftyp", "a HEIC, AVIF or video file"),
    (0, b"\0\0\1\0", "an icon file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)
# Silencing Pillow's warnings affects the whole process, so only one thread may do it at a time.
_quiet = threading.Lock()


class ImageError(DataError):
    """A picture that cannot be read. ``status`` is the HTTP status for it: 415 unsupported format, 413 too large,
    422 anything else."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def read_file(path: str | Path) -> bytes:
    """The bytes of an image file, enough of them for `decode` to notice that there are too many; ImageError when it
    cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"cannot read {str(path)!r}: {reason}; choose a PNG or JPEG file that exists and can be read"
        ) from error


def decode(data: bytes, name: str, drawing: bool = True, strict: bool = True) -> Pixels:
    """uint8 [H, W, C] of a PNG or JPEG file; C is 1 when every pixel is grey, else 3.

    EXIF orientation is applied, and 16 bits are scaled to 8. Transparency becomes black, except in a ``drawing``, where
    it becomes white under dark ink, so strokes never vanish. ``strict``, for pictures from outside, also refuses
    animations, checksum errors, a missing end and extreme shapes; without it whatever Pillow can read is accepted, and
    of an animation the first frame. ImageError in one line that begins with ``name``.
    """
    import PIL.Image
    import PIL.ImageOps

    shown = printable(name)
    check_format(data, shown)
    if strict:
        if data.startswith(PNG):
            data = checked_png(data, shown)
        elif data.count(SCAN) > MAX_SCANS:
            raise ImageError(f"{shown} is a JPEG with more than {MAX_SCANS} scans; save it as PNG")
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about oddities that do not prevent reading
            picture: Image = PIL.Image.open(BytesIO(data), formats=("PNG", "JPEG"))
            check_size(picture.width, picture.height, shown, strict)
            picture.load()
            with suppress(Exception):  # how the camera was held is a free-form note; the pixels are intact
                picture = PIL.ImageOps.exif_transpose(picture)
            return _to_array(picture, drawing)
    except ImageError:
        raise
    except PIL.Image.DecompressionBombError:
        raise ImageError(f"{shown} has more than {MAX_PIXELS // 1_000_000} million pixels; shrink it", 413) from None
    except Exception as error:  # Pillow has a dozen types for damage: OSError, SyntaxError, struct.error, ...
        raise _damaged(shown) from error


def printable(name: str) -> str:
    """A file's name for one line: unchanged, or quoted if it contains line breaks or control characters."""
    return name if name.isprintable() else repr(name)


def _damaged(name: str) -> ImageError:
    return ImageError(f"{name} is damaged or incomplete; save it again as PNG or JPEG")


def check_format(data: bytes, name: str) -> None:
    """ImageError unless the file starts like a PNG or JPEG and is of acceptable size."""
    if not data:
        raise ImageError(f"{name} is empty; a PNG or JPEG image is needed")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES // 2**20} MiB; shrink it", 413)
    if data.startswith((PNG, JPEG)):
        return
    kind = next((kind for at, mark, kind in OTHERS if data[at : at + len(mark)] == mark), None)
    start = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if kind is None and start.startswith((b"<svg", b"<?xml", b"<html", b"<!doctype")):
        kind = "an SVG drawing" if b"<svg" in start else "a web page or XML"
    raise ImageError(f"{name} is {kind or 'of an unknown kind'}, not a PNG or JPEG image; save it as PNG", 415)


def check_size(width: int, height: int, name: str, strict: bool = True) -> None:
    """ImageError for no pixels or more than MAX_PIXELS and, if ``strict``, for a side above MAX_SIDE."""
    size = f"{name} has {width} x {height} pixels"
    if width == 0 or height == 0:
        raise ImageError(f"{size}; save it again")
    if strict and max(width, height) > MAX_SIDE:
        raise ImageError(f"{size}, more than {MAX_SIDE:,} on one side; crop it", 413)
    if width * height > MAX_PIXELS:
        raise ImageError(f"{size}, more than {MAX_PIXELS // 1_000_000} million; shrink it", 413)


def checked_png(data: bytes, name: str) -> bytes:
    """The same file reduced to the chunks that pixels depend on: no texts or profiles that swell when unpacked.

    ImageError unless size, frame count and the checksums of those chunks are in order.
    """
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise _damaged(name)
    width, height = struct.unpack(">II", data[16:24])
    check_size(width, height, name)
    kept, kind, end = [PNG], b"", len(PNG)
    while kind != b"IEND":  # each chunk: length, kind, content, checksum (PNG specification, 5.3)
        start = end
        length, kind = struct.unpack(">I4s", data[start : start + 8].ljust(8, b"\0"))
        end = start + 12 + length
        if end > len(data):
            raise _damaged(name)
        if kind == b"acTL" and data[start + 8 : start + 12] != b"\0\0\0\1":
            raise ImageError(f"{name} is animated; save a single frame of it")
        if kind in KEPT:
            if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise _damaged(name)
            kept.append(data[start:end])
    return b"".join(kept)


def _to_array(picture: Image, drawing: bool) -> Pixels:
    if picture.mode.startswith("I"):  # 16 bits of grey
        values = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
        return ((values + 128) // 257).astype(np.uint8)[..., np.newaxis]
    if picture.has_transparency_data:
        pixels = _without_alpha(np.array(picture.convert("RGBA")), drawing)
    else:
        pixels = np.array(picture.convert("RGB"))
    is_grey = (pixels == pixels[..., :1]).all()
    return pixels[..., :1].copy() if is_grey else pixels


def _without_alpha(pixels_HW4: Pixels, drawing: bool) -> Pixels:
    """Red, green, blue over black; in a drawing with dark ink, over white."""
    colour, alpha = pixels_HW4[..., :3], pixels_HW4[..., 3]
    weight = int(alpha.sum(dtype=np.int64))
    brightness = (to_grey(colour)[..., 0].astype(np.int64) * alpha).sum() / weight if weight else 0.0
    under = 255 if drawing and brightness <= 127 else 0
    mixed = colour.astype(np.uint16) * alpha[..., np.newaxis] + under * (255 - alpha[..., np.newaxis].astype(np.uint16))
    return ((mixed + 127) // 255).astype(np.uint8)


def to_grey(pixels_HWC: Pixels) -> Pixels:
    """uint8 [H, W, 1]: the brightness of red, green and blue (ITU-R 601: 0.299, 0.587, 0.114); grey is unchanged."""
    if pixels_HWC.shape[2] == 1:
        return pixels_HWC
    red, green, blue = (pixels_HWC[..., channel].astype(np.uint32) for channel in range(3))
    brightness = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16  # in parts of 65536, as Pillow does
    return brightness.astype(np.uint8)[..., np.newaxis]


def resize(pixels_HWC: Pixels, height: int, width: int) -> Pixels:
    """[H, W, C] -> [height, width, C], averaging when it shrinks; unchanged if it has that size."""
    import PIL.Image

    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC
    channels = pixels_HWC.shape[2]
    picture = PIL.Image.fromarray(pixels_HWC[..., 0] if channels == 1 else pixels_HWC)
    return np.asarray(picture.resize((width, height), PIL.Image.Resampling.BILINEAR)).reshape(height, width, channels)
