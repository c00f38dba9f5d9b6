"""What the last axis of a traced value carries: pieces, their units and their factors.

The last axis is a list of pieces (`Piece`): ranges of hidden units with one order (`Units`), or
ranges without hidden units (inputs, encodings). A piece with units also has a factor (`Factor`):
one unknown per unit, by which the value would be multiplied if `rows` were multiplied and `columns`
divided by it. All values that hold the same units share one `Units` and one `Factor` object. Later
steps may split these objects in two or join two of them; `current` returns the up-to-date pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, TypeAlias, TypeVar

from .groups import AxisSlice

__all__ = [
    "Axis",
    "Factor",
    "Piece",
    "Units",
    "current",
    "join_factors",
    "join_units",
    "leaves",
    "split_units",
    "with_starts",
    "DIAGONAL",
    "FREE",
    "ONE",
    "SCALE",
    "SIGN",
    "UNKNOWN",
]

#: Allowed kinds of a factor; the empty set means that it must be 1.
FREE = frozenset({"linear", "scale", "sign"})
DIAGONAL = frozenset({"scale", "sign"})
SCALE = frozenset({"scale"})
SIGN = frozenset({"sign"})
ONE: frozenset[str] = frozenset()

#: Width of a value without hidden units and of unknown shape; deduced from the layer that reads it.
UNKNOWN = -1

C = TypeVar("C", bound="Carrier")


@dataclass(eq=False)
class Carrier:
    """Base of `Units` and `Factor`: an object of a range of units that can be joined or split.

    Attributes:
        size: Number of units.
        joined: The object that this one was joined into.
        parts: The two objects that this one was split into.
    """

    size: int
    joined: Any = None
    parts: tuple[Any, ...] = ()

    def root(self: C) -> C:
        """The object that represents all objects joined with this one."""
        return self if self.joined is None else self.joined.root()


@dataclass(eq=False)
class Units(Carrier):
    """Units with one order.

    Attributes:
        name: The dense layer that produces them.
        start: Index of the first of them among that layer's units.
        slices: Every slice of a tensor axis that carries them.
        factors: Every factor that a value has on them.
        fixed: Whether their order affects the network's outputs, so that it must not change.
        readout: The last value that holds them, and the index of the first of them in it.
    """

    name: str = ""
    start: int = 0
    slices: list[AxisSlice] = field(default_factory=list)
    factors: list[Factor] = field(default_factory=list)
    fixed: bool = False
    readout: tuple[str, int] = ("", 0)

    def add_factor(self, factor: Factor) -> Factor:
        """Add a factor on these units, and return it."""
        self.factors.append(factor)
        return factor

    def fix(self) -> None:
        """Neither reorder nor scale these units."""
        root = self.root()
        root.fixed = True
        for factor in root.factors:
            factor.allow(ONE)


@dataclass(eq=False)
class Factor(Carrier):
    """One unknown factor per unit.

    Attributes:
        allowed: Kinds that it may be of.
        rows: Slices that are multiplied by it.
        columns: Slices that are divided by it.
        turned: For a sine layer's output: (factor of its input, half a turn of its bias).
        united: Whether two values share it.
    """

    allowed: frozenset[str] = FREE
    rows: list[AxisSlice] = field(default_factory=list)
    columns: list[AxisSlice] = field(default_factory=list)
    turned: tuple[Factor, float] | None = None
    united: bool = False

    def allow(self, kinds: frozenset[str]) -> None:
        """Restrict this factor to these kinds."""
        root = self.root()
        root.allowed &= kinds
        for part in root.parts:
            part.allow(kinds)


@dataclass(frozen=True)
class Piece:
    """A range of the last axis of a value.

    Attributes:
        size: Its length.
        units: The units that it holds; None for inputs.
        factor: Their factor; None for inputs.
        bias: Name of the bias, if the value is a dense layer's output times a constant.
        gain: That constant.
    """

    size: int
    units: Units | None = None
    factor: Factor | None = None
    bias: str | None = None
    gain: float = 1.0

    def changed(self, factor: Factor | None) -> Piece:
        """The same units with this factor, no longer marked as a dense layer's output."""
        return Piece(self.size, self.units, factor)


#: The last axis of a value.
Axis: TypeAlias = list[Piece]


def with_starts(axis: Axis) -> Iterator[tuple[int, Piece]]:
    """Pairs of (start index, piece)."""
    return zip(accumulate((piece.size for piece in axis), initial=0), axis, strict=False)


def current(piece: Piece) -> Axis:
    """The up-to-date pieces of a piece whose units may have been split or joined."""
    if piece.units is None or piece.factor is None:
        return [piece]
    units, factor = piece.units.root(), piece.factor.root()
    if not units.parts:
        return [replace(piece, units=units, factor=factor)]
    halves = [
        replace(piece, size=part.size, units=part, factor=part_factor)
        for part, part_factor in zip(units.parts, factor.parts, strict=True)
    ]
    return [now for half in halves for now in current(half)]


def leaves(units: Units) -> list[Units]:
    """The ranges of units that a range was split into, none of which is split further."""
    return [leaf for part in units.parts for leaf in leaves(part)] if units.parts else [units]


def split_units(units: Units, at: int) -> None:
    """Split a range of units, and all its factors, in two."""
    value, place = units.readout
    firsts, seconds = cut_slices(units.slices, at)
    first = replace(units, size=at, slices=firsts, factors=[])
    second = replace(
        units,
        size=units.size - at,
        start=units.start + at,
        slices=seconds,
        factors=[],
        readout=(value, place + at),
    )
    units.parts = (first, second)
    roots = [factor.root() for factor in units.factors]
    for root in roots:
        if not root.parts:
            root.parts = split_factor(root, at)
        for part, part_factor in zip(units.parts, root.parts, strict=True):
            part.factors.append(part_factor)
    for root in roots:
        if root.turned is not None:
            inner, half_turn = root.turned
            for part_factor, part_inner in zip(root.parts, inner.root().parts, strict=True):
                part_factor.turned = (part_inner, half_turn)


def split_factor(factor: Factor, at: int) -> tuple[Factor, Factor]:
    """The two halves of a factor; a half no longer allows a linear map of all units together."""
    halves = (cut_slices(factor.rows, at), cut_slices(factor.columns, at))
    (first_rows, second_rows), (first_columns, second_columns) = halves
    whole = replace(factor, allowed=factor.allowed - {"linear"}, turned=None)
    return (
        replace(whole, size=at, rows=first_rows, columns=first_columns),
        replace(whole, size=factor.size - at, rows=second_rows, columns=second_columns),
    )


def cut_slices(parts: list[AxisSlice], at: int) -> tuple[list[AxisSlice], list[AxisSlice]]:
    """The first `at` entries of each slice, and the rest of each."""
    firsts = [replace(part, stop=part.start + at) for part in parts]
    seconds = [replace(part, start=part.start + at) for part in parts]
    return firsts, seconds


def join_units(one: Units, other: Units) -> None:
    """Give two ranges of units one order."""
    keep, drop = one.root(), other.root()
    if keep is drop:
        return
    keep.slices += drop.slices
    keep.factors += drop.factors
    keep.fixed |= drop.fixed
    drop.joined = keep


def join_factors(one: Factor, other: Factor) -> None:
    """Make two factors one."""
    keep, drop = one.root(), other.root()
    keep.united = drop.united = True
    if keep is drop:
        return
    for factor in (keep, drop):
        if factor.turned is not None:  # from here on treated like any odd function
            inner, _ = factor.turned
            factor.turned = None
            join_factors(factor, inner)
    keep, drop = keep.root(), drop.root()
    if keep is drop:
        return
    keep.rows += drop.rows
    keep.columns += drop.columns
    keep.allowed &= drop.allowed
    drop.joined = keep
