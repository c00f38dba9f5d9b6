"""Straight-through estimation: permutations chosen by how well the midpoint answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limits

from ..aligning import Sampling
from ..correcting.base import Uncorrected
from ..correcting.repair import Repaired
from ..method import METHODS, SETTINGS, settings_dataclass
from ..midpoint import ByStraightThrough
from ..parts import ComposedMethod, Parts

__all__ = ["StraightThrough"]


@METHODS.register("straight_through")
@settings_dataclass(**SETTINGS)
class StraightThrough(ComposedMethod):
    """Search the permutations near weight matching for the one whose midpoint answers best.

    Attributes:
        start: Where the latent params begin: at the ``reference``, so that weight matching is the
            first permutation met, or at the other parent as activation matching places it
            (``activations``).
        steps: Permutations that are tried for each parent.
        rate: Learning rate of the latent params (Adam).
        rays: Rays along which the parents are asked, shared by their cameras.
        points: Positions at which units are compared and their statistics measured.
        repair: Whether the statistics of the units are corrected afterwards.
    """

    start: Literal["activations", "reference"] = "activations"
    steps: Annotated[int, Limits(ge=1, le=10_000_000)] = 60
    rate: Annotated[float, Limits(gt=0, le=1000)] = 1e-2
    rays: Annotated[int, Limits(ge=1, le=1 << 22)] = 1024
    points: Annotated[int, Limits(ge=2, le=1 << 22)] = 16384
    repair: bool = True

    summary = "units aligned so that the average answers as the parents do, by straight-through"
    paper = "Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836"
    needs_positions = True
    needs_knowledge = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        align = ByStraightThrough(self.start, self.steps, self.rate, self.rays)
        correct = Repaired() if self.repair else Uncorrected()
        return Parts(align, correct=correct, sampling=Sampling(self.points))
