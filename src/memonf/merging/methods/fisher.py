"""Fisher-weighted average: each param counts by how much its parent's outputs depend on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limits

from ..aligning import Align, ByActivations, ByWeights, Unaligned
from ..combining.fisher import FisherAveraged
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["Fisher"]

ALIGNMENTS: dict[str, Align] = {
    "activations": ByActivations(), "weights": ByWeights(), "none": Unaligned(),
}  # fmt: skip


@METHODS.register("fisher")
@settings_dataclass(**SETTINGS)
class Fisher(SampledMethod):
    """Align, then average each param by the Fisher information that each parent has of it.

    Attributes:
        points: Positions at which the information is taken.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what the parents saw.
        align: ``activations``, ``weights``, or ``none`` for parents of the same initial params.
        floor: λ relative to the mean information of each tensor.
    """

    points: Annotated[int, Limits(ge=2, le=1 << 22)] = 4096
    align: Literal["activations", "weights", "none"] = "activations"
    floor: Annotated[float, Limits(gt=0, le=1e12)] = 1.0

    summary = "params averaged by how much each parent's outputs depend on them"
    paper = "Matena and Raffel 2021, Fisher merging, arXiv 2111.09832"
    symmetric = False

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(ALIGNMENTS[self.align], FisherAveraged(self.floor), sampling=self.sampling)
