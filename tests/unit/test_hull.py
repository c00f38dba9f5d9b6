"""Boxes follow what alpha channels outline: coarse to fine, whatever the layout and the units."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from object_captures import (
    BALLS,
    BOX,
    SIZE,
    orbit,
    pictures,
    turned_away,
    with_lens,
    write_object,
)

import memonf
from memonf.cameras.cameras import Cameras, look_at
from memonf.cameras.distortion import Lens
from memonf.cli.data_options import FromData
from memonf.cli.main import main
from memonf.data.hull import Seen, find_object, outline
from memonf.data.narrowing import rounded_up
from memonf.errors import DataError
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.export.transforms import write_data_set
from memonf.rendering.occupancy_grid import OccupancyGrid, pixel_reach, seen_through
from memonf.rendering.volume_rendering import Renderer
from memonf.training import new_trainer
from memonf.visualization.survey import object_in

SMALL = TinyNerfConfig(width=32, depth=3)
FAST = memonf.TrainSettings(steps=30, rays=200, grid=24)
PERSPECTIVE = Lens(k1=0.1, k2=-0.05, p1=0.004, p2=-0.003)
FISHEYE = Lens(projection="fisheye", k1=0.02, k2=-0.01)


def cube(half: float) -> torch.Tensor:
    return torch.tensor([[-half] * 3, [half] * 3])


def outlines_of(cameras: Cameras, images: list[np.ndarray] | None = None) -> list:
    images = pictures(cameras) if images is None else images
    return [
        outline(f"r_{view}", cameras[[view]], torch.from_numpy(image[..., 3]) > 5)
        for view, image in enumerate(images)
    ]


def assert_around_the_balls(aabb: torch.Tensor, slack: float = 0.35) -> None:
    """The box holds the balls, and not much more."""
    assert (aabb[0] <= BOX[0] + 0.02).all(), aabb
    assert (aabb[1] >= BOX[1] - 0.02).all(), aabb
    assert (aabb[0] >= BOX[0] - slack).all(), aabb
    assert (aabb[1] <= BOX[1] + slack).all(), aabb


def world_box(scene: memonf.Scene) -> torch.Tensor:
    if scene.placement is None:
        return scene.aabb
    points = scene.placement.to_world(torch.cartesian_prod(*scene.aabb.double().T))
    return torch.stack([points.amin(0), points.amax(0)]).float()


# The carving of cells.


@pytest.mark.parametrize("half", [1.5, 5.0, 12.0])
def test_cameras_that_stand_in_the_box_carve_as_those_outside(half: float) -> None:
    """A cell right before a camera must not make all others as wide as the picture."""
    cameras = orbit()
    grid = OccupancyGrid(cube(half), 48)
    grid.carve(cameras, [torch.from_numpy(image[..., 3]) for image in pictures(cameras)])
    centres = grid.centres()
    cell = float(grid.cell.norm())
    for centre, radius, _ in BALLS:
        inside = (centres - torch.tensor(centre)).norm(dim=-1) < radius
        assert grid.occupied[inside].all()
    if half > 6:  # a cell is as wide as the object
        return
    far_off = (centres - BOX.mean(0)).norm(dim=-1)
    # Farther off, cones are left that no other camera looks into.
    around = (far_off > 0.8 + cell) & (far_off < 2.0)
    assert float(grid.occupied[around].float().mean()) < 0.1
    assert float(grid.occupied.float().mean()) < 0.12


@pytest.mark.parametrize("lens", [None, PERSPECTIVE, FISHEYE])
def test_no_point_of_a_ball_is_beyond_its_reach(lens: Lens | None) -> None:
    cameras = orbit(6) if lens is None else with_lens(orbit(6), lens)
    generator = torch.Generator().manual_seed(0)
    centres = (torch.rand(400, 3, generator=generator) - 0.5) * 3
    radius = 0.2
    rows, columns, depth, seen = cameras.project(centres, 2)
    kept = seen & (depth > 1.5 * radius)
    down, across = pixel_reach(cameras, 2, centres[kept], radius)
    for _ in range(20):
        offset = torch.randn(400, 3, generator=generator)
        there = centres + radius * offset / offset.norm(dim=-1, keepdim=True)
        at_rows, at_columns, _, visible = cameras.project(there, 2)
        both = (visible & kept)[kept]
        assert ((at_rows - rows)[kept].abs() <= down + 1)[both].all()
        assert ((at_columns - columns)[kept].abs() <= across + 1)[both].all()


def test_balls_around_behind_and_too_near_a_camera() -> None:
    cameras = orbit(3)
    ahead, eye = -cameras.camera_to_world[0, :, 2], cameras.positions[0]
    centres = torch.stack([eye, eye - ahead, eye + 0.05 * ahead, eye + 0.3 * ahead, eye + ahead])
    solid = torch.ones(SIZE, SIZE, dtype=torch.bool)
    seen, clear = seen_through(solid, cameras, 0, centres, radius=0.1)
    assert seen.tolist() == [False, False, False, True, True]
    assert not clear.any()
    seen, clear = seen_through(solid, cameras, 0, centres, radius=0.1, near=0.6)
    assert seen.tolist() == [False, False, False, False, True]
    # What is seen through is empty, however near it is.
    _, clear = seen_through(~solid, cameras, 0, centres, radius=0.1, near=0.6)
    assert clear.tolist() == [False, False, False, True, True]


def test_a_share_of_the_views_may_be_wrong() -> None:
    cameras = orbit()
    alphas = [torch.from_numpy(image[..., 3]) for image in pictures(cameras)]
    alphas[4] = torch.zeros_like(alphas[4])
    strict, tolerant = OccupancyGrid(cube(1.5), 24), OccupancyGrid(cube(1.5), 24)
    strict.carve(cameras, alphas)
    tolerant.carve(cameras, alphas, tolerance=0.1)
    middle = int(tolerant.cell_index(torch.tensor([0.3, 0.1, 0.2])))
    assert not strict.occupied[middle]
    assert tolerant.occupied[middle]
    assert float(tolerant.occupied.float().mean()) < 0.1


# The object that outlines show.


@pytest.mark.parametrize("half", [1.5, 6.0, 60.0, 600.0])
def test_the_object_is_found_in_boxes_of_any_size(half: float) -> None:
    seen = find_object(outlines_of(orbit()), cube(half) + 0.1 * half)
    assert seen is not None
    assert seen.doubted == seen.full == ()
    assert seen.tolerance == 0
    assert_around_the_balls(seen.aabb)


@pytest.mark.parametrize("lens", [PERSPECTIVE, FISHEYE])
def test_the_object_is_found_through_lenses(lens: Lens) -> None:
    seen = find_object(outlines_of(with_lens(orbit(12), lens)), cube(6.0))
    assert seen is not None
    assert_around_the_balls(seen.aabb)


def test_large_pictures_give_the_same_object() -> None:
    cameras = orbit(12).resized(640, 480)
    images = [
        np.asarray(torch.from_numpy(image).repeat_interleave(15, 0).repeat_interleave(20, 1))
        for image in pictures(orbit(12))
    ]
    seen = find_object(outlines_of(cameras, images), cube(6.0))
    assert seen is not None
    assert_around_the_balls(seen.aabb)


def spoilt(how: str) -> tuple[Cameras, list[np.ndarray], set[str]]:
    """Cameras, pictures and the names of the views that are wrong."""
    cameras, images = orbit(), pictures(orbit())
    if how == "one transparent":
        images[4][...] = 0
        return cameras, images, {"r_4"}
    if how == "three transparent":
        for view in (1, 7, 12):
            images[view][...] = 0
        return cameras, images, {"r_1", "r_7", "r_12"}
    if how == "another pose":
        return turned_away(cameras, 3), images, {"r_3"}
    if how == "two of another pose":
        return turned_away(turned_away(cameras, 3), 8), images, {"r_3", "r_8"}
    if how == "inside out":
        images[9][..., 3] = 255 - images[9][..., 3]
        return cameras, images, {"r_9"}
    if how == "a speck":
        images[10][...] = 0
        images[10][2, 2] = 255
        return cameras, images, {"r_10"}
    raise AssertionError(how)


@pytest.mark.parametrize("half", [1.5, 48.0])
@pytest.mark.parametrize(
    "how",
    ["one transparent", "three transparent", "another pose", "two of another pose", "inside out",
     "a speck"],
)  # fmt: skip
def test_views_that_contradict_the_others_are_named(how: str, half: float) -> None:
    cameras, images, wrong = spoilt(how)
    seen = find_object(outlines_of(cameras, images), cube(half))
    assert seen is not None
    assert_around_the_balls(seen.aabb, slack=0.5)
    assert {*seen.doubted} == wrong


def test_a_view_that_is_opaque_throughout_is_named() -> None:
    images = pictures(orbit())
    images[6][..., 3] = 255
    seen = find_object(outlines_of(orbit(), images), cube(48.0))
    assert seen is not None
    assert_around_the_balls(seen.aabb)
    assert seen.full == ("r_6",)
    assert seen.doubted == ()


def test_what_looks_elsewhere_is_no_contradiction() -> None:
    """A camera that has no object in its picture is transparent, and right."""
    cameras, images = orbit(), pictures(orbit())
    poses = cameras.camera_to_world.clone()
    poses[2] = look_at(poses[2:3, :, 3], 3 * poses[2, :, 3])[0]
    images[2][...] = 0
    cameras = replace(cameras, camera_to_world=poses)
    seen = find_object(outlines_of(cameras, images), cube(6.0))
    assert seen is not None
    assert seen.doubted == ()


@pytest.mark.parametrize("how", ["opaque", "ground", "shuffled", "transparent", "two views"])
def test_nothing_is_narrowed_where_nothing_is_outlined(how: str) -> None:
    cameras, images = orbit(), pictures(orbit())
    if how == "opaque":
        for image in images:
            image[..., 3] = 255
    if how == "ground":  # only the sky is transparent
        for image in images:
            image[SIZE // 3 :, :, 3] = 255
    if how == "shuffled":  # pictures and poses of different takes
        eyes = 4 * torch.randn(18, 3, generator=torch.Generator().manual_seed(1))
        poses = look_at(eyes, torch.tensor([3.0, 1.0, 0.0]))
        cameras = replace(cameras, camera_to_world=poses)
    if how == "transparent":
        for image in images:
            image[...] = 0
    if how == "two views":
        cameras, images = cameras[:2], images[:2]
    assert find_object(outlines_of(cameras, images), cube(48.0)) is None


# Boxes of captures.

LAYOUTS = ({}, {"aabb_scale": 4}, {"aabb_scale": 32}, {"aabb_scale": 128})


@pytest.mark.parametrize("keys", LAYOUTS)
def test_the_box_of_a_capture_is_that_of_its_object(keys: dict, tmp_path: Path) -> None:
    scene = memonf.load_scene(write_object(tmp_path / "object", keys))
    box = world_box(scene)
    assert (box[0] <= BOX[0]).all()
    assert (box[1] >= BOX[1]).all()
    assert float((box[1] - box[0]).max()) < 2.3
    assert torch.equal(scene.aabb, cube(1.5))
    assert any("box narrowed to what the alpha channels outline" in note for note in scene.notes)
    # Cameras, near and far follow.
    distance = scene.split("test").cameras.positions.norm(dim=-1)
    assert scene.placement is not None
    assert float(distance.min()) / scene.placement.scale == pytest.approx(4, rel=0.2)
    assert 0 < scene.near < float(distance.min()) - 1.5 * 3**0.5
    assert scene.far > float(distance.max()) + 1.5
    seen = scene.seen()
    assert seen is not None
    assert float(seen.aabb.abs().max()) <= 1.51


def test_all_layouts_come_to_the_same_training(tmp_path: Path) -> None:
    """The same pictures, the same steps: no layout is more than 1 dB behind another."""
    settings = memonf.TrainSettings(steps=80, rays=400, grid=32, seed=1)
    scores = {}
    for name, keys, blender in (("blender", {}, True), ("four", {"aabb_scale": 4}, False),
                                ("many", {"aabb_scale": 32}, False)):  # fmt: skip
        scene = memonf.load_scene(write_object(tmp_path / name, keys, blender=blender))
        trainer = new_trainer(scene, config=SMALL, settings=settings)
        while not trainer.done:
            trainer.step()
        test = scene.split("test")
        renderer = Renderer.of(trainer.field.eval(), grid=trainer.grid)
        errors = [
            (renderer.view(test.cameras, view).rgb - test.picture(view, scene.background_rgb))
            for view in range(len(test))
        ]
        scores[name] = float(-10 * torch.stack(errors).square().mean((1, 2, 3)).log10().mean())
    assert min(scores.values()) > 17, scores
    assert max(scores.values()) - min(scores.values()) < 1, scores


def test_all_groups_and_parts_have_one_box(tmp_path: Path) -> None:
    scene = memonf.load_scene(write_object(tmp_path / "object", {"aabb_scale": 32}))
    fields = [
        memonf.train(
            scene,
            group=group,
            config=SMALL,
            settings=memonf.TrainSettings(steps=2, rays=50, grid=16),
        )
        for group in ("front", "rear")
    ]
    assert torch.equal(fields[0].aabb, fields[1].aabb)
    placements = [field.record.placement for field in fields]
    assert placements[0] is not None
    assert placements[1] is not None
    assert placements[0].same_as(placements[1])
    write_data_set(scene, {"train": scene.views("train", "front")}, tmp_path / "part")
    part = memonf.load_scene(tmp_path / "part")
    assert part.placement is not None
    assert scene.placement is not None
    assert part.placement.same_as(scene.placement)
    assert (part.near, part.far) == (scene.near, scene.far)


def test_what_is_asked_for_wins(tmp_path: Path) -> None:
    folder = write_object(tmp_path / "object", {"aabb_scale": 32})
    asked = memonf.load_scene(folder, half_side=7.0)
    assert asked.placement is not None
    assert asked.placement.scale == pytest.approx(1.5 / 7)
    assert not any("narrowed" in note for note in asked.notes)
    again = memonf.load_scene(folder, place=asked.placement)
    assert again.placement is not None
    assert again.placement.same_as(asked.placement)
    kept = memonf.load_scene(folder, place="keep")
    assert kept.placement is None
    assert_around_the_balls(kept.aabb, slack=0.8)
    torch.testing.assert_close(
        kept.split("test").cameras.positions, orbit().positions[5::6], rtol=0, atol=1e-6
    )


def test_the_box_of_the_file_is_an_upper_bound(tmp_path: Path) -> None:
    """A box that the object does not fit into is taken as it is."""
    scene = memonf.load_scene(write_object(tmp_path / "object", {"aabb_scale": 0.5}))
    assert scene.placement is not None
    assert 1.5 / scene.placement.scale <= 0.25 / 0.33 + 1e-6


def test_masks_narrow_nothing(tmp_path: Path) -> None:
    """A mask says what does not count, not what is empty; `data inspect` says what it leaves."""
    images = [np.ascontiguousarray(image[..., :3]) for image in pictures(orbit())]
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, image.shape, dtype=np.uint8) for image in images]
    folder = write_object(tmp_path / "object", {"aabb_scale": 32}, images=noisy)
    (folder / "masks").mkdir()
    from PIL import Image

    for view, image in enumerate(pictures(orbit())):
        Image.fromarray(image[..., 3]).save(folder / "masks" / f"r_{view}.png")
    for split in ("train", "test"):
        file = folder / f"transforms_{split}.json"
        content = json.loads(file.read_text())
        for frame in content["frames"]:
            frame["mask_path"] = frame["file_path"].replace("images", "masks")
        file.write_text(json.dumps(content))
    scene = memonf.load_scene(folder)
    assert scene.placement is not None
    assert 1.5 / scene.placement.scale == pytest.approx(16 / 0.33)
    found = object_in(scene)
    assert found is not None
    assert found["from"] == "masks"
    assert found["share"] < 0.05
    assert "--half-side 1" in found["hint"]


def test_inspect_says_what_to_type_and_it_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RGB pictures on plain black: nothing is narrowed, the object's size is said."""
    images = [np.ascontiguousarray(image[..., :3]) for image in pictures(orbit())]
    folder = write_object(tmp_path / "object", {"aabb_scale": 32}, images=images)
    assert main(["data", "inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "from plain borders" in said
    half_side = said.split("`--half-side ")[1].split("`")[0]
    scene = memonf.load_scene(folder, half_side=float(half_side))
    box = world_box(scene)
    assert (box[0] <= BOX[0]).all()
    assert (box[1] >= BOX[1]).all()
    assert float((box[1] - box[0]).max()) < 2.8
    found = object_in(scene)
    assert found is not None
    assert found["hint"] == ""


def test_inspect_knows_what_cameras_have_in_view(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(18)]
    folder = write_object(tmp_path / "object", {"aabb_scale": 32}, images=noisy)
    found = object_in(memonf.load_scene(folder))
    assert found is not None
    assert found["from"] == "what the cameras have in view all round"
    assert found["half_side"] == pytest.approx(4 * 16 / 44, rel=0.02)
    assert "--half-side" in found["hint"]


@pytest.mark.parametrize("blender", [False, True])
@pytest.mark.parametrize("how", ["one transparent", "another pose"])
def test_a_wrong_view_is_said_and_carves_nothing(how: str, blender: bool, tmp_path: Path) -> None:
    cameras, images, (wrong,) = spoilt(how)
    folder = write_object(
        tmp_path / "object", {"aabb_scale": 32} if not blender else {}, cameras=cameras,
        images=images, blender=blender,
    )  # fmt: skip
    scene = memonf.load_scene(folder)
    assert any(f"view {wrong} contradicts the other views" in note for note in scene.notes)
    trainer = new_trainer(scene, settings=memonf.TrainSettings(steps=1, rays=50, grid=32))
    for centre, _, _ in BALLS:
        place = torch.tensor(centre)[None]
        if scene.placement is not None:
            place = scene.placement.to_scene(place)
        assert trainer.grid.occupied[trainer.grid.cell_index(place)].all()


# Scenes in Blender's layouts, in other units than Blender's.


@pytest.mark.parametrize("scale", [1000.0, 0.25, 0.02])
def test_blender_scenes_in_other_units_are_placed(scale: float, tmp_path: Path) -> None:
    scene = memonf.load_scene(write_object(tmp_path / "object", scale=scale, blender=True))
    assert scene.placement is not None
    assert torch.equal(scene.aabb, cube(1.5))
    box = world_box(scene) / scale
    assert (box[0] <= BOX[0]).all()
    assert (box[1] >= BOX[1]).all()
    assert float((box[1] - box[0]).max()) < 2.3
    distance = scene.split("test").cameras.positions.norm(dim=-1)
    assert 0 < scene.near < float(distance.min()) - 1.5
    assert scene.far > float(distance.max()) + 1.5
    assert any("not of about 1 around the origin" in note for note in scene.notes)
    again = memonf.load_scene(tmp_path / "object", place=scene.placement)
    torch.testing.assert_close(
        again.split("train").cameras.positions, scene.split("train").cameras.positions,
        rtol=0, atol=1e-4,
    )  # fmt: skip


def test_blender_scenes_off_the_origin_are_placed(tmp_path: Path) -> None:
    scene = memonf.load_scene(write_object(tmp_path / "object", blender=True, shift=7.0))
    box = world_box(scene) - 7.0
    assert (box[0] <= BOX[0]).all()
    assert (box[1] >= BOX[1]).all()


@pytest.mark.parametrize("scale", [1000.0, 0.1])
def test_blender_scenes_without_alpha_follow_their_cameras(scale: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(18)]
    scene = memonf.load_scene(
        write_object(tmp_path / "object", images=noisy, scale=scale, blender=True)
    )
    assert scene.placement is not None
    assert 1.5 / scene.placement.scale / scale == pytest.approx(1.04 * 4 * 16 / 44, rel=0.02)
    usual = memonf.load_scene(write_object(tmp_path / "usual", images=noisy, blender=True))
    assert usual.placement is None
    assert (usual.near, usual.far) == (2.0, 6.0)
    assert not any("scaled" in note or "near" in note for note in usual.notes)


def test_blender_scenes_as_they_should_be_stay(tmp_path: Path) -> None:
    scene = memonf.load_scene(write_object(tmp_path / "object", blender=True))
    assert scene.placement is None
    assert torch.equal(scene.aabb, cube(1.5))
    assert (scene.near, scene.far, scene.notes) == (2.0, 6.0, ())


def test_cameras_in_the_box_of_a_blender_scene(tmp_path: Path) -> None:
    """At a distance of 1.3 with a wide lens: near 2 would leave nothing to see."""
    near = orbit(radius=1.3)
    wide = replace(near, intrinsics=near.intrinsics * torch.tensor([0.25, 0.25, 1.0, 1.0]))
    folder = write_object(tmp_path / "object", cameras=wide, blender=True)
    scene = memonf.load_scene(folder)
    assert scene.near < 0.1
    assert scene.far > 3
    trainer = new_trainer(scene, config=SMALL, settings=FAST)
    assert trainer.step().samples_per_ray > 3
    middle = trainer.grid.cell_index(torch.tensor([0.3, 0.1, 0.2]))
    assert trainer.grid.occupied[middle]


def test_a_box_that_is_asked_for_in_a_blender_scene(tmp_path: Path) -> None:
    folder = write_object(tmp_path / "object", blender=True)
    scene = memonf.load_scene(folder, half_side=3.0)
    assert scene.placement is not None
    assert scene.placement.scale == pytest.approx(0.5)
    kept = memonf.load_scene(folder, half_side=3.0, place="keep")
    assert kept.placement is None
    torch.testing.assert_close(kept.aabb[1] - kept.aabb[0], torch.full((3,), 6.0))


def test_an_archive_in_millimetres(tmp_path: Path) -> None:
    cameras = orbit()
    poses = torch.eye(4).repeat(18, 1, 1)
    poses[:, :3] = cameras.camera_to_world
    poses[:, :3, 3] *= 1000
    images = np.stack(pictures(cameras))
    arrays = {"images_train": images[:15], "poses_train": poses[:15].numpy(), "focal": 44.0,
              "images_test": images[15:], "poses_test": poses[15:].numpy()}  # fmt: skip
    np.savez(tmp_path / "mm.npz", **arrays)
    scene = memonf.load_scene(tmp_path / "mm.npz")
    assert_around_the_balls(world_box(scene) / 1000, slack=0.8)
    # A box that the file says is kept, in the units of the scene.
    np.savez(tmp_path / "box.npz", **arrays, aabb=1000 * BOX.numpy())
    boxed = memonf.load_scene(tmp_path / "box.npz")
    assert boxed.placement is not None
    torch.testing.assert_close(world_box(boxed), 1000 * BOX, rtol=1e-4, atol=0.1)
    assert float((boxed.aabb[1] - boxed.aabb[0]).max()) == pytest.approx(3.0)
    with pytest.raises(DataError, match="only captures are placed"):
        memonf.load_scene(tmp_path / "box.npz", half_side=2.0)


def test_a_field_that_was_not_placed_is_scored_where_it_lies(tmp_path: Path) -> None:
    """Trained with `--place keep`, scored without a word of it."""
    folder = write_object(tmp_path / "object")
    kept = memonf.load_scene(folder, place="keep")
    field = new_trainer(kept, config=SMALL, settings=FAST).field
    scene = FromData(data=str(folder)).scene(like=field)
    assert scene.placement is None
    torch.testing.assert_close(scene.aabb, kept.aabb)
    assert torch.equal(scene.split("test").cameras.positions, kept.split("test").cameras.positions)
    placed = new_trainer(memonf.load_scene(folder), config=SMALL, settings=FAST).field
    again = FromData(data=str(folder)).scene(like=placed).placement
    assert again is not None
    assert placed.record.placement is not None
    assert again.same_as(placed.record.placement)


@pytest.mark.parametrize(
    ("value", "expected"), [(1.3661, 1.37), (0.021, 0.021), (48.4848, 48.5), (1000.0, 1000.0)]
)
def test_half_sides_are_rounded_up(value: float, expected: float) -> None:
    assert rounded_up(value) == expected


def test_half_the_longest_side() -> None:
    assert Seen(torch.tensor([[0.0, 0, 0], [1, 4, 2]])).half_side == 2
