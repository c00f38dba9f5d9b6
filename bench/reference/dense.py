"""The plain way to render a field: evenly spread samples on every ray, all of them evaluated.

Reference:
    Mildenhall et al. 2020, NeRF, arXiv 2003.08934, section 4, without the second pass.
"""

from __future__ import annotations

import torch

from memonf.cameras.cameras import Cameras
from memonf.fields import Field
from memonf.typing import Tensor

SAMPLES = 64
#: Points evaluated at once.
CHUNK = 8192


@torch.no_grad()
def render(field: Field, cameras: Cameras, view: int, samples: int = SAMPLES) -> Tensor:
    """Picture of one camera: (height, width, 3), rgb.

    Args:
        field: Its record says how near, how far and on which background.
        cameras: Cameras of the pictures.
        view: Which of them.
        samples: Samples on each ray, in the middle of equal stretches.
    """
    rays = cameras.view_rays(view)
    length = (field.record.far - field.record.near) / samples
    distances = field.record.near + length * (torch.arange(samples) + 0.5)
    positions = rays.origins[:, None] + rays.directions[:, None] * distances[:, None]
    directions = rays.directions[:, None].expand_as(positions)
    parts = [
        field(*chunk)
        for chunk in zip(
            positions.reshape(-1, 3).split(CHUNK), directions.reshape(-1, 3).split(CHUNK),
            strict=True,
        )
    ]  # fmt: skip
    density = torch.cat([part.density for part in parts]).reshape(len(rays), samples)
    colour = torch.cat([part.rgb for part in parts]).reshape(len(rays), samples, 3)
    alpha = 1 - torch.exp(-density * length)
    clear = torch.cumprod(1 - alpha, -1)
    transmittance = torch.cat([torch.ones_like(clear[:, :1]), clear[:, :-1]], -1)
    weights = alpha * transmittance
    background = torch.tensor(field.record.background)
    seen = (weights[..., None] * colour).sum(1)
    picture = seen + (1 - weights.sum(1))[:, None] * background
    width, height = cameras.size(view)
    return picture.reshape(height, width, 3)
