"""From densities and colours along rays to pictures; pure functions.

Symbols: σ density, Δt length of a sample, α = 1 − exp(−σ Δt) opacity of a sample,
T = exclusive cumulative product of (1 − α) transmittance, w = T α compositing weight. What is left
of the opacity is background.

Reference:
    Max 1995; Mildenhall et al. 2020, arXiv 2003.08934, equation 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from .cameras import Cameras, Rays
from .occupancy import CHUNK, OccupancyGrid
from .sampling import MarchSettings, RaySamples, march
from .typing import ColourFunction, Float, Tensor

__all__ = [
    "FRAMES",
    "PICTURES",
    "SKETCHES",
    "RadianceField",
    "Renderer",
    "Rendering",
    "Sampling",
    "composite",
    "compositing_weights",
    "first_look",
    "join",
    "render_rays",
]


#: Rays of a picture that are marched at once: many share the cost of each operation, and what is
#: known of each step of theirs takes some tens of megabytes.
RAYS_AT_ONCE = 16384


@dataclass(frozen=True)
class Sampling:
    """How closely a field is looked at for pictures.

    Attributes:
        resolution: Cells along each side of the occupancy grid; a multiple of `factor`.
        factor: How many times coarser the first look for occupied cells is.
        march: How densely rays are sampled in occupied cells.
    """

    resolution: int
    factor: int
    march: MarchSettings

    def fitting(self, field: RadianceField) -> Sampling:
        """The same for a field, closer if it is sharp.

        On a stranger's NeRF of lego that is worth 3 dB (`bench/sharp_looks.py`).
        """
        if not is_sharp(field):
            return self
        march = MarchSettings(self.march.step / 2, 1.0, self.march.hidden_below)
        return Sampling(self.resolution, first_look(field, self.factor), march)


def is_sharp(field: RadianceField) -> bool:
    """Whether a density is exactly zero right beside matter thinner than a cell, as a ReLU's is.

    A coarse first look finds no trace of such matter, and light reaches what seems hidden.
    """
    return bool(getattr(field, "sharp", False))


def first_look(field: RadianceField, factor: int) -> int:
    """How many times coarser than the grid a first look at this field may be."""
    return 1 if is_sharp(field) else factor


#: Scored pictures: within 0.05 dB of what ever more samples converge to (docs/research/speed.md).
PICTURES = Sampling(120, 3, MarchSettings(step=0.75, hidden_rate=0.05))
#: Frames of a film: half the samples, 0.4 to 0.7 dB worse.
FRAMES = Sampling(120, 3, MarchSettings(step=1.5, hidden_rate=0.03, hidden_below=0.03))
#: A few thousand rays to measure by: quick to prepare.
SKETCHES = Sampling(64, 2, MarchSettings(step=0.8, hidden_rate=0.1))


@runtime_checkable
class RadianceField(Protocol):
    """What a picture needs of a field; `memonf.fields.Field` has it all."""

    aabb: Tensor
    record: Any

    def __call__(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Density and rgb."""

    def density(self, positions: Tensor) -> Tensor:
        """Density alone."""


@dataclass(frozen=True)
class Rendering:
    """What a camera sees.

    Attributes:
        rgb: (..., 3), composited on the background, in [0, 1].
        opacity: (...), in [0, 1].
        depth: (...), mean distance of what stopped the light, scene units; 0 where nothing did.
    """

    rgb: Tensor
    opacity: Tensor
    depth: Tensor

    def reshape(self, *shape: int) -> Rendering:
        """Give the ray axis another shape, for example (height, width)."""
        return Rendering(
            self.rgb.reshape(*shape, 3), self.opacity.reshape(shape), self.depth.reshape(shape)
        )


def compositing_weights(
    density: Float[Tensor, "rays samples"], lengths: Float[Tensor, "rays samples"]
) -> Float[Tensor, "rays samples"]:
    """Compositing weights w = T α along the last axis; an empty sample weighs nothing."""
    optical_depth = density * lengths
    behind = optical_depth.cumsum(-1)
    return (optical_depth - behind).exp() - (-behind).exp()


def composite(
    samples: RaySamples,
    density: Float[Tensor, " samples"],
    rgb: Float[Tensor, "samples 3"],
    background: Float[Tensor, "*#rays 3"],
) -> Rendering:
    """Blend the samples of each ray front to back over the background.

    Args:
        samples: Where the densities and colours were taken.
        density: Per scene unit, >= 0.
        rgb: In [0, 1].
        background: One colour (3,), or one for each ray.
    """
    weights = compositing_weights(samples.padded(density), samples.padded(samples.lengths))
    opacity = weights.sum(-1)
    colour = (weights[..., None] * samples.padded(rgb)).sum(1)
    depth = (weights * samples.padded(samples.distances)).sum(-1) / opacity.clamp_min(1e-6)
    return Rendering(colour + (1 - opacity)[:, None] * background, opacity, depth)


def render_rays(
    field: ColourFunction,
    rays: Rays,
    grid: OccupancyGrid,
    settings: MarchSettings,
    background: Tensor,
    *,
    near: float = 0.0,
    far: float = 1e6,
    generator: torch.Generator | None = None,
) -> Rendering:
    """March, evaluate and composite; differentiable in the field."""
    samples = march(rays, grid, settings, near=near, far=far, generator=generator)
    directions = rays.directions[samples.ray]
    parts = [
        field(*part)
        for part in zip(samples.positions.split(CHUNK), directions.split(CHUNK), strict=True)
    ]
    density, rgb = (torch.cat(part) for part in zip(*parts, strict=True))
    return composite(samples, density, rgb, background)


@dataclass(frozen=True)
class Renderer:
    """A field made ready for pictures: its occupancy is looked up once.

    Attributes:
        field: Positions and directions -> density and rgb.
        grid: Occupancy of the field.
        background: (3,), rgb in [0, 1].
        near: Nearest distance, scene units.
        far: Farthest distance, scene units.
        march: How densely rays are sampled.
    """

    field: ColourFunction
    grid: OccupancyGrid
    background: Tensor
    near: float
    far: float
    march: MarchSettings = PICTURES.march

    @classmethod
    def of(
        cls, field: RadianceField, sampling: Sampling = PICTURES, grid: OccupancyGrid | None = None
    ) -> Renderer:
        """Look for matter in the field once, and keep what pictures of it need.

        Args:
            field: The field.
            sampling: How closely it is looked at; sharp fields are looked at more closely.
            grid: Its occupancy, where a caller has looked already.
        """
        sampling = sampling.fitting(field)
        if grid is None:
            grid = OccupancyGrid.close_to(
                field.density, field.aabb, sampling.resolution, sampling.factor
            )
        background = torch.tensor(field.record.background, device=field.aabb.device)
        return cls(field, grid, background, field.record.near, field.record.far, sampling.march)

    @torch.no_grad()
    def view(self, cameras: Cameras, view: int, rays_at_once: int = RAYS_AT_ONCE) -> Rendering:
        """Picture of one camera: arrays of shape (height, width, ...) on the field's device."""
        width, height = cameras.size(view)
        return join(list(self.strips(cameras, view, rays_at_once))).reshape(height, width)

    def strips(
        self, cameras: Cameras, view: int, rays_at_once: int = RAYS_AT_ONCE
    ) -> Iterator[Rendering]:
        """The picture of one camera piece by piece, row after row: (rays, ...) each.

        A caller may stop in between, for example where the camera has moved on.
        """
        rays = cameras.to(self.grid.aabb.device).view_rays(view)
        for start in range(0, len(rays), rays_at_once):
            with torch.no_grad():
                part = render_rays(
                    self.field, rays[start : start + rays_at_once], self.grid, self.march,
                    self.background, near=self.near, far=self.far,
                )  # fmt: skip
            yield part


def join(parts: Sequence[Rendering]) -> Rendering:
    """One rendering after the other."""
    return Rendering(
        torch.cat([part.rgb for part in parts]),
        torch.cat([part.opacity for part in parts]),
        torch.cat([part.depth for part in parts]),
    )
