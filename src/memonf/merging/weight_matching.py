"""Permutation without activations: align units by their params, then average."""

from __future__ import annotations

from ..matching import match_params
from ..symmetry import Params, permute
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass

__all__ = ["WeightMatching", "align_by_weights"]


@METHODS.register("weight_matching")
@settings_dataclass(**SETTINGS)
class WeightMatching(MergeMethod):
    """Permute each parent's hidden units so that its params best agree with the first's."""

    summary = "units aligned by their params, then averaged"
    paper = "Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836"

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        return combine_params(align_by_weights(problem), problem.coefficients)


def align_by_weights(problem: MergeProblem) -> list[Params]:
    """Params of all parents in the unit order of the first."""
    aligned = [problem.params[0]]
    objectives = []
    for params in problem.params[1:]:
        match = match_params(problem.symmetry, problem.params[0], params, seed=problem.seed)
        aligned.append(permute(params, problem.symmetry, match.perms))
        objectives.append(
            {"before": match.initial, "after": match.objective, "sweeps": match.sweeps}
        )
    problem.report["weight_matching"] = objectives
    return aligned
