"""NeRF: a deep trunk over the encoded position, and a colour branch that sees the direction."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
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

__all__ = ["Nerf", "NerfConfig"]


@dataclass(frozen=True, config=CONFIG_RULES)
class NerfConfig(FieldConfig):
    """Shape of a NeRF with a view branch.

    Attributes:
        width: Units of each trunk layer and of the feature handed to the view branch.
        depth: Number of trunk layers.
        frequencies: Octaves of the position encoding (10 encode to 60).
        skips: Trunk layers (4 is the fifth) that read the encoded position once more.
        direction_frequencies: Octaves of the direction encoding (4 encode to 24).
        view_width: Units of the layer that joins feature and direction.
        include_input: Whether the encodings start with the bare coordinates.
        activation: Hidden activation.
        batch_norm: Whether each hidden layer is normalised before its activation.
    """

    width: Annotated[int, Limits(ge=1, le=16384)] = 256
    depth: Annotated[int, Limits(ge=1, le=64)] = 8
    frequencies: Annotated[int, Limits(ge=0, le=20)] = 10
    skips: tuple[int, ...] = (4,)
    direction_frequencies: Annotated[int, Limits(ge=0, le=20)] = 4
    view_width: Annotated[int, Limits(ge=1, le=16384)] = 128
    include_input: bool = False
    activation: Literal["relu", "leaky_relu", "tanh"] = "relu"
    batch_norm: bool = False


@FIELDS.register("nerf")
class Nerf(Field):
    """Trunk -> density and a feature; feature and encoded direction -> a narrow layer -> rgb.

    Reference:
        Mildenhall et al. 2020, NeRF, arXiv 2003.08934, figure 7. Departures: the box is mapped to
        the encoding's period, the density is a shifted softplus.
    """

    Config = NerfConfig
    config: NerfConfig
    view_dependent = True

    def __init__(self, config: NerfConfig, aabb: Tensor) -> None:
        super().__init__(config, aabb)
        self.encoding = FrequencyEncoding(3, config.frequencies, config.include_input)
        self.direction_encoding = FrequencyEncoding(
            3, config.direction_frequencies, config.include_input
        )
        self.activation = ACTIVATIONS[config.activation]()
        self.layers, self.norms = hidden_layers(
            self.encoding.features, config.width, config.depth, config.skips, config.batch_norm
        )
        self.density_head = nn.Linear(config.width, 1)
        self.feature = nn.Linear(config.width, config.width)
        joined = config.width + self.direction_encoding.features
        self.view_layers, self.view_norms = hidden_layers(
            joined, config.view_width, 1, (), config.batch_norm
        )
        self.colour_head = nn.Linear(config.view_width, 3)
        for layer in (self.density_head, self.feature, self.colour_head):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def raw(self, positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Field.raw`."""
        hidden = self.trunk(positions)
        joined = torch.cat([self.feature(hidden), self.direction_encoding(directions)], -1)
        coloured = run_hidden_layers(joined, self.view_layers, self.view_norms, self.activation, ())
        return self.density_head(hidden)[..., 0], self.colour_head(coloured)

    def raw_density(self, positions: Tensor) -> Tensor:
        """See `Field.raw_density`; the view branch is not evaluated."""
        return self.density_head(self.trunk(positions))[..., 0]

    def trunk(self, positions: Tensor) -> Tensor:
        """Hidden units (points, width) above which density and colour part."""
        return run_hidden_layers(
            self.encoding(positions), self.layers, self.norms, self.activation, self.config.skips
        )
