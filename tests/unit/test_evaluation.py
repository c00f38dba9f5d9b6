from __future__ import annotations

import pytest
import torch
from conftest import small_field

import memonf
from memonf.errors import InputError
from memonf.evaluation import barrier, evaluate, spread
from memonf.rendering import Renderer
from memonf.sampling import MarchSettings


def test_barrier_by_hand() -> None:
    assert barrier([0.0, 0.5, 1.0], [30.0, 20.0, 28.0]) == pytest.approx(9.0)
    assert barrier([0.0, 0.25, 1.0], [20.0, 24.0, 28.0]) == 0.0
    with pytest.raises(InputError, match="as many values"):
        barrier([0.0, 1.0], [1.0])


def test_groups_add_up(little_scene) -> None:
    robot = memonf.load_scene(little_scene)
    field = small_field("tiny_nerf")
    front, rear, every = (evaluate(field, robot, group=g) for g in ("front", "rear", "all"))
    assert {view.name for view in front.views} | {view.name for view in rear.views} == {
        view.name for view in every.views
    }
    mean = (front.psnr * len(front.views) + rear.psnr * len(rear.views)) / len(every.views)
    assert every.psnr == pytest.approx(mean)


def test_spread_keeps_the_ends(robot) -> None:
    views = robot.split("test")
    names = spread(views, 5).names
    assert (len(names), names[0], names[-1]) == (5, views.names[0], views.names[-1])
    assert spread(views, None) is views


def test_another_background_is_refused(robot) -> None:
    import dataclasses

    field = small_field("tiny_nerf")
    field.record = dataclasses.replace(field.record, background=(0.0, 0.0, 0.0))
    with pytest.raises(InputError, match="would compare different pictures"):
        evaluate(field, robot)


def test_sparse_pictures_are_those_of_dense_sampling(robot) -> None:
    """Thinning hidden samples and skipping empty cells costs next to nothing."""
    field = small_field("tiny_nerf")
    cameras = robot.split("test").cameras
    quick = Renderer.of(field)
    dense = Renderer(
        quick.field, quick.grid, quick.background, quick.near, quick.far,
        MarchSettings(step=0.2, hidden_rate=1.0),
    )  # fmt: skip
    error = (quick.view(cameras, 3).rgb - dense.view(cameras, 3).rgb).square().mean()
    assert -10 * torch.log10(error) > 30
