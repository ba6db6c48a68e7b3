"""A picture from outside as pixels: PNG or JPEG by its content, of any mode, bounded before a pixel is decoded.

Unlike `vitlab.data.pixels`, which reads a data set, this decides what somebody meant with a transparent background, and
says for a server whose fault a refusal is.
"""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vitlab.data.pixels import from_16_bits
from vitlab.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 4_000_000
MAX_SIDE = 65_535  # as in JPEG; scaling a line of millions of pixels takes a gigabyte of weights
MAX_BYTES = 64 * 2**20  # of an encoded file
MAX_SCANS = 100  # of a JPEG: each goes through all of the picture again, even if it is 14 bytes long; ten are usual
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
SCAN = b"\xff\xda"
KEPT = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")  # chunks of a PNG that pixels come from
# Only to say what a file is that cannot be used: (where in the file, what stands there, its name).
OTHERS = (
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (4, b"ftyp", "a HEIC, AVIF or film file"),
    (0, b"\0\0\1\0", "an icon file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)
# Switching off Pillow's warnings changes the whole process, so that only one thread may do it at a time.
_quiet = threading.Lock()


class ImageError(DataError):
    """A picture that cannot be read. ``status`` is what HTTP calls it: 415 not a kind that is taken, 413 too large,
    422 anything else."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def decode(data: bytes, name: str, drawing: bool = True) -> Pixels:
    """uint8 [H, W, C] of a PNG or JPEG file; C is 1 when every pixel is grey, else 3.

    The camera's turn (EXIF) is applied. In a ``drawing`` what is transparent becomes black if what is visible is
    bright, and white if it is dark: strokes never vanish. In others it becomes black, as in the images of a folder
    (vitlab.data.pixels). 16 bits are scaled to 8. ImageError in one line that begins with ``name``.
    """
    shown = printable(name)
    check_kind(data, shown)
    if data.startswith(PNG):
        data = checked_png(data, shown)
    elif data.count(SCAN) > MAX_SCANS:
        raise ImageError(f"{shown} builds up its picture in more than {MAX_SCANS} passes; save it as PNG")
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about oddities of the file that do not keep it from being read
            return _read(data, shown, drawing)
    except ImageError:
        raise
    except Exception as error:  # Pillow has a dozen types for damage: OSError, SyntaxError, struct.error, ...
        raise ImageError(f"{shown} is damaged or cut off; save it again as PNG or JPEG") from error


def printable(name: str) -> str:
    """A file's name for one line: as it is, or quoted if it holds line ends or what steers a terminal."""
    return name if name.isprintable() else repr(name)


def is_picture(start: bytes) -> bool:
    """Whether a file that begins so claims to be a PNG or JPEG."""
    return start.startswith((PNG, JPEG))


def check_kind(data: bytes, name: str) -> None:
    """ImageError unless the content begins as that of a PNG or JPEG file."""
    if not data:
        raise ImageError(f"{name} is empty: it has no bytes")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} has more than {MAX_BYTES // 2**20} MiB; shrink it", 413)
    if is_picture(data):
        return
    kind = next((kind for at, mark, kind in OTHERS if data[at : at + len(mark)] == mark), None)
    start = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if kind is None and start.startswith((b"<svg", b"<?xml", b"<html", b"<!doctype")):
        kind = "an SVG drawing" if b"<svg" in start else "a web page or XML"
    raise ImageError(f"{name} is {kind or 'of an unknown kind'}, not a PNG or JPEG image; save it as PNG", 415)


def check_size(width: int, height: int, name: str) -> None:
    """ImageError for a picture without pixels, or with more than MAX_PIXELS."""
    if width == 0 or height == 0:
        raise ImageError(f"{name} has no pixels: {width} x {height}")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{name} has {width} x {height} pixels, more than {MAX_SIDE} in a row; cut it", 413)
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million; shrink it", 413
        )


def checked_png(data: bytes, name: str) -> bytes:
    """The same file with nothing but what pixels come from: no text or profiles that swell when they are unpacked.

    ImageError unless size, animation and the checksum of every chunk that is kept are in order.
    """
    damaged = ImageError(f"{name} is damaged or cut off; save it again as PNG or JPEG")
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise damaged
    width, height = struct.unpack(">II", data[16:24])
    check_size(width, height, name)
    kept, last = [PNG], b""
    for kind, start, end in png_chunks(data):
        last = kind
        if kind == b"acTL" and data[start + 8 : start + 12] != b"\0\0\0\1":
            raise ImageError(f"{name} is an animation; only single pictures can be read, so save one frame of it")
        if kind in KEPT:
            if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise damaged
            kept.append(data[start:end])
    if last != b"IEND":
        raise damaged
    return b"".join(kept)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of every whole chunk, up to and with IEND: length, kind, content, checksum (PNG
    specification, 5.3)."""
    start = len(PNG)
    while start + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        end = start + 12 + length
        if end > len(data):
            return
        yield kind, start, end
        if kind == b"IEND":
            return
        start = end


def _read(data: bytes, name: str, drawing: bool) -> Pixels:
    import PIL.Image

    try:
        picture = PIL.Image.open(BytesIO(data), formats=("PNG", "JPEG"))
    except PIL.Image.DecompressionBombError:
        raise ImageError(f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels; shrink it", 413) from None
    with picture:
        check_size(picture.width, picture.height, name)
        picture.load()
        return _to_array(_upright(picture), drawing)


def _upright(picture: Image) -> Image:
    """The picture turned as its camera was held; as it is where that note cannot be read."""
    import PIL.ImageOps

    try:
        return PIL.ImageOps.exif_transpose(picture)
    except Exception:  # of any type, since the note is free-form bytes; the pixels are whole
        return picture


def _to_array(picture: Image, drawing: bool) -> Pixels:
    if picture.mode.startswith("I"):
        return from_16_bits(picture)
    if picture.has_transparency_data:
        pixels = _filled(np.array(picture.convert("RGBA")), drawing)
    else:
        pixels = np.array(picture.convert("RGB"))
    is_grey = (pixels == pixels[..., :1]).all()
    return pixels[..., :1].copy() if is_grey else pixels


def _filled(pixels_HW4: Pixels, drawing: bool) -> Pixels:
    """Red, green, blue over black; of a drawing over the opposite of the visible colour: white under dark ink."""
    colour, alpha = pixels_HW4[..., :3], pixels_HW4[..., 3]
    weight = int(alpha.sum(dtype=np.int64))
    brightness = (to_grey(colour)[..., 0].astype(np.int64) * alpha).sum() / weight if weight else 0.0
    under = 255 if drawing and brightness <= 127 else 0
    mixed = colour.astype(np.uint16) * alpha[..., np.newaxis] + under * (255 - alpha[..., np.newaxis].astype(np.uint16))
    return ((mixed + 127) // 255).astype(np.uint8)


def to_grey(pixels_HWC: Pixels) -> Pixels:
    """uint8 [H, W, 1]: the brightness of red, green and blue (ITU-R 601: 0.299, 0.587, 0.114), grey as it is."""
    if pixels_HWC.shape[2] == 1:
        return pixels_HWC
    red, green, blue = (pixels_HWC[..., channel].astype(np.uint32) for channel in range(3))
    brightness = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16  # in parts of 65536, as Pillow does
    return brightness.astype(np.uint8)[..., np.newaxis]
