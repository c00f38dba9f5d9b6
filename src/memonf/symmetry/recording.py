"""Running a traced forward pass and recording its intermediate values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn

from ..typing import Tensor
from .groups import Symmetry

__all__ = ["record"]


class _Recorder(fx.Interpreter):
    """Runs a traced forward pass and passes chosen values to a callback."""

    def __init__(
        self,
        network: nn.Module,
        graph: fx.Graph,
        names: set[str],
        receive: Callable[[str, Tensor], bool | None],
    ) -> None:
        super().__init__(network, graph=graph)
        self.names = names
        self.receive = receive

    def run_node(self, n: fx.Node) -> Any:
        """Run one step; see `fx.Interpreter`."""
        value = super().run_node(n)
        if n.name in self.names and self.receive(n.name, value):
            value = super().run_node(n)
        return value


def record(
    symmetry: Symmetry,
    network: nn.Module,
    inputs: Sequence[Tensor | None],
    names: set[str],
    receive: Callable[[str, Tensor], bool | None],
) -> None:
    """Run the traced forward pass of a network and record intermediate values.

    Example:
        >>> field = build_field("tiny_nerf", None, box)
        >>> symmetry = find_symmetry(field)
        >>> shapes = {}
        >>> def note(name, value):
        ...     shapes[name] = tuple(value.shape)
        >>> first = symmetry.groups[0]
        >>> record(symmetry, field, [torch.zeros(5, 3), None], {first.readout}, note)
        >>> shapes[first.readout] == (5, first.size)
        True

    Args:
        symmetry: Symmetry of a network of the same architecture.
        network: The network to run.
        inputs: Arguments of the traced method.
        names: Traced values to record (`Group.readout`, `Symmetry.pre_activations`).
        receive: Called with (name, value (points, units)) for each of them. The next step may
            overwrite the value in place, so copy what is needed. Returns true if it has changed
            the params of the step that computed the value; that step then runs again.
    """
    _Recorder(network, symmetry.graph, names, receive).run(*inputs)
