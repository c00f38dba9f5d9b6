"""Coordinate descent over the groups: place one group's units best with all others fixed."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .agreement import Agreement
from .placement import UnitPlacement, best_placement

__all__ = ["descend", "one_by_one"]

#: A step must raise the agreement by this share of its bound to be taken.
TOLERANCE = 1e-12
#: Safety bound; a few sweeps usually suffice.
MOST_SWEEPS = 200


def descend(
    agreement: Agreement, start: Mapping[str, UnitPlacement], generator: torch.Generator
) -> tuple[dict[str, UnitPlacement], int]:
    """Place one group after another until nothing changes; each step raises the agreement.

    Args:
        agreement: The objective.
        start: Placements to start from.
        generator: Order in which groups are visited.

    Returns:
        Placements at a local optimum, and the number of sweeps.

    Reference:
        Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836, algorithm 1. Departures: groups are
        slices of axes, so that skips, biases and norm params are included; signs and orthogonal
        maps are chosen where the symmetry has them; a group is visited again only if a neighbour
        changed.
    """
    placements = dict(start)
    neighbours = agreement.neighbours()
    stale = set(placements)
    sweeps = 0
    least = TOLERANCE * max(agreement.bound, 1e-300)
    while stale and sweeps < MOST_SWEEPS:
        sweeps += 1
        for index in torch.randperm(len(agreement.groups), generator=generator).tolist():
            name = agreement.groups[index].name
            if name not in stale:
                continue
            stale.discard(name)
            gains = agreement.gains(name, placements)
            candidate = best_placement(gains, agreement.freedoms[name])
            if name in neighbours[name]:  # the gains change with the group itself
                trial = {**placements, name: candidate}
                raised = agreement.value(trial) - agreement.value(placements)
            else:
                raised = gains.of(candidate) - gains.of(placements[name])
            if raised > least:
                placements[name] = candidate
                stale |= neighbours[name]
    return placements, sweeps


def one_by_one(agreement: Agreement, *, backward: bool = False) -> dict[str, UnitPlacement]:
    """Place the groups in the order of the forward pass, given those that are already placed.

    The first layer reads inputs whose order is known, so its units can be matched without the
    layers above it; the inputs of the second are then in a known order, and so on. Without noise
    this recovers planted signs that a descent from wrong neighbours misses.

    Args:
        agreement: The objective.
        backward: From the last group to the first.
    """
    placements: dict[str, UnitPlacement] = {}
    for group in reversed(agreement.groups) if backward else agreement.groups:
        gains = agreement.gains(group.name, placements)
        placements[group.name] = best_placement(gains, agreement.freedoms[group.name])
    return placements
