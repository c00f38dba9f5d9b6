"""Finding the symmetry of a network: follow its hidden units through one traced forward pass.

The last axis of every traced value is a list of *pieces*: stretches of hidden units with one order
(`_Units`), or stretches without (inputs, encodings). A dense layer starts a new stretch and ties
its rows to it and its columns to what it reads; concatenation and slicing cut and join lists; norms
and elementwise functions keep them; sums and products unite their sides.

Besides its units, each piece carries a *factor* (`_Factor`): one unknown per unit, by which the
value could be multiplied if `rows` were multiplied and `columns` divided by it. Each step says
what that unknown may be. A dense layer's is free (any invertible map), ReLU lets only positive
factors pass, tanh only signs, a sum asks both sides for the same, other functions ask for 1. What
is left at the end are the gauges.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from ..encodings import FrequencyEncoding
from ..errors import InputError
from ..typing import Tensor
from .groups import AxisSlice, Gauge, Group, Kind, Symmetry
from .recording import record

__all__ = ["find_symmetry"]

#: What a factor may be; the empty set says that it must be 1.
FREE = frozenset({"linear", "scale", "sign"})
DIAGONAL = frozenset({"scale", "sign"})
SCALE = frozenset({"scale"})
SIGN = frozenset({"sign"})
ONE: frozenset[str] = frozenset()

#: Functions of each entry alone, by name: the factors that they let pass.
ELEMENTWISE = {
    **dict.fromkeys(("relu", "leaky_relu"), SCALE),
    **dict.fromkeys(("tanh", "sin", "atan", "arctan", "asinh", "sinh", "erf", "softsign"), SIGN),
    **dict.fromkeys(
        ("sigmoid", "silu", "gelu", "softplus", "elu", "selu", "celu", "mish", "relu6", "exp",
         "cos", "square", "abs", "logsigmoid", "hardsigmoid", "hardswish", "sqrt", "clamp", "pow"),
        ONE,
    ),
    **dict.fromkeys(("contiguous", "clone", "detach", "float", "dropout", "identity"), FREE),
}  # fmt: skip
MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.LeakyReLU: "leaky_relu", nn.Tanh: "tanh", nn.Softsign: "softsign",
    nn.Sigmoid: "sigmoid", nn.SiLU: "silu", nn.GELU: "gelu", nn.Softplus: "softplus",
    nn.ELU: "elu", nn.SELU: "selu", nn.CELU: "celu", nn.Mish: "mish", nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish", nn.Identity: "identity", nn.Dropout: "dropout",
}  # fmt: skip
#: Elementwise functions that are no activation.
TRANSPARENT = {name for name, passed in ELEMENTWISE.items() if passed == FREE}
#: Functions that may hand out the memory that they were given.
VIEWS = TRANSPARENT | {"getitem", "split", "chunk"}
#: Functions whose values have as many axes as what they read.
RANK_KEEPING = (
    ELEMENTWISE.keys()
    | VIEWS
    | {"linear", "cat", "concat", "concatenate", "add", "sub", "mul", "div", "truediv", "neg"}
)
#: Augmented assignments, which change tensors in place.
AUGMENTED = {
    f"__{name}__": getattr(operator, name)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul",
                 "iand", "ior", "ixor")
}  # fmt: skip
#: Attributes of a value that say nothing of its entries.
OUTER_ATTRIBUTES = {"shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout"}
#: Norm -> the factors that its input may have. Batch norm divides by a deviation that grows with
#: the factor (but for a small constant), so that only signs are taken back exactly.
NORMS: dict[type[nn.Module], frozenset[str]] = {
    nn.BatchNorm1d: SIGN, nn.LayerNorm: ONE, nn.RMSNorm: SIGN,
}  # fmt: skip
#: Width of a value that is neither hidden units nor of known shape; deduced where it is read.
UNKNOWN = -1


@dataclass(eq=False)
class _Carrier:
    """Something that all units of a stretch have, and that may turn out to be another's."""

    size: int
    joined: Any = None
    parts: tuple[Any, ...] = ()

    def root(self) -> Any:
        """The one that stands for all united with this one."""
        return self if self.joined is None else self.joined.root()


@dataclass(eq=False)
class _Units(_Carrier):
    """Units with one order."""

    name: str = ""
    start: int = 0
    slices: list[AxisSlice] = field(default_factory=list)
    factors: list[_Factor] = field(default_factory=list)
    fixed: bool = False
    readout: tuple[str, int] = ("", 0)


@dataclass(eq=False)
class _Factor(_Carrier):
    """One unknown factor per unit."""

    allowed: frozenset[str] = FREE
    rows: list[AxisSlice] = field(default_factory=list)
    columns: list[AxisSlice] = field(default_factory=list)
    #: A sine layer's output: (factor of its input, half a turn of its bias).
    turned: tuple[_Factor, float] | None = None
    united: bool = False

    def allow(self, kinds: frozenset[str]) -> None:
        """Narrow what this factor may be."""
        root = self.root()
        root.allowed &= kinds
        for part in root.parts:
            part.allow(kinds)


@dataclass(frozen=True)
class _Piece:
    """A stretch of the last axis of a value.

    Attributes:
        size: Its length.
        units: Whose units it holds; None for inputs.
        factor: Their factor; None for inputs.
        bias: For a dense layer's bare output: its bias.
        gain: The constant that this output was multiplied by since.
    """

    size: int
    units: _Units | None = None
    factor: _Factor | None = None
    bias: str | None = None
    gain: float = 1.0


_Axis: TypeAlias = "list[_Piece]"


class _Proxy(fx.Proxy):
    """Notes ``h += x`` as the change in place that it is; torch.fx itself notes ``h + x``."""


def _augmented(step: Callable[..., Any]) -> Callable[..., fx.Proxy]:
    """The method of a proxy that notes one augmented assignment."""

    def assign(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", step, (self, other), {})

    return assign


for _name, _step in AUGMENTED.items():
    setattr(_Proxy, _name, _augmented(_step))


class _Tracer(fx.Tracer):
    """Traces `method`, treating encodings and torch's own modules as single steps."""

    #: Buffers are noted like params: a value computed from one is no constant.
    proxy_buffer_attributes = True

    def __init__(self, method: str) -> None:
        super().__init__()
        self.traced_func_name = method

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FrequencyEncoding) or super().is_leaf_module(m, module_qualified_name)


def find_symmetry(
    network: nn.Module, method: str = "raw", inputs: Sequence[Tensor | None] | None = None
) -> Symmetry:
    """Trace a network and derive its groups and gauges.

    Args:
        network: Any module made of dense layers, norms, elementwise functions, concatenations,
            slices of the last axis, sums and products. Values are (points, features).
        method: The method to trace.
        inputs: Example arguments; only needed where widths cannot be told from the layers.

    Raises:
        InputError: The forward pass cannot be read; such a field can still be distilled.
    """
    name = getattr(network, "name", type(network).__name__)
    try:
        graph = fx.GraphModule(network, _Tracer(method).trace(network))
    except Exception as error:  # the network's own code runs here: it may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"field `{name}`: its `{method}` cannot be traced ({reason}); weight-space merging "
            "needs a forward pass without branches on values, `distill` can merge it"
        ) from None
    finder = _Finder(graph, name, network)
    if inputs is not None:
        finder.learn_shapes(network, inputs)
    for node in graph.graph.nodes:
        finder.visit(node)
    return finder.symmetry()


class _Finder:
    """Follows the last axis of every traced value."""

    def __init__(self, graph: fx.GraphModule, name: str, network: nn.Module) -> None:
        self.graph = graph
        self.name = name
        self.modules = dict(graph.named_modules())
        # Not the graph's: tracing adds constants to it, which are no part of a network's state.
        self.tensors = network.state_dict(keep_vars=True)
        self.axes: dict[fx.Node, _Axis] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.units: list[_Units] = []
        self.pre_activations: dict[str, str] = {}
        self.made_by: dict[fx.Node, str] = {}
        self.split_into: dict[fx.Node, list[_Axis]] = {}
        self.places = {node: place for place, node in enumerate(graph.graph.nodes)}
        #: Values known to be (points, features).
        self.flat: set[fx.Node] = set()
        #: (kind of step, its tensors) -> what it read and made when it came first.
        self.first_use: dict[tuple[str | None, ...], tuple[fx.Node, fx.Node]] = {}
        #: Tensor -> the kind of step that uses it.
        self.use_of: dict[str, tuple[str | None, ...]] = {}
        #: (step, tensor) whose effect is known.
        self.followed: set[tuple[fx.Node, str]] = set()
        #: Tensors with two kinds of use, or under two names: they stay as they are.
        self.pinned = repeated(self.tensors)

    def refuse(self, reason: str) -> InputError:
        """The error that says why this network cannot be followed."""
        return InputError(f"field `{self.name}`: {reason}; `distill` can merge it")

    def learn_shapes(self, network: nn.Module, inputs: Sequence[Tensor | None]) -> None:
        """Run once and note the shape of every value."""
        symmetry = Symmetry((), self.graph.graph, {})
        names = {node.name for node in self.graph.graph.nodes}

        def note(name: str, value: Any) -> None:
            if isinstance(value, Tensor):
                self.shapes[name] = tuple(value.shape)

        with torch.no_grad():
            record(symmetry, network, inputs, names, note)

    # --- dispatch ---------------------------------------------------------------------------------

    def visit(self, node: fx.Node) -> None:
        """Dispatch on what the traced step does."""
        if self.keeps_rank(node):
            self.flat.add(node)
        if self.in_place(node):
            self.check_aliases(node)
        if node.op == "output":
            for value in node.all_input_nodes:
                self.fix(value)
        elif node.op == "call_module":
            self.visit_module(node, self.modules[str(node.target)])
        elif node.op in ("call_function", "call_method"):
            self.visit_function(node)

    def visit_module(self, node: fx.Node, module: nn.Module) -> None:
        """Dense layers, norms, activations; anything else must not be fed hidden units."""
        sources = node.all_input_nodes
        name = str(node.target)
        if isinstance(module, nn.Linear) and f"{name}.weight" not in self.tensors:
            raise self.refuse(
                f"`{name}` computes its weight from other params (weight norm?); bake it in "
                "with torch.nn.utils.parametrize.remove_parametrizations"
            )
        if module._forward_hooks or module._forward_pre_hooks:
            self.fix_all(sources)  # hooks may do anything
        elif isinstance(module, nn.Linear):
            bias = None if module.bias is None else f"{name}.bias"
            self.dense(node, sources[0], name, f"{name}.weight", bias)
        elif type(module) in NORMS:
            self.norm(node, sources[0], name, module)
        elif type(module) in MODULES:
            self.elementwise(node, sources[0], MODULES[type(module)])
        elif not isinstance(module, FrequencyEncoding) or self.carries_units(sources):
            self.fix_all(sources)

    def visit_function(self, node: fx.Node) -> None:
        """Functions and methods, told by their names; unknown ones fix what they read."""
        inputs = node.all_input_nodes
        called = called_name(node)
        if "out" in node.kwargs:
            self.fix_all(inputs)
        elif called in ("cat", "concat", "concatenate"):
            self.cat(node)
        elif called == "getitem":
            self.getitem(node)
        elif called in ("split", "chunk"):
            self.split(node, called)
        elif called == "linear":
            self.functional_dense(node)
        elif called in ("add", "sub", "mul", "truediv", "div", "neg"):
            self.arithmetic(node, called)
        elif called in ELEMENTWISE and len(inputs) == 1:
            self.elementwise(node, inputs[0], called)
        elif called == "getattr" and node.args[1] in OUTER_ATTRIBUTES:
            pass
        elif called not in ("size", "dim"):
            self.fix_all(inputs)

    def keeps_rank(self, node: fx.Node) -> bool:
        """Whether a value has the two axes that the arguments have."""
        if node.op == "placeholder":
            return True
        if node.op == "get_attr":
            return str(node.target) in self.tensors and self.tensors[str(node.target)].ndim <= 2
        if any(source not in self.flat for source in node.all_input_nodes):
            return False
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            known = (nn.Linear, FrequencyEncoding, *NORMS, *MODULES)
            return isinstance(module, known)
        called = called_name(node)
        if called == "getitem":
            source, index = node.args
            if isinstance(source, fx.Node) and called_name(source) in ("split", "chunk"):
                return True
            parts = index if isinstance(index, tuple) else (index,)
            return all(part is Ellipsis or isinstance(part, slice) for part in parts)
        return called in RANK_KEEPING

    def rank(self, node: fx.Node) -> int | None:
        """How many axes a value has, if that is known."""
        if node.name in self.shapes:
            return len(self.shapes[node.name])
        return 2 if node in self.flat else None

    def is_last(self, dimension: Any, node: fx.Node) -> bool:
        """Whether a dimension is a value's last."""
        rank = self.rank(node)
        return dimension == -1 or (rank is not None and dimension == rank - 1)

    # --- changes in place -------------------------------------------------------------------------

    def in_place(self, node: fx.Node) -> bool:
        """Whether a step may write into what it reads."""
        if node.op == "call_module":
            return bool(getattr(self.modules[str(node.target)], "inplace", False))
        if node.op not in ("call_function", "call_method"):
            return False
        name = getattr(node.target, "__name__", str(node.target))
        return (
            name.endswith("_")
            or node.target in AUGMENTED.values()
            or any(flag is True for flag in (*node.args, node.kwargs.get("inplace")))
        )

    def check_aliases(self, node: fx.Node) -> None:
        """Fix what shares its memory with a value that is overwritten here and read later."""
        shared = self.aliases(node)
        if any(self.places[user] > self.places[node] for alias in shared for user in alias.users):
            self.fix_all([*node.all_input_nodes, *shared])

    def aliases(self, node: fx.Node) -> set[fx.Node]:
        """Earlier values that may share memory with the one that a step overwrites."""
        pairs = [
            {step, step.all_input_nodes[0]}
            for step, place in self.places.items()
            if place < self.places[node] and step.all_input_nodes and self.may_be_view(step)
        ]
        shared = set(node.all_input_nodes[:1])
        while joined := [pair for pair in pairs if len(pair & shared) == 1]:
            shared.update(*joined)
        return shared

    def may_be_view(self, node: fx.Node) -> bool:
        """Whether a value may share memory with the first value that its step reads."""
        if self.in_place(node):
            return True
        if node.op == "call_module":
            return MODULES.get(type(self.modules[str(node.target)])) in VIEWS
        return node.op in ("call_function", "call_method") and called_name(node) in VIEWS

    def use(self, node: fx.Node, source: fx.Node, kind: str, tensors: Sequence[str | None]) -> bool:
        """Note that a step uses tensors; when it is their second use, both uses move together.

        Returns:
            Whether an earlier step did the same with the same tensors: the value is then settled.
        """
        key = (kind, *tensors)
        self.note_use(node, key)
        if key not in self.first_use:
            self.first_use[key] = (source, node)
            return False
        earlier_source, earlier = self.first_use[key]
        if self.carries_units([earlier_source, source]):
            self.tie(earlier_source, source)
        if earlier in self.axes:
            self.axes[node] = list(self.pieces(earlier))
            self.note_readouts(node)
        return True

    def note_use(self, node: fx.Node, key: tuple[str | None, ...]) -> None:
        """Note what a step does with tensors; two kinds of use pin them."""
        for tensor in key[1:]:
            if tensor is not None:
                self.followed.add((node, tensor))
                if self.use_of.setdefault(tensor, key) != key:
                    self.pinned.add(tensor)

    # --- steps ------------------------------------------------------------------------------------

    def functional_dense(self, node: fx.Node) -> None:
        """A dense layer that is called as a function of its params."""
        source, weight, bias = (
            argument(node, place, name) for place, name in enumerate(("input", "weight", "bias"))
        )
        matrix, shift = self.parameter(weight), self.parameter(bias)
        followed = matrix is not None and self.tensors[matrix].ndim == 2
        if not followed or (bias is not None and shift is None) or not isinstance(source, fx.Node):
            self.fix_all(node.all_input_nodes)
            return
        assert matrix is not None
        self.dense(node, source, matrix.removesuffix(".weight"), matrix, shift)

    def dense(
        self, node: fx.Node, source: fx.Node, name: str, weight: str, bias: str | None
    ) -> None:
        """A dense layer reads units by its columns and makes new ones by its rows."""
        self.made_by[node] = name
        if self.use(node, source, "dense", [weight, bias]):
            return
        size = self.tensors[weight].shape[0]
        self.tie_columns(source, weight)
        units = _Units(size, name=name, readout=(node.name, 0))
        factor = _Factor(size)
        units.factors.append(factor)
        self.units.append(units)
        for tensor in (weight, bias):
            if tensor is not None:
                part = AxisSlice(tensor, 0, 0, size)
                units.slices.append(part)
                factor.rows.append(part)
        self.axes[node] = [_Piece(size, units, factor, bias)]

    def norm(self, node: fx.Node, source: fx.Node, name: str, module: nn.Module) -> None:
        """A norm keeps the units and, if it has params, takes over their factors."""
        own = {key: value for key, value in module.state_dict().items() if value.ndim == 1}
        shape = getattr(module, "normalized_shape", None)
        if self.rank(node) != 2 if shape is None else len(shape) != 1:
            self.fix(source)  # it norms another axis than the last, or several
            return
        width: Any = shape[0] if shape is not None else module.num_features
        if own and self.use(node, source, "norm", [f"{name}.{key}" for key in own]):
            return
        if source not in self.axes:
            return
        out: _Axis = []
        offset = 0
        for piece in self.resolved(source, width, name):
            part = [AxisSlice(f"{name}.{key}", 0, offset, offset + piece.size) for key in own]
            offset += piece.size
            if piece.units is None or piece.factor is None:
                out.append(piece)
                continue
            piece.units.slices += part
            piece.factor.allow(NORMS[type(module)])
            by_key = dict(zip(own, part, strict=True))
            if "running_mean" in by_key:
                piece.factor.rows.append(by_key["running_mean"])
            if "weight" not in own:
                out.append(_Piece(piece.size, piece.units, piece.factor))
                continue
            piece.factor.columns.append(by_key["weight"])
            given = [by_key[key] for key in ("weight", "bias") if key in by_key]
            factor = _Factor(piece.size, allowed=DIAGONAL, rows=given)
            piece.units.factors.append(factor)
            out.append(_Piece(piece.size, piece.units, factor))
        self.carry_on(node, source, out)

    def elementwise(self, node: fx.Node, source: fx.Node, called: str) -> None:
        """A function of each entry alone keeps the units and narrows their factors."""
        if source not in self.axes:
            return
        activation = called not in TRANSPARENT
        if activation and source in self.made_by:
            self.pre_activations[self.made_by[source]] = source.name
        out: _Axis = []
        for piece in self.pieces(source):
            factor = piece.factor
            if factor is not None and called == "sin" and piece.bias is not None and piece.gain:
                factor.allow(SIGN)
                turned = (factor, math.pi / abs(piece.gain))
                factor = _Factor(piece.size, allowed=SIGN, turned=turned)
                assert piece.units is not None
                piece.units.factors.append(factor)
            elif factor is not None:
                factor.allow(ELEMENTWISE[called])
            bare = not activation
            out.append(_Piece(piece.size, piece.units, factor, piece.bias if bare else None,
                              piece.gain if bare else 1.0))  # fmt: skip
        self.carry_on(node, source, out)
        if activation:
            self.made_by.pop(node, None)  # only the first activation after a dense layer counts

    def arithmetic(self, node: fx.Node, called: str) -> None:
        """Sums and products: of two values, of a value and a param, of a value and a number."""
        operands = [arg for arg in node.args if isinstance(arg, fx.Node)]
        if set(node.kwargs) - {"alpha"}:
            self.fix_all(node.all_input_nodes)
            return
        values = [arg for arg in operands if self.parameter(arg) is None]
        params = [arg for arg in operands if self.parameter(arg) is not None]
        numbers = [arg for arg in node.args if isinstance(arg, (int, float))]
        if not self.carries_units(values):
            return
        if len(values) == 2 and called in ("add", "sub", "mul"):
            self.unite(node, *values, product=called == "mul")
        elif len(values) != 1 or (node.args[0] is not values[0] and called in ("div", "truediv")):
            self.fix_all(values)
        elif called == "neg":
            self.multiply(node, values[0], -1.0)
        elif len(numbers) == 1 and called in ("mul", "div", "truediv"):
            number = float(numbers[0])
            self.multiply(node, values[0], number if called == "mul" else 1 / (number or math.inf))
        elif len(numbers) == 1 and called in ("add", "sub"):
            self.limit(node, values[0], ONE)
        elif len(params) == 1:
            self.with_param(node, values[0], params[0], called)
        else:
            self.fix_all(values)

    def multiply(self, node: fx.Node, source: fx.Node, number: float) -> None:
        """A constant factor changes nothing but the gain."""
        out = [
            _Piece(p.size, p.units, p.factor, p.bias, p.gain * number) for p in self.pieces(source)
        ]
        self.carry_on(node, source, out)

    def limit(self, node: fx.Node, source: fx.Node, allowed: frozenset[str]) -> None:
        """The value keeps its units; its factors are narrowed."""
        out = []
        for piece in self.pieces(source):
            if piece.factor is not None:
                piece.factor.allow(allowed)
            out.append(_Piece(piece.size, piece.units, piece.factor))
        self.carry_on(node, source, out)

    def with_param(self, node: fx.Node, source: fx.Node, param: fx.Node, called: str) -> None:
        """A sum with, or a product by, a param that has one entry per unit."""
        name = self.parameter(param)
        assert name is not None
        shape = self.tensors[name].shape
        total = sum(piece.size for piece in self.pieces(source))
        if self.tensors[name].numel() == 1:
            self.note_use(node, ("number", name))
            self.limit(node, source, FREE if called in ("mul", "div", "truediv") else ONE)
            return
        if not shape or shape[-1] != total or self.tensors[name].numel() != total:
            self.fix(source)
            return
        if self.use(node, source, called, [name]):
            return
        out: _Axis = []
        offset = 0
        for piece in self.pieces(source):
            part = AxisSlice(name, len(shape) - 1, offset, offset + piece.size)
            offset += piece.size
            factor = piece.factor
            if piece.units is not None and factor is not None:
                piece.units.slices.append(part)
                factor.allow(DIAGONAL if called in ("add", "mul") else ONE)
                number = self.tensors[name].is_floating_point()
                if called == "add" and number:
                    factor.rows.append(part)
                elif called == "mul" and number:
                    factor.columns.append(part)
                    factor = _Factor(piece.size, allowed=DIAGONAL, rows=[part])
                    piece.units.factors.append(factor)
                elif called != "mul":  # a mask follows the order and takes no factor
                    factor.allow(ONE)
            out.append(_Piece(piece.size, piece.units, factor))
        self.carry_on(node, source, out)

    def unite(self, node: fx.Node, left: fx.Node, right: fx.Node, *, product: bool) -> None:
        """A sum or product of two values: both sides must be in the same order."""
        narrow = [value for value in (left, right) if self.width(value) == 1]
        if len(narrow) == 1 and self.carries_units(narrow):
            # One number for all units of the other side.
            self.fix_all(narrow)
            wide = right if narrow[0] is left else left
            self.limit(node, wide, FREE if product else ONE)
            return
        self.axes[node] = self.tie(left, right, ONE if product else FREE)
        self.note_readouts(node)

    def tie(self, left: fx.Node, right: fx.Node, allowed: frozenset[str] = FREE) -> _Axis:
        """Two values move together; returns the axis of their sum."""
        ours, theirs = self.aligned_pieces(left, right)
        out: _Axis = []
        for mine, other in zip(ours, theirs, strict=True):
            if mine.units is None or other.units is None:
                for piece in (mine, other):
                    if piece.units is not None:
                        self.fix_units(piece.units)
                sizes = (mine.size, other.size)
                out.append(_Piece(UNKNOWN if UNKNOWN in sizes else mine.size))
                continue
            assert mine.factor is not None
            assert other.factor is not None
            join_units(mine.units, other.units)
            mine.factor.allow(allowed)
            other.factor.allow(allowed)
            join_factors(mine.factor, other.factor)
            out.append(_Piece(mine.size, mine.units.root(), mine.factor.root()))
        return out

    def cat(self, node: fx.Node) -> None:
        """Concatenation of the last axis."""
        joined = argument(node, 0, "tensors")
        dimension = argument(node, 1, "dim", node.kwargs.get("axis", 0))
        parts = list(joined) if isinstance(joined, (list, tuple)) else []
        alike = all(isinstance(part, fx.Node) for part in parts)
        if not parts or not alike or not self.is_last(dimension, node):
            self.fix_all(node.all_input_nodes)
            return
        axis: _Axis = []
        for part in parts:
            for piece in self.axis_of(part):
                # Neighbours of unknown width are one stretch of unknown width.
                if piece.size != UNKNOWN or not axis or axis[-1].size != UNKNOWN:
                    axis.append(piece)
        self.axes[node] = axis
        self.note_readouts(node)

    def getitem(self, node: fx.Node) -> None:
        """A slice of the last axis, or one of the parts of a split."""
        source, index = node.args[0], node.args[1]
        assert isinstance(source, fx.Node)
        if source in self.split_into:
            if isinstance(index, int):
                self.axes[node] = self.split_into[source][index]
                self.note_readouts(node)
            else:
                self.fix(source)
            return
        if not self.carries_units([source]):
            return
        before = list(index[:-1]) if isinstance(index, tuple) else []
        last = index[-1] if isinstance(index, tuple) else None
        total = sum(piece.size for piece in self.pieces(source))
        whole = all(part is Ellipsis or part == slice(None) for part in before)
        reaches_last = Ellipsis in before or len(before) + 1 == self.rank(source)
        unknown = any(p.size == UNKNOWN for p in self.pieces(source))
        if not before or not whole or not reaches_last or unknown or node.all_input_nodes[1:]:
            self.fix(source)
        elif isinstance(last, slice) and last.step in (None, 1):
            start, stop, _ = last.indices(total)
            self.axes[node] = self.stretch(source, start, stop)
            self.note_readouts(node)
        elif type(last) is int:
            start = last % total
            for piece in self.stretch(source, start, start + 1):
                if piece.units is not None:
                    self.fix_units(piece.units)
        else:
            self.fix(source)

    def split(self, node: fx.Node, called: str) -> None:
        """Cut the last axis into parts, which `getitem` hands out."""
        source = argument(node, 0, "tensor" if called == "split" else "input")
        sizes = argument(node, 1, "chunks" if called == "chunk" else "split_size")
        sizes = node.kwargs.get("split_size_or_sections", sizes)
        dimension = argument(node, 2, "dim", 0)
        if len(node.all_input_nodes) != 1 or source is None or sizes is None:
            self.fix_all(node.all_input_nodes)
            return
        if not self.carries_units([source]):
            return
        total = sum(piece.size for piece in self.pieces(source))
        unknown = any(p.size == UNKNOWN for p in self.pieces(source))
        if not self.is_last(dimension, source) or unknown:
            self.fix(source)
            return
        if isinstance(sizes, int):
            step = -(-total // sizes) if called == "chunk" else sizes
            sizes = [min(step, total - start) for start in range(0, total, step)]
        ends = torch.tensor(sizes).cumsum(0).tolist()
        self.split_into[node] = [
            self.stretch(source, start, end) for start, end in zip([0, *ends], ends, strict=False)
        ]

    # --- pieces -----------------------------------------------------------------------------------

    def parameter(self, value: Any) -> str | None:
        """Name of the tensor that a traced step fetches from the network."""
        if isinstance(value, fx.Node) and value.op == "get_attr":
            return str(value.target) if str(value.target) in self.tensors else None
        return None

    def pieces(self, node: fx.Node) -> _Axis:
        """The last axis of a value as it is known now: cut and united since it was made."""
        out: _Axis = []
        for piece in self.axes.get(node, []):
            out += current(piece)
        self.axes[node] = out
        return out

    def axis_of(self, node: fx.Node) -> _Axis:
        """Last axis of a value; what is not made of hidden units is one piece without."""
        if node in self.axes:
            return self.pieces(node)
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, FrequencyEncoding):
            return [_Piece(module.features)]
        shape = self.shapes.get(node.name)
        return [_Piece(shape[-1] if shape else UNKNOWN)]

    def stretch(self, node: fx.Node, start: int, stop: int) -> _Axis:
        """The pieces between two places of the last axis, cut where needed."""
        for place in (start, stop):
            self.cut(node, place)
        out, offset = [], 0
        for piece in self.pieces(node):
            if start <= offset < stop:
                out.append(piece)
            offset += piece.size
        return out

    def cut(self, node: fx.Node, place: int) -> None:
        """Make a place of the last axis the border of two pieces."""
        offset = 0
        for index, piece in enumerate(self.pieces(node)):
            inside = place - offset
            if 0 < inside < piece.size:
                if piece.units is None:
                    halves = [_Piece(inside), _Piece(piece.size - inside)]
                    self.axes[node][index : index + 1] = halves
                else:
                    split_units(piece.units.root(), inside)
                return
            offset += piece.size

    def aligned_pieces(self, left: fx.Node, right: fx.Node) -> tuple[_Axis, _Axis]:
        """Pieces of two values of one width, cut at the same places."""
        if left not in self.axes or right not in self.axes:
            known = left if left in self.axes else right
            # Both may be of width 1 and the other not: then the known one is repeated.
            sizes = [p.size for p in self.pieces(known)]
            other = [_Piece(UNKNOWN if sizes == [1] else size) for size in sizes]
            ours, theirs = self.pieces(known), other
            return (ours, theirs) if known is left else (theirs, ours)
        if any(p.size == UNKNOWN for side in (left, right) for p in self.pieces(side)):
            self.fix_all([left, right])
            return [_Piece(UNKNOWN)], [_Piece(UNKNOWN)]
        if self.width(left) != self.width(right):
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

    def borders(self, node: fx.Node) -> set[int]:
        """Where the pieces of a value end."""
        return set(accumulate(piece.size for piece in self.pieces(node)))

    def width(self, node: fx.Node) -> int | None:
        """Length of a value's last axis, if that is known."""
        pieces = self.pieces(node) if node in self.axes else []
        known = pieces and all(piece.size != UNKNOWN for piece in pieces)
        return sum(piece.size for piece in pieces) if known else None

    def resolved(self, source: fx.Node, total: int, reader: str) -> _Axis:
        """The pieces of a value whose whole width its reader tells."""
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
            pieces[place] = _Piece(rest)
        if (rest < 0) if unknown else (rest != 0):
            raise self.refuse(
                f"`{reader}` reads {total} features, its inputs make {total - rest}: values are "
                "joined in a way that cannot be followed"
            )
        return pieces

    def tie_columns(self, source: fx.Node, tensor: str) -> None:
        """Record that the columns of a matrix read these units."""
        if source not in self.axes:
            return
        offset = 0
        for piece in self.resolved(source, self.tensors[tensor].shape[1], tensor):
            if piece.units is not None and piece.factor is not None:
                part = AxisSlice(tensor, 1, offset, offset + piece.size)
                piece.units.slices.append(part)
                piece.factor.columns.append(part)
            offset += piece.size

    def carry_on(self, node: fx.Node, source: fx.Node, axis: _Axis) -> None:
        """The step works on each unit alone: its value carries the same units."""
        self.axes[node] = axis
        if source in self.made_by:
            self.made_by[node] = self.made_by[source]
        self.note_readouts(node)

    def note_readouts(self, node: fx.Node) -> None:
        """Remember where each stretch of units can be read last."""
        offset = 0
        for piece in self.pieces(node):
            if piece.units is not None:
                piece.units.readout = (node.name, offset)
            if piece.size == UNKNOWN:
                return
            offset += piece.size

    def carries_units(self, nodes: Sequence[fx.Node]) -> bool:
        """Whether any of the values is made of hidden units."""
        return any(node in self.axes for node in nodes)

    def fix_all(self, nodes: Sequence[fx.Node]) -> None:
        """See `fix`."""
        for node in nodes:
            self.fix(node)

    def fix(self, node: fx.Node) -> None:
        """The order and size of these units can be seen from outside."""
        for part in self.split_into.get(node, [self.pieces(node)] if node in self.axes else []):
            for piece in (now for old in part for now in current(old)):
                if piece.units is not None:
                    self.fix_units(piece.units)

    def fix_units(self, units: _Units) -> None:
        """Neither reorder nor scale these units."""
        units.root().fixed = True
        for factor in units.root().factors:
            factor.allow(ONE)

    def unfollowed(self) -> set[str]:
        """Tensors that some step uses in a way that is not known: they stay as they are."""
        out: set[str] = set()
        for node in self.graph.graph.nodes:
            if node.op == "get_attr":
                name = str(node.target)
                if any((user, name) not in self.followed for user in node.users):
                    out.add(name)
            elif node.op == "call_module":
                own = (f"{node.target}.{key}" for key in self.modules[node.target].state_dict())
                out.update(name for name in own if (node, name) not in self.followed)
        # Counters say nothing of single units.
        return {name for name in out if name in self.tensors and self.tensors[name].ndim > 0}

    def symmetry(self) -> Symmetry:
        """Collect the groups that are free to move."""
        groups = []
        pinned = self.pinned | self.unfollowed()
        for units in self.units:
            for leaf in leaves(units):
                seen = any(part.tensor in pinned for part in leaf.slices)
                if leaf.joined is None and not leaf.fixed and not seen:
                    whole = leaf.start == 0 and leaf.size == units.size
                    name = leaf.name if whole else (
                        f"{leaf.name}[{leaf.start}:{leaf.start + leaf.size}]"
                    )  # fmt: skip
                    groups.append(
                        Group(name, leaf.size, tuple(leaf.slices), gauges_of(leaf), *leaf.readout)
                    )
        return Symmetry(tuple(groups), self.graph.graph, self.pre_activations)


def called_name(node: fx.Node) -> str:
    """Name of what a step calls, alike for functions, methods and changes in place."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    home = getattr(node.target, "__module__", None) or "torch"
    name = str(getattr(node.target, "__name__", node.target)).rstrip("_")
    if node.op != "call_function" or home.split(".")[0] not in ("torch", "_operator", "builtins"):
        return ""  # somebody's own function: its name says nothing
    return name.removeprefix("i") if name in ("iadd", "imul", "isub", "itruediv") else name


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument of a step, given by place or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def repeated(tensors: Mapping[str, Tensor]) -> set[str]:
    """Names of tensors that the state holds under more than one name."""
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            names.setdefault(tensor.data_ptr() or id(tensor), []).append(name)
    return {name for same in names.values() if len(same) > 1 for name in same}


def leaves(units: _Units) -> list[_Units]:
    """The uncut stretches that a stretch was cut into."""
    return [leaf for part in units.parts for leaf in leaves(part)] if units.parts else [units]


def current(piece: _Piece) -> _Axis:
    """A piece as it is known now."""
    if piece.units is None or piece.factor is None:
        return [piece]
    units, factor = piece.units.root(), piece.factor.root()
    if not units.parts:
        return [_Piece(piece.size, units, factor, piece.bias, piece.gain)]
    halves = [
        _Piece(part.size, part, its_factor, piece.bias, piece.gain)
        for part, its_factor in zip(units.parts, factor.parts, strict=True)
    ]
    return [now for half in halves for now in current(half)]


def split_units(units: _Units, at: int) -> None:
    """Cut a stretch of units, and all its factors, in two."""

    def cut(parts: list[AxisSlice]) -> tuple[list[AxisSlice], list[AxisSlice]]:
        firsts = [AxisSlice(p.tensor, p.axis, p.start, p.start + at) for p in parts]
        seconds = [AxisSlice(p.tensor, p.axis, p.start + at, p.stop) for p in parts]
        return firsts, seconds

    sizes = (at, units.size - at)
    starts = (units.start, units.start + at)
    readouts = (units.readout, (units.readout[0], units.readout[1] + at))
    units.parts = tuple(
        _Units(size, name=units.name, start=start, slices=part, fixed=units.fixed, readout=readout)
        for size, start, part, readout in zip(
            sizes, starts, cut(units.slices), readouts, strict=True
        )
    )
    for factor in units.factors:
        root = factor.root()
        if not root.parts:
            rows, columns = cut(root.rows), cut(root.columns)
            root.parts = tuple(
                _Factor(size, allowed=root.allowed - {"linear"}, rows=row, columns=column,
                        united=root.united)
                for size, row, column in zip(sizes, rows, columns, strict=True)
            )  # fmt: skip
        for part, its_factor in zip(units.parts, root.parts, strict=True):
            part.factors.append(its_factor)
    for root in {factor.root() for factor in units.factors}:
        if root.turned is not None:
            inner, half_turn = root.turned
            for part, its_inner in zip(root.parts, inner.root().parts, strict=True):
                part.turned = (its_inner, half_turn)


def join_units(one: _Units, other: _Units) -> None:
    """Two stretches turn out to be in one order."""
    keep, drop = one.root(), other.root()
    if keep is drop:
        return
    keep.slices += drop.slices
    keep.factors += drop.factors
    keep.fixed |= drop.fixed
    drop.joined = keep


def join_factors(one: _Factor, other: _Factor) -> None:
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


def gauges_of(units: _Units) -> tuple[Gauge, ...]:
    """The gauges of a group: what is left of its factors."""
    factors = list(dict.fromkeys(factor.root() for factor in units.factors))
    inners = [factor.turned[0].root() for factor in factors if factor.turned is not None]
    for factor in factors:
        if factor.turned is not None:
            inner = factor.turned[0].root()
            # Turns need a sine that alone reads the layer, and nothing more that follows its sign.
            alone = inners.count(inner) == 1 and not inner.columns and not inner.united
            if not alone or factor.united or factor.rows or "sign" not in inner.allowed:
                join_factors(factor, inner)
    gauges = []
    factors = list(dict.fromkeys(factor.root() for factor in units.factors))
    inner_ones = {factor.turned[0].root() for factor in factors if factor.turned is not None}
    for factor in factors:
        if factor in inner_ones:
            continue
        rows, columns = tuple(factor.rows), tuple(factor.columns)
        if factor.turned is not None:
            inner, half_turn = factor.turned
            if "sign" in factor.allowed:
                rows = tuple(inner.root().rows)
                gauges.append(Gauge("turn", rows, columns, half_turn))
            continue
        kinds: tuple[Kind, ...] = ("scale", "sign")
        if "linear" in factor.allowed:
            kinds = ("linear",)
        gauges += [Gauge(kind, rows, columns) for kind in kinds if kind in factor.allowed]
    return tuple(gauges)
