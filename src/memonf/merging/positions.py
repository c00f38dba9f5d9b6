"""Where the units of parents are compared: positions, directions, and how far to trust whom.

Symbols: n_i(x) number of cameras of parent i that saw the cell of x; n / (n + 2) its *trust* there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..cameras.cameras import Cameras
from ..fields import Field
from ..rendering.knowledge import Knowledge
from ..rendering.occupancy_grid import OccupancyGrid
from ..typing import Float, Tensor

__all__ = ["Positions", "place_in_box", "place_on_matter", "trust_in", "viewing_directions"]

#: Views at which a parent is half trusted.
HALF_TRUSTED = 2.0


@dataclass(frozen=True)
class Positions:
    """Arguments of the networks at sampled points, and the parents' trust there.

    Attributes:
        inputs: Normalised positions (points, 3), and directions (points, 3) or None.
        trust: (parents, points), in [0, 1]; all ones where knowledge is not used.
    """

    inputs: list[Tensor | None]
    trust: Float[Tensor, "parents points"]

    def part(self, chosen: slice) -> Positions:
        """Some of the points."""
        inputs = [None if value is None else value[chosen] for value in self.inputs]
        return Positions(inputs, self.trust[:, chosen])


def trust_in(
    knowledge: Knowledge, positions: Float[Tensor, "points 3"]
) -> Float[Tensor, " points"]:
    """How far a parent is to be trusted at each position, in [0, 1)."""
    views = knowledge.views_at(positions)
    return views / (views + HALF_TRUSTED)


def place_on_matter(
    parent: Field, count: int, generator: torch.Generator
) -> Float[Tensor, "points 3"]:
    """Random positions in the cells where a field has density; anywhere if it has none."""
    grid = OccupancyGrid(parent.aabb)
    grid.update(parent.density)
    return in_cells(grid, grid.occupied, count, generator)


def place_on_seen_matter(
    knowledge: Knowledge, count: int, generator: torch.Generator
) -> Float[Tensor, "points 3"]:
    """Random positions in the cells that were found solid and seen; anywhere if there are none."""
    grid = OccupancyGrid(knowledge.aabb, len(knowledge.solid))
    seen = knowledge.views_on(grid) > 0
    return in_cells(grid, knowledge.solid.flatten() & seen, count, generator)


def in_cells(
    grid: OccupancyGrid, member: Tensor, count: int, generator: torch.Generator
) -> Float[Tensor, "points 3"]:
    """Random positions in the member cells of a grid; in all if there is none."""
    cells = member.nonzero()[:, 0]
    if len(cells) == 0:
        cells = torch.arange(len(member), device=member.device)
    picked = cells[torch.randint(len(cells), (count,), generator=generator).to(cells.device)]
    jitter = torch.rand(count, 3, generator=generator).to(grid.aabb) - 0.5
    return grid.centres()[picked] + jitter * grid.cell


def place_in_box(
    aabb: Float[Tensor, "2 3"], count: int, generator: torch.Generator
) -> Float[Tensor, "points 3"]:
    """Random positions anywhere in a box."""
    unit = torch.rand(count, 3, generator=generator).to(aabb)
    return aabb[0] + unit * (aabb[1] - aabb[0])


def viewing_directions(
    cameras: Cameras | None, positions: Tensor, generator: torch.Generator
) -> Float[Tensor, "points 3"]:
    """A direction for each position: from one of the cameras; any direction if none are known."""
    if cameras is None:
        random = torch.randn(positions.shape, generator=generator).to(positions)
        return F.normalize(random, dim=-1)
    views = torch.randint(len(cameras), (len(positions),), generator=generator)
    centres = cameras.positions[views.to(cameras.positions.device)].to(positions)
    return F.normalize(positions - centres, dim=-1)


def sample_positions(
    parent: Field,
    knowledge: Knowledge | None,
    count: int,
    free_share: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points 3"]]:
    """Positions on a parent's matter and anywhere in its box, and a viewing direction for each.

    Args:
        parent: The parent.
        knowledge: Where given, matter is taken where the parent saw it.
        count: Number of points.
        free_share: Share of them anywhere in the box, in [0, 1].
        generator: Source of the randomness.
    """
    free = math.floor(free_share * count + 0.5)
    on_matter = (
        place_on_matter(parent, count - free, generator)
        if knowledge is None
        else place_on_seen_matter(knowledge, count - free, generator)
    )
    placed = torch.cat([on_matter, place_in_box(parent.aabb, free, generator)])
    return placed, viewing_directions(parent.record.cameras, placed, generator)
