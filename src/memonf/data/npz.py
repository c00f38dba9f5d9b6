"""Scenes in one ``.npz`` file, in two layouts.

* bmild's ``tiny_nerf_data``: ``images`` (N, height, width, 3) float in [0, 1], ``poses``
  (N, 4, 4), ``focal``; the first 100 are for training, the rest for tests; black background.
* packed: ``images_S`` uint8 RGB or RGBA and ``poses_S`` for splits S in train, val, test,
  ``focal``, optionally ``aabb`` (2, 3) and a ``title``. The embedded scenes are in this layout.
"""

from __future__ import annotations

import itertools
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cameras import Cameras
from ..errors import DataError, decoding
from .base import Scene, Views
from .blender import FAR, HALF_SIDE, NEAR, SPLITS
from .storage import keep

__all__ = ["can_read", "read"]

#: Number of training views of the one-array layout.
BMILD_TRAIN = 100
#: Bytes of anything in an archive but its pictures.
MOST_BYTES = 64 << 20


def can_read(path: Path) -> bool:
    """Whether `path` is a file that numpy writes archives as."""
    return path.is_file() and path.suffix == ".npz"


def read(path: Path) -> Scene:
    """Open the archive; arrays are read when a split is first asked for.

    Raises:
        DataError: Not an archive, or in neither layout.
    """
    with decoding(f"{path}: cannot be read as .npz"):
        check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            keys = set(archive.files)
            aabb = torch.from_numpy(array_of(archive, "aabb")).float() if "aabb" in keys else None
            title = str(array_of(archive, "title")) if "title" in keys else ""
    packed = [name for name in SPLITS if {f"images_{name}", f"poses_{name}"} <= keys]
    single = {"images", "poses"} <= keys
    if "focal" not in keys or not (packed or single):
        raise DataError(
            f"{path}: expected `focal` and `images`, `poses` or `images_train`, `poses_train`, …; "
            f"received {', '.join(sorted(keys)) or 'nothing'}"
        )
    loaders: dict[str, Callable[[], Views]] = {}
    if packed:
        for name in packed:
            loaders[name] = partial(read_arrays, path, f"_{name}", slice(None))
    else:
        loaders["train"] = partial(read_arrays, path, "", slice(0, BMILD_TRAIN))
        loaders["test"] = partial(read_arrays, path, "", slice(BMILD_TRAIN, None))
    half = torch.full((3,), HALF_SIDE)
    return Scene(
        name=path.stem,
        loaders=loaders,
        aabb=aabb if aabb is not None else torch.stack([-half, half]),
        near=NEAR,
        far=FAR,
        background=(1.0, 1.0, 1.0) if packed else (0.0, 0.0, 0.0),
        title=title,
    )


def read_arrays(path: Path, suffix: str, part: slice) -> Views:
    """Read the images and poses whose keys end in `suffix`."""
    key = f"images{suffix}"
    with decoding(f"{path}: `{key}`: cannot be read"):
        shape = picture_shape(path, key, part)
        with np.load(path, allow_pickle=False) as archive:
            poses = array_of(archive, f"poses{suffix}")[part]
            focal = float(array_of(archive, "focal"))
    if len(shape) != 4 or shape[-1] not in (3, 4) or shape[0] == 0:
        raise DataError(
            f"{path}: `{key}`: expected (views, height, width, 3 or 4) with at least one view, "
            f"received {shape}"
        )
    if poses.shape != (shape[0], 4, 4):
        raise DataError(
            f"{path}: `poses{suffix}`: expected ({shape[0]}, 4, 4), received {poses.shape}"
        )
    if poses.dtype.kind not in "fiu":
        raise DataError(f"{path}: `poses{suffix}`: expected numbers, received {poses.dtype}")
    try:
        cameras = Cameras.pinhole(torch.from_numpy(poses), focal, width=shape[2], height=shape[1])
    except DataError as error:
        raise DataError(f"{path}: `poses{suffix}`: {error}") from None
    images = keep(
        read_pictures(path, key, part), [(shape[2], shape[1])] * shape[0], shape[3],
        origin=f"{path.resolve()} {key} {part}", sources=[path],
    )  # fmt: skip
    names = tuple(f"{suffix.strip('_') or 'view'}_{index}" for index in range(len(images)))
    return Views(cameras, images, names)


def array_of(archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    """An array of an archive; NumPy hands out a member that is none as its bytes.

    Raises:
        ValueError: It is none.
    """
    found = archive[key]
    if not isinstance(found, np.ndarray):
        raise ValueError(f"`{key}` is no array")
    return found


def check_sizes(path: Path) -> None:
    """Refuse an archive whose small arrays unpack to something huge: a bomb."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.startswith("images") and entry.file_size > MOST_BYTES:
                raise DataError(
                    f"{path}: `{entry.filename}` claims {entry.file_size} bytes, more than any "
                    "number of cameras takes"
                )


def picture_shape(path: Path, key: str, part: slice) -> tuple[int, ...]:
    """Shape of an array of an archive, without its numbers; `part` of the first axis."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        shape, _, _ = read_header(member)
    return (len(range(*part.indices(shape[0]))), *shape[1:]) if shape else shape


def read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape of the array in an open file, whether its first axis is the fastest, and its type.

    Raises:
        ValueError: It holds Python objects, or is no array.
    """
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, first_fastest, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, first_fastest, dtype


def read_pictures(path: Path, key: str, part: slice) -> Iterator[np.ndarray]:
    """Read pictures one after the other, as 8 bit.

    Raises:
        DataError: The archive is broken, or a value is not in [0, 1].
    """
    with (
        decoding(f"{path}: `{key}`: cannot be read"),
        zipfile.ZipFile(path) as archive,
        archive.open(f"{key}.npy") as member,
    ):
        shape, first_fastest, dtype = read_header(member)
        if first_fastest:
            pictures: Iterable[np.ndarray] = np.load(path, allow_pickle=False)[key]
        else:
            size = math.prod(shape[1:]) * dtype.itemsize
            pictures = (
                np.frombuffer(member.read(size), dtype).reshape(shape[1:]) for _ in range(shape[0])
            )
        for picture in itertools.islice(pictures, part.start, part.stop):
            yield to_bytes(picture, f"{path}: `{key}`")


def to_bytes(picture: np.ndarray, where: str) -> np.ndarray:
    """8 bit as it is, float in [0, 1] rounded to 8 bit."""
    if picture.dtype == np.uint8:
        return picture
    if not np.isfinite(picture).all() or picture.min() < 0 or picture.max() > 1:
        raise DataError(f"{where}: expected uint8, or float in [0, 1]")
    return np.round(picture * 255).astype(np.uint8)
