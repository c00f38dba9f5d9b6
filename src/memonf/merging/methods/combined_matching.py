"""Combined matching: align units by params and activations in one objective, then average."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limits

from ...matching.activations import Similarity
from ...matching.matcher import Solver
from ..aligning import ByBoth
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["CombinedMatching"]


@METHODS.register("combined_matching")
@settings_dataclass(**SETTINGS)
class CombinedMatching(SampledMethod):
    """Match units by params and activations in one objective, then average.

    Attributes:
        activations: Share of activations in the objective; params have the rest.
        points: Positions at which activations are compared.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what both parents saw.
        similarity: ``correlation`` is free of the units' scale, ``inner_product`` is not.
        solver: See `WeightMatching`.
    """

    activations: Annotated[float, Limits(ge=0, le=1)] = 0.5
    similarity: Similarity = "correlation"
    solver: Solver = "auto"

    summary = "units aligned by params and activations together, then averaged"
    paper = "Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836"
    layerwise = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        align = ByBoth(self.activations, self.similarity, self.solver)
        return Parts(align, sampling=self.sampling)
