"""How each kind of step acts on the units that it reads.

A dense layer produces a new range of units; its rows belong to these, its columns to the units that
it reads. Norms and elementwise functions keep the units. Concatenation, slicing and splitting join
and cut lists of pieces. Sums and products give both sides one order. Each method takes the traced
step (`node`) and its inputs, and writes the pieces of the step's own value into `axes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from torch import fx, nn

from ..typing import Tensor
from .aliases import Uses
from .axes import TracedAxes
from .carriers import DIAGONAL, FREE, ONE, SIGN, UNKNOWN, Axis, Factor, Piece, Units, with_starts
from .functions import ELEMENTWISE, NORMS, TRANSPARENT, argument
from .groups import AxisSlice
from .shapes import Shapes

__all__ = ["StepRules"]


class StepRules:
    """Follows units through the steps of a traced forward pass.

    Args:
        tensors: The network's state.
        axes: The last axis of each value; extended by every step.
        shapes: Known shapes of the values.
        uses: Which step uses which tensor; extended by every step.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], axes: TracedAxes, shapes: Shapes, uses: Uses
    ) -> None:
        self.tensors = tensors
        self.axes = axes
        self.shapes = shapes
        self.uses = uses
        #: Units of each dense layer, in the order of the forward pass.
        self.units: list[Units] = []
        #: Dense layer -> the value that its activation reads.
        self.pre_activations: dict[str, str] = {}
        #: Value without activation -> the dense layer that produced it.
        self.made_by: dict[fx.Node, str] = {}
        #: Dense layer -> its output, before any constant or norm.
        self.bare: dict[str, str] = {}

    # --- layers -----------------------------------------------------------------------------------

    def functional_dense(self, node: fx.Node) -> None:
        """A dense layer called as `torch.nn.functional.linear`."""
        source, weight, bias = (
            argument(node, place, name) for place, name in enumerate(("input", "weight", "bias"))
        )
        matrix, shift = self.parameter(weight), self.parameter(bias)
        followed = matrix is not None and self.tensors[matrix].ndim == 2
        if not followed or (bias is not None and shift is None) or not isinstance(source, fx.Node):
            self.axes.fix_all(node.all_input_nodes)
            return
        assert matrix is not None
        self.dense(node, source, matrix.removesuffix(".weight"), matrix, shift)

    def dense(
        self, node: fx.Node, source: fx.Node, name: str, weight: str, bias: str | None
    ) -> None:
        """A dense layer: its columns read units, its rows produce new ones."""
        self.made_by[node] = name
        self.bare[name] = node.name
        if self.repeats(node, source, "dense", [weight, bias]):
            return
        size, width = self.tensors[weight].shape
        if source in self.axes:
            for start, piece in with_starts(self.axes.resolved(source, width, weight)):
                if piece.units is not None and piece.factor is not None:
                    part = AxisSlice(weight, 1, start, start + piece.size)
                    piece.units.slices.append(part)
                    piece.factor.columns.append(part)
        rows = [AxisSlice(tensor, 0, 0, size) for tensor in (weight, bias) if tensor is not None]
        units = Units(size, name=name, slices=list(rows))
        self.units.append(units)
        factor = units.add_factor(Factor(size, rows=rows))
        self.axes.put(node, [Piece(size, units, factor, bias)])

    def norm(self, node: fx.Node, source: fx.Node, name: str, module: nn.Module) -> None:
        """A norm keeps the units; a norm with params starts a new factor."""
        keys = [key for key, value in module.state_dict().items() if value.ndim == 1]
        shape = getattr(module, "normalized_shape", None)
        if self.shapes.rank(node) != 2 if shape is None else len(shape) != 1:
            self.axes.fix(source)  # it normalises several axes, or one that is not the last
            return
        if keys and self.repeats(node, source, "norm", [f"{name}.{key}" for key in keys]):
            return
        if source not in self.axes:
            return
        width: Any = shape[0] if shape is not None else module.num_features
        axis = []
        for start, piece in with_starts(self.axes.resolved(source, width, name)):
            stop = start + piece.size
            params = {key: AxisSlice(f"{name}.{key}", 0, start, stop) for key in keys}
            axis.append(normed(piece, params, NORMS[type(module)]))
        self.carry_on(node, source, axis)

    def elementwise(self, node: fx.Node, source: fx.Node, called: str) -> None:
        """An elementwise function keeps the units and restricts their factors."""
        if source not in self.axes:
            return
        if called in TRANSPARENT:
            self.carry_on(node, source, self.axes.pieces(source))
            return
        # Only the first activation after a dense layer counts: `made_by` is not set for its value.
        if source in self.made_by:
            layer = self.made_by[source]
            # A layer's output times a constant is recorded without the constant.
            bare = all(piece.bias is not None for piece in self.axes.pieces(source))
            self.pre_activations[layer] = self.bare[layer] if bare else source.name
        self.axes.put(node, [activated(piece, called) for piece in self.axes.pieces(source)])

    # --- sums and products ------------------------------------------------------------------------

    def arithmetic(self, node: fx.Node, called: str) -> None:
        """Sums and products: of two values, of a value and a param, of a value and a number."""
        if set(node.kwargs) - {"alpha"}:
            self.axes.fix_all(node.all_input_nodes)
            return
        operands = [arg for arg in node.args if isinstance(arg, fx.Node)]
        values = [arg for arg in operands if self.parameter(arg) is None]
        params = [name for arg in operands if (name := self.parameter(arg)) is not None]
        numbers = [arg for arg in node.args if isinstance(arg, (int, float))]
        if not self.axes.any_known(values):
            return
        division = called in ("div", "truediv")
        if len(values) == 2 and not division:
            self.unite(node, *values, product=called == "mul")
        elif len(values) != 1 or (division and node.args[0] is not values[0]):
            self.axes.fix_all(values)
        elif called == "neg":
            self.multiply(node, values[0], -1.0)
        elif len(numbers) == 1 and called in ("add", "sub"):
            self.limit(node, values[0], ONE)
        elif len(numbers) == 1:
            number = float(numbers[0])
            self.multiply(node, values[0], 1 / (number or math.inf) if division else number)
        elif len(params) == 1:
            self.with_param(node, values[0], params[0], called)
        else:
            self.axes.fix_all(values)

    def multiply(self, node: fx.Node, source: fx.Node, number: float) -> None:
        """A constant factor changes only the gain."""
        axis = [
            Piece(piece.size, piece.units, piece.factor, piece.bias, piece.gain * number)
            for piece in self.axes.pieces(source)
        ]
        self.carry_on(node, source, axis)

    def limit(self, node: fx.Node, source: fx.Node, allowed: frozenset[str]) -> None:
        """Keep the units of a value and restrict their factors."""
        axis = [narrowed(piece, allowed) for piece in self.axes.pieces(source)]
        self.carry_on(node, source, axis)

    def with_param(self, node: fx.Node, source: fx.Node, name: str, called: str) -> None:
        """A sum or product with a param that has one entry per unit."""
        tensor = self.tensors[name]
        width = self.axes.width(source)
        if tensor.numel() == 1:
            self.uses.note(node, source, "number", [name])
            self.limit(node, source, ONE if called in ("add", "sub") else FREE)
        elif tensor.shape[-1] != width or tensor.numel() != width:
            self.axes.fix(source)
        elif not self.repeats(node, source, called, [name]):
            step = called if tensor.is_floating_point() else f"{called} mask"
            axis = [
                beside_param(piece, AxisSlice(name, tensor.ndim - 1, at, at + piece.size), step)
                for at, piece in with_starts(self.axes.pieces(source))
            ]
            self.carry_on(node, source, axis)

    def unite(self, node: fx.Node, left: fx.Node, right: fx.Node, *, product: bool) -> None:
        """A sum or product of two values: both sides must have the same order."""
        narrow = [value for value in (left, right) if self.axes.width(value) == 1]
        if len(narrow) == 1:
            # One number per point, broadcast over all units of the other side.
            self.axes.fix_all(narrow)
            wide = right if narrow[0] is left else left
            if wide in self.axes:
                self.limit(node, wide, FREE if product else ONE)
        else:
            self.axes.put(node, self.axes.tie(left, right, ONE if product else FREE))

    # --- joining and cutting ----------------------------------------------------------------------

    def cat(self, node: fx.Node) -> None:
        """Concatenation of the last axis."""
        joined = argument(node, 0, "tensors")
        dimension = argument(node, 1, "dim", node.kwargs.get("axis", 0))
        parts = list(joined) if isinstance(joined, (list, tuple)) else []
        alike = all(isinstance(part, fx.Node) for part in parts)
        if not parts or not alike or not self.shapes.is_last(dimension, node):
            self.axes.fix_all(node.all_input_nodes)
            return
        axis: Axis = []
        for part in parts:
            for piece in self.axes.pieces_or_rest(part):
                # Adjacent pieces of unknown width are merged into one.
                if piece.size != UNKNOWN or not axis or axis[-1].size != UNKNOWN:
                    axis.append(piece)
        self.axes.put(node, axis)

    def getitem(self, node: fx.Node) -> None:
        """A slice of the last axis, or one of the parts of a split."""
        source: Any = node.args[0]
        index: Any = node.args[1]
        if source in self.axes.parts and isinstance(index, int):
            self.axes.put(node, self.axes.parts[source][index])
        elif source in self.axes.parts or not self.indexes_last(node):
            self.axes.fix(source)
        elif source in self.axes:
            self.slice_last(node, source, index[-1])

    def indexes_last(self, node: fx.Node) -> bool:
        """Whether an index leaves all axes but the last as they are."""
        source, index = node.args
        assert isinstance(source, fx.Node)
        before = list(index[:-1]) if isinstance(index, tuple) else []
        whole = all(part is Ellipsis or part == slice(None) for part in before)
        reaches_last = Ellipsis in before or len(before) + 1 == self.shapes.rank(source)
        return bool(before) and whole and reaches_last and not node.all_input_nodes[1:]

    def slice_last(self, node: fx.Node, source: fx.Node, index: Any) -> None:
        """A slice of the last axis; a unit that is indexed by its number is fixed."""
        total = self.axes.width(source)
        if total is not None and isinstance(index, slice) and index.step in (None, 1):
            start, stop, _ = index.indices(total)
            self.axes.put(node, self.axes.stretch(source, start, stop))
        elif total is not None and type(index) is int:
            start = index % total
            for piece in self.axes.stretch(source, start, start + 1):
                if piece.units is not None:
                    piece.units.fix()
        else:
            self.axes.fix(source)

    def split(self, node: fx.Node, called: str) -> None:
        """Cut the last axis into parts, which `getitem` then selects."""
        source = argument(node, 0, "tensor" if called == "split" else "input")
        sizes = argument(node, 1, "chunks" if called == "chunk" else "split_size")
        sizes = node.kwargs.get("split_size_or_sections", sizes)
        dimension = argument(node, 2, "dim", 0)
        if len(node.all_input_nodes) != 1 or source is None or sizes is None:
            self.axes.fix_all(node.all_input_nodes)
            return
        total = self.axes.width(source)
        if total is None or not self.shapes.is_last(dimension, source):
            self.axes.fix(source)
            return
        if isinstance(sizes, int):
            step = -(-total // sizes) if called == "chunk" else sizes
            sizes = [min(step, total - start) for start in range(0, total, step)]
        borders = pairwise(accumulate(sizes, initial=0))
        self.axes.parts[node] = [self.axes.stretch(source, *border) for border in borders]

    # --- helpers ----------------------------------------------------------------------------------

    def parameter(self, value: Any) -> str | None:
        """Name of the network's tensor that a traced step reads; None for other values."""
        if isinstance(value, fx.Node) and value.op == "get_attr":
            return str(value.target) if str(value.target) in self.tensors else None
        return None

    def carry_on(self, node: fx.Node, source: fx.Node, axis: Axis) -> None:
        """Record that an elementwise step's value carries the same units."""
        self.axes.put(node, axis)
        if source in self.made_by:
            self.made_by[node] = self.made_by[source]

    def repeats(
        self, node: fx.Node, source: fx.Node, kind: str, tensors: Sequence[str | None]
    ) -> bool:
        """Record that a step uses tensors; at their second use, both uses get one unit order.

        Returns:
            Whether an earlier step used the same tensors in the same way; the axis of this step's
            value is then set already.
        """
        first = self.uses.note(node, source, kind, tensors)
        if first is None:
            return False
        earlier_source, earlier = first
        if self.axes.any_known([earlier_source, source]):
            self.axes.tie(earlier_source, source)
        if earlier in self.axes:
            self.axes.put(node, self.axes.pieces(earlier))
        return True


def narrowed(piece: Piece, allowed: frozenset[str]) -> Piece:
    """The same units, with a restricted factor."""
    if piece.factor is not None:
        piece.factor.allow(allowed)
    return piece.changed(piece.factor)


def activated(piece: Piece, called: str) -> Piece:
    """A piece after an activation; a sine of a dense layer's output starts a factor of turns."""
    if piece.units is None or piece.factor is None:
        return piece
    if called != "sin" or piece.bias is None or not piece.gain:
        return narrowed(piece, ELEMENTWISE[called])
    piece.factor.allow(SIGN)
    turned = (piece.factor, math.pi / abs(piece.gain))
    return piece.changed(piece.units.add_factor(Factor(piece.size, allowed=SIGN, turned=turned)))


def normed(piece: Piece, params: Mapping[str, AxisSlice], passed: frozenset[str]) -> Piece:
    """A piece after a norm, whose weight absorbs the factor and starts a new one."""
    if piece.units is None or piece.factor is None:
        return piece
    piece.units.slices += params.values()
    piece.factor.allow(passed)
    if "running_mean" in params:
        piece.factor.rows.append(params["running_mean"])
    if "weight" not in params:
        return piece.changed(piece.factor)
    piece.factor.columns.append(params["weight"])
    rows = [params[key] for key in ("weight", "bias") if key in params]
    return piece.changed(piece.units.add_factor(Factor(piece.size, allowed=DIAGONAL, rows=rows)))


def beside_param(piece: Piece, part: AxisSlice, step: str) -> Piece:
    """A piece after a sum or product with a tensor that has one entry per unit."""
    if piece.units is None or piece.factor is None:
        return piece
    piece.units.slices.append(part)
    if step == "mul mask":  # a mask is permuted with the units and absorbs no factor
        return narrowed(piece, DIAGONAL)
    if step == "add":
        piece.factor.rows.append(part)
        return narrowed(piece, DIAGONAL)
    if step == "mul":
        piece.factor.columns.append(part)
        piece.factor.allow(DIAGONAL)
        new = Factor(piece.size, allowed=DIAGONAL, rows=[part])
        return piece.changed(piece.units.add_factor(new))
    return narrowed(piece, ONE)
