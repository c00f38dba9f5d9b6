"""Where along rays, and where in space, a field is looked at.

Symbols: t distance along a ray, Δt the length a sample stands for, T transmittance.

An `OccupancyGrid` remembers a rough density per cell. Rays are marched through it in equal steps;
each step has a *rate* (expected samples, at most 1): none in empty cells, one in occupied ones,
fewer behind what the grid takes for solid. Systematic resampling keeps that share of the steps, and
a kept step stands for Δt = step / rate, so the estimated optical depth is unbiased for any rates.
Nothing here knows a field: densities come in as functions of position.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from .cameras import Cameras, Rays
from .typing import Bool, DensityFunction, Float, Int, Tensor, UInt8

__all__ = [
    "MarchSettings",
    "OccupancyGrid",
    "RaySamples",
    "in_chunks",
    "intersect_box",
    "march",
]

#: Points a small network evaluates at once: its activations then stay in a core's cache.
CHUNK = 8192
#: 8 bit alpha above which a pixel is not taken for clear background.
OPAQUE = 5


def in_chunks(function: DensityFunction, positions: Tensor, size: int = CHUNK) -> Tensor:
    """Apply a pointwise function chunk by chunk and join the results."""
    if len(positions) <= size:
        return function(positions)
    return torch.cat([function(chunk) for chunk in positions.split(size)])


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


class OccupancyGrid:
    """A rough, slowly forgetting upper estimate of the density in each cell of a box.

    Args:
        aabb: (2, 3), scene units.
        resolution: Cells along each side.
        threshold: A cell is occupied if a ray crossing it would lose this share of its light.
    """

    def __init__(
        self, aabb: Float[Tensor, "2 3"], resolution: int = 64, threshold: float = 0.01
    ) -> None:
        self.aabb = aabb
        self.resolution = resolution
        self.cell = (aabb[1] - aabb[0]) / resolution
        self.threshold = -math.log1p(-threshold) / float(self.cell.mean())
        self.density = torch.full((resolution**3,), 10 * self.threshold, device=aabb.device)
        self._bounds: tuple[Tensor | None, int, Tensor] = (None, 0, aabb)

    @property
    def occupied(self) -> Tensor:
        """(resolution³,) bool, x slowest."""
        return self.density > self.threshold

    def centres(self) -> Float[Tensor, "cells 3"]:
        """Cell centres, x slowest."""
        axis = torch.arange(self.resolution, device=self.aabb.device) + 0.5
        index = torch.cartesian_prod(axis, axis, axis)
        return self.aabb[0] + index * self.cell

    def cell_index(self, positions: Float[Tensor, "*points 3"]) -> Int[Tensor, "*points"]:
        """Flat cell index of each position; positions outside count to the border cells."""
        scaled = (positions - self.aabb[0]) / self.cell
        index = scaled.clamp_(0, self.resolution - 1).long()
        return (index[..., 0] * self.resolution + index[..., 1]) * self.resolution + index[..., 2]

    def bounds(self) -> Float[Tensor, "2 3"]:
        """Box around the occupied cells; the whole box if there are none."""
        # Every march asks; looking through all cells anew would cost a fifth of a picture.
        density, version, bounds = self._bounds
        if density is not self.density or version != self.density._version:
            bounds = self.find_bounds()
            self._bounds = (self.density, self.density._version, bounds)
        return bounds

    def find_bounds(self) -> Float[Tensor, "2 3"]:
        """Look through all cells for `bounds`."""
        cells = self.occupied.view((self.resolution,) * 3).nonzero()
        if len(cells) == 0:
            return self.aabb
        lower = self.aabb[0] + cells.amin(0) * self.cell
        return torch.stack([lower, self.aabb[0] + (cells.amax(0) + 1) * self.cell])

    @torch.no_grad()
    def update(
        self,
        density: DensityFunction,
        *,
        decay: float = 0.0,
        generator: torch.Generator | None = None,
        cells: Tensor | None = None,
    ) -> None:
        """Look at the field once in each cell: density ← max(decay · density, field's density).

        Args:
            density: The field's density at positions (points, 3).
            decay: Share of the old value that survives, in [0, 1).
            generator: Draws the point in each cell; None looks at the centres.
            cells: Indices of the cells to look at; None for all.
        """
        points = self.centres() if cells is None else self.centres()[cells]
        if generator is not None:
            jitter = torch.rand(points.shape, generator=generator)
            points = points + (jitter.to(points) - 0.5) * self.cell
        fresh = in_chunks(density, points)
        if cells is None:
            self.density = torch.maximum(self.density * decay, fresh)
        else:
            self.density[cells] = torch.maximum(self.density[cells] * decay, fresh)

    @torch.no_grad()
    def carve(self, cameras: Cameras, alphas: Iterable[UInt8[Tensor, "height width"]]) -> None:
        """Empty the cells that some camera saw the background through (the visual hull).

        A cell survives if some view has it in the picture, and in every such view some pixel
        within the cell's reach is opaque.

        Args:
            cameras: Cameras of the views.
            alphas: Alpha channel of each view, 8 bit, on any device; looked at one by one.
        """
        alive = torch.arange(self.resolution**3, device=self.aabb.device)
        centres = self.centres()
        radius = 0.5 * float(self.cell.norm())
        ever_seen = torch.zeros_like(self.density, dtype=torch.bool)
        for view, alpha in enumerate(alphas):
            points = centres[alive]
            rows, columns, depth, seen = cameras.project(points, view)
            seen &= depth > radius
            fx = cameras.intrinsics[view, 0]
            reach = (
                math.ceil(float(fx) * radius / max(float(depth[seen].min()), radius))
                if (bool(seen.any()))
                else 1
            )
            solid = alpha.to(alive.device) > OPAQUE
            ever_seen[alive[seen]] = True
            keep = ~seen
            keep[seen] = any_within(solid, rows[seen], columns[seen], reach)
            alive = alive[keep]
        emptied = torch.zeros_like(self.density)
        alive = alive[ever_seen[alive]]
        emptied[alive] = self.density[alive]
        self.density = emptied


def any_within(
    solid: Bool[Tensor, "height width"], rows: Tensor, columns: Tensor, reach: int
) -> Bool[Tensor, " points"]:
    """Whether a picture has a solid pixel within `reach` rows and columns of each place.

    Sums over windows from one table of sums (Crow 1984): the cost does not grow with the reach.
    """
    height, width = solid.shape
    sums = F.pad(solid.cumsum(0).cumsum(1), (1, 0, 1, 0))
    top, bottom = (rows - reach).clamp_min(0), (rows + reach + 1).clamp_max(height)
    left, right = (columns - reach).clamp_min(0), (columns + reach + 1).clamp_max(width)
    return sums[bottom, right] - sums[top, right] > sums[bottom, left] - sums[top, left]


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

    Args:
        rays: Rays to march.
        grid: What is known of the scene.
        settings: Step and rates.
        near: Nearest distance, scene units.
        far: Farthest distance, scene units.
        generator: Jitters the samples; None places them deterministically.
    """
    device = rays.origins.device
    step = settings.step * float(grid.cell.min())
    starts, ends = intersect_box(rays, grid.bounds(), near, far)
    meets = (ends > starts).nonzero()[:, 0]

    def uniform() -> Tensor:
        if generator is None:
            return torch.full((len(rays),), 0.5, device=device)[meets]
        return torch.rand(len(rays), generator=generator).to(device)[meets]

    if len(meets) == 0:
        none = rays.origins.new_zeros(0)
        empty = none.long()
        return RaySamples(none.view(0, 3), none, none, empty, empty, len(rays))
    origins, directions = rays.origins[meets], rays.directions[meets]
    starts, ends = starts[meets], ends[meets]
    steps = math.ceil(float((ends - starts).max()) / step)
    offsets = torch.arange(steps, device=device) + uniform()[:, None]
    distances = starts[:, None] + offsets * step
    # Flat cell index along each ray, axis by axis: much cheaper than (rays, steps, 3) positions.
    cells = torch.zeros_like(distances)
    for axis in range(3):
        origin = (origins[:, axis] - grid.aabb[0, axis]) / grid.cell[axis]
        slope = directions[:, axis] / grid.cell[axis]
        place = torch.addcmul(origin[:, None], distances, slope[:, None])
        cells.mul_(grid.resolution).add_(place.floor_().clamp_(0, grid.resolution - 1))
    density = grid.density[cells.long()]
    density = density * ((density > grid.threshold) & (distances < ends[:, None]))
    rates = step_rates(density, step, settings)
    # Systematic resampling: keep the steps at which the cumulated rate passes k + u.
    passed = (rates.cumsum(1) + uniform()[:, None]).floor_()
    kept = torch.cat([passed[:, :1] > 0, passed[:, 1:] > passed[:, :-1]], 1)
    kept &= rates > 0
    ray, column = kept.nonzero(as_tuple=True)
    distances = distances[ray, column]
    return RaySamples(
        positions=torch.addcmul(origins[ray], directions[ray], distances[:, None]),
        distances=distances,
        lengths=step / rates[ray, column],
        ray=meets[ray],
        rank=(kept.cumsum(1) - 1)[ray, column],
        rays=len(rays),
    )


def step_rates(
    density: Float[Tensor, "rays steps"], step: float, settings: MarchSettings
) -> Float[Tensor, "rays steps"]:
    """Expected samples of each step: 0 in empty cells, fewer where the grid lets no light reach."""
    optical_depth = density * step
    in_front = optical_depth.cumsum(1) - optical_depth
    hidden = in_front > -math.log(settings.hidden_below)
    return torch.where(hidden, settings.hidden_rate, 1.0) * (density > 0)
