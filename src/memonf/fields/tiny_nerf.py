"""Tiny NeRF: one small network from an encoded position to density and colour."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limits
from pydantic.dataclasses import dataclass
from torch import nn

from ..typing import Tensor
from .base import (
    ACTIVATIONS,
    CONFIG_RULES,
    FIELDS,
    Field,
    FieldConfig,
    hidden_layers,
    run_hidden_layers,
)
from .encodings import FrequencyEncoding

__all__ = ["TinyNerf", "TinyNerfConfig"]


@dataclass(frozen=True, config=CONFIG_RULES)
class TinyNerfConfig(FieldConfig):
    """Shape of a Tiny NeRF.

    Attributes:
        width: Units of each hidden layer.
        depth: Number of hidden layers.
        frequencies: Octaves of the position encoding.
        skips: Hidden layers (1 is the second) that read the encoding once more.
        activation: Hidden activation.
        batch_norm: Whether each hidden layer is normalised before its activation.
    """

    width: Annotated[int, Limits(ge=1, le=16384)] = 128
    depth: Annotated[int, Limits(ge=1, le=64)] = 4
    frequencies: Annotated[int, Limits(ge=0, le=20)] = 6
    skips: tuple[int, ...] = ()
    activation: Literal["relu", "leaky_relu", "tanh"] = "relu"
    batch_norm: bool = False


@FIELDS.register("tiny_nerf")
class TinyNerf(Field):
    """Encoded position -> hidden layers -> (density, rgb); colour without viewing direction.

    Reference:
        The ``tiny_nerf`` notebook of Mildenhall et al. 2020, arXiv 2003.08934. Departures: depth,
        width and skips are free, the box is mapped to the encoding's period, the density is a
        shifted softplus.
    """

    Config = TinyNerfConfig
    config: TinyNerfConfig

    def __init__(self, config: TinyNerfConfig, aabb: Tensor) -> None:
        super().__init__(config, aabb)
        self.encoding = FrequencyEncoding(3, config.frequencies)
        self.activation = ACTIVATIONS[config.activation]()
        self.layers, self.norms = hidden_layers(
            self.encoding.features, config.width, config.depth, config.skips, config.batch_norm
        )
        self.head = nn.Linear(config.width, 4)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def raw(self, positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Field.raw`; `directions` are not used."""
        hidden = run_hidden_layers(
            self.encoding(positions), self.layers, self.norms, self.activation, self.config.skips
        )
        out = self.head(hidden)
        return out[..., 0], out[..., 1:]
