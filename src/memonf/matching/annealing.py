"""Annealing: orders that are undecided at first and decide themselves as the temperature falls.

Each group's mixture is the softest that its gains allow: Sinkhorn scaling of exp(β gains), with β
from small to large. Frank-Wolfe walks to corners from the first step on; here all groups stay
undecided until the others give them reason, which finds better agreement on noisy and on trained
networks (docs/research/matching.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..typing import Float, Tensor
from .agreement import Agreement
from .mixtures import Mixture, gains_of, project, uniform
from .placement import Freedom, Placement, best_placement

__all__ = ["anneal"]

#: β at the start and at the end, relative to the most that one unit can gain on average.
FIRST_BETA, LAST_BETA = 0.3, 100.0
#: Share of the new mixture in each step.
DAMPING = 0.5
#: Sinkhorn sweeps over rows and columns.
SINKHORN_SWEEPS = 15
#: Least sum of a row or column: a unit that suits no slot at a low temperature has none left.
TINY = 1e-300


def anneal(agreement: Agreement, steps: int) -> dict[str, Placement]:
    """Raise the agreement over mixtures while the temperature falls; project to placements.

    Signs are left as they are, for the descent that follows; groups without activation take the
    best map for the mixtures of the others.

    Args:
        agreement: The objective.
        steps: Temperatures, falling geometrically.

    Reference:
        Gold and Rangarajan 1996, A graduated assignment algorithm for graph matching, PAMI 18(4);
        Sinkhorn 1964.
    """
    mixtures = uniform(agreement)
    units = sum(group.size for group in agreement.groups)
    most = max(agreement.bound, 1e-300) / units
    for step in range(steps):
        beta = FIRST_BETA * (LAST_BETA / FIRST_BETA) ** (step / max(steps - 1, 1)) / most
        for group in agreement.groups:
            now = mixtures[group.name]
            new = softened(agreement, group.name, mixtures, beta)
            matrix = torch.lerp(now.before, new, DAMPING)
            mixtures[group.name] = Mixture(matrix, matrix)
    return {
        name: project(mixture, orders_only(agreement.freedoms[name]))
        for name, mixture in mixtures.items()
    }


def softened(
    agreement: Agreement, name: str, mixtures: Mapping[str, Mixture], beta: float
) -> Float[Tensor, "units units"]:
    """The mixture of one group at one temperature, given all others."""
    gains = gains_of(agreement, name, mixtures)
    if agreement.freedoms[name] == "linear":
        return best_placement(gains, "linear").dense(reads=False)
    logits = beta * (gains.before + gains.after)
    if gains.bias is not None:
        logits = logits + beta * gains.bias[1, 1]
    kernel = (logits - logits.amax(1, keepdim=True)).exp()
    columns = torch.ones_like(kernel[0])
    for _ in range(SINKHORN_SWEEPS):
        rows = 1 / (kernel @ columns).clamp_min(TINY)
        columns = 1 / (kernel.mT @ rows).clamp_min(TINY)
    return rows[:, None] * kernel * columns


def orders_only(freedom: Freedom) -> Freedom:
    """Freedom without signs."""
    return "linear" if freedom == "linear" else "order"
