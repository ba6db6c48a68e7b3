"""One PNG or JPEG file of a data set as pixels. Pictures to be answered come in through vitlab.predict.decode."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from vitlab.data.splits import Images
from vitlab.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 4_000_000


def decode(data: bytes) -> Images:
    """uint8 [H, W, C] of a PNG or JPEG file; C is 1 when every pixel is grey, else 3.

    The camera's turn (EXIF) is applied, transparency is laid over black, 16-bit grey is scaled.
    DataError gives the reason only: not PNG or JPEG by content, damaged, or above MAX_PIXELS, which
    is judged by the header, before memory is taken for pixels.
    """
    import PIL.Image
    import PIL.ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about oddities of the file that do not keep it from being read
            with PIL.Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise DataError(f"{picture.width} x {picture.height} pixels, more than 4 megapixels")
                return _to_array(PIL.ImageOps.exif_transpose(picture))
    except DataError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise DataError("not a PNG or JPEG image") from error
    except PIL.Image.DecompressionBombError as error:
        raise DataError("more than 4 megapixels") from error
    except Exception as error:  # Pillow has a dozen types for damage: OSError, SyntaxError, struct.error, ...
        raise DataError(
            f"a damaged image ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error


def _to_array(picture: Image) -> Images:
    import PIL.Image

    if picture.mode.startswith("I"):
        return from_16_bits(picture)
    if picture.has_transparency_data:
        black = PIL.Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = PIL.Image.alpha_composite(black, picture.convert("RGBA"))
    pixels = np.array(picture.convert("RGB"))
    is_grey = (pixels == pixels[..., :1]).all()
    return pixels[..., :1] if is_grey else pixels


def from_16_bits(picture: Image) -> Images:
    """uint8 [H, W, 1] of a grey picture with 16 bits a pixel."""
    values = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
    return ((values + 128) // 257).astype(np.uint8)[..., np.newaxis]


def resize(image: Images, height: int, width: int) -> Images:
    """``image`` [H, W, C] as [height, width, C], averaging when it shrinks; unchanged when it fits."""
    import PIL.Image

    if image.shape[:2] == (height, width):
        return image
    picture = PIL.Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    pixels = np.asarray(picture.resize((width, height), PIL.Image.Resampling.BILINEAR))
    return pixels.reshape(height, width, image.shape[2])
