"""Reading pictures of any common kind and size as 8 bit, upright."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError, decoding
from ..utils.devices import cores

__all__ = ["Header", "picture_header", "read_picture", "read_pictures"]

#: Pictures that each core decodes before the next are begun.
AHEAD = 4
#: More pixels than any camera has: what claims more is a bomb, and is not decoded.
MOST_PIXELS = 300_000_000
#: EXIF tag of the orientation, and its values that exchange width and height.
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)


@dataclass(frozen=True)
class Header:
    """What a picture's file says of it before it is decoded.

    Attributes:
        stored: Width and height as they are stored, pixels.
        upright: The same once the rotation that EXIF asks for is made.
        channels: 3 or 4, as `read_picture` reads it.
    """

    stored: tuple[int, int]
    upright: tuple[int, int]
    channels: int


def picture_header(path: Path) -> Header:
    """Look at a picture without decoding it.

    Raises:
        DataError: It cannot be read as a picture.
    """
    with decoding(f"{path}: cannot be read as a picture"), Image.open(path) as image:
        width, height = image.size
        # Of a PNG without EXIF before its pixels, Pillow would decode all of these to look behind.
        asked = image.format != "PNG" or "exif" in image.info
        turned = asked and image.getexif().get(ORIENTATION) in TURNED
        return Header(
            (width, height), (height, width) if turned else (width, height), channels_of(image)
        )


def channels_of(image: Image.Image) -> int:
    """4 for a picture with an alpha channel or a transparent colour, else 3."""
    if image.mode.startswith("I"):
        return 3
    return 4 if "A" in image.getbands() or "transparency" in image.info else 3


def read_picture(path: Path, *, upright: bool = False) -> np.ndarray:
    """RGB or RGBA picture as uint8 (height, width, channels); 16 bit is rounded to 8.

    Args:
        path: Of the picture.
        upright: Whether the rotation that EXIF asks for is made.

    Raises:
        DataError: No picture, broken, or larger than any camera makes.
    """
    with decoding(f"{path}: cannot be read as a picture"), Image.open(path) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise DataError(
                f"{path}: claims {opened.width}x{opened.height} pixels; make it smaller"
            )
        image = ImageOps.exif_transpose(opened) if upright else opened
        if image.mode.startswith("I"):  # 16 bit grey
            grey = np.asarray(image).astype(np.float64) / 257
            return np.repeat(grey.round().clip(0, 255).astype(np.uint8)[..., None], 3, 2)
        return np.asarray(image.convert("RGBA" if channels_of(opened) == 4 else "RGB"))


def read_pictures(
    paths: Sequence[Path], *, upright: Sequence[bool] | None = None, channels: int | None = None
) -> Iterator[np.ndarray]:
    """Decode pictures on all cores, a few ahead of the one that is asked for.

    Args:
        paths: Of the pictures.
        upright: For each, whether the rotation that EXIF asks for is made; None for no picture.
        channels: Of all: 4 makes pictures without an alpha channel opaque; None for those of each.

    Raises:
        DataError: One cannot be read.
    """

    def decoded(job: tuple[Path, bool]) -> np.ndarray:
        picture = read_picture(job[0], upright=job[1])
        if channels == 4 and picture.shape[-1] == 3:
            return np.pad(picture, ((0, 0), (0, 0), (0, 1)), constant_values=255)
        return picture

    jobs = list(zip(paths, upright or [False] * len(paths), strict=True))
    with ThreadPoolExecutor(cores()) as pool:  # decoders work outside Python's lock
        for start in range(0, len(jobs), AHEAD * cores()):
            yield from pool.map(decoded, jobs[start : start + AHEAD * cores()])
