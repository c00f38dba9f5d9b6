"""DARE: entries of the task vectors are dropped at random, the rest rescaled to make up for it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limits

from ..combining.task_vectors import ThinnedSteps
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import ComposedMethod, Parts

__all__ = ["Dare"]


@METHODS.register("dare")
@settings_dataclass(**SETTINGS)
class Dare(ComposedMethod):
    """Drop entries of the task vectors at random, rescale the rest, and average.

    Attributes:
        ancestor: Field file that the parents were trained from; empty to draw the initial params
            anew.
        strength: Length of the step away from the ancestor.
        drop: Share of each task vector's entries that is dropped; 0.9 in the paper, whose parents
            moved less.
    """

    ancestor: str = ""
    strength: Annotated[float, Limits(ge=0, le=1000)] = 1.0
    drop: Annotated[float, Limits(ge=0, lt=1)] = 0.1

    summary = "task vectors thinned at random and rescaled, then averaged"
    paper = "Yu et al. 2023, DARE, arXiv 2311.03099"
    needs_ancestor = True
    symmetric = True
    #: Two equal parents drop the same entries.
    idempotent = False

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(combine=ThinnedSteps(self.ancestor, self.strength, self.drop))
