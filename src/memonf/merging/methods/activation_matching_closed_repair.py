"""Activation matching, its statistics corrected without running the merged field."""

from __future__ import annotations

from ..aligning import ByActivations
from ..correcting.closed_repair import ClosedRepaired
from ..correcting.repair import PAPER
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["ActivationMatchingClosedRepair"]


@METHODS.register("activation_matching_closed_repair")
@settings_dataclass(**SETTINGS)
class ActivationMatchingClosedRepair(SampledMethod):
    """Activation matching, then statistics corrected by the parents' moments."""

    summary = "activation matching, statistics repaired from the parents' moments, closed form"
    paper = PAPER

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(ByActivations(), correct=ClosedRepaired(), sampling=self.sampling)
