"""Finding the symmetry of a network: follow its hidden units through one traced forward pass.

The last axis of every traced value is a list of pieces: ranges of hidden units with one order, or
ranges without hidden units (inputs, encodings). Besides its units, each piece has a factor: one
unknown per unit, by which the value could be multiplied. Each step restricts that unknown. After a
dense layer it is free (any invertible map); ReLU lets only positive factors pass, tanh only signs;
a sum needs the same factor on both sides; other functions need 1. The factors that are still free
at the end are the gauges.

Read the modules in this order: `groups` (the result), `carriers` (pieces, units, factors),
`functions` (the known functions), `shapes` and `aliases` (shapes and shared memory of values),
`axes` (the pieces of each value), `steps` (how each step acts on them), `collecting` (groups and
gauges of what is free), and this module, which traces the network and visits its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn

from ..errors import InputError
from ..fields.encodings import FrequencyEncoding
from ..typing import Tensor
from .aliases import Memory, Uses
from .axes import TracedAxes
from .collecting import groups_of
from .functions import (
    ARITHMETIC,
    AUGMENTED,
    ELEMENTWISE,
    JOINING,
    MODULES,
    NORMS,
    SPLITTING,
    called_name,
    says_nothing_of_entries,
)
from .groups import Symmetry
from .shapes import Shapes
from .steps import StepRules

__all__ = ["find_symmetry"]


def find_symmetry(
    network: nn.Module, method: str = "raw", inputs: Sequence[Tensor | None] | None = None
) -> Symmetry:
    """Trace a network and derive its groups and gauges.

    Example:
        >>> network = torch.nn.Sequential(
        ...     torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)
        ... )
        >>> [(group.name, group.size, group.kind)
        ...  for group in find_symmetry(network, method="forward").groups]
        [('0', 8, 'scale')]

    Args:
        network: Any module made of dense layers, norms, elementwise functions, concatenations,
            slices of the last axis, sums and products. Values are (points, features).
        method: The method to trace.
        inputs: Example arguments; only needed where widths cannot be deduced from the layers.

    Raises:
        InputError: The forward pass cannot be traced; such a field can still be distilled.
    """
    name = getattr(network, "name", type(network).__name__)
    try:
        graph = fx.GraphModule(network, Tracer(method).trace(network))
    except Exception as error:  # the network's own code runs here: it may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"field `{name}`: its `{method}` cannot be traced ({reason}); weight-space merging "
            "needs a forward pass without branches on values, `distill` can merge it"
        ) from None
    finder = Finder(graph, name, network)
    if inputs is not None:
        finder.shapes.learn(graph.graph, network, inputs)
    return finder.symmetry()


class Proxy(fx.Proxy):
    """Traces ``h += x`` as an in-place change; torch.fx itself would trace ``h + x``."""


def augmented(step: Callable[..., Any]) -> Callable[..., fx.Proxy]:
    """The method of a proxy that traces one augmented assignment."""

    def assign(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", step, (self, other), {})

    return assign


for _name, _step in AUGMENTED.items():
    setattr(Proxy, _name, augmented(_step))


class Tracer(fx.Tracer):
    """Traces `method`, treating encodings and torch's own modules as single steps."""

    #: Buffers are traced like params: a value computed from one is not a constant.
    proxy_buffer_attributes = True

    def __init__(self, method: str) -> None:
        super().__init__()
        self.traced_func_name = method

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """See `fx.Tracer`."""
        return Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """See `fx.Tracer`."""
        return isinstance(m, FrequencyEncoding) or super().is_leaf_module(m, module_qualified_name)


class Finder:
    """Visits the traced steps in order and applies the rule of each."""

    def __init__(self, graph: fx.GraphModule, name: str, network: nn.Module) -> None:
        self.graph = graph.graph
        self.modules = dict(graph.named_modules())
        # Not the graph's state: tracing adds constants to it that the network does not have.
        self.tensors = network.state_dict(keep_vars=True)
        self.shapes = Shapes(self.modules, self.tensors)
        self.memory = Memory(self.graph, self.modules)
        self.uses = Uses(self.tensors)
        self.axes = TracedAxes(name, self.shapes)
        self.steps = StepRules(self.tensors, self.axes, self.shapes, self.uses)

    def symmetry(self) -> Symmetry:
        """Visit all steps and collect the free groups and gauges."""
        for node in self.graph.nodes:
            self.visit(node)
        unmovable = self.uses.unmovable(self.graph, self.modules)
        groups = groups_of(self.steps.units, unmovable)
        return Symmetry(groups, self.graph, self.steps.pre_activations)

    def visit(self, node: fx.Node) -> None:
        """Dispatch on the kind of the traced step."""
        self.shapes.visit(node)
        self.axes.fix_all(self.memory.overwritten(node))
        if node.op == "output":
            self.axes.fix_all(node.all_input_nodes)
        elif node.op == "call_module":
            self.visit_module(node, self.modules[str(node.target)])
        elif node.op in ("call_function", "call_method"):
            self.visit_function(node)

    def visit_module(self, node: fx.Node, module: nn.Module) -> None:
        """Dense layers, norms, activations; any other module fixes the units that it reads."""
        sources = node.all_input_nodes
        name = str(node.target)
        if isinstance(module, nn.Linear) and f"{name}.weight" not in self.tensors:
            raise self.axes.refuse(
                f"`{name}` computes its weight from other params (weight norm?); make it a plain "
                "weight with torch.nn.utils.parametrize.remove_parametrizations"
            )
        if module._forward_hooks or module._forward_pre_hooks:
            self.axes.fix_all(sources)  # hooks may do anything
        elif isinstance(module, nn.Linear):
            bias = None if module.bias is None else f"{name}.bias"
            self.steps.dense(node, sources[0], name, f"{name}.weight", bias)
        elif type(module) in NORMS:
            self.steps.norm(node, sources[0], name, module)
        elif type(module) in MODULES:
            self.steps.elementwise(node, sources[0], MODULES[type(module)])
        else:
            self.axes.fix_all(sources)

    def visit_function(self, node: fx.Node) -> None:
        """Functions and methods, by name; an unknown one fixes the units that it reads."""
        inputs = node.all_input_nodes
        called = called_name(node)
        if "out" in node.kwargs:
            self.axes.fix_all(inputs)
        elif called in JOINING:
            self.steps.cat(node)
        elif called == "getitem":
            self.steps.getitem(node)
        elif called in SPLITTING:
            self.steps.split(node, called)
        elif called == "linear":
            self.steps.functional_dense(node)
        elif called in ARITHMETIC:
            self.steps.arithmetic(node, called)
        elif called in ELEMENTWISE and len(inputs) == 1:
            self.steps.elementwise(node, inputs[0], called)
        elif not says_nothing_of_entries(node, called):
            self.axes.fix_all(inputs)
