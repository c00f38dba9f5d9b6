"""Optimal transport: parents of unequal widths are brought to the width of the first."""

from __future__ import annotations

from typing import Literal

from ..combining.transport import Transported
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["OptimalTransport"]


@METHODS.register("optimal_transport")
@settings_dataclass(**SETTINGS)
class OptimalTransport(SampledMethod):
    """Move each parent's units to those of the first that are like them, then average.

    Takes parents of different widths; the merged field has those of the first.

    Attributes:
        ground: What units are compared by: what they do (``activations``) or what makes them
            (``params``), each free of scale.
        points: Positions at which activations are compared.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what both parents saw.
    """

    ground: Literal["activations", "params"] = "activations"

    summary = "units of parents of any width moved to the first's, then averaged"
    paper = "Singh and Jaggi 2019, Model Fusion via Optimal Transport, arXiv 1910.05653"
    any_width = True
    symmetric = False
    layerwise = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(combine=Transported(self.ground), sampling=self.sampling)
