"""Encodings lift a few coordinates to many features before a small network reads them.

Fields hold an encoding as a submodule; it has no trainable params and no symmetry.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ..typing import Float, Tensor

__all__ = ["FrequencyEncoding"]


class FrequencyEncoding(nn.Module):
    r"""Sines and cosines of the coordinates at octave frequencies.

    .. math:: γ(x) = (x, \sin(2^0 π x), \cos(2^0 π x), …, \sin(2^{L-1} π x), \cos(2^{L-1} π x))

    The coordinates are expected in [-1, 1]; the lowest frequency has one period over that range.
    Fields of other code bases leave the factor π out and have the coordinates as they are.

    Args:
        dimensions: Number of coordinates, >= 1.
        frequencies: Number of octaves L, >= 0.
        include_input: Whether x itself is the first part of the features.
        base: The lowest angular frequency.
        octave_steps: Whether each frequency is twice the one before; else they are evenly spaced
            between the lowest and the highest.

    Reference:
        Mildenhall et al. 2020, NeRF, arXiv 2003.08934, equation 4.
    """

    octaves: Tensor

    def __init__(
        self,
        dimensions: int,
        frequencies: int,
        include_input: bool = True,
        *,
        base: float = math.pi,
        octave_steps: bool = True,
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.frequencies = frequencies
        self.include_input = include_input
        # Not by tensor arithmetic: files are read by way of a network on the meta device, where
        # that imports torch's compiler and sympy, which takes every command a second and a half.
        last = max(1, frequencies - 1)
        steps = [
            2.0**k if octave_steps else 1 + k * (2.0 ** (frequencies - 1) - 1) / last
            for k in range(frequencies)
        ]
        octaves = torch.tensor([base * step for step in steps])
        self.register_buffer("octaves", octaves, persistent=False)

    @property
    def features(self) -> int:
        """Length of the encoded vector."""
        return self.dimensions * (2 * self.frequencies + self.include_input)

    def forward(self, coordinates: Float[Tensor, "*points d"]) -> Float[Tensor, "*points features"]:
        """Encode the last axis; the frequencies of one coordinate stand side by side."""
        angles = (coordinates[..., None] * self.octaves).flatten(-2)
        parts = [angles.sin(), angles.cos()]
        if self.include_input:
            parts.insert(0, coordinates)
        return torch.cat(parts, -1)
