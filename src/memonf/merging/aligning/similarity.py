"""Alignments by how alike units are: wired alike, acting alike, or both."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch

from ...matching import Matcher, Member, match_many, readouts, way_between
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
        """How the parents are matched."""

    @property
    def compared_by(self) -> Similarity:
        """How activations are compared, if they are."""
        return "correlation"

    def align(self, problem: MergeProblem, positions: Positions | None) -> AlignedParents:
        """Match all parents in one universe and lead each to the first.

        Parents are matched in the order of their content, so the order in which they are given
        makes no difference to the functions that come out. A point counts for a pair by the
        product of the trust in both.
        """
        facts = problem.parents.facts
        order = sorted(range(len(facts)), key=lambda number: facts[number].content)
        looked_at = positions if self.needs_positions else None

        def member(place: int) -> Member:
            parent = problem.parents[order[place]]
            params = dict(parent.state_dict())
            if looked_at is None:
                return Member(params)
            seen = readouts(problem.symmetry, parent, looked_at.inputs)
            return Member(params, seen, looked_at.trust[order[place]])

        with torch.no_grad():
            ways, solved = match_many(
                problem.symmetry, len(order), member, self.matcher(problem.seed), self.compared_by
            )
        way = {number: ways[place] for place, number in enumerate(order)}
        steps = [way_between(problem.symmetry, way[number], way[0]) for number in range(len(order))]
        figures = {"matching": [pair.figures() for pair in solved]}
        return AlignedParents.by_steps(problem, positions, steps, figures)


@dataclass(frozen=True)
class ByWeights(MatcherAlignment):
    """Units are alike if they are wired alike.

    Attributes:
        solver: See `memonf.matching.Matcher`, as for all others.
        restarts: So many more descents from random orders.
        scales: Whether parents are compared free of ReLU scales.
        signs: Whether signs and rotations are chosen too.
        equal_tensors: Whether each tensor counts relative to its own size.

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
    """Units are alike if they act alike where both parents saw.

    Attributes:
        similarity: ``correlation`` is free of the units' scale, ``inner_product`` is not.

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
    """Units are alike if they act alike and are wired alike; both count in one objective.

    Attributes:
        activations: Share of activations in the objective; params have the rest.
        similarity: ``correlation`` is free of the units' scale, ``inner_product`` is not.
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
