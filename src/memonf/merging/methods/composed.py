"""Any three parts: a method without a name of its own."""

from __future__ import annotations

from typing import Literal

from ..aligning import Align, ByActivations, ByBoth, ByWeights, Unaligned
from ..combining.base import Averaged, Combine
from ..combining.fisher import FisherAveraged
from ..combining.least_squares import SolvedForOutputs
from ..combining.regmean import RegressedOnInputs
from ..combining.task_vectors import AveragedSteps, ElectedSteps, ThinnedSteps
from ..combining.transport import Transported
from ..combining.zipit import Zipped
from ..correcting.base import Correct, Uncorrected
from ..correcting.closed_repair import ClosedRepaired
from ..correcting.repair import Repaired
from ..method import METHODS, SETTINGS, settings_dataclass
from ..midpoint import BySinkhorn, ByStraightThrough
from ..parts import Parts, SampledMethod

__all__ = ["Composed"]

ALIGN: dict[str, Align] = {
    "none": Unaligned(),
    "weights": ByWeights(),
    "activations": ByActivations(),
    "both": ByBoth(),
    "straight_through": ByStraightThrough(),
    "sinkhorn": BySinkhorn(),
}
COMBINE: dict[str, Combine] = {
    "average": Averaged(),
    "task_arithmetic": AveragedSteps(),
    "ties": ElectedSteps(),
    "dare": ThinnedSteps(),
    "fisher": FisherAveraged(),
    "regmean": RegressedOnInputs(),
    "least_squares": SolvedForOutputs(),
    "zipit": Zipped(),
    "transport": Transported(),
}
CORRECT: dict[str, Correct] = {
    "none": Uncorrected(),
    "repair": Repaired(),
    "closed_repair": ClosedRepaired(),
}


@METHODS.register("composed")
@settings_dataclass(**SETTINGS)
class Composed(SampledMethod):
    """Align, combine and correct by the parts that are named, each with its default settings.

    Attributes:
        align: How the parents' units are brought into one order.
        combine_by: How one set of params is made of the aligned ones.
        correct: How the statistics of the merged units are corrected.
        points: Positions at which activations are looked at.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what the parents saw.
    """

    align: Literal["none", "weights", "activations", "both", "straight_through", "sinkhorn"] = (
        "both"
    )
    combine_by: Literal[
        "average", "task_arithmetic", "ties", "dare", "fisher", "regmean", "least_squares", "zipit",
        "transport",
    ] = "average"  # fmt: skip
    correct: Literal["none", "repair", "closed_repair"] = "repair"

    summary = "any alignment, combination and correction that are named"
    paper = "Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836"
    #: Some combinations change even equal parents, and some follow the first one.
    idempotent = False
    symmetric = False
    listed = False

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(
            ALIGN[self.align], COMBINE[self.combine_by], CORRECT[self.correct], self.sampling
        )
