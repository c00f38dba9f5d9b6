"""Adam and Muon, written out.

Those of torch import its compiler when the first one is made: 1.7 s of every training and every
distillation (docs/research/speed.md). The updates are the same, and tested to be.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch

from ..typing import Float, Tensor

__all__ = ["Adam", "Muon", "Optimizer", "orthogonalised"]

#: Of the quintic a·x + b·x³ + c·x⁵ that throws small singular values up fastest; Jordan 2024.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
#: Remembered gradients below this are forgotten. Those of units that died halve at every few steps
#: until they are denormal, and processors multiply such numbers a hundred times more slowly: after
#: 2000 steps Muon alone took longer than the rest of a step.
TRACE = 1e-16


class Optimizer(ABC):
    """Params, their learning rate, and what is remembered of their gradients.

    Args:
        params: What to optimise, in place.
        rate: Learning rate; may be changed between steps.
        decay: Decoupled weight decay: a step takes `rate` times this share off the params.

    Attributes:
        memory: For each param, named tensors of its own; all that a step depends on beside it.
    """

    def __init__(self, params: Iterable[Tensor], rate: float, decay: float = 0.0) -> None:
        self.params = list(params)
        self.rate = rate
        self.decay = decay
        self.memory: list[dict[str, Tensor]] = [{} for _ in self.params]

    @torch.no_grad()
    def step(self) -> None:
        """Move all params that have a gradient, and forget the gradients."""
        for param, memory in zip(self.params, self.memory, strict=True):
            if param.grad is not None:
                if self.decay:
                    param.mul_(1 - self.rate * self.decay)
                self.move(param, param.grad, memory)
                param.grad = None

    @abstractmethod
    def move(self, param: Tensor, gradient: Tensor, memory: dict[str, Tensor]) -> None:
        """Move one param, and remember what the next step needs."""


class Adam(Optimizer):
    """Steps of the mean gradient over the root of the mean square.

    Args:
        params: What to optimise, in place.
        rate: Learning rate.
        decay: Decoupled weight decay.
        means: Share of the old mean, and of the old mean square, that a step keeps, in [0, 1).
        floor: Added to the root.

    Reference:
        Kingma and Ba 2015, arXiv 1412.6980; the decay of Loshchilov and Hutter 2019,
        arXiv 1711.05101.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        rate: float,
        decay: float = 0.0,
        means: tuple[float, float] = (0.9, 0.999),
        floor: float = 1e-8,
    ) -> None:
        super().__init__(params, rate, decay)
        self.means = means
        self.floor = floor

    def move(self, param: Tensor, gradient: Tensor, memory: dict[str, Tensor]) -> None:
        """See `Optimizer.move`."""
        if not memory:
            memory["mean"] = torch.zeros_like(param)
            memory["square"] = torch.zeros_like(param)
            memory["steps"] = torch.zeros((), dtype=torch.long)
        steps = int(memory["steps"].add_(1))
        keep_mean, keep_square = self.means
        mean = without_traces(memory["mean"].lerp_(gradient, 1 - keep_mean), TRACE)
        square = memory["square"].mul_(keep_square)
        square.addcmul_(gradient, gradient, value=1 - keep_square)
        without_traces(square, TRACE**2)
        root = square.sqrt().div_(math.sqrt(1 - keep_square**steps)).add_(self.floor)
        param.addcdiv_(mean, root, value=-self.rate / (1 - keep_mean**steps))


class Muon(Optimizer):
    """Nesterov's momentum, orthogonalised: for the hidden matrices of a network.

    Args:
        params: Matrices, in place.
        rate: Step length; a matrix with more rows than columns takes sqrt(rows / columns) times it.
        decay: Decoupled weight decay.
        momentum: Share of the old mean gradient that a step keeps, in [0, 1).

    Reference:
        Jordan et al. 2024, Muon, an optimizer for hidden layers in neural networks.
    """

    def __init__(
        self, params: Iterable[Tensor], rate: float, decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, rate, decay)
        self.momentum = momentum

    def move(self, param: Tensor, gradient: Tensor, memory: dict[str, Tensor]) -> None:
        """See `Optimizer.move`."""
        if not memory:
            memory["mean"] = torch.zeros_like(param)
        mean = without_traces(memory["mean"].lerp_(gradient, 1 - self.momentum), TRACE)
        rows, columns = param.shape
        length = self.rate * math.sqrt(max(1.0, rows / columns))
        param.sub_(orthogonalised(gradient.lerp(mean, self.momentum)), alpha=length)


def without_traces(memory: Tensor, least: float) -> Tensor:
    """Set what is smaller than `least` to zero, in place."""
    return memory.mul_(memory.abs() >= least)


def orthogonalised(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The same singular vectors, singular values between about 0.7 and 1.2.

    In the matrix's own precision: five rounds of Newton-Schulz in bfloat16, as is usual on GPUs,
    take three times as long on a CPU without instructions for it.
    """
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp_min(1e-7)
    linear, cubic, quintic = QUINTIC
    for _ in range(ROUNDS):
        gram = wide @ wide.T
        factor = torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic)
        wide = torch.addmm(wide, factor, wide, beta=linear)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
