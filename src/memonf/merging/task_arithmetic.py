"""Task arithmetic: what the parents learnt since they parted, added to where they began."""

from __future__ import annotations

from ..symmetry import Params
from .ancestor import AncestorMethod, task_vectors
from .base import METHODS, SETTINGS, MergeProblem, combine_params, settings_dataclass

__all__ = ["TaskArithmetic"]


@METHODS.register("task_arithmetic")
@settings_dataclass(**SETTINGS)
class TaskArithmetic(AncestorMethod):
    """Add the weighted task vectors of parents of one ancestor to the ancestor.

    Attributes:
        ancestor: Field file that the parents were trained from; empty to draw the initial params
            anew.
        strength: Length of the step away from the ancestor: 0 gives the ancestor's params, 1 the
            plain average, the number of parents the sum of equally weighed task vectors.
    """

    summary = "task vectors averaged, a step of any strength from the common initial params"
    paper = "Ilharco et al. 2022, Task Arithmetic, arXiv 2212.04089"
    #: Holds for strength 1.
    idempotent = True

    def step(self, problem: MergeProblem, ancestor: Params) -> Params:
        """See `AncestorMethod.step`."""
        return combine_params(task_vectors(problem, ancestor), problem.coefficients)
