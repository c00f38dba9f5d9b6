"""Trains a field from the first step to the finished record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from ..data import Scene
from ..fields import Field, FieldConfig, known
from ..knowledge import SOLID_RESOLUTION
from ..occupancy import OccupancyGrid
from ..typing import PathLike
from .settings import TrainSettings
from .start import new_trainer
from .trainer import Progress, Trainer

__all__ = ["finished_field", "train"]


def finished_field(trainer: Trainer) -> Field:
    """The trained field, in evaluation mode, its record completed: outcome and knowledge."""
    outcome = {
        "steps_done": trainer.step_count,
        "seconds_done": round(trainer.seconds, 3),
        "psnr_done": round(-10 * math.log10(max(trainer.mean_error, 1e-12)), 3),
    }
    field = trainer.field.eval()
    grid = trainer.grid
    if grid.resolution != SOLID_RESOLUTION:
        grid = OccupancyGrid(field.aabb, SOLID_RESOLUTION)
        grid.update(field.density)
    else:  # outside the visual hull the field was taught to be empty
        grid.update(field.density, cells=trainer.hull)
    record = replace(field.record, training={**field.record.training, **outcome})
    field.record = replace(record, knowledge=known(field, grid))
    return field


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
    return finished_field(trainer)
