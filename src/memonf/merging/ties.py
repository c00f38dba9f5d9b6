"""TIES: small changes are trimmed, and parents that move a param against the majority are left out.

Symbols: τ_i task vector of parent i, c_i its coefficient. Of each τ_i the entries of largest
magnitude are kept, over all params together; the sign of Σ cᵢ τᵢ is elected for each param, and the
merged change is the weighted mean of the kept entries of that sign.

Reference:
    Yadav et al. 2023, TIES-Merging, arXiv 2306.01708.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field as Limits

from ..symmetry import Params
from .ancestor import AncestorMethod, task_vectors
from .base import METHODS, SETTINGS, MergeProblem, combine_params, settings_dataclass

__all__ = ["Ties", "agreeing", "trimmed"]


@METHODS.register("ties")
@settings_dataclass(**SETTINGS)
class Ties(AncestorMethod):
    """Trim the task vectors, elect a sign for each param, and average those that agree.

    Attributes:
        ancestor: Field file that the parents were trained from; empty to draw the initial params
            anew.
        strength: Length of the step away from the ancestor.
        keep: Share of each task vector's entries that is kept, the largest ones; 0.2 in the paper,
            whose parents moved less.
    """

    keep: Annotated[float, Limits(gt=0, le=1)] = 0.8

    summary = "task vectors trimmed, signs elected, those that agree averaged"
    paper = "Yadav et al. 2023, TIES-Merging, arXiv 2306.01708"
    #: What is trimmed is lost even where the parents are one.
    idempotent = False

    def step(self, problem: MergeProblem, ancestor: Params) -> Params:
        """See `AncestorMethod.step`."""

        def kept() -> Iterator[Params]:
            return (trimmed(vector, self.keep) for vector in task_vectors(problem, ancestor))

        # The same work thrice: the vectors of only one parent are in memory at a time.
        elected = combine_params(kept(), problem.coefficients)
        agreed = combine_params(
            (agreeing(vector, elected) for vector in kept()), problem.coefficients
        )
        voters = combine_params(
            ({name: (v != 0).double() for name, v in agreeing(vector, elected).items()}
             for vector in kept()),
            problem.coefficients,
        )  # fmt: skip
        return {name: value / voters[name].clamp_min(1e-12) for name, value in agreed.items()}


def trimmed(vector: Params, keep: float) -> Params:
    """A task vector of whose entries only the share `keep` of largest magnitude is left."""
    magnitudes = torch.cat([value.abs().flatten() for value in vector.values()])
    dropped = len(magnitudes) - math.ceil(keep * len(magnitudes))
    if dropped == 0:
        return vector
    limit = magnitudes.kthvalue(dropped).values
    return {name: torch.where(value.abs() > limit, value, 0.0) for name, value in vector.items()}


def agreeing(vector: Params, elected: Params) -> Params:
    """The entries of a task vector that have the elected sign; others are zero."""
    return {
        name: torch.where(value * elected[name] > 0, value, 0.0) for name, value in vector.items()
    }
