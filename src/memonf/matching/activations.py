"""Activations of two parents' units at the same points, and how similar they are.

Symbols: a_i activation of the reference's unit i, b_j of the other parent's unit j, over points.
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
    """Activations of each group's units at the points, as the next layers read them.

    Example:
        >>> field = build_field("tiny_nerf", None, box).eval()
        >>> readouts(find_symmetry(field), field, [torch.rand(10, 3), None])["layers.0"].shape
        torch.Size([10, 128])

    Args:
        symmetry: Groups of the architecture.
        network: The network to run.
        inputs: Arguments of the traced forward pass, each (points, ...) or None.
    """
    names = {group.readout for group in symmetry.groups}
    parts: dict[str, list[Tensor]] = {group.name: [] for group in symmetry.groups}
    for chunk in chunks(inputs):
        recorded: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor, recorded: dict[str, Tensor] = recorded) -> None:
            recorded[name] = value.clone()

        record(symmetry, network, chunk, names, keep)
        for group in symmetry.groups:
            stop = group.readout_start + group.size
            parts[group.name].append(recorded[group.readout][..., group.readout_start : stop])
    return {name: torch.cat(values) for name, values in parts.items()}


def cross_moments(
    symmetry: Symmetry,
    reference: nn.Module,
    other: nn.Module,
    inputs: Sequence[Tensor | None],
    weights: Float[Tensor, " points"] | None = None,
) -> dict[str, Moments]:
    """Moments of each group's activations of two networks over the same, weighted points."""
    reference_units, other_units = (
        readouts(symmetry, network, inputs) for network in (reference, other)
    )
    return {
        name: moments_between(activations, other_units[name], weights)
        for name, activations in reference_units.items()
    }


def moments_between(
    a: Float[Tensor, "points units"],
    b: Float[Tensor, "points units"],
    weights: Float[Tensor, " points"] | None,
) -> Moments:
    """Moments of two sets of units over the same, weighted points, chunk by chunk."""
    if weights is None:
        weights = torch.ones_like(a[:, 0])
    total: Moments | None = None
    for chunk_a, chunk_b, chunk_weights in chunks([a, b, weights]):
        assert chunk_a is not None
        assert chunk_b is not None
        assert chunk_weights is not None
        moments = Moments.of(chunk_a, chunk_b, chunk_weights)
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
    """Similarity of two networks' activations at the same points, for each group of units.

    Example:
        >>> symmetry = find_symmetry(front)
        >>> alike = similarities(symmetry, front, rear, [torch.rand(100, 3), None])
        >>> alike["layers.0"].shape
        torch.Size([8, 8])

    Args:
        symmetry: Groups of the architecture.
        reference: Network whose unit order is kept.
        other: Network to be matched to it.
        inputs: Arguments of the traced forward pass, each (points, ...) or None.
        weights: (points,), weight of each point, >= 0; equal weights if left out.
        kind: ``correlation`` does not depend on the units' scale; ``inner_product`` minimises the
            squared distance of the activations. Both are scaled to at most 1.

    Reference:
        Li et al. 2015, arXiv 1511.07543; Ainsworth et al. 2022, arXiv 2209.04836, section 3.1.
    """
    moments_of = cross_moments(symmetry, reference, other, inputs, weights)
    return {name: similarity_of(moments, kind) for name, moments in moments_of.items()}


def similarity_of(moments: Moments, kind: str) -> Float[Tensor, "units units"]:
    """Similarity matrix from moments; the correlations of a constant unit are 0."""
    if kind == "inner_product":
        product = moments.ab + moments.points * torch.outer(moments.mean_a, moments.mean_b)
        return product / product.abs().max().clamp_min(1e-300)
    scale = torch.outer(moments.aa.sqrt(), moments.bb.sqrt())
    # Rounding of the mean alone gives a constant unit a relative variance of about this size.
    noise = 1e-18
    a_varies = moments.aa > noise * (moments.aa + moments.points * moments.mean_a.square())
    b_varies = moments.bb > noise * (moments.bb + moments.points * moments.mean_b.square())
    alive = torch.outer(a_varies, b_varies)
    return torch.where(alive, moments.ab / scale.clamp_min(torch.finfo(scale.dtype).tiny), 0.0)


def chunks(inputs: Sequence[Tensor | None]) -> Iterator[list[Tensor | None]]:
    """Split all inputs along the points into chunks that fit in the cache."""
    points = next(len(value) for value in inputs if value is not None)
    for start in range(0, points, CHUNK):
        yield [None if value is None else value[start : start + CHUNK] for value in inputs]
