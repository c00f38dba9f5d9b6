"""Cameras and data sets as ``transforms.json``, as nerfstudio and instant-ngp read it.

Poses are written in the capture's own coordinates: a field's placement is undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..cameras import Cameras
from ..data import Scene, Views
from ..data.capture import Layout
from ..data.transforms import LAYOUT, LENS_KEYS
from ..errors import InputError
from ..files import replacing, replacing_folder, write_json
from ..placement import Placement

__all__ = ["transforms", "write_data_set"]


def transforms(
    cameras: Cameras, names: Sequence[str], placement: Placement | None = None
) -> dict[str, Any]:
    """The cameras as the content of a ``transforms.json``.

    Args:
        cameras: Scene coordinates.
        names: `file_path` of each.
        placement: From the capture's coordinates to the scene's; None where they are the same.
    """
    world = cameras if placement is None else placement.cameras_to_world(cameras)
    frames = []
    for view, name in enumerate(names):
        fx, fy, cx, cy = (round(float(value), 6) for value in world.intrinsics[view].double())
        pose = world.camera_to_world[view].double().tolist()
        frame: dict[str, Any] = {
            "file_path": name,
            "transform_matrix": [*pose, [0.0, 0.0, 0.0, 1.0]],
            "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy,
        }  # fmt: skip
        if world.lenses is not None:
            values = world.lenses.coefficients[view].double().tolist()
            fisheye = bool(world.lenses.fisheye[view])
            frame["camera_model"] = "OPENCV_FISHEYE" if fisheye else "OPENCV"
            frame |= dict(zip(LENS_KEYS, values, strict=True))
        frames.append(frame)
    return {
        "camera_model": "OPENCV",
        "w": world.width,
        "h": world.height,
        "frames": frames,
    }


def write_data_set(scene: Scene, views: dict[str, Views], folder: Path) -> None:
    """Write some views of a scene as a data set of their own, pictures and all.

    The scene's placement, box, range and background are written beside the cameras, so that a field
    trained on it can be merged with one trained on another part.

    Args:
        scene: Where they are from.
        views: Split name -> its views.
        folder: Must not be there, or be empty.

    Raises:
        InputError: The folder is not empty.
        OutputError: It cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is there already; choose another --out or remove it")
    layout = Layout.of(scene).as_dict()
    with replacing_folder(folder) as temporary:
        for split, part in views.items():
            write_split(split, part, scene.placement, layout, temporary)


def write_split(
    split: str, part: Views, placement: Placement | None, layout: dict[str, Any], folder: Path
) -> None:
    """Write the pictures, masks and cameras of one split."""
    names = [f"images/{split}/{name}.png" for name in part.names]
    content = transforms(part.cameras, names, placement)
    for view, (name, frame) in enumerate(zip(names, content["frames"], strict=True)):
        write_picture(part.image(view).numpy(), folder / name)
        mask = part.mask(view)
        if mask is not None:
            frame["mask_path"] = f"masks/{split}/{part.names[view]}.png"
            write_picture((mask.to(torch.uint8) * 255).numpy(), folder / frame["mask_path"])
    write_json(folder / f"transforms_{split}.json", {**content, LAYOUT: layout})


def write_picture(pixels: np.ndarray, path: Path) -> None:
    """Write 8 bit pixels without loss."""
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")
