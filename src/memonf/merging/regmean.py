"""RegMean: each dense layer answers every parent's own inputs as that parent does.

Symbols, layer by layer: X_i inputs of parent i's aligned layer at its points, a one appended for
the bias; G_i = Xᵢᵀ Xᵢ / points their Gram matrix; W_i weights and bias; c_i coefficient; α what is
left of the entries of G_i off the diagonal; W̄ = Σ cᵢ Wᵢ.

After activation matching, W = (Σ cᵢ Gᵢ + λ I)⁻¹ (Σ cᵢ Gᵢ Wᵢ + λ W̄): with α = 1 and λ = 0 the W of
least Σ cᵢ ‖Xᵢ W − Xᵢ Wᵢ‖². α < 1 pulls each input's weights towards their own average. Nothing is
known but the parents: points lie in a parent's box, mostly where it has density. Norms are
averaged, and their running statistics measured anew.

Reference:
    Jin et al. 2022, RegMean, arXiv 2212.09849; after permutation as in Nasery et al. 2024, PLeaS,
    arXiv 2407.02447. Departures: the bias is one more input; the small ridge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field as Limits
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..fields import Field
from ..symmetry import Params
from ..typing import Float, Tensor
from .activation_matching import align_by_activations
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass
from .least_squares import run_through
from .positions import Positions
from .repair import reestimate_running_statistics

__all__ = ["NormalEquations", "RegMean"]


@METHODS.register("regmean")
@settings_dataclass(**SETTINGS)
class RegMean(MergeMethod):
    """Activation matching, then each layer's regression on the parents' own inputs.

    Attributes:
        points: Positions at which units are compared; each parent's inputs are taken at those
            that were drawn from it.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        scale_off_diagonal: What is left of the Gram matrices off their diagonals.
        ridge: Pull towards the average, relative to the inputs' mean square.
    """

    points: Annotated[int, Limits(ge=2)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    scale_off_diagonal: Annotated[float, Limits(ge=0, le=1)] = 0.9
    ridge: Annotated[float, Limits(gt=0)] = 1e-4

    summary = "layers solved one by one for the parents' outputs on their own inputs, closed form"
    paper = "Jin et al. 2022, RegMean, arXiv 2212.09849"
    needs_positions = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        positions = problem.positions(self.points, self.free_share, False)
        systems: dict[str, NormalEquations] = {}

        def compared() -> Iterator[Params]:
            for number, params in enumerate(align_by_activations(problem, positions)):
                network = problem.field_with(params)
                own, share = own_points(positions, number), problem.coefficients[number]
                add_inputs(systems, network, own, share, self.scale_off_diagonal)
                yield params

        merged = problem.field_with(combine_params(compared(), problem.coefficients))
        for name, system in systems.items():
            system.solve(merged.get_submodule(name), self.ridge)
        if any(isinstance(module, _BatchNorm) for module in merged.modules()):
            reestimate_running_statistics(problem.symmetry, merged, positions.inputs)
        return dict(merged.state_dict())


def own_points(positions: Positions, number: int) -> Positions:
    """The points that were drawn from one parent: as many from each, one parent after another."""
    share = positions.trust.shape[1] // len(positions.trust)
    return positions.part(slice(number * share, (number + 1) * share))


@dataclass
class NormalEquations:
    """Σ cᵢ Gᵢ and Σ cᵢ Gᵢ Wᵢ of one layer, in float64.

    Attributes:
        gram: (inputs + 1, inputs + 1)
        answers: (inputs + 1, outputs)
    """

    gram: Tensor
    answers: Tensor

    @classmethod
    def of(
        cls, layer: nn.Linear, inputs: Float[Tensor, "points inputs"], off_diagonal: float
    ) -> NormalEquations:
        """Those of one parent's layer at its own inputs."""
        extended = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1).double()
        gram = extended.mT @ extended / len(extended)
        gram = off_diagonal * gram + (1 - off_diagonal) * gram.diagonal().diag()
        return cls(gram, gram @ extended_weights(layer))

    def add(self, other: NormalEquations, share: float) -> None:
        """Add `share` of another parent's."""
        self.gram = self.gram + share * other.gram
        self.answers = self.answers + share * other.answers

    def solve(self, layer: nn.Module, ridge: float) -> None:
        """Change a layer in place, which holds the average, to the solution."""
        assert isinstance(layer, nn.Linear)
        pull = ridge * self.gram.diagonal().mean()
        gram = self.gram + pull * torch.eye(len(self.gram)).to(self.gram)
        solved = torch.linalg.solve(gram, self.answers + pull * extended_weights(layer))
        layer.weight.data = solved[:-1].mT.to(layer.weight.dtype).contiguous()
        layer.bias.data = solved[-1].to(layer.bias.dtype).contiguous()


def extended_weights(layer: nn.Linear) -> Float[Tensor, "inputs outputs"]:
    """Weights and bias as one matrix (inputs + 1, outputs), in float64."""
    return torch.cat([layer.weight.mT, layer.bias[None]], 0).double()


def add_inputs(
    systems: dict[str, NormalEquations],
    network: Field,
    positions: Positions,
    share: float,
    off_diagonal: float,
) -> None:
    """Run an aligned parent and add what each of its dense layers reads to that layer's system."""

    def adding(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(module, nn.Linear)
            ours = NormalEquations.of(module, inputs[0], off_diagonal)
            zero = NormalEquations(torch.zeros_like(ours.gram), torch.zeros_like(ours.answers))
            systems.setdefault(name, zero).add(ours, share)

        return add

    layers = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    run_through(
        network, positions, [part.register_forward_pre_hook(adding(name)) for name, part in layers]
    )
