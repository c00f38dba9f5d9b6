"""What cameras see of scenes whose answer is known: walls, fog, balls and air."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from conftest import BOX, small_field

from memonf.cameras.cameras import Cameras, look_at, turntable
from memonf.fields import known
from memonf.rendering.knowledge import (
    MOST_PIXELS,
    RESOLUTION,
    SOLID_RESOLUTION,
    Knowledge,
    assumed_cameras,
    disagreement,
    grown,
    look_up,
    observe,
    on_grid,
    union,
)
from memonf.rendering.occupancy_grid import OccupancyGrid

#: Half a diagonal of a cell: what it takes for a cell to be wholly on one side of a plane.
REACH = 0.5 * math.sqrt(3) * 2 / RESOLUTION
CENTRES = OccupancyGrid(BOX, RESOLUTION).centres()
X, Y, Z = CENTRES.unbind(-1)
FINE = OccupancyGrid(BOX, SOLID_RESOLUTION).centres()

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def air() -> OccupancyGrid:
    grid = OccupancyGrid(BOX, SOLID_RESOLUTION)
    grid.density = torch.zeros_like(grid.density)
    return grid


def matter(where: Callable[[torch.Tensor], torch.Tensor], density: float = 1e3) -> OccupancyGrid:
    grid = air()
    grid.density[where(grid.centres())] = density
    return grid


def wall(low: float, high: float, density: float = 1e3) -> OccupancyGrid:
    """Matter between two planes across the x axis."""
    return matter(lambda at: (at[:, 0] > low) & (at[:, 0] < high), density)


def ball(radius: float, centre: Sequence[float] = (0.0, 0.0, 0.0)) -> OccupancyGrid:
    return matter(lambda at: (at - torch.tensor(centre)).norm(dim=-1) < radius)


def camera(*eyes: Sequence[float], degrees: float = 60.0, size: int = 60) -> Cameras:
    """Cameras that look at the origin; by default the whole box is in their pictures."""
    focal = 0.5 * size / math.tan(math.radians(degrees / 2))
    return Cameras.pinhole(look_at(torch.tensor(eyes), torch.zeros(3)), focal, size, size)


def seen(knowledge: Knowledge) -> torch.Tensor:
    return knowledge.views.flatten() > 0


def knowledge_of(
    views: torch.Tensor | int, solid: torch.Tensor | bool = False, sides: int = 1, box=BOX
) -> Knowledge:
    """Knowledge by hand: values for all cells, or one for each."""
    shape = (RESOLUTION,) * 3
    return Knowledge(
        box,
        torch.as_tensor(views).expand(RESOLUTION**3).reshape(shape).to(torch.uint8),
        torch.full(shape, sides, dtype=torch.uint8),
        torch.as_tensor(solid).expand(SOLID_RESOLUTION**3).reshape((SOLID_RESOLUTION,) * 3).clone(),
    )


def test_a_wall_hides_what_is_behind_it() -> None:
    knowledge = observe(wall(0.0, 0.2), camera((4.0, 0.0, 0.0)))
    assert seen(knowledge)[X > 0.2].all()
    assert not seen(knowledge)[X < 0.2 - 2 * REACH].any()
    assert torch.equal(knowledge.solid.flatten(), (FINE[:, 0] > 0) & (FINE[:, 0] < 0.2))
    behind = observe(wall(0.0, 0.2), camera((-4.0, 0.0, 0.0)))
    assert seen(behind)[X < 0.0].all()
    assert not seen(behind)[X > 2 * REACH].any()


def test_free_space_that_was_seen_is_knowledge() -> None:
    everything = observe(air(), camera((4.0, 0.0, 0.0)))
    assert (everything.seen_share, everything.seen_empty_share) == (1.0, 1.0)
    half = observe(wall(0.0, 0.2), camera((4.0, 0.0, 0.0)))
    assert half.seen_empty_share == pytest.approx(0.4, abs=1e-6)
    assert 0.4 < half.seen_share < 0.5  # the face of the wall is seen too
    front = torch.tensor([[0.5, 0.1, 0.1]])
    assert (half.views_at(front), half.solid_at(front)) == (1, False)


def test_what_is_outside_the_picture_is_not_seen() -> None:
    eye = torch.tensor([4.0, 0.0, 0.0])
    knowledge = observe(air(), camera(eye.tolist(), degrees=20))
    slope = torch.maximum(Y.abs(), Z.abs()) / (eye[0] - X)
    limit = math.tan(math.radians(10))
    clear = (slope - limit).abs() > 1e-4  # rounding decides on the very edge
    assert torch.equal(seen(knowledge)[clear], (slope < limit)[clear])
    assert 0.2 < knowledge.seen_share < 0.8
    turned_away = look_at(torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([8.0, 0.0, 0.0]))
    assert not seen(observe(air(), Cameras.pinhole(turned_away, 60.0, 60, 60))).any()


def test_views_count_the_cameras() -> None:
    front, side, rear = (4.0, 0.0, 0.0), (0.0, 4.0, 0.0), (-4.0, 0.0, 0.0)
    assert (observe(air(), camera(front, side, rear)).views == 3).all()
    grid = wall(0.0, 0.2)
    alone = [observe(grid, camera(eye)).views.int() for eye in (front, front, rear)]
    together = observe(grid, camera(front, front, rear)).views
    assert torch.equal(together.int(), torch.stack(alone).sum(0))
    assert (together.flatten()[X > 0.2] == 2).all()
    assert (together.flatten()[X < 0.0] == 1).all()


def test_many_pixels_are_not_looked_through_and_change_nothing() -> None:
    small = observe(ball(0.5), camera((3.0, 2.0, 2.0), size=MOST_PIXELS))
    large = observe(ball(0.5), camera((3.0, 2.0, 2.0), size=20 * MOST_PIXELS))
    assert torch.equal(small.views, large.views)
    assert 0.7 < small.seen_share < 1


@pytest.mark.parametrize(
    ("eye", "octant"),
    [
        ((3.0, 3.0, 3.0), 7), ((3.0, 3.0, -3.0), 6), ((3.0, -3.0, 3.0), 5), ((3.0, -3.0, -3.0), 4),
        ((-3.0, 3.0, 3.0), 3), ((-3.0, 3.0, -3.0), 2), ((-3.0, -3.0, 3.0), 1),
        ((-3.0, -3.0, -3.0), 0),
    ],
)  # fmt: skip
def test_sides_name_the_octant_of_the_camera(eye, octant: int) -> None:
    assert (observe(air(), camera(eye)).sides == 1 << octant).all()


def test_sides_are_those_of_the_cameras_that_saw() -> None:
    """Along an axis the octant changes within the box; a hidden camera leaves no mark."""
    front = observe(air(), camera((4.0, 0.0, 0.0))).sides.flatten()
    octant = 4 + 2 * (Y < 0) + 1 * (Z < 0)
    assert torch.equal(front.long(), 1 << octant.long())
    both = observe(wall(0.0, 0.2), camera((9.0, 1.5, 1.5), (-9.0, -1.5, -1.5)))
    axis = (Y.abs() < 0.5) & (Z.abs() < 0.5)  # no camera looks past the rim of the wall
    assert (both.sides.flatten()[axis & (X > 0.2 + 2 * REACH)] == 1 << 7).all()
    assert (both.sides.flatten()[axis & (X < -2 * REACH)] == 1 << 0).all()
    assert (observe(air(), camera((3.0, 3.0, 3.0), (-3.0, -3.0, -3.0))).sides == 0b10000001).all()
    assert torch.equal(both.sides > 0, both.views > 0)


def test_fog_is_seen_to_half_its_light() -> None:
    """Half of the light is gone after ln 2 / σ: here 0.8 deep, counted from the face at x = 1."""
    fog = wall(-1.0, 1.0, density=math.log(2) / 0.8)
    knowledge = observe(fog, camera((40.0, 0.0, 0.0), degrees=4))
    depth = 1 - X
    axis = (Y.abs() < 0.5) & (Z.abs() < 0.5)
    assert seen(knowledge)[axis & (depth < 0.8)].all()
    assert not seen(knowledge)[axis & (depth > 0.8 + 2 * REACH)].any()


def test_one_translucent_wall_shows_what_is_behind_and_two_do_not() -> None:
    density = -math.log(0.6) / 0.2  # a wall 0.2 thick lets 60 % through, two of them 36 %
    front = camera((40.0, 0.0, 0.0), degrees=4)
    axis = (Y.abs() < 0.5) & (Z.abs() < 0.5)
    one, other = wall(0.4, 0.6, density), wall(-0.2, 0.0, density)
    assert seen(observe(one, front))[axis].all()
    one.density += other.density
    both = seen(observe(one, front))
    assert both[axis & (X > 0.0)].all()
    assert not both[axis & (X < -0.2)].any()


def test_beyond_near_and_far_nothing_is_seen() -> None:
    eye = camera((4.0, 0.0, 0.0))
    distance = (CENTRES - eye.positions[0]).norm(dim=-1)
    knowledge = observe(air(), eye, near=3.5, far=4.5)
    assert seen(knowledge)[(distance > 3.5) & (distance < 4.5)].all()
    assert not seen(knowledge)[(distance < 3.5 - REACH - 1e-4)].any()
    assert not seen(knowledge)[(distance > 4.5 + REACH + 1e-4)].any()


def test_matter_nearer_than_near_hides_nothing() -> None:
    grid, eye = wall(0.7, 0.9), camera((4.0, 0.0, 0.0), degrees=20)
    behind = (X < 0.4) & (Y.abs() < 0.3) & (Z.abs() < 0.3)
    assert not seen(observe(grid, eye))[behind].any()
    assert seen(observe(grid, eye, near=3.5))[behind].all()


def test_known_believes_the_record_and_looks_without_one() -> None:
    field = small_field("tiny_nerf")
    found = known(field)
    assert 0.5 < found.seen_share <= 1
    recorded = knowledge_of(3)
    field.record = dataclasses.replace(field.record, knowledge=recorded)
    assert torch.equal(known(field).views, recorded.views)
    assert not torch.equal(found.views, recorded.views)
    grid = OccupancyGrid(field.aabb, SOLID_RESOLUTION)
    grid.update(field.density)
    again = known(field, grid)
    assert torch.equal(again.views, found.views)
    assert torch.equal(again.solid, found.solid)


def test_a_field_without_cameras_was_seen_from_all_round(monkeypatch) -> None:
    monkeypatch.setattr("memonf.fields.base.assumed_cameras", lambda box: assumed_cameras(box, 6))
    field = small_field("tiny_nerf")
    field.record = dataclasses.replace(field.record, cameras=None)
    grid = OccupancyGrid(field.aabb, SOLID_RESOLUTION)
    grid.update(field.density)
    found = known(field)
    assert torch.equal(found.views, observe(grid, assumed_cameras(field.aabb, 6)).views)
    assert found.views.max() == 6  # its turntable has four


def test_the_outside_of_a_ball_is_seen_from_all_round_and_its_inside_is_not() -> None:
    knowledge = observe(ball(0.6), assumed_cameras(BOX))
    radius = CENTRES.norm(dim=-1)
    assert (knowledge.views.flatten()[radius > 0.65] >= 5).all()
    assert not seen(knowledge)[radius < 0.6 - 2 * REACH].any()
    # A cell is seen from its own octant, and not from the opposite one through the ball.
    sides = knowledge.sides.flatten().long()
    own = 4 * (X > 0) + 2 * (Y > 0) + 1 * (Z > 0)
    near = (radius > 0.65) & (radius < 0.7) & (CENTRES.abs().amin(-1) > 0.36)
    assert near.sum() > 20
    assert ((sides >> own) & 1)[near].all()
    assert not ((sides >> (7 - own)) & 1)[near].any()


@pytest.mark.parametrize("box", [BOX, torch.tensor([[1.0, -2.0, 0.5], [2.0, 3.0, 1.5]])])
def test_assumed_cameras_have_the_whole_box_in_their_pictures(box: torch.Tensor) -> None:
    cameras = assumed_cameras(box)
    corners = torch.cartesian_prod(*box.T)
    widest = 0
    for view in range(len(cameras)):
        rows, columns, _, inside = cameras.project(corners, view)
        assert inside.all()
        widest = max(widest, int((torch.cat([rows, columns]) - MOST_PIXELS // 2).abs().max()))
    assert widest > 0.4 * MOST_PIXELS  # and they look no wider than that
    towards = cameras.positions - box.mean(0)
    signs = {tuple(row) for row in (towards > 0).tolist()}
    assert len(signs) == 8
    centred = towards / towards.norm(dim=-1, keepdim=True)
    assert centred.mean(0).norm() < 0.05


def test_union_adds_views_and_ors_sides() -> None:
    first = knowledge_of((X < 0).long() * 3, sides=0b0011)
    second = knowledge_of(2, sides=0b0110)
    both = union([first, second], BOX)
    assert torch.equal(both.views.flatten(), torch.where(X < 0, 5, 2).to(torch.uint8))
    assert (both.sides == 0b0111).all()
    assert (union([knowledge_of(200), knowledge_of(100)], BOX).views == 255).all()
    alone = union([first], BOX)
    assert torch.equal(alone.views, first.views)
    assert torch.equal(alone.sides, first.sides)


def test_union_does_not_depend_on_the_order() -> None:
    grid = ball(0.6)
    eyes = ((4.0, 0.0, 0.0), (-3.0, 3.0, 1.0), (0.0, -4.0, 0.0))
    parts = [observe(grid, camera(eye)) for eye in eyes]
    one, other = union(parts, BOX), union(parts[::-1], BOX)
    for name in ("views", "sides", "solid"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize(
    ("solid_views", "empty_views", "expected"),
    [(1, 0, True), (1, 3, True), (1, 4, False), (2, 4, True), (0, 1, False), (0, 0, False)],
)
def test_union_is_solid_by_a_quarter_of_the_views(solid_views, empty_views, expected) -> None:
    parts = [knowledge_of(solid_views, solid=True), knowledge_of(empty_views, solid=False)]
    assert (union(parts, BOX).solid == expected).all()


def test_union_in_a_larger_box_keeps_the_places() -> None:
    views = (1 + (X > 0).long() + 2 * (Y > 0.5) + 4 * (Z < -0.5)).view(RESOLUTION, -1).flatten()
    solid = (FINE - torch.tensor([0.4, 0.0, 0.0])).norm(dim=-1) < 0.4
    part = knowledge_of(views, solid=solid, sides=0b101)
    larger = torch.tensor([[-2.0, -1.5, -1.0], [2.0, 1.5, 3.0]])
    found = union([part], larger)
    assert torch.equal(found.aabb, larger)
    x, y, z = OccupancyGrid(larger, RESOLUTION).centres().unbind(-1)
    inside = (x.abs() < 1) & (y.abs() < 1) & (z.abs() < 1)
    expected = (1 + (x > 0).long() + 2 * (y > 0.5) + 4 * (z < -0.5)) * inside
    assert torch.equal(found.views.flatten().long(), expected)
    assert torch.equal(found.sides.flatten() == 0b101, inside)
    fine = OccupancyGrid(larger, SOLID_RESOLUTION).centres()
    from_middle = (fine - torch.tensor([0.4, 0.0, 0.0])).norm(dim=-1)
    clear = (from_middle - 0.4).abs() > 2 * REACH
    assert torch.equal(found.solid.flatten()[clear], (from_middle < 0.4)[clear])
    assert from_middle[found.solid.flatten()].max() < 0.4 + 2 * REACH


def test_one_scene_does_not_contradict_itself() -> None:
    front, rear = (observe(ball(0.6), camera((x, 0.0, 1.5))) for x in (3.5, -3.5))
    assert disagreement(front, front) == 0
    assert disagreement(front, rear) == 0


def test_different_scenes_contradict_each_other() -> None:
    eyes = camera((4.0, 0.0, 0.0), (-4.0, 0.0, 0.0), (0.0, 4.0, 0.0))
    left = observe(ball(0.3, (0.0, 0.0, -0.5)), eyes)
    right = observe(ball(0.3, (0.0, 0.0, 0.5)), eyes)
    assert disagreement(left, right) == 1
    assert disagreement(left, left) == 0
    near = observe(ball(0.3, (0.0, 0.0, -0.25)), eyes)  # overlaps by half
    assert 0.2 < disagreement(left, near) < 0.9
    assert disagreement(left, near) == disagreement(near, left)


def test_a_surface_one_cell_off_is_no_contradiction() -> None:
    eyes = camera((4.0, 0.0, 0.0), (-4.0, 0.0, 0.0))
    fine = 2 / SOLID_RESOLUTION
    at = observe(wall(0.0, 2 * fine), eyes)
    assert disagreement(at, observe(wall(fine, 3 * fine), eyes)) == 0
    assert disagreement(at, observe(wall(4 * fine, 6 * fine), eyes)) == 1


def test_without_common_matter_there_is_no_evidence() -> None:
    thick = wall(-0.4, 0.4)
    front, rear = (observe(thick, camera((x, 0.0, 0.0))) for x in (4.0, -4.0))
    assert disagreement(front, rear) is None  # nothing seen in common
    empty = observe(air(), camera((4.0, 0.0, 0.0)))
    assert disagreement(empty, empty) is None  # nothing solid in common
    assert disagreement(front, empty) == 1


def test_look_up_by_hand() -> None:
    values = torch.arange(8.0).view(2, 2, 2) + 1  # x slowest
    at = torch.tensor([[-0.5, -0.5, 0.5], [0.5, -0.5, -0.5], [-0.5, 0.5, -0.5], [0.5, 0.5, 0.5]])
    assert look_up(values, BOX, at).tolist() == [2, 5, 3, 8]
    outside = torch.tensor([[1.1, 0.0, 0.0], [0.0, -1.1, 0.0], [0.0, 0.0, 7.0]])
    assert look_up(values, BOX, outside).tolist() == [0, 0, 0]


@pytest.mark.parametrize("resolution", [5, 10, 15, 20, 30])
@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_on_grid_is_look_up_at_the_centres(resolution: int, moved: float) -> None:
    values = torch.rand((10, 10, 10), generator=torch.Generator().manual_seed(1)) + 1
    grid = OccupancyGrid(BOX + moved, resolution)
    assert torch.equal(on_grid(values, BOX, grid), look_up(values, BOX, grid.centres()))
    assert (on_grid(values, BOX, grid) == 0).any() == (moved > 0)


def test_a_margin_grows_matter_by_cells() -> None:
    solid = torch.zeros((SOLID_RESOLUTION,) * 3, dtype=torch.bool)
    solid[40, 40, 40] = True
    knowledge = knowledge_of(1, solid=solid.flatten())
    for margin in (0, 1, 2):
        grown = knowledge.solid_at(FINE, margin)
        assert grown.sum() == (2 * margin + 1) ** 3
        grid = OccupancyGrid(BOX, SOLID_RESOLUTION)
        assert torch.equal(grown, knowledge.solid_on(grid, margin))


@needs_gpu
def test_knowledge_stays_on_its_device() -> None:
    on_cpu = observe(ball(0.6), turntable(3, 32, 4.0, torch.zeros(3)))
    grid = OccupancyGrid(BOX.to("cuda"), SOLID_RESOLUTION)
    grid.density = ball(0.6).density.to("cuda")
    on_gpu = observe(grid, turntable(3, 32, 4.0, torch.zeros(3)))
    joined = union([on_gpu, on_cpu.to("cuda")], grid.aabb)
    for knowledge in (on_gpu, joined):
        assert {knowledge.views.device.type, knowledge.solid.device.type} == {"cuda"}
    assert (on_gpu.views.cpu() != on_cpu.views).float().mean() < 1e-3
    assert disagreement(on_gpu, joined) == 0


@pytest.mark.parametrize("cells", [0, 1, 2])
def test_solid_cells_grow_by_a_cube(cells: int) -> None:
    solid = torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.02
    pooled = torch.nn.functional.max_pool3d(solid[None].float(), 2 * cells + 1, 1, cells)[0] > 0
    assert torch.equal(grown(solid, cells), pooled)
