"""ZipIt: units that act alike share a slot, of one parent or of several."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limits

from ..aligning import ByActivations
from ..combining.zipit import Zipped
from ..correcting.base import Uncorrected
from ..correcting.repair import Repaired
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import Parts, SampledMethod

__all__ = ["ZipIt"]


@METHODS.register("zipit")
@settings_dataclass(**SETTINGS)
class ZipIt(SampledMethod):
    """Let units that act alike share a slot, within a parent too, in the first layers.

    Attributes:
        zip_layers: How many groups of units are zipped, from the input on; the rest are matched.
            None: all. The more were zipped on two halves of a real scene, the worse.
        within: Factor of the correlation of units of one parent, in [0, 1]; 0 forbids that they
            share a slot.
        rescale: Whether units are read off their slot with the factor that fits them best, rather
            than as if they were equal.
        repair: Whether the statistics of the units are corrected afterwards.
        points: Positions at which units are compared.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what the parents saw.
    """

    zip_layers: Annotated[int, Limits(ge=0, le=1000)] | None = 1
    within: Annotated[float, Limits(ge=0, le=1)] = 0.5
    rescale: bool = True
    repair: bool = True

    summary = "units that act alike share a slot, of one parent too; the rest is matched"
    paper = "Stoica et al. 2023, ZipIt!, arXiv 2305.03055"
    symmetric = False

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        combine = Zipped(self.zip_layers, self.within, self.rescale)
        correct = Repaired() if self.repair else Uncorrected()
        return Parts(ByActivations(), combine, correct, self.sampling)
