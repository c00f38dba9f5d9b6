"""Training one field on the posed pictures of one view group.

A step draws random pixels, marches their rays through the occupancy grid, composites them on the
scene's background and takes the squared error. Four things make it fast on a CPU:

* the grid starts as the visual hull of the pictures' alpha channels (where they have one), and
  what the hull says is empty is taught pointwise (`free_space`), far cheaper than by rays;
* samples hidden behind what the grid takes for solid are thinned out;
* samples are evaluated and differentiated in chunks whose activations stay in cache;
* Muon (Jordan 2024) takes the hidden matrices, Adam the rest.

Everything that a step depends on is in `Trainer.state`, so an interrupted run resumes to the same
bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..cameras.cameras import Rays
from ..data import Scene, Views, composite_on
from ..data.boxes import looking_into
from ..errors import DataError, TrainingError
from ..fields import Field, known
from ..rendering.knowledge import SOLID_RESOLUTION
from ..rendering.occupancy_grid import OccupancyGrid
from ..rendering.ray_marching import MarchSettings, RaySamples, march
from ..rendering.volume_rendering import composite
from ..typing import Tensor
from .params import build_optimizers
from .settings import TrainSettings
from .state import pack_state, unpack_state

__all__ = ["Progress", "Trainer"]

#: Samples evaluated and differentiated at once; their activations stay in a core's cache.
CHUNK = 3072
#: Of networks with more params than this, fewer, so that a piece of a step takes a second or two.
CHUNK_PARAMS, LEAST_CHUNK = 10_000_000, 64
#: Seconds by which a training by time may be late before its step is broken off; the first may take
#: longer, since without any there is no field.
LATE, FIRST_LATE = 3.0, 15.0
#: Share of the pixels of the last step that the first one draws.
FIRST_RAYS = 0.2
#: How much of a cell's density is remembered from look to look, with a visual hull and without:
#: captures start as fog everywhere, and rays cost most until what is air is known to be air.
DECAY, DECAY_WITHOUT_HULL = 0.9, 0.7
#: Points a step at which free space is taught to be empty.
FREE_POINTS = 1024


class BrokenOffError(Exception):
    """A step ends between two of its pieces, and nothing of it is kept."""


@dataclass(frozen=True)
class BeforeStep:
    """What a step changes ahead of the params.

    Attributes:
        generator: State of the random numbers.
        density: Of the occupancy grid.
        buffers: Of the field, by name.
        rays_here: Rays drawn so far.
    """

    generator: Tensor
    density: Tensor
    buffers: dict[str, Tensor]
    rays_here: int


@dataclass(frozen=True)
class Progress:
    """What is known after a step.

    Attributes:
        step: Steps done.
        fraction: Share of the training done, in [0, 1].
        seconds: Training time so far.
        psnr: PSNR of the last steps' training pixels, dB; not a score of the field.
        rays_per_second: Since the start of this process.
        samples_per_ray: Of the last step, over rays that meet anything.
    """

    step: int
    fraction: float
    seconds: float
    psnr: float
    rays_per_second: float
    samples_per_ray: float

    @property
    def remaining(self) -> float:
        """Expected seconds to the end."""
        return self.seconds * (1 / self.fraction - 1) if self.fraction > 0 else math.inf


def never() -> bool:
    """Nobody stops a training that nobody watches."""
    return False


class Trainer:
    """One training run, advanced step by step.

    Args:
        field: The field to train, in place.
        views: Training pictures and cameras.
        scene: Box, range and background.
        settings: See `TrainSettings`.
    """

    def __init__(self, field: Field, views: Views, scene: Scene, settings: TrainSettings) -> None:
        device = field.aabb.device
        self.field = field
        self.settings = settings
        self.near, self.far = scene.near, scene.far
        check_seen(scene, views)
        self.views = views.to(device)
        self.cameras = self.views.cameras
        self.pixel_count = self.cameras.pixel_count
        self.background = scene.background_rgb.to(device)
        self.march = MarchSettings()
        self.mixed = settings.precision == "bfloat16"
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.grid = OccupancyGrid(field.aabb, settings.grid)
        alphas = views.alphas()
        self.decay = DECAY_WITHOUT_HULL if alphas is None else DECAY
        if alphas is not None:
            self.carve(views, scene)
        hull = self.grid.occupied
        if not hull.any():
            raise TrainingError(
                f"{scene.name}: the visual hull of the alpha channels is empty; the poses or the "
                "masks do not fit together"
            )
        self.hull = hull.nonzero()[:, 0]
        self.free = (~hull).nonzero()[:, 0]
        self.free_centres = self.grid.centres()[self.free]
        self.optimizers = build_optimizers(field, settings)
        self.peak_rates = [optimizer.rate for optimizer in self.optimizers]
        self.step_count = 0
        self.seconds = 0.0
        self.mean_error = math.nan
        self.losses: dict[str, float] = {}  # of the last step, as they are summed
        self.rays_here = 0
        self.seconds_here = 0.0
        params = max(field.parameter_count(), 1)
        self.chunk = max(LEAST_CHUNK, min(CHUNK, CHUNK * CHUNK_PARAMS // params))
        self.stop: Callable[[], bool] = never
        self.started = time.perf_counter()  # of the step that is being taken

    def carve(self, views: Views, scene: Scene) -> None:
        """Empty what the alpha channels say is empty, those that contradict the others left out.

        Where all views of the scene outline an object, what this group alone cannot tell apart (the
        cone behind it, before a camera that no other looks at) is empty as well.
        """
        seen = scene.seen()
        doubted = set() if seen is None else {*seen.doubted}
        trusted = [view for view, name in enumerate(views.names) if name not in doubted]
        alphas = views[trusted].alphas()
        if alphas is not None:
            self.grid.carve(
                self.cameras[trusted], alphas, near=self.near,
                tolerance=0.0 if seen is None else seen.tolerance,
            )  # fmt: skip
        if seen is not None:
            self.grid.empty_outside(seen.aabb.to(self.grid.aabb))

    @property
    def fraction(self) -> float:
        """Share of the training done, in [0, 1]."""
        if self.settings.seconds is not None:
            return min(1.0, self.seconds / self.settings.seconds)
        return min(1.0, self.step_count / self.settings.step_goal)

    @property
    def done(self) -> bool:
        """Whether the training is at its end."""
        return self.fraction >= 1

    @property
    def rays(self) -> int:
        """Pixels that the next step draws: few at first, when there is much to learn from any.

        Early steps also cost most for each ray, through a field that is still fog everywhere.
        """
        share = FIRST_RAYS + (1 - FIRST_RAYS) * self.fraction
        return max(1, round(share * self.settings.rays))

    def step(self) -> Progress:
        """Advance by one step.

        Raises:
            KeyboardInterrupt: `stop` said so between two pieces of the step; all is as before it.
            TrainingError: The loss diverged, or the time was over before the first step was.
        """
        self.started = time.perf_counter()
        before = self.before_step()
        self.field.train()
        self.set_rates()
        try:
            if self.step_count and self.step_count % self.settings.refresh == 0:
                self.refresh_grid()
            error, samples_per_ray = self.accumulate_gradients()
        except BrokenOffError:
            self.take_back(before)
            return self.broken_off(time.perf_counter() - self.started)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step_count += 1
        error_before = error if math.isnan(self.mean_error) else self.mean_error
        self.mean_error = 0.95 * error_before + 0.05 * error
        elapsed = time.perf_counter() - self.started
        self.seconds += elapsed
        self.seconds_here += elapsed
        if not math.isfinite(error):
            raise TrainingError(
                f"step {self.step_count}: the loss is {error}; lower the learning rates"
            )
        return self.progress(samples_per_ray)

    def progress(self, samples_per_ray: float) -> Progress:
        """What is known now."""
        return Progress(
            self.step_count,
            self.fraction,
            self.seconds,
            -10 * math.log10(max(self.mean_error, 1e-12)),
            self.rays_here / self.seconds_here,
            samples_per_ray,
        )

    def before_step(self) -> BeforeStep:
        """What a step changes ahead of the params."""
        refreshed = self.step_count and self.step_count % self.settings.refresh == 0
        density = self.grid.density.clone() if refreshed else self.grid.density
        buffers = {name: buffer.clone() for name, buffer in self.field.named_buffers()}
        return BeforeStep(self.generator.get_state(), density, buffers, self.rays_here)

    def take_back(self, before: BeforeStep) -> None:
        """Leave all as it was before a step that was broken off."""
        self.generator.set_state(before.generator)
        self.grid.density = before.density
        for name, buffer in self.field.named_buffers():
            buffer.copy_(before.buffers[name])
        for param in self.field.parameters():
            param.grad = None
        self.rays_here = before.rays_here

    def broken_off(self, elapsed: float) -> Progress:
        """What is known after a step that was broken off: by time, or by `stop`.

        Args:
            elapsed: Seconds that it took so far.
        """
        if self.stop():
            raise KeyboardInterrupt
        if self.step_count == 0:
            raise TrainingError(
                f"not one step was done in {elapsed:.0f} s; give more --seconds, fewer --rays or a "
                "smaller network"
            )
        self.seconds += elapsed
        self.seconds_here += elapsed
        return self.progress(0.0)

    def check_time(self) -> None:
        """Break a step off that is to stop, or that makes a training by time late.

        Raises:
            BrokenOffError: So it is.
        """
        if self.stop():
            raise BrokenOffError
        if self.settings.seconds is not None:
            late = LATE if self.step_count else FIRST_LATE
            if self.seconds + time.perf_counter() - self.started > self.settings.seconds + late:
                raise BrokenOffError

    def set_rates(self) -> None:
        """Linear warm-up over 20 steps, then a cosine to a twentieth."""
        warm_up = min(1.0, (self.step_count + 1) / 20)
        cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * self.fraction))
        for optimizer, peak in zip(self.optimizers, self.peak_rates, strict=True):
            optimizer.rate = peak * warm_up * cosine

    def refresh_grid(self) -> None:
        """Look at the field in the cells that rays may meet; mostly at those that they do."""
        whole = (self.step_count // self.settings.refresh) % 4 == 0
        cells = self.hull if whole else self.hull[self.grid.occupied[self.hull]]
        self.field.eval()  # batch norm: look with, and do not disturb, the running statistics

        def density(positions: Tensor) -> Tensor:
            self.check_time()
            return self.field.density(positions)

        self.grid.update(density, decay=self.decay, generator=self.generator, cells=cells)
        self.field.train()
        if self.step_count > 200 and not self.grid.occupied.any():
            raise TrainingError(
                f"step {self.step_count}: the field has become empty; try another --seed or "
                "a lower learning rate"
            )

    def uniform(self, *shape: int) -> Tensor:
        """Random numbers in [0, 1) on the field's device; the same on every device."""
        return torch.rand(shape, generator=self.generator).to(self.background.device)

    def accumulate_gradients(self) -> tuple[float, float]:
        """Loss and gradients of one batch: (squared error, samples per ray that has any).

        Raises:
            BrokenOffError: See `check_time`.
        """
        count = self.rays
        self.rays_here += count
        drawn = torch.randint(self.pixel_count, (count,), generator=self.generator)
        pixels = self.views.pixels(drawn)
        counted = self.views.counted(drawn)
        drawn = drawn.to(pixels.device)
        if counted is not None:  # fewer rays, as masks leave them
            pixels, drawn = pixels[counted], drawn[counted]
            count = max(1, len(drawn))
        rays = self.cameras.rays(*self.cameras.places(drawn))
        background = self.background.expand(len(drawn), 3)
        truth = composite_on(pixels, background)
        samples = march(
            rays, self.grid, self.march, near=self.near, far=self.far, generator=self.generator
        )
        total, fog = 0.0, 0.0
        last_sample = torch.bincount(samples.ray, minlength=count).cumsum(0)
        pieces = max(1, round(len(samples) / self.chunk))
        cuts = last_sample.new_tensor([len(samples) * k // pieces for k in range(1, pieces)])
        ends = [*(torch.searchsorted(last_sample, cuts) + 1).tolist(), count]
        free = self.free_points(FREE_POINTS)
        share = -(-len(free) // len(ends))
        start = 0
        for number, end in enumerate(ends):
            self.check_time()
            error, opacity = self.look(
                slice_rays(samples, start, end, last_sample),
                rays[start:end],
                background[start:end],
                free[number * share : (number + 1) * share],
                truth[start:end],
            )
            loss = error / (3 * count) + self.free_weight * opacity / FREE_POINTS
            if loss.requires_grad:
                loss.backward()
            total += float(error.detach()) / (3 * count)
            fog += float(opacity.detach()) / FREE_POINTS
            start = end
        self.losses = {"pixels": total, "free_space": self.free_weight * fog}
        hit = int((last_sample.diff(prepend=last_sample.new_zeros(1)) > 0).sum())
        return total, len(samples) / max(hit, 1)

    def look(
        self, piece: RaySamples, rays: Rays, background: Tensor, free: Tensor, truth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Squared error of a piece of the batch, and summed opacity of points in free space.

        Both are seen in one pass: batch norm then has one distribution, in training as later.
        """
        positions = torch.cat([piece.positions, free])
        if len(positions) == 0:
            empty = (background - truth).square().sum()
            return empty, torch.zeros_like(empty)
        directions = rays.directions[piece.ray]
        upwards = torch.tensor([0.0, 0.0, 1.0]).to(free).expand_as(free)
        with torch.autocast(positions.device.type, torch.bfloat16, enabled=self.mixed):
            density, rgb = self.field(positions, torch.cat([directions, upwards]))
        density, rgb = density.float(), rgb.float()
        on_rays = len(piece)
        seen = composite(piece, density[:on_rays], rgb[:on_rays], background)
        opacity = 1 - (-density[on_rays:] * self.grid.cell.min()).exp()
        return (seen.rgb - truth).square().sum(), opacity.sum()

    @property
    def free_weight(self) -> float:
        """Weight of the lesson in free space, rising over the first 100 steps."""
        return self.settings.free_space * min(1.0, self.step_count / 100)

    def free_points(self, count: int) -> Tensor:
        """Random points in cells that the visual hull says are empty: (count, 3) or none."""
        if len(self.free) == 0 or self.settings.free_space == 0:
            return self.free_centres[:0]
        cells = torch.randint(len(self.free), (count,), generator=self.generator)
        jitter = (self.uniform(count, 3) - 0.5) * self.grid.cell
        return self.free_centres[cells.to(self.free.device)] + jitter

    def finished(self) -> Field:
        """The trained field, in evaluation mode, its record completed: outcome and knowledge."""
        outcome = {
            "steps_done": self.step_count,
            "psnr_done": round(-10 * math.log10(max(self.mean_error, 1e-12)), 3),
        }
        field = self.field.eval()
        grid = self.grid
        if grid.resolution != SOLID_RESOLUTION:
            grid = OccupancyGrid(field.aabb, SOLID_RESOLUTION)
            grid.update(field.density)
        else:  # outside the visual hull the field was taught to be empty
            grid.update(field.density, cells=self.hull)
        record = replace(field.record, training={**field.record.training, **outcome})
        field.record = replace(record, knowledge=known(field, grid))
        return field

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as named tensors."""
        return pack_state(
            self.field, self.optimizers, self.generator,
            (self.step_count, self.seconds, self.mean_error), grid=self.grid.density,
        )  # fmt: skip

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from what `state` gave.

        Raises:
            InputError: The state is of another field or optimiser.
        """
        (steps, self.seconds, self.mean_error), (density,) = unpack_state(
            tensors, self.field, self.optimizers, self.generator, ("grid",)
        )
        self.grid.density = density.to(self.grid.density)
        self.step_count = int(steps)


def check_seen(scene: Scene, views: Views) -> None:
    """Refuse pictures that nothing can be learnt from.

    Raises:
        DataError: No pixel counts, all are transparent, or no camera looks into the box.
    """
    if views.counted_share() == 0:
        raise DataError(
            f"{scene.name}: the masks of all {len(views)} training pictures leave no pixel that "
            "counts; `memonf data inspect` shows the share, black or label 0 does not count"
        )
    alphas = views.alphas()
    if alphas is not None and not any(bool(alpha.any()) for alpha in alphas):
        raise DataError(
            f"{scene.name}: all {len(views)} training pictures are transparent everywhere; their "
            "alpha channel is expected to be above 0 where the object is"
        )
    if not any(looking_into(views.cameras, scene.aabb, scene.near, scene.far)):
        raise DataError(
            f"{scene.name}: no camera looks into the box {scene.aabb.tolist()} between near "
            f"{scene.near:g} and far {scene.far:g}; `memonf data inspect --png` draws both"
        )


def slice_rays(samples: RaySamples, start: int, end: int, last_sample: Tensor) -> RaySamples:
    """Samples of rays start … end, rays renumbered from 0."""
    first = int(last_sample[start - 1]) if start else 0
    part = slice(first, int(last_sample[end - 1]) if end else 0)
    return RaySamples(
        samples.positions[part],
        samples.distances[part],
        samples.lengths[part],
        samples.ray[part] - start,
        samples.rank[part],
        end - start,
    )
