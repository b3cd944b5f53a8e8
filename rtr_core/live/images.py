"""Pictures on the wire: image files of bounded size in, image files out.

The size is read from the header before anything is decoded, so that a small file cannot ask for
a large picture.
"""

import io
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import StyleError
from ..frames import picture
from ..shapes import Size
from .wire import Refused

FORMATS = ("JPEG", "WEBP", "PNG")
MOST_PIXELS = {"frame": 4096 * 2304, "reference": 50_000_000}
QUALITY = 85
FASTEST = {"JPEG": {}, "WEBP": {"method": 0}}


def decoded_frame(data: bytes, size: Size) -> Tensor:
    """A frame `[h w 3]` uint8 of exactly this size."""
    with _opened(data, "frame") as image:
        came = Size(image.height, image.width)
        if came != size:
            raise Refused("frame", f"The stream takes frames of {size}; this one is {came}.")
        return _pixels(image, "frame")


def decoded_reference(data: bytes) -> Tensor:
    """An image `[h w 3]` uint8, upright."""
    with _opened(data, "reference") as image:
        try:
            return picture(_pixels(image, "reference"))
        except StyleError as error:
            raise Refused("reference", str(error)) from error


def is_webp(data: bytes) -> bool:
    return data[8:12] == b"WEBP"


def encoded(frame: Tensor, form: str = "JPEG") -> bytes:
    """A styled frame `[h w 3]` in 0..1 as an image file."""
    levels = (frame.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, form, quality=QUALITY, **FASTEST[form])
    return file.getvalue()


def _opened(data: bytes, what: str) -> Image.Image:
    try:
        with warnings.catch_warnings():  # of large pictures, which are refused below
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise Refused(what, f"This {what} is no image: send a {', '.join(FORMATS)}.") from None
    if image.width * image.height > MOST_PIXELS[what]:
        raise Refused(what, f"A {what} of {image.width}x{image.height} is too large.")
    return image


def _pixels(image: Image.Image, what: str) -> Tensor:
    try:
        upright = ImageOps.exif_transpose(image)
        return torch.from_numpy(np.array(upright.convert("RGB")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, EOFError) as error:
        raise Refused(what, f"This {what} is broken: {error}.") from error
