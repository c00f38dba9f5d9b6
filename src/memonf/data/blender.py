"""NeRF-synthetic folders: ``transforms_{train,val,test}.json`` beside RGBA pictures.

Reference:
    Mildenhall et al. 2020, arXiv 2003.08934; the layout of its ``nerf_synthetic`` data.
"""

from __future__ import annotations

import contextlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cameras import Cameras
from ..errors import DataError
from .base import Scene, Views
from .pictures import picture_header, read_pictures
from .sources import inside, read_json
from .storage import keep

__all__ = ["can_read", "read"]

#: NeRF-synthetic objects lie well inside this box; its cameras circle at a distance of about 4.
HALF_SIDE = 1.5
NEAR, FAR = 2.0, 6.0
SPLITS = ("train", "val", "test")
#: Widths over heights that differ by no more than this share are one shape, rounded to pixels.
SAME_SHAPE = 0.02


def can_read(path: Path) -> bool:
    """Whether `path` is a folder in this layout."""
    return path.is_dir() and any((path / f"transforms_{name}.json").exists() for name in SPLITS)


def read(path: Path) -> Scene:
    """Open the folder; pictures are read when a split is first asked for."""
    present = [name for name in SPLITS if (path / f"transforms_{name}.json").exists()]

    half = torch.full((3,), HALF_SIDE)
    return Scene(
        name=path.resolve().name,
        loaders={name: partial(read_split, path, name) for name in present},
        aabb=torch.stack([-half, half]),
        near=NEAR,
        far=FAR,
    )


def read_split(folder: Path, name: str) -> Views:
    """Read one ``transforms_*.json`` and all its pictures.

    Raises:
        DataError: Broken JSON, missing keys, missing pictures or such of another shape, unusable
            poses.
    """
    file = folder / f"transforms_{name}.json"
    content = read_json(file)
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        raise DataError(f"{file}: expected a list `frames` with at least one frame")
    paths, poses = [], []
    for number, frame in enumerate(frames):
        where = f"{file}: frame {number}"
        if not isinstance(frame, dict) or not {"file_path", "transform_matrix"} <= frame.keys():
            raise DataError(f"{where}: expected keys `file_path` and `transform_matrix`")
        paths.append(picture_path(folder, str(frame["file_path"]), where))
        poses.append(pose_matrix(frame["transform_matrix"], where))
    angle = content.get("camera_angle_x")
    if not isinstance(angle, (int, float)) or not 0 < angle < math.pi:
        raise DataError(
            f"{file}: `camera_angle_x`: expected radians in (0, pi), received {angle!r}"
        )
    headers = [picture_header(picture) for picture in paths]
    sizes = [header.stored for header in headers]
    width, height = sizes[0]
    for picture, size in zip(paths, sizes, strict=True):
        if not math.isclose(size[0] / size[1], width / height, rel_tol=SAME_SHAPE):
            raise DataError(
                f"{picture}: {size[0]}x{size[1]} pixels, the first picture has {width}x{height}: "
                "one `camera_angle_x` cannot be right for both; give each frame `w`, `h` and `fl_x`"
            )
    try:
        cameras = Cameras.pinhole(
            torch.from_numpy(np.stack(poses)), 0.5 * width / math.tan(0.5 * angle), width, height
        ).with_sizes(torch.tensor(sizes))
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    channels = max(header.channels for header in headers)
    images = keep(
        read_pictures(paths, channels=channels), sizes, channels,
        origin=str(file.resolve()), sources=paths,
    )  # fmt: skip
    return Views(cameras, images, tuple(path.stem for path in paths))


def picture_path(folder: Path, file_path: str, where: str) -> Path:
    """Path of a frame's picture; the layout leaves ``.png`` out. It must lie in the folder."""
    if Path(file_path).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        file_path += ".png"
    path = inside(folder, file_path, where)
    if not path.is_file():
        raise DataError(f"{where}: picture {path} is not there; copy it or remove the frame")
    return path


def pose_matrix(values: Any, where: str) -> np.ndarray:
    """A 4x4 (or 3x4) camera-to-world matrix as float32, upper three rows."""
    matrix: np.ndarray = np.empty(0, dtype=np.float32)
    with contextlib.suppress(TypeError, ValueError):
        matrix = np.asarray(values, dtype=np.float32)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise DataError(f"{where}: `transform_matrix`: expected 4x4 numbers")
    return matrix[:3]
