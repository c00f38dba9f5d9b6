"""Where decoded pictures are kept: one uint8 array, in memory or, where it is large, in a file.

The file is mapped, not read: processes that look at one data set share its pages, and the system
takes them back when it needs room, so that a training needs no more memory for more pictures. It
lies in the folder that ``MEMONF_CACHE`` names, by default ``memonf`` in the user's cache folder,
and may be deleted at any time: each split of a data set has one, made anew when its sources change.
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import DataError, OutputError
from ..files import replacing
from ..typing import Tensor, UInt8

__all__ = ["CACHE", "IN_MEMORY", "cache_folder", "keep"]

#: Bytes of pixels up to which a split is kept in memory: 104 RGBA pictures of 800 x 800.
IN_MEMORY = 2**28
#: Environment variable that names the folder of the files.
CACHE = "MEMONF_CACHE"


def cache_folder() -> Path:
    """Where the files are."""
    if named := os.environ.get(CACHE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memonf"


def keep(
    pictures: Iterator[np.ndarray],
    shape: tuple[int, int, int, int],
    *,
    origin: str,
    sources: Sequence[Path],
) -> UInt8[Tensor, "views height width channels"]:
    """Gather pictures, one in memory at a time, or find them gathered already.

    Args:
        pictures: `shape[0]` uint8 arrays of shape `shape[1:]`; not asked for if a file has them.
        shape: (views, height, width, channels).
        origin: Names the split among all data sets: the path of its file, and the part.
        sources: Files that the pictures are decoded from; new ones by size or time make a new file.

    Raises:
        DataError: The file cannot be written.
    """
    if math.prod(shape) <= IN_MEMORY:
        images = torch.empty(shape, dtype=torch.uint8)
        for image, picture in zip(images, pictures, strict=True):
            image.numpy()[...] = picture
        return images
    path = cache_folder() / f"{hashlib.sha256(origin.encode()).hexdigest()[:32]}.pixels"
    stamp = stamp_of(shape, sources)
    if not holds(path, shape, stamp):
        write(path, pictures, stamp)
    return mapped(path, shape)


def stamp_of(shape: tuple[int, ...], sources: Sequence[Path]) -> bytes:
    """What tells whether a file's pixels are those of these sources as they are now."""
    digest = hashlib.sha256(repr(shape).encode())
    for source in sources:
        state = source.stat()
        digest.update(f"\n{source.resolve()} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.digest()


def holds(path: Path, shape: tuple[int, ...], stamp: bytes) -> bool:
    """Whether a file is whole and has these pixels: they are followed by their stamp."""
    size = math.prod(shape)
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return path.stat().st_size == size + len(stamp) and bool(
                file.seek(size) and file.read() == stamp
            )
    except OSError:
        return False


def write(path: Path, pictures: Iterator[np.ndarray], stamp: bytes) -> None:
    """Write pictures one after another, then their stamp; whole or not at all."""
    try:
        # Written, not mapped: a full disk is then an error and not the end of the process.
        with replacing(path) as temporary, temporary.open("wb") as file:
            for picture in pictures:
                file.write(np.ascontiguousarray(picture).data)
            file.write(stamp)
    except OutputError as error:
        raise DataError(
            f"decoded pictures cannot be kept: {error.__cause__ or error}; make room in "
            f"{path.parent}, or name another folder in the environment variable {CACHE}"
        ) from None


def mapped(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The pixels of a file, to be read only."""
    pixels = np.memmap(path, np.uint8, "r", shape=shape)
    with warnings.catch_warnings():
        # Torch has no tensors that cannot be written to, and says so; nobody writes to pictures.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(pixels)
