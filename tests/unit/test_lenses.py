"""Lenses bend rays as OpenCV's models say, and back."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
import torch

from memonf.cameras import Cameras, same_size, turntable
from memonf.lenses import Lenses

WIDTH, HEIGHT = 24, 18
LENS = (0.09, -0.12, 0.02, 0.0, 0.003, -0.002)
FISHEYE = (0.05, -0.01, 0.004, -0.001, 0.0, 0.0)


@pytest.mark.parametrize(
    ("model", "fisheye", "lens"),
    [("FULL_OPENCV", False, LENS), ("OPENCV_FISHEYE", True, FISHEYE)],
)
def test_lenses_are_those_of_opencv(model: str, fisheye: bool, lens: tuple[float, ...]) -> None:
    k1, k2, k3, k4, p1, p2 = lens
    params = [1.0, 1.0, 0.0, 0.0, k1, k2, *((k3, k4) if fisheye else (p1, p2, k3, 0, 0, 0))]
    camera = pycolmap.Camera(model=model, width=2, height=2, params=params)
    points = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.7
    expected = [camera.img_from_cam(np.array([x, y, 1.0])) for x, y in points.tolist()]
    lenses = Lenses(torch.tensor([lens]), torch.tensor([fisheye]))
    seen = lenses.distort(points, 0)
    np.testing.assert_allclose(seen.numpy(), np.stack(expected).reshape(-1, 2), atol=2e-6)
    direction = lenses.undistort(seen, 0)
    torch.testing.assert_close(direction[:, :2] / direction[:, 2:], points, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("fisheye", "lens"), [(False, LENS), (True, FISHEYE)])
def test_a_ray_meets_the_pixel_that_it_left(fisheye: bool, lens: tuple[float, ...]) -> None:
    cameras = Cameras(
        turntable(1, 24, 5.0, torch.zeros(3)).camera_to_world,
        torch.tensor([[24.0, 24.5, 11.0, 9.5]]), same_size(1, WIDTH, HEIGHT),
        Lenses(torch.tensor([lens]), torch.tensor([fisheye])),
    )  # fmt: skip
    rays = cameras.view_rays(0)
    rows, columns, _, inside = cameras.project(rays.origins + 2.5 * rays.directions, 0)
    assert inside.all()
    assert (rows * WIDTH + columns).tolist() == list(range(WIDTH * HEIGHT))
