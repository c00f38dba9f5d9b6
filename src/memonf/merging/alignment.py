"""Parents in one unit order: what methods combine."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..matching import Matcher, Member, match_many, readouts, way_between
from ..matching.activations import Similarity
from ..matching.matcher import apply_steps
from ..symmetry import Params
from .base import MergeProblem
from .positions import Positions

__all__ = ["align"]


def align(
    problem: MergeProblem,
    matcher: Matcher,
    positions: Positions | None = None,
    similarity: Similarity = "correlation",
) -> Iterator[Params]:
    """Params of all parents in the order and scales of the first, one after the other.

    The first parent's params come as they are. Which order the parents are given in makes no
    difference to the functions that come out: they are matched in the order of their content.

    Args:
        problem: The parents.
        matcher: How they are matched.
        positions: Where activations are compared, if they count: a point counts by the product of
            the trust in both.
        similarity: How activations are compared.
    """
    facts = problem.parents.facts
    order = sorted(range(len(facts)), key=lambda number: facts[number].content)

    def member(place: int) -> Member:
        parent = problem.parents[order[place]]
        params = dict(parent.state_dict())
        if positions is None:
            return Member(params)
        seen = readouts(problem.symmetry, parent, positions.inputs)
        return Member(params, seen, positions.trust[order[place]])

    with torch.no_grad():
        ways, solved = match_many(problem.symmetry, len(order), member, matcher, similarity)
    problem.report["matching"] = [found.figures() for found in solved]
    way = {number: ways[place] for place, number in enumerate(order)}
    for number in range(len(order)):
        params = problem.params(number)
        steps = way_between(problem.symmetry, way[number], way[0])
        yield params if number == 0 else apply_steps(params, problem.symmetry, steps)
