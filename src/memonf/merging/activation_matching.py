"""Activation matching under permutation symmetry: align units by what they do, then average."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field as Limits

from ..matching import Matcher
from ..matching.activations import Similarity
from ..symmetry import Params
from .alignment import align
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass
from .positions import Positions

__all__ = ["ActivationMatching", "align_by_activations"]


@METHODS.register("activation_matching")
@settings_dataclass(**SETTINGS)
class ActivationMatching(MergeMethod):
    """Permute each parent's hidden units so that they do what the first's do, where it matters.

    Attributes:
        points: Positions at which activations are compared.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what both parents saw.
        similarity: ``correlation`` is free of the units' scale, ``inner_product`` is not.
    """

    points: Annotated[int, Limits(ge=2)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    knowledge: bool = True
    similarity: Similarity = "correlation"

    summary = "units aligned by their activations where the parents have density, then averaged"
    paper = "Li et al. 2015, Convergent Learning, arXiv 1511.07543"
    needs_positions = True
    needs_knowledge = True
    symmetric = True
    layerwise = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        positions = problem.positions(self.points, self.free_share, self.knowledge)
        aligned = align_by_activations(problem, positions, self.similarity)
        return combine_params(aligned, problem.layer_coefficients)


def align_by_activations(
    problem: MergeProblem, positions: Positions, similarity: Similarity = "correlation"
) -> Iterator[Params]:
    """Params of all parents in the unit order of the first, one after the other.

    Args:
        problem: The parents.
        positions: Where activations are compared: a point counts by the product of both trusts.
        similarity: See `ActivationMatching`.
    """
    matcher = Matcher(solver="descent", activations=1.0, seed=problem.seed)
    return align(problem, matcher, positions, similarity)
