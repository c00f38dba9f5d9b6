"""Matching many parents in one common unit order, the *universe*.

Matching each parent to the first favours the first; matching pairs independently is not cycle
consistent (A to B to C to A is not the identity). Here the steps of every parent lead to a common
universe, and the steps from one parent to another go through it. Each parent in turn is matched to
the sum of all others in the universe, which raises Σ_{p<q} ⟨X_p A_p, X_q A_q⟩ with every step. Only
that sum and one parent are in memory at a time. The result does not depend on the order in which
parents are given.

Reference:
    Crisostomi et al. 2024, C²M³, arXiv 2405.17897, for the universe and its objective.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from ..symmetry import Element, Params, Symmetry, inverse, transform
from ..typing import Tensor
from .activations import Similarity, moments_between, similarity_of
from .balance import readout_signs
from .matcher import Matcher, Solution, UnitPlacements
from .placement import UnitPlacement

__all__ = ["LEAST_WEIGHT", "Member", "match_many", "steps_between"]

#: Passes over all parents after each has been placed once.
SWEEPS = 3


@dataclass(frozen=True)
class Member:
    """A parent to be matched in the universe.

    Example:
        >>> Member(build_field("tiny_nerf", None, box).state_dict()).readouts is None
        True

    Attributes:
        params: Its params.
        readouts: Group -> activations at the points, (points, units); None if only params are
            compared.
        trust: (points,), trust in the parent at each point, in [0, 1].
    """

    params: Mapping[str, Tensor]
    readouts: Mapping[str, Tensor] | None = None
    trust: Tensor | None = None


#: Weight of a point that one of two parents did not see, relative to one that both saw well.
#: Parents that saw no common points are aligned by all points.
LEAST_WEIGHT = 1e-3


class Universe:
    """Mean of the parents that have been placed.

    Args:
        symmetry: Symmetry of the architecture.
    """

    def __init__(self, symmetry: Symmetry) -> None:
        self.symmetry = symmetry
        self.count = 0
        self.params: Params = {}
        self.readouts: dict[str, Tensor] = {}
        self.trust: Tensor | None = None

    def add(
        self, member: Member, params: Params, placements: UnitPlacements, times: int = 1
    ) -> None:
        """Add a parent to the mean, or remove it (`times` −1).

        Args:
            member: The parent.
            params: Its balanced params, placed.
            placements: Placements of its units.
            times: 1 or −1.
        """
        total = self.count + times
        kept, new = self.count / max(total, 1), times / max(total, 1)

        def mean(old: Tensor | None, value: Tensor) -> Tensor:
            return new * value if old is None else kept * old + new * value

        for name, tensor in params.items():
            if tensor.is_floating_point():
                self.params[name] = mean(self.params.get(name), tensor)
        for name, readout in (member.readouts or {}).items():
            placed = placements[name].place(readout.mT.double(), reads=True).mT.float()
            self.readouts[name] = mean(self.readouts.get(name), placed)
        if member.trust is not None:
            self.trust = mean(self.trust, member.trust)
        self.count = total

    def similarity(self, member: Member, kind: Similarity) -> dict[str, Tensor] | None:
        """Similarity of a parent's activations to those of the universe, for each group."""
        if member.readouts is None:
            return None
        similarity = {}
        for name, readout in member.readouts.items():
            weights = torch.ones_like(readout[:, 0])
            if member.trust is not None and self.trust is not None:
                weights = self.trust * member.trust + LEAST_WEIGHT
            moments = moments_between(self.readouts[name], readout, weights)
            similarity[name] = similarity_of(moments, kind)
        return similarity


def match_many(
    symmetry: Symmetry,
    count: int,
    member: Callable[[int], Member],
    matcher: Matcher,
    similarity: Similarity = "correlation",
) -> tuple[list[tuple[Element, ...]], list[Solution]]:
    """Find the steps that align each parent to a common universe.

    Example:
        >>> members = [Member(front.state_dict()), Member(rear.state_dict())]
        >>> matcher = Matcher(solver="descent")
        >>> steps, solutions = match_many(find_symmetry(front), 2, members.__getitem__, matcher)
        >>> len(steps), len(solutions)
        (2, 1)

    Args:
        symmetry: Groups of the architecture.
        count: Number of parents.
        member: Parent by number; called again whenever a parent is needed. For a result that does
            not depend on the order in which parents are given, number them by their content.
        matcher: Settings of matching.
        similarity: How activations are compared, see `similarity_of`.

    Returns:
        The steps of each parent into the universe, and the agreement of each (except the first)
        when it was placed last.
    """
    universe = Universe(symmetry)
    steps: list[tuple[Element, ...]] = []
    placed: list[UnitPlacements] = []
    solutions: list[Solution] = []

    def balanced_member(number: int) -> tuple[Member, Element, Params]:
        parent = member(number)
        element, params = matcher.balanced(symmetry, parent.params)
        signs = readout_signs(symmetry, element)
        if parent.readouts is not None and signs:
            signed = {
                name: readout * signs[name].to(readout) if name in signs else readout
                for name, readout in parent.readouts.items()
            }
            parent = replace(parent, readouts=signed)
        return parent, element, params

    def place(
        parent: Member, params: Params, start: UnitPlacements | None
    ) -> tuple[Solution, Element]:
        agreement = matcher.agreement(
            symmetry, universe.params, params, universe.similarity(parent, similarity)
        )
        solution = matcher.solve(agreement, start)
        return solution, agreement.element(solution.placements)

    if count == 2:
        steps_of_second, solution = match_two(symmetry, member(0), member(1), matcher, similarity)
        return [(), steps_of_second], [solution]
    for number in range(count):
        parent, balancing, params = balanced_member(number)
        if number == 0:
            sizes = {group.name: group.size for group in symmetry.groups}
            device = next(iter(params.values())).device
            element = Element()
            placed.append({name: UnitPlacement.identity(n, device) for name, n in sizes.items()})
        else:
            solution, element = place(parent, params, None)
            placed.append(solution.placements)
            solutions.append(solution)
        steps.append((balancing, element))
        universe.add(parent, transform(params, symmetry, element), placed[number])
    for _ in range(SWEEPS if count > 2 else 0):
        moved = False
        for number in range(count):
            parent, balancing, params = balanced_member(number)
            now = transform(params, symmetry, steps[number][1])
            universe.add(parent, now, placed[number], -1)
            solution, element = place(parent, params, placed[number])
            moved |= not same(solution.placements, placed[number])
            placed[number], steps[number] = solution.placements, (balancing, element)
            if number > 0:
                solutions[number - 1] = solution
            universe.add(parent, transform(params, symmetry, element), placed[number])
        if not moved:
            break
    return steps, solutions


def match_two(
    symmetry: Symmetry, one: Member, other: Member, matcher: Matcher, similarity: Similarity
) -> tuple[tuple[Element, ...], Solution]:
    """The other parent's steps into the universe that consists of the first one alone."""
    universe = Universe(symmetry)
    device = next(iter(one.params.values())).device
    identity = {group.name: UnitPlacement.identity(group.size, device) for group in symmetry.groups}
    universe.add(one, dict(one.params), identity)
    alike = universe.similarity(other, similarity)
    match = matcher.match(symmetry, one.params, other.params, alike)
    return match.steps, match.solution


def same(one: UnitPlacements, other: UnitPlacements) -> bool:
    """Whether two placements put every unit at the same slot, with the same signs."""
    return all(
        torch.equal(one[name].perm, other[name].perm)
        and torch.equal(one[name].before, other[name].before)
        and torch.equal(one[name].after, other[name].after)
        and equal_maps(one[name].matrix, other[name].matrix)
        for name in one
    )


def equal_maps(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two maps of a group are equal up to float noise."""
    if one is None or other is None:
        return one is other
    return torch.allclose(one, other, rtol=0, atol=1e-6)


def steps_between(
    symmetry: Symmetry, of_one: tuple[Element, ...], of_other: tuple[Element, ...]
) -> tuple[Element, ...]:
    """Steps that align one parent to another through the universe.

    Example:
        >>> symmetry = find_symmetry(build_field("tiny_nerf", None, box))
        >>> element = random_element(symmetry, torch.Generator().manual_seed(0))
        >>> len(steps_between(symmetry, (element,), (element,)))
        2

    Args:
        symmetry: Groups of the architecture.
        of_one: Steps of the parent to be aligned into the universe.
        of_other: Steps of the parent that it is aligned to.
    """
    back = tuple(inverse(step, symmetry) for step in reversed(of_other))
    return tuple(step for step in (*of_one, *back) if step.perms or step.gauges)
