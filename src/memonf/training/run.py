"""Trains a field from the first step to the finished record."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..data import Scene
from ..fields import Field, FieldConfig
from ..typing import PathLike
from .settings import TrainSettings
from .start import new_trainer
from .trainer import Progress

__all__ = ["train"]


def train(
    scene: Scene,
    *,
    group: str = "all",
    overlap: float = 0.0,
    field: str | None = None,
    config: FieldConfig | None = None,
    settings: TrainSettings | None = None,
    start: Field | PathLike | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[Progress], None] | None = None,
) -> Field:
    """Train a field on one view group of a scene.

    Args:
        scene: Data set with a ``train`` split.
        group: ``all``, ``front``, ``rear`` or ``sector K/N``.
        overlap: Degrees of azimuth that neighbouring groups share.
        field: Registered architecture; None for tiny_nerf, or that of `start`.
        config: Its configuration; None for the defaults, or that of `start`.
        settings: Length, optimiser, seed, …
        start: Earlier field, or its file, from whose params to train on; None for fresh ones.
        device: Where to train.
        on_step: Called after each step.

    Raises:
        DataError: No camera in the group.
        InputError: `start` has another architecture, configuration or box.
        TrainingError: The loss diverged or the field became empty.
    """
    trainer = new_trainer(
        scene, group=group, overlap=overlap, field=field, config=config,
        settings=settings, start=start, device=device,
    )  # fmt: skip
    while not trainer.done:
        progress = trainer.step()
        if on_step is not None:
            on_step(progress)
    return trainer.finished()
