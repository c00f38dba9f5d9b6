"""Layer by layer least squares: each layer answers its merged input as the parents answer theirs.

Symbols, layer by layer: x input of the merged layer, z_i output of parent i's aligned layer, t_i
trust in parent i at a point, c_i its coefficient.

After combined matching, each dense layer is solved for the outputs z* = Σ cᵢ tᵢ zᵢ / Σ cᵢ tᵢ,
given what the layers below it, already solved, hand up: min Σ w ‖W x + b − z*‖², w = Σ cᵢ tᵢ, with
a ridge towards the repaired average. One pass, bottom to top, no gradient step.

Reference:
    Jin et al. 2022, RegMean, arXiv 2212.09849; Nasery et al. 2024, PLeaS, arXiv 2407.02447.
    Departures: the merged layer's own input, and the parents' trust.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import torch
from pydantic import Field as Limits
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..fields import Field
from ..symmetry import Params
from ..typing import Float, Tensor
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, settings_dataclass
from .combined_matching import align_by_both
from .positions import Positions
from .repair import reestimate_running_statistics, repair

__all__ = ["LeastSquares"]


@METHODS.register("least_squares")
@settings_dataclass(**SETTINGS)
class LeastSquares(MergeMethod):
    """Combined matching and REPAIR, then each layer solved for the outputs of those who know.

    Attributes:
        points: Positions at which layers are compared.
        free_share: Share of them anywhere in the box; the rest where the parents have density.
        knowledge: Whether points are taken and weighed by what the parents saw.
        ridge: Pull towards the repaired average, relative to the inputs' mean square.
    """

    points: Annotated[int, Limits(ge=2)] = 16384
    free_share: Annotated[float, Limits(ge=0, le=1)] = 0.25
    knowledge: bool = True
    ridge: Annotated[float, Limits(gt=0)] = 1e-4

    summary = "layers solved one by one for the outputs of the parents that know, closed form"
    paper = "Jin et al. 2022, RegMean, arXiv 2212.09849"
    needs_positions = True
    needs_knowledge = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        positions = problem.positions(self.points, self.free_share, self.knowledge)
        shares = positions.trust.new_tensor(problem.coefficients)[:, None] * positions.trust
        # Where nobody is trusted, all count a little: a layer needs an answer everywhere.
        shares = shares + 1e-3 * positions.trust.new_tensor(problem.coefficients)[:, None]
        targets: dict[str, Tensor] = {}

        def compared() -> Iterator[Params]:
            aligned = align_by_both(problem, positions)
            for share, params in zip(shares, aligned, strict=True):
                for name, value in layer_outputs(problem.field_with(params), positions):
                    weighted = share[:, None] * value
                    targets[name] = targets[name] + weighted if name in targets else weighted
                yield params

        merged = problem.field_with(repair(problem, compared(), positions))
        weights = shares.sum(0)
        normed = any(isinstance(module, _BatchNorm) for module in merged.modules())
        for name, total in targets.items():
            layer = merged.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            solve_layer(layer, layer_input(merged, name, positions), total, weights, self.ridge)
            if normed:  # what the layers above are given follows from it
                reestimate_running_statistics(problem.symmetry, merged, positions.inputs)
        return dict(merged.state_dict())


def layer_outputs(field: Field, positions: Positions) -> list[tuple[str, Tensor]]:
    """Output of every dense layer at the positions, in the order in which they run."""
    seen: list[tuple[str, Tensor]] = []
    hooks = [
        module.register_forward_hook(
            lambda _, __, output, name=name: seen.append((name, output.detach().clone()))
        )
        for name, module in field.named_modules()
        if isinstance(module, nn.Linear)
    ]
    run_through(field, positions, hooks)
    return seen


def layer_input(field: Field, name: str, positions: Positions) -> Float[Tensor, "points inputs"]:
    """What one layer reads at the positions."""
    seen: list[Tensor] = []
    layer = field.get_submodule(name)
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    run_through(field, positions, [hook])
    return seen[0]


def run_through(
    field: Field, positions: Positions, hooks: Iterable[torch.utils.hooks.RemovableHandle]
) -> tuple[Tensor, Tensor]:
    """Evaluate a field's network with hooks that are taken off again; see `Field.raw`."""
    try:
        where, towards = positions.inputs
        assert where is not None
        return field.raw(where, towards)
    finally:
        for hook in hooks:
            hook.remove()


def solve_layer(
    layer: nn.Linear,
    inputs: Float[Tensor, "points inputs"],
    targets: Float[Tensor, "points outputs"],
    weights: Float[Tensor, " points"],
    ridge: float,
) -> None:
    """Change a layer in place so that it answers weighted inputs with the weighted targets."""
    extended = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1).double()
    weighted = weights.double()[:, None] * extended
    gram = weighted.mT @ extended
    now = torch.cat([layer.weight, layer.bias[:, None]], 1).double()
    missing = extended.mT @ targets.double() - gram @ now.mT
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    solved = now + torch.linalg.solve(gram, missing).mT
    layer.weight.data = solved[:, :-1].to(layer.weight.dtype).contiguous()
    layer.bias.data = solved[:, -1].to(layer.bias.dtype).contiguous()
