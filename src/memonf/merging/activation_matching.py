"""Activation matching under permutation symmetry: align units by what they do, then average."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field as Limits

from ..matching import match_activations
from ..symmetry import Params, permute
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass
from .positions import Positions

__all__ = ["ActivationMatching", "align_by_activations"]

#: Weight of a point that one of two parents did not see, relative to one that both know well.
LEAST_WEIGHT = 1e-3


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
    similarity: Literal["correlation", "inner_product"] = "correlation"

    summary = "units aligned by their activations where the parents have density, then averaged"
    paper = "Li et al. 2015, Convergent Learning, arXiv 1511.07543"
    needs_positions = True
    needs_knowledge = True
    layerwise = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        positions = problem.positions(self.points, self.free_share, self.knowledge)
        aligned = align_by_activations(problem, positions, self.similarity)
        return combine_params(aligned, problem.layer_coefficients)


def align_by_activations(
    problem: MergeProblem,
    positions: Positions,
    similarity: Literal["correlation", "inner_product"] = "correlation",
) -> Iterator[Params]:
    """Params of all parents in the unit order of the first, one after the other.

    Args:
        problem: The parents.
        positions: Where activations are compared: a point counts by the product of both trusts.
        similarity: See `ActivationMatching`.
    """
    yield problem.params(0)
    # Parents that saw nothing in common are aligned by all points.
    agreed = positions.trust[0] * positions.trust + LEAST_WEIGHT
    for number in range(1, len(problem.parents)):
        perms = match_activations(
            problem.symmetry, problem.parents[0], problem.parents[number], positions.inputs,
            weights=agreed[number], similarity=similarity,
        )  # fmt: skip
        yield permute(problem.params(number), problem.symmetry, perms)
