"""What units do at the same points in space: how alike two parents' units act.

Symbols: a_i activation of the reference's unit i, b_j of the other's unit j, over points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import nn

from ..symmetry import Symmetry, record
from ..typing import Float, Tensor

__all__ = [
    "Moments",
    "Similarity",
    "cross_moments",
    "moments_between",
    "readouts",
    "similarities",
    "similarity_of",
]

Similarity: TypeAlias = Literal["correlation", "inner_product"]

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


@torch.no_grad()
def readouts(
    symmetry: Symmetry, network: nn.Module, inputs: Sequence[Tensor | None]
) -> dict[str, Float[Tensor, "points units"]]:
    """What the units of each group do at the points, as the next layers read them."""
    names = {group.readout for group in symmetry.groups}
    parts: dict[str, list[Tensor]] = {group.name: [] for group in symmetry.groups}
    for chunk in chunks(inputs):
        seen: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor, seen: dict[str, Tensor] = seen) -> None:
            seen[name] = value.clone()

        record(symmetry, network, chunk, names, keep)
        for group in symmetry.groups:
            stop = group.readout_start + group.size
            parts[group.name].append(seen[group.readout][..., group.readout_start : stop])
    return {name: torch.cat(values) for name, values in parts.items()}


def cross_moments(
    symmetry: Symmetry,
    reference: nn.Module,
    other: nn.Module,
    inputs: Sequence[Tensor | None],
    weights: Float[Tensor, " points"] | None = None,
) -> dict[str, Moments]:
    """Moments of each group's activations of two networks over the same, weighted points."""
    ours, theirs = (readouts(symmetry, network, inputs) for network in (reference, other))
    return {name: moments_between(ours[name], theirs[name], weights) for name in ours}


def moments_between(
    a: Float[Tensor, "points units"],
    b: Float[Tensor, "points units"],
    weights: Float[Tensor, " points"] | None,
) -> Moments:
    """Moments of two sets of units over the same, weighted points, chunk by chunk."""
    if weights is None:
        weights = torch.ones_like(a[:, 0])
    total: Moments | None = None
    for ours, theirs, counted in chunks([a, b, weights]):
        assert ours is not None
        assert theirs is not None
        assert counted is not None
        moments = Moments.of(ours, theirs, counted)
        total = moments if total is None else total.joined(moments)
    assert total is not None
    return total


def similarities(
    symmetry: Symmetry,
    reference: nn.Module,
    other: nn.Module,
    inputs: Sequence[Tensor | None],
    *,
    weights: Float[Tensor, " points"] | None = None,
    kind: Similarity = "correlation",
) -> dict[str, Float[Tensor, "units units"]]:
    """How alike two networks' units act at the same points, for each group.

    Args:
        symmetry: Groups of the architecture.
        reference: Network whose order is kept.
        other: Network to be matched to it.
        inputs: Arguments of the traced forward pass, each (points, ...) or None.
        weights: How much each point counts, >= 0; all alike if left out.
        kind: ``correlation`` is free of scale, ``inner_product`` minimises the squared distance of
            the activations; both are scaled to at most 1.

    Reference:
        Li et al. 2015, arXiv 1511.07543; Ainsworth et al. 2022, arXiv 2209.04836, section 3.1.
    """
    moments = cross_moments(symmetry, reference, other, inputs, weights)
    return {name: similarity_of(found, kind) for name, found in moments.items()}


def similarity_of(moments: Moments, kind: str) -> Float[Tensor, "units units"]:
    """Similarity matrix from moments; a unit that never changes correlates with nothing."""
    if kind == "inner_product":
        product = moments.ab + moments.points * torch.outer(moments.mean_a, moments.mean_b)
        return product / product.abs().max().clamp_min(1e-300)
    scale = torch.outer(moments.aa.sqrt(), moments.bb.sqrt())
    # Rounding of the mean alone makes a unit that never changes vary by about this much.
    noise = 1e-18
    a_varies = moments.aa > noise * (moments.aa + moments.points * moments.mean_a.square())
    b_varies = moments.bb > noise * (moments.bb + moments.points * moments.mean_b.square())
    alive = torch.outer(a_varies, b_varies)
    return torch.where(alive, moments.ab / scale.clamp_min(torch.finfo(scale.dtype).tiny), 0.0)


def chunks(inputs: Sequence[Tensor | None]) -> Iterator[list[Tensor | None]]:
    """Cut all inputs along the points into chunks that stay in cache."""
    points = next(len(value) for value in inputs if value is not None)
    for start in range(0, points, CHUNK):
        yield [None if value is None else value[start : start + CHUNK] for value in inputs]
