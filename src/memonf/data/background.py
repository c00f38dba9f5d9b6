"""The colour behind everything: what a caller names, a file says, or the pictures show.

Pictures with an alpha channel can be put on any colour, white unless told otherwise. Pictures
without one show what they were taken or rendered against: the colour of their borders.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import DataError, InputError

__all__ = [
    "BORDER_VIEWS",
    "Background",
    "Colour",
    "behind_pictures",
    "colour_note",
    "colour_of_file",
    "colour_text",
    "named_colour",
]

Colour: TypeAlias = tuple[float, float, float]
#: ``auto``: what the file says or the pictures show; or a colour, rgb in [0, 1].
Background: TypeAlias = Literal["auto", "white", "black"] | Colour
WHITE: Colour = (1.0, 1.0, 1.0)
BLACK: Colour = (0.0, 0.0, 0.0)
NAMES: dict[str, Colour] = {"white": WHITE, "black": BLACK}
#: Views whose borders are looked at.
BORDER_VIEWS = 8
#: Borders are of one colour if half of their pixels are within this of the middle one, 8 bit.
ONE_COLOUR = 8
#: What is this near to black or white is that: the noise of JPEG.
NEARLY = 3
#: Keys of files that name the colour, and those that say that it is white or black.
COLOUR_KEYS = ("background", "background_color", "background_colour", "bg_color", "bkgd",
               "alpha_color")  # fmt: skip
SWITCHES = {
    "white_background": WHITE, "white_bkgd": WHITE, "white_transparent": WHITE,
    "black_background": BLACK, "black_transparent": BLACK,
}  # fmt: skip


def named_colour(background: Any) -> Colour | None:
    """What a caller names: a colour, or None for ``auto``.

    Raises:
        InputError: Neither a name nor three numbers in [0, 1].
    """
    if isinstance(background, str):
        if background == "auto":
            return None
        if background in NAMES:
            return NAMES[background]
    else:
        values = [float(value) for value in background]
        if len(values) == 3 and all(0 <= value <= 1 for value in values):
            return (values[0], values[1], values[2])
    raise InputError(
        f"--background: expected auto, white, black or three numbers in [0, 1], received "
        f"{background!r}"
    )


def colour_of_file(content: Mapping[str, Any], where: str) -> tuple[Colour, str] | None:
    """The colour that a file says, and the key that says it; None if it says none.

    Raises:
        DataError: The key holds no colour.
    """
    for key in COLOUR_KEYS:
        if content.get(key) is not None:
            return colour_in(content[key], f"{where}: `{key}`"), key
    for key, colour in SWITCHES.items():
        if content.get(key) not in (None, False, 0):
            return colour, key
    return None


def colour_in(value: Any, where: str) -> Colour:
    """A colour as files write it: a name, ``#rrggbb``, or 3 numbers in [0, 1] or in [0, 255]."""
    if isinstance(value, str):
        if value.lower() in NAMES:
            return NAMES[value.lower()]
        if match := re.fullmatch(r"#([0-9a-fA-F]{6})", value):
            red, green, blue = bytes.fromhex(match[1])
            return (red / 255, green / 255, blue / 255)
    if isinstance(value, (list, tuple)) and len(value) in (3, 4):
        numbers = [
            float(part) for part in value[:3]
            if isinstance(part, (int, float)) and not isinstance(part, bool)
        ]  # fmt: skip
        if len(numbers) == 3 and all(math.isfinite(part) and part >= 0 for part in numbers):
            top = 1 if max(numbers) <= 1 else 255
            if max(numbers) <= top:
                return (numbers[0] / top, numbers[1] / top, numbers[2] / top)
    raise DataError(
        f"{where}: expected white, black, `#rrggbb` or three numbers, received {value!r:.60}; "
        "correct it, or remove it and name the colour by --background"
    )


def behind_pictures(pictures: Iterable[np.ndarray]) -> tuple[Colour, bool]:
    """The colour that some pictures stand on, and whether their alpha channel leaves it open.

    Borders of one colour give that colour, all others their mean.

    Args:
        pictures: uint8 (height, width, 3 or 4), a few; an alpha of 255 everywhere is none.
    """
    edges, means = [], []
    for picture in pictures:
        if picture.shape[-1] == 4 and bool((picture[..., 3] < 255).any()):
            return WHITE, True
        around = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
        edge = np.concatenate(around)[:, :3].astype(np.float64)
        edges.append(edge)
        means.append(edge.mean(0))
    if not edges:
        return WHITE, False
    colour = np.stack(means).mean(0)
    every = np.concatenate(edges)
    middle = np.median(every, axis=0)
    if np.mean(np.abs(every - middle).max(1) <= ONE_COLOUR) >= 0.5:
        colour = middle
        for end in (0.0, 255.0):
            if np.abs(colour - end).max() <= NEARLY:
                colour = np.full(3, end)
    red, green, blue = (colour / 255).round(4).tolist()
    return (red, green, blue), False


def colour_text(colour: Colour) -> str:
    """A colour as it is typed after ``--background``."""
    for name, known in NAMES.items():
        if tuple(colour) == known:
            return name
    return " ".join(f"{value:g}" for value in colour)


def colour_note(colour: Colour) -> str:
    """A note on a colour that was seen, not said."""
    return (
        f"pictures without alpha: the background is the colour of their borders, "
        f"{colour_text(colour)}; --background names another"
    )
