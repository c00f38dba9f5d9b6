"""Shared code of the searches for permutations by the midpoint's error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ...matching.matcher import apply_steps
from ...symmetry import Element, Params
from ...typing import Tensor
from ..aligning.base import AlignedParents
from ..combining.base import combine_params
from ..positions import Positions
from ..problem import MergeProblem

__all__ = ["Best", "SearchOutcome", "align_in_turn", "equal_shares", "mixed"]

#: Symmetry elements that align a parent to the reference, and figures for the report.
SearchOutcome: TypeAlias = "tuple[tuple[Element, ...], dict[str, float]]"


@dataclass
class Best:
    """The best element so far.

    Attributes:
        error: Its loss.
        element: The element.
        step: Step at which it was found.
        first: Loss of the first element offered.
    """

    error: float = float("inf")
    element: Element = Element()
    step: int = 0
    first: float | None = None

    def offer(self, error: float, element: Element, step: int) -> None:
        """Keep an element if its error is less than that of all before."""
        self.first = error if self.first is None else self.first
        if error < self.error:
            self.error, self.element, self.step = error, element, step

    def figures(self) -> dict[str, float]:
        """Figures for the report."""
        return {"error_at_start": self.first or 0.0, "error": self.error, "step": self.step}


def equal_shares(problem: MergeProblem) -> tuple[float, ...]:
    """Coefficients of the midpoint; the order does not depend on those of the merge."""
    count = len(problem.parents)
    return (1 / count,) * count


def align_in_turn(
    problem: MergeProblem,
    positions: Positions | None,
    search: Callable[[int, Params, Params, float], SearchOutcome],
) -> AlignedParents:
    """Align each parent to the running average, which starts at the first.

    The parents follow in the order of their content hashes, so that the order in which they are
    given does not matter.

    Args:
        problem: The parents.
        positions: Where activations are sampled.
        search: (number of a parent, params of the average, of the parent, the parent's share in
            the next average) -> steps that align the parent to the average, and figures.
    """
    facts, shares = problem.parents.facts, equal_shares(problem)
    others = sorted(range(1, len(facts)), key=lambda number: facts[number].content)
    merged, weight = problem.params[0], shares[0]
    steps: list[tuple[Element, ...]] = [()] * len(facts)
    figures = []
    for number in others:
        params = problem.params[number]
        weight += shares[number]
        share = shares[number] / weight
        steps[number], figures_of_parent = search(number, merged, params, share)
        figures.append(figures_of_parent)
        aligned = apply_steps(params, problem.symmetry, steps[number])
        merged = combine_params([merged, aligned], [1 - share, share])
    return AlignedParents.by_steps(problem, positions, steps, {"alignment": figures})


def mixed(one: Mapping[str, Tensor], other: Mapping[str, Tensor], share: float) -> Params:
    """(1 − share) one + share other; counters are those of `one`."""
    return {
        name: (1 - share) * tensor + share * other[name] if tensor.is_floating_point() else tensor
        for name, tensor in one.items()
    }
