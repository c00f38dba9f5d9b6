"""Whether a position lies inside of something."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..typing import Float, Tensor
from .base import FIELDS
from .pointwise import PointField

__all__ = ["Occupancy"]


@FIELDS.register("occupancy")
class Occupancy(PointField):
    """Position -> probability of being inside, which is its opacity; grey all over.

    Reference:
        Mescheder et al. 2019, Occupancy Networks, arXiv 1812.03828.
    """

    def raw(self, positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Field.raw`."""
        logit = self.network(positions)
        grey = 0 * logit
        return logit[:, 0], torch.cat([grey, grey, grey], -1)

    def values(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 1"]:
        """Probability of being inside, in [0, 1]."""
        return self.network(self.normalise(positions)).sigmoid()

    def error(self, positions: Tensor, truth: Float[Tensor, "points 1"]) -> Tensor:
        """Binary cross entropy; `truth` is 0 or 1."""
        logit = self.network(self.normalise(positions))
        return F.binary_cross_entropy_with_logits(logit, truth)
