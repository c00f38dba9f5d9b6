"""Base class of combinations, and the simplest one: the weighted average.

Symbols: c_i coefficient of parent i, Σ c_i = 1; θ_i its aligned params.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch

from ...symmetry import Params
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined

__all__ = ["Averaged", "Combine", "CombineAt", "combine_params"]

#: Merges prepared parents at given coefficients.
CombineAt: TypeAlias = "Callable[[Coefficients], Combined]"


class Combine(ABC):
    """Base of combinations."""

    #: Whether it samples activations.
    needs_positions: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, aligned: AlignedParents) -> CombineAt:
        """Do what does not depend on the coefficients; return a function of the coefficients."""


@dataclass(frozen=True)
class Averaged(Combine):
    """Σ c_i θ_i, tensor by tensor; supports coefficients by layer.

    Reference:
        Wortsman et al. 2022, Model soups, arXiv 2203.05482.
    """

    def prepare(self, aligned: AlignedParents) -> CombineAt:
        """See `Combine.prepare`."""

        def at(coefficients: Coefficients) -> Combined:
            return Combined(combine_params(aligned.params, coefficients))

        return at


def combine_params(
    params: Iterable[Params], coefficients: Sequence[float] | Coefficients
) -> Params:
    """Σ c_i params_i, in float64 and rounded once; integer counters are those of the first parent.

    The parents' params are read one after another, so only one parent needs to be in memory.

    Example:
        >>> one, other = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
        >>> combine_params([one, other], [0.25, 0.75])["w"]
        tensor([0.7500, 0.7500])

    Args:
        params: Params of each parent.
        coefficients: Weight of each parent, the same for all tensors or by tensor.
    """
    if not isinstance(coefficients, Coefficients):
        coefficients = Coefficients(tuple(coefficients))
    first: Params = {}
    totals: Params = {}
    for number, state in zip(range(len(coefficients.overall)), params, strict=True):
        if not first:
            first = {name: tensor.clone() for name, tensor in state.items()}
            totals = {
                name: torch.zeros_like(tensor, dtype=torch.float64)
                for name, tensor in state.items()
                if tensor.is_floating_point()
            }
        for name, total in totals.items():
            total += coefficients.of(name)[number] * state[name].double()
    return first | {name: total.to(first[name].dtype) for name, total in totals.items()}
