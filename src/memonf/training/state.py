"""What the next step of any training depends on, as named tensors that a file can keep."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import InputError
from ..typing import Tensor
from .optimizers import Optimizer

__all__ = ["pack_state", "unpack_state"]


def pack_state(
    field: nn.Module,
    optimizers: Sequence[Optimizer],
    generator: torch.Generator,
    counters: Sequence[int | float],
    **others: Tensor,
) -> dict[str, Tensor]:
    """Copies of all that the next step depends on.

    Args:
        field: What is trained.
        optimizers: With what they remember of each param.
        generator: Of all random choices.
        counters: Steps done, and whatever else is counted.
        others: Further tensors, under names of their own.
    """
    tensors = {f"field.{k}": v.detach().clone() for k, v in field.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, memory in enumerate(optimizer.memory):
            for key, value in memory.items():
                tensors[f"optimizer.{number}.{index}.{key}"] = value.clone()
    tensors["generator"] = generator.get_state().clone()
    tensors["counters"] = torch.tensor(list(counters), dtype=torch.float64)
    return tensors | {name: value.clone() for name, value in others.items()}


def unpack_state(
    tensors: dict[str, Tensor],
    field: nn.Module,
    optimizers: Sequence[Optimizer],
    generator: torch.Generator,
    others: Sequence[str] = (),
) -> tuple[list[float], list[Tensor]]:
    """Bring a fresh training to where `pack_state` looked; the counters and further tensors.

    Raises:
        InputError: The state is of another field or optimiser.
    """
    try:
        field.load_state_dict(
            {k.removeprefix("field."): v for k, v in tensors.items() if k.startswith("field.")}
        )
        for number, optimizer in enumerate(optimizers):
            pairs = zip(optimizer.params, optimizer.memory, strict=True)
            for index, (param, memory) in enumerate(pairs):
                prefix = f"optimizer.{number}.{index}."
                for name, value in tensors.items():
                    if name.startswith(prefix):
                        device = param.device if value.ndim else "cpu"
                        memory[name.removeprefix(prefix)] = value.to(device).clone()
        generator.set_state(tensors["generator"])
        return tensors["counters"].tolist(), [tensors[name] for name in others]
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"the saved training state is of another run ({str(error).splitlines()[0]}); "
            "repeat the settings of the first call, or leave --resume out to start anew"
        ) from None
