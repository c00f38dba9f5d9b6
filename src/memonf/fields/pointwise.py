"""What fields beyond radiance have in common: their truth is known at positions, not along rays.

They say what they know in the terms of all fields, so that whatever merges fields merges them: an
opacity and a colour at each position. A position counts as a sample of length 1.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn import functional as F

from ..typing import Float, Tensor
from .base import CONFIG_RULES, Field, FieldConfig
from .encodings import FrequencyEncoding

__all__ = ["PointConfig", "PointField"]

#: ω of a SIREN's layers; the first one's is a setting.
OMEGA = 30.0


@dataclass(frozen=True, config=CONFIG_RULES)
class PointConfig(FieldConfig):
    """Shape of a network over positions.

    Attributes:
        network: ``relu``: encoded position, ReLU layers; ``siren``: sine layers on the bare one.
        width: Units of each hidden layer.
        depth: Number of hidden layers.
        frequencies: Octaves of the encoding, of ``relu``.
        first_omega: ω of the first layer, of ``siren``: how fine the details are that it starts
            from.
    """

    network: Literal["relu", "siren"] = "relu"
    width: Annotated[int, Limits(ge=1, le=16384)] = 128
    depth: Annotated[int, Limits(ge=1, le=64)] = 4
    frequencies: Annotated[int, Limits(ge=0, le=20)] = 6
    first_omega: Annotated[float, Limits(gt=0, le=1000)] = 20.0


class PointField(Field):
    """Network over positions, and what its outputs mean.

    Reference:
        Sitzmann et al. 2020, SIREN, arXiv 2006.09661, for sine layers and their initialisation.
    """

    Config = PointConfig
    config: PointConfig
    asked_along = "points"
    #: Coordinates that are read, of x, y, z.
    axes: ClassVar[int] = 3
    #: Numbers that the network gives.
    outputs: ClassVar[int] = 1

    def __init__(self, config: PointConfig, aabb: Tensor) -> None:
        super().__init__(config, aabb)
        sines = config.network == "siren"
        if sines:
            self.rate_scale = 0.04
        else:
            self.encoding = FrequencyEncoding(self.axes, config.frequencies)
        columns = self.axes if sines else self.encoding.features
        self.layers = nn.ModuleList()
        for index in range(config.depth):
            layer = nn.Linear(columns, config.width)
            if sines:
                limit = 1 / columns if index == 0 else math.sqrt(6 / columns) / OMEGA
                nn.init.uniform_(layer.weight, -limit, limit)
            else:
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
            self.layers.append(layer)
            columns = config.width
        self.head = nn.Linear(columns, self.outputs)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def network(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points outputs"]:
        """What the network gives at positions in the box mapped into [-1, 1]."""
        hidden = positions[:, : self.axes]
        if self.config.network == "siren":
            for index, layer in enumerate(self.layers):
                hidden = torch.sin((OMEGA if index else self.config.first_omega) * layer(hidden))
        else:
            hidden = self.encoding(hidden)
            for layer in self.layers:
                hidden = layer(hidden).relu()
        return self.head(hidden)

    @abstractmethod
    def values(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points values"]:
        """What the field is asked for, at positions in scene units."""

    @abstractmethod
    def error(self, positions: Tensor, truth: Float[Tensor, "points values"]) -> Tensor:
        """What training makes small: one number."""

    def activate_density(self, raw: Tensor) -> Tensor:
        """Softplus: over a length of 1 the opacity is the sigmoid of `raw`."""
        return F.softplus(raw)
