"""Aliasing: values that share memory, and tensors with several names or uses.

A step that writes in place changes every value that shares its memory. If one of these values is
read afterwards, the graph does not show what the step did, and the units involved are fixed
(`Memory`). A tensor of the network that is used twice is changed consistently with both uses. It is
fixed if the uses differ, if the state dict holds it under two names, or if a step uses it in an
unknown way (`Uses`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from torch import fx, nn

from ..typing import Tensor
from .functions import AUGMENTED, MODULES, VIEWS, called_name

__all__ = ["Memory", "Uses"]

#: Kind of a step, and the tensors of the network that it uses.
Use: TypeAlias = tuple[str | None, ...]


class Memory:
    """Which values of a traced forward pass may share memory."""

    def __init__(self, graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
        self.modules = modules
        #: Step -> its number in the graph.
        self.places = {node: place for place, node in enumerate(graph.nodes)}

    def overwritten(self, node: fx.Node) -> list[fx.Node]:
        """Values that a step reads or overwrites, if an overwritten value is read later."""
        if not self.in_place(node):
            return []
        shared = self.aliases(node)
        place = self.places[node]
        read_later = any(self.places[user] > place for alias in shared for user in alias.users)
        return [*node.all_input_nodes, *shared] if read_later else []

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

    def aliases(self, node: fx.Node) -> set[fx.Node]:
        """Earlier values that may share memory with the value that a step overwrites."""
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


class Uses:
    """Which steps use which tensors of a network, and how."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        #: Use -> the input of its first step, and that step.
        self.first: dict[Use, tuple[fx.Node, fx.Node]] = {}
        self.of_tensor: dict[str, Use] = {}
        #: (step, tensor) pairs whose effect is known.
        self.followed: set[tuple[fx.Node, str]] = set()
        #: Tensors with two kinds of use, or with two names: they must not be changed.
        self.pinned = repeated(tensors)

    def note(
        self, node: fx.Node, source: fx.Node, kind: str, tensors: Sequence[str | None]
    ) -> tuple[fx.Node, fx.Node] | None:
        """Record how a step uses tensors; tensors with two kinds of use are pinned.

        Returns:
            The input of the first step with the same use, and that step; None if this step is the
            first.
        """
        use = (kind, *tensors)
        for tensor in tensors:
            if tensor is not None:
                self.followed.add((node, tensor))
                if self.of_tensor.setdefault(tensor, use) != use:
                    self.pinned.add(tensor)
        earlier = self.first.get(use)
        self.first.setdefault(use, (source, node))
        return earlier

    def unmovable(self, graph: fx.Graph, modules: Mapping[str, nn.Module]) -> set[str]:
        """Tensors that must not be changed, given all steps of a graph."""
        out = set(self.pinned)
        for node in graph.nodes:
            if node.op == "get_attr":
                name = str(node.target)
                if any((user, name) not in self.followed for user in node.users):
                    out.add(name)
            elif node.op == "call_module":
                keys = modules[str(node.target)].state_dict()
                of_module = (f"{node.target}.{key}" for key in keys)
                out.update(name for name in of_module if (node, name) not in self.followed)
        return out


def repeated(tensors: Mapping[str, Tensor]) -> set[str]:
    """Names of tensors that the state holds under more than one name."""
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            names.setdefault(tensor.data_ptr() or id(tensor), []).append(name)
    return {name for same in names.values() if len(same) > 1 for name in same}
