"""Frank–Wolfe over relaxed placements: all groups move together, so that they can agree.

Coordinate descent decides one group while its neighbours are still wrong. The relaxation lets every
group be undecided (any mixture of placements), and follows the gradient of the agreement: the
direction is the best placement for the gradient, the step is exact, for along a line the agreement
is a parabola. The end is projected to the nearest placement, which the caller polishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..typing import Tensor
from .agreement import Agreement
from .placement import Freedom, Gains, Placement, best_placement

__all__ = ["relax"]

#: The duality gap, relative to the bound, at which iterations end.
TOLERANCE = 1e-7


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


def relax(agreement: Agreement, iterations: int, *, signs: bool = True) -> dict[str, Placement]:
    """Maximise the agreement over mixtures of placements; project the end to placements.

    Args:
        agreement: The objective.
        iterations: At most so many steps.
        signs: Whether signs may change. With noise, orders are found more surely without; signs
            that are to be changed all the same are found by the descent that follows.

    Reference:
        Crisostomi et al. 2024, C²M³, arXiv 2405.17897; Frank and Wolfe 1956. Departures: signs and
        orthogonal maps; the exact step from the values at both ends of the line.
    """
    mixtures = uniform(agreement)
    freedoms: dict[str, Freedom] = {
        name: "order" if freedom in ("sign", "turn") and not signs else freedom
        for name, freedom in agreement.freedoms.items()
    }
    value = value_of(agreement, mixtures)
    for _ in range(iterations):
        gains = {name: gains_of(agreement, name, mixtures) for name in mixtures}
        corners = {name: best_placement(gains[name], freedoms[name]) for name in mixtures}
        ends = {name: mixture_of(agreement, name, corner) for name, corner in corners.items()}
        slope = sum(
            float(((ends[name].before - mixture.before) * gains[name].before).sum())
            + float(((ends[name].after - mixture.after) * gains[name].after).sum())
            + ends[name].bias - mixture.bias
            for name, mixture in mixtures.items()
        )  # fmt: skip
        if slope <= TOLERANCE * agreement.bound:
            break
        at_end = agreement.value(corners)
        curvature = at_end - value - slope
        step = 1.0 if curvature >= 0 else min(1.0, -slope / (2 * curvature))
        if step == 1.0:
            mixtures, value = ends, at_end
        else:
            mixtures = {n: mixture.towards(ends[n], step) for n, mixture in mixtures.items()}
            value += step * slope + step * step * curvature
    return {name: project(mixtures[name], freedoms[name]) for name in mixtures}


def uniform(agreement: Agreement) -> dict[str, Mixture]:
    """The mean of all orders with no sign changed; of all maps for groups without activation."""
    out = {}
    for group in agreement.groups:
        matrix = torch.full_like(agreement.linear[group.name].before, 1 / group.size)
        if agreement.freedoms[group.name] == "linear":
            matrix = torch.zeros_like(matrix)
        out[group.name] = Mixture(matrix, matrix)
    return out


def gains_of(agreement: Agreement, name: str, mixtures: Mapping[str, Mixture]) -> Gains:
    """Gradient of the agreement by one group's mixture."""
    own = agreement.linear[name]
    gains = {False: own.before, True: own.after}
    for block in agreement.blocks:
        if block.rows.group == name:
            other = matrix_of(mixtures[block.columns.group or ""], block.columns.reads)
            gains[block.rows.reads] = gains[block.rows.reads] + block.a @ (other @ block.b.mT)
        if block.columns.group == name:
            other = matrix_of(mixtures[block.rows.group or ""], block.rows.reads)
            gain = block.a.mT @ (other @ block.b)
            gains[block.columns.reads] = gains[block.columns.reads] + gain
    return Gains(gains[False], gains[True], own.bias)


def value_of(agreement: Agreement, mixtures: Mapping[str, Mixture]) -> float:
    """Agreement of mixtures."""
    total = 0.0
    for name, own in agreement.linear.items():
        mixture = mixtures[name]
        total += float((own.before * mixture.before).sum() + (own.after * mixture.after).sum())
        total += mixture.bias
    for block in agreement.blocks:
        rows = matrix_of(mixtures[block.rows.group or ""], block.rows.reads)
        columns = matrix_of(mixtures[block.columns.group or ""], block.columns.reads)
        total += float((block.a * (rows @ block.b @ columns.mT)).sum())
    return total


def matrix_of(mixture: Mixture, reads: bool) -> Tensor:
    """The matrix for what reads the units, or for what makes them."""
    return mixture.after if reads else mixture.before


def mixture_of(agreement: Agreement, name: str, placement: Placement) -> Mixture:
    """A placement as a mixture of one."""
    before = placement.dense(reads=False)
    same = torch.equal(placement.before, placement.after)
    bias = 0.0
    if agreement.linear[name].bias is not None:
        zero = torch.zeros_like(before)
        bias = Gains(zero, zero, agreement.linear[name].bias).of(placement)
    return Mixture(before, before if same else placement.dense(reads=True), bias)


def project(mixture: Mixture, freedom: Freedom) -> Placement:
    """The placement nearest to a mixture."""
    bias = None
    if freedom == "turn":
        nothing = torch.zeros_like(mixture.before)
        bias = {(r, c): nothing for r in (1, -1) for c in (1, -1)}
    return best_placement(Gains(mixture.before, mixture.after, bias), freedom)
