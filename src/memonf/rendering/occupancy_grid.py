"""Which cells of a box hold matter, so that rays and lessons go where something is.

Nothing here knows a field: densities come in as functions of position.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import functional as F

from ..cameras.cameras import Cameras
from ..typing import Bool, DensityFunction, Float, Int, Tensor, UInt8

__all__ = ["CHUNK", "CLEAR_ALPHA", "COARSE", "OccupancyGrid", "in_chunks", "pixel_reach",
           "seen_through"]  # fmt: skip

#: Points a small network evaluates at once: its activations then stay in a core's cache.
CHUNK = 8192
#: Cells along each side of one block of `OccupancyGrid.near_matter`.
COARSE = 4
#: Key of the bounds among what is known of a grid.
BOUNDS = -1.0
#: 8 bit alpha above which a pixel is not taken for clear background.
CLEAR_ALPHA = 5
#: Pixels beyond which a reach covers any picture.
MOST_REACH = 1 << 20


def in_chunks(function: DensityFunction, positions: Tensor, size: int = CHUNK) -> Tensor:
    """Apply a pointwise function chunk by chunk and join the results."""
    if len(positions) <= size:
        return function(positions)
    return torch.cat([function(chunk) for chunk in positions.split(size)])


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

    def within(
        self, lower: tuple[float, float, float], upper: tuple[float, float, float]
    ) -> OccupancyGrid:
        """The same grid, empty outside a part of its box.

        Args:
            lower: Corner of that part, as shares of the box's sides, in [0, 1].
            upper: The opposite corner.
        """
        part = OccupancyGrid(self.aabb, self.resolution)
        part.threshold = self.threshold
        kept = torch.zeros((self.resolution,) * 3, dtype=torch.bool, device=self.density.device)
        kept[
            tuple(
                slice(round(low * self.resolution), round(high * self.resolution))
                for low, high in zip(lower, upper, strict=True)
            )
        ] = True
        part.density = torch.where(kept.flatten(), self.density, 0.0)
        return part

    def empty_outside(self, part: Float[Tensor, "2 3"]) -> None:
        """Empty the cells that lie outside a part of the box.

        Args:
            part: Its corners, scene units.
        """
        centres, half = self.centres(), 0.5 * self.cell
        inside = ((centres >= part[0] - half) & (centres <= part[1] + half)).all(1)
        self.density = torch.where(inside, self.density, 0.0)

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

    @classmethod
    @torch.no_grad()
    def highest(
        cls, density: DensityFunction, aabb: Float[Tensor, "2 3"], resolution: int, looks: int
    ) -> OccupancyGrid:
        """A grid of the highest density at some places of each cell, evenly spread.

        Args:
            density: The density at positions (points, 3).
            aabb: (2, 3), scene units.
            resolution: Cells along each side.
            looks: Places along each side of a cell; 1 for its centre.
        """
        grid, fine = cls(aabb, resolution), cls(aabb, resolution * looks)
        fine.update(density)
        places = fine.density.view(resolution, looks, resolution, looks, resolution, looks)
        grid.density = places.amax((1, 3, 5)).flatten()
        return grid

    def traces(self, factor: int) -> Int[Tensor, " cells"]:
        """Where to look more closely: cells with a trace of matter, and those at their faces.

        A trace is a tenth of the density of an occupied cell. A tenth to a quarter of all cells
        come out; pictures are the same to 0.001 dB as if all were looked at
        (docs/research/speed.md).

        Args:
            factor: How many times finer the cells are whose indices come out.
        """
        found = (self.density > 0.1 * self.threshold).view((self.resolution,) * 3)
        near = found.clone()
        for axis in range(3):
            ahead, behind = [slice(None)] * 3, [slice(None)] * 3
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            near[tuple(ahead)] |= found[tuple(behind)]
            near[tuple(behind)] |= found[tuple(ahead)]
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
    def carve(
        self,
        cameras: Cameras,
        alphas: Iterable[UInt8[Tensor, "height width"]],
        *,
        near: float = 0.0,
        tolerance: float = 0.0,
    ) -> None:
        """Empty the cells that cameras saw the background through (the visual hull).

        A cell survives if some view has it in the picture, and if some pixel within the cell's
        reach is opaque in all such views but a share of `tolerance`.

        Args:
            cameras: Cameras of the views.
            alphas: Alpha channel of each view, 8 bit, on any device; looked at one by one.
            near: Nearest distance that is rendered, scene units: a view says nothing of what is
                nearer.
            tolerance: Share of the views of a cell that may see the background through it, in
                [0, 1); above zero where alpha channels contradict each other.
        """
        alive = torch.arange(self.resolution**3, device=self.aabb.device)
        centres = self.centres()
        radius = 0.5 * float(self.cell.norm())
        seen_by = torch.zeros_like(alive, dtype=torch.int32)
        clear_in = torch.zeros_like(seen_by)
        for view, alpha in enumerate(alphas):
            solid = alpha.to(alive.device) > CLEAR_ALPHA
            seen, clear = seen_through(solid, cameras, view, centres[alive], radius, near)
            seen_by[alive] += seen.int()
            clear_in[alive] += clear.int()
            if bool(clear.any()):  # no count of views to come would let these survive
                alive = alive[clear_in[alive] <= tolerance * len(cameras)]
        alive = alive[(seen_by[alive] > 0) & (clear_in[alive] <= tolerance * seen_by[alive])]
        emptied = torch.zeros_like(self.density)
        emptied[alive] = self.density[alive]
        self.density = emptied


def seen_through(
    solid: Bool[Tensor, "height width"],
    cameras: Cameras,
    view: int,
    centres: Float[Tensor, "cells 3"],
    radius: float,
    near: float = 0.0,
) -> tuple[Bool[Tensor, " cells"], Bool[Tensor, " cells"]]:
    """Which cells a view has in its picture, and which of them it sees the background through.

    Each cell is looked for as far around its pixel as a ball around it reaches at its own depth. A
    ball that the camera stands in is not seen; one that is nearer than anything rendered is seen
    only where it is seen through.

    Args:
        solid: Which pixels are opaque.
        cameras: Cameras of all views.
        view: Which of them.
        centres: Of the cells.
        radius: Half a cell's diagonal, scene units.
        near: Nearest distance that is rendered, scene units.
    """
    rows, columns, depth, seen = cameras.project(centres, view)
    distance = (centres - cameras.positions[view]).norm(dim=-1)
    seen = seen & (depth > radius)
    places = seen.nonzero()[:, 0]
    down, across = pixel_reach(cameras, view, centres[places], radius)
    met = any_within(solid, rows[places], columns[places], down, across)
    if cameras.all_round(view):  # the picture goes on at its other border: nothing is said there
        met |= (columns[places] < across) | (columns[places] + across >= solid.shape[1])
    clear = torch.zeros_like(seen)
    clear[places] = ~met
    return seen & (clear | (distance + radius >= near)), clear


def pixel_reach(
    cameras: Cameras, view: int, centres: Float[Tensor, "balls 3"], radius: float
) -> tuple[Int[Tensor, " balls"], Int[Tensor, " balls"]]:
    """How many rows and columns the pictures of balls reach from the pixels of their centres.

    A point of a ball at plane coordinate x and depth d is displaced by at most
    r √(1 + x²) / (d − r) in the plane; behind a lens by r d s / (d − r), where s is the slope of
    what it shows by the place of the point.

    Args:
        cameras: Cameras of all views.
        view: Which of them.
        centres: Of the balls, each deeper than `radius`.
        radius: Of the balls, scene units.
    """
    pose, (fx, fy, _, _) = cameras.camera_to_world[view], cameras.intrinsics[view].unbind()
    local = (centres - pose[:, 3]) @ pose[:, :3] * pose.new_tensor([1.0, -1.0, -1.0])
    if cameras.lenses is None:
        depth = local[:, 2]
        stretch = (1 + (local[:, :2] / depth[:, None]).square()).sqrt()
    else:
        depth = cameras.lenses.depth(local, view)
        distance = local.norm(dim=-1, keepdim=True)
        steps = torch.eye(3).to(local) * 1e-3
        apart = [
            cameras.lenses.distort(local / distance + step, view)
            - cameras.lenses.distort(local / distance - step, view)
            for step in steps
        ]
        stretch = torch.stack(apart).norm(dim=0) / 2e-3 * (depth[:, None] / distance)
    spread = radius / (depth - radius).clamp_min(1e-3 * radius)
    reach = spread[:, None] * stretch
    across, down = (reach * torch.stack([fx, fy])).ceil().clamp(1, MOST_REACH).long().unbind(-1)
    return down, across


def any_within(
    solid: Bool[Tensor, "height width"],
    rows: Tensor,
    columns: Tensor,
    reach: int | Tensor,
    across: int | Tensor | None = None,
) -> Bool[Tensor, " points"]:
    """Whether a picture has a solid pixel within `reach` rows and columns of each place.

    Sums over windows from one table of sums (Crow 1984): the cost does not grow with the reach.

    Args:
        solid: The picture.
        rows: Of the places.
        columns: Of the places.
        reach: In rows; one for all places, or one each.
        across: Reach in columns; None for that in rows.
    """
    across = reach if across is None else across
    height, width = solid.shape
    sums = F.pad(solid.cumsum(0).cumsum(1), (1, 0, 1, 0))
    top, bottom = (rows - reach).clamp_min(0), (rows + reach + 1).clamp_max(height)
    left, right = (columns - across).clamp_min(0), (columns + across + 1).clamp_max(width)
    return sums[bottom, right] - sums[top, right] > sums[bottom, left] - sums[top, left]
