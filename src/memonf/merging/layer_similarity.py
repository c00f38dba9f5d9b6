"""Similarity of two parents' activations, layer by layer, before and after alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..fields import Field
from ..matching import similarities
from ..typing import Float, PathLike, Tensor
from .aligning import ByBoth
from .parents import Parents, check_alike
from .problem import MergeProblem

__all__ = ["LayerSimilarity", "alignment_similarities"]

#: Positions at which units are compared.
LOOKED_AT = 8192


@dataclass(frozen=True)
class LayerSimilarity:
    """Similarity of two parents' activations in one group of units.

    Example:
        >>> similarity = LayerSimilarity("layers.0", torch.zeros(2, 2), torch.eye(2))
        >>> similarity.diagonals()
        (0.0, 1.0)

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
        return float(self.before.diagonal().mean()), float(self.after.diagonal().mean())


@torch.no_grad()
def alignment_similarities(
    parents: Sequence[Field | PathLike], *, seed: int = 0
) -> list[LayerSimilarity]:
    """Measure what alignment by params and activations does to two parents, by layer.

    Example:
        >>> [layer.group for layer in memonf.merging.alignment_similarities([front, rear])]
        ['layers.0', 'layers.1']

    Args:
        parents: Two fields, or their files.
        seed: Seed of the points at which they are compared.

    Raises:
        MergeError: Parents of different kinds, or an invalid symmetry.
        InputError: The forward pass cannot be read.
    """
    given = Parents(parents, "cpu")
    check_alike(given.facts)
    problem = MergeProblem(given, seed)
    positions = problem.positions(LOOKED_AT, 0.25, True)
    trust = positions.trust.prod(0)
    aligned = ByBoth().align(problem, positions)
    first, second, moved = given[0], given[1], problem.field_with(aligned.params[1])
    before, after = (
        similarities(problem.symmetry, first, other, positions.inputs, weights=trust)
        for other in (second, moved)
    )
    return [LayerSimilarity(name, before[name], after[name]) for name in before]
