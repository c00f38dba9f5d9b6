"""Trains a pointwise field on a part of its truth, and records what it has seen of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from ..checkpoint import content_hash
from ..errors import TrainingError
from ..fields import FieldConfig, Record, build_field
from ..fields.pointwise import PointField
from ..knowledge import RESOLUTION, SOLID_RESOLUTION, Knowledge
from ..occupancy import OccupancyGrid, in_chunks
from ..training import INITIAL_PARAMS, SHARED_SEED, TrainSettings, build_optimizers
from .truths import Truth

__all__ = ["FitSettings", "fit"]

#: Positions that are drawn once, and of which each step takes some.
POOL = 200_000
WARM_UP = 20
#: What was learnt counts as seen so often: nobody doubts it.
SEEN, ALL_SIDES = 255, 255
#: Opacity above which a position is matter.
SOLID = 0.5


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FitSettings:
    """How a pointwise field is trained; recorded with it.

    Attributes:
        steps: Length of the training.
        points: Positions of each step.
        overlap: How far beyond the middle a part goes, as a share of half the box.
        initialization: ``shared``: all seeds start from the same params; ``independent``.
        seed: Seed of every random choice.
    """

    steps: Annotated[int, Limits(ge=1)] = 1000
    points: Annotated[int, Limits(ge=1)] = 8192
    overlap: Annotated[float, Limits(ge=0, le=1)] = 0.0
    initialization: Literal["shared", "independent"] = "shared"
    seed: int = 0


def fit(
    truth: Truth,
    *,
    group: str = "all",
    config: FieldConfig | None = None,
    settings: FitSettings | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
) -> PointField:
    """Train a field on a part of a truth.

    Args:
        truth: What it learns; its `field` names the architecture.
        group: ``all`` or a part, see `memonf.pointwise.truths.PARTS`.
        config: Configuration; None for the defaults.
        settings: Length, seed, …
        device: Where to train.
        on_step: Called with steps done and steps.

    Raises:
        InputError: There is no such part.
        TrainingError: It diverged.
    """
    chosen = settings or FitSettings()
    first = chosen.seed if chosen.initialization == "independent" else SHARED_SEED
    built = build_field(truth.field, config, truth.aabb, seed=first)
    assert isinstance(built, PointField)
    field = built.to(device)
    started = content_hash(field)
    generator = torch.Generator().manual_seed(chosen.seed)
    positions = truth.positions(POOL, group, chosen.overlap, generator)
    values = truth.values(positions).to(device)
    positions = positions.to(device)
    optimizers = build_optimizers(field, TrainSettings(weight_decay=0.0))
    peaks = [optimizer.rate for optimizer in optimizers]
    field.train()
    loss = math.nan
    for step in range(chosen.steps):
        share = min(1.0, (step + 1) / WARM_UP)
        share *= 0.02 + 0.49 * (1 + math.cos(math.pi * step / chosen.steps))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.rate = peak * share
        picked = torch.randint(POOL, (chosen.points,), generator=generator).to(positions.device)
        error = field.error(positions[picked], values[picked])
        error.backward()
        for optimizer in optimizers:
            optimizer.step()
        loss = float(error.detach())
        if not math.isfinite(loss):
            raise TrainingError(f"step {step + 1}: the loss is {loss}; try another --seed")
        if on_step is not None:
            on_step(step + 1, chosen.steps)
    field.eval()
    training = {**asdict(chosen), "loss_done": loss, INITIAL_PARAMS: started}
    field.record = Record(
        placement=truth.placement, group=group, scene=truth.name, training=training,
        knowledge=seen_part(field, truth, group, chosen.overlap),
    )  # fmt: skip
    return field


@torch.no_grad()
def seen_part(field: PointField, truth: Truth, group: str, overlap: float) -> Knowledge:
    """The part of the box that a field learnt, and what it found solid."""
    cells = OccupancyGrid(field.aabb, RESOLUTION)
    member = truth.in_part(cells.centres(), group, overlap).to(torch.uint8)
    fine = OccupancyGrid(field.aabb, SOLID_RESOLUTION)
    opacity = 1 - (-in_chunks(field.density, fine.centres())).exp()
    side = (RESOLUTION,) * 3
    return Knowledge(
        field.aabb, (member * SEEN).view(side), (member * ALL_SIDES).view(side),
        (opacity > SOLID).view((SOLID_RESOLUTION,) * 3),
    )  # fmt: skip
