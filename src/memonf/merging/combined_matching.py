"""Combined matching: align units by params and activations in one objective, then average."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field as Limits

from ..matching import Matcher
from ..matching.activations import Similarity
from ..matching.matcher import Solver
from ..symmetry import Params
from .alignment import align
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass
from .positions import Positions

__all__ = ["CombinedMatching", "align_by_both"]


@METHODS.register("combined_matching")
@settings_dataclass(**SETTINGS)
class CombinedMatching(MergeMethod):
    """Units are alike if they do alike *and* are wired alike; both count in one objective.

    Attributes:
        activations: Share of activations in the objective; params have the rest.
        points: Positions at which activations are compared.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what both parents saw.
        similarity: ``correlation`` is free of the units' scale, ``inner_product`` is not.
        solver: See `WeightMatching`.
    """

    activations: Annotated[float, Limits(ge=0, le=1)] = 0.5
    points: Annotated[int, Limits(ge=2)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    knowledge: bool = True
    similarity: Similarity = "correlation"
    solver: Solver = "auto"

    summary = "units aligned by params and activations together, then averaged"
    paper = "Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836"
    needs_positions = True
    needs_knowledge = True
    symmetric = True
    layerwise = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        positions = problem.positions(self.points, self.free_share, self.knowledge)
        matcher = Matcher(solver=self.solver, activations=self.activations, seed=problem.seed)
        aligned = align(problem, matcher, positions, self.similarity)
        return combine_params(aligned, problem.layer_coefficients)


def align_by_both(problem: MergeProblem, positions: Positions) -> Iterator[Params]:
    """Params of all parents in the order of the first, with the default settings."""
    return align(problem, Matcher(activations=0.5, seed=problem.seed), positions)
