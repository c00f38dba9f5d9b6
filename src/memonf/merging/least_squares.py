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
from .repair import CHUNK, reestimate_running_statistics, repair

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
            for number, (share, params) in enumerate(zip(shares, aligned, strict=True)):

                def look(params: Params = params) -> list[tuple[str, Tensor]]:
                    return layer_outputs(problem.field_with(params), positions)

                for name, value in problem.remember(("layer outputs", number), look):
                    weighted = share[:, None] * value
                    targets[name] = targets[name] + weighted if name in targets else weighted
                yield params

        merged = problem.field_with(repair(problem, compared(), positions, fixed=True))
        self.solve(problem, merged, targets, shares.sum(0), positions)
        return dict(merged.state_dict())

    def solve(
        self,
        problem: MergeProblem,
        merged: Field,
        targets: dict[str, Tensor],
        weights: Float[Tensor, " points"],
        positions: Positions,
    ) -> None:
        """Solve every layer in place, in passing: what a layer reads comes from solved ones.

        Batch norm stands between them, whose statistics follow from each layer that is solved: the
        layers above wait for the next pass.
        """
        normed = any(isinstance(module, _BatchNorm) for module in merged.modules())
        waiting = dict(targets)
        outdated = False

        def solve(name: str, layer: nn.Linear, inputs: Tensor) -> None:
            nonlocal outdated
            if not outdated and name in waiting:
                solve_layer(layer, inputs, waiting.pop(name), weights, self.ridge)
                outdated = normed

        hooked = {name: merged.get_submodule(name) for name in targets}
        while waiting:
            outdated = False
            hooks = [
                layer.register_forward_pre_hook(
                    lambda layer, inputs, name=name: solve(name, layer, inputs[0])
                )
                for name, layer in hooked.items()
            ]
            run_through(merged, positions, hooks)
            if normed:
                reestimate_running_statistics(problem.symmetry, merged, positions.inputs)


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

    Summed in single precision within chunks that stay in a core's cache and in double between
    them, several times as fast as in double throughout.
    """
    total = None
    for start in range(0, len(inputs), CHUNK):
        part = slice(start, start + CHUNK)
        extended = torch.cat([inputs[part], torch.ones_like(inputs[part, :1])], 1)
        beside = torch.cat([weights[part, None] * extended, targets[part]], 1)
        summed = (extended.mT @ beside).double()
        total = summed if total is None else total + summed
    assert total is not None  # there is a point
    size = inputs.shape[1] + 1
    return total[:, :size], total[:, size:]
