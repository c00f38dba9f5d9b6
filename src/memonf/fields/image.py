"""A picture as a field: position in the plane z = 0 -> colour."""

from __future__ import annotations

from ..typing import Float, Tensor
from .base import FIELDS
from .pointwise import PointField

__all__ = ["Image"]

#: The picture is matter everywhere: a raw density whose opacity is 1 to float precision.
OPAQUE = 20.0


@FIELDS.register("image")
class Image(PointField):
    """Position -> rgb; opaque everywhere, the same at every z.

    Reference:
        Tancik et al. 2020, Fourier features, arXiv 2006.10739; Sitzmann et al. 2020, SIREN.
    """

    axes = 2
    outputs = 3

    def raw(self, positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Field.raw`."""
        colour = self.network(positions)
        return 0 * colour[:, 0] + OPAQUE, colour

    def values(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Colour, rgb in [0, 1]."""
        return self.network(self.normalise(positions)).sigmoid()

    def error(self, positions: Tensor, truth: Float[Tensor, "points 3"]) -> Tensor:
        """Mean squared error."""
        return (self.values(positions) - truth).square().mean()
