"""NeRF as the common PyTorch and TensorFlow code bases build it; for fields that come from them.

It differs from `nerf` in what a trained network cannot do without: coordinates are taken as they
are, frequencies are 2^k without π or with it, density is a ReLU or another function of the
network's output, and some code bases leave an activation out or put one in.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn import functional as F

from ..typing import Tensor
from .base import CONFIG_RULES, FIELDS, Field, FieldConfig, hidden_layers
from .encodings import FrequencyEncoding

__all__ = ["ClassicNerf", "ClassicNerfConfig"]

#: Of a density that is an exponential: what is denser is as opaque, and float32 ends at 88.
MOST_LOG_DENSITY = 15.0


@dataclass(frozen=True, config=CONFIG_RULES)
class ClassicNerfConfig(FieldConfig):
    """Shape of a classic NeRF, and where its code base departs from the paper.

    Attributes:
        width: Units of each trunk layer and of the feature.
        depth: Number of trunk layers.
        frequencies: Frequencies of the position encoding.
        skips: Trunk layers that read the encoded position once more, ahead of the hidden units.
        direction_frequencies: Frequencies of the direction encoding.
        view_width: Units of each layer of the view branch; 0 for a field that does not see
            directions.
        view_depth: Number of those layers.
        include_input: Whether the position encoding starts with the bare coordinates.
        include_direction: Whether the direction encoding does.
        octave_steps: Whether frequencies double; else they are evenly spaced.
        first_activation: Whether a ReLU follows the first trunk layer.
        feature_activation: Whether one follows the feature.
        density_from_feature: Whether the density is read from the feature, not from the trunk.
        position_factor: What the angles of the position encoding are multiplied by: 1, π, 2π.
        direction_factor: Likewise of the direction encoding.
        density_activation: What makes a density of the network's output.
    """

    width: Annotated[int, Limits(ge=1, le=16384)] = 256
    depth: Annotated[int, Limits(ge=1, le=64)] = 8
    frequencies: Annotated[int, Limits(ge=0, le=20)] = 10
    skips: tuple[int, ...] = (5,)
    direction_frequencies: Annotated[int, Limits(ge=0, le=20)] = 4
    view_width: Annotated[int, Limits(ge=0, le=16384)] = 128
    view_depth: Annotated[int, Limits(ge=1, le=16)] = 1
    include_input: bool = True
    include_direction: bool = True
    octave_steps: bool = True
    first_activation: bool = True
    feature_activation: bool = False
    density_from_feature: bool = False
    position_factor: Annotated[float, Limits(gt=0, le=1e6)] = 1.0
    direction_factor: Annotated[float, Limits(gt=0, le=1e6)] = 1.0
    density_activation: Literal["relu", "softplus", "exp"] = "relu"


@FIELDS.register("classic_nerf")
class ClassicNerf(Field):
    """Trunk -> density and a feature; feature and encoded direction -> view layers -> rgb.

    Reference:
        Mildenhall et al. 2020, NeRF, arXiv 2003.08934, figure 7; the code of bmild/nerf,
        yenchenlin/nerf-pytorch, krrish94/nerf-pytorch and kwea123/nerf_pl, whose departures the
        config names.
    """

    Config = ClassicNerfConfig
    config: ClassicNerfConfig
    #: Its density is not scaled up behind the network: full steps destroy what was taken over.
    rate_scale = 0.6
    sharp = True

    def __init__(self, config: ClassicNerfConfig, aabb: Tensor) -> None:
        super().__init__(config, aabb)
        self.encoding = FrequencyEncoding(
            3, config.frequencies, config.include_input, base=config.position_factor,
            octave_steps=config.octave_steps,
        )  # fmt: skip
        self.view_dependent = config.view_width > 0
        self.layers, _ = hidden_layers(
            self.encoding.features, config.width, config.depth, config.skips, False
        )
        self.density_head = nn.Linear(config.width, 1)
        heads = [self.density_head]
        if self.view_dependent:
            self.direction_encoding = FrequencyEncoding(
                3, config.direction_frequencies, config.include_direction,
                base=config.direction_factor, octave_steps=config.octave_steps,
            )  # fmt: skip
            self.feature = nn.Linear(config.width, config.width)
            joined = config.width + self.direction_encoding.features
            self.view_layers, _ = hidden_layers(
                joined, config.view_width, config.view_depth, (), False
            )
            heads.append(self.feature)
        self.colour_head = nn.Linear(config.view_width or config.width, 3)
        for layer in (*heads, self.colour_head):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def normalise(self, positions: Tensor) -> Tensor:
        """Scene units: the network was trained on them as they are."""
        return positions

    def activate_density(self, raw: Tensor) -> Tensor:
        """Per scene unit."""
        if self.config.density_activation == "softplus":
            return F.softplus(raw)
        if self.config.density_activation == "exp":
            return raw.clamp_max(MOST_LOG_DENSITY).exp()
        return raw.relu()

    def raw(self, positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Field.raw`; positions are in scene units."""
        hidden = self.trunk(positions)
        if not self.view_dependent:
            return self.density_head(hidden)[..., 0], self.colour_head(hidden)
        feature = self.feature(hidden)
        if self.config.feature_activation:
            feature = feature.relu()
        density = self.density_head(feature if self.config.density_from_feature else hidden)
        coloured = torch.cat([feature, self.direction_encoding(directions)], -1)
        for layer in self.view_layers:
            coloured = layer(coloured).relu()
        return density[..., 0], self.colour_head(coloured)

    def raw_density(self, positions: Tensor) -> Tensor:
        """See `Field.raw_density`; the view branch is not evaluated."""
        hidden = self.trunk(positions)
        if self.view_dependent and self.config.density_from_feature:
            hidden = self.feature(hidden)
            if self.config.feature_activation:
                hidden = hidden.relu()
        return self.density_head(hidden)[..., 0]

    def trunk(self, positions: Tensor) -> Tensor:
        """Hidden units (points, width) above which density and colour part."""
        encoded = self.encoding(positions)
        hidden = encoded
        for index, layer in enumerate(self.layers):
            if index > 0 and index in self.config.skips:
                hidden = torch.cat([encoded, hidden], -1)
            hidden = layer(hidden)
            if index > 0 or self.config.first_activation:
                hidden = hidden.relu()
        return hidden
