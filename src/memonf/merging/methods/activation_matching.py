"""Activation matching under permutation symmetry: align units by what they do, then average."""

from __future__ import annotations

from ...matching.activations import Similarity
from ..aligning import ByActivations
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["ActivationMatching"]


@METHODS.register("activation_matching")
@settings_dataclass(**SETTINGS)
class ActivationMatching(SampledMethod):
    """Align each parent's hidden units to the first parent's units of similar activations.

    Attributes:
        points: Positions at which activations are compared.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what both parents saw.
        similarity: ``correlation`` is free of the units' scale, ``inner_product`` is not.
    """

    similarity: Similarity = "correlation"

    summary = "units aligned by their activations where the parents have density, then averaged"
    paper = "Li et al. 2015, Convergent Learning, arXiv 1511.07543"
    layerwise = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(ByActivations(self.similarity), sampling=self.sampling)
