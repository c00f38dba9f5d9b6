"""Names of pictures from other machines: read where they mean one file, refused where they may not.

The names are those that people report: from Windows, with another root, converted since.
"""

from __future__ import annotations

import json
import math
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_files import (
    HEIGHT,
    VIEWS,
    WIDTH,
    all_cameras,
    assert_same_rays,
    world_cameras,
    write_pictures,
    write_transforms,
)
from PIL import Image

import memonf
from memonf.cli import main
from memonf.data.lookup import PictureFinder
from memonf.errors import DataError
from memonf.io.export.transforms import transforms


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_transforms(tmp_path / "room", world_cameras())


def rename(folder: Path, new_name: str, file: str = "transforms.json") -> None:
    """Give the frames other names; ``{}`` is the number of the view."""
    content = json.loads((folder / file).read_text())
    for view, frame in enumerate(content["frames"]):
        frame["file_path"] = new_name.format(view)
    (folder / file).write_text(json.dumps(content))


def greys(folder: Path) -> list[int]:
    """Grey of each view's picture, in the order of the cameras in the file."""
    scene = memonf.load_scene(folder)
    found = {}
    for split in scene.loaders:
        views = scene.split(split)
        for view, name in enumerate(views.names):
            found[name] = int(views.image(view)[0, 0, 0])
    return [found[name] for name in sorted(found)]


@pytest.mark.parametrize(
    "name",
    [
        "images\\view_{}.png",
        ".\\images\\view_{}.png",
        "D:\\project\\room\\images\\view_{}.png",
        "C:/Users/me/images/view_{}.png",
        "\\\\server\\share\\images\\view_{}.png",
        "/home/somebody/captures/room/images/view_{}.png",
        "/images/view_{}.png",
        "file:///home/somebody/room/images/view_{}.png",
        "room/images/view_{}.png",
        "./room/images/view_{}.png",
        "../room/images/view_{}.png",
        "images/../images/view_{}.png",
        "./images//view_{}.png",
        "Images/View_{}.PNG",
        "images/view_{}.jpg",
        "images/view_{}.HEIC",
        "images/view_{}",
        " images/view_{}.png\n",
        "images/view%5f{}.png",
        "view_{}.png",
        "elsewhere/view_{}.png",
    ],
)
def test_names_of_other_machines_mean_the_same_pictures(name: str, capture: Path) -> None:
    rename(capture, name)
    assert_same_rays(all_cameras(capture), world_cameras())
    assert greys(capture) == [20 * view for view in range(VIEWS)]


def test_what_is_read_otherwise_than_written_is_said(capture: Path) -> None:
    assert not [note for note in memonf.load_scene(capture).notes if "named" in note]
    rename(capture, "D:\\project\\images\\view_{}.jpg")
    notes = memonf.load_scene(capture).notes
    assert (
        "9 files do not lie as named (lie in another folder than their names say): "
        "`D:\\project\\images\\view_0.jpg` is read as `images/view_0.png`" in notes
    )


@pytest.mark.parametrize("ending", ["JPG", "JPEG", "Png", "bmp", "TIF"])
def test_endings_in_any_case(ending: str, tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "images", ending)
    for stem in ("images/view_{}", "images/view_{}." + ending.lower()):
        (tmp_path / "transforms.json").write_text(
            json.dumps(transforms(world_cameras(), [f"images/{name}" for name in names]))
        )
        rename(tmp_path, stem)
        assert len(all_cameras(tmp_path)) == VIEWS


def test_names_with_dots_and_no_ending(capture: Path) -> None:
    for view in range(VIEWS):
        (capture / "images" / f"view_{view}.png").rename(capture / "images" / f"view.000{view}.png")
    rename(capture, "images/view.000{}")
    assert_same_rays(all_cameras(capture), world_cameras())


def test_accents_in_either_composition(capture: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "vu\u00e9") for form in ("NFC", "NFD"))
    assert composed != apart
    for view in range(VIEWS):
        (capture / "images" / f"view_{view}.png").rename(capture / "images" / f"{apart}_{view}.png")
    rename(capture, f"images/{composed}_{{}}.png")
    assert_same_rays(all_cameras(capture), world_cameras())


def test_smaller_copies_stand_for_the_pictures(capture: Path) -> None:
    (capture / "images").rename(capture / "images_4")
    for file in (capture / "images_4").iterdir():
        Image.open(file).resize((WIDTH // 2, HEIGHT // 2)).save(file)
    (capture / "images_10").mkdir()
    small = all_cameras(capture)
    assert small.size(0) == (WIDTH // 2, HEIGHT // 2)
    assert float(small.intrinsics[0, 0]) == pytest.approx(
        float(world_cameras().intrinsics[0, 0]) / 2
    )
    assert any("smaller copies" in note for note in memonf.load_scene(capture).notes)
    content = json.loads((capture / "transforms.json").read_text())
    del content["w"], content["h"]
    (capture / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="focal lengths in pixels need the size"):
        memonf.load_scene(capture)


def test_names_that_may_mean_several_files_are_refused(capture: Path) -> None:
    images = capture / "images"
    (images / "VIEW_3.png").write_bytes((images / "view_3.png").read_bytes())
    rename(capture, "images/View_{}.png")
    with pytest.raises(DataError, match=r"may mean `VIEW_3.png`, `view_3.png`"):
        memonf.load_scene(capture)
    (images / "VIEW_3.png").unlink()
    for ending in ("jpg", "webp"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(images / f"view_3.{ending}")
    (images / "view_3.png").unlink()
    rename(capture, "images/view_{}.png")
    with pytest.raises(DataError, match=r"may mean `view_3.jpg`, `view_3.webp`"):
        memonf.load_scene(capture)


def test_two_names_that_lead_to_one_file_are_refused(capture: Path) -> None:
    """Cameras of a rig whose folders were merged would all get the pictures of one of them."""
    content = json.loads((capture / "transforms.json").read_text())
    content["frames"][0]["file_path"] = "/rig/left/view_1.png"
    content["frames"][1]["file_path"] = "/rig/right/view_1.png"
    (capture / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"`/rig/right/view_1.png` and `/rig/left/view_1.png` both"):
        memonf.load_scene(capture)


@pytest.mark.parametrize("way", ["..", "root"])
def test_names_lead_out_of_the_folder_neither_by_dots_nor_by_a_root(
    way: str, capture: Path
) -> None:
    other = write_transforms(capture.parent / "other", world_cameras())
    where = ".." if way == ".." else str(capture.parent)
    rename(capture, where + "/other/images/view_{}.png")
    Image.new("RGB", (WIDTH, HEIGHT)).save(other / "images" / "view_0.png", compress_level=0)
    with pytest.raises(DataError, match="leads out of the data folder"):
        memonf.load_scene(capture)
    with pytest.raises(DataError, match="leads out of the data folder"):
        PictureFinder(capture).find("../secret.png", "here")


def test_a_copied_folder_reads_its_own_pictures(capture: Path) -> None:
    rename(capture, str(capture) + "/images/view_{}.png")
    assert len(all_cameras(capture)) == VIEWS
    copy = write_transforms(capture.parent / "copy", world_cameras())
    rename(copy, str(capture) + "/images/view_{}.png")
    scene = memonf.load_scene(copy)
    assert any("is read as `images/view_0.png`" in note for note in scene.notes)


@pytest.mark.parametrize("what", ["pictures", "folder", "hub"])
def test_links_that_the_user_made_are_followed(what: str, capture: Path) -> None:
    """As ``ln -s ../images``, as DVC and git-annex do, as the cache of a hub."""
    if what == "folder":
        (capture / "images").rename(capture.parent / "pictures")
        (capture / "images").symlink_to(Path("..") / "pictures")
    else:
        blobs = capture.parent / "blobs"
        blobs.mkdir()
        for number, file in enumerate(sorted((capture / "images").iterdir())):
            file.rename(blobs / f"{number:040x}")
            target = blobs / f"{number:040x}"
            file.symlink_to(Path("..") / ".." / "blobs" / target.name if what == "hub" else target)
    assert_same_rays(all_cameras(capture), world_cameras())


def test_broken_links_are_named_as_links(capture: Path) -> None:
    picture = capture / "images" / "view_3.png"
    picture.unlink()
    picture.symlink_to("../.git/annex/objects/abc")
    notes = memonf.load_scene(capture).notes
    said = "images/view_3.png (is a link to ../.git/annex/objects/abc, which is not there)"
    assert any(said in note for note in notes)
    for file in (capture / "images").iterdir():
        file.unlink()
    (capture / "images").rmdir()
    (capture / "images").symlink_to("/nowhere/images")
    with pytest.raises(DataError, match=r"`images` is a link to /nowhere/images, which is not"):
        memonf.load_scene(capture)


def test_no_picture_at_all_says_what_was_looked_for_and_where(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rename(capture, "/home/somebody/{}.png")
    assert main(["data", "inspect", str(capture)]) == 2
    said = capsys.readouterr().err
    assert "none of the 9 images named in transforms.json exist (first: /home/somebody/0.png, " in (
        said
    )
    assert f"looked in {capture}" in said


def test_masks_are_found_as_pictures_are(capture: Path) -> None:
    (capture / "masks").mkdir()
    content = json.loads((capture / "transforms.json").read_text())
    for view, frame in enumerate(content["frames"]):
        Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(
            capture / "masks" / f"view_{view}.png"
        )
        frame["mask_path"] = f"D:\\room\\masks\\view_{view}.PNG"
    (capture / "transforms.json").write_text(json.dumps(content))
    assert memonf.load_scene(capture).split("train").masks is not None
    (capture / "masks" / "view_4.png").unlink()
    with pytest.raises(DataError, match=r"frame 4: mask `D:.*view_4.PNG` is not there"):
        memonf.load_scene(capture)


@pytest.mark.parametrize("what", ["x", "y", "both", "one focal", "focal", "w", "h"])
def test_a_size_that_is_not_there_is_that_of_the_pictures(what: str, capture: Path) -> None:
    """As instant-ngp and nerfstudio read a field of view, and a file of one focal length."""
    focal = 20.0
    angles = {
        axis: 2 * math.atan(0.5 * side / focal)
        for axis, side in (("camera_angle_x", WIDTH), ("camera_angle_y", HEIGHT))
    }
    given = {
        "x": {"camera_angle_x": angles["camera_angle_x"]},
        "y": {"camera_angle_y": angles["camera_angle_y"]},
        "both": angles,
        "one focal": {"fl_x": focal},
        "focal": {"fl_x": focal, "fl_y": focal},
        "w": {**angles, "w": 2 * WIDTH},
        "h": {"fl_y": 2 * focal, "h": 2 * HEIGHT},
    }[what]
    content = json.loads((capture / "transforms.json").read_text())
    for key in ("w", "h"):
        del content[key]
    for frame in content["frames"]:
        for key in set(frame) - {"file_path", "transform_matrix"}:
            del frame[key]
    (capture / "transforms.json").write_text(json.dumps({**content, **given}))
    found = all_cameras(capture)
    assert found.size(0) == (WIDTH, HEIGHT)
    expected = torch.tensor([focal, focal, WIDTH / 2, HEIGHT / 2])
    torch.testing.assert_close(found.intrinsics, expected.expand(VIEWS, 4))


def test_the_picture_of_a_broken_pose_is_named(capture: Path) -> None:
    content = json.loads((capture / "transforms.json").read_text())
    content["frames"][4]["transform_matrix"][1][3] = float("nan")
    (capture / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"images/view_4.png: its pose holds numbers that are not"):
        memonf.load_scene(capture)
