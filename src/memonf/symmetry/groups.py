"""Data of a symmetry: groups of hidden units, the axes that carry them, and their gauges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import fx

from ..typing import Int, Tensor

__all__ = ["AxisSlice", "Gauge", "Group", "GaugeKind", "Params", "Permutations", "Symmetry"]

#: Tensor name -> tensor: a state dict.
Params: TypeAlias = "dict[str, Tensor]"
#: Group name -> permutation (units,).
Permutations: TypeAlias = "dict[str, Int[Tensor, ' units']]"
#: How a unit can be changed; see `Gauge`.
GaugeKind: TypeAlias = Literal["scale", "sign", "turn", "linear"]


@dataclass(frozen=True)
class AxisSlice:
    """A slice of one tensor axis: entries start … stop − 1 carry a group's units in order.

    Example:
        >>> print(AxisSlice("layers.1.weight", 1, 0, 64))
        layers.1.weight[1][0:64]
    """

    tensor: str
    axis: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.tensor}[{self.axis}][{self.start}:{self.stop}]"


@dataclass(frozen=True)
class Gauge:
    """A change of each unit that the layers reading it compensate.

    Example:
        >>> rows = (AxisSlice("one.weight", 0, 0, 64), AxisSlice("one.bias", 0, 0, 64))
        >>> Gauge("scale", rows, columns=(AxisSlice("two.weight", 1, 0, 64),)).half_turn
        0.0

    Attributes:
        kind: ``scale``: any positive factor (ReLU, leaky ReLU); ``sign``: a factor of ±1 (tanh and
            other odd functions); ``turn``: for sin(ω z), z may change its sign and gain half turns
            π/ω, which together give the sign of the sine; ``linear``: any invertible map of all
            units together (no activation).
        rows: Slices that are multiplied by the factor: those of the layer that produces the units.
        columns: Slices that are divided by it: those of the layers that read the units.
        half_turn: For ``turn``: π/ω, which is added to the biases among `rows` (one-dimensional).
    """

    kind: GaugeKind
    rows: tuple[AxisSlice, ...]
    columns: tuple[AxisSlice, ...]
    half_turn: float = 0.0


@dataclass(frozen=True)
class Group:
    """Units that share one order.

    Example:
        >>> group = find_symmetry(build_field("tiny_nerf", None, box)).groups[0]
        >>> group.name, group.kind
        ('layers.0', 'scale')

    Attributes:
        name: Name of the dense layer that produces the units; ``name[start:stop]`` for a part of
            its units.
        size: Number of units.
        slices: Every slice of a tensor axis that carries them.
        gauges: Further changes of each unit that leave the function as it is.
        readout: Traced value that holds the units as the next layers read them.
        readout_start: Index of the first of them in that value's last axis.
    """

    name: str
    size: int
    slices: tuple[AxisSlice, ...]
    gauges: tuple[Gauge, ...]
    readout: str
    readout_start: int = 0

    @property
    def kind(self) -> str:
        """Kinds of the gauges in words (``scale``, ``sign and scale``), or ``none``."""
        kinds = dict.fromkeys(gauge.kind for gauge in self.gauges)
        return " and ".join(kinds) or "none"

    def gauge(self, kind: GaugeKind) -> Gauge | None:
        """The first gauge of this kind."""
        return next((gauge for gauge in self.gauges if gauge.kind == kind), None)


@dataclass(frozen=True)
class Symmetry:
    """Groups of a network and its traced forward pass.

    Example:
        >>> symmetry = find_symmetry(build_field("tiny_nerf", None, box))
        >>> [group.name for group in symmetry.groups[:2]]
        ['layers.0', 'layers.1']

    Attributes:
        groups: In the order in which the forward pass computes their units.
        graph: The traced forward pass, to be interpreted value by value.
        pre_activations: Dense layer -> traced value that its activation reads, before any
            constant factor (ω of a sine layer); layers without an activation are left out.
    """

    groups: tuple[Group, ...]
    graph: fx.Graph
    pre_activations: dict[str, str]

    def identity(self, device: torch.device | str = "cpu") -> Permutations:
        """The identity permutation of each group."""
        return {group.name: torch.arange(group.size, device=device) for group in self.groups}

    def random(self, generator: torch.Generator) -> Permutations:
        """Random permutations of all groups."""
        return {
            group.name: torch.randperm(group.size, generator=generator) for group in self.groups
        }
