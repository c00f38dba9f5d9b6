"""Zipping: units with similar activations share a slot, of one parent or of several.

Symbols, for one group: n units per parent, N parents, c_i coefficients; M_i (n, n) the share of
parent i's units in the slots, U_i (n, n) how these units are read from the slots.

Matching pairs every unit with one of the other parent, similar or not. Zipping also lets two units
of one parent share a slot if they are more similar than the remaining pairs across parents; a unit
without a similar one keeps a slot for itself. The merged layer is Σ_i M_i W_i V_i, where V is the U
of the layer below; heads are averaged by the coefficients. Activations are weighted by trust.

Reference:
    Stoica et al. 2023, ZipIt!, arXiv 2305.03055. Departures: parents are aligned first, so that
    scales and signs do not matter; activations are weighted by trust; with several parents, every
    merge that puts two units of one parent together is discounted; units of one slot are read from
    it by least squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...matching import readouts
from ...matching.universe import LEAST_WEIGHT
from ...symmetry import Params, Symmetry
from ...typing import Bool, Float, Int, Tensor
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined
from ..unit_maps import centred, map_units
from ..unit_statistics import Statistics
from .base import Combine, CombineAt

__all__ = ["Zipped", "slot_maps", "zip_units"]

#: Bonus that prefers the pair found by matching among equally similar pairs.
TIE = 1e-6


@dataclass(frozen=True)
class Zipped(Combine):
    """Let units with similar activations share a slot, also within a parent, in the first layers.

    Attributes:
        zip_layers: Number of groups of units that are zipped, from the input on; None: all.
        within: Factor of the correlation of units of one parent, in [0, 1]; 0 forbids that they
            share a slot.
        rescale: Whether units are read from their slot with the least-squares factor, rather than
            with factor 1.
    """

    zip_layers: int | None = 1
    within: float = 0.5
    rescale: bool = True
    needs_positions = True

    def prepare(self, aligned: AlignedParents) -> CombineAt:
        """See `Combine.prepare`."""
        symmetry = aligned.problem.symmetry
        parents = list(aligned.params)
        slots = self.slots(aligned, parents)

        def at(coefficients: Coefficients) -> Combined:
            made, read, figures = self.unit_maps(slots, len(parents), coefficients)
            parts = [
                map_units(params, symmetry, made[number], read[number], share)
                for number, (params, share) in enumerate(
                    zip(parents, coefficients.overall, strict=True)
                )
            ]

            def mixed(of_parents: Sequence[Statistics]) -> Statistics:
                return mixed_statistics(symmetry, of_parents, made, coefficients)

            return Combined(summed(parts, parents[0]), {"zipit": figures}, mixed)

        return at

    def slots(self, aligned: AlignedParents, parents: Sequence[Params]) -> dict[str, Slots]:
        """Which units share a slot, by group."""
        problem, positions = aligned.problem, aligned.sampled
        activations = [
            readouts(problem.symmetry, problem.field_with(params), positions.inputs)
            for params in parents
        ]
        slots_of = {}
        for place, group in enumerate(problem.symmetry.groups):
            units = [values[group.name].double() for values in activations]
            chosen = self.zip_layers is None or place < self.zip_layers
            if chosen:
                slots = zip_units(likeness(units, positions.trust), len(units), self.within)
                products = products_of_all(units, positions.trust)
            else:
                slots = torch.arange(group.size).repeat(len(units), 1)
                products = products_of_pairs(units, positions.trust)
            slots_of[group.name] = Slots(slots.to(units[0].device), products, chosen)
        return slots_of

    def unit_maps(
        self, slots: Mapping[str, Slots], parents: int, coefficients: Coefficients
    ) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]], dict[str, dict[str, float]]]:
        """M and U of each parent and group at these coefficients, and figures."""
        made: list[dict[str, Tensor]] = [{} for _ in range(parents)]
        read: list[dict[str, Tensor]] = [{} for _ in range(parents)]
        figures = {}
        for group, of_group in slots.items():
            if of_group.chosen:
                figures[group] = 1 - float(shared(of_group.slots).double().mean())
            maps = slot_maps(of_group.slots, coefficients.overall)
            factors = [torch.ones_like(matrix[0]) for matrix in maps]
            if self.rescale:
                factors = reading_factors(of_group.products, maps)
            for number, matrix in enumerate(maps):
                made[number][group] = matrix
                spread = (matrix != 0).to(matrix).mT
                read[number][group] = factors[number][:, None] * spread
        return made, read, {"slots_of_some_parents": figures}


def mixed_statistics(
    symmetry: Symmetry,
    of_parents: Sequence[Statistics],
    made: Sequence[Mapping[str, Tensor]],
    coefficients: Coefficients,
) -> Statistics:
    """Statistics of each slot: those of its units, mixed as the units are."""
    layers = {f"{layer}.bias": value for layer, value in symmetry.pre_activations.items()}
    means: list[Params] = []
    deviations: list[Params] = []
    for measured, maps, share in zip(of_parents, made, coefficients.overall, strict=True):
        for mixed, moment in ((means, 0), (deviations, 1)):
            of_parent = {bias: measured[value][moment] for bias, value in layers.items()}
            mixed.append(map_units(of_parent, symmetry, maps, {}, share))
    return {
        value: (sum_of(means, bias), sum_of(deviations, bias)) for bias, value in layers.items()
    }


@dataclass(frozen=True)
class Slots:
    """Units of one group in their slots.

    Attributes:
        slots: (parents, units), slot of each.
        products: For each parent, Σ t u v over the points for any two units u, v that share a slot
            (all, all), parent after parent; t is the trust in this one.
        chosen: Whether the group is zipped; otherwise the slots are those of matching.
    """

    slots: Tensor
    products: list[Tensor]
    chosen: bool


def likeness(
    units: Sequence[Float[Tensor, "points units"]], trust: Float[Tensor, "parents points"]
) -> Float[Tensor, "all all"]:
    """Correlation of the units of all parents, laid side by side, with each other.

    A point is weighted by the product of the trust in both. Two constant units have correlation 1,
    a constant and a varying one 0. Pairs found by matching get a small bonus.
    """
    size = units[0].shape[1]
    alike = torch.eye(size).repeat(len(units), len(units)).to(units[0]) * TIE
    for one in range(len(units)):
        for other in range(one, len(units)):
            weights = trust[one].double() * trust[other] + LEAST_WEIGHT
            a, b = centred(units[one], weights), centred(units[other], weights)
            dead = torch.outer(a.square().sum(0) == 0, b.square().sum(0) == 0)
            block = a.mT @ b + dead.to(a)
            rows, columns = slice(one * size, (one + 1) * size), slice(other * size, None)
            alike[rows, columns][:, :size] += block
            if other > one:
                alike[other * size : (other + 1) * size, rows] += block.mT
    return alike


def zip_units(
    alike: Float[Tensor, "all all"], parents: int, within: float
) -> Int[Tensor, "parents units"]:
    """Put the units of all parents into as many slots as one parent has units, greedily.

    The two slots that are most alike are joined until enough are left; slots are as alike as the
    least alike of their units.

    Args:
        alike: Likeness of all units, parent after parent.
        parents: Number of parents.
        within: Factor of the likeness where two units of one parent come together; see `Zipped`.

    Returns:
        Slot of each unit.
    """
    least = alike.detach().cpu().double().numpy().copy()
    total = len(least)
    size = total // parents
    owner = np.repeat(np.arange(parents), size)
    holds = owner[:, None] == np.arange(parents)[None]
    slot = np.arange(total)
    worth = discounted(least, holds @ holds.T, within)
    np.fill_diagonal(worth, -np.inf)
    for _ in range(total - size):
        kept, gone = sorted(divmod(int(worth.argmax()), total))
        slot[slot == gone] = kept
        holds[kept] |= holds[gone]
        least[kept] = np.minimum(least[kept], least[gone])
        new = discounted(least[kept], holds @ holds[kept], within)
        new[np.isneginf(worth[kept])] = -np.inf
        new[np.isneginf(worth).all(1)] = -np.inf
        new[[kept, gone]] = -np.inf
        least[:, kept], worth[kept], worth[:, kept] = least[kept], new, new
        worth[gone], worth[:, gone] = -np.inf, -np.inf
    numbered = np.unique(slot, return_inverse=True)[1].reshape(parents, size)
    return torch.from_numpy(numbered)


def discounted(alike: np.ndarray, shares: np.ndarray, within: float) -> np.ndarray:
    """Likeness of slots, less where both hold units of one parent."""
    if within == 0:  # only where nothing else is left
        return alike - 10.0 * shares
    return np.where(shares, np.where(alike > 0, alike * within, alike / within), alike)


def shared(slots: Int[Tensor, "parents units"]) -> Bool[Tensor, " units"]:
    """Which slots hold a unit of every parent."""
    present = torch.stack([torch.bincount(row, minlength=len(row)) > 0 for row in slots])
    return present.all(0)


def slot_maps(
    slots: Int[Tensor, "parents units"], coefficients: Sequence[float]
) -> list[Float[Tensor, "units units"]]:
    """M of each parent: units of a slot count by the coefficients of their parents."""
    size = slots.shape[1]
    maps = [
        torch.nn.functional.one_hot(slots_of_parent, size).mT.double() * share
        for slots_of_parent, share in zip(slots, coefficients, strict=True)
    ]
    total = torch.stack(maps).sum((0, 2))
    return [matrix / total[:, None] for matrix in maps]


def products_of_all(
    units: Sequence[Float[Tensor, "points units"]], trust: Float[Tensor, "parents points"]
) -> list[Float[Tensor, "all all"]]:
    """`Slots.products`, of any two units."""
    together = torch.cat(list(units), 1)
    weights = trust.double() + LEAST_WEIGHT
    return [together.mT @ (of_parent[:, None] * together) for of_parent in weights]


def products_of_pairs(
    units: Sequence[Float[Tensor, "points units"]], trust: Float[Tensor, "parents points"]
) -> list[Float[Tensor, "all all"]]:
    """`Slots.products` where units of one number share a slot; 0 for all others."""
    weights = trust.double() + LEAST_WEIGHT
    blocks = [[(weights @ (one * other)) for other in units] for one in units]
    return [
        torch.cat([torch.cat([pair[number].diag() for pair in row], 1) for row in blocks])
        for number in range(len(units))
    ]


def reading_factors(
    products: Sequence[Float[Tensor, "all all"]], maps: Sequence[Float[Tensor, "units units"]]
) -> list[Float[Tensor, " units"]]:
    """Least-squares factor by which each unit is read from its slot, weighted by trust."""
    mixing = torch.cat(list(maps), 1)
    factors = []
    for number, (product_of, matrix) in enumerate(zip(products, maps, strict=True)):
        slot_of_unit = (matrix != 0).double().argmax(0)
        size = len(slot_of_unit)
        with_slots = product_of @ mixing.mT  # of every unit with every slot
        of_parent = with_slots[number * size : (number + 1) * size]
        product = of_parent.gather(1, slot_of_unit[:, None])[:, 0]
        square = (mixing * with_slots.mT).sum(1)[slot_of_unit]
        alive = square > 0
        fitting = product / square.clamp_min(torch.finfo(square.dtype).tiny)
        factors.append(torch.where(alive, fitting, 1.0).clamp_min(0.0))
    return factors


def sum_of(parts: Sequence[Mapping[str, Tensor]], name: str) -> Tensor:
    """Sum of one tensor over all parts."""
    return torch.stack([part[name] for part in parts]).sum(0)


def summed(parts: Sequence[Params], like: Params) -> Params:
    """Sum of params, rounded once; counters are taken from `like`."""
    return {
        name: sum_of(parts, name).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in like.items()
    }
