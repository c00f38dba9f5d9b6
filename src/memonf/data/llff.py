"""LLFF captures: ``poses_bounds.npy`` beside ``images`` or ``images_N``.

A row of 17 numbers a picture: a 3x5 matrix [right-handed pose | height, width, focal] whose columns
point down, right and back, then the nearest and farthest depth. Pictures stand in the order of
their names; the largest that are there are read.

Reference:
    Mildenhall et al. 2019, Local Light Field Fusion, https://github.com/Fyusion/LLFF.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..errors import DataError, decoding
from .background import Background
from .base import Scene
from .capture import Frame, Place, build_scene
from .lookup import ENDINGS, broken_link, smaller_folders
from .masks import masks_beside, masks_note
from .sources import read_bytes

__all__ = ["can_read", "read"]

POSES = "poses_bounds.npy"
#: A hundred thousand pictures.
MOST_BYTES = 17 * 8 * 100_000


def can_read(path: Path) -> bool:
    """Whether `path` is such a folder."""
    return (path / POSES).is_file()


def read(
    path: Path,
    place: Place = "auto",
    half_side: float | None = None,
    background: Background = "auto",
) -> Scene:
    """Open the capture; see `memonf.data.capture`.

    Raises:
        DataError: Another layout, another number of pictures than of poses.
    """
    file = path / POSES
    with decoding(f"{file}: cannot be read as an array"):
        rows = np.load(io.BytesIO(read_bytes(file, MOST_BYTES)), allow_pickle=False)
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 17 or not len(rows):
        shape = getattr(rows, "shape", type(rows).__name__)
        raise DataError(f"{file}: expected rows of 17 numbers, received {shape}")
    if rows.dtype.kind not in "fiu":
        raise DataError(f"{file}: expected finite numbers, received {rows.dtype}")
    rows = rows.astype(np.float64)
    folder, pictures = pictures_of(path, len(rows))
    broken = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(broken):
        raise DataError(
            f"{file}: row {broken[0]}, that of {folder}/{pictures[broken[0]].name}: expected "
            "finite numbers; take its row and its picture out, or solve for it again"
        )
    masks = masks_beside(path, [picture.name for picture in pictures])
    frames = []
    for row, picture in zip(rows, pictures, strict=True):
        matrix = row[:15].reshape(3, 5)
        down, right, back, centre = matrix[:, :4].T
        height, width, focal = matrix[:, 4]
        if not (0 < height < 1e6 and 0 < width < 1e6 and 0 < focal < 1e9):
            raise DataError(f"{file}: {picture.name}: height, width or focal length is not > 0")
        frames.append(
            Frame(
                picture,
                np.stack([right, -down, back, centre], 1),
                (focal, focal, width / 2, height / 2),
                (round(width), round(height)),
                mask=masks.get(picture.name),
                bounds=(row[15], row[16]),
            )
        )
    notes = [f"pictures from `{folder}`", *masks_note(path, masks, pictures)]
    return build_scene(
        path.resolve().name, {"train": frames}, place=place, half_side=half_side,
        background=background, notes=notes,
    )  # fmt: skip


def pictures_of(path: Path, count: int) -> tuple[str, list[Path]]:
    """Name of the folder with the largest pictures that is there, and its pictures.

    Raises:
        DataError: There is none, or it holds another number of pictures.
    """
    for folder in [path / "images", *smaller_folders(path)]:
        if not folder.is_dir():
            continue
        found = sorted(
            file for file in folder.iterdir()
            if file.suffix.lower() in ENDINGS and not file.name.startswith(".")
        )  # fmt: skip
        for file in found:
            if (link := broken_link(file, folder)) is not None:
                raise DataError(f"{file}: {link}; bring the picture, or take it and its pose out")
        if found:
            if len(found) != count:
                raise DataError(
                    f"{folder}: {len(found)} pictures, {path / POSES} has {count} poses; both "
                    "must agree"
                )
            return folder.name, found
    raise DataError(f"{path}: expected a folder `images` or `images_N` with pictures")
