"""SIREN: sine layers on the bare position, no encoding."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass
from torch import nn

from ..typing import Tensor
from .base import CONFIG_RULES, FIELDS, Field, FieldConfig

__all__ = ["Siren", "SirenConfig"]


@dataclass(frozen=True, config=CONFIG_RULES)
class SirenConfig(FieldConfig):
    """Shape of a SIREN.

    Attributes:
        width: Units of each hidden layer.
        depth: Number of hidden layers.
        first_omega: ω of the first layer: how fine the details are that it can start from.
        omega: ω of the other layers.
    """

    width: Annotated[int, Limits(ge=1, le=16384)] = 128
    depth: Annotated[int, Limits(ge=1, le=64)] = 4
    first_omega: Annotated[float, Limits(gt=0, le=1000)] = 20.0
    omega: Annotated[float, Limits(gt=0, le=1000)] = 30.0


@FIELDS.register("siren")
class Siren(Field):
    """Position -> sin(ω (W x + b)) several times -> (density, rgb).

    Reference:
        Sitzmann et al. 2020, SIREN, arXiv 2006.09661, with its initialisation (section 3.2).
    """

    Config = SirenConfig
    config: SirenConfig
    #: Weights are ω times smaller than those of a ReLU network.
    rate_scale = 0.04

    def __init__(self, config: SirenConfig, aabb: Tensor) -> None:
        super().__init__(config, aabb)
        self.layers = nn.ModuleList()
        for index in range(config.depth):
            columns = 3 if index == 0 else config.width
            layer = nn.Linear(columns, config.width)
            limit = 1 / columns if index == 0 else math.sqrt(6 / columns) / config.omega
            nn.init.uniform_(layer.weight, -limit, limit)
            self.layers.append(layer)
        self.head = nn.Linear(config.width, 4)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def raw(self, positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Field.raw`; `directions` are not used."""
        hidden = positions
        for index, layer in enumerate(self.layers):
            omega = self.config.omega if index else self.config.first_omega
            hidden = torch.sin(omega * layer(hidden))
        out = self.head(hidden)
        return out[..., 0], out[..., 1:]
