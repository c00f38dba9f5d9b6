"""Weight matching with corrected statistics."""

from __future__ import annotations

from ..aligning import ByWeights
from ..correcting.repair import PAPER, Repaired
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["WeightMatchingRepair"]


@METHODS.register("weight_matching_repair")
@settings_dataclass(**SETTINGS)
class WeightMatchingRepair(SampledMethod):
    """Weight matching, then REPAIR."""

    summary = "weight matching, statistics repaired"
    paper = PAPER
    layerwise = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(ByWeights(), correct=Repaired(), sampling=self.sampling)
