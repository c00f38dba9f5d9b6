"""What a field has seen: where, how often, from which sides. Free space seen empty is knowledge.

A camera *saw* a cell if the cell lies in its picture and at least half of the light still reaches
it. That follows from the cameras and the density alone: a field file holds both, so knowledge is
recorded when training ends and can be recomputed for any file (`observe`). A field without known
cameras is taken to have been seen from all round the outside of its box (`assumed_cameras`).

Nothing here knows a field: the density comes in on an `OccupancyGrid`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from ..cameras.cameras import Cameras, Rays, look_at
from ..typing import Bool, Float, Tensor, UInt8
from .occupancy_grid import OccupancyGrid
from .ray_marching import MarchSettings, march

__all__ = ["RESOLUTION", "SOLID_RESOLUTION", "Knowledge", "assumed_cameras", "disagreement",
           "observe", "union"]  # fmt: skip

#: Cells along each side of a box for what was seen, and for what was found solid.
RESOLUTION = 40
SOLID_RESOLUTION = 80
#: A camera sees no finer than the cells: more pixels along its longer side are not looked through.
MOST_PIXELS = 50
#: Light is followed through the grid in steps of half a cell, behind solid matter sparsely.
LIGHT = MarchSettings(step=1.0, hidden_rate=0.1)


@dataclass(frozen=True)
class Knowledge:
    """What the cameras of a field saw in its box.

    Attributes:
        aabb: (2, 3), the box, scene units.
        views: Number of cameras that saw each cell, at most 255; x slowest.
        sides: Bit 4 [x] + 2 [y] + 1 [z] is set if some camera saw the cell from the octant of
            these signs (seen from the cell, 1 is positive).
        solid: On finer cells, where the field has density.
    """

    aabb: Float[Tensor, "2 3"]
    views: UInt8[Tensor, "n n n"]
    sides: UInt8[Tensor, "n n n"]
    solid: Bool[Tensor, "m m m"]

    def views_at(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Number of cameras that saw the cell of each position; 0 outside the box."""
        return look_up(self.views, self.aabb, positions).float()

    def solid_at(
        self, positions: Float[Tensor, "points 3"], margin: int = 0
    ) -> Bool[Tensor, " points"]:
        """Whether the field has density at most `margin` cells away; False outside the box."""
        return look_up(grown(self.solid, margin), self.aabb, positions)

    def views_on(self, grid: OccupancyGrid) -> Float[Tensor, " cells"]:
        """`views_at` the centres of a grid's cells."""
        return on_grid(self.views, self.aabb, grid).float()

    def sides_on(self, grid: OccupancyGrid) -> UInt8[Tensor, " cells"]:
        """Octants from which the cell at each centre of a grid was seen; 0 outside the box."""
        return on_grid(self.sides, self.aabb, grid)

    def solid_on(self, grid: OccupancyGrid, margin: int = 0) -> Bool[Tensor, " cells"]:
        """`solid_at` the centres of a grid's cells."""
        return on_grid(grown(self.solid, margin), self.aabb, grid)

    def to(self, device: torch.device | str) -> Knowledge:
        """Return the same knowledge on `device`."""
        return Knowledge(
            self.aabb.to(device), self.views.to(device), self.sides.to(device),
            self.solid.to(device),
        )  # fmt: skip

    @property
    def seen_share(self) -> float:
        """Share of the box that some camera saw, in [0, 1]."""
        return float((self.views > 0).float().mean())

    @property
    def seen_empty_share(self) -> float:
        """Share of the box that was seen and found empty, in [0, 1]."""
        grid = OccupancyGrid(self.aabb, len(self.solid))
        return float(((self.views_on(grid) > 0) & ~self.solid_on(grid)).float().mean())


def look_up(values: Tensor, aabb: Tensor, positions: Tensor) -> Tensor:
    """Value of the cell (n, n, n) that each position (points, 3) lies in; zero outside."""
    cells = ((positions - aabb[0]) / (aabb[1] - aabb[0]) * len(values)).floor().long()
    inside = ((cells >= 0) & (cells < len(values))).all(-1)
    x, y, z = cells.clamp(0, len(values) - 1).unbind(-1)
    return values[x, y, z] * inside


def on_grid(values: Tensor, aabb: Tensor, grid: OccupancyGrid) -> Tensor:
    """`look_up` at the centres of a grid's cells; copies where the grid is a finer one."""
    times, rest = divmod(grid.resolution, len(values))
    if rest or not torch.equal(aabb, grid.aabb):
        return look_up(values, aabb, grid.centres())
    for axis in range(3 if times > 1 else 0):
        values = values.repeat_interleave(times, axis)
    return values.flatten()


def grown(solid: Tensor, cells: int) -> Tensor:
    """Solid cells and all within `cells` of them."""
    for axis in range(3):
        for _ in range(cells):
            near, last = solid.clone(), solid.shape[axis] - 1
            near.narrow(axis, 1, last).logical_or_(solid.narrow(axis, 0, last))
            near.narrow(axis, 0, last).logical_or_(solid.narrow(axis, 1, last))
            solid = near
    return solid


@torch.no_grad()
def observe(
    grid: OccupancyGrid, cameras: Cameras, *, near: float = 0.0, far: float = 1e6
) -> Knowledge:
    """What these cameras see of a density.

    Args:
        grid: The density, looked at with `SOLID_RESOLUTION`.
        cameras: Training cameras.
        near: Nearest distance at which anything was rendered, scene units.
        far: Farthest such distance.
    """
    cells = OccupancyGrid(grid.aabb, RESOLUTION)
    centres = cells.centres()
    reach = 0.5 * float(cells.cell.norm())
    count = torch.zeros(len(centres), dtype=torch.long, device=centres.device)
    sides = torch.zeros(len(centres), dtype=torch.uint8, device=centres.device)
    small = cameras.fitted(MOST_PIXELS, enlarged=False).to(centres.device)
    for view in range(len(small)):
        lit_to = lit_distances(small.view_rays(view), grid, near, far)
        rows, columns, _, in_picture = small.project(centres, view)
        towards = small.positions[view] - centres
        distance = towards.norm(dim=-1)
        width, height = small.size(view)
        pixel = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
        saw = in_picture & (distance - reach <= lit_to[pixel])
        saw &= (distance + reach >= near) & (distance - reach <= far)
        octant = ((towards > 0) * towards.new_tensor([4, 2, 1])).sum(-1).to(torch.uint8)
        count += saw
        sides |= torch.where(saw, torch.ones_like(octant) << octant, torch.zeros_like(octant))
    shape = (RESOLUTION,) * 3
    return Knowledge(
        grid.aabb.clone(),
        count.clamp(max=255).to(torch.uint8).view(shape),
        sides.view(shape),
        grid.occupied.view((grid.resolution,) * 3).clone(),
    )


def lit_distances(
    rays: Rays, grid: OccupancyGrid, near: float, far: float
) -> Float[Tensor, " rays"]:
    """Distance at which half of the light of each ray is lost; infinite where it gets through."""
    samples = march(rays, grid, LIGHT, near=near, far=far)
    distances = torch.full((len(rays),), math.inf, device=grid.aabb.device)
    if len(samples) == 0:
        return distances
    density = grid.density[grid.cell_index(samples.positions)]
    behind = samples.padded(density * samples.lengths).cumsum(1)
    dark = behind > math.log(2)
    first = dark.int().argmax(1)
    at_first = samples.padded(samples.distances).gather(1, first[:, None])[:, 0]
    return torch.where(dark.any(1), at_first, distances)


def assumed_cameras(aabb: Float[Tensor, "2 3"], count: int = 48) -> Cameras:
    """Cameras all round the outside of a box, each with the whole box in its picture.

    This is the assumption for a field whose cameras are unknown: that all of its surface that can
    be seen from outside was seen. They stand on a golden-angle spiral around the centre.
    """
    lower, upper = aabb.cpu()
    centre, radius = (lower + upper) / 2, 0.5 * float((upper - lower).norm())
    place = torch.arange(count) + 0.5
    height = 1 - 2 * place / count
    azimuth = place * math.pi * (3 - math.sqrt(5))
    ground = (1 - height.square()).sqrt()
    offset = torch.stack([azimuth.cos() * ground, azimuth.sin() * ground, height], -1)
    distance = 2.5 * radius
    focal = MOST_PIXELS / 2 * math.sqrt(distance**2 - radius**2) / radius
    return Cameras.pinhole(
        look_at(centre + distance * offset, centre), focal, MOST_PIXELS, MOST_PIXELS
    )


def union(parts: Sequence[Knowledge], aabb: Float[Tensor, "2 3"]) -> Knowledge:
    """What several fields saw together, in one box.

    Views add up. A cell is solid if the views of those who found it solid outnumber a quarter of
    the views of those who saw it empty: surfaces of two parents never coincide to the cell.
    """
    coarse, fine = OccupancyGrid(aabb, RESOLUTION), OccupancyGrid(aabb, SOLID_RESOLUTION)
    views = torch.zeros_like(coarse.density)
    sides = torch.zeros_like(views, dtype=torch.uint8)
    found_solid = torch.zeros_like(fine.density)
    found_empty = torch.zeros_like(fine.density)
    for part in parts:
        views += part.views_on(coarse)
        sides |= part.sides_on(coarse)
        seen, solid = part.views_on(fine), part.solid_on(fine)
        found_solid += seen * solid
        found_empty += seen * ~solid
    return Knowledge(
        aabb.clone(),
        views.clamp(max=255).to(torch.uint8).view((RESOLUTION,) * 3),
        sides.view((RESOLUTION,) * 3),
        (found_solid > 0.25 * found_empty).view((SOLID_RESOLUTION,) * 3),
    )


def disagreement(first: Knowledge, second: Knowledge) -> float | None:
    """Share of the solid cells seen by both that only one of them found solid, in [0, 1].

    A solid cell within one cell of the other's counts as agreed. None if both saw nothing solid in
    common: there is no evidence.
    """
    grid = OccupancyGrid(first.aabb, SOLID_RESOLUTION)
    both = (first.views_on(grid) > 0) & (second.views_on(grid) > 0)
    alone = total = 0
    for one, other in pairwise((first, second, first)):
        solid = both & one.solid_on(grid)
        total += int(solid.sum())
        alone += int((solid & ~other.solid_on(grid, margin=1)).sum())
    return alone / total if total else None
