"""Combined matching with corrected statistics."""

from __future__ import annotations

from ..aligning import ByBoth
from ..correcting.repair import PAPER, Repaired
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["CombinedMatchingRepair"]


@METHODS.register("combined_matching_repair")
@settings_dataclass(**SETTINGS)
class CombinedMatchingRepair(SampledMethod):
    """Combined matching, then REPAIR at the same positions."""

    summary = "combined matching, statistics repaired"
    paper = PAPER
    layerwise = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(ByBoth(), correct=Repaired(), sampling=self.sampling)
