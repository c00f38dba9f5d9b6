"""The naive control: average the params as they stand."""

from __future__ import annotations

from ..symmetry import Params
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass

__all__ = ["Average"]


@METHODS.register("average")
@settings_dataclass(**SETTINGS)
class Average(MergeMethod):
    """Average params without alignment: fog, unless the parents started from the same params."""

    summary = "params averaged as they stand, the naive control"
    paper = "Wortsman et al. 2022, Model soups, arXiv 2203.05482"
    symmetric = True
    layerwise = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        params = (problem.params(number) for number in range(len(problem.parents)))
        return combine_params(params, problem.layer_coefficients)
