"""NeRF-synthetic folders: ``transforms_{train,val,test}.json`` beside RGBA pictures.

Reference:
    Mildenhall et al. 2020, arXiv 2003.08934; the layout of its ``nerf_synthetic`` data.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..cameras import Cameras
from ..devices import cores
from ..errors import DataError
from .base import Scene, Views
from .storage import keep

__all__ = ["can_read", "read"]

#: NeRF-synthetic objects lie well inside this box; its cameras circle at a distance of about 4.
HALF_SIDE = 1.5
NEAR, FAR = 2.0, 6.0
SPLITS = ("train", "val", "test")
#: Pictures that each core decodes before the next are begun.
AHEAD = 4


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
        DataError: Broken JSON, missing keys, missing or unequal pictures, unusable poses.
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
    height, width, channels = read_picture(paths[0]).shape
    try:
        cameras = Cameras.pinhole(
            torch.from_numpy(np.stack(poses)), 0.5 * width / math.tan(0.5 * angle), width, height
        )
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    images = keep(
        read_pictures(paths),
        (len(paths), height, width, channels),
        origin=str(file.resolve()),
        sources=paths,
    )
    return Views(cameras, images, tuple(path.stem for path in paths))


def read_pictures(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """Decode pictures on all cores, a few ahead of the one that is asked for.

    Raises:
        DataError: One cannot be read, or is not like the first.
    """
    first = None
    with ThreadPoolExecutor(cores()) as pool:  # decoders work outside Python's lock
        for start in range(0, len(paths), AHEAD * cores()):
            batch = paths[start : start + AHEAD * cores()]
            for path, picture in zip(batch, pool.map(read_picture, batch), strict=True):
                first = first or picture.shape
                if picture.shape != first:
                    height, width, channels = picture.shape
                    raise DataError(
                        f"{path}: {width}x{height} with {channels} channels, the first picture is "
                        f"{first[1]}x{first[0]} with {first[2]}; all must agree"
                    )
                yield picture


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object, or say where it is broken."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected a JSON object, received {type(content).__name__}")
    return content


def picture_path(folder: Path, file_path: str, where: str) -> Path:
    """Path of a frame's picture; the layout leaves ``.png`` out. It must lie in the folder."""
    path = folder / file_path
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        path = path.with_name(path.name + ".png")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{where}: `{file_path}` leads out of the data folder; copy it inside")
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


def read_picture(path: Path) -> np.ndarray:
    """RGB or RGBA picture as uint8 (height, width, channels)."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGBA" if "A" in image.getbands() else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}") from None
