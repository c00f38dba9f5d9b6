"""RegMean: each dense layer answers every parent's own inputs as that parent does."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limits

from ..aligning import ByActivations, Sampling
from ..combining.regmean import RegressedOnInputs
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import ComposedMethod, Parts

__all__ = ["RegMean"]


@METHODS.register("regmean")
@settings_dataclass(**SETTINGS)
class RegMean(ComposedMethod):
    """Activation matching, then each layer's regression on the parents' own inputs.

    Attributes:
        points: Positions at which units are compared; each parent's inputs are taken at those
            that were drawn from it.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        scale_off_diagonal: What is left of the Gram matrices off their diagonals.
        ridge: Pull towards the average, relative to the inputs' mean square.
    """

    points: Annotated[int, Limits(ge=2, le=1 << 22)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    scale_off_diagonal: Annotated[float, Limits(ge=0, le=1)] = 0.9
    ridge: Annotated[float, Limits(gt=0, le=1e6)] = 1e-4

    summary = "layers solved one by one for the parents' outputs on their own inputs, closed form"
    paper = "Jin et al. 2022, RegMean, arXiv 2212.09849"
    needs_positions = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        combine = RegressedOnInputs(self.scale_off_diagonal, self.ridge)
        sampling = Sampling(self.points, self.free_share, knowledge=False)
        return Parts(ByActivations(), combine, sampling=sampling)
