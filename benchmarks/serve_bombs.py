"""Pictures made to need much memory or time: small files that claim, or hold, many pixels; large bodies; deep JSON."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def bombs() -> dict[str, list[bytes]]:
    """Files by what a server should do with them: refuse them unread, or read them (they are the largest allowed)."""
    return {
        "refused": [
            png(30_000, 30_000),
            png(60_000, 1000),
            png(2**31 - 1, 2**31 - 1),
            png(4_000_000, 1),
            saved(Image.new("1", (2000, 2001))),
            claiming(saved(Image.new("RGB", (16, 16)), "JPEG"), 12_000, 12_000),
            claiming(saved(Image.new("RGB", (16, 16)), "JPEG", progressive=True, subsampling=0), 5000, 5000),
            bytes(1 << 21),
            b"[" * 1_000_000,
        ],
        "largest": [
            saved(Image.new("1", (2000, 2000))),
            saved(Image.new("RGBA", (2000, 2000), (9, 9, 9, 128))),
            saved(Image.new("RGB", (2000, 2000), "white"), "JPEG"),
            saved(Image.new("RGB", (6000, 4000), "white"), "JPEG"),
            saved(Image.new("RGB", (4000, 4000), "white"), "JPEG", progressive=True, subsampling=0),
            saved(Image.new("1", (60_000, 66), 1)),
        ],
    }


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def claiming(photo: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame claims another size."""
    at = photo.index(b"\xff\xc2" if b"\xff\xc2" in photo else b"\xff\xc0") + 5
    return photo[:at] + struct.pack(">HH", height, width) + photo[at + 4 :]


def png(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds a megabyte of zeros, compressed."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(1 << 20)))]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*parts, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
