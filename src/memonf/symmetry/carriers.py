"""What the last axis of a traced value carries: pieces, their units and their factors.

The last axis is a list of pieces (`Piece`): stretches of hidden units with one order (`Units`), or
stretches without (inputs, encodings). Besides its units, each piece carries a factor (`Factor`):
one unknown per unit, by which the value could be multiplied if `rows` were multiplied and `columns`
divided by it. Units and factors are shared by all values that hold them. They can be cut in two,
and two of them can turn out to be the same; `current` says what a piece has become since.
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

#: What a factor may be; the empty set says that it must be 1.
FREE = frozenset({"linear", "scale", "sign"})
DIAGONAL = frozenset({"scale", "sign"})
SCALE = frozenset({"scale"})
SIGN = frozenset({"sign"})
ONE: frozenset[str] = frozenset()

#: Width of a value that is neither hidden units nor of known shape; deduced where it is read.
UNKNOWN = -1

C = TypeVar("C", bound="Carrier")


@dataclass(eq=False)
class Carrier:
    """Something that all units of a stretch have, and that may turn out to be another's."""

    size: int
    joined: Any = None
    parts: tuple[Any, ...] = ()

    def root(self: C) -> C:
        """The one that stands for all united with this one."""
        return self if self.joined is None else self.joined.root()


@dataclass(eq=False)
class Units(Carrier):
    """Units with one order.

    Attributes:
        name: The dense layer that makes them.
        start: Where they start among that layer's units.
        slices: Every axis that carries them.
        factors: Every factor that some value has on them.
        fixed: Their order can be seen from outside.
        readout: The last value that holds them, and where they start in it.
    """

    name: str = ""
    start: int = 0
    slices: list[AxisSlice] = field(default_factory=list)
    factors: list[Factor] = field(default_factory=list)
    fixed: bool = False
    readout: tuple[str, int] = ("", 0)

    def add_factor(self, factor: Factor) -> Factor:
        """Note one more factor on these units, and return it."""
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
        allowed: What it may be.
        rows: Slices that are multiplied by it.
        columns: Slices that are divided by it.
        turned: For a sine layer's output: (factor of its input, half a turn of its bias).
        united: Two values were found to share it.
    """

    allowed: frozenset[str] = FREE
    rows: list[AxisSlice] = field(default_factory=list)
    columns: list[AxisSlice] = field(default_factory=list)
    turned: tuple[Factor, float] | None = None
    united: bool = False

    def allow(self, kinds: frozenset[str]) -> None:
        """Narrow what this factor may be."""
        root = self.root()
        root.allowed &= kinds
        for part in root.parts:
            part.allow(kinds)


@dataclass(frozen=True)
class Piece:
    """A stretch of the last axis of a value.

    Attributes:
        size: Its length.
        units: Whose units it holds; None for inputs.
        factor: Their factor; None for inputs.
        bias: For a dense layer's bare output: its bias.
        gain: The constant that this output was multiplied by since.
    """

    size: int
    units: Units | None = None
    factor: Factor | None = None
    bias: str | None = None
    gain: float = 1.0

    def changed(self, factor: Factor | None) -> Piece:
        """The same units with this factor, and no dense layer's bare output any more."""
        return Piece(self.size, self.units, factor)


#: The last axis of a value.
Axis: TypeAlias = list[Piece]


def with_starts(axis: Axis) -> Iterator[tuple[int, Piece]]:
    """Each piece with the place where it starts."""
    return zip(accumulate((piece.size for piece in axis), initial=0), axis, strict=False)


def current(piece: Piece) -> Axis:
    """A piece as it is known now: cut and united since it was made."""
    if piece.units is None or piece.factor is None:
        return [piece]
    units, factor = piece.units.root(), piece.factor.root()
    if not units.parts:
        return [replace(piece, units=units, factor=factor)]
    halves = [
        replace(piece, size=part.size, units=part, factor=its_factor)
        for part, its_factor in zip(units.parts, factor.parts, strict=True)
    ]
    return [now for half in halves for now in current(half)]


def leaves(units: Units) -> list[Units]:
    """The uncut stretches that a stretch was cut into."""
    return [leaf for part in units.parts for leaf in leaves(part)] if units.parts else [units]


def split_units(units: Units, at: int) -> None:
    """Cut a stretch of units, and all its factors, in two."""
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
        for part, its_factor in zip(units.parts, root.parts, strict=True):
            part.factors.append(its_factor)
    for root in roots:
        if root.turned is not None:
            inner, half_turn = root.turned
            for its_factor, its_inner in zip(root.parts, inner.root().parts, strict=True):
                its_factor.turned = (its_inner, half_turn)


def split_factor(factor: Factor, at: int) -> tuple[Factor, Factor]:
    """The two halves of a factor; a map of all units together is none of a half's."""
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
    """Two stretches turn out to be in one order."""
    keep, drop = one.root(), other.root()
    if keep is drop:
        return
    keep.slices += drop.slices
    keep.factors += drop.factors
    keep.fixed |= drop.fixed
    drop.joined = keep


def join_factors(one: Factor, other: Factor) -> None:
    """Two factors turn out to be the same."""
    keep, drop = one.root(), other.root()
    keep.united = drop.united = True
    if keep is drop:
        return
    for factor in (keep, drop):
        if factor.turned is not None:  # an odd function like any other
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
