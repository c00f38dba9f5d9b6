"""Where along rays a field is looked at.

Symbols: t distance along a ray, Δt the length a sample stands for, T transmittance.

Rays are marched through an `OccupancyGrid` in equal steps; each step has a *rate* (expected
samples, at most 1): none in empty cells, one in occupied ones, fewer behind what the grid takes for
solid. Systematic resampling keeps that share of the steps, and a kept step stands for
Δt = step / rate, so the estimated optical depth is unbiased for any rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..cameras.cameras import Rays
from ..typing import Float, Int, Tensor
from .occupancy_grid import COARSE, OccupancyGrid

__all__ = ["MarchSettings", "RaySamples", "intersect_box", "march"]

#: Steps of a march that are looked up together in the coarse picture of the occupancy grid.
BLOCK = 8
#: Rates of sampling are whole multiples of this share, so that their sums are exact.
RATE_UNIT = 4096
#: Optical depths along rays are summed in these parts of one, up to so much a step.
DEPTH_UNIT = 65536
MOST_DEPTH = 100.0


def intersect_box(
    rays: Rays, aabb: Float[Tensor, "2 3"], near: float, far: float
) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]]:
    """Distances at which rays enter and leave a box, within [near, far].

    A ray that misses the box has start >= end.

    Reference:
        The slab method, Kay and Kajiya 1986.
    """
    inverse = 1.0 / torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)
    at_lower = (aabb[0] - rays.origins) * inverse
    at_upper = (aabb[1] - rays.origins) * inverse
    starts = torch.minimum(at_lower, at_upper).amax(-1).clamp_min(near)
    ends = torch.maximum(at_lower, at_upper).amin(-1).clamp_max(far)
    return starts, ends


@dataclass(frozen=True)
class RaySamples:
    """Samples of many rays, packed ray after ray.

    Attributes:
        positions: (samples, 3), scene units.
        distances: (samples,), t along the ray.
        lengths: (samples,), Δt.
        ray: (samples,), which ray a sample belongs to, ascending.
        rank: (samples,), place of a sample among those of its ray, front to back.
        rays: Number of rays.
    """

    positions: Tensor
    distances: Tensor
    lengths: Tensor
    ray: Tensor
    rank: Tensor
    rays: int

    def __len__(self) -> int:
        return len(self.positions)

    def padded(self, values: Tensor) -> Tensor:
        """Spread per-sample values (samples, ...) to (rays, most, ...), zeros behind the last."""
        most = int(self.rank.max()) + 1 if len(self.rank) else 1
        out = values.new_zeros(self.rays * most, *values.shape[1:])
        out = out.index_put((self.ray * most + self.rank,), values)
        return out.view(self.rays, most, *values.shape[1:])


@dataclass(frozen=True)
class MarchSettings:
    """How densely rays are sampled.

    Attributes:
        step: Length of a step, in cells of the occupancy grid.
        hidden_rate: Samples per step, in (0, 1], in occupied cells that almost no light reaches.
        hidden_below: Transmittance (as the grid estimates it) below which a place is hidden.
    """

    step: float = 1.0
    hidden_rate: float = 0.3
    hidden_below: float = 0.01


@torch.no_grad()
def march(
    rays: Rays,
    grid: OccupancyGrid,
    settings: MarchSettings,
    *,
    near: float = 0.0,
    far: float = 1e6,
    generator: torch.Generator | None = None,
) -> RaySamples:
    """Place samples along rays where the grid expects something.

    Steps are first looked up in blocks, in a coarse picture of the grid: most of a ray is air. Only
    the steps of what is left are looked up one by one.

    Args:
        rays: Rays to march.
        grid: What is known of the scene.
        settings: Step and rates.
        near: Nearest distance, scene units.
        far: Farthest distance, scene units.
        generator: Jitters the samples; None places them deterministically.
    """
    step = settings.step * float(grid.cell.min())
    starts, ends = intersect_box(rays, grid.bounds(), near, far)
    if generator is None:
        jitter = phase = torch.full_like(starts, 0.5)
    else:
        jitter = torch.rand(len(rays), generator=generator).to(starts)
        phase = torch.rand(len(rays), generator=generator).to(starts)
    starts = starts + jitter * step
    ray, begins = blocks_near_matter(rays, grid, starts, ends, step)
    # Step by step within the blocks that are left; packed, ray after ray, front to back.
    distances = begins[:, None] + torch.arange(BLOCK, device=starts.device) * step
    place = cells_along(rays[ray], distances, grid.aabb[0], grid.cell, grid.resolution)
    density = grid.density[place]
    within = ((density > grid.threshold) & (distances < ends[ray, None])).flatten().nonzero()[:, 0]
    density, distances = density.flatten()[within], distances.flatten()[within]
    ray = ray[within // BLOCK]
    rates = step_rates(density * step, ray, len(rays), settings)
    # Systematic resampling: keep the steps at which the cumulated rate passes k + phase.
    passed = sums_before(rates, ray, len(rays)) + (phase * RATE_UNIT).long()[ray]
    kept = ((passed + rates) // RATE_UNIT > passed // RATE_UNIT).nonzero()[:, 0]
    ray, distances = ray[kept], distances[kept]
    return RaySamples(
        positions=torch.addcmul(rays.origins[ray], rays.directions[ray], distances[:, None]),
        distances=distances,
        lengths=step * RATE_UNIT / rates[kept],
        ray=ray,
        rank=sums_before(torch.ones_like(ray), ray, len(rays)),
        rays=len(rays),
    )


def blocks_near_matter(
    rays: Rays, grid: OccupancyGrid, starts: Tensor, ends: Tensor, step: float
) -> tuple[Int[Tensor, " blocks"], Float[Tensor, " blocks"]]:
    """Blocks of `BLOCK` steps that may meet matter: (ray, distance of the first step) of each.

    The others are dropped: all of rays that miss the box, and those with no occupied cell in reach.
    """
    meets = (ends > starts).nonzero()[:, 0]
    block = BLOCK * step
    longest = float((ends - starts)[meets].max()) if len(meets) else 0.0
    offsets = torch.arange(math.ceil(longest / block), device=starts.device) * block
    begins = starts[meets, None] + offsets
    to_middle = 0.5 * (block - step)
    near_matter = grid.near_matter(to_middle)
    place = cells_along(
        rays[meets], begins + to_middle, grid.aabb[0], grid.cell * COARSE, len(near_matter)
    )
    met = near_matter.flatten()[place] & (begins < ends[meets, None])
    row, number = met.nonzero(as_tuple=True)
    return meets[row], begins[row, number]


def cells_along(
    rays: Rays,
    distances: Float[Tensor, "rays steps"],
    corner: Tensor,
    cell: Tensor,
    resolution: int,
) -> Int[Tensor, "rays steps"]:
    """Flat cell index (x slowest) at distances along rays; outside, that of the border cell.

    Axis by axis on (rays, steps): much cheaper than positions of (rays, steps, 3).
    """
    index = torch.zeros_like(distances)
    for axis in range(3):
        origin = (rays.origins[:, axis] - corner[axis]) / cell[axis]
        slope = rays.directions[:, axis] / cell[axis]
        place = torch.addcmul(origin[:, None], distances, slope[:, None])
        index.mul_(resolution).add_(place.floor_().clamp_(0, resolution - 1))
    return index.long()


def sums_before(
    values: Int[Tensor, " steps"], ray: Int[Tensor, " steps"], rays: int
) -> Int[Tensor, " steps"]:
    """Sum of the values in front of each step on its own ray; steps packed ray after ray."""
    sums = F.pad(values.cumsum(0), (1, 0))
    first = F.pad(torch.bincount(ray, minlength=rays).cumsum(0), (1, 0))
    return sums[:-1] - sums[first[ray]]


def step_rates(
    optical_depth: Float[Tensor, " steps"],
    ray: Int[Tensor, " steps"],
    rays: int,
    settings: MarchSettings,
) -> Int[Tensor, " steps"]:
    """Expected samples of each step in units of 1 / `RATE_UNIT`: fewer where no light reaches."""
    # In whole numbers as well: sums over all rays at once that are exact on every device.
    units = (optical_depth.clamp_max(MOST_DEPTH) * DEPTH_UNIT).long()
    hidden = sums_before(units, ray, rays) > -math.log(settings.hidden_below) * DEPTH_UNIT
    fewer = max(1, round(settings.hidden_rate * RATE_UNIT))
    return torch.where(hidden, fewer, RATE_UNIT)
