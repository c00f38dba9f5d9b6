"""Still pictures: PNG files, and labelled sheets of many pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import InputError, shown
from ..typing import PathLike
from ..utils.files import replacing

__all__ = ["drawn_text", "labelled_sheet", "write_png"]

INK, PAPER, MUTED = (24, 28, 36), (255, 255, 255), (110, 116, 128)


def write_png(picture: np.ndarray, path: PathLike) -> None:
    """Write uint8 (height, width, 3) as PNG, whole or not at all.

    Raises:
        InputError: The name does not end in ``.png``.
        OutputError: The file cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: expected a name that ends in .png")
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary)


def drawn_text(text: str) -> str:
    """A name for a figure of matplotlib: on one line, and a dollar begins no formula."""
    return shown(text).replace("$", r"\$")


def labelled_sheet(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    columns: Sequence[str],
    *,
    notes: Sequence[Sequence[str]] | None = None,
    cell: int = 160,
) -> np.ndarray:
    """Pictures in a table: a name before each row, a caption over each column.

    Args:
        rows: (name, pictures) each; pictures are uint8 (height, width, 3).
        columns: Caption of each column.
        notes: A short text under each picture, by row and column.
        cell: Side of each picture on the sheet, pixels.

    Returns:
        uint8 (height, width, 3).
    """
    if any(len(pictures) != len(columns) for _, pictures in rows):
        raise InputError("sheet: expected as many pictures in each row as there are columns")
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    gap, head, note_height = 8, 28, 18 if notes else 0
    left = gap + max(int(font.getlength(part)) for name, _ in rows for part in name.split("\n"))
    left += gap
    row_height = cell + note_height + gap
    sheet = Image.new(
        "RGB", (left + len(columns) * (cell + gap), head + len(rows) * row_height), PAPER
    )
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(columns):
        place = (left + column * (cell + gap) + cell / 2, head / 2)
        draw.text(place, shown(caption), INK, font, "mm")
    for row, (name, pictures) in enumerate(rows):
        top = head + row * row_height
        draw.multiline_text((gap, top + cell / 2), name, INK, font, "lm")
        for column, picture in enumerate(pictures):
            place = (left + column * (cell + gap), top)
            image = Image.fromarray(picture).resize((cell, cell), Image.Resampling.BICUBIC)
            sheet.paste(image, place)
            if notes:
                below = (place[0] + cell / 2, top + cell + note_height / 2)
                draw.text(below, notes[row][column], MUTED, small, "mm")
    return np.asarray(sheet)
