"""Scenes: formats, groups, and what is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import memonf
from memonf.cameras.cameras import turntable
from memonf.data import in_group
from memonf.errors import DataError, InputError
from memonf.evaluation.evaluate import evaluate
from memonf.rendering.ray_marching import intersect_box


@pytest.fixture
def blender_folder(tmp_path: Path) -> Path:
    """Four cameras around a half-transparent red picture."""
    cameras = turntable(4, 8, 4.0, torch.zeros(3), start_azimuth=-60.0)
    (tmp_path / "train").mkdir()
    frames = []
    for index, pose in enumerate(cameras.camera_to_world):
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[..., 0], pixels[..., 3] = 255, 51 * index
        Image.fromarray(pixels).save(tmp_path / "train" / f"r_{index}.png")
        matrix = [*pose.tolist(), [0, 0, 0, 1]]
        frames.append({"file_path": f"./train/r_{index}", "transform_matrix": matrix})
    content = {"camera_angle_x": 0.7, "frames": frames}
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    return tmp_path


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    file = folder / "transforms_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_blender_folder(blender_folder: Path) -> None:
    views = memonf.load_scene(blender_folder).split("train")
    assert len(views) == 4
    assert float(views.cameras.intrinsics[0, 0]) == pytest.approx(0.5 * 8 / np.tan(0.35))
    picture = views.picture(2, torch.ones(3))  # alpha 0.4 of red over white
    torch.testing.assert_close(picture[0, 0], torch.tensor([1.0, 0.6, 0.6]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("frames"), "expected a list `frames`"),
        (lambda c: c["frames"].clear(), "at least one frame"),
        (lambda c: c["frames"][1].pop("file_path"), "frame 1: expected keys"),
        (lambda c: c["frames"][1].update(file_path="./train/gone"), "gone.png is not there"),
        (lambda c: c["frames"][1].update(file_path="../../x"), "leads out of the data folder"),
        (lambda c: c["frames"][0].update(transform_matrix=[[1, 2]]), "expected 4x4 numbers"),
        (
            lambda c: c["frames"][3]["transform_matrix"][0].__setitem__(0, float("nan")),
            r"r_3.png: its pose holds numbers that are not finite",
        ),
        (
            lambda c: c["frames"][3]["transform_matrix"][0].__setitem__(0, 7.0),
            r"r_3.png: its rotation is sheared, .*: its columns are 7.* long",
        ),
        (lambda c: c.update(camera_angle_x=0), "`camera_angle_x`: expected radians"),
    ],
)
def test_broken_transforms_are_refused_by_place(blender_folder, change, message) -> None:
    edit(blender_folder, change)
    with pytest.raises(DataError, match=message):
        memonf.load_scene(blender_folder).split("train")


def test_broken_json_is_refused(blender_folder: Path) -> None:
    (blender_folder / "transforms_train.json").write_text('{"frames": [')
    with pytest.raises(DataError, match=r"transforms_train.json: not valid JSON"):
        memonf.load_scene(blender_folder).split("train")


def test_pictures_of_another_shape_and_no_pictures_are_refused(blender_folder: Path) -> None:
    Image.new("RGBA", (9, 8)).save(blender_folder / "train" / "r_2.png")
    with pytest.raises(DataError, match=r"r_2.png: 9x8 pixels, the first picture has 8x8"):
        memonf.load_scene(blender_folder).split("train")
    (blender_folder / "train" / "r_2.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"r_2.png: cannot be read as a picture"):
        memonf.load_scene(blender_folder).split("train")


def test_missing_data_and_splits_are_refused(tmp_path: Path, blender_folder: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        memonf.load_scene(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected a folder with transforms_train"):
        memonf.load_scene(tmp_path / "empty")
    with pytest.raises(DataError, match="no split `test`; this scene has train"):
        memonf.load_scene(blender_folder).split("test")
    with pytest.raises(DataError, match="did you mean `robot`"):
        memonf.load_scene("embedded:robott")


def test_bmild_layout(tmp_path: Path) -> None:
    poses = np.tile(np.eye(4, dtype=np.float32), (106, 1, 1))
    images = np.zeros((106, 6, 6, 3), np.float32)
    images[:, 1:5, 1:5] = 0.25
    np.savez(tmp_path / "tiny.npz", images=images, poses=poses, focal=np.float64(5))
    scene = memonf.load_scene(tmp_path / "tiny.npz")
    assert (len(scene.split("train")), len(scene.split("test"))) == (100, 6)
    assert scene.background == (0.0, 0.0, 0.0)
    assert int(scene.split("train").images[0, 2, 2, 0]) == 64


def test_broken_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        memonf.load_scene(tmp_path / "torn.npz")
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    with pytest.raises(DataError, match="received something"):
        memonf.load_scene(tmp_path / "other.npz")
    np.savez(
        tmp_path / "few.npz", focal=1.0, images_train=np.zeros((2, 4, 4, 3), np.uint8),
        poses_train=np.zeros((3, 4, 4), np.float32),
    )  # fmt: skip
    with pytest.raises(DataError, match=r"`poses_train`: expected \(2, 4, 4\)"):
        memonf.load_scene(tmp_path / "few.npz").split("train")
    pickled = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "pickle.npz", focal=1.0, images_train=pickled, poses_train=pickled)
    with pytest.raises(DataError, match="cannot be read"):
        memonf.load_scene(tmp_path / "pickle.npz").split("train")
    np.savez(tmp_path / "bytes.npz", focal=1.0, images_train=np.zeros((2, 4, 4, 3), np.uint8))
    with zipfile.ZipFile(tmp_path / "bytes.npz", "a") as archive:
        archive.writestr("poses_train.npy", b"no array")
    with pytest.raises(DataError, match="`poses_train` is no array"):
        memonf.load_scene(tmp_path / "bytes.npz").split("train")


def test_front_and_rear_share_nothing_and_miss_nothing() -> None:
    cameras = turntable(40, 8, 4.0, torch.zeros(3), start_azimuth=-88.0)
    centre, front = torch.zeros(3), (0.0, -1.0)
    is_front = in_group(cameras, "front", centre, front)
    assert is_front.tolist() == (cameras.positions[:, 1] < 0).tolist()
    is_rear = in_group(cameras, "rear", centre, front)
    assert (is_front ^ is_rear).all()
    sectors = torch.stack([in_group(cameras, f"sector {k}/5", centre, front) for k in range(1, 6)])
    assert (sectors.sum(0) == 1).all()
    half = in_group(cameras, "sector 1/2", centre, front)
    assert half.tolist() == is_front.tolist()


def test_overlap_lets_neighbours_share_cameras() -> None:
    cameras = turntable(360, 8, 4.0, torch.zeros(3), start_azimuth=0.5)
    centre, front = torch.zeros(3), (0.0, -1.0)
    shared = in_group(cameras, "front", centre, front, 20.0) & in_group(
        cameras, "rear", centre, front, 20.0
    )
    assert int(shared.sum()) == 40
    turned = in_group(cameras, "front", centre, (1.0, 0.0))
    assert turned.tolist() == (cameras.positions[:, 0] > 0).tolist()


def test_groups_that_do_not_exist_are_refused(blender_folder: Path) -> None:
    scene = memonf.load_scene(blender_folder)
    with pytest.raises(InputError, match="expected all, front, rear, left, right or `sector K/N`"):
        scene.views("train", "above")
    with pytest.raises(InputError, match="1 <= K <= N"):
        scene.views("train", "sector 3/2")
    with pytest.raises(DataError, match=r"none of the 4 `train` cameras is in group"):
        scene.views("train", "sector 1/360")
    with pytest.raises(InputError, match="overlap: expected degrees"):
        scene.views("train", "front", overlap=200.0)


@pytest.mark.parametrize("name", ["robot", "still_life"])
def test_embedded_scenes(name: str) -> None:
    scene = memonf.load_scene(f"embedded:{name}")
    train, test = scene.split("train"), scene.split("test")
    assert tuple(train.images.shape) == (100, 100, 100, 4)
    assert tuple(test.images.shape) == (50, 100, 100, 4)
    assert scene.title
    for split in ("train", "test"):
        halves = [len(scene.views(split, group)) for group in ("front", "rear")]
        assert halves[0] == halves[1]
    # Nothing of the object lies outside the box: every ray with a colour meets it.
    for view in range(0, 100, 9):
        rays = train.cameras.view_rays(view)
        starts, ends = intersect_box(rays, scene.aabb, scene.near, scene.far)
        opaque = train.images[view, ..., 3].flatten() > 0
        assert (starts < ends)[opaque].all()


def test_embedded_scenes_are_small() -> None:
    folder = Path(memonf.__file__).parent / "data" / "scenes"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3_000_000


def test_lego_is_split_as_its_source_states(lego: Path) -> None:
    scene = memonf.load_scene(lego)
    sizes = [len(scene.views(s, g)) for s in ("train", "test") for g in ("front", "rear")]
    assert sizes == [47, 53, 100, 100]


def test_a_perfect_field_would_be_compared_with_its_own_picture(robot) -> None:
    """A field that is the background scores each view against that view's own pixels."""
    from conftest import small_field

    field = small_field("tiny_nerf")
    with torch.no_grad():
        field.head.weight.zero_()
        field.head.bias.fill_(-50.0)  # empty everywhere
    scores = evaluate(field, robot, most_views=5)
    views = robot.split("test")
    for score in scores.views:
        truth = views.picture(views.names.index(score.name), torch.ones(3))
        expected = -10 * float(torch.log10((1 - truth).square().mean()))
        assert score.psnr == pytest.approx(expected, abs=1e-3)
    assert len({round(score.psnr, 3) for score in scores.views}) == 5
