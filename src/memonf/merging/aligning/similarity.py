"""Alignments by the similarity of units: of their params, of their activations, or of both."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch

from ...matching import Matcher, Member, match_many, readouts, steps_between
from ...matching.activations import Similarity
from ...matching.matcher import Solver
from ..positions import Positions
from ..problem import MergeProblem
from .base import Align, AlignedParents

__all__ = ["ByActivations", "ByBoth", "ByWeights", "MatcherAlignment"]


class MatcherAlignment(Align):
    """Base of alignments that `memonf.matching` finds."""

    @abstractmethod
    def matcher(self, seed: int) -> Matcher:
        """The matcher, with this alignment's settings."""

    @property
    def compared_by(self) -> Similarity:
        """Similarity of activations, if they are compared."""
        return "correlation"

    def align(self, problem: MergeProblem, positions: Positions | None) -> AlignedParents:
        """Match all parents in one universe and align each to the first.

        Parents are matched in the order of their content hashes, so the order in which they are
        given does not change the merged function. The weight of a point for a pair is the product
        of the trust in both.
        """
        facts = problem.parents.facts
        order = sorted(range(len(facts)), key=lambda number: facts[number].content)
        sampled = positions if self.needs_positions else None

        def member(place: int) -> Member:
            parent = problem.parents[order[place]]
            params = dict(parent.state_dict())
            if sampled is None:
                return Member(params)
            activations = readouts(problem.symmetry, parent, sampled.inputs)
            return Member(params, activations, sampled.trust[order[place]])

        with torch.no_grad():
            into_universe, solutions = match_many(
                problem.symmetry, len(order), member, self.matcher(problem.seed), self.compared_by
            )
        of_parent = {number: into_universe[place] for place, number in enumerate(order)}
        steps = [
            steps_between(problem.symmetry, of_parent[number], of_parent[0])
            for number in range(len(order))
        ]
        figures = {"matching": [solution.figures() for solution in solutions]}
        return AlignedParents.by_steps(problem, positions, steps, figures)


@dataclass(frozen=True)
class ByWeights(MatcherAlignment):
    """Match units by their params (weight matching).

    Attributes:
        solver: See `memonf.matching.Matcher`, as for the other settings.
        restarts: Number of additional descents from random orders.
        scales: Whether parents are compared independently of ReLU scales.
        signs: Whether signs and rotations are chosen too.
        equal_tensors: Whether each tensor is weighted relative to its own size.

    Reference:
        Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836.
    """

    solver: Solver = "auto"
    restarts: int = 0
    scales: bool = True
    signs: bool = True
    equal_tensors: bool | None = None

    def matcher(self, seed: int) -> Matcher:
        """See `MatcherAlignment.matcher`."""
        return Matcher(
            solver=self.solver, restarts=self.restarts, scales=self.scales, signs=self.signs,
            equal_tensors=self.equal_tensors, seed=seed,
        )  # fmt: skip


@dataclass(frozen=True)
class ByActivations(MatcherAlignment):
    """Match units by their activations where both parents saw (activation matching).

    Attributes:
        similarity: ``correlation`` does not depend on the units' scale, ``inner_product`` does.

    Reference:
        Li et al. 2015, Convergent Learning, arXiv 1511.07543.
    """

    similarity: Similarity = "correlation"
    needs_positions = True

    @property
    def compared_by(self) -> Similarity:
        """See `MatcherAlignment.compared_by`."""
        return self.similarity

    def matcher(self, seed: int) -> Matcher:
        """See `MatcherAlignment.matcher`."""
        return Matcher(solver="descent", activations=1.0, seed=seed)


@dataclass(frozen=True)
class ByBoth(MatcherAlignment):
    """Match units by params and activations in one objective (combined matching).

    Attributes:
        activations: Share of activations in the objective; params have the rest.
        similarity: ``correlation`` does not depend on the units' scale, ``inner_product`` does.
        solver: See `memonf.matching.Matcher`.
    """

    activations: float = 0.5
    similarity: Similarity = "correlation"
    solver: Solver = "auto"
    needs_positions = True

    @property
    def compared_by(self) -> Similarity:
        """See `MatcherAlignment.compared_by`."""
        return self.similarity

    def matcher(self, seed: int) -> Matcher:
        """See `MatcherAlignment.matcher`."""
        return Matcher(solver=self.solver, activations=self.activations, seed=seed)
