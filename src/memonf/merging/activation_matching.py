"""Activation matching under permutation symmetry: align units by what they do, then average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field as Limits

from ..matching import match_activations
from ..symmetry import Params, permute
from ..typing import Tensor
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass

__all__ = ["ActivationMatching", "align_by_activations"]


@METHODS.register("activation_matching")
@settings_dataclass(**SETTINGS)
class ActivationMatching(MergeMethod):
    """Permute each parent's hidden units so that they do what the first's do, where it matters.

    Attributes:
        points: Positions at which activations are compared.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        similarity: ``correlation`` is free of the units' scale, ``inner_product`` is not.
    """

    points: Annotated[int, Limits(ge=2)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    similarity: Literal["correlation", "inner_product"] = "correlation"

    summary = "units aligned by their activations where the parents have density, then averaged"
    paper = "Li et al. 2015, Convergent Learning, arXiv 1511.07543"
    needs_positions = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        inputs = problem.network_inputs(self.points, self.free_share)
        aligned = align_by_activations(problem, inputs, self.similarity)
        return combine_params(aligned, problem.coefficients)


def align_by_activations(
    problem: MergeProblem,
    inputs: Sequence[Tensor | None],
    similarity: Literal["correlation", "inner_product"] = "correlation",
) -> list[Params]:
    """Params of all parents in the unit order of the first.

    Args:
        problem: The parents.
        inputs: Arguments of the networks at the positions where activations are compared.
        similarity: See `ActivationMatching`.
    """
    aligned = [problem.params[0]]
    for parent, params in zip(problem.parents[1:], problem.params[1:], strict=True):
        perms = match_activations(
            problem.symmetry, problem.parents[0], parent, inputs, similarity=similarity
        )
        aligned.append(permute(params, problem.symmetry, perms))
    return aligned
