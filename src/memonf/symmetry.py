"""The symmetry of a network, read off its own forward pass.

Hidden units can be reordered without changing what a network computes, if every axis that carries
them is reordered alike. `find_symmetry` traces the network once and follows the last axis of every
value: a dense layer starts a new group of units and ties its rows to it and its columns to the
units it reads; concatenation and slicing keep track of offsets; norms tie their params; additions
unite the groups of their sides. Nothing is declared by the architecture.

Symbols: a *group* is a set of units with one common order; `perm[i]` is the old unit that is
placed at slot i.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from .encodings import FrequencyEncoding
from .errors import InputError
from .typing import Int, Tensor

__all__ = [
    "AxisSlice",
    "Group",
    "Params",
    "Permutations",
    "Symmetry",
    "find_symmetry",
    "permute",
    "permute_tensor",
    "record",
]

#: Tensor name -> tensor: a state dict.
Params: TypeAlias = "dict[str, Tensor]"
#: Group name -> permutation (units,).
Permutations: TypeAlias = "dict[str, Int[Tensor, ' units']]"

NORMS = (nn.BatchNorm1d, nn.LayerNorm)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh)
TRANSPARENT = (nn.Identity, nn.Dropout)


@dataclass(frozen=True)
class AxisSlice:
    """A stretch of one axis of one tensor: entries start … stop carry a group's units in order."""

    tensor: str
    axis: int
    start: int
    stop: int


@dataclass(frozen=True)
class Group:
    """Units that share one order.

    Attributes:
        name: Name of the dense layer that makes the units.
        size: Number of units.
        slices: Every axis that carries them.
        kind: Further symmetry of each unit: ``scale`` (ReLU, leaky ReLU), ``sign`` (tanh),
            ``linear`` (no activation: any invertible map), ``none``.
        readout: Traced value that holds the units as the next layers read them.
    """

    name: str
    size: int
    slices: tuple[AxisSlice, ...]
    kind: str
    readout: str


@dataclass(frozen=True)
class Symmetry:
    """Groups of a network and its traced forward pass.

    Attributes:
        groups: In the order in which the forward pass makes them.
        graph: The traced forward pass, to be interpreted value by value.
        pre_activations: Dense layer -> traced value that its activation reads; layers without
            an activation are left out.
    """

    groups: tuple[Group, ...]
    graph: fx.Graph
    pre_activations: dict[str, str]

    def identity(self, device: torch.device | str = "cpu") -> Permutations:
        """The permutations that change nothing."""
        return {group.name: torch.arange(group.size, device=device) for group in self.groups}

    def random(self, generator: torch.Generator) -> Permutations:
        """A random element of the group."""
        return {
            group.name: torch.randperm(group.size, generator=generator) for group in self.groups
        }


def permute(params: Mapping[str, Tensor], symmetry: Symmetry, perms: Permutations) -> Params:
    """Reorder hidden units: slot i of each group receives unit `perm[i]`; inputs are untouched."""
    out = dict(params)
    for group in symmetry.groups:
        for name in {part.tensor: None for part in group.slices}:
            out[name] = permute_tensor(out[name], name, group, perms)
    return out


def permute_tensor(tensor: Tensor, name: str, group: Group, perms: Permutations) -> Tensor:
    """Reorder one group's units along the axes of the tensor called `name`."""
    for part in group.slices:
        if part.tensor == name:
            index = torch.arange(tensor.shape[part.axis], device=tensor.device)
            index[part.start : part.stop] = part.start + perms[group.name].to(tensor.device)
            tensor = tensor.index_select(part.axis, index)
    return tensor


@dataclass
class _Units:
    """A group while it is being found; `joined` points to the group it was united with."""

    name: str
    size: int
    slices: list[AxisSlice] = field(default_factory=list)
    activations: list[nn.Module] = field(default_factory=list)
    fixed: bool = False
    normed: bool = False
    readout: str = ""
    joined: _Units | None = None

    def root(self) -> _Units:
        """The group that stands for all united with this one."""
        return self if self.joined is None else self.joined.root()


#: The last axis of a value: stretches that belong to a group, or to none (encoded inputs).
_Axis: TypeAlias = "list[tuple[_Units | None, int]]"


class _Tracer(fx.Tracer):
    """Traces `method`, treating encodings as single steps."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.traced_func_name = method

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        known = (*NORMS, *ACTIVATIONS, *TRANSPARENT, nn.Linear, FrequencyEncoding)
        return isinstance(module, known)


def find_symmetry(network: nn.Module, method: str = "raw") -> Symmetry:
    """Trace a network and derive its groups.

    Args:
        network: Any module made of dense layers, norms, activations, concatenations, slices of the
            last axis and sums.
        method: The method to trace.

    Raises:
        InputError: The forward pass cannot be read; such a field can still be distilled.
    """
    try:
        graph = fx.GraphModule(network, _Tracer(method).trace(network))
    except (fx.proxy.TraceError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"field `{getattr(network, 'name', type(network).__name__)}`: its `{method}` cannot be "
            f"traced ({str(error).splitlines()[0]}); weight-space merging needs a forward pass "
            "without branches on values, `distill` does not"
        ) from None
    finder = _Finder(graph)
    for node in graph.graph.nodes:
        finder.visit(node)
    return finder.symmetry()


class _Finder:
    """Follows the last axis of every traced value."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        self.modules = dict(graph.named_modules())
        self.axes: dict[fx.Node, _Axis] = {}
        self.units: list[_Units] = []
        self.pre_activations: dict[str, str] = {}
        self.made_by: dict[fx.Node, str] = {}

    def visit(self, node: fx.Node) -> None:
        """Dispatch on what the traced step does."""
        if node.op == "output":
            for value in node.all_input_nodes:
                self.fix(value)
        elif node.op == "call_module":
            self.visit_module(node, self.modules[str(node.target)])
        elif node.op in ("call_function", "call_method"):
            self.visit_function(node)

    def visit_module(self, node: fx.Node, module: nn.Module) -> None:
        """Dense layers, norms, activations; anything else must not be fed hidden units."""
        source = node.all_input_nodes[0]
        name = str(node.target)
        if isinstance(module, nn.Linear):
            self.tie(self.axes.get(source), f"{name}.weight", 1)
            units = _Units(name, module.out_features, readout=node.name)
            self.units.append(units)
            self.axes[node] = [(units, module.out_features)]
            self.tie(self.axes[node], f"{name}.weight", 0)
            if module.bias is not None:
                self.tie(self.axes[node], f"{name}.bias", 0)
            self.made_by[node] = name
        elif isinstance(module, NORMS):
            for tensor, value in module.state_dict().items():
                if value.ndim == 1:
                    self.tie(self.axes.get(source), f"{name}.{tensor}", 0)
            self.keep(node, source)
            for root in self.roots(node):
                root.normed = True
        elif isinstance(module, ACTIVATIONS):
            if source in self.made_by:
                self.pre_activations[self.made_by[source]] = source.name
            self.keep(node, source)
            self.made_by.pop(node, None)  # only the first activation after a dense layer counts
            for root in self.roots(node):
                root.activations.append(module)
        elif isinstance(module, TRANSPARENT):
            self.keep(node, source)
        else:
            self.fix(source)

    def visit_function(self, node: fx.Node) -> None:
        """Concatenation and sums; any other function fixes the order of what it reads."""
        inputs = node.all_input_nodes
        name = getattr(node.target, "__name__", str(node.target))
        if node.target is torch.cat:
            self.axes[node] = [piece for part in inputs for piece in self.axis_of(part)]
        elif name in ("add", "iadd") and len(inputs) == 2:
            self.unite(node, *inputs)
        else:
            for value in inputs:
                self.fix(value)

    def axis_of(self, node: fx.Node) -> _Axis:
        """Last axis of a value; what is not made of hidden units has no group."""
        if node in self.axes:
            return self.axes[node]
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        return [(None, module.features if isinstance(module, FrequencyEncoding) else UNKNOWN)]

    def keep(self, node: fx.Node, source: fx.Node) -> None:
        """The step works on each unit alone: its value carries the same units."""
        if source not in self.axes:
            return
        self.axes[node] = self.axes[source]
        if source in self.made_by:
            self.made_by[node] = self.made_by[source]
        if len(self.axes[node]) == 1 and (units := self.axes[node][0][0]) is not None:
            units.readout = node.name

    def tie(self, axis: _Axis | None, tensor: str, dimension: int) -> None:
        """Record that a tensor's axis carries these units."""
        if axis is None:
            return
        total = self.graph.state_dict()[tensor].shape[dimension]
        known = sum(size for _, size in axis if size != UNKNOWN)
        offset = 0
        for units, size in axis:
            length = total - known if size == UNKNOWN else size
            if units is not None:
                part = AxisSlice(tensor, dimension, offset, offset + length)
                units.root().slices.append(part)
            offset += length
        if offset != total:
            raise InputError(
                f"`{tensor}`: axis {dimension} has {total} entries, its inputs make {offset}; "
                "the architecture joins values in a way that cannot be followed"
            )

    def unite(self, node: fx.Node, left: fx.Node, right: fx.Node) -> None:
        """A sum of two values: both sides must be in the same order."""
        ours, theirs = self.axes.get(left), self.axes.get(right)
        if (
            ours is None
            or theirs is None
            or [size for _, size in ours] != [size for _, size in theirs]
        ):
            self.fix(left)
            self.fix(right)
            return
        for (mine, _), (other, _) in zip(ours, theirs, strict=True):
            if mine is None or other is None:
                for units in (mine, other):
                    if units is not None:
                        units.root().fixed = True
            elif mine.root() is not other.root():
                keep, drop = mine.root(), other.root()
                keep.slices += drop.slices
                keep.activations += drop.activations
                keep.fixed |= drop.fixed
                keep.normed |= drop.normed
                drop.joined = keep
        self.axes[node] = ours
        if len(ours) == 1 and ours[0][0] is not None:
            ours[0][0].root().readout = node.name

    def fix(self, node: fx.Node) -> None:
        """The order of these units can be seen from outside."""
        for root in self.roots(node):
            root.fixed = True

    def roots(self, node: fx.Node) -> list[_Units]:
        """The groups that a value's last axis carries."""
        return [units.root() for units, _ in self.axes.get(node, []) if units is not None]

    def symmetry(self) -> Symmetry:
        """Collect the groups that are free to move."""
        groups = tuple(
            Group(units.name, units.size, tuple(units.slices), kind_of(units), units.readout)
            for units in self.units
            if units.joined is None and not units.fixed
        )
        return Symmetry(groups, self.graph.graph, self.pre_activations)


#: Width of a value that is neither hidden units nor an encoding; deduced where it is read.
UNKNOWN = -1


def kind_of(units: _Units) -> str:
    """Further symmetry of each unit; see `Group.kind`."""
    if not units.activations:
        return "none" if units.normed else "linear"
    if units.normed:
        return "none"
    if all(isinstance(module, (nn.ReLU, nn.LeakyReLU)) for module in units.activations):
        return "scale"
    return "sign" if all(isinstance(module, nn.Tanh) for module in units.activations) else "none"


class _Recorder(fx.Interpreter):
    """Runs a traced forward pass and hands chosen values over as they appear."""

    def __init__(
        self,
        network: nn.Module,
        graph: fx.Graph,
        names: set[str],
        receive: Callable[[str, Tensor], None],
    ) -> None:
        super().__init__(network, graph=graph)
        self.names = names
        self.receive = receive

    def run_node(self, n: fx.Node) -> Any:
        """Run one step; see `fx.Interpreter`."""
        value = super().run_node(n)
        if n.name in self.names:
            self.receive(n.name, value)
        return value


def record(
    symmetry: Symmetry,
    network: nn.Module,
    inputs: Sequence[Tensor | None],
    names: set[str],
    receive: Callable[[str, Tensor], None],
) -> None:
    """Run the traced forward pass of any network of this architecture and look inside.

    Args:
        symmetry: Of a network of the same architecture.
        network: The network to run.
        inputs: Arguments of the traced method.
        names: Traced values of interest (`Group.readout`, `Symmetry.pre_activations`).
        receive: Called with (name, value (points, units)) as each appears. The next step may
            overwrite the value in place, so take from it at once what is needed.
    """
    _Recorder(network, symmetry.graph, names, receive).run(*inputs)
