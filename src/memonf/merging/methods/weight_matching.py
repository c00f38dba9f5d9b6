"""Permutation without activations: align units by their params, then average."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limits

from ...matching.matcher import Solver
from ..aligning import ByWeights
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import ComposedMethod, Parts

__all__ = ["WeightMatching"]


@METHODS.register("weight_matching")
@settings_dataclass(**SETTINGS)
class WeightMatching(ComposedMethod):
    """Change each parent, within its symmetry, so that its params best agree with the others'.

    Attributes:
        solver: ``descent`` from the order as it is, ``frank_wolfe``, ``annealing``, the ``best`` of
            all and of starts in between, or ``auto``, the two that win.
        restarts: So many more descents from random orders.
        scales: Whether parents are compared at their least norm, free of ReLU scales.
        signs: Whether signs (tanh, sine) and rotations (no activation) are chosen too.
        equal_tensors: Whether each tensor counts relative to its own size; left out: only in
            networks without scales.
    """

    solver: Solver = "auto"
    restarts: Annotated[int, Limits(ge=0, le=10_000)] = 0
    scales: bool = True
    signs: bool = True
    equal_tensors: bool | None = None

    summary = "units aligned by their params, then averaged"
    paper = "Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836"
    symmetric = True
    layerwise = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(
            ByWeights(self.solver, self.restarts, self.scales, self.signs, self.equal_tensors)
        )
