"""Base class of alignments: for each parent, the symmetry elements that align it to the first."""

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
    """Where activations are sampled.

    Attributes:
        points: Number of positions, equally many from each parent.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether positions are drawn and weighted by what the parents saw.
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
        problem: The parents before alignment.
        positions: Where activations are sampled; None if no part samples any.
        params: Aligned params of each parent; each parent's function is unchanged.
        figures: Figures for the report.
    """

    problem: MergeProblem
    positions: Positions | None
    params: PerParent[Params]
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def sampled(self) -> Positions:
        """The positions, for parts that need them."""
        assert self.positions is not None, "a part that samples activations sets needs_positions"
        return self.positions

    @classmethod
    def by_steps(
        cls,
        problem: MergeProblem,
        positions: Positions | None,
        steps: Sequence[tuple[Element, ...]],
        figures: dict[str, Any],
    ) -> AlignedParents:
        """Parents aligned by these symmetry elements; the first is not changed.

        Args:
            problem: The parents.
            positions: Where activations are sampled.
            steps: Elements to apply to each parent, in this order; those of the first are ignored.
            figures: Figures for the report.
        """

        def aligned(number: int) -> Params:
            params = problem.params_of(number)
            return apply_steps(params, problem.symmetry, steps[number]) if number else params

        return cls(problem, positions, problem.per_parent(aligned), figures)


class Align(ABC):
    """Base of alignments."""

    #: Whether it samples activations.
    needs_positions: ClassVar[bool] = False

    @abstractmethod
    def align(self, problem: MergeProblem, positions: Positions | None) -> AlignedParents:
        """Align all parents to the first."""


@dataclass(frozen=True)
class Unaligned(Align):
    """No alignment; for parents that were trained from the same initial params."""

    def align(self, problem: MergeProblem, positions: Positions | None) -> AlignedParents:
        """See `Align.align`."""
        return AlignedParents(problem, positions, problem.params)
