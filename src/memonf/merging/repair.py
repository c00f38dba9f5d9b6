"""REPAIR: give the units of a merged field back the statistics that averaging took from them.

Symbols: μ, σ mean and standard deviation of a pre-activation over positions; μ*, σ* targets.

Averaging two aligned but imperfectly correlated units shrinks σ (σ² gains 2 c₀ c₁ ρ σ₀ σ₁ with
ρ < 1). Without batch norm, each hidden layer is rescaled to μ* = Σ cᵢ μᵢ, σ* = Σ cᵢ σᵢ, measured
after the layers below it are corrected, and fused: W ← (σ*/σ) W, b ← μ* + (σ*/σ)(b − μ). With batch
norm the averaged γ and β already hold the targets, so re-estimating the running statistics of the
merged field, cumulatively, is the same correction.

Reference:
    Jordan et al. 2022, REPAIR, arXiv 2211.08403.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field as Limits
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..fields import Field
from ..symmetry import Params, Symmetry, record
from ..typing import Float, Tensor
from .activation_matching import align_by_activations
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass
from .weight_matching import align_by_weights

__all__ = ["ActivationMatchingRepair", "AverageRepair", "WeightMatchingRepair", "repair"]

PAPER = "Jordan et al. 2022, REPAIR, arXiv 2211.08403"


@settings_dataclass(**SETTINGS)
class RepairMethod(MergeMethod):
    """Align, average, and correct the units' statistics.

    Attributes:
        points: Positions at which statistics are measured.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
    """

    points: Annotated[int, Limits(ge=2)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25

    paper = PAPER
    needs_positions = True

    @abstractmethod
    def align(self, problem: MergeProblem, inputs: Sequence[Tensor | None]) -> list[Params]:
        """Params of all parents in one unit order."""

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        inputs = problem.network_inputs(self.points, self.free_share)
        return repair(problem, self.align(problem, inputs), inputs)


@METHODS.register("average_repair")
@settings_dataclass(**SETTINGS)
class AverageRepair(RepairMethod):
    """The naive average, repaired; for parents that started from the same params."""

    summary = "params averaged as they stand, statistics repaired"
    symmetric = True

    def align(self, problem: MergeProblem, inputs: Sequence[Tensor | None]) -> list[Params]:
        """See `RepairMethod.align`."""
        return list(problem.params)


@METHODS.register("weight_matching_repair")
@settings_dataclass(**SETTINGS)
class WeightMatchingRepair(RepairMethod):
    """Weight matching, then REPAIR."""

    summary = "weight matching, statistics repaired"

    def align(self, problem: MergeProblem, inputs: Sequence[Tensor | None]) -> list[Params]:
        """See `RepairMethod.align`."""
        return align_by_weights(problem)


@METHODS.register("activation_matching_repair")
@settings_dataclass(**SETTINGS)
class ActivationMatchingRepair(RepairMethod):
    """Activation matching, then REPAIR at the same positions."""

    summary = "activation matching, statistics repaired"

    def align(self, problem: MergeProblem, inputs: Sequence[Tensor | None]) -> list[Params]:
        """See `RepairMethod.align`."""
        return align_by_activations(problem, inputs)


def repair(
    problem: MergeProblem, aligned: Sequence[Params], inputs: Sequence[Tensor | None]
) -> Params:
    """Combine aligned params and correct the statistics; plain and batch-norm fields alike.

    Args:
        problem: The parents and coefficients.
        aligned: Params of each parent in one unit order.
        inputs: Arguments of the networks at the positions where statistics are measured.
    """
    merged = problem.field_with(combine_params(aligned, problem.coefficients))
    if any(isinstance(module, _BatchNorm) for module in merged.modules()):
        reestimate_running_statistics(problem.symmetry, merged, inputs)
    else:
        parents = [problem.field_with(params) for params in aligned]
        rescale_layers(problem.symmetry, merged, parents, problem.coefficients, inputs)
    return dict(merged.state_dict())


def rescale_layers(
    symmetry: Symmetry,
    merged: Field,
    parents: Sequence[Field],
    coefficients: Sequence[float],
    inputs: Sequence[Tensor | None],
) -> None:
    """Correct every hidden layer of `merged` in place, bottom to top."""
    names = set(symmetry.pre_activations.values())
    targets = [pre_activation_statistics(symmetry, parent, inputs, names) for parent in parents]
    for layer_name, value_name in symmetry.pre_activations.items():
        layer = merged.get_submodule(layer_name)
        assert isinstance(layer, nn.Linear)
        # Measured anew for each layer: the layers below have just been corrected.
        mean, deviation = pre_activation_statistics(symmetry, merged, inputs, {value_name})[
            value_name
        ]
        target_mean = torch.zeros_like(mean)
        target_deviation = torch.zeros_like(deviation)
        for share, target in zip(coefficients, targets, strict=True):
            target_mean += share * target[value_name][0]
            target_deviation += share * target[value_name][1]
        # A unit that does not vary cannot be stretched; it only gets its mean.
        varies = deviation > 1e-8
        factor = torch.where(varies, target_deviation / deviation.clamp_min(1e-8), 1.0)
        layer.weight.data = (factor[:, None] * layer.weight.double()).to(layer.weight.dtype)
        bias = target_mean + factor * (layer.bias.double() - mean)
        layer.bias.data = bias.to(layer.bias.dtype)


def pre_activation_statistics(
    symmetry: Symmetry, network: Field, inputs: Sequence[Tensor | None], names: set[str]
) -> dict[str, tuple[Float[Tensor, " units"], Float[Tensor, " units"]]]:
    """Mean and standard deviation of traced values over the positions, in float64."""
    statistics: dict[str, tuple[Tensor, Tensor]] = {}

    def measure(name: str, value: Tensor) -> None:
        deviation, mean = torch.std_mean(value.double(), dim=0, correction=0)
        statistics[name] = (mean, deviation)

    record(symmetry, network, inputs, names, measure)
    return statistics


def reestimate_running_statistics(
    symmetry: Symmetry, merged: Field, inputs: Sequence[Tensor | None]
) -> None:
    """Replace all running means and variances by those over the positions, cumulatively."""
    norms = [module for module in merged.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    merged.train()
    record(symmetry, merged, inputs, set(), lambda name, value: None)
    merged.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
