"""What parents teach along rays, on a ball whose density and colour are known everywhere."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import BOX

from memonf.cameras.cameras import Cameras, look_at
from memonf.fields import Field, FieldConfig, known
from memonf.merging import MergeProblem
from memonf.merging.distillation.asking import ask_parents
from memonf.merging.distillation.lessons import (
    FULL_WEIGHT,
    LEAST_KEPT,
    LEAST_SENSITIVITY,
    Lesson,
    SharedGrid,
    draw_lesson,
    join_lessons,
    lesson_of,
    point_error,
    ray_error,
)
from memonf.merging.parents import Parents
from memonf.rendering.knowledge import SOLID_RESOLUTION, union
from memonf.rendering.occupancy_grid import OccupancyGrid
from memonf.rendering.ray_marching import MarchSettings, RaySamples, march
from memonf.rendering.volume_rendering import compositing_weights

WHITE, BLACK = torch.ones(3), torch.zeros(3)
TENSORS = ("directions", "alpha", "rgb", "colour", "opacity", "rgb_weight", "alpha_weight")


class Ball(Field):
    """A ball with a soft skin, coloured by place: half of the light gets 0.07 deep."""

    name = "ball"
    Config = FieldConfig

    def __init__(self, radius: float, centre=(0.0, 0.0, 0.0), eye=(4.0, 0.0, 0.0)) -> None:
        super().__init__(FieldConfig(), BOX)
        self.register_buffer("radius", torch.tensor(radius))
        self.register_buffer("centre", torch.tensor(centre))
        poses = look_at(torch.tensor([eye]), torch.zeros(3))
        cameras = Cameras.pinhole(poses, 70.0, 32, 32)  # a third of the picture is ball
        self.record = dataclasses.replace(self.record, near=1.0, far=8.0, cameras=cameras)

    def raw(self, positions, directions):
        depth = self.radius - (positions - self.centre).norm(dim=-1)
        return 120 * depth, 3 * positions


class WithJunk(Ball):
    """The same ball with a second one behind it, where a camera in front sees nothing."""

    junk = 0.15

    def raw(self, positions, directions):
        density, rgb = super().raw(positions, directions)
        behind = torch.tensor([-0.82, 0.0, 0.0])
        return torch.maximum(density, 120 * (self.junk - (positions - behind).norm(dim=-1))), rgb


WHITE = torch.ones(3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shared_of(*parents: Field) -> SharedGrid:
    return SharedGrid.of(list(parents), [known(parent) for parent in parents], BOX)


@pytest.fixture(scope="module")
def ball() -> Ball:
    return Ball(0.6)


@pytest.fixture(scope="module")
def lesson(ball) -> Lesson:
    return draw_lesson(ball, ball.record.cameras, shared_of(ball), 600, generator())


def errors(lesson: Lesson, student: Field, background=WHITE) -> tuple[float, float]:
    density, rgb = student(lesson.samples.positions, lesson.directions)
    along = ray_error(lesson, density, rgb, background)
    return float(along), float(point_error(lesson, density, rgb))


def test_a_student_like_the_teacher_makes_no_error(lesson, ball) -> None:
    assert len(lesson.samples) > 1000
    assert lesson.opacity.max() > 0.99
    along, at_points = errors(lesson, ball)
    assert along < 1e-9
    assert at_points < 1e-9


def test_another_student_makes_errors(lesson, ball) -> None:
    along, at_points = errors(lesson, Ball(0.55))
    assert along > 1e-3
    assert at_points > 1e-4
    density, rgb = ball(lesson.samples.positions, lesson.directions)
    assert ray_error(lesson, density, rgb + 0.1, WHITE) == pytest.approx(
        float((0.1 * lesson.opacity).square().sum() / lesson.drawn), rel=1e-3
    )
    recoloured = point_error(lesson, density, rgb + 0.1)
    assert recoloured == pytest.approx(float(0.01 * lesson.rgb_weight.sum() / lesson.drawn), 1e-3)
    assert point_error(lesson, density + 1, rgb) > 1e-6


def test_errors_count_on_the_background_that_is_behind(lesson, ball) -> None:
    """White matter cannot be told from a white background, and can from a black one."""
    density, _ = ball(lesson.samples.positions, lesson.directions)
    white = torch.ones_like(lesson.rgb)
    taught = dataclasses.replace(lesson, rgb=white, colour=lesson.opacity[:, None].expand(-1, 3))
    assert ray_error(taught, 0.5 * density, white, WHITE) < 1e-9
    assert ray_error(taught, 0.5 * density, white, BLACK) > 1e-4


def test_rays_that_hit_nothing_count_as_drawn(lesson) -> None:
    """They are left out of the samples; the error is still a mean over all rays."""
    assert 0 < lesson.samples.rays < lesson.drawn == 600
    assert torch.equal(lesson.samples.ray.unique(), torch.arange(lesson.samples.rays))


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_parts_are_the_whole(lesson, parts: int) -> None:
    pieces = [lesson.part(number, parts) for number in range(parts)]
    assert all(abs(piece.samples.rays - lesson.samples.rays / parts) <= 1 for piece in pieces)
    joined = join_lessons(pieces)
    for name in ("positions", "distances", "lengths", "ray", "rank"):
        assert torch.equal(getattr(joined.samples, name), getattr(lesson.samples, name)), name
    for name in TENSORS:
        assert torch.equal(getattr(joined, name), getattr(lesson, name)), name
    assert joined.samples.rays == lesson.samples.rays
    assert joined.drawn == pytest.approx(lesson.drawn)
    assert pieces[0].samples.ray[0] == pieces[-1].samples.ray[0] == 0
    each = [errors(piece, Ball(0.55)) for piece in pieces]
    whole = errors(lesson, Ball(0.55))
    assert [sum(kind) / parts for kind in zip(*each, strict=True)] == pytest.approx(whole, rel=1e-4)


def test_joined_lessons_keep_their_rays_apart(ball) -> None:
    other = Ball(0.4, eye=(0.0, 4.0, 0.0))
    shared = shared_of(ball, other)
    lessons = [
        draw_lesson(one, one.record.cameras, shared, 200, generator()) for one in (ball, other)
    ]
    joined = join_lessons(lessons)
    assert joined.drawn == 400
    assert joined.samples.rays == sum(one.samples.rays for one in lessons)
    weights = [errors(one, Ball(0.5)) for one in lessons]
    mean = [sum(kind) / 2 for kind in zip(*weights, strict=True)]
    assert errors(joined, Ball(0.5)) == pytest.approx(mean, rel=1e-4)
    assert join_lessons(lessons[:1]) is lessons[0]


def marched(
    ball: Field, count: int = 40
) -> tuple[RaySamples, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples of some rays before they are thinned: samples, directions, density, rgb."""
    cameras = ball.record.cameras
    rays = cameras.view_rays(0)[torch.randint(32 * 32, (count,), generator=generator(1))]
    samples = march(rays, shared_of(ball).grid, MarchSettings(), generator=generator(2))
    directions = rays.directions[samples.ray]
    density, rgb = ball(samples.positions, directions)
    return samples, directions, density, rgb


def test_thinning_keeps_the_expected_optical_depth() -> None:
    """Thin air, then a wall, then what the wall hides: all of it is thinned without a bias."""
    rays, most, seeds = 30, 40, 400
    optical_depth = 0.01 * torch.rand(rays, most, generator=generator(1))
    optical_depth[:, 30] = 6.0
    place = torch.arange(most).expand(rays, most).flatten()
    samples = RaySamples(
        torch.rand(rays * most, 3), place.float(), torch.full((rays * most,), 0.5),
        torch.arange(rays).repeat_interleave(most), place, rays,
    )  # fmt: skip
    density, rgb = 2 * optical_depth.flatten(), torch.rand(rays * most, 3)
    found = torch.zeros(seeds, most)
    for seed in range(seeds):
        lesson = lesson_of(samples, rgb, density, rgb, WHITE, rays, generator(seed))
        rank = lesson.samples.distances.long()
        found[seed].index_add_(0, rank, -(1 - lesson.alpha.double()).log().float())
        assert len(lesson.samples) < 0.8 * len(samples)
    for stretch in (slice(0, 15), slice(15, 30), slice(31, 40)):
        expected = float(optical_depth[:, stretch].sum())
        totals = found[:, stretch].sum(1)
        assert totals.std() > 0.02 * expected  # there is a choice
        error = abs(float(totals.mean()) - expected)
        assert error < 4 * float(totals.std()) / seeds**0.5
        assert error < 0.05 * expected
    torch.testing.assert_close(found[0, 30], optical_depth[:, 30].sum(), rtol=1e-3, atol=0)


def test_samples_that_count_stay_as_they_are(ball) -> None:
    samples, directions, density, rgb = marched(ball)
    weights = compositing_weights(samples.padded(density), samples.padded(samples.lengths))
    weight = weights[samples.ray, samples.rank]
    thinned = lesson_of(samples, directions, density, rgb, WHITE, 40, generator()).samples
    rows = {tuple(row): place for place, row in enumerate(samples.positions.tolist())}
    origin = torch.tensor([rows[tuple(row)] for row in thinned.positions.tolist()])
    assert torch.equal(origin, origin.sort().values)  # in order, none twice
    assert set((weight >= FULL_WEIGHT).nonzero()[:, 0].tolist()) <= set(origin.tolist())
    stretched = thinned.lengths / samples.lengths[origin]
    expected = 1 / (weight[origin] / FULL_WEIGHT).clamp(LEAST_KEPT, 1)
    torch.testing.assert_close(stretched, expected)
    assert stretched.max() == pytest.approx(1 / LEAST_KEPT)
    # Ray and rank count anew, without gaps.
    assert torch.equal(thinned.ray.unique(), torch.arange(thinned.rays))
    ranks = [torch.arange(int(count)) for count in thinned.ray.bincount()]
    assert torch.equal(thinned.rank, torch.cat(ranks))


def test_weights_are_the_derivatives_of_the_picture(lesson) -> None:
    """∂C/∂c = w and ∂C/∂α = T (c − b), on white, by autograd through plain alpha compositing."""
    samples = lesson.samples
    alpha = lesson.alpha.double().requires_grad_()
    rgb = lesson.rgb.double().requires_grad_()
    along = samples.padded(alpha)
    passed = torch.cumprod(torch.cat([torch.ones_like(along[:, :1]), 1 - along], 1), 1)
    weights = passed[:, :-1] * along
    colour = (weights[..., None] * samples.padded(rgb)).sum(1) + passed[:, -1:]
    torch.testing.assert_close(
        (lesson.colour + 1 - lesson.opacity[:, None]).double(), colour.detach(), rtol=0, atol=1e-5
    )
    squared = torch.zeros_like(lesson.alpha).double()
    for channel in range(3):
        by_alpha, by_rgb = torch.autograd.grad(
            colour[:, channel].sum(), (alpha, rgb), retain_graph=True
        )
        squared += by_alpha.square()
        torch.testing.assert_close(
            lesson.rgb_weight.double(), by_rgb[:, channel].square(), rtol=1e-3, atol=1e-6
        )
    transmittance = passed[samples.ray, samples.rank].detach()
    sensitive = lesson.alpha_weight - LEAST_SENSITIVITY * transmittance.square()
    # What is left of the light behind the others is too little to divide by.
    untouched = (transmittance * (1 - alpha.detach())) > 1e-3
    assert untouched.sum() > 200
    assert squared[untouched].max() > 0.1
    torch.testing.assert_close(sensitive[untouched], squared[untouched], rtol=1e-2, atol=1e-4)


def test_empty_space_keeps_clear_of_matter(ball) -> None:
    parents = [ball, Ball(0.3, (0.0, 0.0, 0.5), eye=(-4.0, 0.0, 0.0))]
    knowledge = [known(parent) for parent in parents]
    shared = SharedGrid.of(parents, knowledge, BOX)
    empty = torch.zeros(SOLID_RESOLUTION**3, dtype=torch.bool)
    empty[shared.grid.cell_index(shared.empty)] = True
    assert 0.2 < float(empty.float().mean()) < 0.95
    assert not (empty & shared.grid.occupied).any()
    together = union(knowledge, BOX)
    assert together.solid.any()
    grown = torch.nn.functional.max_pool3d(together.solid[None].float(), 5, 1, 2).flatten()
    assert not (empty & (grown > 0)).any()
    assert (together.views_on(shared.grid)[empty] > 0).all()
    points = shared.empty_points(2000, generator())
    assert points.shape == (2000, 3)
    assert empty[shared.grid.cell_index(points)].all()
    assert len(points.unique(dim=0)) == 2000


def test_without_empty_space_there_are_no_points_in_it() -> None:
    shared = SharedGrid(OccupancyGrid(BOX, SOLID_RESOLUTION), torch.zeros(0, 3))
    assert shared.empty_points(7, generator()).shape == (0, 3)


def test_matter_that_its_parent_never_saw_is_not_asked_for(ball) -> None:
    """Behind the ball a parent may say what it likes: no camera of it saw that."""
    junk = WithJunk(0.6)
    behind = torch.tensor([[-0.82, 0.0, 0.0]])
    assert junk.density(behind) > 10
    plain, with_junk = shared_of(ball), shared_of(junk)
    assert torch.equal(plain.grid.occupied, with_junk.grid.occupied)
    assert not with_junk.grid.occupied[with_junk.grid.cell_index(behind)]
    # From behind, the same matter is seen and asked for.
    turned = WithJunk(0.6, eye=(-4.0, 0.0, 0.0))
    shared = shared_of(ball, turned)
    face = torch.tensor([[-0.92, 0.0, 0.0]])
    assert shared.grid.occupied[shared.grid.cell_index(face)]
    # A parent that did not see a place has no say in how dense it is there either.
    junk.junk = 0.17
    assert junk.density(face) > turned.density(face) + 10
    assert torch.equal(shared_of(junk, turned).grid.density, shared.grid.density)


def test_all_matter_that_was_seen_is_asked_for(ball) -> None:
    knowledge = known(ball)
    shared = shared_of(ball)
    seen_solid = knowledge.solid_on(shared.grid) & (knowledge.views_on(shared.grid) > 0)
    assert seen_solid.sum() > 1000
    assert shared.grid.occupied[seen_solid].all()
    centres = shared.grid.centres()
    assert not shared.grid.occupied[centres.norm(dim=-1) < 0.4].any()  # its inside was not seen


def test_parents_share_the_rays_by_coefficients_and_cameras(ball) -> None:
    poses = look_at(torch.tensor([[-4.0, 0.0, 0.0]] * 3), torch.zeros(3))
    other = Ball(0.58)
    cameras = Cameras.pinhole(poses, 70.0, 32, 32)
    other.record = dataclasses.replace(other.record, cameras=cameras)
    shared = shared_of(ball, other)
    problem = MergeProblem(Parents([ball, other]))
    for coefficients in ((0.5, 0.5), (0.75, 0.25)):
        lessons = ask_parents(problem, coefficients, shared, 800)
        drawn = sorted(one.drawn for one in lessons)
        weights = (coefficients[0], 3 * coefficients[1])
        assert drawn == sorted(800 * weight / sum(weights) for weight in weights)


def test_what_lies_behind_is_the_parents_own_background() -> None:
    """White matter matters on black, and hardly on white; black matter the other way round."""
    samples = RaySamples(
        torch.zeros(2, 3), torch.ones(2), torch.ones(2), torch.tensor([0, 1]),
        torch.zeros(2, dtype=torch.long), 2,
    )  # fmt: skip
    rgb = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])  # one ray of each
    weights = [
        lesson_of(
            samples, torch.zeros(2, 3), torch.full((2,), 5.0), rgb, torch.full((3,), shade), 2,
            torch.Generator(),
        ).alpha_weight
        for shade in (0.0, 1.0)
    ]  # fmt: skip
    assert weights[0][0] > 100 * weights[0][1]
    assert weights[1][1] > 100 * weights[1][0]
