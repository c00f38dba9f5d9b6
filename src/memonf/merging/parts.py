"""Methods of three parts: align the parents, combine their params, correct the result.

Each part is a frozen dataclass of settings in `aligning`, `midpoint`, `combining` or `correcting`;
any three of them form a method. The presets in `methods` name chosen combinations; the method
``composed`` takes the parts as settings.
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
    """State of a method of three parts; see `MergeMethod.prepare`.

    Attributes:
        aligned: The aligned parents.
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
    """The parts of a method, and where activations are sampled.

    Example:
        >>> parts = Parts()
        >>> type(parts.align).__name__, type(parts.combine).__name__
        ('Unaligned', 'Averaged')

    Attributes:
        align: Aligns the parents' units to those of the first parent.
        combine: Computes merged params from the aligned ones.
        correct: Restores the unit statistics that combining changed.
        sampling: Positions for the parts that sample activations.
    """

    align: Align = Unaligned()
    combine: Combine = Averaged()
    correct: Correct = Uncorrected()
    sampling: Sampling = Sampling()

    def prepare(self, problem: MergeProblem) -> PreparedParts:
        """Align the parents, and prepare the other parts for any coefficients."""
        looking = (self.align, self.combine, self.correct)
        positions = None
        if any(part.needs_positions for part in looking):
            positions = self.sampling.positions(problem)
        aligned = self.align.align(problem, positions)
        return PreparedParts(aligned, self.combine.prepare(aligned), self.correct.prepare(aligned))


class ComposedMethod(MergeMethod[PreparedParts]):
    """Base of methods that consist of parts.

    Example:
        >>> class AlignAndAverage(ComposedMethod):
        ...     def parts(self):
        ...         return Parts(align=ByWeights())
    """

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
    """Base of methods that align the parents and define `combine` themselves.

    Example:
        >>> class Median(AlignedMethod):
        ...     align = ByWeights()
        ...     def combine(self, aligned, coefficients):
        ...         each = list(aligned.params)
        ...         return {name: torch.stack([params[name] for params in each]).median(0).values
        ...                 for name in each[0]}, {}
    """

    #: How the parents are aligned.
    align: ClassVar[Align] = Unaligned()
    #: Where activations are sampled, if the alignment needs them.
    sampling: ClassVar[Sampling] = Sampling()

    def prepare(self, problem: MergeProblem) -> AlignedParents:
        """See `MergeMethod.prepare`."""
        positions = self.sampling.positions(problem) if self.align.needs_positions else None
        return self.align.align(problem, positions)


@settings_dataclass(**SETTINGS)
class SampledMethod(ComposedMethod):
    """Base of methods whose parts sample activations.

    Example:
        >>> class AlignAndAverage(SampledMethod):
        ...     def parts(self):
        ...         return Parts(align=ByActivations(), sampling=self.sampling)

    Attributes:
        points: Positions at which activations are sampled.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether positions are drawn and weighted by what the parents saw.
    """

    points: Annotated[int, Limits(ge=2, le=1 << 22)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    knowledge: bool = True

    needs_positions = True
    needs_knowledge = True
    symmetric = True

    @property
    def sampling(self) -> Sampling:
        """Where activations are sampled."""
        return Sampling(self.points, self.free_share, self.knowledge)
