"""Layer-wise least squares: each layer maps its merged input to the parents' layer outputs.

Symbols, layer by layer: x input of the merged layer, z_i output of parent i's aligned layer, t_i
trust in parent i at a point, c_i its coefficient.

After combined matching, each dense layer is solved for the outputs z* = Σ cᵢ tᵢ zᵢ / Σ cᵢ tᵢ, given
its input x from the layers below, which are already solved: min Σ w ‖W x + b − z*‖², w = Σ cᵢ tᵢ,
with a ridge towards the repaired average. One pass from the first layer to the last, no gradient
steps.

Reference:
    Jin et al. 2022, RegMean, arXiv 2212.09849; Nasery et al. 2024, PLeaS, arXiv 2407.02447.
    Departures: the merged layer's own input, and the parents' trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ...fields import Field
from ...symmetry import Symmetry
from ...typing import Float, Tensor
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined
from ..correcting.repair import Repaired
from ..positions import Positions
from ..unit_statistics import CHUNK, has_batch_norm, reestimate_running_statistics, run_through
from .base import Averaged, Combine, CombineAt

__all__ = ["SolvedForOutputs", "layer_outputs", "normal_equations"]


@dataclass(frozen=True)
class SolvedForOutputs(Combine):
    """Solve each layer, first to last, for the outputs of the parents, weighted by trust.

    Attributes:
        ridge: Pull towards the repaired average, relative to the inputs' mean square.
    """

    ridge: float = 1e-4
    needs_positions = True

    def prepare(self, aligned: AlignedParents) -> CombineAt:
        """See `Combine.prepare`."""
        problem, positions = aligned.problem, aligned.sampled
        average, repair = Averaged().prepare(aligned), Repaired().prepare(aligned)
        outputs_of = problem.per_parent(
            lambda number: layer_outputs(problem.field_with(aligned.params[number]), positions)
        )

        def at(coefficients: Coefficients) -> Combined:
            shares = positions.trust.new_tensor(coefficients.overall)[:, None] * positions.trust
            # Where no parent is trusted, all get a small weight: a layer needs targets everywhere.
            shares = shares + 1e-3 * positions.trust.new_tensor(coefficients.overall)[:, None]
            targets: dict[str, Tensor] = {}
            for share, outputs in zip(shares, outputs_of, strict=True):
                for name, value in outputs:
                    weighted = share[:, None] * value
                    targets[name] = targets[name] + weighted if name in targets else weighted
            merged = problem.field_with(repair(average(coefficients), coefficients))
            weights = shares.sum(0)
            solve_layers(problem.symmetry, merged, targets, weights, positions, self.ridge)
            return Combined(dict(merged.state_dict()))

        return at


def solve_layers(
    symmetry: Symmetry,
    merged: Field,
    targets: dict[str, Tensor],
    weights: Float[Tensor, " points"],
    positions: Positions,
    ridge: float,
) -> None:
    """Solve every layer in place during a forward pass: its input comes from solved layers.

    With batch norm, each solved layer changes the statistics of the norm after it, so the layers
    above wait for the next pass.
    """
    normed = has_batch_norm(merged)
    waiting = dict(targets)
    outdated = False

    def solve(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal outdated
        if not outdated and name in waiting:
            assert isinstance(layer, nn.Linear)
            solve_layer(layer, inputs[0], waiting.pop(name), weights, ridge)
            outdated = normed

    hooked = {name: merged.get_submodule(name) for name in targets}
    while waiting:
        outdated = False
        hooks = [
            layer.register_forward_pre_hook(partial(solve, name)) for name, layer in hooked.items()
        ]
        run_through(merged, positions, hooks)
        if normed:
            reestimate_running_statistics(symmetry, merged, positions.inputs)


def layer_outputs(field: Field, positions: Positions) -> list[tuple[str, Tensor]]:
    """Output of every dense layer at the positions, in the order in which they run."""
    outputs: list[tuple[str, Tensor]] = []

    def note(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append((name, output.detach().clone()))

    hooks = [
        module.register_forward_hook(partial(note, name))
        for name, module in field.named_modules()
        if isinstance(module, nn.Linear)
    ]
    run_through(field, positions, hooks)
    return outputs


def solve_layer(
    layer: nn.Linear,
    inputs: Float[Tensor, "points inputs"],
    targets: Float[Tensor, "points outputs"],
    weights: Float[Tensor, " points"],
    ridge: float,
) -> None:
    """Change a layer in place so that it maps the inputs to the targets, in least squares."""
    gram, products = normal_equations(inputs, targets, weights)
    now = torch.cat([layer.weight, layer.bias[:, None]], 1).double()
    missing = products - gram @ now.mT
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    solved = now + torch.linalg.solve(gram, missing).mT
    layer.weight.data = solved[:, :-1].to(layer.weight.dtype).contiguous()
    layer.bias.data = solved[:, -1].to(layer.bias.dtype).contiguous()


def normal_equations(
    inputs: Float[Tensor, "points inputs"],
    targets: Float[Tensor, "points outputs"],
    weights: Float[Tensor, " points"],
) -> tuple[Float[Tensor, "inputs1 inputs1"], Float[Tensor, "inputs1 outputs"]]:
    """Σ w x xᵀ and Σ x z over the points, x with a 1 appended, in float64.

    Summed in single precision within chunks that fit in a core's cache and in double precision
    over the chunks, which is several times as fast as double precision throughout.
    """
    total = None
    for start in range(0, len(inputs), CHUNK):
        part = slice(start, start + CHUNK)
        extended = torch.cat([inputs[part], torch.ones_like(inputs[part, :1])], 1)
        beside = torch.cat([weights[part, None] * extended, targets[part]], 1)
        summed = (extended.mT @ beside).double()
        total = summed if total is None else total + summed
    assert total is not None  # there is at least one point
    size = inputs.shape[1] + 1
    return total[:, :size], total[:, size:]
