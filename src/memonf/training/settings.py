"""How a field is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass as settings_dataclass

from ..errors import InputError
from ..typing import Seed

__all__ = ["DEFAULT_STEPS", "TrainSettings"]

DEFAULT_STEPS = 1500


@settings_dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class TrainSettings:
    """How a field is trained; recorded with the field.

    Attributes:
        steps: Length of the training; 1500 if `seconds` is not given either.
        seconds: Length in seconds of training time instead; what comes out then depends on the
            machine.
        rays: Pixels drawn in the last step; the first draws a fifth of them, see `Trainer.rays`.
        optimizer: ``muon`` on the hidden matrices and Adam on the rest, or ``adam`` on all.
        muon_rate: Peak learning rate of Muon, times the field's own `rate_scale`.
        adam_rate: Peak learning rate of Adam, times the same.
        weight_decay: Decoupled weight decay of the hidden matrices; a tenth of it on the rest.
        initialization: ``shared``: all seeds start from the same params, which makes parents
            mergeable; ``independent``: the seed draws them.
        free_space: Weight of the density taught to be zero where the visual hull is empty.
        grid: Cells along each side of the occupancy grid.
        refresh: Steps between looks at the whole field for the occupancy grid.
        precision: Of the products of matrices: ``bfloat16`` pays on GPUs and on CPUs with
            instructions for it; others are slowed down.
        seed: Seed of every random choice.
    """

    steps: Annotated[int, Limits(ge=1, le=10_000_000)] | None = None
    seconds: Annotated[float, Limits(gt=0, le=10_000_000)] | None = None
    rays: Annotated[int, Limits(ge=1, le=1 << 22)] = 2560
    optimizer: Literal["adam", "muon"] = "muon"
    muon_rate: Annotated[float, Limits(gt=0, le=1000)] = 0.05
    adam_rate: Annotated[float, Limits(gt=0, le=1000)] = 1e-2
    weight_decay: Annotated[float, Limits(ge=0, le=1000)] = 0.1
    initialization: Literal["shared", "independent"] = "shared"
    free_space: Annotated[float, Limits(ge=0, le=1000)] = 1.0
    grid: Annotated[int, Limits(ge=8, le=512)] = 80
    refresh: Annotated[int, Limits(ge=1, le=10_000_000)] = 24
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.steps is not None and self.seconds is not None:
            raise InputError("training length: give either steps or seconds, not both")

    @property
    def step_goal(self) -> int:
        """Number of steps to take where no time is given."""
        return self.steps if self.steps is not None else DEFAULT_STEPS
