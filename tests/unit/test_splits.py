"""No held-out view is ever trained on: every way in which one could be, in every format."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from capture_files import HEIGHT, WIDTH, assert_same_rays
from conftest import small_field
from PIL import Image

import memonf
from memonf.cameras.cameras import Cameras, turntable
from memonf.cli import main
from memonf.data import Scene, Views
from memonf.data.view_names import view_names
from memonf.errors import DataError
from memonf.io.export.transforms import file_names, transforms, write_data_set

VIEWS = 12


def cameras(count: int = VIEWS) -> Cameras:
    return turntable(count, 24, 4.0, torch.zeros(3)).resized(WIDTH, HEIGHT)


def write_picture(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((HEIGHT, WIDTH, 3), grey, np.uint8)
    pixels[0, 0] = grey // 2
    Image.fromarray(pixels).save(path)


def write_capture(folder: Path, names: list[str] | None = None) -> Path:
    """A capture of twelve views, each of one grey, on a circle."""
    names = names or [f"images/{view:02}.png" for view in range(VIEWS)]
    for view, name in enumerate(names):
        write_picture(folder / name, 10 + 15 * view)
    content = transforms(cameras(len(names)), names)
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def write_synthetic(folder: Path) -> Path:
    """A NeRF-synthetic folder: eight views to train on, four to test."""
    poses = cameras().camera_to_world
    for split, views in (("train", range(8)), ("test", range(8, 12))):
        frames = []
        for place, view in enumerate(views):
            write_picture(folder / split / f"r_{place}.png", 10 + 15 * view)
            matrix = [*poses[view].tolist(), [0.0, 0.0, 0.0, 1.0]]
            frames.append({"file_path": f"./{split}/r_{place}", "transform_matrix": matrix})
        content = {"camera_angle_x": 0.7, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_capture(tmp_path / "room")


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    return write_synthetic(tmp_path / "lego")


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def greys(scene: Scene, split: str) -> list[int]:
    """Grey of each picture of a split: what was really read."""
    views = scene.split(split)
    return [int(views.image(view)[-1, -1, 0]) for view in range(len(views))]


def counts(scene: Scene) -> dict[str, int]:
    return {split: len(scene.split(split)) for split in scene.loaders}


def assert_apart(scene: Scene) -> None:
    """No training view has the picture or the camera of a held-out one."""
    train = scene.split("train")
    for split in scene.loaders.keys() - {"train"}:
        held = scene.split(split)
        assert set(greys(scene, "train")).isdisjoint(greys(scene, split))
        apart = (train.cameras.camera_to_world[:, None] - held.cameras.camera_to_world).abs()
        assert float(apart.amax((2, 3)).min()) > 1e-3


def said(scene: Scene, words: str) -> bool:
    return any(words in note for note in scene.notes)


# --- a picture that is listed twice -----------------------------------------------------------


def again(place: int, name: str | None = None) -> Callable[[dict], object]:
    """List a frame a second time, under another name if one is given."""

    def change(content: dict) -> None:
        frame = dict(content["frames"][place])
        frame["file_path"] = name or frame["file_path"]
        content["frames"].append(frame)

    return change


def with_link(folder: Path) -> str:
    (folder / "images" / "zz.png").symlink_to("04.png")
    return "images/zz.png"


def with_hard_link(folder: Path) -> str:
    os.link(folder / "images" / "04.png", folder / "images" / "zz.png")
    return "images/zz.png"


def with_copy(folder: Path) -> str:
    shutil.copy(folder / "images" / "04.png", folder / "images" / "zz.png")
    return "images/zz.png"


def with_linked_folder(folder: Path) -> str:
    (folder / "frames").symlink_to("images")
    return "frames/04.png"


WAYS: list[Callable[[Path], str]] = [
    lambda _: "images/04.png",
    lambda _: "./images/04.png",
    lambda _: "images//04.png",
    lambda _: "images/../images/04.png",
    lambda _: "images\\04.png",
    lambda _: "images/04",
    lambda _: "images/04.PNG",
    lambda _: "Images/04.png",
    lambda _: "/elsewhere/images/04.png",
    lambda folder: str(folder / "images" / "04.png"),
    with_link,
    with_hard_link,
    with_copy,
    with_linked_folder,
]


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_a_picture_counts_once_however_it_is_listed_again(way: int, capture: Path) -> None:
    """04 is the first that would be held out, its second listing would be trained on."""
    name = WAYS[way](capture)
    edit(capture / "transforms.json", again(4, name))
    scene = memonf.load_scene(capture)
    assert sum(counts(scene).values()) == VIEWS
    assert sorted(greys(scene, "train") + greys(scene, "test")) == [
        10 + 15 * view for view in range(VIEWS)
    ]
    assert_apart(scene)
    assert said(scene, "1 view is listed twice, counted once: ")
    assert said(scene, "04.png") or said(scene, "zz.png")


def test_the_first_pose_counts_where_a_picture_has_two(capture: Path) -> None:
    edit(capture / "transforms.json", lambda c: c["frames"].append(
        {**c["frames"][1], "file_path": "images/04.png"}))  # fmt: skip
    scene = memonf.load_scene(capture, place="keep")
    assert counts(scene) == {"train": 11, "test": 1}
    assert said(scene, "the poses of room/images/04.png differ, the first is taken") or said(
        scene, "the poses of images/04.png differ, the first is taken"
    )
    assert_same_rays(scene.split("test").cameras, cameras()[[4]])


def test_copies_whose_cameras_were_solved_for_apart_count_once(capture: Path) -> None:
    edit(capture / "transforms.json", again(4, with_copy(capture)))

    def nudge(content: dict) -> None:
        content["frames"][-1]["transform_matrix"][0][3] += 0.01

    edit(capture / "transforms.json", nudge)
    assert sum(counts(memonf.load_scene(capture)).values()) == VIEWS


def test_equal_pictures_of_other_cameras_are_no_copies_but_said(capture: Path) -> None:
    """One may be a mistake; a plain thing looks alike from everywhere."""
    write_picture(capture / "images" / "05.png", 10)
    scene = memonf.load_scene(capture)
    assert sum(counts(scene).values()) == VIEWS
    assert said(scene, "1 picture is a copy of another that has another camera: images/05.png")
    for view in range(VIEWS):
        write_picture(capture / "images" / f"{view:02}.png", 100)
    scene = memonf.load_scene(capture)
    assert sum(counts(scene).values()) == VIEWS
    assert not said(scene, "a copy of another")


def test_views_of_one_camera_are_held_out_together(tmp_path: Path) -> None:
    """Exposures of a tripod: three pictures a camera, every eighth picture would be held out."""
    names = [f"images/{view:02}.png" for view in range(VIEWS)]
    write_capture(tmp_path, names)

    def same_camera(content: dict) -> None:
        for place, frame in enumerate(content["frames"]):
            frame["transform_matrix"] = content["frames"][place - place % 3]["transform_matrix"]

    edit(tmp_path / "transforms.json", same_camera)
    scene = memonf.load_scene(tmp_path)
    assert counts(scene) == {"train": 9, "test": 3}
    assert_apart(scene)
    assert said(scene, "2 more, since their cameras are those of held-out views")


# --- lists of names ----------------------------------------------------------------------------

NAMES = [f"images/{view:02}.png" for view in range(VIEWS)]


def lists(**names: object) -> Callable[[dict], object]:
    return lambda content: content.update(
        {f"{split}_filenames": listed for split, listed in names.items()}
    )


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({"train": [name[7:] for name in NAMES[:8]], "test": [n[7:] for n in NAMES[8:]]},
         "`train_filenames`: 8 of 8 names are those of no frame: 00.png, 01.png"),
        ({"train": NAMES[:9], "test": [name[:-3] + "jpg" for name in NAMES[9:]]},
         "`test_filenames`: 3 of 3 names are those of no frame: images/09.jpg"),
        ({"train": NAMES[:9], "val": [*NAMES[9:], "images/12.png"]},
         "`val_filenames`: 1 of 4 names are those of no frame: images/12.png"),
        ({"train": "images/00.png"}, "`train_filenames`: expected a list of file names"),
        ({"train": NAMES, "test": [1, 2]}, "`test_filenames`: expected a list of file names"),
    ],
)  # fmt: skip
def test_split_names_of_no_frame_are_refused(
    listed: dict, message: str, capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(capture / "transforms.json", lists(**listed))
    assert main(["data", "inspect", str(capture)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["./{}", "{}", "back"])
def test_names_in_lists_may_be_spelt_otherwise(spelling: str, capture: Path) -> None:
    def other(names: list[str]) -> list[str]:
        if spelling == "back":
            return [name.replace("/", "\\") for name in names]
        return [spelling.format(name) for name in names]

    edit(capture / "transforms.json", lists(train=other(NAMES[:8]), test=other(NAMES[8:])))
    scene = memonf.load_scene(capture)
    assert counts(scene) == {"train": 8, "test": 4}
    assert greys(scene, "test") == [10 + 15 * view for view in range(8, 12)]


def test_a_name_of_a_frame_whose_picture_is_missing_is_no_strange_name(capture: Path) -> None:
    edit(capture / "transforms.json", lists(train=NAMES[:8], test=NAMES[8:]))
    (capture / "images" / "09.png").unlink()
    scene = memonf.load_scene(capture)
    assert counts(scene) == {"train": 8, "test": 3}
    assert said(scene, "images/09.png")


def test_views_in_both_lists_are_not_trained_on(capture: Path) -> None:
    edit(capture / "transforms.json", lists(train=NAMES[:10], test=NAMES[7:], val=NAMES[7:]))
    scene = memonf.load_scene(capture)
    assert counts(scene) == {"train": 7, "test": 5}
    assert_apart(scene)
    assert said(scene, "3 training views are held out in `test` as well")


@pytest.mark.parametrize(
    ("listed", "expected", "words"),
    [
        ({"test": NAMES[8:]}, {"train": 8, "test": 4},
         "8 frames are in no list of names: trained on"),
        ({"train": NAMES[:8]}, {"train": 8, "test": 4},
         "4 frames are in no list of names: held out"),
        ({"train": NAMES[:6], "test": NAMES[8:]}, {"train": 6, "test": 4},
         "2 frames are in no list of names, left out: images/06.png, images/07.png"),
        ({"train": NAMES, "test": [], "val": []}, {"train": 12}, "no view is held out"),
        ({"train": NAMES[:8], "val": NAMES[8:10], "test": NAMES[10:]},
         {"train": 8, "test": 2, "val": 2}, ""),
        ({"train": [], "test": [], "val": []}, {"train": 11, "test": 1}, "every 8th"),
    ],
)  # fmt: skip
def test_lists_that_name_a_part(
    listed: dict, expected: dict[str, int], words: str, capture: Path
) -> None:
    edit(capture / "transforms.json", lists(**listed))
    scene = memonf.load_scene(capture)
    assert counts(scene) == expected
    assert not words or said(scene, words)
    assert_apart(scene)


# --- files of splits ---------------------------------------------------------------------------


def leak_same_name(folder: Path) -> None:
    test = json.loads((folder / "transforms_test.json").read_text())["frames"]
    edit(folder / "transforms_train.json", lambda c: c["frames"].append(test[1]))


def leak_copy(folder: Path) -> None:
    shutil.copy(folder / "test" / "r_1.png", folder / "train" / "r_8.png")
    pose = json.loads((folder / "transforms_test.json").read_text())["frames"][1]
    frame = {**pose, "file_path": "./train/r_8"}
    edit(folder / "transforms_train.json", lambda c: c["frames"].append(frame))


def leak_link(folder: Path) -> None:
    leak_copy(folder)
    (folder / "train" / "r_8.png").unlink()
    (folder / "train" / "r_8.png").symlink_to("../test/r_1.png")


def leak_camera(folder: Path) -> None:
    """The same view, encoded anew: other bytes."""
    leak_copy(folder)
    Image.open(folder / "train" / "r_8.png").save(folder / "train" / "r_8.png", compress_level=0)


LEAKS = [leak_same_name, leak_copy, leak_link, leak_camera]


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("layout", ["synthetic", "capture"])
def test_files_of_splits_that_share_a_view(
    leak: Callable[[Path], None], layout: str, synthetic: Path
) -> None:
    leak(synthetic)
    if layout == "capture":
        for split in ("train", "test"):
            edit(synthetic / f"transforms_{split}.json", lambda c: c.update(w=WIDTH, h=HEIGHT))
    scene = memonf.load_scene(synthetic)
    assert counts(scene) == {"train": 8, "test": 4}
    assert_apart(scene)
    assert said(scene, "1 training view is held out in `test` as well")


def test_another_picture_from_the_camera_of_a_test_view_is_trained_on_and_said(
    synthetic: Path,
) -> None:
    leak_copy(synthetic)
    write_picture(synthetic / "train" / "r_8.png", 250)
    scene = memonf.load_scene(synthetic)
    assert counts(scene) == {"train": 9, "test": 4}
    assert said(scene, "1 training view is from the camera of a held-out view, with another "
                       "picture, trained on: lego/train/r_8.png")  # fmt: skip


def test_of_a_split_copied_to_all_files_no_view_is_held_out(synthetic: Path) -> None:
    """They can be trained on; scores on them would be scores on training views."""
    shutil.copy(synthetic / "transforms_train.json", synthetic / "transforms_test.json")
    scene = memonf.load_scene(synthetic)
    assert counts(scene) == {"train": 8}
    assert said(scene, "all 8 training views are held out in `test` as well: trained on, and not")
    with pytest.raises(DataError, match="no split `test`"):
        scene.views("test")


def test_validation_views_may_be_the_test_views(synthetic: Path) -> None:
    shutil.copy(synthetic / "transforms_test.json", synthetic / "transforms_val.json")
    scene = memonf.load_scene(synthetic)
    assert counts(scene) == {"train": 8, "val": 4, "test": 4}
    assert_apart(scene)


@pytest.mark.parametrize("layout", ["synthetic", "capture"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_file_of_a_split_means_its_folder(layout: str, split: str, synthetic: Path) -> None:
    if layout == "capture":
        for name in ("train", "test"):
            edit(synthetic / f"transforms_{name}.json", lambda c: c.update(w=WIDTH, h=HEIGHT))
    scene = memonf.load_scene(synthetic / f"transforms_{split}.json")
    assert counts(scene) == {"train": 8, "test": 4}
    assert said(scene, f"transforms_{split}.json is one split of its folder")
    assert (scene.placement is None) == (layout == "synthetic")


def test_instant_ngp_tests_on_a_file_beside_the_whole(capture: Path) -> None:
    """``transforms.json`` has all frames, ``transforms_test.json`` some of them."""
    content = json.loads((capture / "transforms.json").read_text())
    content["frames"] = content["frames"][::4]
    (capture / "transforms_test.json").write_text(json.dumps(content))
    scene = memonf.load_scene(capture)
    assert counts(scene) == {"train": 9, "test": 3}
    assert_apart(scene)


def test_missing_test_pictures_do_not_keep_from_training(synthetic: Path) -> None:
    shutil.rmtree(synthetic / "test")
    scene = memonf.load_scene(synthetic)
    assert len(scene.split("train")) == 8
    with pytest.raises(DataError, match=r"none of the 4 images named in transforms_test.json exist "
                                        r"\(first: ./test/r_0.png, "):  # fmt: skip
        scene.split("test")


# --- other formats -----------------------------------------------------------------------------


def test_archives_whose_splits_share_a_view(tmp_path: Path) -> None:
    poses = np.tile(np.eye(4, dtype=np.float32), (VIEWS, 1, 1))
    poses[:, :3] = cameras().camera_to_world.numpy()
    images = np.arange(VIEWS, dtype=np.uint8)[:, None, None, None] * np.ones((6, 6, 3), np.uint8)
    np.savez(
        tmp_path / "packed.npz", focal=7.0, images_train=images[:9], poses_train=poses[:9],
        images_test=images[7:], poses_test=poses[7:],
    )  # fmt: skip
    scene = memonf.load_scene(tmp_path / "packed.npz")
    assert counts(scene) == {"train": 7, "test": 5}
    assert_apart(scene)
    assert said(scene, "held out in `test` as well, not trained on: "
                       "poses_train[7], poses_train[8]")  # fmt: skip


def test_a_broken_pose_of_an_archive_is_named_by_its_place_in_the_whole(tmp_path: Path) -> None:
    poses = np.tile(np.eye(4, dtype=np.float32), (104, 1, 1))
    poses[:, 0, 3] = np.arange(104)
    poses[102, 1, 1] = np.nan
    np.savez(tmp_path / "one.npz", images=np.zeros((104, 4, 4, 3), np.uint8), poses=poses, focal=5)
    with pytest.raises(
        DataError, match=r"poses\[102\]: its pose holds numbers that are not finite"
    ):
        memonf.load_scene(tmp_path / "one.npz").split("test")
    np.savez(tmp_path / "few.npz", images=np.zeros((9, 4, 4, 3), np.uint8), poses=poses[:9],
             focal=5)  # fmt: skip
    assert counts(memonf.load_scene(tmp_path / "few.npz")) == {"train": 9}


def test_colmap_models_with_a_picture_twice(tmp_path: Path) -> None:
    write_capture(tmp_path)
    (tmp_path / "transforms.json").unlink()
    shutil.copy(tmp_path / "images" / "04.png", tmp_path / "images" / "IMG (copy) 04.png")
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(pycolmap.Camera(
        camera_id=1, model="PINHOLE", width=WIDTH, height=HEIGHT, params=[20.0, 20.0, 12.0, 9.0]
    ))  # fmt: skip
    names = [*(f"{view:02}.png" for view in range(VIEWS)), "IMG (copy) 04.png"]
    for image_id, name in enumerate(names, 1):
        pose = cameras().camera_to_world[4 if "copy" in name else image_id - 1].double().numpy()
        rotation = pose[:, :3] @ np.diag([1.0, -1.0, -1.0])
        shift = np.array([[0.002 * ("copy" in name)], [0.0], [0.0]])
        matrix = np.concatenate([rotation.T, -rotation.T @ (pose[:, 3:] + shift)], 1)
        image = pycolmap.Image(image_id=image_id, camera_id=1, name=name)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(matrix))
    (tmp_path / "sparse").mkdir()
    model.write_binary(tmp_path / "sparse")
    scene = memonf.load_scene(tmp_path)
    assert counts(scene) == {"train": 11, "test": 1}
    assert_apart(scene)
    assert said(scene, "listed twice, counted once")


def test_llff_with_a_picture_twice(tmp_path: Path) -> None:
    rows = []
    write_capture(tmp_path)
    (tmp_path / "transforms.json").unlink()
    shutil.copy(tmp_path / "images" / "03.png", tmp_path / "images" / "03b.png")
    for view in (0, 1, 2, 3, 3, *range(4, VIEWS)):
        right, up, back, centre = cameras().camera_to_world[view].double().numpy().T
        matrix = np.stack([-up, right, back, centre, np.array([HEIGHT, WIDTH, 23.0])], 1)
        rows.append([*matrix.flatten(), 2.0, 7.0])
    np.save(tmp_path / "poses_bounds.npy", np.array(rows))
    scene = memonf.load_scene(tmp_path)
    assert sum(counts(scene).values()) == VIEWS
    assert_apart(scene)
    rows[5][3] = np.nan
    np.save(tmp_path / "poses_bounds.npy", np.array(rows))
    with pytest.raises(DataError, match=r"row 5, that of images/04.png: expected finite numbers"):
        memonf.load_scene(tmp_path)


# --- what is written, and names ----------------------------------------------------------------


@pytest.mark.parametrize("names", ["rig", "endings", "case"])
def test_a_split_data_set_has_every_picture_of_the_whole(names: str, tmp_path: Path) -> None:
    """Pictures of one name in two folders, or with two endings, stay two."""
    listed = {
        "rig": [f"images/cam{view % 2}/{view // 2:04}.png" for view in range(VIEWS)],
        "endings": [f"images/{view // 2}.{'png' if view % 2 else 'jpg'}" for view in range(VIEWS)],
        "case": [f"images/{'aA'[view % 2]}{view // 2}.png" for view in range(VIEWS)],
    }[names]
    whole = write_capture(tmp_path / "rig", listed)
    source = memonf.load_scene(whole)
    for split in source.loaders:
        assert len(set(source.split(split).names)) == len(source.split(split))
    arguments = ["data", "split", str(whole), "--out", str(tmp_path / "parts"), "--quiet"]
    assert main([*arguments, "--groups", "front", "rear"]) == 0
    seen: dict[str, list[int]] = {}
    for group in ("front", "rear"):
        folder = tmp_path / "parts" / group
        content = json.loads((folder / "transforms.json").read_text())
        files = [frame["file_path"] for frame in content["frames"]]
        assert len({name.casefold() for name in files}) == len(files)
        part = memonf.load_scene(folder)
        for split in part.loaders:
            seen.setdefault(split, []).extend(greys(part, split))
            expected = source.views(split, group)
            assert_same_rays(part.split(split).cameras, expected.cameras, 1e-5)
            assert torch.equal(part.split(split).images, expected.images)
    for split in source.loaders:
        assert sorted(seen[split]) == sorted(greys(source, split))


@pytest.mark.parametrize("kept", [["train"], ["train", "val"], ["train", "val", "test"]])
def test_what_is_written_has_the_splits_of_its_source(
    kept: list[str], synthetic: Path, tmp_path: Path
) -> None:
    """A part without held-out views does not hold out training views of its source."""
    frames = json.loads((synthetic / "transforms_test.json").read_text())
    for split, part in (("val", slice(0, 2)), ("test", slice(2, 4))):
        content = {**frames, "frames": frames["frames"][part]}
        (synthetic / f"transforms_{split}.json").write_text(json.dumps(content))
    source = memonf.load_scene(synthetic)
    write_data_set(
        source, {split: source.split(split) for split in kept}, tmp_path / "part", divided=True
    )
    part = memonf.load_scene(tmp_path / "part")
    assert {split: greys(part, split) for split in part.loaders} == {
        split: greys(source, split) for split in kept
    }


def test_names_of_views_are_told_apart() -> None:
    def named(*names: str) -> tuple[str, ...]:
        return view_names([Path("/data/images") / name for name in names])

    assert named("a.png", "b.png") == ("a", "b")
    assert named("l/0.png", "r/0.png", "1.png") == ("l/0", "r/0", "1")
    assert named("x/l/0.png", "y/l/0.png") == ("x/l/0", "y/l/0")
    assert named("0.png", "0.jpg") == ("0.png", "0.jpg")
    assert len({name.casefold() for name in named("l/0.png", "l/0.jpg", "r/0.png")}) == 3
    assert len({name.casefold() for name in named("a.png", "A.png", "b.png")}) == 3


def test_files_of_views_stay_in_their_folder() -> None:
    names = ["a", "A", "../b", "/c/d", "e\\f", 'g:"h', "..", ""]
    found = file_names(names)
    assert found == ["a", "A_2", "b", "c/d", "e/f", "g__h", "view", "view_2"]


def test_scores_are_those_of_each_view_where_stems_are_shared(tmp_path: Path) -> None:
    """Views are chosen by their names in curves and pictures: two of one name would be confused."""
    names = [f"images/cam{view % 2}/{view // 2:04}.png" for view in range(VIEWS)]
    write_capture(tmp_path, names)
    edit(tmp_path / "transforms.json", lists(train=names[:8], test=names[8:]))
    views: Views = memonf.load_scene(tmp_path).split("test")
    assert views.names == ("cam0/0004", "cam1/0004", "cam0/0005", "cam1/0005")


def test_scores_say_where_the_field_was_trained_on_the_views(robot: Scene) -> None:
    """A field that was trained before the views were held out, or on another split of them."""
    field = small_field("tiny_nerf")
    test = robot.split("test")
    field.record = replace(field.record, cameras=robot.split("train").cameras)
    assert "trained on" not in memonf.evaluate(field, robot, most_views=2).protocol
    field.record = replace(field.record, cameras=test.cameras[[0, 7, 49]])
    protocol = memonf.evaluate(field, robot, most_views=2).protocol
    assert "2 of them have cameras of views that the field was trained on" in protocol
