"""Which pixels count: masks as other tools write them, and where these put them.

A mask says *something* or *nothing* at every pixel. Nothing is black in grey and coloured masks,
label 0 in palettes, and what is transparent where the alpha channel is the mask. Named by a file
or lying in ``masks``, a mask says what counts; instant-ngp's ``dynamic_mask_NAME.png`` says what is
left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ..errors import DataError, decoding
from ..typing import Bool, Tensor
from .keys import listed_names
from .lookup import lexical
from .pictures import MOST_PIXELS

__all__ = [
    "counted_pixels",
    "dynamic_mask",
    "masks_beside",
    "masks_note",
    "something_in",
    "unnamed_notes",
]

#: Folders that masks lie in by the names of their pictures, first come first taken.
FOLDERS = ("masks", "mask")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
#: Black in JPEG, which has noise, is up to this share of the brightest pixel.
JPEG_BLACK = 0.5


def something_in(path: Path, *, upright: bool = False) -> np.ndarray:
    """Where a mask says something: (height, width) bool.

    Args:
        path: Of the mask.
        upright: Whether the rotation that EXIF asks for is made.

    Raises:
        DataError: It cannot be read.
    """
    with decoding(f"{path}: cannot be read as a mask"), Image.open(path) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise DataError(f"{path}: claims {opened.width}x{opened.height} pixels")
        lossy = opened.format == "JPEG"
        image = ImageOps.exif_transpose(opened) if upright else opened
        if image.mode == "P" and not translucent(image):
            return something_by_label(image)
        if image.mode[0] in "IF" or image.mode == "1":
            values = np.asarray(image)
            return np.asarray(values > 0)
        if translucent(image):
            return something_by_alpha(np.asarray(image.convert("RGBA")))
        grey = np.asarray(image if image.mode == "L" else image.convert("RGB"))
        brightest = grey if grey.ndim == 2 else grey.max(-1)
        return np.asarray(brightest > (JPEG_BLACK * brightest.max() if lossy else 0))


def translucent(image: Image.Image) -> bool:
    """Whether any pixel is not opaque."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return False
    return bool((np.asarray(image.convert("RGBA"))[..., 3] < 255).any())


def something_by_label(image: Image.Image) -> np.ndarray:
    """Of a palette: labels but 0; the colours where they are black and white in another order."""
    labels = np.asarray(image)
    colours = np.asarray(image.convert("RGB"))
    first = colours[labels == 0]
    others = colours[labels != 0]
    if len(first) and len(others) and (first == 255).all() and not others.any():
        return labels == 0
    return labels != 0


def something_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """Of RGBA: alpha where it differs; the colours where it does not, or where they too are two."""
    colours, opaque = pixels[..., :3], pixels[..., 3] > 0
    coloured = colours.any(-1)
    kinds = np.unique(colours.reshape(-1, 3)[:: max(1, opaque.size // 65536)], axis=0)
    return opaque & coloured if len(kinds) == 2 and not kinds[0].any() else opaque


def counted_pixels(
    mask: Path | None, moving: Path | None, width: int, height: int, *, upright: bool
) -> Bool[Tensor, "height width"]:
    """Which pixels of a picture count.

    Args:
        mask: File that says what counts; None for all.
        moving: File that says what is left out; None for nothing.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        upright: Whether the rotation that EXIF asks for is made.

    Raises:
        DataError: One cannot be read, or has another shape than the picture.
    """
    counted = torch.ones(height, width, dtype=torch.bool)
    if mask is not None:
        counted &= fitted(something_in(mask, upright=upright), width, height, mask)
    if moving is not None:
        counted &= ~fitted(something_in(moving, upright=upright), width, height, moving)
    return counted


def fitted(mask: np.ndarray, width: int, height: int, path: Path) -> Bool[Tensor, "height width"]:
    """A mask at the size of its picture.

    Raises:
        DataError: It has another shape, so that it was not made for this picture.
    """
    down, across = mask.shape
    if abs(across * height - down * width) > 0.02 * across * height + max(width, height):
        raise DataError(
            f"{path}: a mask of {across}x{down} pixels for a picture of {width}x{height}: expected "
            "the same shape; was it made of the picture before it was turned or cropped?"
        )
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    resized = picture.resize((width, height), Image.Resampling.NEAREST)
    return torch.from_numpy(np.asarray(resized) > 0)


def dynamic_mask(picture: Path) -> Path | None:
    """instant-ngp's mask of what moves in a picture, if there is one beside it."""
    found = picture.with_name(f"dynamic_mask_{picture.stem}.png")
    return found if found.is_file() else None


def masks_beside(root: Path, names: Sequence[str]) -> dict[str, Path]:
    """Masks in a folder of their own, for formats whose files cannot name them.

    COLMAP's mask of ``a/b.jpg`` is ``masks/a/b.jpg.png``; ``masks/a/b.png`` is found as well.

    Args:
        root: Folder of the data set.
        names: Of the pictures, below their folder.

    Returns:
        Name -> mask, of the first folder that has any.
    """
    for folder in FOLDERS:
        if (root / folder).is_dir():
            found = {name: mask for name in names if (mask := mask_of(root / folder, name))}
            if found:
                return found
    return {}


def masks_note(root: Path, masks: Mapping[str, Path], pictures: Sequence[Path]) -> list[str]:
    """What is said of masks that `masks_beside` found, or of others that it did not."""
    if not masks:
        return unnamed_notes(root, pictures)
    folder = next(iter(masks.values())).relative_to(root).parts[0]
    return [f"masks from `{folder}`: what is black does not count; remove them to train on all"]


def mask_of(folder: Path, name: str) -> Path | None:
    """Mask of a picture, by its name with another ending, or one more."""
    if (bare := lexical(folder, name)) is None:
        return None
    for candidate in (bare.with_name(bare.name + ".png"), *map(bare.with_suffix, ENDINGS)):
        if candidate.is_file():
            return candidate
    return None


def unnamed_notes(root: Path, pictures: Sequence[Path]) -> list[str]:
    """A note on what looks like masks, alpha channels or rays of pictures and is named nowhere.

    Args:
        root: Folder of the data set.
        pictures: The pictures.
    """
    found: dict[str, int] = {}
    folders = [folder for folder in sorted(root.iterdir()) if folder.is_dir()] if (
        root.is_dir()) else []  # fmt: skip
    for folder in folders:
        if "mask" in folder.name.lower():
            count = sum(lies_in(folder, picture, root) for picture in pictures)
            if count:
                found[f"{folder.name}/"] = count
    for pattern in ("{0.stem}_mask.png", "{0.stem}.mask.png", "mask_{0.stem}.png",
                    "{0.stem}.alpha{0.suffix}", "{0.name}.alpha{0.suffix}",
                    "rays_{0.stem}.dat"):  # fmt: skip
        count = sum(picture.with_name(pattern.format(picture)).is_file() for picture in pictures)
        if count:
            found[pattern.replace("{0.stem}", "NAME").replace("{0.name}", "FILE").replace(
                "{0.suffix}", pictures[0].suffix)] = count  # fmt: skip
    return [
        f"not read: {listed_names([name])} of {count} of {len(pictures)} pictures lie there and "
        "are not named; name masks by `mask_path` in each frame (black: does not count)"
        for name, count in found.items()
    ]


def lies_in(folder: Path, picture: Path, root: Path) -> bool:
    """Whether a folder has a file of the name of a picture, below as many folders or none."""
    names = [picture.name]
    if picture.is_relative_to(root):
        names.append(str(Path(*picture.relative_to(root).parts[1:])))
    return any(mask_of(folder, name) is not None for name in names if name not in ("", "."))
