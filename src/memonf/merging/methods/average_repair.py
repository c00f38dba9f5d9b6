"""The naive average with corrected statistics."""

from __future__ import annotations

from ..correcting.repair import PAPER, Repaired
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["AverageRepair"]


@METHODS.register("average_repair")
@settings_dataclass(**SETTINGS)
class AverageRepair(SampledMethod):
    """The naive average, repaired; for parents that started from the same params."""

    summary = "params averaged as they stand, statistics repaired"
    paper = PAPER
    layerwise = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(correct=Repaired(), sampling=self.sampling)
