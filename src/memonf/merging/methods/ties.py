"""TIES: small changes are trimmed, parents that move a param against the majority left out."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limits

from ..combining.task_vectors import ElectedSteps
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import ComposedMethod, Parts

__all__ = ["Ties"]


@METHODS.register("ties")
@settings_dataclass(**SETTINGS)
class Ties(ComposedMethod):
    """Trim the task vectors, elect a sign for each param, and average those that agree.

    Attributes:
        ancestor: Field file that the parents were trained from; empty to draw the initial params
            anew.
        strength: Length of the step away from the ancestor.
        keep: Share of each task vector's entries that is kept, the largest ones; 0.2 in the paper,
            whose parents moved less.
    """

    ancestor: str = ""
    strength: Annotated[float, Limits(ge=0, le=1000)] = 1.0
    keep: Annotated[float, Limits(gt=0, le=1)] = 0.8

    summary = "task vectors trimmed, signs elected, those that agree averaged"
    paper = "Yadav et al. 2023, TIES-Merging, arXiv 2306.01708"
    needs_ancestor = True
    symmetric = True
    #: What is trimmed is lost even where the parents are equal.
    idempotent = False

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(combine=ElectedSteps(self.ancestor, self.strength, self.keep))
