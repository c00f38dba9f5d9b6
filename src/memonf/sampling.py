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
#: Steps of a march that are looked up together in the coarse picture of the occupancy grid.
BLOCK = 8
#: Cells of the grid along each side of one of that picture.
COARSE = 4
#: Key of the bounds among what is known of a grid.
BOUNDS = -1.0
#: Rates of sampling are whole multiples of this share, so that their sums are exact.
RATE_UNIT = 4096
#: Optical depths along rays are summed in these parts of one, up to so much a step.
DEPTH_UNIT = 65536
MOST_DEPTH = 100.0
#: 8 bit alpha above which a pixel is not taken for clear background.
CLEAR_ALPHA = 5


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
        self._found: tuple[Tensor | None, int, dict[float, Tensor]] = (None, 0, {})

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
        found = self.found()
        if BOUNDS not in found:
            found[BOUNDS] = self.find_bounds()
        return found[BOUNDS]

    def find_bounds(self) -> Float[Tensor, "2 3"]:
        """Look through all cells for `bounds`."""
        cells = self.occupied.view((self.resolution,) * 3).nonzero()
        if len(cells) == 0:
            return self.aabb
        lower = self.aabb[0] + cells.amin(0) * self.cell
        return torch.stack([lower, self.aabb[0] + (cells.amax(0) + 1) * self.cell])

    def near_matter(self, distance: float) -> Bool[Tensor, "coarse coarse coarse"]:
        """Whether there may be an occupied cell within a distance of each block of cells.

        Args:
            distance: Along each axis, scene units.

        Returns:
            One entry for each block of `COARSE` cells along each axis.
        """
        found = self.found()
        if distance not in found:
            reach = math.ceil(distance / float(self.cell.min()) - 1e-6)
            seen = self.occupied.view(1, 1, *(self.resolution,) * 3).float()
            for axis in range(3):
                around = [0, 0, 0, 0, 0, 0]
                around[2 * (2 - axis)] = reach
                around[2 * (2 - axis) + 1] = reach + -self.resolution % COARSE
                window, stride = [1, 1, 1], [1, 1, 1]
                window[axis], stride[axis] = COARSE + 2 * reach, COARSE
                seen = F.max_pool3d(F.pad(seen, around), window, stride)
            found[distance] = seen[0, 0] > 0
        return found[distance]

    def found(self) -> dict[float, Tensor]:
        """What was found out about the cells as they are now.

        Every march asks; looking through all cells anew would cost a fifth of a picture.
        """
        density, version, found = self._found
        if density is not self.density or version != self.density._version:
            found = {}
            self._found = (self.density, self.density._version, found)
        return found

    @classmethod
    @torch.no_grad()
    def close_to(
        cls, density: DensityFunction, aabb: Float[Tensor, "2 3"], resolution: int, factor: int
    ) -> OccupancyGrid:
        """A grid of a density, looked at closely only near `traces` of matter; empty elsewhere.

        Args:
            density: The density at positions (points, 3).
            aabb: (2, 3), scene units.
            resolution: Cells along each side; a multiple of `factor`.
            factor: How many times coarser the first look is.
        """
        coarse, fine = cls(aabb, resolution // factor), cls(aabb, resolution)
        coarse.update(density)
        fine.density = torch.zeros_like(fine.density)
        fine.update(density, cells=coarse.traces(factor))
        return fine

    def traces(self, factor: int) -> Int[Tensor, " cells"]:
        """Where to look more closely: the cells with a trace of matter, and their neighbours.

        A trace is a tenth of the density of an occupied cell. About a tenth of all cells come out;
        pictures are the same to 0.001 dB as if all were looked at (docs/research/speed.md).

        Args:
            factor: How many times finer the cells are whose indices come out.
        """
        found = (self.density > 0.1 * self.threshold).view(1, 1, *(self.resolution,) * 3)
        near = F.max_pool3d(found.float(), 3, 1, 1)[0, 0] > 0
        for axis in range(3):
            near = near.repeat_interleave(factor, axis)
        return near.flatten().nonzero()[:, 0]

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
            solid = alpha.to(alive.device) > CLEAR_ALPHA
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
    # What lies nowhere near matter is dropped block by block; rays that miss the box with it.
    starts = starts + jitter * step
    block = BLOCK * step
    blocks = math.ceil(max(float((ends - starts).max()), 0) / block) if len(rays) else 0
    offsets = torch.arange(blocks, device=starts.device) * block
    middles = starts[:, None] + offsets + 0.5 * (block - step)
    near_matter = grid.near_matter(0.5 * (block - step))
    place = cells_along(rays, middles, grid.aabb[0], grid.cell * COARSE, len(near_matter))
    met = near_matter.flatten()[place] & (starts[:, None] + offsets < ends[:, None])
    ray, number = met.nonzero(as_tuple=True)
    # Step by step within the blocks that are left; packed, ray after ray, front to back.
    distances = starts[ray] + number * block
    distances = distances[:, None] + torch.arange(BLOCK, device=starts.device) * step
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
