"""Permutation without activations: align units by their params, then average."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field as Limits

from ..matching import Matcher
from ..matching.matcher import Solver
from ..symmetry import Params
from .alignment import align
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass

__all__ = ["WeightMatching", "align_by_weights"]


@METHODS.register("weight_matching")
@settings_dataclass(**SETTINGS)
class WeightMatching(MergeMethod):
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
    restarts: Annotated[int, Limits(ge=0)] = 0
    scales: bool = True
    signs: bool = True
    equal_tensors: bool | None = None

    summary = "units aligned by their params, then averaged"
    paper = "Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836"
    symmetric = True
    layerwise = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        matcher = Matcher(
            solver=self.solver, restarts=self.restarts, scales=self.scales, signs=self.signs,
            equal_tensors=self.equal_tensors, seed=problem.seed,
        )  # fmt: skip
        return combine_params(align(problem, matcher), problem.layer_coefficients)


def align_by_weights(problem: MergeProblem) -> Iterator[Params]:
    """Params of all parents in the order of the first, with the default settings."""
    return align(problem, Matcher(seed=problem.seed))
