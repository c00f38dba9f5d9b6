"""Balance: bring params into the one guise, among all of the same function, that is least in norm.

A ReLU unit's incoming params can be doubled and its outgoing ones halved: two parents that compute
the same may differ by such scales, and comparing their params as they stand compares the scales.
The guise of least norm is unique (the sum of squares is convex in the logarithms of the scales), so
that parents are compared in it. The aligned parent is then given the reference's own scales.

Symbols, for one unit: R sum of squares of what makes it, C of what reads it; d⁴ = C / R balances.
For a group without activation: P = Σ rows rowsᵀ, Q = Σ columnsᵀ columns; the map G with G P G = Q
after it has G² = P⁻¹ # Q, the geometric mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..symmetry import AxisSlice, Element, Gauge, Symmetry
from ..symmetry.elements import act
from ..typing import Float, Tensor

__all__ = ["balance"]

#: Largest change of a factor, relative, at which sweeps end.
TOLERANCE = 1e-9
MOST_SWEEPS = 2000
#: Sweeps go farther than one group's own optimum, by this share: depth makes them slow otherwise.
RELAXATION = 1.5
#: What part of a group without activation nobody reads, relative to what is read, for stability.
UNREAD = 1e-4


def balance(symmetry: Symmetry, params: Mapping[str, Tensor]) -> Element:
    """The element that brings params to their least norm.

    Scales are balanced; a group without activation counts by the product of what makes it and what
    reads it, which no map changes, and then gets the map that makes both weigh the same (up to a
    rotation); norm weights are made positive where a sign can be taken back.

    Args:
        symmetry: Groups of the architecture.
        params: State of a network; inputs are untouched.
    """
    state = {
        part.tensor: params[part.tensor].double()
        for group in symmetry.groups
        for part in group.slices
    }
    gauges: dict[str, dict[int, Tensor]] = {group.name: {} for group in symmetry.groups}
    for group in symmetry.groups:
        for number, gauge in enumerate(group.gauges):
            if gauge.kind == "sign" and (signs := norm_signs(gauge, state)) is not None:
                act(state, gauge, signs)
                gauges[group.name][number] = signs
    for (name, number, gauge), factor in balanced_scales(symmetry, state):
        act(state, gauge, factor)
        gauges[name][number] = factor
    for group in symmetry.groups:
        for number, gauge in enumerate(group.gauges):
            if gauge.kind == "linear" and gauge.columns:
                gauges[group.name][number] = balancing_map(gauge, state)
    return Element({}, {name: values for name, values in gauges.items() if values})


def norm_signs(gauge: Gauge, state: Mapping[str, Tensor]) -> Float[Tensor, " units"] | None:
    """Signs that make a norm's weights positive, if a norm takes part in this gauge."""
    reading = [part for part in gauge.columns if state[part.tensor].ndim == 1]
    makes_matrix = any(state[part.tensor].ndim > 1 for part in gauge.rows)
    making = [part for part in gauge.rows if part.tensor.endswith("weight")]
    norms = reading or ([] if makes_matrix else making)
    if not norms:
        return None
    part = norms[0]
    return torch.where(state[part.tensor][part.start : part.stop] < 0, -1.0, 1.0).double()


class Squares:
    """Squared entries of all matrices, each axis with a vector of squared factors.

    Attributes:
        factors: (tensor, axis) -> its factors.
        seen: (tensor, axis) -> what this axis is an axis of: squares with it in front, and the
            factors of their other axis.
    """

    def __init__(self, symmetry: Symmetry, state: Mapping[str, Tensor]) -> None:
        self.factors = {
            (name, axis): tensor.new_ones(size)
            for name, tensor in state.items()
            for axis, size in enumerate(tensor.shape[:2])
        }
        self.seen: dict[tuple[str, int], list[tuple[Tensor, Tensor | None]]] = {
            key: [] for key in self.factors
        }
        left = {name: tensor.clone() for name, tensor in state.items()}
        for group in symmetry.groups:
            gauge = group.gauge("linear")
            if gauge is None or not gauge.columns:
                continue
            for reads in gauge.columns:
                self.contract(gauge.rows, reads, state)
                left[reads.tensor][:, reads.start : reads.stop] = 0
            for makes in gauge.rows:
                left[makes.tensor][makes.start : makes.stop] = 0
        for name, tensor in left.items():
            square = tensor.square()
            if square.ndim == 1:
                self.seen[name, 0].append((square[:, None], None))
            else:
                self.seen[name, 0].append((square, self.factors[name, 1]))
                self.seen[name, 1].append((square.mT.contiguous(), self.factors[name, 0]))

    def contract(
        self, rows: tuple[AxisSlice, ...], reads: AxisSlice, state: Mapping[str, Tensor]
    ) -> None:
        """Count the product of two matrices around a group without activation."""
        reading = state[reads.tensor][:, reads.start : reads.stop]
        for makes in rows:
            making = state[makes.tensor][makes.start : makes.stop]
            outer = self.factors[reads.tensor, 0]
            if making.ndim == 1:
                self.seen[reads.tensor, 0].append(((reading @ making).square()[:, None], None))
                continue
            square = (reading @ making).square()
            inner = self.factors[makes.tensor, 1]
            self.seen[reads.tensor, 0].append((square, inner))
            self.seen[makes.tensor, 1].append((square.mT.contiguous(), outer))

    def sums(self, part: AxisSlice) -> Tensor:
        """Sum of squares of each unit's entries in one slice."""
        own = self.factors[part.tensor, part.axis][part.start : part.stop]
        total = torch.zeros_like(own)
        for square, other in self.seen[part.tensor, part.axis]:
            rows = square[part.start : part.stop]
            total += rows[:, 0] if other is None else rows @ other
        return own * total

    def multiply(self, part: AxisSlice, factor: Tensor) -> None:
        """Multiply the squares of one slice."""
        self.factors[part.tensor, part.axis][part.start : part.stop] *= factor


def balanced_scales(
    symmetry: Symmetry, state: Mapping[str, Tensor]
) -> list[tuple[tuple[str, int, Gauge], Float[Tensor, " units"]]]:
    """The factors of all scale gauges that make the sum of squares least."""
    found = [
        (group.name, number, gauge)
        for group in symmetry.groups
        for number, gauge in enumerate(group.gauges)
        if gauge.kind == "scale" and gauge.rows and gauge.columns
    ]
    if not found:
        return []
    squares = Squares(symmetry, state)
    total = [
        state[gauge.rows[0].tensor].new_zeros(gauge.rows[0].stop - gauge.rows[0].start)
        for _, _, gauge in found
    ]
    for _ in range(MOST_SWEEPS):
        largest = 0.0
        for (_, _, gauge), steps in zip(found, total, strict=True):
            made = torch.stack([squares.sums(part) for part in gauge.rows]).sum(0)
            read = torch.stack([squares.sums(part) for part in gauge.columns]).sum(0)
            alive = (made > 0) & (read > 0)
            # Units of one group do not see each other, but for residual layers: these go half way.
            share = 0.125 if couples_itself(gauge) else RELAXATION / 4
            step = torch.where(alive, share * (read / made).log(), 0.0)
            steps += step
            for part in gauge.rows:
                squares.multiply(part, (2 * step).exp())
            for part in gauge.columns:
                squares.multiply(part, (-2 * step).exp())
            largest = max(largest, float(step.abs().max()))
        if largest < TOLERANCE:
            break
    return list(zip(found, [steps.exp() for steps in total], strict=True))


def couples_itself(gauge: Gauge) -> bool:
    """Whether a matrix both makes and reads these units (a residual branch of one layer)."""
    return bool({p.tensor for p in gauge.rows} & {p.tensor for p in gauge.columns})


def balancing_map(gauge: Gauge, state: Mapping[str, Tensor]) -> Float[Tensor, "units units"]:
    """Symmetric positive G after which what makes a group and what reads it weigh the same."""

    def gram(parts) -> Tensor:  # type: ignore[no-untyped-def]
        rows = [
            state[p.tensor].movedim(p.axis, 0)[p.start : p.stop].flatten(1)
            if state[p.tensor].ndim > 1
            else state[p.tensor][p.start : p.stop, None]
            for p in parts
        ]
        joined = torch.cat(rows, 1)
        return joined @ joined.mT

    made, read = gram(gauge.rows), gram(gauge.columns)
    values, vectors = torch.linalg.eigh(made)
    values = values.clamp_min(1e-10 * values.max().clamp_min(1e-300))
    root = (vectors * values.sqrt()) @ vectors.mT
    inverse_root = (vectors / values.sqrt()) @ vectors.mT
    # (P^½ Q P^½)^½, with a little for directions that nobody reads: invariant under any map.
    inner = root @ read @ root
    values, vectors = torch.linalg.eigh(inner)
    values = values.clamp_min(0) + UNREAD * values.clamp_min(0).mean() + 1e-300
    square = inverse_root @ (vectors * values.sqrt()) @ vectors.mT @ inverse_root
    values, vectors = torch.linalg.eigh(0.5 * (square + square.mT))
    return (vectors * values.clamp_min(1e-300).sqrt()) @ vectors.mT
