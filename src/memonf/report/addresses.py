"""Pictures as data: addresses, so that a page holds them itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..typing import Float, PathLike, Tensor

__all__ = ["COLUMNS", "file_address", "matrix_address", "picture_address", "sheet_address"]

#: Frames in a row of a film's sheet.
COLUMNS = 10
#: Of the lossy pictures of films; scored pictures are stored as they are.
QUALITY = 80


def address(kind: str, content: bytes) -> str:
    """The data: address of a picture of this kind (``png``, ``webp``)."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def encoded(image: Image.Image, kind: str, **options: int | bool) -> str:
    """An image as a data: address."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return address(kind, content.getvalue())


def picture_address(picture: np.ndarray) -> str:
    """uint8 (height, width, 3), bit for bit."""
    return encoded(Image.fromarray(picture), "png", optimize=True)


def sheet_address(frames: Sequence[np.ndarray]) -> str:
    """Frames of one film, uint8 (size, size, 3) each, on one sheet of `COLUMNS` in a row."""
    size = frames[0].shape[0]
    lines = -(-len(frames) // COLUMNS)
    sheet = np.full((lines * size, COLUMNS * size, 3), 255, np.uint8)
    for index, frame in enumerate(frames):
        down, across = index // COLUMNS * size, index % COLUMNS * size
        sheet[down : down + size, across : across + size] = frame
    return encoded(Image.fromarray(sheet), "webp", quality=QUALITY, method=3)


def matrix_address(values: Float[Tensor, "rows columns"]) -> str:
    """A matrix of values in [-1, 1]: 0 is white, 1 dark blue, -1 dark red."""
    share = values.detach().cpu().double().clamp(-1, 1).numpy()
    ends = np.where(share[..., None] >= 0, [10, 45, 120], [140, 20, 25])
    colour = 255 + np.abs(share)[..., None] * (ends - 255)
    return encoded(Image.fromarray(colour.round().astype(np.uint8)), "png", optimize=True)


def file_address(path: PathLike) -> str:
    """A picture file, as it is."""
    return address(Path(path).suffix[1:].lower(), Path(path).read_bytes())
