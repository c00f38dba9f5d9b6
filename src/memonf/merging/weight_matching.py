"""Permutation without activations: align units by their params, then average."""

from __future__ import annotations

from collections.abc import Iterator

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
    layerwise = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        return combine_params(align_by_weights(problem), problem.layer_coefficients)


def align_by_weights(problem: MergeProblem) -> Iterator[Params]:
    """Params of all parents in the unit order of the first, one after the other."""
    reference = problem.params(0)
    yield reference
    objectives = problem.report["weight_matching"] = []
    for number in range(1, len(problem.parents)):
        params = problem.params(number)
        match = match_params(problem.symmetry, reference, params, seed=problem.seed)
        objectives.append(
            {"before": match.initial, "after": match.objective, "sweeps": match.sweeps}
        )
        yield permute(params, problem.symmetry, match.perms)
