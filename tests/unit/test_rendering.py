"""The renderer against closed forms and against a slow, independent implementation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from conftest import Shell
from torch.nn import functional as F

from memonf.cameras.cameras import Cameras, Rays
from memonf.rendering.occupancy_grid import OccupancyGrid, any_within
from memonf.rendering.ray_marching import MarchSettings, RaySamples, intersect_box, march
from memonf.rendering.volume_rendering import (
    PICTURES,
    Renderer,
    composite,
    compositing_weights,
    render_rays,
)

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
AHEAD = Rays(torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
BLACK = torch.zeros(1, 3)


def full_grid(resolution: int = 32) -> OccupancyGrid:
    grid = OccupancyGrid(BOX, resolution)
    grid.density.fill_(grid.threshold * 1.01)  # occupied, and never hiding what lies behind
    return grid


def test_homogeneous_slab_has_beer_lambert_opacity() -> None:
    density, colour = 1.3, torch.tensor([0.2, 0.5, 0.9])

    def slab(positions, directions):
        return torch.full((len(positions),), density), colour.expand(len(positions), 3)

    seen = render_rays(slab, AHEAD, full_grid(), MarchSettings(step=0.25), BLACK)
    opacity = 1 - math.exp(-density * 2.0)  # the box is 2 deep
    assert float(seen.opacity) == pytest.approx(opacity, rel=1e-4)
    torch.testing.assert_close(seen.rgb[0], opacity * colour, rtol=1e-4, atol=1e-5)
    # Mean depth of an exponential cut at length L: 1/σ − L / (exp(σL) − 1), behind 2 units of air.
    mean = 1 / density - 2 / (math.exp(density * 2) - 1)
    assert float(seen.depth) == pytest.approx(2 + mean, abs=0.01)


def test_two_slabs_blend_front_over_back() -> None:
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])

    def slabs(positions, directions):
        near = positions[:, 2:] > 0
        return torch.where(near[:, 0], 0.7, 2.0), torch.where(near, red, blue)

    seen = render_rays(slabs, AHEAD, full_grid(), MarchSettings(step=0.125), BLACK)
    through = math.exp(-0.7)
    expected = (1 - through) * red + through * (1 - math.exp(-2.0)) * blue
    torch.testing.assert_close(seen.rgb[0], expected, atol=2e-3, rtol=0)


def test_sharp_fields_are_looked_at_more_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rays through the middle pass the shell twice; a coarse look does not find all of it."""
    directions = F.normalize(
        torch.randn(400, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    rays = Rays(-3 * directions, directions)
    truth = 1 - math.exp(-2 * Shell.peak * Shell.thickness / 2)
    error = {}
    for sharp in (False, True):
        monkeypatch.setattr(Shell, "sharp", sharp)
        seen = Renderer.of(Shell(), PICTURES)
        opacity = render_rays(seen.field, rays, seen.grid, seen.march, BLACK).opacity
        error[sharp] = float((opacity - truth).abs().mean())
    assert error[True] < 0.05
    assert error[False] > 2 * error[True]


def test_the_highest_of_several_places_in_a_cell_counts() -> None:
    def density(positions):
        return (positions[:, 0] + 1) * 10  # rises along x

    once, twice = (OccupancyGrid.highest(density, BOX, 4, looks) for looks in (1, 2))
    torch.testing.assert_close(once.density[:16], torch.full((16,), 2.5))
    torch.testing.assert_close(twice.density[:16], torch.full((16,), 3.75))


def test_background_fills_what_is_left() -> None:
    def air(positions, directions):
        return torch.zeros(len(positions)), torch.ones(len(positions), 3)

    background = torch.tensor([[0.1, 0.2, 0.3]])
    seen = render_rays(air, AHEAD, full_grid(), MarchSettings(), background)
    torch.testing.assert_close(seen.rgb, background)
    assert float(seen.opacity) == 0
    assert float(seen.depth) == 0


def slow_render(field, origin, direction, edges, background):
    """One ray, one sample after the other, in double precision and without shared code."""
    transmittance, colour = 1.0, [0.0, 0.0, 0.0]
    for start, end in itertools.pairwise(edges):
        middle = 0.5 * (start + end)
        point = [o + d * middle for o, d in zip(origin, direction, strict=True)]
        density, rgb = field(point)
        alpha = 1.0 - math.exp(-density * (end - start))
        for channel in range(3):
            colour[channel] += transmittance * alpha * rgb[channel]
        transmittance *= 1.0 - alpha
    return [c + transmittance * b for c, b in zip(colour, background, strict=True)]


def test_renderer_agrees_with_a_slow_independent_one() -> None:
    def fast(positions, directions):
        x, y, z = positions.unbind(-1)
        density = 4 * torch.exp(-6 * (x**2 + y**2 + z**2)) + 3.0 * torch.sigmoid(-20 * (z + 0.5))
        rgb = torch.stack([0.5 + 0.5 * torch.sin(5 * z), 0.5 + 0.4 * x, 0.3 + 0.2 * y], -1)
        return density, rgb

    def slow(point):
        x, y, z = point
        density = 4 * math.exp(-6 * (x**2 + y**2 + z**2)) + 3.0 / (1 + math.exp(20 * (z + 0.5)))
        return density, (0.5 + 0.5 * math.sin(5 * z), 0.5 + 0.4 * x, 0.3 + 0.2 * y)

    generator = torch.Generator().manual_seed(3)
    targets = torch.rand(20, 3, generator=generator) - 0.5
    origins = torch.tensor([0.3, -2.5, 2.0]).expand(20, 3)
    rays = Rays(origins, torch.nn.functional.normalize(targets - origins, dim=-1))
    background = [0.9, 0.8, 0.7]
    seen = render_rays(
        fast, rays, full_grid(64), MarchSettings(step=0.2), torch.tensor([background])
    )
    starts, ends = intersect_box(rays, BOX, 0.0, 100.0)
    for index in range(20):
        start, end = float(starts[index]), float(ends[index])
        edges = [start + (end - start) * k / 2000 for k in range(2001)]
        expected = slow_render(
            slow, rays.origins[index].tolist(), rays.directions[index].tolist(), edges, background
        )
        torch.testing.assert_close(seen.rgb[index], torch.tensor(expected), atol=1e-3, rtol=0)


def test_weights_by_hand() -> None:
    weights = compositing_weights(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.25]]))
    first, second = 1 - math.exp(-0.5), math.exp(-0.5) * (1 - math.exp(-0.5))
    torch.testing.assert_close(weights, torch.tensor([[first, second]]))


def test_composite_keeps_rays_apart() -> None:
    samples = RaySamples(
        positions=torch.zeros(3, 3),
        distances=torch.tensor([1.0, 1.0, 2.0]),
        lengths=torch.tensor([1e9, 1e9, 1e9]),
        ray=torch.tensor([0, 2, 2]),
        rank=torch.tensor([0, 0, 1]),
        rays=3,
    )
    rgb = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    seen = composite(samples, torch.ones(3), rgb, torch.full((1, 3), 0.5))
    torch.testing.assert_close(seen.rgb, torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5], [0, 1.0, 0]]))


def test_thinned_samples_keep_the_optical_depth() -> None:
    grid = OccupancyGrid(BOX, 16)
    grid.density.fill_(30.0)  # hides almost all of the ray from itself
    many = Rays(AHEAD.origins.expand(4000, 3), AHEAD.directions.expand(4000, 3))
    generator = torch.Generator().manual_seed(0)
    samples = march(many, grid, MarchSettings(hidden_rate=0.2), generator=generator)
    assert len(samples) < 0.6 * 4000 * 16
    total = torch.zeros(4000).index_add(0, samples.ray, samples.lengths)
    assert float(total.mean()) == pytest.approx(2.0, rel=0.02)


def test_march_is_deterministic_without_a_generator_and_skips_empty_cells() -> None:
    grid = full_grid(8)
    grid.density.view(8, 8, 8)[:, :, :4] = 0  # empty below z = 0
    first, second = (march(AHEAD, grid, MarchSettings(step=0.5)) for _ in range(2))
    torch.testing.assert_close(first.positions, second.positions)
    assert float(first.positions[:, 2].min()) >= 0
    assert float(first.lengths.sum()) == pytest.approx(1.0, abs=0.13)


def test_rays_that_miss_give_background() -> None:
    away = Rays(AHEAD.origins, -AHEAD.directions)
    seen = render_rays(
        lambda p, d: (torch.ones(len(p)), torch.ones(len(p), 3)),
        away, full_grid(), MarchSettings(), torch.tensor([[0.3, 0.3, 0.3]]),
    )  # fmt: skip
    torch.testing.assert_close(seen.rgb, torch.full((1, 3), 0.3))


def test_visual_hull_keeps_the_object_and_drops_the_air() -> None:
    from memonf.cameras.cameras import turntable

    cameras = turntable(12, 64, radius=4.0, target=torch.zeros(3), elevation=20.0)
    grid = OccupancyGrid(BOX, 32)
    grid.carve(cameras, (sphere_alpha(cameras, view) for view in range(12)))
    radius = grid.centres().norm(dim=-1)
    assert grid.occupied[radius < 0.5].all()
    assert not grid.occupied[radius > 0.9].any()


@pytest.mark.parametrize("reach", [1, 3, 40])
def test_solid_pixels_within_reach_are_those_of_a_dilated_picture(reach: int) -> None:
    generator = torch.Generator().manual_seed(reach)
    solid = torch.rand(20, 30, generator=generator) < 0.02
    rows, columns = torch.cartesian_prod(torch.arange(20), torch.arange(30)).unbind(1)
    dilated = F.max_pool2d(solid[None].float(), 2 * reach + 1, 1, reach)[0] > 0
    found = any_within(solid, rows, columns, reach)
    assert torch.equal(found, dilated.flatten())


def sphere_alpha(cameras: Cameras, view: int, radius: float = 0.5) -> torch.Tensor:
    """Exact silhouette of a sphere at the origin, 8 bit."""
    rays = cameras.view_rays(view)
    along = -(rays.origins * rays.directions).sum(-1)
    nearest = (rays.origins + rays.directions * along[:, None]).norm(dim=-1)
    return ((nearest < radius) * 255).byte().view(*cameras.size(view)[::-1])


def test_bounds_follow_the_density() -> None:
    grid = full_grid(8)
    torch.testing.assert_close(grid.bounds(), BOX)
    grid.density.view(8, 8, 8)[:, :, 4:] = 0
    assert float(grid.bounds()[1, 2]) == 0
    grid.update(lambda points: (points[:, 0] > 0) * 100.0)
    assert float(grid.bounds()[0, 0]) == 0
    grid.density = torch.zeros_like(grid.density)
    torch.testing.assert_close(grid.bounds(), BOX)
