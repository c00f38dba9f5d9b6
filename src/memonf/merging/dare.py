"""DARE: entries of the task vectors are dropped at random, and the rest rescaled to make up for it.

Symbols: τ_i task vector of parent i, p share that is dropped. Each entry is kept with probability
1 − p and divided by it, so that the expected change is τ_i; then the vectors are averaged.

Reference:
    Yu et al. 2023, Language Models are Super Mario, arXiv 2311.03099.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field as Limits

from ..symmetry import Params
from .ancestor import AncestorMethod, task_vectors
from .base import METHODS, SETTINGS, MergeProblem, combine_params, settings_dataclass

__all__ = ["Dare", "dropped"]


@METHODS.register("dare")
@settings_dataclass(**SETTINGS)
class Dare(AncestorMethod):
    """Drop entries of the task vectors at random, rescale the rest, and average.

    Attributes:
        ancestor: Field file that the parents were trained from; empty to draw the initial params
            anew.
        strength: Length of the step away from the ancestor.
        drop: Share of each task vector's entries that is dropped; 0.9 in the paper, whose parents
            moved less.
    """

    drop: Annotated[float, Limits(ge=0, lt=1)] = 0.1

    summary = "task vectors thinned at random and rescaled, then averaged"
    paper = "Yu et al. 2023, DARE, arXiv 2311.03099"
    #: Two parents that are one drop the same entries.
    idempotent = False

    def step(self, problem: MergeProblem, ancestor: Params) -> Params:
        """See `AncestorMethod.step`."""

        def thinned() -> Iterator[Params]:
            for number, vector in enumerate(task_vectors(problem, ancestor)):
                yield dropped(vector, self.drop, problem.generator(number))

        return combine_params(thinned(), problem.coefficients)


def dropped(vector: Params, share: float, generator: torch.Generator) -> Params:
    """A task vector with entries set to zero at random and the rest divided by `1 - share`."""
    return {
        name: value
        * (torch.rand(value.shape, generator=generator) >= share).to(value)
        / (1 - share)
        for name, value in vector.items()
    }
