"""RegMean: each dense layer reproduces every parent's layer outputs on that parent's inputs.

Symbols, layer by layer: X_i inputs of parent i's aligned layer at its points, a one appended for
the bias; G_i = Xᵢᵀ Xᵢ / points their Gram matrix; W_i weights and bias; c_i coefficient; α factor
of the off-diagonal entries of G_i; W̄ = Σ cᵢ Wᵢ.

After activation matching, W = (Σ cᵢ Gᵢ + λ I)⁻¹ (Σ cᵢ Gᵢ Wᵢ + λ W̄): with α = 1 and λ = 0 the W of
least Σ cᵢ ‖Xᵢ W − Xᵢ Wᵢ‖². α < 1 pulls the weights of each input towards their average. Only the
parents are used: points lie in a parent's box, mostly where it has density. Norms are averaged, and
their running statistics measured again.

Reference:
    Jin et al. 2022, RegMean, arXiv 2212.09849; after permutation as in Nasery et al. 2024, PLeaS,
    arXiv 2407.02447. Departures: the bias is one more input; the small ridge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ...fields import Field
from ...typing import Float, Tensor
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined
from ..positions import Positions
from ..unit_statistics import has_batch_norm, reestimate_running_statistics, run_through
from .base import Combine, CombineAt, combine_params

__all__ = ["NormalEquations", "RegressedOnInputs", "own_points"]


@dataclass(frozen=True)
class RegressedOnInputs(Combine):
    """Solve each dense layer for the parents' outputs on their own inputs.

    Attributes:
        scale_off_diagonal: Factor of the off-diagonal entries of the Gram matrices.
        ridge: Pull towards the average, relative to the inputs' mean square.
    """

    scale_off_diagonal: float = 0.9
    ridge: float = 1e-4
    needs_positions = True

    def prepare(self, aligned: AlignedParents) -> CombineAt:
        """See `Combine.prepare`."""
        problem, positions = aligned.problem, aligned.sampled
        systems_of = problem.per_parent(
            lambda number: layer_systems(
                problem.field_with(aligned.params[number]),
                own_points(positions, number),
                self.scale_off_diagonal,
            )
        )

        def at(coefficients: Coefficients) -> Combined:
            total: dict[str, NormalEquations] = {}
            for share, systems in zip(coefficients.overall, systems_of, strict=True):
                for name, system in systems.items():
                    total.setdefault(name, system.zero()).add(system, share)
            merged = problem.field_with(combine_params(aligned.params, coefficients.overall))
            for name, system in total.items():
                system.solve(merged.get_submodule(name), self.ridge)
            if has_batch_norm(merged):
                reestimate_running_statistics(problem.symmetry, merged, positions.inputs)
            return Combined(dict(merged.state_dict()))

        return at


def own_points(positions: Positions, number: int) -> Positions:
    """The points drawn from one parent; equally many from each, in the order of the parents."""
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
        """Equations of one parent's layer at its own inputs."""
        extended = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1).double()
        gram = extended.mT @ extended / len(extended)
        gram = off_diagonal * gram + (1 - off_diagonal) * gram.diagonal().diag()
        return cls(gram, gram @ extended_weights(layer))

    def zero(self) -> NormalEquations:
        """Equations of the same size with all entries 0."""
        return NormalEquations(torch.zeros_like(self.gram), torch.zeros_like(self.answers))

    def add(self, other: NormalEquations, share: float) -> None:
        """Add another parent's equations, times `share`."""
        self.gram = self.gram + share * other.gram
        self.answers = self.answers + share * other.answers

    def solve(self, layer: nn.Module, ridge: float) -> None:
        """Change a layer, which holds the average, to the solution in place."""
        assert isinstance(layer, nn.Linear)
        pull = ridge * self.gram.diagonal().mean()
        gram = self.gram + pull * torch.eye(len(self.gram)).to(self.gram)
        solved = torch.linalg.solve(gram, self.answers + pull * extended_weights(layer))
        layer.weight.data = solved[:-1].mT.to(layer.weight.dtype).contiguous()
        layer.bias.data = solved[-1].to(layer.bias.dtype).contiguous()


def extended_weights(layer: nn.Linear) -> Float[Tensor, "inputs outputs"]:
    """Weights and bias as one matrix (inputs + 1, outputs), in float64."""
    return torch.cat([layer.weight.mT, layer.bias[None]], 0).double()


def layer_systems(
    network: Field, positions: Positions, off_diagonal: float
) -> dict[str, NormalEquations]:
    """Normal equations of each dense layer of an aligned parent at these positions, by name."""
    systems: dict[str, NormalEquations] = {}

    def reading(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(module, nn.Linear)
            system = NormalEquations.of(module, inputs[0], off_diagonal)
            systems.setdefault(name, system.zero()).add(system, 1.0)

        return read

    layers = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    run_through(
        network, positions, [part.register_forward_pre_hook(reading(name)) for name, part in layers]
    )
    return systems
