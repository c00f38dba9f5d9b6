"""A capture of nine views as other tools write it, and what its cameras are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import memonf
from memonf.cameras.cameras import Cameras, same_size, turntable
from memonf.cameras.distortion import Lens, Lenses
from memonf.io.export.transforms import transforms

WIDTH, HEIGHT, VIEWS = 24, 18, 9
LENS = Lens(k1=0.09, k2=-0.12, k3=0.02, p1=0.003, p2=-0.002)
FISHEYE = Lens(projection="fisheye", k1=0.05, k2=-0.01, k3=0.004, k4=-0.001)


def world_cameras(lens: Lens = LENS) -> Cameras:
    """Nine cameras on an arc, tilted and far from the origin, as a capture's are."""
    poses = turntable(
        VIEWS, 24, 5.0, torch.tensor([10.0, -4.0, 2.0]), elevation=20.0
    ).camera_to_world
    focal = 21.0 + torch.arange(VIEWS)
    intrinsics = torch.stack(
        [focal, focal + 0.5, torch.full((VIEWS,), 11.0), torch.full((VIEWS,), 9.5)], 1
    )
    sizes = same_size(VIEWS, WIDTH, HEIGHT)
    return Cameras(poses, intrinsics, sizes, Lenses.of([lens] * VIEWS))


def write_pictures(folder: Path, ending: str = "png", **how: object) -> list[str]:
    """One picture a view, each of one grey."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"view_{view}.{ending}" for view in range(VIEWS)]
    for view, name in enumerate(names):
        pixels = np.full((HEIGHT, WIDTH, 3), 20 * view, np.uint8)
        Image.fromarray(pixels).save(folder / name, **how)
    return names


def write_transforms(folder: Path, cameras: Cameras) -> Path:
    names = [f"images/{name}" for name in write_pictures(folder / "images")]
    file = folder / "transforms.json"
    file.write_text(json.dumps(transforms(cameras, names)))
    return folder


def all_cameras(folder: Path, place: object = "keep") -> Cameras:
    """Cameras of all splits in the order of their names."""
    scene = memonf.load_scene(folder, place=place)
    parts = [scene.split(name) for name in scene.loaders]
    names = [name for part in parts for name in part.names]
    order = sorted(range(len(names)), key=lambda view: names[view])
    return Cameras.join([part.cameras for part in parts])[order]


def assert_same_rays(found: Cameras, expected: Cameras, tolerance: float = 2e-6) -> None:
    assert torch.equal(found.sizes, expected.sizes)
    for view in range(len(expected)):
        here, there = found.view_rays(view), expected.view_rays(view)
        torch.testing.assert_close(here.origins.float(), there.origins.float(), rtol=0, atol=1e-5)
        torch.testing.assert_close(
            here.directions.float(), there.directions.float(), rtol=0, atol=tolerance
        )
