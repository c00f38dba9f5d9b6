"""Scenes for the jobs: as they are, or with smaller pictures where a run is only to be tried."""

from __future__ import annotations

from dataclasses import replace

import torch

from memonf.data import Pictures, Scene, Views, load_scene
from memonf.typing import Tensor

__all__ = ["open_scene", "smaller"]


def open_scene(data: str, side: int | None = None) -> Scene:
    """A scene by its path or name.

    Args:
        data: As `memonf.load_scene` takes it.
        side: Pixels of the pictures' sides; None leaves them as they are.
    """
    scene = load_scene(data)
    return scene if side is None else smaller(scene, side)


def smaller(scene: Scene, side: int) -> Scene:
    """The same scene with pictures of `side` × `side` pixels, area means of the others."""

    def shrink(views: Views) -> Views:
        small = Pictures.of(area_mean(views.images, side))
        return Views(views.cameras.resized(side, side), small, views.names)

    loaders = {name: lambda name=name: shrink(scene.split(name)) for name in scene.loaders}
    return replace(scene, loaders=loaders, _loaded={})


def area_mean(images: Tensor, side: int) -> Tensor:
    """8 bit pictures (views, height, width, channels) at another size; straight alpha is heeded."""
    values = images.float()
    if images.shape[-1] == 4:
        values = torch.cat([values[..., :3] * values[..., 3:], values[..., 3:]], -1)
    mean = torch.nn.functional.adaptive_avg_pool2d(values.permute(0, 3, 1, 2), side)
    mean = mean.permute(0, 2, 3, 1)
    if images.shape[-1] == 4:
        mean = torch.cat([mean[..., :3] / mean[..., 3:].clamp_min(1), mean[..., 3:]], -1)
    return mean.round().clamp(0, 255).to(torch.uint8)
