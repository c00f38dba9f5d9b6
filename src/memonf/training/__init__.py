"""Training a field: `settings`, `start`, the `trainer` and who takes which `params`, the `run`."""

from __future__ import annotations

from .params import build_optimizers
from .run import finished_field, train
from .settings import TrainSettings
from .start import DEFAULT_FIELD, INITIAL_PARAMS, SHARED_SEED, new_trainer
from .trainer import Progress, Trainer

__all__ = [
    "DEFAULT_FIELD",
    "INITIAL_PARAMS",
    "SHARED_SEED",
    "Progress",
    "TrainSettings",
    "Trainer",
    "build_optimizers",
    "finished_field",
    "new_trainer",
    "train",
]
