"""What a training takes of memory and time, found out before its first step."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import InputError
from ..fields import Field
from ..rendering.knowledge import SOLID_RESOLUTION
from ..utils.devices import check_memory, seconds_of
from .settings import TrainSettings
from .trainer import CHUNK, FIRST_RAYS, FREE_POINTS

__all__ = ["activation_bytes", "check_room", "training_memory"]

#: Bytes for each param: itself, its gradient, what the optimiser remembers of it and needs for a
#: step, and the copies that a state takes while it is saved.
PARAM_BYTES = 36
#: Bytes of a unit's activation: before and after it is activated, and its gradient.
UNIT_BYTES = 12
#: Bytes of each cell of the occupancy grid while it is looked through.
CELL_BYTES = 48
#: Bytes of each cell that a ray may cross, while it is marched.
CROSSED_BYTES = 20
#: Samples of a ray at the beginning, about.
SAMPLES = 50
#: Networks with fewer params are quick enough anywhere.
QUICK = 1_000_000
#: A training by time is refused if its first step and its end alone take so many times as long.
TOO_LATE, LEAST = 10, 3.0


def activation_bytes(field: Field, points: int) -> int:
    """Bytes that the activations of so many points take while gradients are found."""
    layers = [module for module in field.modules() if isinstance(module, nn.Linear)]
    return UNIT_BYTES * points * sum(layer.out_features for layer in layers)


def training_memory(field: Field, settings: TrainSettings) -> int:
    """About how many bytes a training takes, beside the pictures.

    Args:
        field: The field, or its outline on the device `meta`.
        settings: Rays and grid.
    """
    return (
        PARAM_BYTES * field.parameter_count()
        + activation_bytes(field, CHUNK)
        + CELL_BYTES * settings.grid**3
        + CROSSED_BYTES * settings.rays * settings.grid
    )


def check_room(field: Field, settings: TrainSettings, device: torch.device | str) -> None:
    """Refuse a training that has no room, or that its time does not allow a single step.

    Args:
        field: The field, or its outline on the device `meta`.
        settings: Rays, grid and time.
        device: Where it is to be trained.

    Raises:
        InputError: The message has the figures.
    """
    params = field.parameter_count()
    what = f"a training of {params:,} params, --rays {settings.rays}, --grid {settings.grid}"
    check_memory(
        training_memory(field, settings), what,
        "ask for a smaller --width or --depth, fewer --rays or a smaller --grid", device,
    )  # fmt: skip
    if settings.seconds is None or params < QUICK:
        return
    samples = FIRST_RAYS * settings.rays * SAMPLES + FREE_POINTS
    # Forwards once and backwards twice; at the end the field is looked at in every cell.
    count = params * (3 * samples + SOLID_RESOLUTION**3) + step_products(field)
    needed = seconds_of(count, device)
    if needed > TOO_LATE * (settings.seconds + LEAST):
        raise InputError(
            f"--seconds {settings.seconds:g}: the first step and the end of {what} take about "
            f"{needed:.0f} s on this machine; give more time, or ask for a smaller --width or "
            "--depth"
        )


def step_products(field: Field) -> float:
    """Multiplications that Muon's step takes, which orthogonalises every matrix."""
    sides = [sorted(param.shape) for param in field.parameters() if param.ndim == 2]
    return float(sum(5 * short**2 * (2 * long + short) for short, long in sides))
