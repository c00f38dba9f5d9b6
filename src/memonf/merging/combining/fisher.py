"""Fisher-weighted average: params weighted by how much each parent's outputs depend on them.

Symbols: θ_i params of parent i, aligned; y_k its outputs at a point, opacity and colour; F_i the
diagonal of its Fisher information; t_i(x) trust in parent i at a point; c_i coefficient.

For outputs with equal noise, F_i = mean over x of tᵢ(x) Σ_k v_k(x) (∂y_k/∂θ)², the diagonal of the
Gauss-Newton matrix. v_k is 1 for the opacity and the opacity itself for the colours, which do not
matter in empty space. Merged: θ = (Σ cᵢ Fᵢ θᵢ + λ Σ cᵢ θᵢ) / (Σ cᵢ Fᵢ + λ). The floor λ keeps
params that no output depends on at their average.

The squared gradients of single points follow exactly from one backward pass per output: the
gradient of a dense layer at one point is δ ⊗ x, so the sum of its squares over points is (δ²)ᵀ x²;
that of a norm is δ times the normalised value. Running statistics are measured again.

Reference:
    Matena and Raffel 2021, Merging Models with Fisher-Weighted Averaging, arXiv 2111.09832.
    Departures: the outputs of a field, the trust, the floor relative to each tensor's mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from ...fields import Field
from ...rendering.knowledge import SOLID_RESOLUTION
from ...symmetry import Params
from ...typing import Float, Tensor
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined
from ..positions import Positions
from ..unit_statistics import has_batch_norm, reestimate_running_statistics, run_through
from .base import Combine, CombineAt, combine_params

__all__ = ["FisherAveraged", "fisher_of"]

#: Points differentiated at once, so that their activations fit in a core's cache.
CHUNK = 2048
#: Least floor, for a tensor that no output depends on.
TINY = 1e-30


@dataclass(frozen=True)
class FisherAveraged(Combine):
    """Average each param, weighted by each parent's Fisher information.

    Attributes:
        floor: λ relative to the mean information of each tensor.
    """

    floor: float = 1.0
    needs_positions = True

    def prepare(self, aligned: AlignedParents) -> CombineAt:
        """See `Combine.prepare`."""
        problem, positions = aligned.problem, aligned.sampled
        information_of = problem.per_parent(
            lambda number: fisher_of(problem.field_with(aligned.params[number]), positions, number)
        )

        def at(coefficients: Coefficients) -> Combined:
            weighted: Params = {}
            information: Params = {}
            for number, share in enumerate(coefficients.overall):
                params = aligned.params[number]
                for name, fisher in information_of[number].items():
                    for total, added in (
                        (information, share * fisher),
                        (weighted, share * fisher * params[name].double()),
                    ):
                        total[name] = total[name] + added if name in total else added
            merged = combine_params(aligned.params, coefficients.overall)
            for name, fisher in information.items():
                floor = (self.floor * fisher.mean()).clamp_min(TINY)
                value = (weighted[name] + floor * merged[name].double()) / (fisher + floor)
                merged[name] = value.to(merged[name].dtype)
            field = problem.field_with(merged)
            if has_batch_norm(field):
                reestimate_running_statistics(problem.symmetry, field, positions.inputs)
            return Combined(dict(field.state_dict()))

        return at


def fisher_of(network: Field, positions: Positions, number: int) -> Params:
    """Diagonal of one parent's Fisher information of its dense layers and batch norms.

    Args:
        network: A copy of the aligned parent, which may be changed.
        positions: Where its outputs are evaluated, and the parents' trust there.
        number: Number of the parent, whose trust weights the points.

    Returns:
        Param name -> mean of the squared gradients over the points, in float64.
    """
    cell = float((network.aabb[1] - network.aabb[0]).min()) / SOLID_RESOLUTION
    points = positions.trust.shape[1]
    total: Params = {}
    for start in range(0, points, CHUNK):
        piece = positions.part(slice(start, start + CHUNK))
        for name, squares in squared_gradients(network, piece, piece.trust[number], cell).items():
            added = squares / points
            total[name] = total[name] + added if name in total else added
    return total


def squared_gradients(
    network: Field, positions: Positions, trust: Float[Tensor, " points"], cell: float
) -> Params:
    """Sums over points of the squared gradients of the outputs, by param name.

    Args:
        network: A field whose params may be set to require gradients.
        positions: A chunk of points.
        trust: Weight of each.
        cell: Length over which opacity is taken, scene units.
    """
    recorded: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def recording(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            recorded.append((name, module, inputs[0].detach(), output))
            return output.clone()  # an activation may overwrite its input

        return record

    hooks = [
        part.register_forward_hook(recording(name))
        for name, part in network.named_modules()
        if isinstance(part, (nn.Linear, _BatchNorm))
    ]
    with torch.enable_grad():
        outputs, counts = field_outputs(network.requires_grad_(True), positions, cell, hooks)
        layer_outputs = [output for *_, output in recorded]
        squares = [torch.zeros_like(output, dtype=torch.float64) for output in layer_outputs]
        counts = (trust[:, None] * counts).double()
        for output, count in zip(outputs.unbind(1), counts.unbind(1), strict=True):
            # Points are independent in evaluation mode: the gradient of the sum holds that of each.
            deltas = torch.autograd.grad(
                output.sum(), layer_outputs, retain_graph=True, allow_unused=True
            )
            for square, delta in zip(squares, deltas, strict=True):
                if delta is not None:
                    square += count[:, None] * delta.double().square()
    sums: Params = {}
    for (name, module, inputs, _), square in zip(recorded, squares, strict=True):
        if isinstance(module, _BatchNorm):
            normalised = F.batch_norm(
                inputs, module.running_mean, module.running_var, eps=module.eps
            )
            sums[f"{name}.weight"] = (square * normalised.double().square()).sum(0)
        else:
            sums[f"{name}.weight"] = square.mT @ inputs.double().square()
        sums[f"{name}.bias"] = square.sum(0)
    return sums


def field_outputs(
    network: Field, positions: Positions, cell: float, hooks: Iterable[RemovableHandle]
) -> tuple[Float[Tensor, "points 4"], Float[Tensor, "points 4"]]:
    """Opacity and colour at the points, and the weight of each of them.

    Args:
        network: The field.
        positions: The points.
        cell: Length over which opacity is taken, scene units.
        hooks: Hooks on the network, removed afterwards.
    """
    raw_density, raw_rgb = run_through(network, positions, hooks)
    opacity = 1 - (-network.activate_density(raw_density[:, None]) * cell).exp()
    counts = torch.cat([torch.ones_like(opacity), opacity.expand(-1, 3)], 1).detach()
    return torch.cat([opacity, raw_rgb.sigmoid()], 1), counts
