"""Which optimiser takes which params; Muon, whose steps have singular values of about one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..errors import InputError
from ..fields import Field
from ..symmetry import find_symmetry
from ..typing import Float, Tensor
from .settings import TrainSettings

__all__ = ["Muon", "build_optimizers", "hidden_matrices", "orthogonalised"]

#: Of the quintic a·x + b·x³ + c·x⁵ that throws small singular values up fastest; Jordan 2024.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalised(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The same singular vectors, singular values between about 0.7 and 1.2.

    In the matrix's own precision: five rounds of Newton-Schulz in bfloat16, as is usual on GPUs,
    take four times as long on a CPU without instructions for it.
    """
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp_min(1e-7)
    linear, cubic, quintic = QUINTIC
    for _ in range(ROUNDS):
        gram = wide @ wide.T
        factor = torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic)
        wide = torch.addmm(wide, factor, wide, beta=linear)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: for the hidden matrices of a network.

    `torch.optim.Muon` with the same update, in the precision of the params.

    Args:
        params: Matrices.
        lr: Step length; a matrix with more rows than columns takes sqrt(rows / columns) times it.
        weight_decay: Decoupled: share of the params lost in a step is `lr` times this.
        momentum: Of the moving mean of gradients, Nesterov's kind, in [0, 1).

    Reference:
        Jordan et al. 2024, Muon, an optimizer for hidden layers in neural networks.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take one step along the gradients."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(param)
                mean = state["momentum_buffer"].lerp_(param.grad, 1 - group["momentum"])
                update = orthogonalised(param.grad.lerp(mean, group["momentum"]))
                rows, columns = param.shape
                length = group["lr"] * math.sqrt(max(1.0, rows / columns))
                param.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=length)
        return loss


def hidden_matrices(field: Field) -> list[str]:
    """Names of the matrices that carry hidden units on both of their axes.

    Of a field whose forward pass cannot be traced: those whose shorter side is at least half the
    longest of all.
    """
    matrices = {name: param for name, param in field.named_parameters() if param.ndim == 2}
    try:
        groups = find_symmetry(field).groups
    except InputError:
        widest = max((max(param.shape) for param in matrices.values()), default=0)
        return [name for name, param in matrices.items() if 2 * min(param.shape) >= widest]
    axes: dict[str, set[int]] = {}
    for group in groups:
        for part in group.slices:
            axes.setdefault(part.tensor, set()).add(part.axis)
    return [name for name, seen in axes.items() if seen == {0, 1} and name in matrices]


def build_optimizers(field: Field, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """Adam on everything, or Muon on the hidden matrices and Adam on the rest.

    Reference:
        Jordan et al. 2024, Muon, an optimizer for hidden layers in neural networks.
    """
    params = dict(field.named_parameters())
    hidden = hidden_matrices(field) if settings.optimizer == "muon" else []
    optimizers: list[torch.optim.Optimizer] = []
    if hidden:
        optimizers.append(
            Muon(
                [params[name] for name in hidden],
                lr=settings.muon_rate * field.rate_scale,
                weight_decay=settings.weight_decay,
            )
        )
    optimizers.append(
        torch.optim.AdamW(
            [param for name, param in params.items() if name not in hidden],
            lr=settings.adam_rate * field.rate_scale,
            betas=(0.9, 0.99),
            eps=1e-15,
            weight_decay=settings.weight_decay / (10 if hidden else 1),
        )
    )
    return optimizers
