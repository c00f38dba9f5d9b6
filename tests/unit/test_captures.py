"""Real captures: every layout gives the same cameras, lenses are OpenCV's, all is undone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_files import (
    FISHEYE,
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
from memonf.cameras.cameras import Cameras, same_size
from memonf.cameras.distortion import Lens
from memonf.cameras.frames import Placement
from memonf.cli import main
from memonf.data.capture import HALF_SCENE, Layout
from memonf.errors import DataError, InputError
from memonf.io.export.transforms import transforms, write_data_set
from memonf.training import new_trainer
from memonf.visualization.survey import draw_survey, survey

FOX = Path(os.environ.get("MEMONF_DATA", Path(__file__).parents[3] / "shared" / "data")) / "fox_8"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_transforms(tmp_path, world_cameras())


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    file = folder / "transforms.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_transforms_json_gives_back_the_cameras(capture: Path) -> None:
    assert_same_rays(all_cameras(capture), world_cameras())


def test_instant_ngp_puts_one_lens_before_all_frames(capture: Path) -> None:
    expected = world_cameras()

    def lift(content: dict) -> None:
        for frame in content["frames"]:
            for key in [key for key in frame if key not in ("file_path", "transform_matrix")]:
                content[key] = frame.pop(key)
        content["camera_angle_x"] = 0.1  # less exact than fl_x, which is beside it

    edit(capture, lift)
    found = all_cameras(capture)
    assert_same_rays(found[[8]], expected[[8]])
    assert float(found.intrinsics[0, 0]) == float(expected.intrinsics[8, 0])


def test_fisheyes_are_read(tmp_path: Path) -> None:
    cameras = world_cameras(FISHEYE)
    assert_same_rays(all_cameras(write_transforms(tmp_path, cameras)), cameras)


def test_intrinsics_follow_the_size_of_the_pictures(capture: Path) -> None:
    for file in (capture / "images").iterdir():
        Image.open(file).resize((WIDTH // 2, HEIGHT // 2)).save(file)
    small = all_cameras(capture)
    assert small.distinct_sizes == [(WIDTH // 2, HEIGHT // 2)]
    torch.testing.assert_close(small.intrinsics, world_cameras().intrinsics / 2)


def test_missing_pictures_are_left_out_and_named(capture: Path) -> None:
    (capture / "images" / "view_3.png").unlink()
    scene = memonf.load_scene(capture)
    assert sum(len(scene.split(name)) for name in scene.loaders) == VIEWS - 1
    assert any("1 frame left out" in note and "view_3.png" in note for note in scene.notes)


def test_held_out_views_are_those_that_the_file_names(capture: Path) -> None:
    names = [f"images/view_{view}.png" for view in range(VIEWS)]
    edit(capture, lambda c: c.update(train_filenames=names[:6], test_filenames=names[6:]))
    scene = memonf.load_scene(capture)
    assert scene.split("test").names == ("view_6", "view_7", "view_8")
    assert len(scene.split("train")) == 6


def test_pictures_without_an_ending_in_the_file(capture: Path) -> None:
    edit(capture, lambda c: [f.update(file_path=f["file_path"][:-4]) for f in c["frames"]])
    assert_same_rays(all_cameras(capture), world_cameras())


@pytest.mark.parametrize("ending", ["jpg", "webp", "png"])
def test_kinds_of_pictures(ending: str, tmp_path: Path) -> None:
    how = {"lossless": True} if ending == "webp" else {}
    names = [f"images/{name}" for name in write_pictures(tmp_path / "images", ending, **how)]
    (tmp_path / "transforms.json").write_text(json.dumps(transforms(world_cameras(), names)))
    train = memonf.load_scene(tmp_path).split("train")
    greys = [int(name.removeprefix("view_")) * 20 for name in train.names]
    assert [int(train.image(view).float().mean().round()) for view in range(len(train))] == greys


def test_sixteen_bit_pictures_are_rounded(capture: Path) -> None:
    for file in (capture / "images").iterdir():
        Image.fromarray(np.full((HEIGHT, WIDTH), 257 * 100 + 60, np.uint16)).save(file)
    assert (memonf.load_scene(capture).split("train").images == 100).all()


@pytest.mark.parametrize("calibrated_upright", [True, False])
def test_exif_rotation_follows_the_calibration(calibrated_upright: bool, tmp_path: Path) -> None:
    """Stored 24x18 and to be turned: cameras of 18x24 saw the turned one, of 24x18 the stored."""
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    names = [f"images/{n}" for n in write_pictures(tmp_path / "images", "jpg", exif=exif)]
    cameras = world_cameras()
    if calibrated_upright:
        cameras = Cameras(
            cameras.camera_to_world, cameras.intrinsics, same_size(VIEWS, HEIGHT, WIDTH),
            cameras.lenses,
        )  # fmt: skip
    (tmp_path / "transforms.json").write_text(json.dumps(transforms(cameras, names)))
    train = memonf.load_scene(tmp_path).split("train")
    assert train.cameras.distinct_sizes == cameras.distinct_sizes
    assert train.images.shape[1:3] == cameras.size(0)[::-1]


def test_masked_pixels_are_neither_learnt_nor_scored(capture: Path) -> None:
    """Pictures are grey on the left and red on the right; the right is masked."""
    (capture / "masks").mkdir()
    for view in range(VIEWS):
        pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        pixels[:, WIDTH // 2 :] = (255, 0, 0)
        Image.fromarray(pixels).save(capture / "images" / f"view_{view}.png")
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[:, WIDTH // 2 :] = 0
        Image.fromarray(mask).save(capture / "masks" / f"view_{view}.png")
    edit(capture, lambda c: [
        frame.update(mask_path=f"masks/view_{view}.png") for view, frame in enumerate(c["frames"])
    ])  # fmt: skip
    scene = memonf.load_scene(capture)
    train = scene.views("train")[[1, 4]]
    pixels = torch.arange(2 * WIDTH * HEIGHT)
    counted = train.counted(pixels)
    assert counted is not None
    assert int(counted.sum()) == WIDTH * HEIGHT
    assert (train.pixels(pixels)[counted] == 128).all()
    trainer = new_trainer(scene, settings=memonf.TrainSettings(steps=60, rays=400, grid=16))
    for _ in range(60):
        progress = trainer.step()
    assert progress.psnr > 22  # half red it would stay below 15
    pictures: list[torch.Tensor] = []
    scores = memonf.evaluate(
        trainer.field, scene, split="train", on_picture=lambda _, picture: pictures.append(picture)
    )
    views = scene.split("train")
    truth, mask = views.picture(0, scene.background_rgb), views.mask(0)
    assert mask is not None
    left = (pictures[0] - truth)[:, : WIDTH // 2].square().mean()
    assert scores.views[0].psnr == pytest.approx(-10 * float(left.log10()), abs=1e-3)


def test_llff_gives_back_the_cameras(tmp_path: Path) -> None:
    pinholes = world_cameras(Lens())
    cameras = Cameras.pinhole(pinholes.camera_to_world, 23.0, WIDTH, HEIGHT)
    rows = []
    for right, up, back, centre in cameras.camera_to_world.transpose(1, 2).double().numpy():
        size = np.array([HEIGHT, WIDTH, 23.0])
        matrix = np.stack([-up, right, back, centre, size], 1)
        rows.append([*matrix.flatten(), 2.0, 7.0])
    np.save(tmp_path / "poses_bounds.npy", np.array(rows))
    write_pictures(tmp_path / "images_4")
    assert_same_rays(all_cameras(tmp_path), cameras)
    scene = memonf.load_scene(tmp_path)
    # What is seen 7 units ahead of a camera lies in the box.
    poses = scene.split("train").cameras.camera_to_world
    assert scene.placement is not None
    seen = poses[:, :, 3] - 7 * scene.placement.scale * poses[:, :, 2]
    assert float(seen.abs().max()) < HALF_SCENE
    (tmp_path / "images_4" / "view_0.png").unlink()
    with pytest.raises(DataError, match=r"8 pictures, .* has 9 poses"):
        memonf.load_scene(tmp_path)


def test_placement_is_undone(capture: Path) -> None:
    scene = memonf.load_scene(capture)
    assert scene.placement is not None
    cameras = scene.split("train").cameras
    assert float(cameras.positions.abs().max()) < HALF_SCENE
    # Upright: the mean of the cameras' up directions is +z.
    up = torch.nn.functional.normalize(cameras.camera_to_world[:, :, 1].mean(0), dim=0)
    assert float(up[2]) > 0.99
    everywhere = all_cameras(capture, "auto")
    assert_same_rays(scene.placement.cameras_to_world(everywhere), world_cameras(), 1e-5)
    again = Placement.from_dict(json.loads(json.dumps(scene.placement.as_dict())))
    assert again.same_as(scene.placement)


def test_placement_is_kept_with_the_field(capture: Path, tmp_path: Path) -> None:
    scene = memonf.load_scene(capture)
    settings = memonf.TrainSettings(steps=2, rays=50, grid=16)
    field = memonf.train(scene, settings=settings)
    memonf.save(field, tmp_path / "field.safetensors")
    record = memonf.load(tmp_path / "field.safetensors").record
    assert scene.placement is not None
    assert record.placement is not None
    assert record.placement.same_as(scene.placement)
    assert record.cameras is not None
    assert_same_rays(record.cameras, scene.split("train").cameras)
    other = memonf.train(memonf.load_scene(capture, half_side=20.0), settings=settings)
    with pytest.raises(InputError, match=r"placement|placed"):
        memonf.merge([field, other], method="average")


def test_parts_of_a_capture_lie_where_the_whole_does(capture: Path, tmp_path: Path) -> None:
    scene = memonf.load_scene(capture)
    for group in ("left", "right"):
        views = {"train": scene.views("train", group)}
        write_data_set(scene, views, tmp_path / "parts" / group)
        part = memonf.load_scene(tmp_path / "parts" / group)
        assert part.placement is not None
        assert scene.placement is not None
        assert part.placement.same_as(scene.placement)
        for name in ("near", "far", "background", "front"):
            assert getattr(part, name) == getattr(scene, name)
        assert torch.equal(part.aabb, scene.aabb)
        assert_same_rays(part.split("train").cameras, views["train"].cameras, 1e-5)
        assert torch.equal(part.split("train").images, views["train"].images)
    with pytest.raises(InputError, match="is there already"):
        write_data_set(scene, views, tmp_path / "parts" / "left")


def test_a_layout_that_is_none_is_refused() -> None:
    scene = memonf.load_scene("embedded:robot")
    values = Layout.of(scene).as_dict()
    assert Layout.from_dict(values) is not None
    for change in ({"aabb": [[0, 0, 0], [0, 1, 1]]}, {"near": 9, "far": 1}, {"front": [0]},
                   {"placement": {"scale": -1}}, {"background": "red"}):  # fmt: skip
        with pytest.raises(DataError, match="expected"):
            Layout.from_dict({**values, **change})
    with pytest.raises(DataError, match="expected"):
        Layout.from_dict([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["frames"][0].update(camera_model="FISHEYE624"),
            "camera model `FISHEYE624`",
        ),
        (lambda c: c["frames"][0].update(k1="much"), "frame 0: `k1`: expected a number"),
        (lambda c: c["frames"][0].update(k1=1e300), "frame 0: `k1`: expected a number"),
        (lambda c: c["frames"][2].update(fl_x=0), "frame 2: `fl_x`: expected a number above 0"),
        (lambda c: c["frames"][2].update(file_path="../../etc/passwd"), "leads out of the data"),
        (lambda c: c["frames"][2].update(mask_path="/etc/passwd"), "leads out of the data"),
        (lambda c: c["frames"][2].update(file_path="a\0b"), "zero byte"),
        (lambda c: c["frames"][2].update(file_path="x" * 5000), "is no usable path"),
        (lambda c: c["frames"][2].update(transform_matrix=[[1]]), "expected 4x4 numbers"),
        (
            lambda c: c["frames"][1].update(transform_matrix=[[2.0, 0, 0, 0]] * 3),
            "view_1.png.*sheared",
        ),
        (lambda c: c.update(frames=[]), "at least one frame"),
        (lambda c: c.update(aabb_scale="big"), "`aabb_scale`: expected a number"),
        (lambda c: c.update(memonf={}), "`memonf`: expected placement"),
        (
            lambda c: [f.update(file_path="gone.png") for f in c["frames"]],
            r"none of the 9 images named in transforms.json exist \(first: gone.png; looked in",
        ),
    ],
)
def test_broken_transforms_are_refused(
    change: Callable[[dict], object], message: str, capture: Path
) -> None:
    edit(capture, change)
    with pytest.raises(DataError, match=message):
        memonf.load_scene(capture)


def test_a_picture_of_another_shape_than_its_camera_is_refused(capture: Path) -> None:
    Image.new("RGB", (30, 30)).save(capture / "images" / "view_5.png")
    with pytest.raises(DataError, match=r"view_5.png: 30x30 pixels, its camera is for 24x18"):
        memonf.load_scene(capture)


def test_only_captures_are_placed() -> None:
    with pytest.raises(DataError, match="only captures are placed"):
        memonf.load_scene(Path(memonf.__file__).parent / "data" / "scenes" / "robot.npz",
                          half_side=2.0)  # fmt: skip


def test_the_survey_counts_and_draws(capture: Path, tmp_path: Path) -> None:
    scene = memonf.load_scene(capture)
    found = survey(scene)
    assert found["splits"]["train"]["views"] + found["splits"]["test"]["views"] == VIEWS
    row = found["splits"]["train"]
    assert row["left"] + row["right"] == row["front"] + row["rear"] == row["views"]
    assert found["lens"] == "distorted (OpenCV)"
    draw_survey(scene, tmp_path / "survey.png")
    picture = np.asarray(Image.open(tmp_path / "survey.png").convert("RGB"))
    assert picture.shape[1] > 1000
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


@pytest.mark.skipif(not FOX.exists(), reason="the fox capture is not at hand")
def test_the_fox() -> None:
    scene = memonf.load_scene(FOX)
    assert [len(scene.split(name)) for name in ("train", "test")] == [44, 6]
    assert len(scene.views("train", "left")) + len(scene.views("train", "right")) == 44
    cameras = scene.split("train").cameras
    assert cameras.lenses is not None
    pinholes = Cameras(cameras.camera_to_world, cameras.intrinsics, cameras.sizes)
    bent = cameras.view_rays(0).directions - pinholes.view_rays(0).directions
    assert 1e-3 < float(bent.abs().max()) < 0.1  # corners; a pixel is 6e-3


def test_the_verb_inspects_and_splits(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (capture / "images" / "view_3.png").unlink()
    png = tmp_path / "survey.png"
    assert main(["data", "inspect", str(capture), "--png", str(png)]) == 0
    said = capsys.readouterr().out
    assert "7 views of 24x18, RGB" in said
    assert "view_3.png" in said
    assert "undone on export" in said
    assert png.exists()
    parts = tmp_path / "parts"
    arguments = ["data", "split", str(capture), "--out", str(parts), "--json", "--groups"]
    assert main([*arguments, "sector 1/2", "sector 2/2"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert sum(part["train"] for part in counts.values()) == 7
    assert (parts / "sector_1_of_2" / "transforms.json").exists()
    assert main([*arguments, "front", "front"]) == 2
    assert main(["data", "split", str(capture)]) == 2
    assert "--out: expected the folder" in capsys.readouterr().err
