"""Where decoded pictures are kept: one uint8 array, in memory or, where it is large, in a file.

Pictures may differ in size: the array holds the pixels of one picture after the other, row by row.

The file is mapped, not read: processes that look at one data set share its pages, and the system
takes them back when it needs room, so that a training needs no more memory for more pictures. It
lies in the folder that ``MEMONF_CACHE`` names, by default ``memonf`` in the user's cache folder or,
where the user has no home, in the folder for temporary files. It may be deleted at any time: each
split of a data set has one, made anew when its sources change.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ..errors import DataError, OutputError
from ..typing import Int, Tensor, UInt8
from ..utils.files import replacing

__all__ = ["CACHE", "IN_MEMORY", "Pictures", "cache_folder", "keep"]

#: Bytes of pixels up to which a split is kept in memory: 104 RGBA pictures of 800 x 800.
IN_MEMORY = 2**28
#: Environment variable that names the folder of the files.
CACHE = "MEMONF_CACHE"


@dataclass(frozen=True)
class Pictures:
    """Pictures of any sizes and one number of channels.

    Attributes:
        pixels: (pixels, channels), of one picture after the other, row by row.
        sizes: (pictures, 2), width and height of each.
    """

    pixels: UInt8[Tensor, "pixels channels"]
    sizes: Int[Tensor, "pictures 2"]

    @classmethod
    def of(cls, pictures: Sequence[Tensor] | Tensor) -> Pictures:
        """Pictures (height, width, channels) in one array; a copy."""
        sizes = torch.tensor([(picture.shape[1], picture.shape[0]) for picture in pictures])
        return cls(torch.cat([picture.flatten(0, 1) for picture in pictures]), sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, picture: int) -> UInt8[Tensor, "height width channels"]:
        """One picture; no copy."""
        width, height = self.sizes[picture].tolist()
        start = int(self.starts[picture])
        return self.pixels[start : start + height * width].view(height, width, self.channels)

    def picked(self, places: Int[Tensor, " pictures"]) -> Pictures:
        """Some of the pictures, in another order; a copy."""
        parts = [self[place].flatten(0, 1) for place in places.tolist()]
        return Pictures(torch.cat(parts), self.sizes[places])

    def to(self, device: torch.device | str) -> Pictures:
        """Return the same pictures on `device`."""
        return Pictures(self.pixels.to(device), self.sizes.to(device))

    @property
    def channels(self) -> int:
        """Of each pixel."""
        return self.pixels.shape[1]

    @cached_property
    def areas(self) -> Int[Tensor, " pictures"]:
        """Pixels of each picture."""
        return self.sizes.prod(1)

    @cached_property
    def starts(self) -> Int[Tensor, " pictures"]:
        """Where the pixels of each picture begin."""
        return self.areas.cumsum(0) - self.areas


def cache_folder() -> Path:
    """Where the files are.

    Raises:
        DataError: The user has no home and the machine no folder for temporary files.
    """
    if named := os.environ.get(CACHE):
        return Path(named)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "memonf"
    try:
        return Path.home() / ".cache" / "memonf"
    except RuntimeError:  # a user number without an entry, as containers have it
        pass
    try:
        return Path(tempfile.gettempdir()) / f"memonf-{os.getuid()}"
    except OSError as error:
        raise DataError(
            f"decoded pictures cannot be kept: {error.strerror or error}; name a folder for them "
            f"in the environment variable {CACHE}"
        ) from None


def keep(
    pictures: Iterator[np.ndarray],
    sizes: Sequence[tuple[int, int]],
    channels: int,
    *,
    origin: str,
    sources: Sequence[Path],
) -> Pictures:
    """Gather pictures, one in memory at a time, or find them gathered already.

    Args:
        pictures: uint8 (height, width, channels) each; not asked for if a file has them.
        sizes: Width and height of each.
        channels: Of all.
        origin: Names the split among all data sets: the path of its file, and the part.
        sources: Files that the pictures are decoded from; new ones by size or time make a new file.

    Raises:
        DataError: The file cannot be written, or a picture is not as was said.
    """
    shapes = [(height, width, channels) for width, height in sizes]
    shape = (sum(width * height for width, height in sizes), channels)
    table = torch.tensor(sizes)
    pictures = as_expected(pictures, shapes)
    if shape[0] * channels <= IN_MEMORY:
        pixels = torch.empty(shape, dtype=torch.uint8)
        gathered = Pictures(pixels, table)
        for index, picture in enumerate(pictures):
            gathered[index].numpy()[...] = picture
        return gathered
    path = cache_folder() / f"{hashlib.sha256(origin.encode()).hexdigest()[:32]}.pixels"
    stamp = stamp_of(shapes, sources)
    if not holds(path, shape[0] * channels, stamp):
        write(path, pictures, stamp)
    return Pictures(mapped(path, shape), table)


def as_expected(
    pictures: Iterator[np.ndarray], shapes: Sequence[tuple[int, int, int]]
) -> Iterator[np.ndarray]:
    """The pictures, each held against its shape: a file may have changed since it was looked at."""
    for index, (picture, shape) in enumerate(zip(pictures, shapes, strict=True)):
        if picture.shape != shape:
            raise DataError(
                f"picture {index}: expected (height, width, channels) {shape}, received "
                f"{picture.shape}; was it changed just now? Try again"
            )
        yield picture


def stamp_of(shapes: Sequence[tuple[int, int, int]], sources: Sequence[Path]) -> bytes:
    """What tells whether a file's pixels are those of these sources as they are now."""
    digest = hashlib.sha256(repr(shapes).encode())
    for source in sources:
        state = source.stat()
        digest.update(f"\n{source.resolve()} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.digest()


def holds(path: Path, size: int, stamp: bytes) -> bool:
    """Whether a file is whole and has these pixels, `size` bytes: their stamp follows them."""
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
