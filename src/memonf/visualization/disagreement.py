"""A field coloured by how far its parents disagree where more than one of them saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..fields import Field, known
from ..rendering.knowledge import SOLID_RESOLUTION
from ..rendering.volume_rendering import RadianceField
from ..typing import Float, Tensor

__all__ = ["DisagreementColours"]

#: What fewer than two parents saw: nobody is contradicted there.
UNCHECKED = (0.62, 0.64, 0.68)
#: From agreement over doubt to contradiction.
SCALE = ((0.16, 0.45, 0.70), (0.97, 0.90, 0.62), (0.75, 0.10, 0.13))


class DisagreementColours:
    """A field whose colour is the largest difference between parents that saw the place.

    The difference is that of the opacities over a solid cell's width and of the colours, weighted
    by the lesser opacity: 0 is blue, one half yellow, 1 red; grey where fewer than two saw.

    Args:
        field: What is shown; its density stays.
        parents: Whose words are compared.
    """

    view_dependent = False

    def __init__(self, field: RadianceField, parents: Sequence[Field]) -> None:
        self.field = field
        self.parents = tuple(parents)
        self.knowledge = [known(parent) for parent in parents]
        self.aabb = field.aabb
        self.record = field.record
        self.cell = float((field.aabb[1] - field.aabb[0]).mean()) / SOLID_RESOLUTION

    def density(self, positions: Tensor) -> Tensor:
        """Density of the field that is shown."""
        return self.field.density(positions)

    def __call__(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Density (points,) and rgb (points, 3)."""
        difference, checked = self.difference(positions, directions)
        scale = torch.tensor(SCALE).to(positions)
        place = difference.clamp(0, 1) * (len(SCALE) - 1)
        low = place.long().clamp_max(len(SCALE) - 2)
        colour = torch.lerp(scale[low], scale[low + 1], (place - low)[:, None])
        grey = torch.tensor(UNCHECKED).to(positions)
        return self.density(positions), torch.where(checked[:, None], colour, grey)

    def difference(
        self, positions: Float[Tensor, "points 3"], directions: Float[Tensor, "points 3"]
    ) -> tuple[Float[Tensor, " points"], Tensor]:
        """Largest difference of two parents that saw each place, and whether there are two."""
        said = [self.opacity_and_colour(parent, positions, directions) for parent in self.parents]
        saw = [seen.views_at(positions) > 0 for seen in self.knowledge]
        most = torch.zeros_like(positions[:, 0])
        checked = torch.zeros_like(positions[:, 0], dtype=torch.bool)
        for one in range(len(said)):
            for other in range(one):
                both = saw[one] & saw[other]
                (opacity, rgb), (other_opacity, other_rgb) = said[one], said[other]
                apart = (opacity - other_opacity).abs()
                tinted = torch.minimum(opacity, other_opacity) * (rgb - other_rgb).abs().mean(-1)
                most = torch.where(both, torch.maximum(most, apart + tinted), most)
                checked |= both
        return most, checked

    def opacity_and_colour(
        self, parent: Field, positions: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What a parent says: opacity over a solid cell's width (points,), rgb (points, 3)."""
        density, rgb = parent(positions, directions)
        return 1 - (-density * self.cell).exp(), rgb
