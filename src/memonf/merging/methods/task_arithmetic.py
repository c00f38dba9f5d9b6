"""Task arithmetic: the changes of the parents since their common start, added to that start."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limits

from ..combining.task_vectors import AveragedSteps
from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import ComposedMethod, Parts

__all__ = ["TaskArithmetic"]


@METHODS.register("task_arithmetic")
@settings_dataclass(**SETTINGS)
class TaskArithmetic(ComposedMethod):
    """Add the weighted task vectors of parents of one ancestor to the ancestor.

    Attributes:
        ancestor: Field file that the parents were trained from; empty to draw the initial params
            anew.
        strength: Length of the step away from the ancestor: 0 gives the ancestor's params, 1 the
            plain average, the number of parents the sum of equally weighed task vectors.
    """

    ancestor: str = ""
    strength: Annotated[float, Limits(ge=0, le=1000)] = 1.0

    summary = "task vectors averaged, a step of any strength from the common initial params"
    paper = "Ilharco et al. 2022, Task Arithmetic, arXiv 2212.04089"
    needs_ancestor = True
    symmetric = True
    #: Holds for strength 1.
    idempotent = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts(combine=AveragedSteps(self.ancestor, self.strength))
