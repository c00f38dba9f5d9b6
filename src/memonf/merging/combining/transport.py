"""Optimal transport: parents of unequal widths are brought to the width of the first.

Symbols, for one group: n units of the reference, m of the other parent, C (n, m) how unlike they
are, T (n, m) the plan, T ≥ 0, Σ_j T = 1/n, Σ_i T = 1/m, of least Σ T C.

Layer by layer, each slot of the reference receives a mixture n T of the other's units, and each
unit is read off the slots in the shares m T. Where the units of a mixture are alike, the function
stays the same, however wide the other is. For n = m the plan is a permutation.

Reference:
    Singh and Jaggi 2019, Model Fusion via Optimal Transport, arXiv 1910.05653. Departures: columns
    are shared out (m T) rather than averaged (n T), so that a unit that comes twice counts twice;
    parents are compared and mixed free of ReLU scales; a point counts by the trust in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog

from ...errors import MergeError
from ...fields import Field
from ...matching import best_permutation, readouts
from ...matching.agreement import STATISTICS
from ...matching.matcher import LEAST_SHARE, apply_steps
from ...matching.universe import LEAST_WEIGHT
from ...symmetry import Params, Symmetry, find_symmetry, in_double, inverse, transform
from ...typing import Float, Tensor
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined
from ..positions import Positions
from ..unit_maps import balancing_scales, centred, cut_axis, map_units
from .base import Combine, CombineAt, combine_params

__all__ = ["Transported", "linear_program", "transport_plan"]

#: Widths of which so many copies make equally many units are assigned; others are solved as a
#: linear program.
MOST_COPIES = 512


@dataclass(frozen=True)
class Transported(Combine):
    """Move each parent's units to those of the first that are like them, then average.

    Attributes:
        ground: What units are compared by: what they do (``activations``) or what makes them
            (``params``), each free of scale.
    """

    ground: Literal["activations", "params"] = "activations"
    needs_positions = True

    def prepare(self, aligned: AlignedParents) -> CombineAt:
        """See `Combine.prepare`."""
        problem = aligned.problem
        moved = problem.per_parent(self.mover(aligned))

        def at(coefficients: Coefficients) -> Combined:
            costs = []

            def one_by_one() -> Iterator[Params]:
                for params, cost in moved:
                    costs.append(cost)
                    yield params

            merged = combine_params(one_by_one(), coefficients)
            return Combined(merged, {"optimal_transport": {"costs": costs[1:]}})

        return at

    def mover(self, aligned: AlignedParents) -> Callable[[int], tuple[Params, dict[str, Any]]]:
        """Number of a parent -> its params at the widths and in the order of the first; costs."""
        problem = aligned.problem
        first = aligned.params[0]
        mine = balancing_scales(problem.symmetry, first)
        ours = transform(in_double(first), problem.symmetry, mine)
        by_activations = self.ground == "activations"
        seen: dict[str, Tensor] = {}
        if by_activations:
            seen = readouts(problem.symmetry, problem.parents[0], aligned.sampled.inputs)

        def move(number: int) -> tuple[Params, dict[str, Any]]:
            if number == 0:
                return first, {}
            symmetry = find_symmetry(problem.parents[number])
            unlike = None
            if by_activations:
                parent = problem.parents[number]
                unlike = activation_costs(seen, symmetry, parent, aligned.sampled, number)
            params = aligned.params[number]
            theirs = transform(in_double(params), symmetry, balancing_scales(symmetry, params))
            moved, cost = transport(problem.symmetry, ours, symmetry, theirs, unlike)
            # Mixtures have scales of their own; they get those of the first.
            steps = (balancing_scales(problem.symmetry, moved), inverse(mine, problem.symmetry))
            moved = apply_steps(moved, problem.symmetry, steps)
            return {name: moved[name].to(tensor.dtype) for name, tensor in first.items()}, cost

        return move


def transport(
    symmetry: Symmetry,
    ours: Mapping[str, Tensor],
    other: Symmetry,
    theirs: Mapping[str, Tensor],
    unlike: Mapping[str, Tensor] | None,
) -> tuple[Params, dict[str, float]]:
    """Bring another parent to the widths and into the order of the reference.

    Args:
        symmetry: Of the reference.
        ours: Its params.
        other: Symmetry of the other parent, with groups of the same names.
        theirs: Its params.
        unlike: Group -> (units, units of the other), cost; None to compare params alone.

    Returns:
        The other's params in the reference's shapes, in float64, and the cost of each group's plan.

    Raises:
        MergeError: The groups are not called alike.
    """
    if [group.name for group in symmetry.groups] != [group.name for group in other.groups]:
        raise MergeError(
            "the parents' hidden units are tied in different ways, so that widths cannot be "
            "matched: merge them with `distill`"
        )
    made: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    costs = {}
    for group, of_other in zip(symmetry.groups, other.groups, strict=True):
        cost = param_cost(symmetry, ours, other, theirs, group.name, read)
        if unlike is not None:  # params decide about units that act alike, or not at all
            cost = unlike[group.name].to(cost) + LEAST_SHARE * cost
        plan = transport_plan(cost)
        costs[group.name] = float((plan * cost).sum())
        made[group.name] = group.size * plan
        read[group.name] = of_other.size * plan.mT
    return map_units(theirs, other, made, read), costs


def param_cost(
    symmetry: Symmetry,
    ours: Mapping[str, Tensor],
    other: Symmetry,
    theirs: Mapping[str, Tensor],
    group: str,
    read: Mapping[str, Tensor],
) -> Float[Tensor, "units others"]:
    """1 − cosine of what makes the units, the layers below being transported by `read`."""
    one, two = [], []
    names = next(g for g in symmetry.groups if g.name == group).slices
    for name in dict.fromkeys(part.tensor for part in names if part.axis == 0):
        if name.endswith(STATISTICS):
            continue
        a = next(part for g, part in cut_axis(symmetry, name, 0, ours[name]) if g == group)
        b = next(part for g, part in cut_axis(other, name, 0, theirs[name]) if g == group)
        if a.ndim == 1:
            one.append(a[:, None])
            two.append(b[:, None])
            continue
        columns = zip(cut_axis(symmetry, name, 1, a), cut_axis(other, name, 1, b), strict=True)
        for (below, mine), (_, its) in columns:
            if below is None or below in read:
                one.append(mine)
                two.append(its if below is None else its @ read[below])
    a, b = (torch.nn.functional.normalize(torch.cat(rows, 1), dim=1) for rows in (one, two))
    return 1 - a @ b.mT


def activation_costs(
    seen: Mapping[str, Float[Tensor, "points _"]],
    symmetry: Symmetry,
    parent: Field,
    positions: Positions,
    number: int,
) -> dict[str, Tensor]:
    """Group -> (units, units of the other), 1 − correlation of what they do where both saw."""
    weights = positions.trust[0].double() * positions.trust[number] + LEAST_WEIGHT
    return {
        name: 1 - centred(seen[name].double(), weights).mT @ centred(theirs.double(), weights)
        for name, theirs in readouts(symmetry, parent, positions.inputs).items()
    }


def transport_plan(cost: Float[Tensor, "units others"]) -> Float[Tensor, "units others"]:
    """The plan of least cost between n and m units that weigh the same on either side, exactly.

    Equally many are assigned to each other, and so are copies where few make both sides equally
    many; else the linear program is solved.

    Args:
        cost: (n, m), finite.

    Returns:
        (n, m) in float64; rows sum to 1/n, columns to 1/m.
    """
    n, m = cost.shape
    if n == m:
        perm = best_permutation(-cost)
        return torch.eye(n, dtype=torch.float64, device=cost.device)[perm] / n
    copies = math.lcm(n, m)
    matrix = cost.detach().cpu().double().numpy()
    if copies <= MOST_COPIES:
        rows = np.repeat(np.arange(n), copies // n)
        columns = np.repeat(np.arange(m), copies // m)
        ones, others = linear_sum_assignment(matrix[rows][:, columns])
        plan = np.zeros((n, m))
        np.add.at(plan, (rows[ones], columns[others]), 1 / copies)
    else:
        plan = linear_program(matrix)
    return torch.from_numpy(plan).to(cost.device)


def linear_program(cost: np.ndarray) -> np.ndarray:
    """Minimise Σ T C over plans T ≥ 0 with equal marginals (Huangfu and Hall 2018, HiGHS)."""
    n, m = cost.shape
    sums = sparse.vstack(
        [
            sparse.kron(sparse.eye(n), np.ones((1, m))),
            sparse.kron(np.ones((1, n)), sparse.eye(m)),
        ]
    ).tocsr()
    marginals = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    # One of the sums follows from the others.
    found = linprog(cost.ravel(), A_eq=sums[:-1], b_eq=marginals[:-1], method="highs")
    if not found.success:
        raise MergeError(f"the transport plan was not found: {found.message}")
    return np.asarray(found.x).reshape(n, m)
