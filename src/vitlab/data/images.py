"""One picture as pixels: an image file of any mode, checked before a pixel is decoded.

Image folders, `vitlab predict` and `vitlab serve` all read pictures here. Pillow is imported when the first one comes.
A picture of more than MAX_PIXELS, and a JPEG of more than is needed, is reduced while it is decoded, so photos need
little memory and time.
"""

from __future__ import annotations

import math
import struct
import threading
import warnings
import zlib
from contextlib import nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitlab.data import tiff
from vitlab.data.paths import open_regular
from vitlab.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.unsignedinteger[Any]]  # uint8 or uint16
Eight = npt.NDArray[np.uint8]

MAX_BYTES = 256 * 2**20  # of an encoded file
MAX_PIXELS = 4_000_000  # of a decoded picture; a JPEG of more is decoded at 1/2, 1/4 or 1/8
MAX_JPEG_PIXELS = 128_000_000
MAX_LOCAL_PIXELS = 64_000_000  # of other files on this machine's disk, which are decoded as a whole, then reduced
MAX_COEFFICIENTS = 96 * 2**20  # bytes that a JPEG of several scans makes the decoder hold
MAX_LOCAL_COEFFICIENTS = 512 * 2**20
MAX_SIDE = 65_535  # as in JPEG: resizing a row of millions of pixels takes a gigabyte of weights
MAX_SCANS = 100  # of a JPEG: ten are usual, and each goes over the whole picture even if it is 14 bytes long
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
SCAN = b"\xff\xda"
KEPT = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")  # the PNG chunks that pixels depend on
# The formats that are read: (offset, bytes found there, name). A stranger's picture may only be one of SAFE, because
# each further decoder is one more that can be attacked.
FORMATS = (
    (0, PNG, "PNG"),
    (0, JPEG, "JPEG"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
)
SAFE = ("PNG", "JPEG")
ALL = tuple(dict.fromkeys(kind for _, _, kind in FORMATS))
# Others, only to name them in a message.
VIDEO = "a video"
OTHERS = (
    *((4, b"ftyp" + brand, VIDEO) for brand in (b"mp4", b"isom", b"iso", b"M4V", b"qt")),
    *((at, mark, VIDEO) for at, mark in ((0, b"\x1aE\xdf\xa3"), (8, b"AVI "))),
    (4, b"ftyp", "a HEIC, AVIF or video file"),
    (0, b"\0\0\1\0", "an icon file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)
READABLE = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
SUFFIXES = (*READABLE, ".heic", ".heif", ".avif")
DEEP_GREY = b"\x10\0"  # in a PNG's header: 16 bits, grey
DEEP_COLOUR = (b"\x10\2", b"\x10\4", b"\x10\6")  # in colour, or with transparency: Pillow reads 8 of 16 bits
ORIENTATION = 0x0112  # in EXIF: how the camera was held
LARGE_PIXELS = 1_000_000  # pictures of more are decoded one at a time, because each takes much memory
# How a JPEG is decoded: 1, at a fraction only if it has more than MAX_PIXELS; 2, at the smallest fraction that leaves
# both sides at SPARE times what is needed, so that resizing has enough to average.
FIRST_DECODING, DECODING = 1, 2
SPARE = 2
_large = threading.Lock()


class Quiet:
    """Inside, Pillow's warnings about oddities that do not prevent reading are silent. They can only be silenced for
    the whole process, so of several threads the first one in does it, and the last one out undoes it."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.silence = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.silence = warnings.catch_warnings()
                self.silence.__enter__()
                warnings.simplefilter("ignore")
            self.inside += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.silence.__exit__(None, None, None)


_quiet = Quiet()


class ImageError(DataError):
    """A picture that cannot be read. ``status`` is the HTTP status for it: 415 unsupported format, 413 too large,
    422 anything else."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Depth:
    """How much of a file is kept: ``bits`` of each number, 8 or 16, and all channels of a TIFF. ``alpha``: whether a
    last channel that it marks as transparency is that. Without a Depth, as earlier versions read: 8 bits, and what
    Pillow makes of channels."""

    bits: int = 8
    alpha: bool = True


@dataclass(frozen=True, eq=False)
class Layers:
    """A decoded picture before its transparency is filled: ``pixels`` uint8 (or uint16) [H, W, C] over black;
    ``alpha``, uint8 [H, W], None if nothing is transparent; ``ink``, the mean brightness of what is not, 0 to 255;
    ``lost``: what of the file these pixels do not hold, in words."""

    pixels: Pixels
    alpha: Eight | None = None
    ink: float = 0.0
    lost: str = ""


def over(black_HWC: Pixels, alpha_HW: Eight | None, under: int) -> Pixels:
    """Pixels with transparency ``alpha_HW`` that lie over black, over a background of the grey ``under``."""
    if alpha_HW is None or not under:
        return black_HWC
    most, wide = np.iinfo(black_HWC.dtype).max, twice(black_HWC)
    added = (under * (255 - alpha_HW.astype(wide)) + 127) // 255 * wide(most // 255)
    mixed: Pixels = np.minimum(black_HWC + added[..., np.newaxis], most).astype(black_HWC.dtype)
    return mixed


def twice(pixels: Pixels) -> Any:
    """The unsigned type with twice as many bits, in which products of two of these numbers fit."""
    return np.uint32 if pixels.dtype == np.uint16 else np.uint16


def with_bits(pixels: Pixels, bits: int) -> Pixels:
    """The same pixels as uint8 or, for 16 ``bits``, as uint16: black and white stay black and white."""
    if (pixels.dtype == np.uint16) == (bits == 16):
        return pixels
    if bits == 16:
        return pixels.astype(np.uint16) * np.uint16(257)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def with_depth(layers: Layers, depth: Depth, lost: str) -> Layers:
    """The same with the bits of ``depth``."""
    return replace(layers, pixels=with_bits(layers.pixels, depth.bits), lost=lost)


def read_file(path: str | Path) -> bytes:
    """The bytes of an image file, enough of them for `decode` to notice that there are too many; ImageError when it
    cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if isinstance(error, FileNotFoundError):
            raise ImageError(f"there is no file {str(path)!r}; choose an image file that exists") from error
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"cannot read {str(path)!r}: {reason}; choose an image file that exists and can be read"
        ) from error


def decode(
    data: bytes,
    name: str,
    drawing: bool = True,
    strict: bool = True,
    local: bool = False,
    least: int | None = None,
    under: int = 0,
    decoding: int = DECODING,
    depth: Depth | None = None,
) -> Pixels:
    """uint8 [H, W, C] of an image file; C is 1 when every pixel is grey, else 3. With ``depth`` uint8 or uint16, and C
    as many as a TIFF has.

    EXIF orientation is applied, and 16 bits are scaled to 8. Transparency becomes the grey ``under``, except in a
    ``drawing``, where it becomes white under dark ink and black under bright ink, so strokes never vanish. ``strict``,
    for pictures from outside, also refuses animations, checksum errors, a missing end and extreme shapes; without it
    whatever Pillow can read is accepted, and of an animation the first frame. For ``local``, ``least`` and ``decoding``
    see `decode_layers`. ImageError in one line that begins with ``name``.
    """
    layers = decode_layers(data, name, strict, local or not strict, least, decoding=decoding, depth=depth)
    return over(layers.pixels, layers.alpha, (255 if layers.ink <= 127 else 0) if drawing else under)


def decode_layers(
    data: bytes,
    name: str,
    strict: bool,
    local: bool = True,
    least: int | None = None,
    kinds: tuple[str, ...] = ALL,
    decoding: int = DECODING,
    depth: Depth | None = None,
) -> Layers:
    """The same before transparency is filled.

    A picture of more than MAX_PIXELS is reduced below it: a JPEG while it is decoded; others afterwards, which is why
    only a ``local`` file may be so large without being a JPEG. ``least``: the longer side of what the caller needs, to
    which a JPEG may be reduced further, as ``decoding`` says.
    Files that are not ``local`` may only have one of the formats SAFE, others one of ``kinds``.
    """
    import PIL.Image
    import PIL.ImageOps

    shown = printable(name)
    kind = check_format(data, shown, kinds if local else SAFE)
    if strict:
        if kind == "PNG":
            data = checked_png(data, shown, local)
        elif kind == "JPEG" and data.count(SCAN) > MAX_SCANS:
            raise ImageError(f"{shown} is a JPEG with more than {MAX_SCANS} scans; save it as PNG")
    tags = tiff.tags_of(data) if depth and kind == "TIFF" else None
    if depth and tags is not None:
        tags = tags if depth.alpha else tags.without_alpha
        if wrong := tags.why_not():
            raise ImageError(f"{shown} {wrong}")
        check_size(tags.width, tags.height, shown, strict, MAX_LOCAL_PIXELS // max(1, (tags.channels or 1) // 3))
        if not tags.is_for_pillow:
            return with_depth(_of_tags(data, tags, shown), depth, _lost(data, kind, tags))
    try:
        with _quiet:
            picture: Image = PIL.Image.open(BytesIO(data), formats=(kind,))
            check_size(picture.width, picture.height, shown, strict, _most(data, local))
            if kind == "JPEG":
                _choose_fraction(picture, data, shown, local, least, decoding)
            with _large if _takes_much(picture, data) else nullcontext():
                if kind != "JPEG" and picture.width * picture.height > MAX_PIXELS:
                    picture = _reduced(picture, depth is not None)
                picture.load()
                if picture.mode == "F":
                    raise ImageError(f"{shown} has floating-point pixels; save it with 8 or 16 bits")
                try:
                    picture = PIL.ImageOps.exif_transpose(picture)
                except MemoryError:
                    raise
                except Exception:  # how the camera was held is a free-form note; the pixels are intact
                    pass
                layers = _to_layers(picture, depth is not None, tags is not None and tags.white_is_zero)
                return with_depth(layers, depth, _lost(data, kind, tags)) if depth else layers
    except (ImageError, MemoryError):
        raise
    except PIL.Image.DecompressionBombError:
        most = _most(data, local) // 1_000_000
        raise ImageError(f"{shown} has more than {most} million pixels; shrink it", 413) from None
    except Exception as error:  # Pillow has a dozen types for damage: OSError, SyntaxError, struct.error, ...
        raise _damaged(shown) from error


def _of_tags(data: bytes, tags: tiff.Tags, name: str) -> Layers:
    """A TIFF that Pillow cannot decode as a whole."""
    try:
        pixels = tiff.pixels_of(data, tags)
    except MemoryError:
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise ImageError(
                f"{name} is compressed in a way that needs the package imagecodecs: pip install imagecodecs, or save "
                "it uncompressed"
            ) from None
        raise _damaged(name) from error
    if tags.has_alpha:
        return _split_alpha(pixels)
    return Layers(_grey_if_all_is(pixels) if pixels.shape[2] == 3 else pixels)


def _lost(data: bytes, kind: str, tags: tiff.Tags | None) -> str:
    """What of a file is not in its pixels, though it could be."""
    if tags is not None and tags.pages > 1 and not tags.stacked:
        return "all pages but the first"
    return "8 of the 16 bits of PNG with colour or transparency" if kind == "PNG" and data[24:26] in DEEP_COLOUR else ""


def tags_at(head: bytes, path: Path) -> tiff.Tags | None:
    """What a TIFF states; None for a damaged one, and for all else. ``head``: the first bytes of the file."""
    if format_of(head) != "TIFF":
        return None
    try:
        with open_regular(path) as file:
            return tiff.tags_of(file)
    except OSError:  # reported when it is read
        return None


def bits_of(head: bytes, tags: tiff.Tags | None) -> int:
    """8, or 16 if a file has so many that can be kept, from its first bytes or, of a TIFF, its tags."""
    return 16 if (head.startswith(PNG) and head[24:26] == DEEP_GREY) or (tags is not None and tags.is_deep) else 8


def size_of(head: bytes, path: Path, tags: tiff.Tags | None = None) -> tuple[int, int] | None:
    """(height, width) of an image file as it is seen, from its first bytes or header, or its ``tags``; None if it has
    none."""
    import PIL.Image

    kind = format_of(head)
    if kind is None:
        return None
    if tags is not None and not tags.is_for_pillow:
        return (tags.height, tags.width) if tags.height and tags.width else None
    try:
        if head.startswith(PNG) and head[12:16] == b"IHDR" and b"eXIf" not in head:
            width, height = struct.unpack(">II", head[16:24])
        else:
            with _quiet, open_regular(path) as file:
                picture: Image = PIL.Image.open(file, formats=(kind,))
                width, height = picture.size
                is_turned = PIL.Image.Image.getexif(picture).get(ORIENTATION, 1) in (5, 6, 7, 8)
                if is_turned and kind != "TIFF":  # Pillow turns a TIFF's size for us
                    width, height = height, width
    except MemoryError:
        raise
    except Exception:  # the file is damaged, which is reported when it is decoded
        return None
    return (height, width) if height and width else None


def looks_like_an_image(head: bytes, name: str) -> bool:
    """Whether a file is or claims to be an image of any kind, readable here or not."""
    return format_of(head) is not None or head[4:8] == b"ftyp" or name.lower().endswith(SUFFIXES)


def is_picture(path: Path) -> bool:
    """Whether a file begins like an image that can be read, or its name claims that it is one."""
    try:
        with open_regular(path) as file:
            head = file.read(16)
    except OSError:  # its name decides whether that is reported
        head = b""
    return format_of(head) is not None or path.name.lower().endswith(READABLE)


def format_of(data: bytes) -> str | None:
    """The format of a file that can be read, by its first bytes: "PNG", "WebP" ...; else None."""
    found = [kind for at, mark, kind in FORMATS if data[at : at + len(mark)] == mark]
    return found[0] if found and (found[0] != "WebP" or data.startswith(b"RIFF")) else None


def _most(data: bytes, local: bool) -> int:
    """The largest number of pixels that a file may state."""
    if data.startswith(JPEG):
        return MAX_JPEG_PIXELS
    return MAX_LOCAL_PIXELS if local else MAX_PIXELS


def _takes_much(picture: Image, data: bytes) -> bool:
    """Whether decoding takes so much memory that it is done for one picture at a time."""
    if picture.width * picture.height > LARGE_PIXELS:
        return True
    return data.startswith(JPEG) and (held_coefficients(data) or 0) > 3 * LARGE_PIXELS


def _reduced(picture: Image, deep: bool) -> Image:
    """A picture of many pixels at a fraction of its size, so that MAX_PIXELS or fewer are left."""
    width, height = picture.size
    factor = math.ceil(math.sqrt(width * height / MAX_PIXELS))
    while -(-width // factor) * -(-height // factor) > MAX_PIXELS:
        factor += 1
    if deep and picture.mode.startswith("I"):
        return picture.convert("I").reduce(factor)
    return _plain(picture).reduce(factor)


def _choose_fraction(picture: Image, data: bytes, name: str, local: bool, least: int | None, decoding: int) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size where it has more than MAX_PIXELS, of which fewer are left,
    or where that is all that is needed."""
    width, height = picture.size
    is_large, needed = width * height > MAX_PIXELS, least
    if is_large:
        held, most = held_coefficients(data), MAX_LOCAL_COEFFICIENTS if local else MAX_COEFFICIENTS
        if held is None:
            raise _damaged(name)
        scans = data.count(SCAN) if held else 1
        if held > most or (not local and scans * width * height > MAX_SCANS * MAX_PIXELS):
            raise ImageError(f"{name} is a progressive JPEG of {width} x {height} pixels; shrink it", 413)
    if decoding >= DECODING and least is not None:
        needed = SPARE * least
    elif not is_large:
        return
    factors = [factor for factor in (1, 2, 4, 8) if -(-width // factor) * -(-height // factor) <= MAX_PIXELS]
    fine = [factor for factor in factors if needed and min(width, height) // factor >= needed]
    factor = max([factors[0], *fine]) if factors else 8
    if factor > 1:
        picture.draft(None, (max(1, width // factor), max(1, height // factor)))


def held_coefficients(data: bytes) -> int | None:
    """How many bytes of coefficients a decoder must hold at once, because a JPEG's scans each go over the whole picture
    (ITU-T T.81, annexes B and G): 0 if one scan holds everything, None if there is no frame or scan."""
    place, held, components, progressive = 2, 0, 0, False
    while place + 4 <= len(data):
        mark, kind = data[place], data[place + 1]
        if mark != 0xFF or kind in (0x00, 0x01, 0xFF) or 0xD0 <= kind <= 0xD8:
            place += 1
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        part = data[place + 4 : place + 2 + length]
        if kind == 0xDA and part:
            is_whole = part[0] == components
            return None if not components else 0 if is_whole and not progressive else held
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and len(part) >= 6:
            progressive, components = kind not in (0xC0, 0xC1), part[5]
            height, width = int.from_bytes(part[1:3], "big"), int.from_bytes(part[3:5], "big")
            factors = [divmod(byte, 16) for byte in part[7 : 6 + 3 * components : 3]]
            largest = max((across for across, _ in factors), default=1) * max((down for _, down in factors), default=1)
            held = 2 * width * height * sum(across * down for across, down in factors) // max(1, largest)
        place += 2 + length
    return None


def printable(name: str) -> str:
    """A file's name for one line: unchanged, or quoted if it contains line breaks or control characters."""
    return name if name.isprintable() else repr(name)


def _damaged(name: str) -> ImageError:
    return ImageError(f"{name} is damaged or incomplete; save it again as PNG or JPEG")


def check_format(data: bytes, name: str, kinds: tuple[str, ...] = ALL) -> str:
    """The format of a file; ImageError unless it is one of ``kinds`` and the file is of acceptable size."""
    if not data:
        raise ImageError(f"{name} is empty; choose a PNG or JPEG image")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES // 2**20} MiB; shrink it", 413)
    readable = format_of(data)
    if readable in kinds:
        return str(readable)
    found = (kind for at, mark, kind in OTHERS if data[at : at + len(mark)] == mark)
    kind = f"a {readable} image" if readable else next(found, None)
    start = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if kind is None and start.startswith((b"<svg", b"<?xml", b"<html", b"<!doctype")):
        kind = "an SVG drawing" if b"<svg" in start else "a web page or XML"
    if kind is None and _is_text(data[:1000]):
        kind = "text"
    wanted = f"{', '.join(kinds[:-1])} or {kinds[-1]}"
    advice = {VIDEO: "save one frame as PNG", "text": "choose an image"}.get(str(kind), "save it as PNG")
    raise ImageError(f"{name} is {kind or 'of an unknown kind'}, not a {wanted} image; {advice}", 415)


def _is_text(start: bytes) -> bool:
    """Whether a file that begins so is text that people read."""
    words = start.decode(errors="ignore")
    return len(words.encode()) > len(start) - 4 and all(one.isprintable() or one.isspace() for one in words)


def check_size(width: int, height: int, name: str, strict: bool = True, most: int = MAX_PIXELS) -> None:
    """ImageError for no pixels or more than ``most`` and, if ``strict``, for a side above MAX_SIDE."""
    size = f"{name} has {width} x {height} pixels"
    if width == 0 or height == 0:
        raise ImageError(f"{size}; save it again")
    if strict and max(width, height) > MAX_SIDE:
        raise ImageError(f"{size}, more than {MAX_SIDE:,} on one side; crop it", 413)
    if width * height > most:
        raise ImageError(f"{size}, more than {most // 1_000_000} million; shrink it", 413)


def checked_png(data: bytes, name: str, local: bool = False) -> bytes:
    """The same file reduced to the chunks that pixels depend on: no texts or profiles that swell when unpacked.

    ImageError unless size, frame count and the checksums of those chunks are in order.
    """
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise _damaged(name)
    width, height = struct.unpack(">II", data[16:24])
    check_size(width, height, name, True, _most(data, local))
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


def _to_layers(picture: Image, deep: bool = False, white_is_zero: bool = False) -> Layers:
    if picture.mode.startswith("I"):  # 16 bits of grey
        levels = _sixteen_bits(picture)[..., np.newaxis]
        if not deep:
            return Layers(with_bits(levels, 8))
        return Layers(65535 - levels if white_is_zero else levels)  # Pillow inverts only 8 bits
    if not picture.has_transparency_data:
        return Layers(_grey_if_all_is(np.array(picture.convert("RGB"))))
    return _split_alpha(np.array(picture.convert("RGBA")))


def _plain(picture: Image) -> Image:
    """In a mode that can be reduced: grey, colour, or colour with transparency."""
    import PIL.Image

    if picture.mode.startswith("I"):
        return PIL.Image.fromarray(with_bits(_sixteen_bits(picture), 8))
    if picture.mode in ("L", "RGB", "RGBA"):
        picture.load()
        return picture if not picture.info.get("transparency") else picture.convert("RGBA")
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _sixteen_bits(picture: Image) -> npt.NDArray[np.uint16]:
    return np.clip(np.asarray(picture).astype(np.int64), 0, 65535).astype(np.uint16)


def _grey_if_all_is(pixels_HW3: Pixels) -> Pixels:
    is_grey = (pixels_HW3 == pixels_HW3[..., :1]).all()
    return pixels_HW3[..., :1].copy() if is_grey else pixels_HW3


def _split_alpha(pixels_HWC: Pixels) -> Layers:
    """Grey, or red, green, blue, over black, with the transparency, which comes last, and the brightness of the ink."""
    colour, alpha = pixels_HWC[..., :-1], pixels_HWC[..., -1]
    most = np.iinfo(pixels_HWC.dtype).max
    weight = int(alpha.sum(dtype=np.int64))
    ink = float((to_grey(colour)[..., 0].astype(np.int64) * alpha).sum() / weight) if weight else 0.0
    mixed = (colour.astype(twice(colour)) * alpha[..., np.newaxis] + most // 2) // most
    is_opaque = weight == int(most) * alpha.size
    flat = _grey_if_all_is(mixed.astype(pixels_HWC.dtype))
    return Layers(flat, None if is_opaque else np.array(with_bits(alpha, 8), np.uint8), ink * 255 / most)


def to_grey(pixels_HWC: Pixels) -> Pixels:
    """[H, W, 1]: the brightness of red, green and blue (ITU-R 601: 0.299, 0.587, 0.114); grey is unchanged."""
    if pixels_HWC.shape[2] == 1:
        return pixels_HWC
    red, green, blue = (pixels_HWC[..., channel].astype(np.uint32) for channel in range(3))
    # In parts of 65536, as Pillow does. The weights' sum is 65536, so 16 bits just fit into 32.
    brightness = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return brightness.astype(pixels_HWC.dtype)[..., np.newaxis]


def resize(pixels_HWC: Pixels, height: int, width: int) -> Pixels:
    """[H, W, C] -> [height, width, C], averaging when it shrinks; unchanged if it has that size."""
    import PIL.Image

    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC
    channels, how = pixels_HWC.shape[2], PIL.Image.Resampling.BILINEAR
    if pixels_HWC.dtype == np.uint8 and channels in (1, 3):
        picture = PIL.Image.fromarray(pixels_HWC[..., 0] if channels == 1 else pixels_HWC)
        return np.asarray(picture.resize((width, height), how)).reshape(height, width, channels)
    made = np.empty((height, width, channels), pixels_HWC.dtype)
    for channel in range(channels):  # Pillow takes four for transparency, and 16 bits only as floats
        picture = PIL.Image.fromarray(pixels_HWC[..., channel].astype(np.float32))
        made[..., channel] = np.rint(np.asarray(picture.resize((width, height), how)))
    return made
