from __future__ import annotations

import math

import pytest
import torch

from memonf.cameras.cameras import Cameras, look_at, turntable
from memonf.errors import DataError

IDENTITY = torch.eye(4)[None]


def test_camera_looks_along_minus_z_with_y_up() -> None:
    camera = Cameras.pinhole(IDENTITY, focal=2.0, width=4, height=2)
    # The principal point (2, 1) lies between pixels; the pixel up and right of it is (row 0, 2).
    ray = camera.rays(torch.tensor([0]), torch.tensor([0]), torch.tensor([2]))
    expected = torch.tensor([0.25, 0.25, -1.0])
    torch.testing.assert_close(ray.directions[0], expected / expected.norm())
    torch.testing.assert_close(ray.origins[0], torch.zeros(3))


def test_view_rays_go_row_by_row() -> None:
    camera = Cameras.pinhole(IDENTITY, focal=2.0, width=3, height=2)
    rays = camera.view_rays(0)
    assert len(rays) == 6
    assert (rays.directions[:3, 1] > 0).all()  # the first row is the upper one
    assert rays.directions[0, 0] < rays.directions[1, 0] < rays.directions[2, 0]


def test_resized_camera_sees_the_same() -> None:
    camera = Cameras.pinhole(IDENTITY, focal=3.0, width=4, height=4)
    large = camera.resized(8, 8)
    # The corner between four small pixels is one point of the picture plane in both.
    small_corner = camera.rays(torch.tensor([0]), torch.tensor([0.5]), torch.tensor([0.5]))
    large_corner = large.rays(torch.tensor([0]), torch.tensor([1.5]), torch.tensor([1.5]))
    torch.testing.assert_close(small_corner.directions, large_corner.directions)


def test_turntable_starts_at_the_front_and_looks_at_the_target() -> None:
    target = torch.tensor([0.1, 0.2, 0.3])
    cameras = turntable(8, 16, radius=4.0, target=target, elevation=30.0)
    assert cameras.positions[0, 1] < target[1] - 3
    to_target = torch.nn.functional.normalize(target - cameras.positions, dim=-1)
    torch.testing.assert_close(to_target, -cameras.camera_to_world[:, :, 2], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        cameras.positions[:, 2] - target[2], torch.full((8,), 4 * math.sin(math.radians(30)))
    )


def test_look_at_from_straight_above_is_a_rotation() -> None:
    pose = look_at(torch.tensor([[0.0, 0.0, 3.0]]), torch.zeros(3))
    Cameras.pinhole(pose, 10.0, 4, 4)  # refuses what is not a rotation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pose: pose * float("nan"), "pose 1: expected finite"),
        (lambda pose: pose * 2, "pose 1: expected a rotation"),
        (lambda pose: pose @ torch.diag(torch.tensor([-1.0, 1, 1, 1])), "determinant"),
    ],
)
def test_unusable_poses_are_refused_by_number(change, message: str) -> None:
    poses = torch.stack([torch.eye(4), change(torch.eye(4))])
    with pytest.raises(DataError, match=message):
        Cameras.pinhole(poses, 10.0, 4, 4)
