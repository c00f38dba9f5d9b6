"""Activation matching with corrected statistics."""

from __future__ import annotations

from ..aligning import ByActivations
from ..correcting.repair import PAPER, Repaired
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["ActivationMatchingRepair"]


@METHODS.register("activation_matching_repair")
@settings_dataclass(**SETTINGS)
class ActivationMatchingRepair(SampledMethod):
    """Activation matching, then REPAIR at the same positions."""

    summary = "activation matching, statistics repaired"
    paper = PAPER
    layerwise = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(ByActivations(), correct=Repaired(), sampling=self.sampling)
