"""Sums over points, made chunk by chunk, are those over all points at once."""

from __future__ import annotations

import torch

from memonf.merging.combining.least_squares import normal_equations
from memonf.merging.unit_statistics import weighted_moments


def test_sums_by_chunks_are_those_of_all_points() -> None:
    """More points than a chunk, and not a multiple of it."""
    generator = torch.Generator().manual_seed(0)
    x, z = (5 + torch.randn(2500, size, generator=generator) for size in (7, 3))
    weights = torch.rand(2500, generator=generator)
    gram, products = normal_equations(x, z, weights)
    whole = torch.cat([x, torch.ones(2500, 1)], 1).double()
    torch.testing.assert_close(gram, whole.mT @ (weights[:, None] * whole), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(products, whole.mT @ z.double(), rtol=1e-6, atol=1e-4)
    mean, deviation = weighted_moments(x, weights)
    shares = weights.double() / weights.double().sum()
    torch.testing.assert_close(mean, shares @ x.double())
    torch.testing.assert_close(deviation, (shares @ (x.double() - mean).square()).sqrt())
