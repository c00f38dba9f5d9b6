"""REPAIR: restore the statistics of a merged field's units that averaging reduced.

Symbols: μ, σ mean and standard deviation of a pre-activation over positions; μ*, σ* targets.

Averaging two aligned but imperfectly correlated units shrinks σ (σ² gains 2 c₀ c₁ ρ σ₀ σ₁ with
ρ < 1). Without batch norm, each hidden layer is rescaled to μ* = Σ cᵢ μᵢ, σ* = Σ cᵢ σᵢ, measured
after the layers below it are corrected, and fused: W ← (σ*/σ) W, b ← μ* + (σ*/σ)(b − μ). A point is
weighted for parent i by the trust tᵢ in it, for the merge by Σ cᵢ tᵢ; with coefficients by layer,
cᵢ are those of the layer's weight. With batch norm the averaged γ and β already hold the targets,
so re-estimating the running statistics of the merged field, cumulatively, is the same correction.

Reference:
    Jordan et al. 2022, REPAIR, arXiv 2211.08403.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...fields import Field
from ...symmetry import Params, Symmetry, record
from ...typing import Float, Tensor
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined
from ..positions import Positions
from ..unit_statistics import (
    Statistics,
    has_batch_norm,
    overall_trust,
    reestimate_running_statistics,
    statistics_of,
    weighted_moments,
)
from .base import Correct, CorrectAt

__all__ = ["PAPER", "Repaired", "rescale_layer", "rescale_layers"]

PAPER = "Jordan et al. 2022, REPAIR, arXiv 2211.08403"


@dataclass(frozen=True)
class Repaired(Correct):
    """Measure the merged units, layer by layer, and give them the parents' mean statistics."""

    needs_positions = True

    def prepare(self, aligned: AlignedParents) -> CorrectAt:
        """Measure the parents' units; not for batch norm, whose params hold the targets."""
        problem, positions = aligned.problem, aligned.sampled
        symmetry = problem.symmetry
        names = set(symmetry.pre_activations.values())
        of_parents: list[Statistics] = []
        if not has_batch_norm(problem.parents[0]):
            of_parents = [
                statistics_of(symmetry, problem.field_with(params), positions.inputs, names, trust)
                for params, trust in zip(aligned.params, positions.trust, strict=True)
            ]

        def correct(combined: Combined, coefficients: Coefficients) -> Params:
            merged = problem.field_with(combined.params)
            if has_batch_norm(merged):
                reestimate_running_statistics(symmetry, merged, positions.inputs)
            elif combined.mix_statistics is None:
                rescale_layers(symmetry, merged, of_parents, coefficients, positions)
            else:
                mixed = combined.mix_statistics(of_parents)
                trust = overall_trust(coefficients.overall, positions)
                together = Positions(positions.inputs, trust[None])
                rescale_layers(symmetry, merged, [mixed], Coefficients((1.0,)), together)
            return dict(merged.state_dict())

        return correct


def rescale_layers(
    symmetry: Symmetry,
    merged: Field,
    targets: Sequence[Statistics],
    coefficients: Coefficients,
    positions: Positions,
) -> None:
    """Correct every hidden layer of `merged` in place, first to last, by its own coefficients.

    Each layer is measured after those below it are corrected. If the activation reads the layer's
    output directly, the layer is corrected during the same pass; otherwise layers above it wait for
    the next pass.
    """
    waiting = {value: layer for layer, value in symmetry.pre_activations.items()}
    outdated = False
    made_by = {node.name: node.target for node in symmetry.graph.nodes if node.op == "call_module"}

    def correct(value_name: str, value: Tensor) -> bool:
        nonlocal outdated
        if outdated or value_name not in waiting:
            return False
        layer_name = waiting.pop(value_name)
        shares = coefficients.of(f"{layer_name}.weight")
        mean, deviation = weighted_moments(value, overall_trust(shares, positions))
        target_mean = torch.zeros_like(mean)
        target_deviation = torch.zeros_like(deviation)
        for share, target in zip(shares, targets, strict=True):
            target_mean += share * target[value_name][0]
            target_deviation += share * target[value_name][1]
        layer = merged.get_submodule(layer_name)
        assert isinstance(layer, nn.Linear)
        rescale_layer(layer, mean, deviation, target_mean, target_deviation)
        outdated = made_by.get(value_name) != layer_name
        return not outdated

    while waiting:
        outdated = False
        record(symmetry, merged, positions.inputs, set(waiting), correct)


def rescale_layer(
    layer: nn.Linear,
    mean: Float[Tensor, " units"],
    deviation: Float[Tensor, " units"],
    target_mean: Float[Tensor, " units"],
    target_deviation: Float[Tensor, " units"],
) -> None:
    """Change a layer in place so that outputs of these moments get the target moments."""
    # A constant unit cannot be rescaled; only its mean is corrected.
    varies = deviation > 1e-8
    factor = torch.where(varies, target_deviation / deviation.clamp_min(1e-8), 1.0)
    layer.weight.data = (factor[:, None] * layer.weight.double()).to(layer.weight.dtype)
    bias = target_mean + factor * (layer.bias.double() - mean)
    layer.bias.data = bias.to(layer.bias.dtype)
