"""Optimal transport: parents of unequal widths are converted to the width of the first.

Symbols, for one group: n units of the reference, m of the other parent, C (n, m) their
dissimilarity, T (n, m) the plan, T ≥ 0, Σ_j T = 1/n, Σ_i T = 1/m, of least Σ T C.

Layer by layer, each slot of the reference receives a mixture n T of the other parent's units, and
each unit is read from the slots with the shares m T. If the units of each mixture are equal, the
function stays the same for any width of the other parent. For n = m the plan is a permutation.

Reference:
    Singh and Jaggi 2019, Model Fusion via Optimal Transport, arXiv 1910.05653. Departures: columns
    are split (m T) rather than averaged (n T), so that a duplicated unit counts twice; parents are
    balanced before they are compared and mixed; points are weighted by the trust in both.
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

#: Largest least common multiple of two widths that is solved as an assignment of copies; beyond it
#: the plan is solved as a linear program.
MOST_COPIES = 512


@dataclass(frozen=True)
class Transported(Combine):
    """Transport each parent's units to similar units of the first, then average.

    Attributes:
        ground: Ground cost between units: by ``activations``, or by the ``params`` that produce
            them; both independent of scale.
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
        reference_balance = balancing_scales(problem.symmetry, first)
        reference_params = transform(in_double(first), problem.symmetry, reference_balance)
        by_activations = self.ground == "activations"
        activations: dict[str, Tensor] = {}
        if by_activations:
            activations = readouts(problem.symmetry, problem.parents[0], aligned.sampled.inputs)

        def move(number: int) -> tuple[Params, dict[str, Any]]:
            if number == 0:
                return first, {}
            symmetry = find_symmetry(problem.parents[number])
            unlike = None
            if by_activations:
                parent = problem.parents[number]
                unlike = activation_costs(activations, symmetry, parent, aligned.sampled, number)
            params = aligned.params[number]
            other_params = transform(
                in_double(params), symmetry, balancing_scales(symmetry, params)
            )
            moved, cost = transport(
                problem.symmetry, reference_params, symmetry, other_params, unlike
            )
            # Mixtures have other scales; they are changed to those of the first parent.
            steps = (
                balancing_scales(problem.symmetry, moved),
                inverse(reference_balance, problem.symmetry),
            )
            moved = apply_steps(moved, problem.symmetry, steps)
            return {name: moved[name].to(tensor.dtype) for name, tensor in first.items()}, cost

        return move


def transport(
    symmetry: Symmetry,
    reference_params: Mapping[str, Tensor],
    other: Symmetry,
    other_params: Mapping[str, Tensor],
    unlike: Mapping[str, Tensor] | None,
) -> tuple[Params, dict[str, float]]:
    """Convert another parent to the widths and the unit order of the reference.

    Args:
        symmetry: Of the reference.
        reference_params: Its params.
        other: Symmetry of the other parent, with groups of the same names.
        other_params: Its params.
        unlike: Group -> (units, units of the other), cost; None to compare params alone.

    Returns:
        The other's params in the reference's shapes, in float64, and the cost of each group's plan.

    Raises:
        MergeError: The groups of the two parents have different names.
    """
    if [group.name for group in symmetry.groups] != [group.name for group in other.groups]:
        raise MergeError(
            "the parents' groups of hidden units differ, so their widths cannot be matched: merge "
            "them with `distill`"
        )
    made: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    costs = {}
    for group, of_other in zip(symmetry.groups, other.groups, strict=True):
        cost = param_cost(symmetry, reference_params, other, other_params, group.name, read)
        if unlike is not None:  # params decide between units with equal or zero activations
            cost = unlike[group.name].to(cost) + LEAST_SHARE * cost
        plan = transport_plan(cost)
        costs[group.name] = float((plan * cost).sum())
        made[group.name] = group.size * plan
        read[group.name] = of_other.size * plan.mT
    return map_units(other_params, other, made, read), costs


def param_cost(
    symmetry: Symmetry,
    reference_params: Mapping[str, Tensor],
    other: Symmetry,
    other_params: Mapping[str, Tensor],
    group: str,
    read: Mapping[str, Tensor],
) -> Float[Tensor, "units others"]:
    """1 − cosine of the params that produce the units, after transport of the layers below."""
    one, two = [], []
    names = next(g for g in symmetry.groups if g.name == group).slices
    for name in dict.fromkeys(part.tensor for part in names if part.axis == 0):
        if name.endswith(STATISTICS):
            continue
        a = next(
            part for g, part in cut_axis(symmetry, name, 0, reference_params[name]) if g == group
        )
        b = next(part for g, part in cut_axis(other, name, 0, other_params[name]) if g == group)
        if a.ndim == 1:
            one.append(a[:, None])
            two.append(b[:, None])
            continue
        columns = zip(cut_axis(symmetry, name, 1, a), cut_axis(other, name, 1, b), strict=True)
        for (below, part_a), (_, part_b) in columns:
            if below is None or below in read:
                one.append(part_a)
                two.append(part_b if below is None else part_b @ read[below])
    a, b = (torch.nn.functional.normalize(torch.cat(rows, 1), dim=1) for rows in (one, two))
    return 1 - a @ b.mT


def activation_costs(
    reference_units: Mapping[str, Float[Tensor, "points _"]],
    symmetry: Symmetry,
    parent: Field,
    positions: Positions,
    number: int,
) -> dict[str, Tensor]:
    """Group -> (units, units of the other), 1 − correlation of activations where both saw."""
    weights = positions.trust[0].double() * positions.trust[number] + LEAST_WEIGHT
    return {
        name: 1
        - centred(reference_units[name].double(), weights).mT @ centred(units.double(), weights)
        for name, units in readouts(symmetry, parent, positions.inputs).items()
    }


def transport_plan(cost: Float[Tensor, "units others"]) -> Float[Tensor, "units others"]:
    """The exact plan of least cost between n and m units, with uniform weights on either side.

    Equal widths are solved as an assignment, and so are copies of the units if few copies make
    both sides equal; otherwise as a linear program.

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
    solution = linprog(cost.ravel(), A_eq=sums[:-1], b_eq=marginals[:-1], method="highs")
    if not solution.success:
        raise MergeError(
            f"optimal transport: the linear program was not solved ({solution.message}); merge "
            "with `distill`"
        )
    return np.asarray(solution.x).reshape(n, m)
