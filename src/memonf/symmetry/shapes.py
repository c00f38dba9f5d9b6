"""Shapes of traced values, as far as they are known: number of axes, length of the last one.

Tracing evaluates nothing, so shapes are deduced: arguments are (points, features), and most steps
keep that. Example inputs, where given, provide the remaining shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from ..fields.encodings import FrequencyEncoding
from ..typing import Tensor
from .carriers import UNKNOWN
from .functions import MODULES, NORMS, RANK_KEEPING, SPLITTING, called_name
from .groups import Symmetry
from .recording import record

__all__ = ["Shapes"]

#: Modules whose result has as many axes as their input.
RANK_KEEPING_MODULES: tuple[type[nn.Module], ...] = (nn.Linear, FrequencyEncoding, *NORMS, *MODULES)


class Shapes:
    """Shapes of the values of one traced forward pass, as far as they are known."""

    def __init__(self, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
        self.modules = modules
        self.tensors = tensors
        self.recorded: dict[str, tuple[int, ...]] = {}
        #: Values known to be (points, features), or a tensor that broadcasts with one.
        self.flat: set[fx.Node] = set()

    def learn(self, graph: fx.Graph, network: nn.Module, inputs: Sequence[Tensor | None]) -> None:
        """Run once on example inputs and record the shape of every value."""

        def note(name: str, value: Any) -> None:
            if isinstance(value, Tensor):
                self.recorded[name] = tuple(value.shape)

        with torch.no_grad():
            names = {node.name for node in graph.nodes}
            record(Symmetry((), graph, {}), network, inputs, names, note)

    def visit(self, node: fx.Node) -> None:
        """Record whether a step's value is (points, features) like the arguments."""
        if self.is_flat(node):
            self.flat.add(node)

    def is_flat(self, node: fx.Node) -> bool:
        """Whether a value has two axes, deduced from its step and the inputs of the step."""
        if node.op == "placeholder":
            return True
        if node.op == "get_attr":
            tensor = self.tensors.get(str(node.target))
            return tensor is not None and tensor.ndim <= 2
        if any(source not in self.flat for source in node.all_input_nodes):
            return False
        if node.op == "call_module":
            return isinstance(self.modules[str(node.target)], RANK_KEEPING_MODULES)
        called = called_name(node)
        return keeps_axes(node) if called == "getitem" else called in RANK_KEEPING

    def rank(self, node: fx.Node) -> int | None:
        """How many axes a value has, if that is known."""
        if node.name in self.recorded:
            return len(self.recorded[node.name])
        return 2 if node in self.flat else None

    def is_last(self, dimension: Any, node: fx.Node) -> bool:
        """Whether a dimension is a value's last."""
        rank = self.rank(node)
        return dimension == -1 or (rank is not None and dimension == rank - 1)

    def width(self, node: fx.Node) -> int:
        """Length of the last axis of a value without units, or `UNKNOWN`."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, FrequencyEncoding):
            return module.features
        shape = self.recorded.get(node.name)
        return shape[-1] if shape else UNKNOWN


def keeps_axes(node: fx.Node) -> bool:
    """Whether an index keeps the number of axes."""
    source, index = node.args
    if isinstance(source, fx.Node) and called_name(source) in SPLITTING:
        return True
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is Ellipsis or isinstance(part, slice) for part in parts)
