"""Sinkhorn re-basin: soft permutations, learnt by gradient descent and made hard at the end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limits

from ..aligning import Sampling
from ..correcting.base import Uncorrected
from ..correcting.repair import Repaired
from ..method import METHODS, SETTINGS, settings_dataclass
from ..midpoint import BySinkhorn
from ..parts import ComposedMethod, Parts

__all__ = ["SinkhornRebasin"]


@METHODS.register("sinkhorn_rebasin")
@settings_dataclass(**SETTINGS)
class SinkhornRebasin(ComposedMethod):
    """Learn soft permutations of all layers at once, then harden them.

    Attributes:
        cost: ``params``: squared distance of the params, which looks at nothing else;
            ``midpoint``: what the average answers wrong where the parents saw.
        start: Scores to start from: all alike (``uniform``), or the correlations of what units do
            where both parents saw (``activations``).
        steps: Steps of the scores (Adam).
        rate: Their learning rate.
        temperature: τ: the smaller, the nearer soft permutations are to hard ones.
        iterations: Times that rows and columns are normalised.
        rays: Rays along which the parents are asked for the midpoint's cost.
        points: Positions at which units are compared and their statistics measured.
        repair: Whether the statistics of the units are corrected afterwards.
    """

    cost: Literal["params", "midpoint"] = "midpoint"
    start: Literal["activations", "uniform"] = "activations"
    steps: Annotated[int, Limits(ge=1, le=10_000_000)] = 60
    rate: Annotated[float, Limits(gt=0, le=1000)] = 0.05
    temperature: Annotated[float, Limits(gt=0, le=1e6)] = 0.3
    iterations: Annotated[int, Limits(ge=1, le=10_000)] = 20
    rays: Annotated[int, Limits(ge=1, le=1 << 22)] = 1024
    points: Annotated[int, Limits(ge=2, le=1 << 22)] = 16384
    repair: bool = True

    summary = "soft permutations learnt for all layers at once, hardened, then averaged"
    paper = "Peña et al. 2022, Sinkhorn re-basin, arXiv 2212.12042"
    needs_positions = True
    needs_knowledge = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        align = BySinkhorn(
            self.cost, self.start, self.steps, self.rate, self.temperature, self.iterations,
            self.rays,
        )  # fmt: skip
        correct = Repaired() if self.repair else Uncorrected()
        return Parts(align, correct=correct, sampling=Sampling(self.points))
