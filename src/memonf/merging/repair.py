"""REPAIR: give the units of a merged field back the statistics that averaging took from them.

Symbols: μ, σ mean and standard deviation of a pre-activation over positions; μ*, σ* targets.

Averaging two aligned but imperfectly correlated units shrinks σ (σ² gains 2 c₀ c₁ ρ σ₀ σ₁ with
ρ < 1). Without batch norm, each hidden layer is rescaled to μ* = Σ cᵢ μᵢ, σ* = Σ cᵢ σᵢ, measured
after the layers below it are corrected, and fused: W ← (σ*/σ) W, b ← μ* + (σ*/σ)(b − μ). A point
counts for parent i by its trust tᵢ (what it saw there), for the merge by Σ cᵢ tᵢ; cᵢ are those of
the layer's weight, where layers have their own. With batch norm the averaged γ and β already hold
the targets, so re-estimating the running statistics of the merged field, cumulatively, is the same
correction.

Reference:
    Jordan et al. 2022, REPAIR, arXiv 2211.08403.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, TypeAlias

import torch
from pydantic import Field as Limits
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..fields import Field
from ..symmetry import Params, Symmetry, record
from ..typing import Float, Tensor
from .activation_matching import align_by_activations
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass
from .coefficients import Coefficients
from .combined_matching import align_by_both
from .positions import Positions
from .weight_matching import align_by_weights

__all__ = [
    "ActivationMatchingRepair",
    "AverageRepair",
    "CombinedMatchingRepair",
    "WeightMatchingRepair",
    "repair",
]

#: Traced value -> mean and standard deviation of each unit.
Statistics: TypeAlias = "dict[str, tuple[Float[Tensor, ' units'], Float[Tensor, ' units']]]"

#: Points whose values stay in a core's cache, which is several times as fast as all at once.
CHUNK = 1024

PAPER = "Jordan et al. 2022, REPAIR, arXiv 2211.08403"


@settings_dataclass(**SETTINGS)
class RepairMethod(MergeMethod):
    """Align, average, and correct the units' statistics.

    Attributes:
        points: Positions at which statistics are measured.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what the parents saw.
    """

    points: Annotated[int, Limits(ge=2)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    knowledge: bool = True

    paper = PAPER
    needs_positions = True
    needs_knowledge = True
    layerwise = True
    symmetric = True

    @abstractmethod
    def align(self, problem: MergeProblem, positions: Positions) -> Iterator[Params]:
        """Params of all parents in one unit order, one after the other."""

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        positions = problem.positions(self.points, self.free_share, self.knowledge)
        return repair(problem, self.align(problem, positions), positions, fixed=True)


@METHODS.register("average_repair")
@settings_dataclass(**SETTINGS)
class AverageRepair(RepairMethod):
    """The naive average, repaired; for parents that started from the same params."""

    summary = "params averaged as they stand, statistics repaired"

    def align(self, problem: MergeProblem, positions: Positions) -> Iterator[Params]:
        """See `RepairMethod.align`."""
        return (problem.params(number) for number in range(len(problem.parents)))


@METHODS.register("weight_matching_repair")
@settings_dataclass(**SETTINGS)
class WeightMatchingRepair(RepairMethod):
    """Weight matching, then REPAIR."""

    summary = "weight matching, statistics repaired"

    def align(self, problem: MergeProblem, positions: Positions) -> Iterator[Params]:
        """See `RepairMethod.align`."""
        return align_by_weights(problem)


@METHODS.register("activation_matching_repair")
@settings_dataclass(**SETTINGS)
class ActivationMatchingRepair(RepairMethod):
    """Activation matching, then REPAIR at the same positions."""

    summary = "activation matching, statistics repaired"

    def align(self, problem: MergeProblem, positions: Positions) -> Iterator[Params]:
        """See `RepairMethod.align`."""
        return align_by_activations(problem, positions)


@METHODS.register("combined_matching_repair")
@settings_dataclass(**SETTINGS)
class CombinedMatchingRepair(RepairMethod):
    """Combined matching, then REPAIR at the same positions."""

    summary = "combined matching, statistics repaired"

    def align(self, problem: MergeProblem, positions: Positions) -> Iterator[Params]:
        """See `RepairMethod.align`."""
        return align_by_both(problem, positions)


def repair(
    problem: MergeProblem,
    aligned: Iterable[Params],
    positions: Positions,
    *,
    fixed: bool = False,
) -> Params:
    """Combine aligned params and correct the statistics; plain and batch-norm fields alike.

    Args:
        problem: The parents and coefficients.
        aligned: Params of each parent in one unit order.
        positions: Where statistics are measured.
        fixed: Whether the aligned params do not hang on the coefficients, so that their statistics
            may be remembered.
    """
    symmetry = problem.symmetry
    names = set(symmetry.pre_activations.values())
    targets: list[Statistics] = []

    def measured() -> Iterator[Params]:
        for number, (params, trust) in enumerate(zip(aligned, positions.trust, strict=True)):

            def measure(params: Params = params, trust: Tensor = trust) -> Statistics:
                network = problem.field_with(params)
                return statistics_of(symmetry, network, positions.inputs, names, trust)

            found = problem.remember(("statistics", number), measure) if fixed else measure()
            targets.append(found)
            yield params

    merged = problem.field_with(combine_params(measured(), problem.layer_coefficients))
    if any(isinstance(module, _BatchNorm) for module in merged.modules()):
        reestimate_running_statistics(symmetry, merged, positions.inputs)
    else:
        rescale_layers(symmetry, merged, targets, problem.layer_coefficients, positions)
    return dict(merged.state_dict())


def rescale_layers(
    symmetry: Symmetry,
    merged: Field,
    targets: Sequence[Statistics],
    coefficients: Coefficients,
    positions: Positions,
) -> None:
    """Correct every hidden layer of `merged` in place, bottom to top, by its own coefficients.

    Each layer is measured once those below it are corrected. Where the value that its activation
    reads is the layer's own output, it is corrected in passing; else the next pass goes on above.
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


def overall_trust(shares: Sequence[float], positions: Positions) -> Float[Tensor, " points"]:
    """Trust in the merge at each point, Σ cᵢ tᵢ."""
    return positions.trust.new_tensor(shares) @ positions.trust


def rescale_layer(
    layer: nn.Linear,
    mean: Float[Tensor, " units"],
    deviation: Float[Tensor, " units"],
    target_mean: Float[Tensor, " units"],
    target_deviation: Float[Tensor, " units"],
) -> None:
    """Change a layer in place so that outputs of these moments get the target moments."""
    # A unit that does not vary cannot be stretched; it only gets its mean.
    varies = deviation > 1e-8
    factor = torch.where(varies, target_deviation / deviation.clamp_min(1e-8), 1.0)
    layer.weight.data = (factor[:, None] * layer.weight.double()).to(layer.weight.dtype)
    bias = target_mean + factor * (layer.bias.double() - mean)
    layer.bias.data = bias.to(layer.bias.dtype)


def statistics_of(
    symmetry: Symmetry,
    network: Field,
    inputs: Sequence[Tensor | None],
    names: set[str],
    weights: Float[Tensor, " points"],
) -> Statistics:
    """Weighted mean and standard deviation of traced values over the points, in float64."""
    statistics: Statistics = {}

    def measure(name: str, value: Tensor) -> None:
        statistics[name] = weighted_moments(value, weights)

    record(symmetry, network, inputs, names, measure)
    return statistics


def weighted_moments(
    value: Float[Tensor, "points units"], weights: Float[Tensor, " points"]
) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"]]:
    """Weighted mean and standard deviation over the points, in float64, chunk by chunk."""
    shares = weights.double() / weights.double().sum().clamp_min(1e-12)
    mean = variance = shares.new_zeros(value.shape[1])
    for share, part in zip(shares.split(CHUNK), value.split(CHUNK), strict=True):
        mean = mean + share @ part.double()
    for share, part in zip(shares.split(CHUNK), value.split(CHUNK), strict=True):
        variance = variance + share @ (part.double() - mean).square()
    return mean, variance.sqrt()


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
