"""Pictures that people and attackers send, built in memory: each with what has to become of it.

    for case in zoo(): case.name, case.data, case.status, case.shows

``status`` 200: it can be read. ``shows`` then says what it shows: "seven", the drawing of `seven()` in some mode, size
of canvas and polarity; "blank"; or "something". Other statuses are those of ImageError and of the server: 413, 415 and
422.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 61, 47  # of the drawing's canvas
BLUE = (20, 40, 160)


@dataclass(frozen=True)
class Case:
    """One file."""

    name: str
    data: bytes
    status: int
    shows: str = ""
    loss: int = 0  # by how many grey levels a pixel may differ, for JPEG
    own: int = 0  # the status of one's own file, if it differs

    @property
    def own_status(self) -> int:
        """What becomes of it on one's own disk, where more formats are read."""
        return self.own or self.status


def seven() -> Pixels:
    """A seven, white on black: uint8 [47, 61]; only 0 and 255 occur."""
    image = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(image).line([(22, 8), (40, 8), (29, 38)], fill=255, width=4)
    return np.asarray(image)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file, with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int,
    height: int,
    raw: bytes,
    depth: int = 8,
    colour: int = 0,
    interlaced: bool = False,
    before: bytes = b"",
) -> bytes:
    """A PNG file made by hand from filtered rows ``raw``; ``before``: further chunks in front of the pixels."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + pixels + chunk(b"IEND", b"")


def rows(pixels: npt.NDArray[Any]) -> bytes:
    """Rows of a PNG, each with filter 0."""
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def interlaced(pixels: Pixels) -> bytes:
    """Adam7: seven passes, each a coarser picture (PNG specification, 8.2)."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    raw = b"".join(rows(np.ascontiguousarray(pixels[y::dy, x::dx])) for x, y, dx, dy in passes)
    return png(pixels.shape[1], pixels.shape[0], raw, interlaced=True)


def see_through(ink: tuple[int, int, int], hidden: tuple[int, int, int]) -> Image.Image:
    """The seven in ``ink`` on transparency, whose invisible colour is ``hidden``."""
    drawn = seven() == 255
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., :3] = np.where(drawn[..., None], ink, hidden)
    pixels[..., 3] = np.where(drawn, 255, 0)
    return Image.fromarray(pixels)


def turned(orientation: int, how: Image.Transpose, kind: str) -> bytes:
    """A seven as a camera stores it that was held differently: the pixels turned, and a note to turn them back."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(
        Image.fromarray(seven()).transpose(how), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {})
    )


def on_large_canvas(side: int) -> bytes:
    """The seven on a canvas of many pixels, at its lower right."""
    canvas = np.zeros((side, side), np.uint8)
    canvas[-HEIGHT - 11 : -11, -WIDTH - 5 : -5] = seven()
    return saved(Image.fromarray(canvas))


def colours(side: int) -> Image.Image:
    """A picture with ink everywhere, half transparent."""
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    across, down = np.broadcast_to(ramp, (side, side)), np.broadcast_to(ramp[:, None], (side, side))
    return Image.fromarray(np.stack([across, down, across, down], axis=-1))


def readable_png() -> Iterator[Case]:
    """PNG files of every mode."""
    white, black = Image.fromarray(seven()), Image.fromarray(255 - seven())
    palette = black.convert("P")
    swapped = Image.fromarray(seven() // 255).convert("P")  # 0 for ground and 1 for ink,
    swapped.putpalette([255, 255, 255, 0, 0, 0])  # which mean white and black
    modes = {
        "white-on-black.png": saved(white),
        "black-on-white.png": saved(black),
        "1-bit.png": saved(white.convert("1")),
        "1-bit-dark.png": saved(black.convert("1")),
        "grey-alpha.png": saved(black.convert("LA")),
        "grey-alpha-dark-ink.png": saved(see_through((0, 0, 0), (0, 0, 0)).convert("LA")),
        "grey-alpha-white-ink.png": saved(see_through((255,) * 3, (255,) * 3).convert("LA")),
        "palette.png": saved(palette),
        "palette-1-bit.png": saved(swapped, bits=1),
        "palette-transparent-ground.png": saved(palette, transparency=palette.getpixel((0, 0))),
        "palette-white-ink.png": saved(white.convert("P"), transparency=white.convert("P").getpixel((0, 0))),
        "rgb.png": saved(white.convert("RGB")),
        "rgb-key.png": saved(black.convert("RGB"), transparency=(255, 255, 255)),
        "rgba-opaque.png": saved(black.convert("RGBA")),
        "rgba-dark-ink.png": saved(see_through((0, 0, 0), (0, 0, 0))),
        "rgba-white-ink.png": saved(see_through((255,) * 3, (255,) * 3)),
        "rgba-white-ink-on-hidden-black.png": saved(see_through((255,) * 3, (0, 0, 0))),
        "16-bit.png": saved(Image.fromarray(seven().astype(np.uint16) * 257)),
        "16-bit-rgb.png": png(WIDTH, HEIGHT, rows(np.repeat(seven(), 6, axis=1)), depth=16, colour=2),
        "4-bit.png": png(WIDTH, HEIGHT, rows(four_bits()), depth=4),
        "interlaced.png": interlaced(seven()),
        "turned.png": turned(6, Image.Transpose.ROTATE_90, "PNG"),
        "huge-text.png": with_text(b"zTXt", b"note\0\0" + zlib.compress(bytes(20_000_000))),
        "long-text.png": with_text(b"tEXt", b"note\0" + b"a" * 3_000_000),
        "damaged-profile.png": with_text(b"iCCP", b"profile\0\0" + b"nonsense"),
        "trailing-garbage.png": saved(white) + b"garbage" * 999,
        "png-and-zip.png": saved(white) + zipped(),
        "single-frame-animation.png": with_text(b"acTL", struct.pack(">II", 1, 0)),
        "4-megapixels.png": on_large_canvas(2000),
        "no-ending": saved(white),
        "picture.jpg": saved(white),
    }
    for name, data in modes.items():
        yield Case(name, data, 200, "seven")
    # Pillow leaves rows black that are missing in a stream that is whole otherwise.
    yield Case("too-few-rows.png", png(WIDTH, HEIGHT, rows(seven()[:9])), 200, "something")
    yield Case("4-megapixels-rgba.png", saved(colours(2000)), 200, "something")
    yield Case("4-megapixels.jpg", saved(colours(2000).convert("RGB"), "JPEG"), 200, "something")
    yield Case("12-megapixels.jpg", saved(Image.new("RGB", (4032, 3024), BLUE), "JPEG"), 200, "something")
    yield Case("blue-ink.png", saved(see_through(BLUE, BLUE)), 200, "something")
    yield Case("1x1.png", saved(Image.new("L", (1, 1), 255)), 200, "blank")
    yield Case("1x4000.png", saved(Image.new("L", (1, 4000), 7)), 200, "blank")
    yield Case("60000x60.png", saved(Image.new("1", (60_000, 60))), 200, "blank")
    yield Case("blank-white.png", saved(Image.new("RGB", (50, 40), "white")), 200, "blank")
    yield Case("blank-transparent.png", saved(Image.new("RGBA", (50, 40))), 200, "blank")


def readable_jpeg() -> Iterator[Case]:
    """JPEG files of every mode."""
    white, black = Image.fromarray(seven()), Image.fromarray(255 - seven())
    note = saved(white, "JPEG", quality=95, exif=b"Exif\0\0nonsense")
    modes = {
        "grey.jpg": saved(white, "JPEG", quality=95),
        "rgb.jpg": saved(black.convert("RGB"), "JPEG", quality=95),
        "cmyk.jpg": saved(black.convert("RGB").convert("CMYK"), "JPEG", quality=95),
        "progressive.jpg": saved(white, "JPEG", quality=95, progressive=True),
        "turned-right.jpg": turned(6, Image.Transpose.ROTATE_90, "JPEG"),
        "turned-over.jpeg": turned(3, Image.Transpose.ROTATE_180, "JPEG"),
        "mirrored.jpg": turned(2, Image.Transpose.FLIP_LEFT_RIGHT, "JPEG"),
        "damaged-exif.jpg": note,
        "trailing-garbage.jpg": saved(white, "JPEG", quality=95) + b"garbage" * 999,
        "two-pictures.jpg": saved(white, "MPO", quality=95, save_all=True, append_images=[black]),
        "really-a-jpeg.png": saved(white, "JPEG", quality=95),
    }
    for name, data in modes.items():
        yield Case(name, data, 200, "seven", loss=40)


def damaged() -> Iterator[Case]:
    """PNG and JPEG files with something wrong."""
    good, photo = saved(Image.fromarray(seven())), saved(Image.fromarray(seven()), "JPEG", quality=95)
    frames = [Image.fromarray(seven()), Image.fromarray(seven().T.copy()).resize((WIDTH, HEIGHT))]
    broken = {
        "empty.png": b"",
        "cut.png": good[: len(good) // 2],
        "cut-at-the-end.png": good[:-12],
        "signature-only.png": good[:8],
        "header-only.png": good[:33],
        "cut.jpg": photo[: len(photo) // 2],
        "start-only.jpg": photo[:3],
        "no-pixels.jpg": photo[:20] + b"\xff\xd9",
        "wrong-checksum.png": flipped(good, good.index(b"IDAT") + 12),
        "only-the-checksum-is-wrong.png": flipped(good, good.index(b"IEND") - 5),
        "wrong-header-checksum.png": flipped(good, 29),
        "wrong-stream.png": png(WIDTH, HEIGHT, b"").replace(zlib.compress(b""), b"\xff" * 8),
        "wrong-kind-of-colour.png": png(WIDTH, HEIGHT, rows(seven()), colour=5),
        "lying-length.png": good[:33] + struct.pack(">I", 2**31 - 1) + good[37:],
        "0x5.png": png(0, 5, b"\0" * 5),
        "5x0.png": png(5, 0, b""),
        "zero-height.jpg": resized(photo, 61, 0),
        "animated.png": saved(frames[0], save_all=True, append_images=frames[1:]),
        "png-then-nonsense.png": good[:8] + b"nonsense" * 99,
        "ten-thousand-scans.jpg": many_scans(10_000),
    }
    for name, data in broken.items():
        yield Case(name, data, 422)


def too_large() -> Iterator[Case]:
    """Small files that claim many pixels."""
    photo = saved(Image.fromarray(seven()), "JPEG")
    yield Case("bomb.png", png(30_000, 30_000, bytes(1000)), 413)
    yield Case("60000x1000.png", png(60_000, 1000, bytes(1000)), 413)
    yield Case("4000000x1.png", saved(Image.new("1", (4_000_000, 1))), 413)
    yield Case("1x70000.png", saved(Image.new("L", (1, 70_000), 7)), 413)
    yield Case("2000x2001.png", saved(Image.new("1", (2000, 2001))), 413)
    yield Case("largest-numbers.png", png(2**31 - 1, 2**31 - 1, b"\0"), 413)
    yield Case("bomb.jpg", resized(photo, 65_500, 65_500), 413)
    many = saved(Image.new("RGB", (16, 16)), "JPEG", progressive=True, subsampling=0)  # all of it is held at once
    yield Case("progressive-bomb.jpg", resized(many, 11_000, 11_000), 413)


def other_kinds() -> Iterator[Case]:
    """What is not PNG or JPEG, whatever its name; some of it is read from one's own disk."""
    picture = Image.fromarray(seven())
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    kinds = {
        "drawing.svg": svg,
        "drawing.png": b'<?xml version="1.0"?>\n' + svg,
        "picture.gif": saved(picture, "GIF"),
        "animated.gif": saved(picture, "GIF", save_all=True, append_images=[Image.fromarray(255 - seven())]),
        "really-a-gif.png": saved(picture, "GIF"),
        "picture.webp": saved(picture, "WEBP", lossless=True),
        "picture.bmp": saved(picture, "BMP"),
        "picture.tiff": saved(picture, "TIFF"),
        "picture.ico": saved(picture, "ICO", sizes=[(16, 16)]),
        "picture.pdf": saved(picture, "PDF"),
        "picture.pgm": saved(picture, "PPM"),
        "really-a-zip.png": zipped(),
        "page.png": b"<!DOCTYPE html><html><body>not found</body></html>",
        "text.png": b"seven",
        "zeros.png": bytes(5000),
        "one-byte.jpg": b"\xff",
        "photo.heic": b"\0\0\0\x18ftypheic" + bytes(99),
    }
    for name, data in kinds.items():
        own = name.startswith("picture.") or "gif" in name
        is_read = own and not name.endswith((".ico", ".pdf", ".pgm"))
        yield Case(name, data, 415, "seven" if is_read else "", own=200 if is_read else 0)


@cache
def zoo() -> tuple[Case, ...]:
    """All of them."""
    parts: tuple[Callable[[], Iterator[Case]], ...] = (readable_png, readable_jpeg, damaged, too_large, other_kinds)
    return tuple(case for part in parts for case in part())


def four_bits() -> Pixels:
    """The seven with two pixels in a byte."""
    even = np.pad(seven() >> 4, ((0, 0), (0, WIDTH % 2)))
    return ((even[:, 0::2] << 4) | even[:, 1::2]).astype(np.uint8)


def with_text(kind: bytes, content: bytes) -> bytes:
    """The seven with one more chunk."""
    return png(WIDTH, HEIGHT, rows(seven()), before=chunk(kind, content))


def zipped() -> bytes:
    """A zip archive with a picture in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("seven.png", saved(Image.fromarray(seven())))
    return stream.getvalue()


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan, a few bytes, is repeated: each time all of the picture is gone through."""
    photo = saved(Image.new("L", (2000, 2000)), "JPEG", progressive=True)
    scan = photo[photo.rindex(b"\xff\xda") : -2]
    return photo[:-2] + scan * count + photo[-2:]


def flipped(data: bytes, at: int) -> bytes:
    """With one bit of one byte changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def resized(photo: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size (in its start of frame, after length and precision)."""
    at = photo.index(b"\xff\xc2" if b"\xff\xc2" in photo else b"\xff\xc0") + 5
    return photo[:at] + struct.pack(">HH", height, width) + photo[at + 4 :]
