"""Combined matching, then each layer solved for the parents' outputs, weighted by trust."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limits

from ..aligning import ByBoth
from ..combining.least_squares import SolvedForOutputs
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["LeastSquares"]


@METHODS.register("least_squares")
@settings_dataclass(**SETTINGS)
class LeastSquares(SampledMethod):
    """Combined matching and REPAIR, then each layer solved for the parents' outputs, by trust.

    Attributes:
        points: Positions at which layers are compared.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what the parents saw.
        ridge: Pull towards the repaired average, relative to the inputs' mean square.
    """

    ridge: Annotated[float, Limits(gt=0, le=1e6)] = 1e-4

    summary = "layers solved one by one for the outputs of the parents that know, closed form"
    paper = "Jin et al. 2022, RegMean, arXiv 2212.09849"
    symmetric = False

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(ByBoth(), SolvedForOutputs(self.ridge), sampling=self.sampling)
