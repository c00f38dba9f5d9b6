"""Captures in map coordinates, ten million units from the origin, are the same scenes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from capture_files import HEIGHT, WIDTH, world_cameras, write_pictures
from conftest import small_field
from PIL import Image
from test_colmap import colmap_model
from test_exports import Ball, read_mesh

import memonf
from memonf.cameras.cameras import Cameras
from memonf.cameras.distortion import Lens
from memonf.cameras.frames import Placement, looked_at
from memonf.cli import main
from memonf.data import Scene
from memonf.errors import DataError
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import save
from memonf.io.export.geometry import surface, write_grid, write_mesh, write_points
from memonf.io.export.transforms import transforms, write_data_set

OFFSET = np.array([1.0e7, -4.5e6, 310.25])
NEAR = np.zeros(3)


def shifted(offset: np.ndarray) -> Cameras:
    """The cameras of a capture, moved; in double precision."""
    cameras = world_cameras(Lens())
    poses = cameras.camera_to_world.double()
    left, _, right = torch.linalg.svd(poses[:, :, :3])  # rotations to all digits
    poses[:, :, :3] = left @ right
    poses[:, :, 3] += torch.from_numpy(offset)
    return dataclasses.replace(cameras, camera_to_world=poses)


def as_transforms(folder: Path, offset: np.ndarray) -> None:
    names = [f"images/{name}" for name in write_pictures(folder / "images")]
    (folder / "transforms.json").write_text(json.dumps(transforms(shifted(offset), names)))


def as_splits(folder: Path, offset: np.ndarray) -> None:
    """instant-ngp's: a file a split."""
    names = [f"images/{name}" for name in write_pictures(folder / "images")]
    content = transforms(shifted(offset), names)
    for split, part in (("train", slice(0, 6)), ("test", slice(6, None))):
        of_split = {**content, "frames": content["frames"][part]}
        (folder / f"transforms_{split}.json").write_text(json.dumps(of_split))


def as_llff(folder: Path, offset: np.ndarray) -> None:
    rows = []
    for right, up, back, centre in shifted(offset).camera_to_world.mT.numpy():
        matrix = np.stack([-up, right, back, centre, np.array([HEIGHT, WIDTH, 23.0])], 1)
        rows.append([*matrix.flatten(), 2.0, 7.0])
    write_pictures(folder / "images")
    np.save(folder / "poses_bounds.npy", np.array(rows))


def as_colmap(folder: Path, offset: np.ndarray, kind: str = "binary") -> None:
    (folder / "sparse" / "0").mkdir(parents=True)
    getattr(colmap_model(shifted(offset), "PINHOLE"), f"write_{kind}")(folder / "sparse" / "0")
    write_pictures(folder / "images")


def as_colmap_text(folder: Path, offset: np.ndarray) -> None:
    as_colmap(folder, offset, "text")


LAYOUTS = [as_transforms, as_splits, as_llff, as_colmap, as_colmap_text]


def opened(folder: Path, write: Callable[[Path, np.ndarray], None], offset: np.ndarray) -> Scene:
    folder.mkdir()
    write(folder, offset)
    return memonf.load_scene(folder)


def assert_same_scene(found: Scene, expected: Scene) -> None:
    """To a millionth of a scene unit."""
    for name in ("near", "far"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=2e-6)
    assert found.front == pytest.approx(expected.front, abs=1e-6)
    torch.testing.assert_close(found.aabb, expected.aabb, rtol=0, atol=1e-6)
    for split in expected.loaders:
        here, there = found.split(split).cameras, expected.split(split).cameras
        assert here.camera_to_world.dtype == torch.float32
        torch.testing.assert_close(here.camera_to_world, there.camera_to_world, rtol=0, atol=1e-6)


@pytest.mark.parametrize("write", LAYOUTS)
def test_an_offset_makes_no_difference(
    write: Callable[[Path, np.ndarray], None], tmp_path: Path
) -> None:
    far, near = (opened(tmp_path / name, write, offset)
                 for name, offset in (("far", OFFSET), ("near", NEAR)))  # fmt: skip
    assert_same_scene(far, near)
    assert far.placement is not None
    # And back, where a float of single precision would be off by half a unit.
    for name in far.loaders:
        world = far.placement.cameras_to_world(far.split(name).cameras)
        expected = near.placement.cameras_to_world(near.split(name).cameras)
        moved = expected.positions + torch.from_numpy(OFFSET)
        torch.testing.assert_close(world.positions, moved, rtol=0, atol=1e-6)


def test_parts_and_exported_cameras_are_read_again(tmp_path: Path) -> None:
    scene = opened(tmp_path / "far", as_transforms, OFFSET)
    write_data_set(scene, {name: scene.split(name) for name in scene.loaders}, tmp_path / "part")
    part = memonf.load_scene(tmp_path / "part")
    assert part.placement.same_as(scene.placement)
    cameras, again = scene.split("train").cameras, part.split("train").cameras
    torch.testing.assert_close(again.camera_to_world, cameras.camera_to_world, rtol=0, atol=1e-6)
    # Without what MeMo NF wrote beside them they are where they were, too.
    content = json.loads((tmp_path / "part" / "transforms.json").read_text())
    positions = np.array([frame["transform_matrix"] for frame in content["frames"]])[:, :3, 3]
    original = json.loads((tmp_path / "far" / "transforms.json").read_text())["frames"]
    given = {Path(f["file_path"]).stem: np.array(f["transform_matrix"])[:3, 3] for f in original}
    names = [name for split in scene.loaders for name in scene.split(split).names]
    expected = np.array([given[name] for name in names])
    np.testing.assert_allclose(positions, expected, rtol=0, atol=2e-6)


def test_the_placement_comes_back_with_the_field(tmp_path: Path) -> None:
    scene = opened(tmp_path / "far", as_transforms, OFFSET)
    settings = memonf.TrainSettings(steps=1, rays=20, grid=16)
    field = memonf.train(scene, config=TinyNerfConfig(width=16, depth=2), settings=settings)
    memonf.save(field, tmp_path / "field.safetensors")
    kept = memonf.load(tmp_path / "field.safetensors").record.placement
    assert_same_scene(memonf.load_scene(tmp_path / "far", place=kept), scene)
    assert kept.same_as(scene.placement)
    turned = dataclasses.replace(kept, translation=kept.translation + 1e-3 / kept.scale)
    assert not kept.same_as(turned)


def test_coordinates_that_single_precision_does_not_hold_are_not_kept(tmp_path: Path) -> None:
    as_transforms(tmp_path, OFFSET)
    with pytest.raises(
        DataError, match=r"coordinates up to 1.0\d+e\+07 are rounded by .*--place auto"
    ):
        memonf.load_scene(tmp_path, place="keep")
    as_transforms(tmp_path, OFFSET / 3e3)
    scene = memonf.load_scene(tmp_path, place="keep")
    assert any("are rounded by" in note for note in scene.notes)
    as_transforms(tmp_path, NEAR)
    assert not any("rounded" in note for note in memonf.load_scene(tmp_path, place="keep").notes)


def test_positions_beyond_all_maps_are_refused(tmp_path: Path) -> None:
    as_transforms(tmp_path, np.array([1e12, 0, 0]))
    with pytest.raises(DataError, match=r"view_0.png: it stands more than 1e\+09 units"):
        memonf.load_scene(tmp_path)


def test_what_cameras_look_at_is_found_far_away() -> None:
    poses = shifted(NEAR).camera_to_world
    expected = looked_at(poses)
    moved = shifted(OFFSET).camera_to_world
    torch.testing.assert_close(
        looked_at(moved) - torch.from_numpy(OFFSET), expected, rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("layout", ["blender", "npz"])
def test_scenes_around_the_origin_are_refused_far_away(layout: str, tmp_path: Path) -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, :3, 3] = OFFSET
    if layout == "npz":
        data = tmp_path / "scene.npz"
        images = np.zeros((2, 4, 4, 3), np.uint8)
        np.savez(data, images_train=images, poses_train=poses, focal=4.0)
    else:
        data = tmp_path
        frames = [{"file_path": "a", "transform_matrix": pose.tolist()} for pose in poses]
        Image.new("RGBA", (4, 4)).save(tmp_path / "a.png")
        content = {"camera_angle_x": 0.7, "frames": frames}
        (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"coordinates up to 1e\+07 are rounded by 0\.\d of the box"
    ):
        memonf.load_scene(data).split("train")


def far_placement() -> Placement:
    """A quarter turn, half the size, and map coordinates."""
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Placement(turn, -(turn @ torch.from_numpy(OFFSET)), 0.5)


@pytest.mark.parametrize("ending", ["ply", "glb", "obj"])
def test_meshes_lie_in_map_coordinates(ending: str, tmp_path: Path) -> None:
    found = surface(Ball(far_placement()), 32)
    write_mesh(found, tmp_path / f"ball.{ending}")
    mesh = read_mesh(tmp_path / f"ball.{ending}")
    vertices = np.asarray(mesh.vertices)
    if ending == "glb":  # y upwards there
        vertices = vertices @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    order = [np.lexsort(np.round(places - OFFSET, 4).T) for places in (vertices, found.vertices)]
    np.testing.assert_allclose(
        vertices[order[0]] - OFFSET, found.vertices[order[1]] - OFFSET, rtol=0, atol=1e-6
    )
    assert mesh.is_watertight


def test_points_and_grids_lie_in_map_coordinates(tmp_path: Path) -> None:
    field = Ball(far_placement())
    write_points(surface(field, 32), tmp_path / "points.ply", 500, seed=1)
    cloud = trimesh.load(tmp_path / "points.ply")
    distances = np.linalg.norm(np.asarray(cloud.vertices) - OFFSET, axis=1)
    np.testing.assert_allclose(distances, field.radius / 0.5, atol=0.05)
    assert len(np.unique(np.asarray(cloud.vertices)[:, 0])) > 490  # in single precision 3
    write_grid(field, tmp_path / "grid.npz", 16, sparse=True)
    matrix = np.load(tmp_path / "grid.npz")["scene_to_world"]
    np.testing.assert_allclose(matrix[:3, 3], OFFSET, rtol=0, atol=1e-8)


def test_the_verb_says_how_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    field = small_field("tiny_nerf")
    field.record = dataclasses.replace(field.record, placement=far_placement())
    save(field, tmp_path / "field.safetensors")
    for name, said in (("a.ply", "double precision"), ("a.glb", "translation of its node")):
        arguments = ["export", str(tmp_path / "field.safetensors"), "--out", str(tmp_path / name)]
        assert main([*arguments, "--resolution", "16", "--level", "0.5", "--quiet"]) == 0
        assert said in capsys.readouterr().out
    assert main([*arguments[:2], "--out", str(tmp_path / "c.json"), "--quiet"]) == 0
    poses = json.loads((tmp_path / "c.json").read_text())["frames"]
    assert len(poses) == len(field.record.cameras)
    for frame, camera in zip(poses, field.record.cameras.positions, strict=True):
        expected = far_placement().to_world(camera)
        np.testing.assert_allclose(
            np.array(frame["transform_matrix"])[:3, 3], expected, rtol=0, atol=1e-8
        )
