"""What a merge is measured against, beside its parents and the jointly trained field.

* the *oracle*: each test view by the parent of its group. An image-free merge can at most hope for
  that, unless parents help each other;
* *blends*: all parents evaluated at render time, at the cost of all of them;
* the same distillation from other starts: is it the start, or the lessons?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from ..fields import Field, Record, known
from ..rendering.knowledge import SOLID_RESOLUTION
from ..typing import Float, Tensor

__all__ = ["BLENDS", "STARTS", "Blend"]

#: Name -> how the parents are weighed.
BLENDS: dict[str, Literal["knowledge", "distance"]] = {
    "blend": "knowledge",
    "blend_by_distance": "distance",
}
#: Other starts of the same distillation.
STARTS: tuple[Literal["merge", "parent", "scratch"], ...] = ("merge", "parent", "scratch")


class Blend:
    """Parents composed while rendering; a picture costs as much as one of each parent.

    Opacities over a cell's width are averaged with weights, colours with weights times opacity.
    The weights are the numbers of cameras that saw the place (``knowledge``), or a power of the
    inverse distance to the mean camera position of each parent (``distance``).

    Args:
        parents: Fields in one coordinate frame.
        weighting: See above.

    Reference:
        Fang et al. 2023, NeRFuser, arXiv 2305.13307, for the distances.
    """

    def __init__(
        self, parents: Sequence[Field], weighting: Literal["knowledge", "distance"] = "knowledge"
    ) -> None:
        self.parents = tuple(parents)
        self.weighting = weighting
        self.aabb = parents[0].aabb
        records = [parent.record for parent in parents]
        self.record: Record = replace(
            records[0],
            near=min(record.near for record in records),
            far=max(record.far for record in records),
        )
        self.knowledge = [known(parent) for parent in parents]
        self.cell = float((self.aabb[1] - self.aabb[0]).mean()) / SOLID_RESOLUTION

    @property
    def view_dependent(self) -> bool:
        """Does the colour depend on the viewing direction?"""
        return any(parent.view_dependent for parent in self.parents)

    def parameter_count(self) -> int:
        """Number of params that a picture needs: those of all parents."""
        return sum(parent.parameter_count() for parent in self.parents)

    def weights(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "parents points"]:
        """Weight of each parent at each position, sum 1."""
        if self.weighting == "knowledge":
            raw = torch.stack([seen.views_at(positions) for seen in self.knowledge]) + 1e-3
        else:
            raw = torch.stack([
                (positions - self.centre_of(parent)).norm(dim=-1).clamp_min(1e-6) ** -SHARPNESS
                for parent in self.parents
            ])  # fmt: skip
        return raw / raw.sum(0)

    def centre_of(self, parent: Field) -> Float[Tensor, " 3"]:
        """Mean position of a parent's cameras; the middle of its box if they are unknown."""
        cameras = parent.record.cameras
        middle = parent.aabb.mean(0)
        return middle if cameras is None else cameras.positions.mean(0).to(middle)

    def __call__(
        self, positions: Float[Tensor, "points 3"], directions: Float[Tensor, "points 3"]
    ) -> tuple[Tensor, Tensor]:
        """Density and colour (points, …) at positions seen along directions."""
        weights = self.weights(positions)
        opacity = torch.zeros_like(positions[:, 0])
        colour = torch.zeros_like(positions)
        for weight, parent in zip(weights, self.parents, strict=True):
            density, rgb = parent(positions, directions)
            part = weight * (1 - (-density * self.cell).exp())
            opacity += part
            colour += part[:, None] * rgb
        return self.density_of(opacity), colour / opacity.clamp_min(1e-9)[:, None]

    def density(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Density alone, per scene unit."""
        opacity = torch.zeros_like(positions[:, 0])
        for weight, parent in zip(self.weights(positions), self.parents, strict=True):
            opacity += weight * (1 - (-parent.density(positions) * self.cell).exp())
        return self.density_of(opacity)

    def density_of(self, opacity: Tensor) -> Tensor:
        """Density whose opacity over a cell's width is given."""
        return -torch.log1p(-opacity.clamp_max(1 - 1e-6)) / self.cell


#: Power of the inverse distance.
SHARPNESS = 5.0
