"""REPAIR in closed form: the loss of variance by averaging, computed from the parents alone.

Symbols: z_i pre-activation of a unit of parent i, aligned; μ_i, σ_i its mean and standard
deviation; c_i coefficient; μ* = Σ cᵢ μᵢ and σ* = Σ cᵢ σᵢ targets.

The averaged unit is taken to compute z = Σ cᵢ zᵢ, whose variance follows from the parents' moments:

    var z = Σ cᵢ² σᵢ² + 2 Σ_{i<j} cᵢ cⱼ cov(zᵢ, zⱼ).

Each hidden layer is scaled by σ*/σ(z) and shifted to μ*, all layers at once. The merged field is
never evaluated. For the first layer z is exact. For a layer above it is an approximation: the layer
reads units whose mean and deviation are already those of the parents, since the factors below it
are fused, and its output is assumed to be the average of the parents' outputs. Losses by badly
matched units are not included, so `repair`, which measures, reaches its targets in every layer, and
the closed form only in the first one.

With batch norm the averaged γ and β hold the targets. The running mean is averaged; the running
variance is (Σ cᵢ σᵢ)² of the parents' running statistics, less the share var z / σ*² that averaging
leaves of it at the positions.

Reference:
    Jordan et al. 2022, REPAIR, arXiv 2211.08403: the variance of an averaged unit. Departure: used
    in all layers in place of measuring the merged field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...fields import Field
from ...symmetry import Params, Symmetry, record
from ...typing import Float, Tensor
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined
from ..positions import Positions
from ..unit_statistics import overall_trust, run_through, weighted_moments
from .base import Correct, CorrectAt
from .repair import rescale_layer

__all__ = ["ClosedRepaired", "LayerMoments", "layer_moments"]


@dataclass(frozen=True)
class LayerMoments:
    """Pre-activations of one layer of one aligned parent.

    Attributes:
        value: (points, units), z_i.
        mean: (units,), μ_i, weighted by the trust in the parent.
        deviation: (units,), σ_i.
        running_deviation: (units,), root of the running variance of a batch norm; None for a layer
            without one.
    """

    value: Float[Tensor, "points units"]
    mean: Float[Tensor, " units"]
    deviation: Float[Tensor, " units"]
    running_deviation: Float[Tensor, " units"] | None = None


@dataclass(frozen=True)
class ClosedRepaired(Correct):
    """Predict the merged units' statistics from the parents' moments, and correct them."""

    needs_positions = True

    def prepare(self, aligned: AlignedParents) -> CorrectAt:
        """See `Correct.prepare`."""
        problem, positions = aligned.problem, aligned.sampled
        moments = problem.per_parent(
            lambda number: layer_moments(
                problem.symmetry,
                problem.field_with(aligned.params[number]),
                positions,
                positions.trust[number],
            )
        )

        def correct(combined: Combined, coefficients: Coefficients) -> Params:
            merged = problem.field_with(combined.params)
            weights = overall_trust(coefficients.overall, positions)
            # Only sums over the parents are in memory, however many there are.
            sums = {name: Averaging() for name in corrected_modules(merged, problem.symmetry)}
            for share, of_parent in zip(coefficients.overall, moments, strict=True):
                for name, averaging in sums.items():
                    averaging.add(share, of_parent[name])
            for name, averaging in sums.items():
                averaging.correct(merged.get_submodule(name), weights)
            return dict(merged.state_dict())

        return correct


class Averaging:
    """Sums over the parents for the units of one layer.

    Attributes:
        value: (points, units), Σ cᵢ zᵢ. Its variance holds every covariance of two parents.
        mean: (units,), μ* = Σ cᵢ μᵢ.
        deviation: (units,), σ* = Σ cᵢ σᵢ.
        running_deviation: (units,), Σ cᵢ of the roots of the parents' running variances.
    """

    def __init__(self) -> None:
        self.value = self.mean = self.deviation = self.running_deviation = torch.zeros(())

    def add(self, share: float, moments: LayerMoments) -> None:
        """Add the moments of one parent, weighted by its coefficient."""
        self.value = self.value + share * moments.value
        self.mean = self.mean + share * moments.mean
        self.deviation = self.deviation + share * moments.deviation
        if moments.running_deviation is not None:
            self.running_deviation = self.running_deviation + share * moments.running_deviation

    def correct(self, module: nn.Module, weights: Float[Tensor, " points"]) -> None:
        """Correct one layer, or one batch norm, of the averaged field in place.

        Args:
            module: The layer or batch norm.
            weights: Trust in the merge at each point.
        """
        mean, deviation = weighted_moments(self.value, weights)
        if isinstance(module, _BatchNorm):
            kept = self.kept(deviation)
            module.running_var = (self.running_deviation * kept).square().to(module.running_var)
        else:
            assert isinstance(module, nn.Linear)
            rescale_layer(module, mean, deviation, self.mean, self.deviation)

    def kept(self, deviation: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
        """σ(z) / σ*, the share of its deviation that averaging leaves each unit; 1 if it had none.

        Args:
            deviation: σ(z).
        """
        varies = self.deviation > 1e-8
        return torch.where(varies, deviation / self.deviation.clamp_min(1e-8), 1.0)


def layer_moments(
    symmetry: Symmetry,
    network: Field,
    positions: Positions,
    trust: Float[Tensor, " points"],
) -> dict[str, LayerMoments]:
    """Moments of each layer that is corrected, by its name.

    Args:
        symmetry: Of the architecture.
        network: An aligned parent.
        positions: Where moments are measured.
        trust: Trust in this parent there.
    """
    moments: dict[str, LayerMoments] = {}
    norms = batch_norms(network)
    if norms:
        hooks = [
            norm.register_forward_pre_hook(norm_moments(moments, name, trust))
            for name, norm in norms
        ]
        run_through(network, positions, hooks)
        return moments
    layers = {value: layer for layer, value in symmetry.pre_activations.items()}

    def measure(value_name: str, value: Tensor) -> None:
        # A copy: the next step of the network may overwrite it.
        moments[layers[value_name]] = LayerMoments(value.clone(), *weighted_moments(value, trust))

    record(symmetry, network, positions.inputs, set(layers), measure)
    return moments


def norm_moments(
    moments: dict[str, LayerMoments], name: str, trust: Tensor
) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that measures what a batch norm reads."""

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        assert norm.running_var is not None
        value = inputs[0].clone()
        running = norm.running_var.double().sqrt()
        moments[name] = LayerMoments(value, *weighted_moments(value, trust), running)

    return measure


def batch_norms(field: Field) -> list[tuple[str, _BatchNorm]]:
    """Names and batch norms of a field."""
    return [(name, part) for name, part in field.named_modules() if isinstance(part, _BatchNorm)]


def corrected_modules(field: Field, symmetry: Symmetry) -> list[str]:
    """What is corrected: the batch norms if there are any, else the layers with an activation."""
    return [name for name, _ in batch_norms(field)] or list(symmetry.pre_activations)
