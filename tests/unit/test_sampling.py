"""Where samples go: against a march written out step by step, and what grids know."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memonf.cameras.cameras import Rays
from memonf.rendering.occupancy_grid import OccupancyGrid
from memonf.rendering.ray_marching import MarchSettings, intersect_box, march

BOX = torch.tensor([[-1.0, -1.2, -0.8], [1.0, 1.0, 1.2]])


def scattered_grid(seed: int, resolution: int = 24, filled: float = 0.02) -> OccupancyGrid:
    """Cells filled at random, most of them air."""
    generator = torch.Generator().manual_seed(seed)
    grid = OccupancyGrid(BOX, resolution)
    density = torch.rand(resolution**3, generator=generator) * 80
    grid.density = density * (torch.rand(resolution**3, generator=generator) < filled)
    return grid


def rays_through(count: int, seed: int) -> Rays:
    """Rays from a sphere towards the neighbourhood of the box; some miss it."""
    generator = torch.Generator().manual_seed(seed)
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1) * 3
    aims = torch.randn(count, 3, generator=generator)
    return Rays(origins, torch.nn.functional.normalize(aims - origins, dim=1))


def marched_slowly(
    rays: Rays, grid: OccupancyGrid, chosen: MarchSettings
) -> list[tuple[int, float, float]]:
    """(ray, distance, length) of each sample, one step at a time."""
    step = chosen.step * float(grid.cell.min())
    starts, ends = intersect_box(rays, grid.bounds(), 0.0, 1e6)
    found = []
    for ray in range(len(rays)):
        start, end = float(starts[ray]), float(ends[ray])
        depth, rate_sum = 0.0, 0.5
        for number in range(max(0, math.ceil((end - start) / step - 0.5))):
            distance = start + (number + 0.5) * step
            position = rays.origins[ray] + distance * rays.directions[ray]
            density = float(grid.density[grid.cell_index(position)])
            if density <= grid.threshold:
                continue
            rate = 1.0 if depth <= -math.log(chosen.hidden_below) else chosen.hidden_rate
            if math.floor(rate_sum + rate) > math.floor(rate_sum):
                found.append((ray, distance, step / rate))
            rate_sum += rate
            depth += density * step
    return found


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.4, 1.0, 1.7]), st.sampled_from([0.25, 1.0]))
def test_march_is_the_one_written_out_step_by_step(seed: int, step: float, hidden: float) -> None:
    """Skipping air by blocks loses no sample and invents none."""
    grid, rays = scattered_grid(seed), rays_through(12, seed)
    chosen = MarchSettings(step=step, hidden_rate=hidden)
    samples = march(rays, grid, chosen)
    slow = marched_slowly(rays, grid, chosen)
    # A step whose place is on the border of two cells may fall into either.
    fast = dict.fromkeys(
        zip(samples.ray.tolist(), (samples.distances * 1e3).round().tolist(), strict=True)
    )
    other = dict.fromkeys((ray, round(distance * 1e3)) for ray, distance, _ in slow)
    assert len(fast.keys() ^ other.keys()) <= 0.02 * len(other) + 1
    assert float(samples.lengths.sum()) == pytest.approx(sum(x[2] for x in slow), rel=0.03)
    positions = (
        rays.origins[samples.ray] + samples.distances[:, None] * rays.directions[samples.ray]
    )
    torch.testing.assert_close(samples.positions, positions)


def test_samples_stand_ray_after_ray_and_front_to_back() -> None:
    """Rays ascend; ranks count from 0 on each ray; distances grow along it."""
    samples = march(rays_through(300, 0), scattered_grid(0, filled=0.1), MarchSettings())
    same = samples.ray[1:] == samples.ray[:-1]
    assert bool((samples.ray.diff() >= 0).all())
    assert bool((samples.rank[1:][same] == samples.rank[:-1][same] + 1).all())
    assert bool((samples.rank[1:][~same] == 0).all())
    assert int(samples.rank[0]) == 0
    assert bool((samples.distances.diff()[same] > 0).all())


def test_the_march_does_not_depend_on_what_is_marched_with() -> None:
    """A ray has the same samples alone as among others."""
    rays, grid = rays_through(200, 3), scattered_grid(3, filled=0.1)
    chosen = MarchSettings(step=0.5, hidden_rate=0.3)
    together = march(rays, grid, chosen)
    for start in range(0, 200, 37):
        alone = march(rays[start : start + 37], grid, chosen)
        among = (together.ray >= start) & (together.ray < start + 37)
        torch.testing.assert_close(alone.distances, together.distances[among], rtol=0, atol=0)
        torch.testing.assert_close(alone.lengths, together.lengths[among], rtol=0, atol=0)


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.03, 0.1, 0.25]))
@settings(max_examples=20, deadline=None)
def test_matter_is_near_wherever_it_is(seed: int, distance: float) -> None:
    """No occupied cell within the distance is forgotten, at borders and odd resolutions too."""
    grid = scattered_grid(seed, resolution=21, filled=0.01)
    near = grid.near_matter(distance)
    matter = grid.centres()[grid.occupied]
    generator = torch.Generator().manual_seed(seed)
    moved = (torch.rand(len(matter), 3, generator=generator) * 2 - 1) * distance
    places = (matter + moved).clamp(BOX[0] + 1e-4, BOX[1] - 1e-4)
    x, y, z = ((places - BOX[0]) / (4 * grid.cell)).long().unbind(-1)
    assert bool(near[x, y, z].all())


def test_what_is_known_of_a_grid_follows_its_density() -> None:
    """A changed density is looked at anew."""
    grid = scattered_grid(1)
    assert bool(grid.near_matter(0.1).any())
    grid.density.zero_()
    assert not bool(grid.near_matter(0.1).any())


def test_looking_closely_near_traces_finds_what_looking_everywhere_finds() -> None:
    """A soft ball and a thin rod: the same occupied cells."""

    def density(positions: torch.Tensor) -> torch.Tensor:
        ball = torch.sigmoid((0.5 - positions.norm(dim=-1)) * 40)
        rod = torch.exp(-positions[..., :2].sub(0.7).square().sum(-1) / (2 * 0.03**2))
        return 60 * torch.maximum(ball, rod)

    everywhere = OccupancyGrid(BOX, 60)
    everywhere.update(density)
    looked: list[int] = []

    def counted(positions: torch.Tensor) -> torch.Tensor:
        looked.append(len(positions))
        return density(positions)

    closely = OccupancyGrid.close_to(counted, BOX, 60, 3)
    assert torch.equal(closely.occupied, everywhere.occupied)
    assert sum(looked) < 0.6 * 60**3
