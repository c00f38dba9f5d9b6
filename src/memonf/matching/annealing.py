"""Annealing: orders that are undecided at first and decide themselves as the temperature falls.

Each group's mixture is the softest that its gains allow: Sinkhorn scaling of exp(β gains), with β
from small to large. Frank-Wolfe walks to corners from the first step on; here all groups stay
undecided until the others give them reason, which finds better agreement on noisy and on trained
networks (docs/research/matching.md).

Symbols, for one group: G gains, p prices of the units (dual variables of the assignment); the
mixture is exp(β (G + p)) with rows, then columns, scaled to sum 1. Prices are kept from one
temperature to the next, so that two sweeps bring about what took fifteen from scratch; only the end
matters, so that all of it is done in float32 (docs/research/speed-merging.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..typing import Float, Tensor
from .agreement import Agreement
from .placement import Freedom, Gains, Placement, best_placement

__all__ = ["anneal"]

#: Temperatures, falling geometrically.
TEMPERATURES = 30
#: β at the start and at the end, relative to the most that one unit can gain on average.
FIRST_BETA, LAST_BETA = 8.0, 100.0
#: Sinkhorn sweeps over rows and columns at each temperature.
SINKHORN_SWEEPS = 2
#: Maps of groups without activation, each a singular value decomposition, are renewed at every so
#: many temperatures.
MAPS_EVERY = 5
#: A share below exp of this is held there: float32 is slow near its smallest numbers.
LEAST_LOGIT = -60.0
#: Least sum of a row or column: a unit that suits no slot at a low temperature has none left.
TINY = 1e-30


@dataclass
class Soft:
    """One group while it is undecided.

    Attributes:
        own: (units, units), gains whatever the other groups do.
        matrix: (units, units), its mixture.
        prices: (units,), of the other's units.
        neighbours: Other group X, and matrices of which `left` X `right` adds to the gains.
    """

    own: Float[Tensor, "units units"]
    matrix: Float[Tensor, "units units"]
    prices: Float[Tensor, " units"]
    neighbours: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)


def anneal(agreement: Agreement) -> dict[str, Placement]:
    """Raise the agreement over mixtures while the temperature falls; project to placements.

    Signs are left as they are, for the descent that follows; groups without activation take the
    best map for the mixtures of the others.

    Args:
        agreement: The objective.

    Reference:
        Gold and Rangarajan 1996, A graduated assignment algorithm for graph matching, PAMI 18(4);
        Sinkhorn 1964.
    """
    soft = undecided(agreement)
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


def undecided(agreement: Agreement) -> dict[str, Soft]:
    """All groups at the mean of all orders, gains relative to the most that one unit can gain."""
    most = max(agreement.bound, 1e-300) / sum(group.size for group in agreement.groups)
    soft = {}
    for group in agreement.groups:
        own = agreement.linear[group.name]
        total = own.before + own.after
        if own.bias is not None:
            total = total + own.bias[1, 1]
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
    """Gradient of the agreement by one group's mixture."""
    gains = group.own
    for other, left, right in group.neighbours:
        gains = torch.addmm(gains, left, soft[other].matrix @ right)
    return gains


def softened(group: Soft, gains: Tensor, beta: float) -> Float[Tensor, "units units"]:
    """The mixture of one group at one temperature; its prices are brought up to date."""
    logits = (gains + group.prices).mul_(beta)
    kernel = logits.sub_(logits.amax(1, keepdim=True)).clamp_(min=LEAST_LOGIT).exp_()
    columns = torch.ones_like(group.prices)
    for _ in range(SINKHORN_SWEEPS):
        rows = (kernel @ columns).clamp_(min=TINY).reciprocal_()
        columns = (kernel.mT @ rows).clamp_(min=TINY).reciprocal_()
    group.prices = group.prices + columns.log() / beta
    return kernel.mul_(rows[:, None]).mul_(columns)


def nearest(matrix: Float[Tensor, "units units"], freedom: Freedom) -> Placement:
    """The placement that has most of a matrix."""
    wide = matrix.double()
    return best_placement(Gains(wide, torch.zeros_like(wide)), freedom)
