"""What an alignment is: for each parent, the symmetry elements that lead to the reference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...matching.matcher import apply_steps
from ...symmetry import Element, Params
from ..positions import Positions
from ..problem import MergeProblem, PerParent

__all__ = ["Align", "AlignedParents", "Sampling", "Unaligned"]


@dataclass(frozen=True)
class Sampling:
    """Where activations are looked at.

    Attributes:
        points: Number of positions, as many from each parent.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what the parents saw.
    """

    points: int = 16384
    free_share: float = 0.25
    knowledge: bool = True

    def positions(self, problem: MergeProblem) -> Positions:
        """Draw the positions."""
        return problem.positions(self.points, self.free_share, self.knowledge)


@dataclass(frozen=True)
class AlignedParents:
    """Parents in the unit order of the first.

    Attributes:
        problem: The parents as they are.
        positions: Where activations are looked at; None if no part looks at any.
        params: Params of each parent, aligned; the functions are those of the parents.
        figures: What the alignment reports.
    """

    problem: MergeProblem
    positions: Positions | None
    params: PerParent[Params]
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def sampled(self) -> Positions:
        """The positions, for parts that need them."""
        assert self.positions is not None, "a part that looks at activations sets needs_positions"
        return self.positions

    @classmethod
    def by_steps(
        cls,
        problem: MergeProblem,
        positions: Positions | None,
        steps: Sequence[tuple[Element, ...]],
        figures: dict[str, Any],
    ) -> AlignedParents:
        """Parents that these symmetry elements align; the first stays as it is.

        Args:
            problem: The parents.
            positions: Where activations are looked at.
            steps: Elements to apply to each parent, in this order; those of the first are ignored.
            figures: What the alignment reports.
        """

        def aligned(number: int) -> Params:
            params = problem.params_of(number)
            return apply_steps(params, problem.symmetry, steps[number]) if number else params

        return cls(problem, positions, problem.per_parent(aligned), figures)


class Align(ABC):
    """Base of alignments."""

    #: Does it look at activations?
    needs_positions: ClassVar[bool] = False

    @abstractmethod
    def align(self, problem: MergeProblem, positions: Positions | None) -> AlignedParents:
        """Align all parents to the first."""


@dataclass(frozen=True)
class Unaligned(Align):
    """Parents as they stand; for those that started from the same params."""

    def align(self, problem: MergeProblem, positions: Positions | None) -> AlignedParents:
        """See `Align.align`."""
        return AlignedParents(problem, positions, problem.params)
