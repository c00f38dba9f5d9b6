"""Balancing: the equivalent params of least norm.

A ReLU unit's incoming params can be doubled and its outgoing ones halved without changing the
function. Parents may differ by such scales, and comparing their raw params would compare the
scales. The equivalent params of least norm are unique (the sum of squares is convex in the
logarithms of the scales), so parents are compared in that form. The aligned parent then gets the
reference's scales.

Symbols, for one unit: R sum of squares of the params that produce it, C of those that read it;
d⁴ = C / R balances. For a group without activation: P = Σ rows rowsᵀ, Q = Σ columnsᵀ columns; the
map G with G P G = Q after it has G² = P⁻¹ # Q, the geometric mean.
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

#: Sweeps end when no factor changes by more than this, relative.
TOLERANCE = 1e-6
MOST_SWEEPS = 2000
#: Weight of directions of a group without activation that no layer reads, relative to the mean of
#: those that are read; for numerical stability.
UNREAD = 1e-4


def balance(symmetry: Symmetry, params: Mapping[str, Tensor]) -> tuple[Element, Params]:
    """The element that minimises the norm of params, and the params it gives, in float64.

    Scales are balanced. A group without activation enters by the product of the matrices that
    produce and read it, which no map changes; it then gets the map that gives both the same norm
    (up to a rotation). Norm weights are made positive where another tensor can absorb the sign.

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
    """Group -> signs by which balancing changed its activations; unchanged groups are left out."""
    signs: dict[str, Tensor] = {}
    for group in symmetry.groups:
        for number, value in balancing.gauges.get(group.name, {}).items():
            gauge = group.gauges[number]
            if gauge.kind == "sign" and any(part.axis == 1 for part in gauge.columns):
                signs[group.name] = signs.get(group.name, 1.0) * value
    return signs


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
        made: Params that produce the units: squared matrices with the units as first axis, and the
            squared factors of their other axis.
        made_alone: (units,), squares of biases and other vectors.
        read: As `made`, for the params that read the units.
        read_alone: As `made_alone`, for the params that read the units.
        alive: (units,), whether the unit has nonzero params that produce it and that read it.
        all_alive: Whether that holds for all units.
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
        """Logarithm of the factors of one step towards balance.

        Args:
            relaxation: Length of the step, relative to this group's optimum for fixed neighbours.
        """
        made = self.squares * total(self.made, self.made_alone)
        read = total(self.read, self.read_alone) / self.squares
        ratio = read / made
        if self.alive is None:  # a unit without incoming or outgoing params is not scaled
            self.alive = (made > 0) & (read > 0)
            self.all_alive = bool(self.alive.all())
        if not self.all_alive:
            ratio = torch.where(self.alive, ratio, 1.0)
        # Units of one group are independent except in residual layers, which take half steps.
        return (0.125 if couples_itself(self.gauge) else relaxation / 4) * ratio.log()


def total(matrices: list[tuple[Tensor, Tensor]], alone: Tensor | float) -> Tensor | float:
    """Sum of squares of each unit over matrices and vectors."""
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
        #: (tensor, axis) -> squares with this axis first, and the factors of the other axis.
        self.matrices: dict[tuple[str, int], list[tuple[Tensor, Tensor]]] = {
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
        """Add the product of the two matrices around a group without activation."""
        reading = state[reads.tensor][:, reads.start : reads.stop]
        for makes in rows:
            making = state[makes.tensor][makes.start : makes.stop]
            if making.ndim == 1:
                self.alone[reads.tensor, 0] += (reading @ making).square()
            else:
                self.count(reads.tensor, makes.tensor, reading @ making)

    def count(self, rows: str, columns: str, matrix: Tensor) -> None:
        """Add a matrix with the rows of one tensor and the columns of another."""
        square = matrix.square()
        self.matrices[rows, 0].append((square, self.factors[columns, 1]))
        self.matrices[columns, 1].append((square.mT.contiguous(), self.factors[rows, 0]))

    def around(
        self, parts: tuple[AxisSlice, ...]
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor | float]:
        """The matrices, and the sums of squared vectors, that contain these slices."""
        matrices: list[tuple[Tensor, Tensor]] = []
        alone: Tensor | float = 0.0
        for part in parts:
            key = (part.tensor, part.axis)
            matrices += [(s[part.start : part.stop], other) for s, other in self.matrices[key]]
            alone = alone + self.alone[key][part.start : part.stop]
        return matrices, alone

    def put(self, parts: tuple[AxisSlice, ...], squares: Tensor) -> None:
        """Set the squared factors of some slices."""
        for part in parts:
            self.factors[part.tensor, part.axis][part.start : part.stop] = squares


def balanced_scales(symmetry: Symmetry, state: Mapping[str, Tensor]) -> list[Scales]:
    """The factors of all scale gauges that minimise the sum of squares."""
    all_scales: list[Scales] = []
    squares = Squares(symmetry, state)
    for group in symmetry.groups:
        for number, gauge in enumerate(group.gauges):
            if gauge.kind == "scale" and gauge.rows and gauge.columns:
                ones = state[gauge.rows[0].tensor].new_ones(group.size)
                scales = Scales(group.name, number, gauge, ones)
                scales.made, scales.made_alone = squares.around(gauge.rows)
                scales.read, scales.read_alone = squares.around(gauge.columns)
                all_scales.append(scales)
    # The groups form a chain, each coupled to its neighbours; Young 1954 gives the relaxation at
    # which sweeps over a chain converge fastest.
    relaxation = 2 / (1 + math.sin(math.pi / (len(all_scales) + 1)))
    for _ in range(MOST_SWEEPS):
        largest = 0.0
        for scales in all_scales:
            step = scales.step(relaxation)
            scales.squares = scales.squares * (2 * step).exp()
            squares.put(scales.gauge.rows, scales.squares)
            squares.put(scales.gauge.columns, 1 / scales.squares)
            largest = max(largest, float(step.abs().max()))
        if largest < TOLERANCE:
            break
    return all_scales


def couples_itself(gauge: Gauge) -> bool:
    """Whether a matrix both produces and reads these units (a residual branch of one layer)."""
    return bool({p.tensor for p in gauge.rows} & {p.tensor for p in gauge.columns})


def balancing_map(gauge: Gauge, state: Mapping[str, Tensor]) -> Float[Tensor, "units units"]:
    """Symmetric positive G after which the params producing and reading a group are balanced."""

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
        return torch.eye(size).to(made)  # no params produce these units, or none read them
    made = made + 1e-10 * made.diagonal().mean().clamp_min(1e-300) * torch.eye(size).to(made)
    # P⁻¹ # Q = L⁻ᵀ (Lᵀ Q L)^½ L⁻¹ for P = L Lᵀ, with a small term for directions that no layer
    # reads. The term does not depend on the map that the params had before.
    root = torch.linalg.cholesky(made)
    values, vectors = torch.linalg.eigh(root.mT @ read @ root)
    values = values.clamp_min(0) + UNREAD * values.clamp_min(0).mean() + 1e-300
    half = torch.linalg.solve_triangular(root.mT, vectors * values**0.25, upper=True)
    square = half @ half.mT
    values, vectors = torch.linalg.eigh(0.5 * (square + square.mT))
    # Directions that no params produce would grow without bound.
    values = values.clamp(min=1e-12 * float(values.median()), max=1e12 * float(values.median()))
    return (vectors * values.sqrt()) @ vectors.mT
