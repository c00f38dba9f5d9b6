"""No key that changes a scene is skipped in silence: read, refused by name, or said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from capture_files import HEIGHT, WIDTH, world_cameras, write_transforms
from PIL import Image

import memonf
from memonf.cameras.cameras import Cameras, turntable
from memonf.cameras.keyframes import CameraPath
from memonf.cli import main
from memonf.data.boxes import looking_into
from memonf.errors import DataError
from memonf.training import TrainSettings, new_trainer


def edited(folder: Path, name: str = "transforms.json", *, each: Any = None, **top: Any) -> Path:
    """The data set with more keys in its file, and in each frame."""
    file = folder / name
    content = json.loads(file.read_text())
    content.update(top)
    for frame in content["frames"]:
        frame.update(each or {})
    file.write_text(json.dumps(content))
    return folder


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_transforms(tmp_path, world_cameras())


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    """A NeRF-synthetic folder: four cameras at a distance of 4."""
    folder = tmp_path / "synthetic"
    (folder / "train").mkdir(parents=True)
    frames = []
    for view, pose in enumerate(turntable(4, 8, 4.0, torch.zeros(3)).camera_to_world.tolist()):
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[2:6, 2:6] = (200, 40 * view, 0, 255)
        Image.fromarray(pixels).save(folder / "train" / f"r_{view}.png")
        frames.append({"file_path": f"./train/r_{view}", "rotation": 0.1,
                       "transform_matrix": [*pose, [0, 0, 0, 1]]})  # fmt: skip
    file = folder / "transforms_train.json"
    file.write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames}))
    return folder


REFUSED = {
    "k5": 0.1, "k6": -0.1, "s1": 0.2, "distortion_model": "brown", "distortion_params": [0.1, 0],
    "lens": "wide", "ftheta_p0": 0.5, "latlong": True, "equirectangular": True,
    "rolling_shutter": [0, 0, 1, 0], "rolling_shutter_time": 0.02, "rs_readout": 0.01,
    "skew": 0.4, "from_mitsuba": True, "mask_color": "0x00ff00",
    "camera_convention": "lefthanded",
}  # fmt: skip


@pytest.mark.parametrize("key", REFUSED)
@pytest.mark.parametrize("at", ["top", "frame"])
def test_keys_that_change_rays_or_pixels_are_refused_by_name(
    key: str, at: str, capture: Path
) -> None:
    more = {key: REFUSED[key]}
    edited(capture, **({"each": more} if at == "frame" else more))
    with pytest.raises(DataError, match=rf"transforms.json.*`{key}`: "):
        memonf.load_scene(capture)


def test_the_same_keys_ask_for_nothing_where_they_are_zero(capture: Path) -> None:
    nothing = {"k5": 0.0, "rolling_shutter": [0, 0, 0, 0], "latlong": False, "from_mitsuba": False,
               "lens": None, "distortion_params": [], "render_aabb": None}  # fmt: skip
    before = memonf.load_scene(capture).notes
    assert memonf.load_scene(edited(capture, each=nothing, **nothing)).notes == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("render_aabb", [[0, 0, 0], [1, 1, 1]]), ("applied_transform", [[1, 0, 0, 0]]),
        ("applied_scale", 2.0), ("ply_file_path", "points.ply"), ("orientation_override", "pca"),
        ("auto_scale_poses_factor", 0.3), ("n_extra_learnable_dims", 16), ("n_frames", 3),
        ("sharpness_discard_threshold", 0.5), ("envmap", "sky.png"),
    ],
)  # fmt: skip
def test_keys_that_are_not_followed_are_said(key: str, value: Any, capture: Path) -> None:
    notes = memonf.load_scene(edited(capture, **{key: value})).notes
    assert any(note.startswith(f"`{key}` ") for note in notes)


def test_all_other_keys_are_named_in_one_note(capture: Path) -> None:
    scene = memonf.load_scene(edited(capture, each={"wobble": 1, "sharpness": 3}, twist=2, sway=1))
    assert "not read: `twist`, `sway`" in scene.notes
    assert "not read of frames: `wobble`" in scene.notes
    assert not any("sharpness" in note for note in scene.notes)


@pytest.mark.parametrize(
    ("said", "half_side", "centre"),
    [
        ({"aabb_scale": 2, "scale": 0.1, "offset": [0.5, 0.5, 0.5]}, 10.0, (0, 0, 0)),
        ({"aabb_scale": 1, "scale": 0.05, "offset": [0.0, 0.7, 0.4]}, 10.0, (10, -4, 2)),
        ({"scale": 0.05}, 10.0, (0, 0, 0)),
        ({"offset": -2.8}, 0.5 / 0.33, (10, 10, 10)),
        ({"aabb": [[8, -6, 0], [12, -2, 4]], "aabb_scale": 4}, 8.0, (10, -4, 2)),
    ],
)
@pytest.mark.parametrize("place", ["auto", "keep"])
def test_boxes_of_instant_ngp(
    said: dict, half_side: float, centre: tuple, place: str, capture: Path
) -> None:
    scene = memonf.load_scene(edited(capture, **said), place=place)
    corners = scene.aabb.double()
    if scene.placement is not None:
        corners = torch.stack([scene.placement.to_world(corner) for corner in corners])
        assert scene.placement.scale == pytest.approx(1.5 / half_side)
    middle = torch.tensor(centre, dtype=torch.float64)
    torch.testing.assert_close(corners.mean(0), middle, rtol=0, atol=2e-3)
    assert (scene.aabb[1] - scene.aabb[0]).tolist() == pytest.approx(
        [3.0] * 3 if place == "auto" else [2 * half_side] * 3, rel=1e-4
    )
    assert any(note.startswith("box from ") and all(f"`{key}`" in note for key in said)
               for note in scene.notes)  # fmt: skip


def test_half_side_wins_over_the_box_of_the_file(capture: Path) -> None:
    edited(capture, scale=0.0002, aabb_scale=1)
    scene = memonf.load_scene(capture, half_side=2.0)
    assert scene.placement is not None
    assert scene.placement.scale == pytest.approx(0.75)
    assert any(note.endswith(": --half-side is taken") for note in scene.notes)
    assert not any("into the box" in note for note in scene.notes)


@pytest.mark.parametrize(
    "said", [{"scale": 0}, {"scale": "big"}, {"aabb_scale": -1}, {"offset": [1, 2]},
             {"up": [0, 0, 0]},
             {"aabb": [[0, 0, 0]]}, {"aabb": [[0, 0, 0], [0, 0, 0]]}, {"offset": [1, None, 2]}],
)  # fmt: skip
def test_boxes_that_are_none_are_refused(said: dict, capture: Path) -> None:
    with pytest.raises(DataError, match=f"`{next(iter(said))}`: expected "):
        memonf.load_scene(edited(capture, **said))


def test_up_of_the_file_turns_the_scene(capture: Path) -> None:
    scene = memonf.load_scene(edited(capture, up=[0, -2, 0]))
    assert scene.placement is not None
    up = scene.placement.rotation @ torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(up, torch.tensor([0.0, 0, 1], dtype=torch.float64))


def test_poses_in_opencvs_convention_are_turned(capture: Path) -> None:
    expected = memonf.load_scene(capture, place="keep").split("train").cameras
    file = capture / "transforms.json"
    content = json.loads(file.read_text())
    for frame in content["frames"]:
        matrix = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])
        frame["transform_matrix"] = matrix.tolist()
    file.write_text(json.dumps({**content, "camera_convention": "OpenCV"}))
    scene = memonf.load_scene(capture, place="keep")
    torch.testing.assert_close(scene.split("train").cameras.camera_to_world,
                               expected.camera_to_world)  # fmt: skip
    assert "`camera_convention` OpenCV: turned to OpenGL's" in scene.notes


def test_cameras_of_neus2(capture: Path) -> None:
    """OpenCV's columns, said by `from_na`, and a matrix of intrinsics for each frame."""
    expected = memonf.load_scene(capture, place="keep").split("train").cameras
    file = capture / "transforms.json"
    content = json.loads(file.read_text())
    for frame in content["frames"]:
        matrix = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])
        fx, fy, cx, cy = (frame.pop(key) for key in ("fl_x", "fl_y", "cx", "cy"))
        frame |= {"transform_matrix": matrix.tolist(), "intrinsic_matrix": [
            [fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}  # fmt: skip
    file.write_text(json.dumps({**content, "from_na": True}))
    scene = memonf.load_scene(capture, place="keep")
    found = scene.split("train").cameras
    torch.testing.assert_close(found.camera_to_world, expected.camera_to_world)
    torch.testing.assert_close(found.intrinsics, expected.intrinsics)
    assert any(note.startswith("`from_na` says OpenCV") for note in scene.notes)
    edited(capture, each={"intrinsic_matrix": [[20, 3, 9], [0, 20, 9], [0, 0, 1]]})
    with pytest.raises(DataError, match="`intrinsic_matrix`: expected no skew"):
        memonf.load_scene(capture)


def test_fields_of_view_in_degrees_and_of_the_other_axis(capture: Path) -> None:
    file = capture / "transforms.json"
    content = json.loads(file.read_text())
    for frame in content["frames"]:
        del frame["fl_x"], frame["fl_y"]
        frame |= {"x_fov": 90.0, "camera_angle_y": np.pi / 3}
    file.write_text(json.dumps(content))
    fx, fy = memonf.load_scene(capture).split("train").cameras.intrinsics[0, :2].tolist()
    assert fx == pytest.approx(WIDTH / 2)
    assert fy == pytest.approx(HEIGHT / 2 * 3**0.5)
    edited(capture, each={"fl_x": 20.0})
    assert any(note.startswith("`fl_x` says another focal length than `x_fov`")
               for note in memonf.load_scene(capture).notes)  # fmt: skip


@pytest.mark.parametrize(
    ("w", "h", "why"),
    [(HEIGHT, WIDTH, "are exchanged"), (4 * WIDTH, 3 * HEIGHT, "cropping or turning")],
)
def test_sizes_that_do_not_fit_the_pictures_are_refused(
    w: int, h: int, why: str, capture: Path
) -> None:
    with pytest.raises(DataError, match=rf"view_0.png: 24x18 pixels, its camera is for {w}x{h}"):
        memonf.load_scene(edited(capture, w=w, h=h))
    with pytest.raises(DataError, match=why):
        memonf.load_scene(capture)


@pytest.mark.parametrize(("w", "h"), [(2 * WIDTH, 2 * HEIGHT), (4 * WIDTH + 3, 4 * HEIGHT + 2)])
def test_sizes_of_larger_pictures_that_were_scaled_fit(w: int, h: int, capture: Path) -> None:
    memonf.load_scene(edited(capture, w=w, h=h))


@pytest.mark.parametrize(
    ("key", "value"),
    [("k1", 0.1), ("cx", 3.0), ("fl_y", 9.0), ("w", 8), ("scale", 0.2), ("aabb_scale", 2)],
)
@pytest.mark.parametrize("at", ["top", "frame"])
def test_the_synthetic_layout_follows_no_camera_key_in_silence(
    key: str, value: Any, at: str, synthetic: Path
) -> None:
    """It is read as a capture, which follows them, or says what is missing."""
    name = "transforms_train.json"
    plain = memonf.load_scene(synthetic)
    assert plain.notes == ()
    edited(synthetic, name, **({"each": {key: value}} if at == "frame" else {key: value}))
    edited(synthetic, name, w=8, h=8) if key != "w" else edited(synthetic, name, h=8)
    scene = memonf.load_scene(synthetic)
    changed = not torch.equal(
        scene.split("train").cameras.intrinsics,
        plain.split("train").cameras.intrinsics[: len(scene.split("train"))],
    )
    lens = scene.split("train").cameras.lenses is not None
    assert changed or lens or key == "w" or any(f"`{key}`" in note for note in scene.notes)


def test_the_synthetic_layout_names_keys_that_it_does_not_read(synthetic: Path) -> None:
    name = "transforms_train.json"
    scene = memonf.load_scene(edited(synthetic, name, each={"time": 0.5, "wobble": 1}))
    assert scene.notes == (
        "`time` not read: the scene stands still",
        "not read of frames: `wobble`",
    )
    fy = memonf.load_scene(edited(synthetic, name, camera_angle_y=np.pi / 2)).split("train")
    assert fy.cameras.intrinsics[:, 1].tolist() == pytest.approx([4.0] * 4)
    with pytest.raises(DataError, match="`k5`: camera model OPENCV has no such coefficient"):
        memonf.load_scene(edited(synthetic, name, k5=0.1))


def archive(path: Path, **more: Any) -> Path:
    poses = turntable(4, 8, 4.0, torch.zeros(3)).camera_to_world
    bottom = torch.tensor([0.0, 0, 0, 1]).expand(4, 1, 4)
    images = np.zeros((4, 8, 8, 4), np.uint8)
    np.savez(path, **{"images_train": images, "poses_train": torch.cat([poses, bottom], 1).numpy(),
                      "focal": np.float64(10), **more})  # fmt: skip
    return path


def test_arrays_beside_the_pictures_are_read_refused_or_said(tmp_path: Path) -> None:
    path = tmp_path / "scene.npz"
    assert memonf.load_scene(archive(path)).notes == ()
    scene = memonf.load_scene(archive(path, near=1.0, far=9.0, background=[0.0, 0.5, 1.0]))
    assert (scene.near, scene.far, scene.background) == (1.0, 9.0, (0.0, 0.5, 1.0))
    scene = memonf.load_scene(archive(path, wobble=np.ones(3), masks_train=np.ones((4, 8, 8))))
    assert "not read: `wobble`" in scene.notes
    assert any(note.startswith("`masks_train` not read") for note in scene.notes)
    for key in ("k1", "intrinsics", "K", "cx", "fl_x", "distortion", "scale"):
        with pytest.raises(DataError, match=rf"`{key}`: "):
            memonf.load_scene(archive(path, **{key: np.full(3, 0.5)}))
        memonf.load_scene(archive(path, **{key: np.zeros(3)}))


def test_camera_paths_refuse_what_they_do_not_read() -> None:
    text = CameraPath().joined(world_cameras()[[0]]).as_json()
    content = json.loads(text)
    content["frames"][0]["aspect"] = 2.0
    with pytest.raises(DataError, match="unknown key `aspect`"):
        CameraPath.from_json(json.dumps(content))
    with pytest.raises(DataError, match="unknown key `scale`"):
        CameraPath.from_json(json.dumps({**json.loads(text), "scale": 2}))


def test_data_sets_of_ours_refuse_keys_of_another_version(capture: Path) -> None:
    with pytest.raises(DataError, match="`memonf`: unknown key `tilt`"):
        memonf.load_scene(edited(capture, memonf={"tilt": 1}))


def test_boxes_that_no_camera_looks_into_are_said_and_not_trained(capture: Path) -> None:
    scene = memonf.load_scene(edited(capture, offset=[0.5, 0.5, -9.0]))
    assert any(note.startswith("no camera looks into the box") for note in scene.notes)
    with pytest.raises(DataError, match="no camera looks into the box"):
        new_trainer(scene, settings=TrainSettings(steps=1))


def test_cameras_of_another_scale_than_the_layouts_look_into_the_box(synthetic: Path) -> None:
    """What they see would lie beyond the layout's `far`: the scene is scaled, and that is said."""
    assert memonf.load_scene(synthetic).notes == ()
    file = synthetic / "transforms_train.json"
    content = json.loads(file.read_text())
    for frame in content["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= 100.0
    file.write_text(json.dumps(content))
    scene = memonf.load_scene(synthetic)
    assert any("scaled by" in note for note in scene.notes)
    assert not any("looks into the box" in note for note in scene.notes)
    assert all(looking_into(scene.split("train").cameras, scene.aabb, scene.near, scene.far))


def test_looking_into_boxes_by_hand() -> None:
    camera = Cameras.pinhole(torch.eye(3, 4)[None], 10.0, 8, 8)  # at the origin, along -z
    cube = torch.tensor([[-0.1] * 3, [0.1] * 3])

    def looks(x: float, y: float, z: float, near: float = 0.0, far: float = 9.0) -> bool:
        return next(iter(looking_into(camera, cube + torch.tensor([x, y, z]), near, far)))

    assert looks(0, 0, -3)
    assert not looks(0, 0, 3)
    assert not looks(3, 0, -3)
    assert looks(1.1, 0, -3)  # at the edge, between the rays that are tried
    assert not looks(0, 0, -3, near=4.0)
    assert not looks(0, 0, -3, far=2.0)
    huge = torch.tensor([[-500.0] * 3, [500.0] * 3])
    assert next(iter(looking_into(camera, huge, 0.0, 9.0)))


def test_notes_are_shown_by_data_inspect(capture: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "inspect", str(edited(capture, twist=1))]) == 0
    assert "note: not read: `twist`" in capsys.readouterr().out


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_a_uniform_scale_of_rotations_is_divided_out_in_every_layout(
    scale: float, capture: Path, synthetic: Path, tmp_path: Path
) -> None:
    """The camera object's scale, as Blender writes it; centres stay where they are."""
    for folder, name in ((capture, "transforms.json"), (synthetic, "transforms_train.json")):
        before = memonf.load_scene(folder, place="keep").split("train").cameras.camera_to_world
        file = folder / name
        content = json.loads(file.read_text())
        for frame in content["frames"]:
            matrix = np.array(frame["transform_matrix"])
            matrix[:3, :3] *= scale
            frame["transform_matrix"] = matrix.tolist()
        file.write_text(json.dumps(content))
        scene = memonf.load_scene(folder, place="keep")
        found = scene.split("train").cameras.camera_to_world
        torch.testing.assert_close(found, before, rtol=0, atol=1e-5)
        assert any(f"poses were scaled by {scale:g}: divided out" in note for note in scene.notes)
    poses = np.load(archive(tmp_path / "a.npz"))["poses_train"]
    scaled = poses.copy()
    scaled[:, :3, :3] *= scale
    scene = memonf.load_scene(archive(tmp_path / "a.npz", poses_train=scaled))
    found = scene.split("train").cameras.camera_to_world
    torch.testing.assert_close(found, torch.from_numpy(poses[:, :3]), rtol=0, atol=1e-5)
    assert any("divided out" in note for note in scene.notes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((-1, 1, 1), r"view_2.png: its pose is mirrored \(determinant -1\)"),
        ((-2, 2, 2), r"view_2.png: its pose is mirrored \(determinant -1\)"),
        ((1, 1, 1.3), r"view_2.png: its rotation is sheared, .* 1, 1, 1.3 long"),
        ((0, 0, 0), r"view_2.png: the columns of its rotation are zero"),
        ((1, 1, float("inf")), r"view_2.png: its pose holds numbers that are not finite"),
    ],
)
def test_poses_that_cannot_be_used_are_named_by_their_picture(
    columns: tuple, message: str, capture: Path
) -> None:
    file = capture / "transforms.json"
    content = json.loads(file.read_text())
    matrix = np.array(content["frames"][2]["transform_matrix"])
    matrix[:3, :3] *= columns
    content["frames"][2]["transform_matrix"] = matrix.tolist()
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        memonf.load_scene(capture)


def test_a_pose_with_another_last_row_is_refused(capture: Path) -> None:
    file = capture / "transforms.json"
    content = json.loads(file.read_text())
    matrix = np.array(content["frames"][1]["transform_matrix"])
    content["frames"][1]["transform_matrix"] = matrix.T.tolist()
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"frame 1: .* 0 0 0 1 as its last row.* transposed"):
        memonf.load_scene(capture)


def test_cameras_say_what_is_wrong_with_a_pose() -> None:
    pose = torch.eye(3, 4)[None]
    for change, message in ((torch.tensor([-1.0, 1, 1, 1]), "mirrored"),
                            (torch.tensor([2.0, 2, 2, 1]), "scaled by 2"),
                            (torch.tensor([2.0, 1, 1, 1]), "2, 1, 1 long")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            Cameras.pinhole(pose * change, 10.0, 8, 8)
