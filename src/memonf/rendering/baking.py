"""A field written out on a grid of points: pictures in motion, without asking the network.

Between the points of the grid density and colour are interpolated, colours in proportion to the
density beside them, so that only points in matter need one. That costs sharpness, and the colours
no longer depend on the viewing direction: for looking around, never for scores.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from ..errors import InputError
from ..typing import Float, Tensor
from .occupancy_grid import CHUNK, OccupancyGrid
from .volume_rendering import FRAMES, RadianceField, Renderer, first_look

__all__ = ["BakedField", "preview"]

#: Points along each side of a baked grid, and how many times coarser the first look is.
POINTS = 128
FACTOR = 4


class BakedField:
    """Density and colour on a grid of points, interpolated between them.

    Args:
        values: (4, x, y, z), density and density times rgb at the centres of a grid's cells.
        grid: The grid: its box, and the density in its cells.
        record: Near, far and background of the field, for `Renderer`.
    """

    def __init__(self, values: Float[Tensor, "4 x y z"], grid: OccupancyGrid, record: Any) -> None:
        self.values = values
        self.grid = grid
        self.aabb = grid.aabb
        self.record = record

    @classmethod
    @torch.no_grad()
    def of(cls, field: RadianceField, resolution: int = POINTS, factor: int = FACTOR) -> BakedField:
        """Evaluate a field at all points near its matter.

        A view-dependent field is baked as it is seen from outside, looking at the box's middle.

        Args:
            field: The field.
            resolution: Points along each side of its box; a multiple of `factor`.
            factor: How many times coarser the first look is, unless the field is sharp.

        Raises:
            InputError: The resolution is no multiple of the factor.
        """
        if resolution % factor:
            raise InputError(f"points: expected a multiple of {factor}, received {resolution}")
        factor = first_look(field, factor)
        coarse = OccupancyGrid(field.aabb, resolution // factor)
        coarse.update(field.density)
        cells = coarse.traces(factor)
        grid = OccupancyGrid(field.aabb, resolution)
        positions = grid.centres()[cells]
        directions = F.normalize(field.aabb.mean(0) - positions, dim=-1)
        values = torch.zeros(4, resolution**3, device=field.aabb.device)
        for start in range(0, len(cells), CHUNK):
            part = slice(start, start + CHUNK)
            density, rgb = field(positions[part], directions[part])
            values[:, cells[part]] = torch.cat([density[None], (density[:, None] * rgb).T])
        grid.density = values[0]
        return cls(values.view(4, *(resolution,) * 3), grid, field.record)

    def renderer(self) -> Renderer:
        """Made ready for pictures in motion."""
        return Renderer.of(self, FRAMES, self.grid)

    def __call__(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Density (points,) and rgb (points, 3) at positions (points, 3); any direction."""
        found = self.looked_up(self.values, positions)
        return found[0], (found[1:] / found[0].clamp_min(1e-9)).T

    def density(self, positions: Tensor) -> Tensor:
        """Density alone."""
        return self.looked_up(self.values[:1], positions)[0]

    def looked_up(
        self, values: Float[Tensor, "k x y z"], positions: Float[Tensor, "points 3"]
    ) -> Float[Tensor, "k points"]:
        """Trilinear interpolation; the outermost half cell is that of the border."""
        size = self.aabb[1] - self.aabb[0]
        scaled = (positions - self.aabb[0]) / size * 2 - 1
        # grid_sample counts its last axis first.
        place = scaled.flip(-1).view(1, -1, 1, 1, 3)
        found = F.grid_sample(values[None], place, padding_mode="border", align_corners=False)
        return found.view(len(values), -1)


def preview(field: RadianceField, points: int = POINTS) -> Renderer:
    """A field baked and made ready for pictures in motion; see `BakedField.of`."""
    return BakedField.of(field, points).renderer()
