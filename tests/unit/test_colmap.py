"""COLMAP's models: the cameras come back, the largest of several is read, lies are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from capture_files import (
    FISHEYE,
    HEIGHT,
    LENS,
    VIEWS,
    WIDTH,
    all_cameras,
    assert_same_rays,
    world_cameras,
    write_pictures,
)
from PIL import Image

import memonf
from memonf.cameras.cameras import Cameras
from memonf.cameras.distortion import Lens
from memonf.errors import DataError


def colmap_model(cameras: Cameras, model: str) -> pycolmap.Reconstruction:
    """The cameras as COLMAP has them."""
    found = pycolmap.Reconstruction()
    for view in range(len(cameras)):
        fx, fy, cx, cy = cameras.intrinsics[view].tolist()
        lens = cameras.lenses.lens(view)
        tail = {
            "PINHOLE": [], "OPENCV": [lens.k1, lens.k2, lens.p1, lens.p2],
            "OPENCV_FISHEYE": [lens.k1, lens.k2, lens.k3, lens.k4],
        }[model]  # fmt: skip
        found.add_camera_with_trivial_rig(
            pycolmap.Camera(camera_id=view + 1, model=model, width=WIDTH, height=HEIGHT,
                            params=[fx, fy, cx, cy, *tail])
        )  # fmt: skip
        pose = cameras.camera_to_world[view].double().numpy()
        rotation = pose[:, :3] @ np.diag([1.0, -1.0, -1.0])
        matrix = np.concatenate([rotation.T, -rotation.T @ pose[:, 3:]], 1)
        image = pycolmap.Image(image_id=view + 1, camera_id=view + 1, name=f"view_{view}.png")
        found.add_image_with_trivial_frame(image, pycolmap.Rigid3d(matrix))
    return found


@pytest.mark.parametrize("kind", ["binary", "text"])
@pytest.mark.parametrize("model", ["PINHOLE", "OPENCV", "OPENCV_FISHEYE"])
def test_colmap_gives_back_the_cameras(kind: str, model: str, tmp_path: Path) -> None:
    lens = {"PINHOLE": Lens(), "OPENCV": replace(LENS, k3=0.0), "OPENCV_FISHEYE": FISHEYE}[model]
    cameras = world_cameras(lens)
    folder = tmp_path / "sparse" / "0"
    folder.mkdir(parents=True)
    getattr(colmap_model(cameras, model), f"write_{kind}")(folder)
    write_pictures(tmp_path / "images")
    assert_same_rays(all_cameras(tmp_path), cameras, 1e-5)


@pytest.mark.parametrize("kind", ["binary", "text"])
def test_of_models_that_colmap_did_not_join_the_largest_is_read(kind: str, tmp_path: Path) -> None:
    cameras = world_cameras()
    for number, part in (("0", [0, 1]), ("1", list(range(VIEWS))), ("10", [0])):
        folder = tmp_path / "sparse" / number
        folder.mkdir(parents=True)
        getattr(colmap_model(cameras[part], "OPENCV"), f"write_{kind}")(folder)
    write_pictures(tmp_path / "images")
    scene = memonf.load_scene(tmp_path)
    assert sum(len(scene.split(name)) for name in scene.loaders) == VIEWS
    assert "model in `sparse/1`, 0 points" in scene.notes
    assert any(note.startswith("3 models that were not joined") for note in scene.notes)


@pytest.mark.parametrize("file", ["cameras.bin", "images.bin"])
@pytest.mark.parametrize("keep", [0, 7, 40, 120])
def test_broken_colmap_models_are_refused(file: str, keep: int, tmp_path: Path) -> None:
    folder = tmp_path / "sparse"
    folder.mkdir()
    colmap_model(world_cameras(), "OPENCV").write_binary(folder)
    write_pictures(tmp_path / "images")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"COLMAP model|counts are not true"):
        memonf.load_scene(tmp_path)
    # A header that claims 2**40 entries.
    (folder / file).write_bytes((1 << 40).to_bytes(8, "little") + content[8:])
    with pytest.raises(DataError, match=r"COLMAP model|counts are not true"):
        memonf.load_scene(tmp_path)


#: COLMAP's OPENCV has no k3.
CAMERAS = world_cameras(replace(LENS, k3=0.0))


def write_model(folder: Path, kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    getattr(colmap_model(CAMERAS, "OPENCV"), f"write_{kind}")(folder)


@pytest.mark.parametrize("points", ["missing", "empty"])
@pytest.mark.parametrize("kind", ["binary", "text"])
@pytest.mark.parametrize("place", ["sparse", "sparse/0", "."])
def test_points_are_not_needed(points: str, kind: str, place: str, tmp_path: Path) -> None:
    write_model(tmp_path / place, kind)
    write_pictures(tmp_path / "images")
    (file,) = (tmp_path / place).glob("points3D.*")
    file.unlink()
    if points == "empty":
        file.touch()
    assert_same_rays(all_cameras(tmp_path), CAMERAS, 1e-5)


@pytest.mark.parametrize("kind", ["binary", "text"])
@pytest.mark.parametrize("name", ["my photo {}.png", "a  b/IMG {} (1).png", "ä b {}.png"])
def test_names_of_pictures_may_have_spaces(kind: str, name: str, tmp_path: Path) -> None:
    """pycolmap writes them, and of a text reads the first word alone."""
    model = colmap_model(CAMERAS, "OPENCV")
    images = tmp_path / "images"
    write_pictures(images)
    for view in range(VIEWS):
        target = images / name.format(view)
        target.parent.mkdir(exist_ok=True)
        (images / f"view_{view}.png").rename(target)
        model.images[view + 1].name = name.format(view)
    (tmp_path / "sparse").mkdir()
    getattr(model, f"write_{kind}")(tmp_path / "sparse")
    assert_same_rays(all_cameras(tmp_path), CAMERAS, 1e-5)


@pytest.mark.parametrize("folder", ["images_2", "images_8"])
def test_smaller_pictures_alone_are_read_and_said(folder: str, tmp_path: Path) -> None:
    write_model(tmp_path / "sparse" / "0", "binary")
    write_pictures(tmp_path / folder)
    (tmp_path / "images_16").mkdir()
    for file in (tmp_path / folder).iterdir():
        Image.open(file).resize((WIDTH // 2, HEIGHT // 2)).save(file)
    scene = memonf.load_scene(tmp_path)
    assert f"pictures from `{folder}`, intrinsics follow their size" in scene.notes
    assert_same_rays(all_cameras(tmp_path), CAMERAS.resized(WIDTH // 2, HEIGHT // 2), 1e-5)


def test_pictures_beside_the_model_and_links_to_them(tmp_path: Path) -> None:
    write_model(tmp_path / "flat", "binary")
    write_pictures(tmp_path / "flat")
    assert_same_rays(all_cameras(tmp_path / "flat"), CAMERAS, 1e-5)
    write_model(tmp_path / "linked" / "sparse", "binary")
    (tmp_path / "linked" / "images").symlink_to(Path("..") / "flat")
    assert_same_rays(all_cameras(tmp_path / "linked"), CAMERAS, 1e-5)


def test_masks_are_linked_as_pictures_are(tmp_path: Path) -> None:
    """The masks of a hub's cache are links out of the folder, too."""
    write_model(tmp_path / "room" / "sparse", "binary")
    write_pictures(tmp_path / "room" / "images")
    write_pictures(tmp_path / "blobs")
    (tmp_path / "room" / "masks").mkdir()
    for view in range(VIEWS):
        mask = tmp_path / "room" / "masks" / f"view_{view}.png"
        mask.symlink_to(Path("..") / ".." / "blobs" / f"view_{view}.png")
    assert memonf.load_scene(tmp_path / "room").split("train").masks is not None


def test_no_picture_of_a_model_is_named(tmp_path: Path) -> None:
    write_model(tmp_path / "sparse" / "0", "text")
    with pytest.raises(
        DataError,
        match=r"none of the 9 images named in sparse/0/images.txt exist \(first: view_0.png, ",
    ):
        memonf.load_scene(tmp_path)
    write_pictures(tmp_path / "images")
    (tmp_path / "images" / "view_2.png").unlink()
    assert any("view_2.png" in note for note in memonf.load_scene(tmp_path).notes)
