"""What a symmetry is: groups of hidden units, the axes that carry them, and their freedoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import fx

from ..typing import Int, Tensor

__all__ = ["AxisSlice", "Gauge", "Group", "Kind", "Params", "Permutations", "Symmetry"]

#: Tensor name -> tensor: a state dict.
Params: TypeAlias = "dict[str, Tensor]"
#: Group name -> permutation (units,).
Permutations: TypeAlias = "dict[str, Int[Tensor, ' units']]"
#: What a unit can be changed by; see `Gauge`.
Kind: TypeAlias = Literal["scale", "sign", "turn", "linear"]


@dataclass(frozen=True)
class AxisSlice:
    """A stretch of one axis of one tensor: entries start … stop carry a group's units in order."""

    tensor: str
    axis: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.tensor}[{self.axis}][{self.start}:{self.stop}]"


@dataclass(frozen=True)
class Gauge:
    """A change of each unit by itself that the next layers take back.

    Attributes:
        kind: ``scale``: any positive factor (ReLU, leaky ReLU); ``sign``: a factor of ±1 (tanh and
            other odd functions); ``turn``: sin(ω z): z may change its sign and gain half turns
            π/ω, and the unit's own sign follows from both; ``linear``: any invertible map of all
            units together (no activation).
        rows: Slices that are multiplied by the factor: what makes the units.
        columns: Slices that are divided by it: what reads them.
        half_turn: For ``turn``: π/ω, which is added to the biases among `rows` (one-dimensional).
    """

    kind: Kind
    rows: tuple[AxisSlice, ...]
    columns: tuple[AxisSlice, ...]
    half_turn: float = 0.0


@dataclass(frozen=True)
class Group:
    """Units that share one order.

    Attributes:
        name: Name of the dense layer that makes the units; ``name[start:stop]`` for some of them.
        size: Number of units.
        slices: Every axis that carries them.
        gauges: What else can be done to each unit.
        readout: Traced value that holds the units as the next layers read them.
        readout_start: Where they start in its last axis.
    """

    name: str
    size: int
    slices: tuple[AxisSlice, ...]
    gauges: tuple[Gauge, ...]
    readout: str
    readout_start: int = 0

    @property
    def kind(self) -> str:
        """Further symmetry in a word or two (``scale``, ``sign and scale``), or ``none``."""
        kinds = dict.fromkeys(gauge.kind for gauge in self.gauges)
        return " and ".join(kinds) or "none"

    def gauge(self, kind: Kind) -> Gauge | None:
        """The first gauge of this kind."""
        return next((gauge for gauge in self.gauges if gauge.kind == kind), None)


@dataclass(frozen=True)
class Symmetry:
    """Groups of a network and its traced forward pass.

    Attributes:
        groups: In the order in which the forward pass makes them.
        graph: The traced forward pass, to be interpreted value by value.
        pre_activations: Dense layer -> traced value that its activation reads, before constants
            that multiply it (ω of a sine layer); layers without an activation are left out.
    """

    groups: tuple[Group, ...]
    graph: fx.Graph
    pre_activations: dict[str, str]

    def identity(self, device: torch.device | str = "cpu") -> Permutations:
        """The permutations that change nothing."""
        return {group.name: torch.arange(group.size, device=device) for group in self.groups}

    def random(self, generator: torch.Generator) -> Permutations:
        """Random permutations of all groups."""
        return {
            group.name: torch.randperm(group.size, generator=generator) for group in self.groups
        }
