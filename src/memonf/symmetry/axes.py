"""The last axis of every traced value: its pieces, its cuts, and which axes share an order.

Values without hidden units have no entry. An entry may be out of date, because a later step may
have split or joined its units; `TracedAxes.pieces` updates it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from torch import fx

from ..errors import InputError
from .carriers import (
    FREE,
    UNKNOWN,
    Axis,
    Piece,
    current,
    join_factors,
    join_units,
    split_units,
    with_starts,
)
from .shapes import Shapes

__all__ = ["TracedAxes"]


class TracedAxes:
    """The last axis of every traced value that consists of hidden units.

    Args:
        name: The network's name, for error messages.
        shapes: Known shapes of the values.
    """

    def __init__(self, name: str, shapes: Shapes) -> None:
        self.name = name
        self.shapes = shapes
        self.known: dict[fx.Node, Axis] = {}
        #: Split -> the axes of its parts.
        self.parts: dict[fx.Node, list[Axis]] = {}

    def __contains__(self, node: fx.Node) -> bool:
        return node in self.known

    def refuse(self, reason: str) -> InputError:
        """The error for a network whose forward pass cannot be followed, for this reason."""
        return InputError(f"field `{self.name}`: {reason}; `distill` can merge it")

    # --- reading and writing ----------------------------------------------------------------------

    def any_known(self, nodes: Iterable[fx.Node]) -> bool:
        """Whether any of the values consists of hidden units."""
        return any(node in self.known for node in nodes)

    def put(self, node: fx.Node, axis: Axis) -> None:
        """Set the axis of a value, and record it as the last value that holds its units."""
        self.known[node] = axis
        for start, piece in with_starts(self.pieces(node)):
            if piece.units is not None:
                piece.units.readout = (node.name, start)
            if piece.size == UNKNOWN:
                return

    def pieces(self, node: fx.Node) -> Axis:
        """The last axis of a value, up to date."""
        axis = [now for piece in self.known[node] for now in current(piece)]
        self.known[node] = axis
        return axis

    def pieces_or_rest(self, node: fx.Node) -> Axis:
        """Last axis of a value; a value without hidden units is one piece without units."""
        return self.pieces(node) if node in self.known else [Piece(self.shapes.width(node))]

    def width(self, node: fx.Node) -> int | None:
        """Length of a value's last axis; None if it has no hidden units or an unknown length."""
        if node not in self.known:
            return None
        sizes = [piece.size for piece in self.pieces(node)]
        return None if UNKNOWN in sizes else sum(sizes)

    def resolved(self, source: fx.Node, total: int, reader: str) -> Axis:
        """The pieces of a value whose total width is given by the layer that reads it.

        Raises:
            InputError: The widths do not add up, or more than one of them is unknown.
        """
        pieces = self.pieces(source)
        if all(piece.units is None for piece in pieces):
            return pieces
        unknown = [place for place, piece in enumerate(pieces) if piece.size == UNKNOWN]
        if len(unknown) > 1:
            raise self.refuse(
                f"`{reader}` reads several inputs of unknown width; pass example `inputs` to "
                "find_symmetry"
            )
        rest = total - sum(piece.size for piece in pieces if piece.size != UNKNOWN)
        for place in unknown:
            pieces[place] = Piece(rest)
        if (rest < 0) if unknown else (rest != 0):
            raise self.refuse(
                f"`{reader}` expects {total} input features, but its inputs have {total - rest}: "
                "values are joined in a way that cannot be followed"
            )
        return pieces

    # --- cutting ----------------------------------------------------------------------------------

    def stretch(self, node: fx.Node, start: int, stop: int) -> Axis:
        """The pieces between two positions of the last axis, split where needed."""
        for place in (start, stop):
            self.cut(node, place)
        return [piece for at, piece in with_starts(self.pieces(node)) if start <= at < stop]

    def cut(self, node: fx.Node, place: int) -> None:
        """Split the piece at a position of the last axis."""
        for index, (start, piece) in enumerate(with_starts(self.pieces(node))):
            inside = place - start
            if 0 < inside < piece.size:
                if piece.units is None:
                    halves = [Piece(inside), Piece(piece.size - inside)]
                    self.known[node][index : index + 1] = halves
                else:
                    split_units(piece.units.root(), inside)
                return

    def borders(self, node: fx.Node) -> set[int]:
        """Positions at which the pieces of a value end."""
        return set(accumulate(piece.size for piece in self.pieces(node)))

    # --- moving together --------------------------------------------------------------------------

    def tie(self, left: fx.Node, right: fx.Node, allowed: frozenset[str] = FREE) -> Axis:
        """Give two values one unit order; returns the axis of their sum."""
        pairs = zip(*self.aligned_pieces(left, right), strict=True)
        return [tie_pieces(one, other, allowed) for one, other in pairs]

    def aligned_pieces(self, left: fx.Node, right: fx.Node) -> tuple[Axis, Axis]:
        """Pieces of two values of equal width, split at the same positions.

        Raises:
            InputError: The widths differ.
        """
        if left not in self.known:
            return beside(self.pieces(right)), self.pieces(right)
        if right not in self.known:
            return self.pieces(left), beside(self.pieces(left))
        widths = (self.width(left), self.width(right))
        if None in widths:
            self.fix_all([left, right])
            return [Piece(UNKNOWN)], [Piece(UNKNOWN)]
        if widths[0] != widths[1]:
            raise self.refuse(
                f"`{left.name}` and `{right.name}` must share one unit order but have different "
                f"widths, {widths[0]} and {widths[1]}"
            )
        # Splitting one may split the other, at another position, where both hold the same units.
        while (here := self.borders(left)) != (there := self.borders(right)):
            for place in there - here:
                self.cut(left, place)
            for place in here - there:
                self.cut(right, place)
        return self.pieces(left), self.pieces(right)

    # --- fixing -----------------------------------------------------------------------------------

    def fix_all(self, nodes: Iterable[fx.Node]) -> None:
        """See `fix`."""
        for node in nodes:
            self.fix(node)

    def fix(self, node: fx.Node) -> None:
        """Fix a value's units: their order and scale affect the network's outputs."""
        for axis in self.parts.get(node, [self.known.get(node, [])]):
            for piece in axis:
                for now in current(piece):
                    if now.units is not None:
                        now.units.fix()


def beside(axis: Axis) -> Axis:
    """The axis of a value without units that is added to, or multiplied with, one with units."""
    sizes = [piece.size for piece in axis]
    # If the units have width 1 and this value has not, the units are broadcast.
    return [Piece(UNKNOWN)] if sizes == [1] else [Piece(size) for size in sizes]


def tie_pieces(one: Piece, other: Piece, allowed: frozenset[str]) -> Piece:
    """Give two pieces one unit order; if one piece has no units, those of the other are fixed."""
    if one.units is None or other.units is None:
        for piece in (one, other):
            if piece.units is not None:
                piece.units.fix()
        return Piece(UNKNOWN if UNKNOWN in (one.size, other.size) else one.size)
    assert one.factor is not None
    assert other.factor is not None
    join_units(one.units, other.units)
    for piece in (one, other):
        assert piece.factor is not None
        piece.factor.allow(allowed)
    join_factors(one.factor, other.factor)
    return Piece(one.size, one.units.root(), one.factor.root())
