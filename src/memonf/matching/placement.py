"""Unit placements: at which slot, and with which sign, each unit of a group is placed.

Symbols: X the matrix (slots, units) that places the other parent's units at the reference's slots:
a permutation, a signed permutation, or an orthogonal map for a group without activation. The params
that produce the units are multiplied by X_r from the left, those that read them by X_cᵀ from the
right. Both are the same matrix except in sine layers, where the sign before the sine and the sign
after it are independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..errors import InputError
from ..symmetry import Group
from ..typing import Float, Int, Tensor

__all__ = [
    "Freedom",
    "Gains",
    "UnitPlacement",
    "best_permutation",
    "best_placement",
    "freedom_of",
]

#: What matching may choose for a group besides the order.
Freedom: TypeAlias = Literal["order", "sign", "turn", "linear"]


@dataclass(frozen=True)
class UnitPlacement:
    """The placement of one group's units.

    Attributes:
        perm: (units,), unit that is placed at each slot.
        before: (units,), sign of the params that produce the unit at each slot.
        after: (units,), sign of the params that read it.
        matrix: (units, units), orthogonal map; if given, it replaces the other attributes.
    """

    perm: Int[Tensor, " units"]
    before: Float[Tensor, " units"]
    after: Float[Tensor, " units"]
    matrix: Float[Tensor, "units units"] | None = None

    @classmethod
    def identity(cls, size: int, device: torch.device | str = "cpu") -> UnitPlacement:
        """The identity placement."""
        ones = torch.ones(size, dtype=torch.float64, device=device)
        return cls(torch.arange(size, device=device), ones, ones)

    def place(
        self, rows: Float[Tensor, "units rest"], *, reads: bool
    ) -> Float[Tensor, "units rest"]:
        """X times the other parent's rows; `reads`: X_c, for params that read the units."""
        if self.matrix is not None:
            return self.matrix @ rows
        sign = self.after if reads else self.before
        return sign[:, None] * rows[self.perm]

    def dense(self, *, reads: bool) -> Float[Tensor, "units units"]:
        """X as a matrix."""
        size = len(self.perm)
        return self.place(
            torch.eye(size, dtype=torch.float64, device=self.perm.device), reads=reads
        )


@dataclass(frozen=True)
class Gains:
    """Gain of placing the other parent's unit j at slot i, with all other groups fixed.

    Attributes:
        before: (units, units), agreement of the params that produce the units.
        after: (units, units), agreement of the params that read them.
        bias: For sine layers: (sign before, sign after) -> (units, units), agreement of the biases
            at the best number of half turns.
    """

    before: Float[Tensor, "units units"]
    after: Float[Tensor, "units units"]
    bias: dict[tuple[int, int], Tensor] | None = None

    def of(self, placement: UnitPlacement) -> float:
        """The sum over a placement."""
        if placement.matrix is not None:
            return float(((self.before + self.after) * placement.matrix).sum())
        slots = torch.arange(len(placement.perm), device=placement.perm.device)
        total = placement.before * self.before[slots, placement.perm]
        total = total + placement.after * self.after[slots, placement.perm]
        for (r, c), gain in (self.bias or {}).items():
            chosen = (placement.before == r) & (placement.after == c)
            total = total + chosen * gain[slots, placement.perm]
        return float(total.sum())


def freedom_of(group: Group, params: Mapping[str, Tensor]) -> Freedom:
    """What matching may choose for a group; scales are balanced beforehand (`balance`).

    Signs are chosen if matrices both produce and read the units, also through a norm, whose weights
    are kept positive.
    """
    if group.gauge("linear") is not None:
        return "linear"
    if group.gauge("turn") is not None:
        return "turn"
    signs = [gauge for gauge in group.gauges if gauge.kind == "sign"]
    made = any(params[part.tensor].ndim > 1 for gauge in signs for part in gauge.rows)
    read = any(params[part.tensor].ndim > 1 for gauge in signs for part in gauge.columns)
    return "sign" if made and read else "order"


def best_permutation(similarity: Float[Tensor, "slots units"]) -> Int[Tensor, " slots"]:
    """Permutation that maximises Σ_i similarity[i, perm[i]].

    Example:
        >>> best_permutation(torch.tensor([[0.1, 0.9], [0.8, 0.2]]))
        tensor([1, 0])

    Args:
        similarity: Entry (i, j): how well unit j of the other parent fits slot i of the reference.

    Raises:
        InputError: The matrix is not square, or holds NaN or infinity.

    Reference:
        Crouse 2016, a Jonker-Volgenant variant, in ``scipy.optimize``.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise InputError(f"similarity: expected (units, units), received {tuple(similarity.shape)}")
    matrix = similarity.detach().double().cpu().numpy()
    if not np.isfinite(matrix).all():
        raise InputError("similarity: expected finite numbers; a parent's params are not finite")
    _, columns = linear_sum_assignment(matrix, maximize=True)
    return torch.from_numpy(columns).to(similarity.device)


def best_placement(gains: Gains, freedom: Freedom) -> UnitPlacement:
    """The placement of one group with the highest gain, with all others fixed.

    Solved as an assignment for orders; as an assignment in which each pair takes its better sign
    for orders with signs; by the orthogonal factor of the gains for maps (Schönemann 1966,
    Procrustes).
    """
    total = gains.before + gains.after
    size = len(total)
    identity = UnitPlacement.identity(size, total.device)
    if freedom == "linear":
        left, _, right = torch.linalg.svd(total)
        return UnitPlacement(identity.perm, identity.before, identity.after, left @ right)
    if freedom == "order":
        return UnitPlacement(best_permutation(total), identity.before, identity.after)
    if freedom == "sign":
        perm = best_permutation(total.abs())
        sign = torch.where(total[identity.perm, perm] < 0, -1.0, 1.0).double()
        return UnitPlacement(perm, sign, sign)
    assert gains.bias is not None
    choices = list(gains.bias)
    worth = torch.stack([r * gains.before + c * gains.after + gains.bias[r, c] for r, c in choices])
    best = worth.max(0)
    perm = best_permutation(best.values)
    chosen = best.indices[identity.perm, perm]
    signs = torch.tensor(choices, dtype=torch.float64, device=total.device)[chosen]
    return UnitPlacement(perm, signs[:, 0].contiguous(), signs[:, 1].contiguous())
