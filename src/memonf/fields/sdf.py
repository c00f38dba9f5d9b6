"""Signed distance to a surface: negative inside."""

from __future__ import annotations

import torch

from ..typing import Float, Tensor
from .base import FIELDS
from .pointwise import PointField

__all__ = ["Sdf"]

#: Opacity is the sigmoid of the distance over this one, in the normalised box: it rises from a
#: quarter to three quarters within 2.2 of it.
SHARPNESS = 0.02
#: Distance at which the colour, which carries the value, is a sigmoid of 1.
RANGE = 0.25


@FIELDS.register("sdf")
class Sdf(PointField):
    """Position -> signed distance; opaque inside, and the distance again as a colour.

    The opacity tells merges where the surface is, the colour how far away it is everywhere.

    Reference:
        Park et al. 2019, DeepSDF, arXiv 1901.05103; Yariv et al. 2021, VolSDF, arXiv 2106.12052,
        for density from distance.
    """

    def raw(self, positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Field.raw`."""
        distance = self.network(positions)
        tone = distance / RANGE
        return -distance[:, 0] / SHARPNESS, torch.cat([tone, tone, tone], -1)

    def values(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 1"]:
        """Signed distance, scene units."""
        half = 0.5 * (self.aabb[1] - self.aabb[0]).max()
        return self.network(self.normalise(positions)) * half

    def error(self, positions: Tensor, truth: Float[Tensor, "points 1"]) -> Tensor:
        """Mean absolute error, scene units."""
        return (self.values(positions) - truth).abs().mean()
