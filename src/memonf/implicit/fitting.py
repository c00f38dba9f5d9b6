"""Trains a pointwise field on a part of its truth, and records what it has seen of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from ..errors import TrainingError
from ..fields import FieldConfig, Record, build_field, outline
from ..fields.pointwise import PointField
from ..io.checkpoint import content_hash
from ..rendering.knowledge import RESOLUTION, SOLID_RESOLUTION, Knowledge
from ..rendering.occupancy_grid import OccupancyGrid, in_chunks
from ..training import (
    INITIAL_PARAMS,
    SHARED_SEED,
    TrainSettings,
    build_optimizers,
    pack_state,
    unpack_state,
)
from ..training.room import PARAM_BYTES, activation_bytes
from ..typing import Seed, Tensor
from ..utils.devices import check_memory
from .truths import Truth

__all__ = ["FitSettings", "Fitter", "fit"]

#: Positions that are drawn once, and of which each step takes some.
POOL = 200_000
WARM_UP = 20
#: What was learnt counts as seen so often: nobody doubts it.
SEEN, ALL_SIDES = 255, 255
#: Opacity above which a position is matter.
SOLID = 0.5


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class FitSettings:
    """How a pointwise field is trained; recorded with it.

    Attributes:
        steps: Length of the training.
        points: Positions of each step.
        overlap: How far beyond the middle a part goes, as a share of half the box.
        initialization: ``shared``: all seeds start from the same params; ``independent``.
        seed: Seed of every random choice.
    """

    steps: Annotated[int, Limits(ge=1, le=10_000_000)] = 1000
    points: Annotated[int, Limits(ge=1, le=1 << 22)] = 8192
    overlap: Annotated[float, Limits(ge=0, le=1)] = 0.0
    initialization: Literal["shared", "independent"] = "shared"
    seed: Seed = 0


class Fitter:
    """One training on a part of a truth, advanced step by step.

    Args:
        truth: What the field learns; its `field` names the architecture.
        group: ``all`` or a part, see `memonf.implicit.truths.PARTS`.
        config: Configuration; None for the defaults.
        settings: Length, seed, …
        device: Where to train.

    Raises:
        InputError: There is no such part.
    """

    def __init__(
        self,
        truth: Truth,
        *,
        group: str = "all",
        config: FieldConfig | None = None,
        settings: FitSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.truth, self.group = truth, group
        self.settings = settings or FitSettings()
        seed, overlap = self.settings.seed, self.settings.overlap
        flat = outline(truth.field, config, truth.aabb)
        check_memory(
            PARAM_BYTES * flat.parameter_count() + activation_bytes(flat, self.settings.points),
            f"--points {self.settings.points} of {flat.parameter_count():,} params",
            "ask for fewer --points, or a smaller --width or --depth", device,
        )  # fmt: skip
        independent = self.settings.initialization == "independent"
        built = build_field(
            truth.field, config, truth.aabb, seed=seed if independent else SHARED_SEED
        )
        assert isinstance(built, PointField)
        built.record = Record(
            placement=truth.placement, group=group, scene=truth.name,
            training={**asdict(self.settings), INITIAL_PARAMS: content_hash(built)},
        )  # fmt: skip
        self.field = built.to(device)
        self.generator = torch.Generator().manual_seed(seed)
        positions = truth.positions(POOL, group, overlap, self.generator)
        self.values = truth.values(positions).to(device)
        self.positions = positions.to(device)
        self.optimizers = build_optimizers(self.field, TrainSettings(weight_decay=0.0))
        self.peak_rates = [optimizer.rate for optimizer in self.optimizers]
        self.step_count = 0
        self.loss = math.nan
        self.stop: Callable[[], bool] = bool  # its steps are short: asked between them alone

    @property
    def done(self) -> bool:
        """Whether the training is at its end."""
        return self.step_count >= self.settings.steps

    def step(self) -> int:
        """Advance by one step; how many are done.

        Raises:
            TrainingError: It diverged.
        """
        self.field.train()
        share = min(1.0, (self.step_count + 1) / WARM_UP)
        share *= 0.02 + 0.49 * (1 + math.cos(math.pi * self.step_count / self.settings.steps))
        for optimizer, peak in zip(self.optimizers, self.peak_rates, strict=True):
            optimizer.rate = peak * share
        drawn = torch.randint(POOL, (self.settings.points,), generator=self.generator)
        drawn = drawn.to(self.positions.device)
        error = self.field.error(self.positions[drawn], self.values[drawn])
        error.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.step_count += 1
        self.loss = float(error.detach())
        if not math.isfinite(self.loss):
            raise TrainingError(
                f"step {self.step_count}: the loss is {self.loss}; try another --seed"
            )
        return self.step_count

    def finished(self) -> PointField:
        """The trained field, in evaluation mode, its record completed: loss and what was seen."""
        field = self.field.eval()
        field.record = replace(
            field.record, training={**field.record.training, "loss_done": self.loss},
            knowledge=seen_part(field, self.truth, self.group, self.settings.overlap),
        )  # fmt: skip
        return field

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as named tensors."""
        counters = (self.step_count, self.loss)
        return pack_state(self.field, self.optimizers, self.generator, counters)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from what `state` gave.

        Raises:
            InputError: The state is of another field or optimiser.
        """
        (steps, self.loss), _ = unpack_state(tensors, self.field, self.optimizers, self.generator)
        self.step_count = int(steps)


def fit(
    truth: Truth,
    *,
    group: str = "all",
    config: FieldConfig | None = None,
    settings: FitSettings | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[int], None] | None = None,
) -> PointField:
    """Train a field on a part of a truth.

    Args:
        truth: What it learns; its `field` names the architecture.
        group: ``all`` or a part, see `memonf.implicit.truths.PARTS`.
        config: Configuration; None for the defaults.
        settings: Length, seed, …
        device: Where to train.
        on_step: Called with the number of steps done.

    Raises:
        InputError: There is no such part.
        TrainingError: It diverged.
    """
    fitter = Fitter(truth, group=group, config=config, settings=settings, device=device)
    while not fitter.done:
        done = fitter.step()
        if on_step is not None:
            on_step(done)
    return fitter.finished()


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
