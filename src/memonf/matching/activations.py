"""Activation matching: align hidden units by what they do at the same points in space.

Symbols: a_i activation of the reference's unit i, b_j of the other's unit j, over points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ..symmetry import Permutations, Symmetry, record
from ..typing import Float, Tensor
from .assignment import best_permutation

__all__ = ["Moments", "cross_moments", "match_activations", "similarity_of"]

#: Points evaluated at once.
CHUNK = 4096


@dataclass
class Moments:
    """First and second moments of two sets of units over the same points, in float64.

    Attributes:
        points: Number of points, or the sum of their weights.
        mean_a: (units,)
        mean_b: (units,)
        aa: (units,), centred sum of squares.
        bb: (units,)
        ab: (units, units), centred sum of products.
    """

    points: float
    mean_a: Tensor
    mean_b: Tensor
    aa: Tensor
    bb: Tensor
    ab: Tensor

    @classmethod
    def of(
        cls,
        a: Float[Tensor, "points units"],
        b: Float[Tensor, "points units"],
        weights: Float[Tensor, " points"],
    ) -> Moments:
        """Moments of one chunk."""
        weights, a, b = weights.double(), a.double(), b.double()
        total = float(weights.sum())
        shares = weights / max(total, 1e-12)
        mean_a, mean_b = shares @ a, shares @ b
        a, b = a - mean_a, b - mean_b
        weighted = weights[:, None] * a
        return cls(
            total, mean_a, mean_b, (weighted * a).sum(0), weights @ b.square(), weighted.mT @ b
        )

    def joined(self, new: Moments) -> Moments:
        """Moments of both sets of points (Chan et al. 1983, pairwise update)."""
        points = self.points + new.points
        share = new.points / max(points, 1e-12)
        shift_a, shift_b = new.mean_a - self.mean_a, new.mean_b - self.mean_b
        scale = self.points * share
        return Moments(
            points,
            self.mean_a + share * shift_a,
            self.mean_b + share * shift_b,
            self.aa + new.aa + scale * shift_a.square(),
            self.bb + new.bb + scale * shift_b.square(),
            self.ab + new.ab + scale * torch.outer(shift_a, shift_b),
        )


def match_activations(
    symmetry: Symmetry,
    reference: nn.Module,
    other: nn.Module,
    inputs: Sequence[Tensor | None],
    *,
    weights: Float[Tensor, " points"] | None = None,
    similarity: Literal["correlation", "inner_product"] = "correlation",
) -> Permutations:
    """Permutations of the other parent that best align its units' activations.

    Groups are independent of each other: one pass over the points, one assignment each.

    Args:
        symmetry: Groups of the architecture.
        reference: Network whose order is kept.
        other: Network to be permuted.
        inputs: Arguments of the traced forward pass, each (points, ...) or None.
        weights: How much each point counts, >= 0; all alike if left out.
        similarity: ``correlation`` is free of scale, ``inner_product`` minimises the squared
            distance of the activations.

    Reference:
        Li et al. 2015, arXiv 1511.07543; Ainsworth et al. 2022, arXiv 2209.04836, section 3.1.
    """
    return {
        name: best_permutation(similarity_of(moments, similarity))
        for name, moments in cross_moments(symmetry, reference, other, inputs, weights).items()
    }


@torch.no_grad()
def cross_moments(
    symmetry: Symmetry,
    reference: nn.Module,
    other: nn.Module,
    inputs: Sequence[Tensor | None],
    weights: Float[Tensor, " points"] | None = None,
) -> dict[str, Moments]:
    """Moments of each group's activations of two networks over the same, weighted points."""
    if weights is None:
        weights = torch.ones_like(next(value for value in inputs if value is not None)[..., 0])
    groups = {group.readout: group.name for group in symmetry.groups}
    total: dict[str, Moments] = {}
    for *chunk, counted in chunks([*inputs, weights]):
        assert counted is not None
        values: list[dict[str, Tensor]] = [{}, {}]
        for network, seen in zip((reference, other), values, strict=True):

            def keep(name: str, value: Tensor, seen: dict[str, Tensor] = seen) -> None:
                seen[name] = value.clone()

            record(symmetry, network, chunk, set(groups), keep)
        for readout, name in groups.items():
            moments = Moments.of(values[0][readout], values[1][readout], counted)
            total[name] = total[name].joined(moments) if name in total else moments
    return total


def similarity_of(moments: Moments, kind: str) -> Float[Tensor, "units units"]:
    """Similarity matrix from moments; a unit that never changes correlates with nothing."""
    if kind == "inner_product":
        product = moments.ab + moments.points * torch.outer(moments.mean_a, moments.mean_b)
        return product / max(moments.points, 1e-12)
    scale = torch.outer(moments.aa.sqrt(), moments.bb.sqrt())
    alive = torch.outer(moments.aa > 0, moments.bb > 0)
    return torch.where(alive, moments.ab / scale.clamp_min(torch.finfo(scale.dtype).tiny), 0.0)


def chunks(inputs: Sequence[Tensor | None]) -> Iterator[list[Tensor | None]]:
    """Cut all inputs along the points into chunks that stay in cache."""
    points = next(len(value) for value in inputs if value is not None)
    for start in range(0, points, CHUNK):
        yield [None if value is None else value[start : start + CHUNK] for value in inputs]
