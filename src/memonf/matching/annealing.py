"""Deterministic annealing of soft permutations: from uniform to hard as the temperature falls.

Each group's mixture is the Sinkhorn scaling of exp(β gains), with the inverse temperature β rising.
Frank-Wolfe moves towards hard permutations from the first step on; here all groups stay soft until
the gains from the others are clear, which finds better agreement on noisy and on trained networks
(docs/research/matching.md).

Symbols, for one group: G gains, p prices of the units (dual variables of the assignment); the
mixture is exp(β (G + p)) with rows, then columns, scaled to sum 1. Prices are kept from one
temperature to the next, so that two sweeps replace the fifteen needed from scratch. Only the final
permutation matters, so all is computed in float32 (docs/research/speed-merging.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..typing import Float, Tensor
from .agreement import Agreement
from .placement import Freedom, Gains, UnitPlacement, best_placement

__all__ = ["anneal"]

#: Number of temperatures, falling geometrically.
TEMPERATURES = 30
#: β at the start and at the end, relative to the most that one unit can gain on average.
FIRST_BETA, LAST_BETA = 8.0, 100.0
#: Sinkhorn sweeps over rows and columns at each temperature.
SINKHORN_SWEEPS = 2
#: Temperatures between updates of the maps of groups without activation, each of which takes a
#: singular value decomposition.
MAPS_EVERY = 5
#: Logits are clamped here: float32 is slow near its smallest numbers.
LEAST_LOGIT = -60.0
#: Least sum of a row or column, which can underflow at a low temperature.
TINY = 1e-30


@dataclass
class Soft:
    """Soft permutation of one group.

    Attributes:
        constant: (units, units), gains that do not depend on other groups.
        matrix: (units, units), its mixture.
        prices: (units,), of the other parent's units.
        neighbours: (group, left, right): `left` X `right` is added to the gains, where X is the
            mixture of that group.
    """

    constant: Float[Tensor, "units units"]
    matrix: Float[Tensor, "units units"]
    prices: Float[Tensor, " units"]
    neighbours: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)


def anneal(agreement: Agreement) -> dict[str, UnitPlacement]:
    """Maximise the agreement over mixtures while the temperature falls; project to placements.

    Signs are not changed here; the descent that follows may change them. Groups without activation
    take the best map for the mixtures of the others.

    Args:
        agreement: The objective.

    Reference:
        Gold and Rangarajan 1996, A graduated assignment algorithm for graph matching, PAMI 18(4);
        Sinkhorn 1964.
    """
    soft = uniform_start(agreement)
    fall = LAST_BETA / FIRST_BETA
    for step in range(TEMPERATURES):
        beta = FIRST_BETA * fall ** (step / (TEMPERATURES - 1))
        for name, group in soft.items():
            if agreement.freedoms[name] != "linear":
                group.matrix = softened(group, gains_of(group, soft), beta)
            elif step % MAPS_EVERY == 0 or step == TEMPERATURES - 1:
                group.matrix = nearest(gains_of(group, soft), "linear").dense(reads=False).float()
    return {
        name: nearest(group.matrix, "linear" if agreement.freedoms[name] == "linear" else "order")
        for name, group in soft.items()
    }


def uniform_start(agreement: Agreement) -> dict[str, Soft]:
    """All groups at the mean of all orders; gains relative to the most that one unit can gain."""
    most = max(agreement.bound, 1e-300) / sum(group.size for group in agreement.groups)
    soft = {}
    for group in agreement.groups:
        linear = agreement.linear[group.name]
        total = linear.before + linear.after
        if linear.bias is not None:
            total = total + linear.bias[1, 1]
        level = 0.0 if agreement.freedoms[group.name] == "linear" else 1 / group.size
        narrow = (total / most).float()
        soft[group.name] = Soft(narrow, torch.full_like(narrow, level), torch.zeros_like(narrow[0]))
    for block in agreement.blocks:
        rows, columns = block.rows.group or "", block.columns.group or ""
        a, b = (block.a / most).float(), block.b.float()
        soft[rows].neighbours.append((columns, a, b.mT.contiguous()))
        soft[columns].neighbours.append((rows, a.mT.contiguous(), b))
    return soft


def gains_of(group: Soft, soft: dict[str, Soft]) -> Float[Tensor, "units units"]:
    """Gradient of the agreement with respect to one group's mixture."""
    gains = group.constant
    for other, left, right in group.neighbours:
        gains = torch.addmm(gains, left, soft[other].matrix @ right)
    return gains


def softened(group: Soft, gains: Tensor, beta: float) -> Float[Tensor, "units units"]:
    """The mixture of one group at one temperature; updates its prices."""
    logits = (gains + group.prices).mul_(beta)
    kernel = logits.sub_(logits.amax(1, keepdim=True)).clamp_(min=LEAST_LOGIT).exp_()
    columns = torch.ones_like(group.prices)
    for _ in range(SINKHORN_SWEEPS):
        rows = (kernel @ columns).clamp_(min=TINY).reciprocal_()
        columns = (kernel.mT @ rows).clamp_(min=TINY).reciprocal_()
    group.prices = group.prices + columns.log() / beta
    return kernel.mul_(rows[:, None]).mul_(columns)


def nearest(matrix: Float[Tensor, "units units"], freedom: Freedom) -> UnitPlacement:
    """The placement nearest to a matrix."""
    wide = matrix.double()
    return best_placement(Gains(wide, torch.zeros_like(wide)), freedom)
