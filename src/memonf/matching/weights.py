"""Weight matching: align hidden units by their params alone.

Symbols: A the reference, B the other parent, P_g the permutation of group g. The objective is the
inner product of A's params with B's permuted params.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..symmetry import Group, Params, Permutations, Symmetry, permute_tensor
from ..typing import Float, Tensor
from .assignment import best_permutation

__all__ = ["WeightMatch", "group_similarity", "match_params", "objective"]

#: Params that are statistics rather than params do not count in the inner product.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
#: A step must raise the objective by this share of its scale to be taken.
TOLERANCE = 1e-12


@dataclass(frozen=True)
class WeightMatch:
    """Outcome of `match_params`.

    Attributes:
        perms: Permutation of each group of the other parent.
        objective: Inner product reached.
        initial: Inner product of the unpermuted params.
        sweeps: Passes over all groups until nothing changed.
    """

    perms: Permutations
    objective: float
    initial: float
    sweeps: int


def match_params(
    symmetry: Symmetry,
    reference: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    *,
    seed: int = 0,
    start: Permutations | None = None,
    most_sweeps: int = 200,
) -> WeightMatch:
    """Coordinate descent over the groups: solve one assignment with the others held.

    Every accepted step raises the objective, so it ends, in a local optimum.

    Args:
        symmetry: Groups of the architecture.
        reference: Params of the parent whose order is kept.
        other: Params of the parent to be permuted.
        seed: Order in which groups are visited.
        start: Permutations to start from; None for the identity.
        most_sweeps: Safety bound.

    Reference:
        Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836, algorithm 1. Departure: groups are
        slices of axes, so skips, biases and norm params count as they should.
    """
    ours = counted_params(symmetry, reference)
    theirs = counted_params(symmetry, other)
    perms = dict(start) if start is not None else symmetry.identity(device_of(ours))
    generator = torch.Generator().manual_seed(seed)
    initial = objective(symmetry, ours, theirs, symmetry.identity(device_of(ours)))
    sweeps = 0
    for sweeps in range(1, most_sweeps + 1):  # noqa: B007 (the last value is reported)
        improved = False
        for index in torch.randperm(len(symmetry.groups), generator=generator).tolist():
            group = symmetry.groups[index]
            similarity = group_similarity(group, symmetry, ours, theirs, perms)
            candidate = best_permutation(similarity)
            slots = torch.arange(group.size, device=similarity.device)
            before = float(similarity[slots, perms[group.name]].sum())
            after = float(similarity[slots, candidate].sum())
            if after > before + TOLERANCE * float(similarity.abs().max()) * group.size:
                perms[group.name] = candidate
                improved = True
        if not improved:
            break
    return WeightMatch(perms, objective(symmetry, ours, theirs, perms), initial, sweeps)


def group_similarity(
    group: Group,
    symmetry: Symmetry,
    reference: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    perms: Permutations,
) -> Float[Tensor, "units units"]:
    """Gain of placing the other's unit j at slot i, all other groups held.

    The sum over every axis slice s of the group of unfold_s(A) · unfold_s(B)ᵀ, with B permuted by
    the *other* groups.
    """
    total: Tensor | None = None
    for part in group.slices:
        if part.tensor.endswith(STATISTICS):
            continue
        ours = slice_rows(reference[part.tensor], part.axis, part.start, part.stop)
        permuted = other[part.tensor]
        for other_group in symmetry.groups:
            if other_group.name != group.name:
                permuted = permute_tensor(permuted, part.tensor, other_group, perms)
        theirs = slice_rows(permuted, part.axis, part.start, part.stop)
        term = ours @ theirs.mT
        total = term if total is None else total + term
    assert total is not None
    return total


def objective(
    symmetry: Symmetry,
    reference: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    perms: Permutations,
) -> float:
    """Σ over the params that carry hidden units of ⟨A, permuted B⟩, in float64."""
    total = 0.0
    for name, tensor in counted_params(symmetry, other).items():
        permuted = tensor
        for group in symmetry.groups:
            permuted = permute_tensor(permuted, name, group, perms)
        total += float((reference[name].double() * permuted).sum())
    return total


def counted_params(symmetry: Symmetry, params: Mapping[str, Tensor]) -> Params:
    """The params that carry hidden units, without running statistics, in float64."""
    names = dict.fromkeys(part.tensor for group in symmetry.groups for part in group.slices)
    return {name: params[name].double() for name in names if not name.endswith(STATISTICS)}


def slice_rows(tensor: Tensor, axis: int, start: int, stop: int) -> Float[Tensor, "units rest"]:
    """Entries of one axis slice as rows, everything else as columns."""
    return (
        tensor.movedim(axis, 0)[start:stop].flatten(1)
        if tensor.ndim > 1
        else (tensor[start:stop, None])
    )


def device_of(params: Mapping[str, Tensor]) -> torch.device:
    """Device of the params."""
    return next(iter(params.values())).device
