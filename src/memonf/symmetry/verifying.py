"""Checking that a symmetry is valid: a random element of it changes params and not outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call

from ..typing import Tensor
from .elements import random_element, transform
from .groups import Symmetry

__all__ = ["Change", "verify"]


class Change(NamedTuple):
    """Relative change (norm of the change / norm before) by a random element.

    Attributes:
        params: Change of the params; near 0 only if the element is the identity.
        outputs: Change of the outputs; float noise (about 1e-6 in float32) for a valid symmetry.
    """

    params: float
    outputs: float


@torch.no_grad()
def verify(
    network: nn.Module,
    symmetry: Symmetry,
    inputs: Sequence[Tensor | None],
    *,
    method: str = "raw",
    seed: int = 0,
) -> Change:
    """Change a network's params by a random element of its symmetry and compare the outputs.

    Example:
        >>> field = build_field("tiny_nerf", None, box).eval()
        >>> change = verify(field, find_symmetry(field), [torch.rand(16, 3), None])
        >>> change.params > 0.1, change.outputs < 1e-4
        (True, True)

    Args:
        network: The network, in evaluation mode; it is not changed.
        symmetry: Its symmetry.
        inputs: Arguments of the traced method.
        method: Name of the traced method.
        seed: Seed of the element.
    """
    # A tensor with two names is passed by its first name: functional_call ties the second to it.
    first_names = {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
    params = {name: v for name, v in network.state_dict().items() if name in first_names}
    element = random_element(symmetry, torch.Generator().manual_seed(seed))
    changed = transform(params, symmetry, element)
    before, after = (
        functional_call(
            _Method(network, method), {f"network.{k}": v for k, v in p.items()}, tuple(inputs)
        )
        for p in (params, changed)
    )
    names = [name for name, tensor in params.items() if tensor.is_floating_point()]
    return Change(
        _relative([params[name] for name in names], [changed[name] for name in names]),
        _relative(_flat(before), _flat(after)),
    )


class _Method(nn.Module):
    """A method of a network as a module of its own."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *inputs: Tensor | None) -> Any:
        """Call it."""
        return getattr(self.network, self.method)(*inputs)


def _flat(value: Any) -> list[Tensor]:
    """All tensors in a nest of tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in _flat(part)]


def _relative(before: list[Tensor], after: list[Tensor]) -> float:
    """Norm of the change relative to the norm before, in float64."""
    pairs = list(zip(before, after, strict=True))
    change = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    size = sum(float(a.double().square().sum()) for a, _ in pairs)
    return (change / max(size, 1e-300)) ** 0.5
