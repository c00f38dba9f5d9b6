"""Parents in one unit order: what methods combine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..fields import Field
from ..matching import Matcher, Member, match_many, readouts, similarities, way_between
from ..matching.activations import Similarity
from ..matching.matcher import apply_steps
from ..symmetry import Params
from ..typing import Float, PathLike, Tensor
from .base import MergeProblem
from .parents import Parents, check_alike
from .positions import Positions

__all__ = ["LayerSimilarity", "align", "alignment_similarities"]

#: Positions at which units are compared for a look at an alignment.
LOOKED_AT = 8192


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
    if problem.memory is None:
        yield from aligned_one_by_one(problem, matcher, positions, similarity)
        return
    found, figures = problem.remember(
        ("aligned", matcher, positions is None, similarity),
        lambda: (
            list(aligned_one_by_one(problem, matcher, positions, similarity)),
            problem.report["matching"],
        ),
    )
    problem.report["matching"] = figures
    yield from found


def aligned_one_by_one(
    problem: MergeProblem,
    matcher: Matcher,
    positions: Positions | None,
    similarity: Similarity,
) -> Iterator[Params]:
    """What `align` gives, found anew; one parent's params are in memory at a time."""
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


@dataclass(frozen=True)
class LayerSimilarity:
    """How alike the units of two parents act in one group of units.

    Attributes:
        group: Name of the group, see `memonf.symmetry.Group`.
        before: (units, units), correlation in [-1, 1] of the first parent's units (rows) with the
            second's (columns) at the same points, as the parents are.
        after: The same once the second parent is aligned to the first.
    """

    group: str
    before: Float[Tensor, "units units"]
    after: Float[Tensor, "units units"]

    def diagonals(self) -> tuple[float, float]:
        """Mean correlation of units that share a slot, before and after."""
        before, after = (float(found.diagonal().mean()) for found in (self.before, self.after))
        return before, after


@torch.no_grad()
def alignment_similarities(
    parents: Sequence[Field | PathLike], *, seed: int = 0
) -> list[LayerSimilarity]:
    """Look at what alignment by params and activations together does to two parents, by layer.

    Args:
        parents: Two fields, or their files.
        seed: Seed of the points at which they are compared.

    Raises:
        MergeError: They are not alike, or the symmetry that was found is none.
        InputError: The forward pass cannot be read.
    """
    given = Parents(parents, "cpu")
    check_alike(given.facts)
    problem = MergeProblem(given, (0.5, 0.5), seed)
    positions = problem.positions(LOOKED_AT, 0.25, True)
    trust = positions.trust.prod(0)
    _, aligned = align(problem, Matcher(activations=0.5, seed=seed), positions)
    first, second, moved = given[0], given[1], problem.field_with(aligned)
    before, after = (
        similarities(problem.symmetry, first, other, positions.inputs, weights=trust)
        for other in (second, moved)
    )
    return [LayerSimilarity(name, before[name], after[name]) for name in before]
