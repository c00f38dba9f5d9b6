"""Reading pictures of any common kind as 8 bit, upright, all of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..devices import cores
from ..errors import DataError, decoding

__all__ = ["picture_size", "read_picture", "read_pictures"]

#: Pictures that each core decodes before the next are begun.
AHEAD = 4
#: More pixels than any camera has: what claims more is a bomb, and is not decoded.
MOST_PIXELS = 300_000_000
#: EXIF tag of the orientation, and its values that exchange width and height.
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)


def picture_size(path: Path, *, upright: bool = True) -> tuple[int, int]:
    """Width and height in pixels, from the file's header alone.

    Args:
        path: Of the picture.
        upright: As it is once the rotation that EXIF asks for is made.
    """
    with decoding(f"{path}: cannot be read as a picture"), Image.open(path) as image:
        turned = upright and image.getexif().get(ORIENTATION) in TURNED
        return (image.height, image.width) if turned else image.size


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
        alpha = "A" in image.getbands() or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if alpha else "RGB"))


def read_pictures(paths: Sequence[Path], *, upright: bool = False) -> Iterator[np.ndarray]:
    """Decode pictures on all cores, a few ahead of the one that is asked for.

    Raises:
        DataError: One cannot be read, or is not like the first.
    """
    first = None
    with ThreadPoolExecutor(cores()) as pool:  # decoders work outside Python's lock
        for start in range(0, len(paths), AHEAD * cores()):
            batch = paths[start : start + AHEAD * cores()]
            decoded = pool.map(lambda path: read_picture(path, upright=upright), batch)
            for path, picture in zip(batch, decoded, strict=True):
                first = first or picture.shape
                if picture.shape != first:
                    height, width, channels = picture.shape
                    raise DataError(
                        f"{path}: {width}x{height} with {channels} channels, the first picture is "
                        f"{first[1]}x{first[0]} with {first[2]}; all must agree"
                    )
                yield picture
