"""Volume rendering: pictures from densities and colours along rays; pure functions.

Symbols: σ density, Δt length of a sample, α = 1 − exp(−σ Δt) opacity of a sample,
T = exclusive cumulative product of (1 − α) transmittance, w = T α compositing weight. The rest,
1 − Σ w, is background.

Reference:
    Max 1995; Mildenhall et al. 2020, arXiv 2003.08934, equation 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from ..cameras.cameras import Cameras, Rays
from ..typing import ColourFunction, Float, Tensor
from .occupancy_grid import CHUNK, OccupancyGrid
from .ray_marching import MarchSettings, RaySamples, march

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


#: Rays of a picture that are marched at once. Many rays share the cost of each operation; their
#: samples take some tens of megabytes.
RAYS_AT_ONCE = 16384


@dataclass(frozen=True)
class Sampling:
    """How densely a field is sampled for pictures.

    Attributes:
        resolution: Cells along each side of the occupancy grid; a multiple of `factor`.
        factor: How many times coarser the first search for occupied cells is.
        march: How densely rays are sampled in occupied cells.
    """

    resolution: int
    factor: int
    march: MarchSettings

    def fitting(self, field: RadianceField) -> Sampling:
        """The sampling for a field, denser if the field is sharp.

        On a third-party NeRF of lego the denser sampling gains 3 dB (`bench/sharp_looks.py`).
        """
        if not is_sharp(field):
            return self
        march = MarchSettings(self.march.step / 2, 1.0, self.march.hidden_below)
        return Sampling(self.resolution, first_look(field, self.factor), march)


def is_sharp(field: RadianceField) -> bool:
    """Whether a density is exactly zero right beside matter thinner than a cell, as a ReLU's is.

    A coarse first search misses such matter, and samples behind it then count as hidden too early.
    """
    return bool(getattr(field, "sharp", False))


def first_look(field: RadianceField, factor: int) -> int:
    """How many times coarser than the grid the first search for matter in this field may be."""
    return 1 if is_sharp(field) else factor


#: Scored pictures: within 0.05 dB of what ever more samples converge to (docs/research/speed.md).
PICTURES = Sampling(120, 3, MarchSettings(step=0.75, hidden_rate=0.05))
#: Frames of a film: half the samples, 0.4 to 0.7 dB worse.
FRAMES = Sampling(120, 3, MarchSettings(step=1.5, hidden_rate=0.03, hidden_below=0.03))
#: A few thousand rays for a quick measurement: fast to prepare.
SKETCHES = Sampling(64, 2, MarchSettings(step=0.8, hidden_rate=0.1))


@runtime_checkable
class RadianceField(Protocol):
    """The interface that rendering needs; `memonf.fields.Field` implements it."""

    aabb: Tensor
    record: Any

    def __call__(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Density and rgb."""

    def density(self, positions: Tensor) -> Tensor:
        """Density alone."""


@dataclass(frozen=True)
class Rendering:
    """The picture of a camera.

    Attributes:
        rgb: (..., 3), composited on the background, in [0, 1].
        opacity: (...), in [0, 1].
        depth: (...), mean distance weighted by compositing weights, scene units; 0 in free space.
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
    """Compositing weights w = T α along the last axis; 0 for an empty sample."""
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
    """A field prepared for rendering: its occupancy is computed once.

    Example:
        >>> renderer = Renderer.of(front)
        >>> renderer.view(turntable(8, 16, 3.0, torch.zeros(3)), view=0).rgb.shape
        torch.Size([16, 16, 3])

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
        """Compute a field's occupancy and keep what rendering needs.

        Args:
            field: The field.
            sampling: How densely it is sampled; sharp fields are sampled more densely.
            grid: Its occupancy, if the caller has it.
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
        """The picture of one camera in strips, row after row: (rays, ...) each.

        A caller may stop early, for example when the camera has moved.
        """
        cameras = cameras.to(self.grid.aabb.device)
        width, height = cameras.size(view)
        area = width * height
        for start in range(0, area, rays_at_once):
            with torch.no_grad():
                pixels = range(start, min(start + rays_at_once, area))
                part = render_rays(
                    self.field, cameras.view_rays(view, pixels), self.grid, self.march,
                    self.background, near=self.near, far=self.far,
                )  # fmt: skip
            yield part


def join(parts: Sequence[Rendering]) -> Rendering:
    """Concatenate renderings along the rays."""
    return Rendering(
        torch.cat([part.rgb for part in parts]),
        torch.cat([part.opacity for part in parts]),
        torch.cat([part.depth for part in parts]),
    )
