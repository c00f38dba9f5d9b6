"""Cameras and data sets as ``transforms.json``, as nerfstudio and instant-ngp read it.

Poses are written in the capture's own coordinates, in double precision: a field's placement is
undone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...cameras.cameras import Cameras
from ...cameras.distortion import Lens
from ...cameras.frames import Placement
from ...data import Scene, Views
from ...data.capture import Layout
from ...data.transforms import LAYOUT, LENS_KEYS, MODEL_KEYS, MODELS, WRITTEN_SPLITS
from ...errors import InputError
from ...utils.files import check_fresh_folder, replacing, replacing_folder, write_json

__all__ = ["transforms", "write_data_set"]

#: Characters that some system takes for something else in a file's name.
UNSAFE = re.compile(r'[<>:"|?*\x00-\x1f]')
#: Camera models that are written, the plainest first.
EXPORTED = (
    "OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE", "THIN_PRISM_FISHEYE", "FOV", "EQUIRECTANGULAR",
)  # fmt: skip


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
    frames, models = [], []
    for view, name in enumerate(names):
        lens = Lens() if world.lenses is None else world.lenses.lens(view)
        model, bending = model_of(lens)
        models.append(model)
        scale = math.pi if model == "EQUIRECTANGULAR" else 1.0  # pixels of half a turn there
        fx, fy, cx, cy = world.intrinsics[view].double().tolist()
        focal = {"fl_x": fx * scale, "fl_y": fy * scale, "cx": cx, "cy": cy}
        pose = world.camera_to_world[view].double().tolist()
        frame: dict[str, Any] = {
            "file_path": name,
            "transform_matrix": [*pose, [0.0, 0.0, 0.0, 1.0]],
            **{key: round(value, 6) for key, value in focal.items()},
        }
        if world.lenses is not None:
            frame |= bending
        frames.append(frame)
    content: dict[str, Any] = {"frames": frames}
    if len(set(models)) == 1:
        content = {"camera_model": models[0], **content}
    else:
        for frame, model in zip(frames, models, strict=True):
            frame["camera_model"] = model
    sizes = world.distinct_sizes
    for entry, (width, height) in (
        [(content, sizes[0])] if len(sizes) == 1
        else zip(frames, map(world.size, range(len(world))), strict=True)
    ):  # fmt: skip
        entry |= {"w": width, "h": height}
    return content


def model_of(lens: Lens) -> tuple[str, dict[str, float]]:
    """Camera model of a lens, by its name there, and its coefficients.

    Raises:
        InputError: No model has all of them.
    """
    held = {name for name, value in lens.coefficients.items() if value != 0}
    for model in EXPORTED:
        names = MODEL_KEYS.get(model, LENS_KEYS)
        if MODELS[model] == lens.projection and held <= set(names.values()):
            return model, {key: lens.coefficients[name] for key, name in names.items()}
    raise InputError(
        f"a {lens.projection} lens with {', '.join(sorted(held))}: no camera model of "
        "transforms.json has all of these"
    )


def write_data_set(
    scene: Scene, views: dict[str, Views], folder: Path, *, divided: bool = False
) -> None:
    """Write some views of a scene as a data set of their own, pictures and all.

    The scene's placement, box, range and background are written beside the cameras, so that a field
    trained on it can be merged with one trained on another part.

    Args:
        scene: Where they are from.
        views: Split name -> its views.
        folder: Must not be there, or be empty.
        divided: Whether these are all splits that the data set has: a reader then holds out no
            other view, even of training views alone.

    Raises:
        InputError: The folder is not empty.
        OutputError: It cannot be written.
    """
    check_fresh_folder(folder)
    with replacing_folder(folder) as temporary:
        content = {
            **transforms(*joined(views), scene.placement),
            LAYOUT: Layout.of(scene).as_dict(),
        }
        if divided or len(views) > 1:
            content[LAYOUT][WRITTEN_SPLITS] = list(views)
        frames = iter(content["frames"])
        masked = any(part.masks is not None for part in views.values())
        for split, part in views.items():
            of_split = [next(frames) for _ in part.names]
            write_pictures(part, of_split, temporary, masked)
            if len(views) > 1:
                content[f"{split}_filenames"] = [frame["file_path"] for frame in of_split]
        if len(views) > 1:  # nerfstudio asks for all of them, or for none
            held_out = content.get("test_filenames", content.get("val_filenames", []))
            for split in ("train", "val", "test"):
                content.setdefault(f"{split}_filenames", held_out)
        write_json(temporary / "transforms.json", content)


def joined(views: dict[str, Views]) -> tuple[Cameras, list[str]]:
    """Cameras of all splits one after the other, and where the picture of each goes."""
    cameras = Cameras.join([part.cameras for part in views.values()])
    names = [
        f"images/{split}/{name}.png"
        for split, part in views.items() for name in file_names(part.names)
    ]  # fmt: skip
    return cameras, names


def file_names(names: Sequence[str]) -> list[str]:
    """A relative path for each view, without an ending, that no other has whatever the case."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        parts = [UNSAFE.sub("_", part) for part in name.replace("\\", "/").split("/")]
        plain = "/".join(part for part in parts if part.strip(". ")) or "view"
        chosen, number = plain, 1
        while chosen.casefold() in taken:
            number += 1
            chosen = f"{plain}_{number}"
        taken.add(chosen.casefold())
        found.append(chosen)
    return found


def write_pictures(
    part: Views, frames: Sequence[dict[str, Any]], folder: Path, masked: bool
) -> None:
    """Write the pictures of one split, and its masks: white ones where only others have any."""
    for view, frame in enumerate(frames):
        write_picture(part.image(view).numpy(), folder / frame["file_path"])
        if masked:
            mask = part.mask(view)
            counted = torch.ones(part.cameras.size(view)[::-1]) if mask is None else mask
            frame["mask_path"] = frame["file_path"].replace("images/", "masks/", 1)
            write_picture((counted.to(torch.uint8) * 255).numpy(), folder / frame["mask_path"])


def write_picture(pixels: np.ndarray, path: Path) -> None:
    """Write 8 bit pixels without loss."""
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")
