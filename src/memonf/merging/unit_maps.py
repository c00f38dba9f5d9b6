"""Units replaced by mixtures of units: what zipping, transport and soft orders have in common.

Symbols, for one group: n new slots, m units, M (n, m) what makes a slot of the units, R (m, n) what
part of a slot each unit is read from.

A permutation is M = P, R = Pᵀ. Elsewhere the function changes, unless the units that share a slot
are alike: each of them is then read off the slot, R M f = f for their activations f.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..matching.balance import balance
from ..symmetry import Element, Params, Symmetry
from ..typing import Float, Tensor

__all__ = ["UnitMaps", "balancing_scales", "centred", "cut_axis", "map_units"]

#: Group -> matrix: (slots, units) of what makes them, or (units, slots) of what reads them.
UnitMaps = Mapping[str, Tensor]


def map_units(
    params: Mapping[str, Tensor],
    symmetry: Symmetry,
    made: UnitMaps,
    read: UnitMaps,
    share: float = 1.0,
) -> Params:
    """Params of a network whose slots are mixtures of this one's units; can be differentiated.

    Args:
        params: State of a network, or some of its tensors.
        symmetry: Its groups.
        made: M of each group; rows, biases and norm params are multiplied by it from the left.
        read: R of each group; columns are multiplied by it from the right.
        share: Factor of the rows that make no units (heads), and of tensors without units.

    Returns:
        The tensors, in float64; counters as they are.
    """
    out: Params = {}
    for name, tensor in params.items():
        if not tensor.is_floating_point():
            out[name] = tensor
            continue
        wide = tensor.double()
        rows = [
            share * part if group is None else made[group].to(part) @ part
            for group, part in cut_axis(symmetry, name, 0, wide)
        ]
        wide = torch.cat(rows)
        if wide.ndim > 1:
            columns = [
                part if group is None else part @ read[group].to(part)
                for group, part in cut_axis(symmetry, name, 1, wide)
            ]
            wide = torch.cat(columns, 1)
        out[name] = wide
    return out


def cut_axis(
    symmetry: Symmetry, name: str, axis: int, tensor: Tensor
) -> list[tuple[str | None, Tensor]]:
    """One axis of a tensor cut into stretches that carry one group each, or none."""
    carried = sorted(
        (part.start, part.stop, group.name)
        for group in symmetry.groups
        for part in group.slices
        if (part.tensor, part.axis) == (name, axis)
    )
    cuts: list[tuple[str | None, Tensor]] = []
    end = 0
    for start, stop, group in [*carried, (tensor.shape[axis], tensor.shape[axis], None)]:
        if start > end:
            cuts.append((None, tensor.narrow(axis, end, start - end)))
        if group is not None:
            cuts.append((group, tensor.narrow(axis, start, stop - start)))
        end = stop
    return cuts


def centred(
    values: Float[Tensor, "points units"], weights: Float[Tensor, " points"]
) -> Float[Tensor, "points units"]:
    """Units with mean 0 and norm 1 over weighted points, times the root of the weights.

    A unit that changes by no more than float noise becomes zero.
    """
    mean = (weights @ values) / weights.sum()
    away = weights.sqrt()[:, None] * (values - mean)
    norm = away.norm(dim=0)
    still = norm <= 1e-9 * (weights.sqrt()[:, None] * values).norm(dim=0)
    return torch.where(still, 0.0, away / norm.clamp_min(torch.finfo(norm.dtype).tiny))


def balancing_scales(symmetry: Symmetry, params: Mapping[str, Tensor]) -> Element:
    """The scales and signs of `balance`, without its maps of layers that have no activation."""
    element, _ = balance(symmetry, params)
    kinds = {group.name: [gauge.kind for gauge in group.gauges] for group in symmetry.groups}
    kept = {
        name: {n: value for n, value in values.items() if kinds[name][n] != "linear"}
        for name, values in element.gauges.items()
    }
    return Element({}, {name: values for name, values in kept.items() if values})
