"""An object of three balls, off the origin, in the layouts that people have; made in a moment."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from memonf.cameras.cameras import Cameras, Rays, look_at, turntable
from memonf.cameras.distortion import Lens, Lenses
from memonf.io.export.transforms import model_of

SIZE, FOCAL = 32, 44.0
#: Centre (x, y, z), radius and rgb of each ball; all lie within `BOX`.
BALLS = (
    ((0.3, 0.1, 0.2), 0.5, (200, 60, 40)),
    ((-0.4, 0.1, 0.3), 0.3, (40, 160, 80)),
    ((0.2, 0.6, 0.5), 0.3, (60, 80, 210)),
)
BOX = torch.tensor([[-0.7, -0.4, -0.3], [0.8, 0.9, 0.8]])


def orbit(views: int = 18, radius: float = 4.0) -> Cameras:
    """Cameras all round the origin, from three heights."""
    rings = [
        turntable(views // 3, SIZE, radius, torch.zeros(3), elevation=height,
                  start_azimuth=-90.0 + turn).camera_to_world
        for height, turn in ((8.0, 0.0), (35.0, 20.0), (65.0, 40.0))
    ]  # fmt: skip
    return Cameras.pinhole(torch.cat(rings), FOCAL, SIZE, SIZE)


def picture(rays: Rays, height: int, width: int, scale: float = 1.0) -> np.ndarray:
    """RGBA picture of the balls, `scale` times as large."""
    colour = torch.zeros(len(rays), 4)
    nearest = torch.full((len(rays),), math.inf)
    for centre, radius, rgb in BALLS:
        offset = rays.origins - scale * torch.tensor(centre)
        along = -(offset * rays.directions).sum(-1)
        inside = (scale * radius) ** 2 - offset.square().sum(-1) + along.square()
        depth = along - inside.clamp_min(0).sqrt()
        hit = (inside > 0) & (along > 0) & (depth < nearest)
        nearest = torch.where(hit, depth, nearest)
        colour[hit] = torch.tensor([*rgb, 255.0])
    return colour.view(height, width, 4).byte().numpy()


def pictures(cameras: Cameras, scale: float = 1.0) -> list[np.ndarray]:
    return [picture(cameras.view_rays(view), SIZE, SIZE, scale) for view in range(len(cameras))]


def matrix(pose: torch.Tensor) -> list[list[float]]:
    return [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]]


def write_object(
    folder: Path,
    keys: dict | None = None,
    *,
    cameras: Cameras | None = None,
    images: list[np.ndarray] | None = None,
    scale: float = 1.0,
    blender: bool = False,
    shift: float = 0.0,
) -> Path:
    """Write the object: every sixth view for tests, the others for training.

    Args:
        folder: Where to.
        keys: Keys beside the frames, for example ``aabb_scale``.
        cameras: Of the object as it is; `orbit` if left out.
        images: Pictures; those of the balls if left out.
        scale: Units of the data set for one of the object's.
        blender: In the NeRF-synthetic layout, else as the BlenderNeRF add-on writes it.
        shift: Added to all coordinates, units of the data set.
    """
    cameras = orbit() if cameras is None else cameras
    images = pictures(cameras) if images is None else images
    intrinsics = cameras.intrinsics[0].tolist()
    poses = cameras.camera_to_world.clone()
    poses[:, :, 3] = poses[:, :, 3] * scale + shift
    (folder / "images").mkdir(parents=True)
    frames: dict[str, list[dict]] = {"train": [], "test": []}
    for view, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"r_{view}.png")
        name = f"images/r_{view}" if blender else f"images/r_{view}.png"
        split = "test" if view % 6 == 5 else "train"
        frames[split].append({"file_path": name, "transform_matrix": matrix(poses[view])})
    said: dict = {"camera_angle_x": 2 * math.atan(0.5 * SIZE / intrinsics[0])}
    if not blender:
        said |= dict(zip(("fl_x", "fl_y", "cx", "cy"), intrinsics, strict=True))
        said |= {"w": SIZE, "h": SIZE}
    if cameras.lenses is not None:
        said["camera_model"], coefficients = model_of(cameras.lenses.lens(0))
        said |= coefficients
    for split, listed in frames.items():
        content = {**said, **(keys or {}), "frames": listed}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


def with_lens(cameras: Cameras, lens: Lens) -> Cameras:
    return replace(cameras, lenses=Lenses.of([lens] * len(cameras)))


def turned_away(cameras: Cameras, view: int) -> Cameras:
    """The same cameras, but one has the pose of a camera at the other side."""
    poses = cameras.camera_to_world.clone()
    eye = poses[view, :, 3] * torch.tensor([-1.0, -1.0, 0.4])
    poses[view] = look_at(eye[None], torch.tensor([0.9, 0.9, 0.3]))[0]
    return replace(cameras, camera_to_world=poses)
