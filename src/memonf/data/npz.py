"""Scenes in one ``.npz`` file, in two layouts.

* bmild's ``tiny_nerf_data``: ``images`` (N, height, width, 3) float in [0, 1], ``poses``
  (N, 4, 4), ``focal``; the first 100 are for training, the rest for tests; black background.
* packed: ``images_S`` uint8 RGB or RGBA and ``poses_S`` for splits S in train, val, test,
  ``focal``, optionally ``aabb`` (2, 3) and a ``title``. The embedded scenes are in this layout.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..cameras import Cameras
from ..errors import DataError
from .base import Scene, Views
from .blender import FAR, HALF_SIDE, NEAR, SPLITS

__all__ = ["can_read", "read"]

#: Number of training views of the one-array layout.
BMILD_TRAIN = 100


def can_read(path: Path) -> bool:
    """Whether `path` is a file that numpy writes archives as."""
    return path.is_file() and path.suffix == ".npz"


def read(path: Path) -> Scene:
    """Open the archive; arrays are read when a split is first asked for.

    Raises:
        DataError: Not an archive, or in neither layout.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = set(archive.files)
            aabb = torch.from_numpy(archive["aabb"]).float() if "aabb" in keys else None
            title = str(archive["title"]) if "title" in keys else ""
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: cannot be read as .npz: {error}") from None
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
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, poses = archive[f"images{suffix}"][part], archive[f"poses{suffix}"][part]
            focal = float(archive["focal"])
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: `images{suffix}`: cannot be read: {error}") from None
    if images.ndim != 4 or images.shape[-1] not in (3, 4) or len(images) == 0:
        raise DataError(
            f"{path}: `images{suffix}`: expected (views, height, width, 3 or 4) with at least one "
            f"view, received {images.shape}"
        )
    if poses.shape != (len(images), 4, 4):
        raise DataError(
            f"{path}: `poses{suffix}`: expected ({len(images)}, 4, 4), received {poses.shape}"
        )
    if images.dtype != np.uint8:
        if not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
            raise DataError(f"{path}: `images{suffix}`: expected uint8, or float in [0, 1]")
        images = np.round(images * 255).astype(np.uint8)
    try:
        cameras = Cameras.pinhole(
            torch.from_numpy(poses), focal, width=images.shape[2], height=images.shape[1]
        )
    except DataError as error:
        raise DataError(f"{path}: `poses{suffix}`: {error}") from None
    names = tuple(f"{suffix.strip('_') or 'view'}_{index}" for index in range(len(images)))
    return Views(cameras, torch.from_numpy(images), names)
