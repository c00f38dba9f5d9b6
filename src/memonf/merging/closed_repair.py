"""REPAIR in closed form: what averaging takes from the units, told from the parents alone.

Symbols: z_i pre-activation of a unit of parent i, aligned; μ_i, σ_i its mean and standard
deviation; c_i coefficient; μ* = Σ cᵢ μᵢ and σ* = Σ cᵢ σᵢ targets.

The averaged unit is taken to compute z = Σ cᵢ zᵢ, whose variance follows from the parents' moments:

    var z = Σ cᵢ² σᵢ² + 2 Σ_{i<j} cᵢ cⱼ cov(zᵢ, zⱼ).

Each hidden layer is scaled by σ*/σ(z) and shifted to μ*, all layers at once. The merged field is
never evaluated. For the first layer z is exact. For a layer above it is an approximation: a layer
reads units whose mean and deviation are already those of the parents, since the factors below it
are fused, and its output is then taken to be the average of the parents' outputs. What the averaged
weights lose between units that are matched badly is not seen, so `repair`, which measures, reaches
its targets in every layer and this reaches them in the first one.

With batch norm the averaged γ and β hold the targets. The running mean is averaged; the running
variance is (Σ cᵢ σᵢ)² of the parents' running statistics, less the share var z / σ*² that averaging
leaves of it at the positions.

Reference:
    Jordan et al. 2022, REPAIR, arXiv 2211.08403: the variance of an averaged unit. Departure: used
    in all layers in place of measuring the merged field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from .least_squares import run_through
from .positions import Positions
from .repair import PAPER, overall_trust, rescale_layer, weighted_moments

__all__ = ["ActivationMatchingClosedRepair", "Averaging", "averaging_moments"]


@METHODS.register("activation_matching_closed_repair")
@settings_dataclass(**SETTINGS)
class ActivationMatchingClosedRepair(MergeMethod):
    """Activation matching, then the statistics that the parents' moments foretell.

    Attributes:
        points: Positions at which moments are measured.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what the parents saw.
    """

    points: Annotated[int, Limits(ge=2)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    knowledge: bool = True

    summary = "activation matching, statistics repaired from the parents' moments, closed form"
    paper = PAPER
    needs_positions = True
    symmetric = True
    needs_knowledge = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        positions = problem.positions(self.points, self.free_share, self.knowledge)
        watched = {name: Averaging() for name in units_of(problem.parents[0], problem.symmetry)}
        deviations: dict[str, Tensor] = {}

        def compared() -> Iterator[Params]:
            aligned = align_by_activations(problem, positions)
            for number, params in enumerate(aligned):
                network = problem.field_with(params)
                averaging_moments(problem, number, network, positions, watched)
                share = problem.coefficients[number]
                for name, norm in batch_norms(network):
                    assert norm.running_var is not None
                    added = share * norm.running_var.double().sqrt()
                    deviations[name] = deviations[name] + added if name in deviations else added
                yield params

        merged = problem.field_with(combine_params(compared(), problem.coefficients))
        weights = overall_trust(problem.coefficients, positions)
        for name, averaging in watched.items():
            mean, deviation = weighted_moments(averaging.value, weights)
            module = merged.get_submodule(name)
            if isinstance(module, _BatchNorm):
                kept = averaging.kept(deviation)
                module.running_var = (deviations[name] * kept).square().to(module.running_var)
            else:
                assert isinstance(module, nn.Linear)
                rescale_layer(module, mean, deviation, averaging.mean, averaging.deviation)
        return dict(merged.state_dict())


class Averaging:
    """What is summed up over the parents for the units of one layer.

    Attributes:
        value: (points, units), Σ cᵢ zᵢ. Its variance holds every covariance of two parents, and
            takes no more memory the more parents there are.
        mean: (units,), μ* = Σ cᵢ μᵢ.
        deviation: (units,), σ* = Σ cᵢ σᵢ.
    """

    def __init__(self) -> None:
        self.value = self.mean = self.deviation = torch.zeros(())

    def add(self, share: float, value: Tensor, trust: Float[Tensor, " points"]) -> None:
        """Take in the pre-activations (points, units) of one parent."""
        mean, deviation = weighted_moments(value, trust)
        self.value = self.value + share * value  # a new tensor: the next step may overwrite `value`
        self.mean = self.mean + share * mean
        self.deviation = self.deviation + share * deviation

    def kept(self, deviation: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
        """σ(z) / σ*, the share of its deviation that averaging leaves each unit; 1 if it had none.

        Args:
            deviation: σ(z).
        """
        varies = self.deviation > 1e-8
        return torch.where(varies, deviation / self.deviation.clamp_min(1e-8), 1.0)


def averaging_moments(
    problem: MergeProblem,
    number: int,
    network: Field,
    positions: Positions,
    watched: dict[str, Averaging],
) -> None:
    """Add one aligned parent to what is known of each layer's average.

    Args:
        problem: The parents and coefficients.
        number: Which parent.
        network: The parent in the first one's unit order.
        positions: Where moments are measured, and the parents' trust there.
        watched: Layer, or batch norm, by name -> what is summed up for it.
    """
    share, trust = problem.coefficients[number], positions.trust[number]
    norms = batch_norms(network)
    if norms:
        hooks = [
            norm.register_forward_pre_hook(adding(watched[name], share, trust))
            for name, norm in norms
        ]
        run_through(network, positions, hooks)
        return
    layers = {value: layer for layer, value in problem.symmetry.pre_activations.items()}
    record(
        problem.symmetry, network, positions.inputs, set(layers),
        lambda value_name, value: watched[layers[value_name]].add(share, value, trust),
    )  # fmt: skip


def adding(
    averaging: Averaging, share: float, trust: Tensor
) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that adds what a module reads."""
    return lambda _, inputs: averaging.add(share, inputs[0], trust)


def batch_norms(field: Field) -> list[tuple[str, _BatchNorm]]:
    """Names and batch norms of a field."""
    return [(name, part) for name, part in field.named_modules() if isinstance(part, _BatchNorm)]


def units_of(field: Field, symmetry: Symmetry) -> list[str]:
    """What is corrected: the batch norms if there are any, else the layers with an activation."""
    return [name for name, _ in batch_norms(field)] or list(symmetry.pre_activations)
