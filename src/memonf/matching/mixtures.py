"""Mixtures of placements: the variables of relaxed matching.

A mixture of one group is the mean matrix of several placements: doubly stochastic for orders, each
entry a share of a unit at a slot. The agreement of mixtures is the same sum as that of placements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..typing import Tensor
from .agreement import Agreement
from .placement import Freedom, Gains, UnitPlacement, best_placement

__all__ = ["Mixture", "gains_of", "mixture_of", "project", "uniform", "value_of"]


@dataclass
class Mixture:
    """A mixture of placements of one group: their mean matrices, and the mean gain of biases."""

    before: Tensor
    after: Tensor
    bias: float = 0.0

    def towards(self, corner: Mixture, step: float) -> Mixture:
        """The mixture with a share `step` of another."""
        return Mixture(
            torch.lerp(self.before, corner.before, step),
            torch.lerp(self.after, corner.after, step),
            self.bias + step * (corner.bias - self.bias),
        )


def uniform(agreement: Agreement) -> dict[str, Mixture]:
    """The mean of all orders without sign changes; of all maps for groups without activation."""
    out = {}
    for group in agreement.groups:
        matrix = torch.full_like(agreement.linear[group.name].before, 1 / group.size)
        if agreement.freedoms[group.name] == "linear":
            matrix = torch.zeros_like(matrix)
        out[group.name] = Mixture(matrix, matrix)
    return out


def gains_of(agreement: Agreement, name: str, mixtures: Mapping[str, Mixture]) -> Gains:
    """Gradient of the agreement with respect to one group's mixture."""
    linear = agreement.linear[name]
    gains = {False: linear.before, True: linear.after}
    for block in agreement.blocks:
        if block.rows.group == name:
            other = matrix_of(mixtures[block.columns.group or ""], block.columns.reads)
            gains[block.rows.reads] = gains[block.rows.reads] + block.a @ (other @ block.b.mT)
        if block.columns.group == name:
            other = matrix_of(mixtures[block.rows.group or ""], block.rows.reads)
            gain = block.a.mT @ (other @ block.b)
            gains[block.columns.reads] = gains[block.columns.reads] + gain
    return Gains(gains[False], gains[True], linear.bias)


def value_of(agreement: Agreement, mixtures: Mapping[str, Mixture]) -> float:
    """Agreement of mixtures."""
    total = 0.0
    for name, linear in agreement.linear.items():
        mixture = mixtures[name]
        total += float((linear.before * mixture.before).sum())
        total += float((linear.after * mixture.after).sum()) + mixture.bias
    for block in agreement.blocks:
        rows = matrix_of(mixtures[block.rows.group or ""], block.rows.reads)
        columns = matrix_of(mixtures[block.columns.group or ""], block.columns.reads)
        total += float((block.a * (rows @ block.b @ columns.mT)).sum())
    return total


def matrix_of(mixture: Mixture, reads: bool) -> Tensor:
    """The matrix for the params that read the units, or for those that produce them."""
    return mixture.after if reads else mixture.before


def mixture_of(agreement: Agreement, name: str, placement: UnitPlacement) -> Mixture:
    """A single placement as a mixture."""
    before = placement.dense(reads=False)
    same = torch.equal(placement.before, placement.after)
    bias = 0.0
    if agreement.linear[name].bias is not None:
        zero = torch.zeros_like(before)
        bias = Gains(zero, zero, agreement.linear[name].bias).of(placement)
    return Mixture(before, before if same else placement.dense(reads=True), bias)


def project(mixture: Mixture, freedom: Freedom) -> UnitPlacement:
    """The placement nearest to a mixture."""
    bias = None
    if freedom == "turn":
        zeros = torch.zeros_like(mixture.before)
        bias = {(r, c): zeros for r in (1, -1) for c in (1, -1)}
    return best_placement(Gains(mixture.before, mixture.after, bias), freedom)
