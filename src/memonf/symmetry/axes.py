"""The last axes of all traced values: what they hold, where they are cut, what moves together.

Values that are not made of hidden units have no entry. An entry may be out of date, since its units
may have been cut or united by a later step; `Axes.pieces` brings it up to date.
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

__all__ = ["Axes"]


class Axes:
    """The last axis of every traced value that is made of hidden units.

    Args:
        name: The network's name, for errors.
        shapes: What is known of the values' shapes.
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
        """The error that says why this network cannot be followed."""
        return InputError(f"field `{self.name}`: {reason}; `distill` can merge it")

    # --- reading and writing ----------------------------------------------------------------------

    def any_known(self, nodes: Iterable[fx.Node]) -> bool:
        """Whether any of the values is made of hidden units."""
        return any(node in self.known for node in nodes)

    def put(self, node: fx.Node, axis: Axis) -> None:
        """Say what a value holds, and remember that its units can be read there last."""
        self.known[node] = axis
        for start, piece in with_starts(self.pieces(node)):
            if piece.units is not None:
                piece.units.readout = (node.name, start)
            if piece.size == UNKNOWN:
                return

    def pieces(self, node: fx.Node) -> Axis:
        """The last axis of a value as it is known now."""
        axis = [now for piece in self.known[node] for now in current(piece)]
        self.known[node] = axis
        return axis

    def pieces_or_rest(self, node: fx.Node) -> Axis:
        """Last axis of a value; what is not made of hidden units is one piece without."""
        return self.pieces(node) if node in self.known else [Piece(self.shapes.width(node))]

    def width(self, node: fx.Node) -> int | None:
        """Length of a value's last axis, if it is made of hidden units and that is known."""
        if node not in self.known:
            return None
        sizes = [piece.size for piece in self.pieces(node)]
        return None if UNKNOWN in sizes else sum(sizes)

    def resolved(self, source: fx.Node, total: int, reader: str) -> Axis:
        """The pieces of a value whose whole width its reader tells.

        Raises:
            InputError: The width does not fit, or leaves two unknown ones open.
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
                f"`{reader}` reads {total} features, its inputs make {total - rest}: values are "
                "joined in a way that cannot be followed"
            )
        return pieces

    # --- cutting ----------------------------------------------------------------------------------

    def stretch(self, node: fx.Node, start: int, stop: int) -> Axis:
        """The pieces between two places of the last axis, cut where needed."""
        for place in (start, stop):
            self.cut(node, place)
        return [piece for at, piece in with_starts(self.pieces(node)) if start <= at < stop]

    def cut(self, node: fx.Node, place: int) -> None:
        """Make a place of the last axis the border of two pieces."""
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
        """Where the pieces of a value end."""
        return set(accumulate(piece.size for piece in self.pieces(node)))

    # --- moving together --------------------------------------------------------------------------

    def tie(self, left: fx.Node, right: fx.Node, allowed: frozenset[str] = FREE) -> Axis:
        """Two values move together; returns the axis of their sum."""
        pairs = zip(*self.aligned_pieces(left, right), strict=True)
        return [tie_pieces(mine, other, allowed) for mine, other in pairs]

    def aligned_pieces(self, left: fx.Node, right: fx.Node) -> tuple[Axis, Axis]:
        """Pieces of two values of one width, cut at the same places.

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
                f"`{left.name}` and `{right.name}` move together but have different widths"
            )
        # Cutting one may cut the other where both hold the same units, elsewhere.
        while (here := self.borders(left)) != (there := self.borders(right)):
            for place in there - here:
                self.cut(left, place)
            for place in here - there:
                self.cut(right, place)
        return self.pieces(left), self.pieces(right)

    # --- staying as they are ----------------------------------------------------------------------

    def fix_all(self, nodes: Iterable[fx.Node]) -> None:
        """See `fix`."""
        for node in nodes:
            self.fix(node)

    def fix(self, node: fx.Node) -> None:
        """The order and size of these units can be seen from outside."""
        for axis in self.parts.get(node, [self.known.get(node, [])]):
            for piece in axis:
                for now in current(piece):
                    if now.units is not None:
                        now.units.fix()


def beside(axis: Axis) -> Axis:
    """The axis of a value without units that is added to, or multiplied by, one with units."""
    sizes = [piece.size for piece in axis]
    # Both may be of width 1 and this one not: then the units are repeated.
    return [Piece(UNKNOWN)] if sizes == [1] else [Piece(size) for size in sizes]


def tie_pieces(mine: Piece, other: Piece, allowed: frozenset[str]) -> Piece:
    """Two pieces move together; without units in one of them, the other's cannot move."""
    if mine.units is None or other.units is None:
        for piece in (mine, other):
            if piece.units is not None:
                piece.units.fix()
        return Piece(UNKNOWN if UNKNOWN in (mine.size, other.size) else mine.size)
    assert mine.factor is not None
    assert other.factor is not None
    join_units(mine.units, other.units)
    for piece in (mine, other):
        assert piece.factor is not None
        piece.factor.allow(allowed)
    join_factors(mine.factor, other.factor)
    return Piece(mine.size, mine.units.root(), mine.factor.root())
