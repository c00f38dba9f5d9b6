"""Mean and standard deviation of units over weighted points, and batch norm's running ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..fields import Field
from ..symmetry import Symmetry, record
from ..typing import Float, Tensor
from .positions import Positions

__all__ = [
    "CHUNK",
    "Statistics",
    "has_batch_norm",
    "overall_trust",
    "reestimate_running_statistics",
    "run_through",
    "statistics_of",
    "weighted_moments",
]

#: Traced value -> mean and standard deviation of each unit.
Statistics: TypeAlias = "dict[str, tuple[Float[Tensor, ' units'], Float[Tensor, ' units']]]"

#: Points whose values stay in a core's cache, which is several times as fast as all at once.
CHUNK = 1024


def has_batch_norm(field: Field) -> bool:
    """Whether a field has a layer with running statistics."""
    return any(isinstance(module, _BatchNorm) for module in field.modules())


def run_through(
    field: Field, positions: Positions, hooks: Iterable[torch.utils.hooks.RemovableHandle]
) -> tuple[Tensor, Tensor]:
    """Evaluate a field's network with hooks that are removed afterwards; see `Field.raw`."""
    try:
        where, towards = positions.inputs
        assert where is not None
        return field.raw(where, towards)
    finally:
        for hook in hooks:
            hook.remove()


def overall_trust(shares: Sequence[float], positions: Positions) -> Float[Tensor, " points"]:
    """Trust in the merge at each point, Σ cᵢ tᵢ."""
    return positions.trust.new_tensor(shares) @ positions.trust


def statistics_of(
    symmetry: Symmetry,
    network: Field,
    inputs: Sequence[Tensor | None],
    names: set[str],
    weights: Float[Tensor, " points"],
) -> Statistics:
    """Weighted mean and standard deviation of traced values over the points, in float64."""
    statistics: Statistics = {}

    def measure(name: str, value: Tensor) -> None:
        statistics[name] = weighted_moments(value, weights)

    record(symmetry, network, inputs, names, measure)
    return statistics


def weighted_moments(
    value: Float[Tensor, "points units"], weights: Float[Tensor, " points"]
) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"]]:
    """Weighted mean and standard deviation over the points, in float64, chunk by chunk."""
    shares = weights.double() / weights.double().sum().clamp_min(1e-12)
    mean = variance = shares.new_zeros(value.shape[1])
    for share, part in zip(shares.split(CHUNK), value.split(CHUNK), strict=True):
        mean = mean + share @ part.double()
    for share, part in zip(shares.split(CHUNK), value.split(CHUNK), strict=True):
        variance = variance + share @ (part.double() - mean).square()
    return mean, variance.sqrt()


def reestimate_running_statistics(
    symmetry: Symmetry, merged: Field, inputs: Sequence[Tensor | None]
) -> None:
    """Replace all running means and variances by those over the positions, cumulatively."""
    norms = [module for module in merged.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    merged.train()
    record(symmetry, merged, inputs, set(), lambda name, value: None)
    merged.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
