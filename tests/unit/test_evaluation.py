from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import small_field

import memonf
from memonf.data import Pictures
from memonf.errors import InputError
from memonf.evaluation.evaluate import barrier, evaluate, spread
from memonf.rendering.ray_marching import MarchSettings
from memonf.rendering.volume_rendering import Renderer


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


def test_pictures_with_alpha_are_put_on_the_fields_background(robot) -> None:
    field = small_field("tiny_nerf")
    field.record = dataclasses.replace(field.record, background=(0.0, 0.0, 0.0))
    found = evaluate(field, robot, most_views=2)
    assert "background (0, 0, 0), the field's own, behind the pictures' alpha" in found.protocol
    black = evaluate(field, dataclasses.replace(robot, background=(0.0, 0.0, 0.0)), most_views=2)
    assert found.psnr == black.psnr
    assert "the field's own" not in black.protocol


def test_pictures_without_alpha_on_another_background_are_refused(robot) -> None:
    test = robot.split("test")[[0, 1]]
    views = dataclasses.replace(test, stored=Pictures.of(test.images[..., :3]), places=None)
    scene = dataclasses.replace(robot, loaders={"test": lambda: views}, _loaded={})
    field = small_field("tiny_nerf")
    field.record = dataclasses.replace(field.record, background=(0.0, 0.5, 0.25))
    with pytest.raises(InputError, match=r"stand on white.*add `--background 0 0.5 0.25`"):
        evaluate(field, scene)
    evaluate(field, dataclasses.replace(scene, background=(0.0, 0.5, 0.25)))


def test_views_without_a_pixel_that_counts_are_left_out_or_refused(robot) -> None:
    test = robot.split("test")[[0, 1]]
    masks = torch.full((*test.images.shape[:3], 1), 255, dtype=torch.uint8)
    masks[1] = 0
    views = dataclasses.replace(
        test, stored=Pictures.of(test.images), places=None, masks=Pictures.of(masks)
    )
    scene = dataclasses.replace(robot, loaders={"test": lambda: views}, _loaded={})
    field = small_field("tiny_nerf")
    found = evaluate(field, scene)
    assert [view.name for view in found.views] == [test.names[0]]
    assert "; 1 without a pixel that counts left out" in found.protocol
    masks[0] = 0
    hidden = dataclasses.replace(views, masks=Pictures.of(masks))
    with pytest.raises(InputError, match="all 2 views leave no pixel to compare"):
        evaluate(field, dataclasses.replace(scene, loaders={"test": lambda: hidden}, _loaded={}))


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
