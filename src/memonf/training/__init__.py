"""Training a field: `settings`, `start`, `trainer`, its `params` and `state`, the whole `run`."""

from __future__ import annotations

from .params import build_optimizers
from .run import train
from .settings import TrainSettings
from .start import BACKGROUND, DEFAULT_FIELD, GIVEN, INITIAL_PARAMS, SHARED_SEED, new_trainer
from .state import pack_state, unpack_state
from .trainer import Progress, Trainer

__all__ = [
    "BACKGROUND",
    "DEFAULT_FIELD",
    "GIVEN",
    "INITIAL_PARAMS",
    "SHARED_SEED",
    "Progress",
    "TrainSettings",
    "Trainer",
    "build_optimizers",
    "pack_state",
    "new_trainer",
    "unpack_state",
    "train",
]
