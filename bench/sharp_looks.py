"""How closely a stranger's sharp field has to be looked at: dB on one sample of rays, by look.

python bench/sharp_looks.py lego_100 theirs.safetensors coarse.safetensors

The rays are those of random pixels of three test views, 4x4 a pixel. `coarse.safetensors` is the
coarse net (`memonf import --net coarse`): with it the field is rendered as its code base does, 64
even samples and 64 more where the coarse net found something (Mildenhall et al. 2020, section 5).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

import memonf
from memonf.cameras.cameras import Rays
from memonf.fields import Field
from memonf.rendering.occupancy_grid import OccupancyGrid
from memonf.rendering.ray_marching import MarchSettings
from memonf.rendering.volume_rendering import PICTURES, render_rays
from memonf.typing import Tensor

VIEWS, PIXELS, SIDE = (0, 70, 140), 120, 4
#: Cells a side, how much coarser the first look is, step in cells, share of hidden samples.
LOOKS = (
    (120, 3, 0.75, 0.05), (120, 3, 0.75, 1.0), (120, 1, 0.75, 0.05), (120, 1, 0.75, 1.0),
    (120, 1, 0.5, 1.0), (120, 1, 0.375, 1.0), (240, 1, 0.75, 1.0),
)  # fmt: skip
EVEN, OWN = 1024, 64
AT_ONCE = 400


def sample(scene: memonf.Scene) -> list[tuple[Rays, Tensor]]:
    """Rays of random pixels and the true colours of those, view by view."""
    views = scene.split("test")
    width, height = views.cameras.size(0)
    generator = torch.Generator().manual_seed(0)
    cameras = views.cameras.resized(SIDE * width, SIDE * height)
    inner = torch.arange(SIDE)
    found = []
    for view in VIEWS:
        pixels = torch.randperm(width * height, generator=generator)[:PIXELS]
        rows, columns = pixels // width, pixels % width
        y = (rows[:, None] * SIDE + inner)[:, :, None].expand(-1, SIDE, SIDE).flatten()
        x = (columns[:, None] * SIDE + inner)[:, None].expand(-1, SIDE, SIDE).flatten()
        picture = views.picture(view, scene.background_rgb)
        found.append((cameras.rays(torch.full_like(x, view), y, x), picture[rows, columns]))
    return found


def seen_along(field: Field, rays: Rays, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Colours before the background and weights of samples at sorted distances (rays, samples)."""
    count = distances.shape[1]
    places = rays.origins[:, None] + distances[..., None] * rays.directions[:, None]
    towards = rays.directions[:, None].expand(-1, count, 3)
    density, rgb = field(places.reshape(-1, 3), towards.reshape(-1, 3))
    lengths = distances.diff(append=distances[:, -1:] + 1e3)
    alpha = 1 - (-density.view(-1, count) * lengths).exp()
    clear = torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha[:, :-1]], 1).cumprod(1)
    weights = alpha * clear
    return (weights[..., None] * rgb.view(-1, count, 3)).sum(1), weights


def more_where(weights: Tensor, distances: Tensor) -> Tensor:
    """Further distances where the weights are, by the inverse of their cumulative sum."""
    inner = weights[:, 1:-1] + 1e-5
    middles = (distances[:, 1:] + distances[:, :-1]) / 2
    total = torch.cat([torch.zeros_like(inner[:, :1]), inner.cumsum(1)], 1)
    share = total / total[:, -1:]
    wanted = torch.linspace(0, 1, OWN).expand(len(share), OWN).contiguous()
    above = torch.searchsorted(share, wanted, right=True).clamp(1, share.shape[1] - 1)
    low, high = share.gather(1, above - 1), share.gather(1, above)
    near, far = middles.gather(1, above - 1), middles.gather(1, above)
    return near + (wanted - low) / (high - low).clamp_min(1e-5) * (far - near)


def by_itself(fine: Field, coarse: Field | None, samples: int) -> Callable[[Rays], Tensor]:
    """Rendering without a grid: even samples, and those that the coarse net asks for."""
    near, far = fine.record.near, 1.1 * fine.record.far
    background = torch.tensor(fine.record.background)

    def draw(rays: Rays) -> Tensor:
        distances = torch.linspace(near, far, samples).expand(len(rays), samples)
        if coarse is not None:
            _, weights = seen_along(coarse, rays, distances)
            distances = torch.cat([distances, more_where(weights, distances)], 1).sort(1).values
        colour, weights = seen_along(fine, rays, distances)
        return colour + (1 - weights.sum(1, keepdim=True)) * background

    return draw


def main() -> None:
    """Print a row a look."""
    scene, fine, coarse = memonf.load_scene(sys.argv[1]), *map(memonf.load, sys.argv[2:4])
    rays = sample(scene)
    background = torch.tensor(fine.record.background)

    def row(name: str, draw: Callable[[Rays], Tensor], prepared: float) -> None:
        started, error = time.perf_counter(), 0.0
        for part, truth in rays:
            colour = torch.cat([draw(part[k : k + AT_ONCE]) for k in range(0, len(part), AT_ONCE)])
            pixels = colour.clamp(0, 1).view(-1, SIDE**2, 3).mean(1)
            error += float((pixels - truth).square().mean()) / len(rays)
        psnr = -10 * torch.tensor(error).log10().item()
        seconds = time.perf_counter() - started
        print(f"| {name} | {psnr:.2f} | {prepared:.1f} | {seconds:.1f} |", flush=True)

    print("| cells | first look | step | hidden | dB | s ready | s drawn |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    with torch.no_grad():
        for cells, factor, step, hidden in LOOKS:
            started = time.perf_counter()
            grid = OccupancyGrid.close_to(fine.density, fine.aabb, cells, factor)
            march = MarchSettings(step, hidden, PICTURES.march.hidden_below)
            row(
                f"{cells} | 1/{factor} | {step:g} | {hidden:g}",
                lambda part, grid=grid, march=march: render_rays(
                    fine, part, grid, march, background, near=fine.record.near,
                    far=1.1 * fine.record.far,
                ).rgb,
                time.perf_counter() - started,
            )  # fmt: skip
        row(f"none: {EVEN} even samples | | | ", by_itself(fine, None, EVEN), 0.0)
        row(f"none: its own {OWN} + {OWN} | | | ", by_itself(fine, coarse, OWN), 0.0)


if __name__ == "__main__":
    main()
