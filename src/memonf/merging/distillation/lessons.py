"""Lessons: a parent's outputs along the rays of its own cameras, as training data.

Symbols, sample k of a ray: α opacity, c colour, T transmittance in front, w = T α compositing
weight, b colour of what lies behind the sample.

A parent is trusted where it saw: along rays through the pixels of its training cameras. Its density
and colour at the samples of such a ray give two losses. *Along the ray*, the student has to
composite the same colour. *Pointwise*, it has to have the same α and c at each sample, weighted by
their effect on the picture: ∂C/∂c = w and ∂C/∂α = T (c − b). The first is the objective; the second
shows which samples have to change, and both are zero at the solution.

Rays are marched through the cells that at least one parent saw solid (`SharedGrid`). Samples of
small weight are dropped at random, and the length of each kept sample is increased accordingly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...cameras.cameras import Cameras
from ...fields import Field
from ...rendering.knowledge import SOLID_RESOLUTION, Knowledge, union
from ...rendering.occupancy_grid import OccupancyGrid, in_chunks
from ...rendering.ray_marching import MarchSettings, RaySamples, march
from ...rendering.volume_rendering import compositing_weights
from ...typing import Float, Tensor
from ..positions import in_cells

__all__ = [
    "Lesson",
    "SharedGrid",
    "draw_lesson",
    "draw_point_lesson",
    "ray_error",
    "join_lessons",
    "point_error",
]

#: Rays that a parent is evaluated on at once.
BLOCK = 4096
CHUNK = 8192
#: A sample with a smaller compositing weight is kept with a probability in proportion to it …
FULL_WEIGHT = 0.01
#: … but at least with this one: free space has to stay free.
LEAST_KEPT = 0.1
#: Least weight of a sample's opacity, for samples whose opacity does not change the colour.
LEAST_SENSITIVITY = 1e-2


@dataclass(frozen=True)
class Lesson:
    """Rays of one or several parents, with the parents' outputs at their samples.

    Attributes:
        samples: Where; rays without samples are left out.
        directions: (samples, 3), unit length.
        alpha: (samples,), the parent's opacity of the sample.
        rgb: (samples, 3), the parent's colour.
        colour: (rays, 3), composited, without what shines through from behind.
        opacity: (rays,), in [0, 1].
        rgb_weight: (samples,), w².
        alpha_weight: (samples,), |T (c − b)|².
        drawn: Number of rays drawn, those without samples included.
    """

    samples: RaySamples
    directions: Tensor
    alpha: Tensor
    rgb: Tensor
    colour: Tensor
    opacity: Tensor
    rgb_weight: Tensor
    alpha_weight: Tensor
    drawn: float

    def part(self, number: int, parts: int) -> Lesson:
        """One of equal parts of the rays."""
        rays = self.samples.rays
        return self.rays(rays * number // parts, rays * (number + 1) // parts, self.drawn / parts)

    def head(self, share: float) -> Lesson:
        """The first rays, a share of all of them in [0, 1]."""
        return self.rays(0, round(share * self.samples.rays), share * self.drawn)

    def rays(self, start: int, end: int, drawn: float) -> Lesson:
        """Rays start … end; `drawn` is how many had to be drawn to get these."""
        first, last = torch.searchsorted(
            self.samples.ray, torch.tensor([start, end], device=self.samples.ray.device)
        ).tolist()
        here = slice(first, last)
        s = self.samples
        samples = RaySamples(
            s.positions[here], s.distances[here], s.lengths[here], s.ray[here] - start,
            s.rank[here], end - start,
        )  # fmt: skip
        return Lesson(
            samples, self.directions[here], self.alpha[here], self.rgb[here],
            self.colour[start:end], self.opacity[start:end], self.rgb_weight[here],
            self.alpha_weight[here], drawn,
        )  # fmt: skip


def join_lessons(lessons: Sequence[Lesson]) -> Lesson:
    """Several lessons as one."""
    if len(lessons) == 1:
        return lessons[0]
    parts = [lesson.samples for lesson in lessons]
    offsets = [sum(part.rays for part in parts[:place]) for place in range(len(parts) + 1)]
    samples = RaySamples(
        torch.cat([part.positions for part in parts]),
        torch.cat([part.distances for part in parts]),
        torch.cat([part.lengths for part in parts]),
        torch.cat([part.ray + offset for part, offset in zip(parts, offsets, strict=False)]),
        torch.cat([part.rank for part in parts]),
        offsets[-1],
    )
    named = ("directions", "alpha", "rgb", "colour", "opacity", "rgb_weight", "alpha_weight")
    joined = {name: torch.cat([getattr(lesson, name) for lesson in lessons]) for name in named}
    return Lesson(samples, **joined, drawn=sum(lesson.drawn for lesson in lessons))


@dataclass(frozen=True)
class SharedGrid:
    """Cells in which the parents together found matter, and cells that they saw empty.

    Attributes:
        grid: Density where some parent saw matter, zero elsewhere.
        empty: (cells, 3), centres of the cells that were seen empty and do not border on matter.
    """

    grid: OccupancyGrid
    empty: Float[Tensor, "cells 3"]

    @classmethod
    def of(
        cls,
        parents: Sequence[Field],
        knowledge: Sequence[Knowledge],
        aabb: Float[Tensor, "2 3"],
    ) -> SharedGrid:
        """Evaluate each parent's density in the cells that any parent saw solid.

        Args:
            parents: The parents, taken one after the other.
            knowledge: What each of them saw.
            aabb: (2, 3), box that holds theirs.
        """
        grid = OccupancyGrid(aabb, SOLID_RESOLUTION)
        centres = grid.centres()
        together = union(knowledge, aabb)
        # Surfaces are found half a cell apart by two parents, and the student's in between.
        cells = together.solid_on(grid, margin=1).nonzero()[:, 0]
        matter = centres[cells]
        most = torch.full((len(cells),), 1.01 * grid.threshold, device=aabb.device)
        for parent, seen in zip(parents, knowledge, strict=True):
            density = in_chunks(parent.density, matter)
            most = torch.maximum(most, density * (seen.views_at(matter) > 0))
        grid.density = torch.zeros_like(grid.density)
        grid.density[cells] = most
        empty = (together.views_on(grid) > 0) & ~together.solid_on(grid, margin=2)
        return cls(grid, centres[empty])

    def empty_points(self, count: int, generator: torch.Generator) -> Float[Tensor, "points 3"]:
        """Random points (count, 3) in the cells seen empty; (0, 3) if there are no such cells."""
        if len(self.empty) == 0:
            return self.empty
        picked = torch.randint(len(self.empty), (count,), generator=generator)
        jitter = torch.rand(count, 3, generator=generator).to(self.empty) - 0.5
        return self.empty[picked.to(self.empty.device)] + jitter * self.grid.cell


@torch.no_grad()
def draw_lesson(
    parent: Field,
    cameras: Cameras,
    shared: SharedGrid,
    rays: int,
    generator: torch.Generator,
    settings: MarchSettings | None = None,
) -> Lesson:
    """A parent's outputs along random rays of its cameras.

    Args:
        parent: The parent.
        cameras: Its training cameras, on its device.
        shared: Where samples are taken.
        rays: Number of rays.
        generator: Source of the randomness.
        settings: How densely rays are sampled.
    """
    settings = settings or MarchSettings()
    blocks = []
    for start in range(0, rays, BLOCK):
        count = min(BLOCK, rays - start)
        views = torch.randint(len(cameras), (count,), generator=generator)
        rows, columns = torch.rand(2, count, generator=generator).to(cameras.intrinsics)
        views = views.to(cameras.sizes.device)
        widths, heights = cameras.sizes[views].unbind(1)
        drawn = cameras.rays(views, rows * heights - 0.5, columns * widths - 0.5)
        samples = march(
            drawn, shared.grid, settings, near=parent.record.near, far=parent.record.far,
            generator=generator,
        )  # fmt: skip
        directions = drawn.directions[samples.ray]
        answers = [
            parent(where, towards)
            for where, towards in zip(
                samples.positions.split(CHUNK), directions.split(CHUNK), strict=True
            )
        ]
        density = torch.cat([answer.density for answer in answers])
        rgb = torch.cat([answer.rgb for answer in answers])
        background = torch.tensor(parent.record.background).to(rgb)
        blocks.append(lesson_of(samples, directions, density, rgb, background, count, generator))
    return join_lessons(blocks)


def lesson_of(
    samples: RaySamples,
    directions: Float[Tensor, "samples 3"],
    density: Float[Tensor, " samples"],
    rgb: Float[Tensor, "samples 3"],
    background: Float[Tensor, " 3"],
    drawn: int,
    generator: torch.Generator,
) -> Lesson:
    """Drop samples of small weight at random and compute the targets of the kept ones."""
    weights = compositing_weights(samples.padded(density), samples.padded(samples.lengths))
    weight = weights[samples.ray, samples.rank]
    probability = (weight / FULL_WEIGHT).clamp(LEAST_KEPT, 1.0)
    kept = torch.rand(len(weight), generator=generator).to(weight.device) < probability
    thinned = keep_samples(samples, kept, samples.lengths / probability)
    density, rgb, directions = density[kept], rgb[kept], directions[kept]
    ray, rank = thinned.ray, thinned.rank
    optical_depth = density * thinned.lengths
    along = thinned.padded(optical_depth)
    in_front = (-(along.cumsum(1) - along)).exp()
    weights = in_front - (-along.cumsum(1)).exp()
    coloured = weights[..., None] * thinned.padded(rgb)
    colour, opacity = coloured.sum(1), weights.sum(1)
    transmittance, alpha = in_front[ray, rank], 1 - (-optical_depth).exp()
    # What a ray loses here it gains behind: all colours there, in what is left of the light.
    passed = (transmittance * (1 - alpha)).clamp_min(1e-3)
    behind = (colour[ray] - coloured.cumsum(1)[ray, rank]) / passed[:, None]
    behind = behind + (1 - opacity)[ray, None] * background / passed[:, None]
    change = transmittance[:, None] * (rgb - behind.clamp(0, 1))
    return Lesson(
        samples=thinned,
        directions=directions,
        alpha=alpha,
        rgb=rgb,
        colour=colour,
        opacity=opacity,
        rgb_weight=weights[ray, rank].square(),
        alpha_weight=change.square().sum(-1) + LEAST_SENSITIVITY * transmittance.square(),
        drawn=float(drawn),
    )


def keep_samples(samples: RaySamples, kept: Tensor, lengths: Tensor) -> RaySamples:
    """Some of the samples with new lengths; rays without any sample left are dropped."""
    ray = samples.ray[kept]
    count = torch.bincount(ray, minlength=samples.rays)
    number = (count > 0).cumsum(0) - 1
    first = count.cumsum(0) - count
    place = torch.arange(len(ray), device=ray.device)
    return RaySamples(
        samples.positions[kept], samples.distances[kept], lengths[kept], number[ray],
        place - first[ray], int((count > 0).sum()),
    )  # fmt: skip


@torch.no_grad()
def draw_point_lesson(
    parent: Field, seen: Knowledge, shared: SharedGrid, points: int, generator: torch.Generator
) -> Lesson:
    """Outputs of a parent without rays at random positions of the part that it saw.

    Half of them lie anywhere in it, half near its matter; each is a ray of one sample of length 1,
    and opacity and colour count alike everywhere.

    Args:
        parent: The parent.
        seen: What it saw.
        shared: The box of all parents.
        points: Number of positions.
        generator: Source of the randomness.
    """
    here = seen.views_on(shared.grid) > 0
    matter = here & seen.solid_on(shared.grid, margin=2)
    placed = torch.cat([
        in_cells(shared.grid, matter if matter.any() else here, points // 2, generator),
        in_cells(shared.grid, here, points - points // 2, generator),
    ])  # fmt: skip
    directions = torch.tensor([0.0, 0.0, 1.0]).to(placed).expand_as(placed)
    parts = [parent(placed[at : at + CHUNK], directions[at : at + CHUNK])
             for at in range(0, points, CHUNK)]  # fmt: skip
    alpha = 1 - (-torch.cat([part.density for part in parts])).exp()
    rgb = torch.cat([part.rgb for part in parts])
    one, nothing = torch.ones_like(alpha), torch.zeros_like(alpha)
    rays = torch.arange(points, device=placed.device)
    samples = RaySamples(placed, nothing, one, rays, torch.zeros_like(rays), points)
    colour = alpha[:, None] * rgb
    return Lesson(samples, directions, alpha, rgb, colour, alpha, one, one, float(points))


def ray_error(
    lesson: Lesson,
    density: Float[Tensor, " samples"],
    rgb: Float[Tensor, "samples 3"],
    background: Float[Tensor, " 3"],
) -> Tensor:
    """Mean squared error of the composited colours, over all rays drawn and channels."""
    samples = lesson.samples
    weights = compositing_weights(samples.padded(density), samples.padded(samples.lengths))
    colour = (weights[..., None] * samples.padded(rgb)).sum(1)
    difference = colour - lesson.colour - (weights.sum(1) - lesson.opacity)[:, None] * background
    return difference.square().sum() / (3 * lesson.drawn)


def point_error(
    lesson: Lesson, density: Float[Tensor, " samples"], rgb: Float[Tensor, "samples 3"]
) -> Tensor:
    """Squared errors of opacity and colour at the samples, as far as they matter to pictures."""
    alpha = 1 - (-density * lesson.samples.lengths).exp()
    of_alpha = (lesson.alpha_weight * (alpha - lesson.alpha).square()).sum()
    of_rgb = (lesson.rgb_weight[:, None] * (rgb - lesson.rgb).square()).sum()
    return (of_alpha + of_rgb) / (3 * lesson.drawn)
