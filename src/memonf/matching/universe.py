"""Many parents in one common order, the *universe*: consistent, whatever the order they come in.

Matching each parent to the first favours the first; matching pairs one by one leads round in
circles (A to B to C to A is not where it began). Here every parent has one way into a common
universe, and the way from one to another goes through it. The ways are found one after the other,
each parent being matched to the sum of all others in the universe, which raises
Σ_{p<q} ⟨X_p A_p, X_q A_q⟩ with every step. Only that sum and one parent are in memory at a time.

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
from .matcher import Matcher, Placements, Solved
from .placement import Placement

__all__ = ["LEAST_WEIGHT", "Member", "match_many", "way_between"]

#: Passes over all parents after each has its first way.
SWEEPS = 3


@dataclass(frozen=True)
class Member:
    """A parent on its way into the universe.

    Attributes:
        params: Its params.
        readouts: Group -> what its units do at the points, (points, units), if that counts.
        trust: (points,), how far it is to be trusted there.
    """

    params: Mapping[str, Tensor]
    readouts: Mapping[str, Tensor] | None = None
    trust: Tensor | None = None


#: Weight of a point that one of two parents did not see, relative to one that both know well:
#: parents that saw nothing in common are aligned by all points.
LEAST_WEIGHT = 1e-3


class Universe:
    """Mean of the parents that have found their way.

    Args:
        symmetry: Of the architecture.
    """

    def __init__(self, symmetry: Symmetry) -> None:
        self.symmetry = symmetry
        self.count = 0
        self.params: Params = {}
        self.readouts: dict[str, Tensor] = {}
        self.trust: Tensor | None = None

    def add(self, member: Member, params: Params, placements: Placements, times: int = 1) -> None:
        """Let a parent join, or leave (`times` −1).

        Args:
            member: The parent.
            params: Its balanced params, placed.
            placements: Where its units are.
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
        """How alike a parent's units act to those of the universe."""
        if member.readouts is None:
            return None
        found = {}
        for name, theirs in member.readouts.items():
            weights = torch.ones_like(theirs[:, 0])
            if member.trust is not None and self.trust is not None:
                weights = self.trust * member.trust + LEAST_WEIGHT
            found[name] = similarity_of(moments_between(self.readouts[name], theirs, weights), kind)
        return found


def match_many(
    symmetry: Symmetry,
    count: int,
    member: Callable[[int], Member],
    matcher: Matcher,
    similarity: Similarity = "correlation",
) -> tuple[list[tuple[Element, ...]], list[Solved]]:
    """Find each parent's way into a universe.

    Args:
        symmetry: Groups of the architecture.
        count: Number of parents.
        member: Parent by number; called again whenever a parent is needed. For a result that does
            not depend on the order in which parents are given, number them by their content.
        matcher: How they are matched.
        similarity: How activations are compared, see `similarity_of`.

    Returns:
        The steps into the universe for each parent, and how well each agreed when it was placed
        last (all but the first).
    """
    universe = Universe(symmetry)
    ways: list[tuple[Element, ...]] = []
    placed: list[Placements] = []
    solved: list[Solved] = []

    def look(number: int) -> tuple[Member, Element, Params]:
        parent = member(number)
        element, params = matcher.balanced(symmetry, parent.params)
        signs = readout_signs(symmetry, element)
        if parent.readouts is not None and signs:
            seen = {n: r * signs[n].to(r) if n in signs else r for n, r in parent.readouts.items()}
            parent = replace(parent, readouts=seen)
        return parent, element, params

    def settle(parent: Member, params: Params, start: Placements | None) -> tuple[Solved, Element]:
        agreement = matcher.agreement(
            symmetry, universe.params, params, universe.similarity(parent, similarity)
        )
        found = matcher.solve(agreement, start)
        return found, agreement.element(found.placements)

    if count == 2:
        way, found = match_two(symmetry, member(0), member(1), matcher, similarity)
        return [(), way], [found]
    for number in range(count):
        parent, balancing, params = look(number)
        if number == 0:
            sizes = {group.name: group.size for group in symmetry.groups}
            device = next(iter(params.values())).device
            element = Element()
            placed.append({name: Placement.identity(n, device) for name, n in sizes.items()})
        else:
            found, element = settle(parent, params, None)
            placed.append(found.placements)
            solved.append(found)
        ways.append((balancing, element))
        universe.add(parent, transform(params, symmetry, element), placed[number])
    for _ in range(SWEEPS if count > 2 else 0):
        moved = False
        for number in range(count):
            parent, balancing, params = look(number)
            now = transform(params, symmetry, ways[number][1])
            universe.add(parent, now, placed[number], -1)
            found, element = settle(parent, params, placed[number])
            moved |= not same(found.placements, placed[number])
            placed[number], ways[number] = found.placements, (balancing, element)
            if number > 0:
                solved[number - 1] = found
            universe.add(parent, transform(params, symmetry, element), placed[number])
        if not moved:
            break
    return ways, solved


def match_two(
    symmetry: Symmetry, one: Member, other: Member, matcher: Matcher, similarity: Similarity
) -> tuple[tuple[Element, ...], Solved]:
    """The other's way into the universe that the first one is by itself."""
    universe = Universe(symmetry)
    device = next(iter(one.params.values())).device
    still = {group.name: Placement.identity(group.size, device) for group in symmetry.groups}
    universe.add(one, dict(one.params), still)
    alike = universe.similarity(other, similarity)
    match = matcher.match(symmetry, one.params, other.params, alike)
    return match.steps, match.solved


def same(one: Placements, other: Placements) -> bool:
    """Whether two placements put every unit in the same place, with the same signs."""
    return all(
        torch.equal(one[name].perm, other[name].perm)
        and torch.equal(one[name].before, other[name].before)
        and torch.equal(one[name].after, other[name].after)
        and equal_maps(one[name].matrix, other[name].matrix)
        for name in one
    )


def equal_maps(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two maps of a group are one, but for float noise."""
    if one is None or other is None:
        return one is other
    return torch.allclose(one, other, rtol=0, atol=1e-6)


def way_between(
    symmetry: Symmetry, of_one: tuple[Element, ...], of_other: tuple[Element, ...]
) -> tuple[Element, ...]:
    """Steps from one parent's guise, through the universe, into another's."""
    back = tuple(inverse(step, symmetry) for step in reversed(of_other))
    return tuple(step for step in (*of_one, *back) if step.perms or step.gauges)
