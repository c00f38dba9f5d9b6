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

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ..symmetry import AxisSlice, Element, Gauge, Params, Symmetry, in_double
from ..symmetry.elements import act
from ..typing import Float, Tensor

__all__ = ["balance", "readout_signs"]

#: Largest change of a factor, relative, at which sweeps end.
TOLERANCE = 1e-6
MOST_SWEEPS = 2000
#: What part of a group without activation nobody reads, relative to what is read, for stability.
UNREAD = 1e-4


def balance(symmetry: Symmetry, params: Mapping[str, Tensor]) -> tuple[Element, Params]:
    """The element that brings params to their least norm, and the params in that guise, in float64.

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
    for scales in balanced_scales(symmetry, state):
        factor = scales.squares.sqrt()
        act(state, scales.gauge, factor)
        gauges[scales.group][scales.number] = factor
    for group in symmetry.groups:
        for number, gauge in enumerate(group.gauges):
            if gauge.kind == "linear" and gauge.columns:
                gauges[group.name][number] = balancing_map(gauge, state)
                act(state, gauge, gauges[group.name][number])
    element = Element({}, {name: values for name, values in gauges.items() if values})
    return element, in_double(params) | state


def readout_signs(symmetry: Symmetry, balancing: Element) -> dict[str, Float[Tensor, " units"]]:
    """Group -> signs by which balancing changed what the units do; groups it left are left out."""
    found: dict[str, Tensor] = {}
    for group in symmetry.groups:
        for number, value in balancing.gauges.get(group.name, {}).items():
            gauge = group.gauges[number]
            if gauge.kind == "sign" and any(part.axis == 1 for part in gauge.columns):
                found[group.name] = found.get(group.name, 1.0) * value
    return found


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


@dataclass
class Scales:
    """The scales of one gauge while they are being balanced.

    Attributes:
        group: Name of the group.
        number: Number of the gauge in it.
        gauge: The gauge.
        squares: (units,), the factors squared.
        made: What makes the units: squared matrices with the units in front, and the squared
            factors of their other axis.
        made_alone: (units,), squares of biases and other vectors.
        read: The same of what reads them.
        read_alone: The same.
        alive: (units,), whether something makes the unit and something reads it.
        all_alive: Whether that is so of all.
    """

    group: str
    number: int
    gauge: Gauge
    squares: Tensor
    made: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    made_alone: Tensor | float = 0.0
    read: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    read_alone: Tensor | float = 0.0
    alive: Tensor | None = None
    all_alive: bool = False

    def step(self, relaxation: float) -> Tensor:
        """Logarithm of the factors that bring these scales nearer to balance.

        Args:
            relaxation: How far to go, relative to this group's own optimum.
        """
        made = self.squares * total(self.made, self.made_alone)
        read = total(self.read, self.read_alone) / self.squares
        ratio = read / made
        if self.alive is None:  # a unit that nothing makes, or nothing reads, stays as it is
            self.alive = (made > 0) & (read > 0)
            self.all_alive = bool(self.alive.all())
        if not self.all_alive:
            ratio = torch.where(self.alive, ratio, 1.0)
        # Units of one group do not see each other, but for residual layers: these go half way.
        return (0.125 if couples_itself(self.gauge) else relaxation / 4) * ratio.log()


def total(matrices: list[tuple[Tensor, Tensor]], alone: Tensor | float) -> Tensor | float:
    """Sum of squares that each unit has in some matrices and vectors."""
    for matrix, other in matrices:
        alone = alone + matrix @ other
    return alone


class Squares:
    """Squared entries of all matrices, and for each of their axes a vector of squared factors."""

    def __init__(self, symmetry: Symmetry, state: Mapping[str, Tensor]) -> None:
        self.factors = {
            (name, axis): tensor.new_ones(size)
            for name, tensor in state.items()
            for axis, size in enumerate(tensor.shape[:2])
        }
        #: (tensor, axis) -> squares with this axis in front, and the factors of the other one.
        self.seen: dict[tuple[str, int], list[tuple[Tensor, Tensor]]] = {
            key: [] for key in self.factors
        }
        self.alone = {key: torch.zeros_like(value) for key, value in self.factors.items()}
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
            if tensor.ndim == 1:
                self.alone[name, 0] += tensor.square()
            else:
                self.count(name, name, tensor)

    def contract(
        self, rows: tuple[AxisSlice, ...], reads: AxisSlice, state: Mapping[str, Tensor]
    ) -> None:
        """Count the product of two matrices around a group without activation."""
        reading = state[reads.tensor][:, reads.start : reads.stop]
        for makes in rows:
            making = state[makes.tensor][makes.start : makes.stop]
            if making.ndim == 1:
                self.alone[reads.tensor, 0] += (reading @ making).square()
            else:
                self.count(reads.tensor, makes.tensor, reading @ making)

    def count(self, rows: str, columns: str, matrix: Tensor) -> None:
        """Count a matrix whose rows are those of one tensor, its columns those of another."""
        square = matrix.square()
        self.seen[rows, 0].append((square, self.factors[columns, 1]))
        self.seen[columns, 1].append((square.mT.contiguous(), self.factors[rows, 0]))

    def around(
        self, parts: tuple[AxisSlice, ...]
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor | float]:
        """What some slices see of all matrices, and of vectors."""
        matrices: list[tuple[Tensor, Tensor]] = []
        alone: Tensor | float = 0.0
        for part in parts:
            key = (part.tensor, part.axis)
            matrices += [(s[part.start : part.stop], other) for s, other in self.seen[key]]
            alone = alone + self.alone[key][part.start : part.stop]
        return matrices, alone

    def put(self, parts: tuple[AxisSlice, ...], squares: Tensor) -> None:
        """Set the squared factors of some slices."""
        for part in parts:
            self.factors[part.tensor, part.axis][part.start : part.stop] = squares


def balanced_scales(symmetry: Symmetry, state: Mapping[str, Tensor]) -> list[Scales]:
    """The factors of all scale gauges that make the sum of squares least."""
    found: list[Scales] = []
    squares = Squares(symmetry, state)
    for group in symmetry.groups:
        for number, gauge in enumerate(group.gauges):
            if gauge.kind == "scale" and gauge.rows and gauge.columns:
                ones = state[gauge.rows[0].tensor].new_ones(group.size)
                scales = Scales(group.name, number, gauge, ones)
                scales.made, scales.made_alone = squares.around(gauge.rows)
                scales.read, scales.read_alone = squares.around(gauge.columns)
                found.append(scales)
    # Groups stand in a row like the springs of a chain, for which Young 1954 gives the relaxation
    # at which sweeps converge fastest.
    relaxation = 2 / (1 + math.sin(math.pi / (len(found) + 1)))
    for _ in range(MOST_SWEEPS):
        largest = 0.0
        for scales in found:
            step = scales.step(relaxation)
            scales.squares = scales.squares * (2 * step).exp()
            squares.put(scales.gauge.rows, scales.squares)
            squares.put(scales.gauge.columns, 1 / scales.squares)
            largest = max(largest, float(step.abs().max()))
        if largest < TOLERANCE:
            break
    return found


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
    size = len(made)
    if not (made.trace() > 0 and (made @ read).trace() > 0):
        return torch.eye(size).to(made)  # nothing makes these units, or nothing reads them
    made = made + 1e-10 * made.diagonal().mean().clamp_min(1e-300) * torch.eye(size).to(made)
    # P⁻¹ # Q = L⁻ᵀ (Lᵀ Q L)^½ L⁻¹ for P = L Lᵀ, with a little for directions that nobody reads:
    # that little is the same for whatever map comes before.
    root = torch.linalg.cholesky(made)
    values, vectors = torch.linalg.eigh(root.mT @ read @ root)
    values = values.clamp_min(0) + UNREAD * values.clamp_min(0).mean() + 1e-300
    half = torch.linalg.solve_triangular(root.mT, vectors * values**0.25, upper=True)
    square = half @ half.mT
    values, vectors = torch.linalg.eigh(0.5 * (square + square.mT))
    # Directions that nothing makes would be blown up without end.
    values = values.clamp(min=1e-12 * float(values.median()), max=1e12 * float(values.median()))
    return (vectors * values.sqrt()) @ vectors.mT
