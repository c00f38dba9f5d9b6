"""Methods made of parts: align the parents, combine their params, correct the result.

Each part is a frozen dataclass of settings in `aligning`, `midpoint`, `combining` or `correcting`;
any three of them make a method. The named presets in `methods` pick three, and the method
``composed`` lets a user pick.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field as Limits

from ..symmetry import Params
from .aligning.base import Align, AlignedParents, Sampling, Unaligned
from .coefficients import Coefficients
from .combining.base import Averaged, Combine
from .correcting.base import Correct, Uncorrected
from .method import SETTINGS, Figures, MergeMethod, settings_dataclass
from .problem import MergeProblem

__all__ = ["AlignedMethod", "ComposedMethod", "Parts", "PreparedParts", "SampledMethod"]


@dataclass(frozen=True)
class PreparedParts:
    """What three parts found out about the parents; see `MergeMethod.prepare`.

    Attributes:
        aligned: The parents in one unit order.
        combine: Coefficients -> merged params, statistics and figures.
        correct: (combined, coefficients) -> params with corrected statistics.
    """

    aligned: AlignedParents
    combine: Callable[[Coefficients], Any]
    correct: Callable[[Any, Coefficients], Params]

    def merge(self, coefficients: Coefficients) -> tuple[Params, Figures]:
        """Merged params at these coefficients, and figures for the report."""
        combined = self.combine(coefficients)
        params = self.correct(combined, coefficients)
        return params, {**self.aligned.figures, **combined.figures}


@dataclass(frozen=True)
class Parts:
    """Which parts make a method, and where their activations are looked at.

    Attributes:
        align: Brings the parents into the unit order of the first.
        combine: Makes one set of params of the aligned ones.
        correct: Gives the units of the result back the statistics that combining took from them.
        sampling: Positions for the parts that look at activations.
    """

    align: Align = Unaligned()
    combine: Combine = Averaged()
    correct: Correct = Uncorrected()
    sampling: Sampling = Sampling()

    def prepare(self, problem: MergeProblem) -> PreparedParts:
        """Align the parents, and do all else that does not depend on the coefficients."""
        looking = (self.align, self.combine, self.correct)
        positions = None
        if any(part.needs_positions for part in looking):
            positions = self.sampling.positions(problem)
        aligned = self.align.align(problem, positions)
        return PreparedParts(aligned, self.combine.prepare(aligned), self.correct.prepare(aligned))


class ComposedMethod(MergeMethod[PreparedParts]):
    """Base of methods that are made of parts."""

    @abstractmethod
    def parts(self) -> Parts:
        """The parts, with this method's settings."""

    def prepare(self, problem: MergeProblem) -> PreparedParts:
        """See `MergeMethod.prepare`."""
        return self.parts().prepare(problem)

    def combine(self, state: PreparedParts, coefficients: Coefficients) -> tuple[Params, Figures]:
        """See `MergeMethod.combine`."""
        return state.merge(coefficients)


class AlignedMethod(MergeMethod[AlignedParents]):
    """Base of methods that combine aligned params in a way of their own.

    Example:
        >>> class Median(AlignedMethod):
        ...     align = ByWeights()
        ...     def combine(self, aligned, coefficients):
        ...         each = list(aligned.params)
        ...         return {name: torch.stack([params[name] for params in each]).median(0).values
        ...                 for name in each[0]}, {}
    """

    #: How the parents are brought into the unit order of the first.
    align: ClassVar[Align] = Unaligned()
    #: Where activations are looked at, if the alignment does.
    sampling: ClassVar[Sampling] = Sampling()

    def prepare(self, problem: MergeProblem) -> AlignedParents:
        """See `MergeMethod.prepare`."""
        positions = self.sampling.positions(problem) if self.align.needs_positions else None
        return self.align.align(problem, positions)


@settings_dataclass(**SETTINGS)
class SampledMethod(ComposedMethod):
    """Base of methods whose parts look at activations.

    Attributes:
        points: Positions at which activations are looked at.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what the parents saw.
    """

    points: Annotated[int, Limits(ge=2)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    knowledge: bool = True

    needs_positions = True
    needs_knowledge = True
    symmetric = True

    @property
    def sampling(self) -> Sampling:
        """Where activations are looked at."""
        return Sampling(self.points, self.free_share, self.knowledge)
