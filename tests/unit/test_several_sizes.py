"""Pictures of several sizes and several cameras, from the files to training and back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

import memonf
from memonf.cameras.cameras import Cameras, Rays, turntable
from memonf.cli import main
from memonf.data import Views, storage
from memonf.errors import DataError, InputError
from memonf.evaluation.evaluate import evaluate
from memonf.evaluation.image_free import predict
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.export.transforms import transforms
from memonf.rendering.knowledge import SOLID_RESOLUTION, observe
from memonf.rendering.occupancy_grid import OccupancyGrid
from memonf.report.merge_page import MergeStory, compared_from
from memonf.training import TrainSettings, new_trainer
from memonf.visualization.survey import survey

VIEWS = 16
SIZES = ((30, 20), (20, 30), (30, 20), (12, 12))
SMALL = TinyNerfConfig(width=32, depth=3, frequencies=4)
SETTINGS = TrainSettings(steps=200, rays=512, grid=24)
QUICK = TrainSettings(steps=2, rays=64, grid=16)


def mixed_cameras() -> Cameras:
    """A ring of cameras: landscape, portrait and small square pictures."""
    poses = turntable(VIEWS, 8, 4.0, torch.zeros(3), elevation=20.0).camera_to_world
    sizes = torch.tensor(SIZES).repeat(VIEWS // len(SIZES), 1)
    focal = 1.4 * sizes.amax(1, keepdim=True)
    intrinsics = torch.cat([focal, focal, sizes / 2], 1).float()
    return Cameras(poses, intrinsics, sizes)


def ball(rays: Rays) -> tuple[torch.Tensor, torch.Tensor]:
    """What rays see of a ball of radius 0.8, coloured by its normals: rgb, and whether they hit."""
    along = -(rays.origins * rays.directions).sum(-1)
    nearest = rays.origins + rays.directions * along[:, None]
    inner = 0.64 - nearest.square().sum(-1)
    surface = nearest - rays.directions * inner.clamp_min(0).sqrt()[:, None]
    return 0.5 + 0.5 * surface / 0.8, inner > 0


def picture(cameras: Cameras, view: int, *, alpha: bool) -> np.ndarray:
    width, height = cameras.size(view)
    rgb, hit = ball(cameras.view_rays(view))
    shown = torch.where(hit[:, None], rgb, 1.0)
    if alpha:
        shown = torch.cat([shown, hit[:, None].float()], 1)
    return (shown * 255).round().byte().view(height, width, -1).numpy()


def write_capture(folder: Path, *, alpha: slice = slice(0, 0)) -> Path:
    """A transforms.json of the ball; the pictures in `alpha` are RGBA."""
    cameras = mixed_cameras()
    (folder / "images").mkdir(parents=True)
    names = [f"images/{view:02d}.png" for view in range(VIEWS)]
    for view, name in enumerate(names):
        with_alpha = view in range(VIEWS)[alpha]
        Image.fromarray(picture(cameras, view, alpha=with_alpha)).save(folder / name)
    (folder / "transforms.json").write_text(json.dumps(transforms(cameras, names)))
    return folder


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("mixed") / "ball")


def test_pixels_are_counted_view_by_view() -> None:
    cameras = mixed_cameras()[:3]
    assert cameras.pixel_count == 1800
    views, rows, columns = cameras.places(torch.arange(1800))
    expected = [(v, r, c) for v in range(3)
                for r in range(cameras.size(v)[1]) for c in range(cameras.size(v)[0])]  # fmt: skip
    assert list(zip(views.tolist(), rows.tolist(), columns.tolist(), strict=True)) == expected
    drawn = cameras.rays(*cameras.places(torch.tensor([600, 1799])))
    torch.testing.assert_close(drawn.directions[0], cameras.view_rays(1).directions[0])
    torch.testing.assert_close(drawn.directions[1], cameras.view_rays(2).directions[-1])


def test_a_size_without_a_pixel_is_refused() -> None:
    cameras = mixed_cameras()
    sizes = cameras.sizes.clone()
    sizes[3, 1] = 0
    with pytest.raises(DataError, match="size 3: expected pixels > 0, received 12x0"):
        dataclasses.replace(cameras, sizes=sizes).check()


def test_fitting_keeps_the_shape_and_the_field_of_view() -> None:
    cameras = mixed_cameras()[:4]
    fitted = cameras.fitted(15)
    assert fitted.sizes.tolist() == [[15, 10], [10, 15], [15, 10], [15, 15]]
    assert cameras.fitted(15, enlarged=False).sizes.tolist()[3] == [12, 12]
    for view in range(4):
        assert fitted.vertical_angle(view) == pytest.approx(cameras.vertical_angle(view))


def test_views_share_pictures_of_all_sizes(capture: Path) -> None:
    whole = memonf.load_scene(capture).split("train")
    part = whole[[5, 0, 3]]
    assert part.stored is whole.stored
    for view, place in enumerate((5, 0, 3)):
        assert torch.equal(part.image(view), whole.image(place))
        assert part.image(view).shape[:2] == part.cameras.size(view)[::-1]
    expected = torch.cat([part.image(view).flatten(0, 1) for view in range(3)])
    everything = torch.arange(part.cameras.pixel_count)
    assert torch.equal(part.pixels(everything), expected)
    assert torch.equal(Views(part.cameras, part.stored.picked(part.places), part.names)
                       .pixels(everything), expected)  # fmt: skip
    with pytest.raises(InputError, match="expected pictures of one size, received 2 sizes"):
        _ = part.images


def test_pictures_of_several_sizes_in_a_file(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = memonf.load_scene(capture).split("train")
    monkeypatch.setenv(storage.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "IN_MEMORY", 0)
    for _ in range(2):  # made, and found again
        mapped = memonf.load_scene(capture).split("train")
        assert torch.equal(mapped.stored.pixels, in_memory.stored.pixels)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_it_is_said(capture: Path) -> None:
    scene = memonf.load_scene(capture)
    assert "pictures of 3 sizes: 30x20, 20x30, 12x12; every pixel counts alike" in scene.notes
    assert survey(scene)["splits"]["train"]["sizes"] == [[30, 20], [20, 30], [12, 12]]


def test_opaque_pictures_beside_such_with_alpha(tmp_path: Path) -> None:
    scene = memonf.load_scene(write_capture(tmp_path / "ball", alpha=slice(0, None, 2)))
    assert any("8 of 16 pictures have an alpha channel" in note for note in scene.notes)
    train = scene.split("train")
    assert train.stored.channels == 4
    for view, name in enumerate(train.names):
        opaque = int(name) % 2 == 1
        assert bool((train.image(view)[..., 3] == 255).all()) == opaque
    trainer = new_trainer(scene, config=SMALL, settings=SETTINGS)
    assert trainer.grid.occupied.any()


def test_a_field_is_trained_on_them(tmp_path: Path) -> None:
    """Every pixel is as likely, whatever the size of its picture, and the field is right."""
    scene = memonf.load_scene(write_capture(tmp_path / "ball", alpha=slice(None)), half_side=1.2)
    trainer = new_trainer(scene, config=SMALL, settings=SETTINGS)
    assert trainer.pixel_count == sum(
        trainer.views.image(view).shape[:2].numel() for view in range(len(trainer.views))
    )
    while not trainer.done:
        trainer.step()
    field = trainer.finished()
    shapes: list[tuple[int, ...]] = []
    scores = evaluate(field, scene, on_picture=lambda _, seen: shapes.append(tuple(seen.shape)))
    assert scores.psnr > 20  # a white picture has 9
    assert shapes == [(*scene.split("test").cameras.size(view)[::-1], 3) for view in range(2)]


def test_knowledge_is_of_all_pictures() -> None:
    """What each camera sees of a ball does not hang on the sizes of the others' pictures."""
    box = torch.tensor([[-1.5] * 3, [1.5] * 3])
    grid = OccupancyGrid(box, SOLID_RESOLUTION)
    grid.density = torch.where(grid.centres().norm(dim=-1) < 0.8, 50.0, 0.0)
    cameras = mixed_cameras()[:4]
    together = observe(grid, cameras).views.long()
    alone = sum(observe(grid, cameras[[view]]).views.long() for view in range(4))
    assert torch.equal(together, alone)
    assert int(together.max()) == 4


def test_cameras_of_several_sizes_stay_with_the_field(capture: Path, tmp_path: Path) -> None:
    field = memonf.train(memonf.load_scene(capture), config=SMALL, settings=QUICK)
    memonf.save(field, tmp_path / "field.safetensors")
    cameras = memonf.load(tmp_path / "field.safetensors").record.cameras
    assert cameras is not None
    expected = field.record.cameras
    assert expected is not None
    assert torch.equal(cameras.sizes, expected.sizes)
    joined = Cameras.join([cameras, mixed_cameras()])
    assert torch.equal(joined.sizes, torch.cat([cameras.sizes, mixed_cameras().sizes]))
    assert len(joined) == len(cameras) + VIEWS


def test_exported_cameras_are_read_again(tmp_path: Path) -> None:
    cameras = mixed_cameras()
    names = [f"{view}.png" for view in range(VIEWS)]
    content = transforms(cameras, names)
    assert "w" not in content
    assert [(frame["w"], frame["h"]) for frame in content["frames"]][:4] == list(SIZES)
    for view, name in enumerate(names):
        Image.new("RGB", cameras.size(view)).save(tmp_path / name)
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    scene = memonf.load_scene(tmp_path, place="keep")
    for split in scene.loaders:
        views = scene.split(split)
        for view, name in enumerate(views.names):
            here, there = views.cameras.view_rays(view), cameras.view_rays(int(name))
            torch.testing.assert_close(here.directions, there.directions, rtol=0, atol=2e-6)


def test_two_cameras_of_colmap(tmp_path: Path) -> None:
    cameras = mixed_cameras()
    (tmp_path / "images").mkdir()
    model = pycolmap.Reconstruction()
    for number, size in enumerate(dict.fromkeys(SIZES), 1):
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(
                model="SIMPLE_PINHOLE", width=size[0], height=size[1], camera_id=number,
                params=[1.4 * max(size), size[0] / 2, size[1] / 2],
            )
        )  # fmt: skip
    numbers = {size: number for number, size in enumerate(dict.fromkeys(SIZES), 1)}
    for view in range(VIEWS):
        size = cameras.size(view)
        Image.new("RGB", size, (10 * view, 0, 0)).save(tmp_path / "images" / f"{view:02d}.png")
        pose = cameras.camera_to_world[view].double().numpy() @ np.diag([1.0, -1, -1, 1])
        rotation = pose[:, :3].T
        image = pycolmap.Image(name=f"{view:02d}.png", camera_id=numbers[size], image_id=view + 1)
        model.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(np.column_stack([rotation, -rotation @ pose[:, 3]]))
        )
    (tmp_path / "sparse").mkdir()
    model.write_text(tmp_path / "sparse")
    scene = memonf.load_scene(tmp_path, place="keep")
    for split in scene.loaders:
        views = scene.split(split)
        for view, name in enumerate(views.names):
            assert views.cameras.size(view) == cameras.size(int(name))
            here, there = views.cameras.view_rays(view), cameras.view_rays(int(name))
            torch.testing.assert_close(here.directions, there.directions, rtol=0, atol=2e-6)


def test_object_captures_of_several_sizes(tmp_path: Path) -> None:
    """One angle is right for pictures of one shape, and for no others."""
    frames = []
    for view, width in enumerate((20, 40, 20)):
        Image.new("RGBA", (width, width // 2)).save(tmp_path / f"{view}.png")
        frames.append({"file_path": f"{view}", "transform_matrix": np.eye(4).tolist()})
    file = tmp_path / "transforms_train.json"
    file.write_text(json.dumps({"camera_angle_x": 1.0, "frames": frames}))
    cameras = memonf.load_scene(tmp_path).split("train").cameras
    assert cameras.sizes.tolist() == [[20, 10], [40, 20], [20, 10]]
    assert float(cameras.intrinsics[1, 0]) == pytest.approx(2 * float(cameras.intrinsics[0, 0]))
    Image.new("RGBA", (20, 20)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1.png: 20x20 pixels, the first picture has 20x10"):
        memonf.load_scene(tmp_path).split("train")


def test_parts_exports_and_reports(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Split, train, export the views and read those, merge, evaluate and report."""
    parts = tmp_path / "parts"
    assert main(["data", "inspect", str(capture)]) == 0
    assert "3 sizes from 12x12 to" in capsys.readouterr().out
    assert main(["data", "split", str(capture), "--out", str(parts), "--quiet"]) == 0
    fields = []
    for group in ("front", "rear"):
        scene = memonf.load_scene(parts / group)
        fields.append(memonf.train(scene, config=SMALL, settings=QUICK))
        memonf.save(fields[-1], tmp_path / f"{group}.safetensors")
    views = tmp_path / "views"
    assert main(["export", str(tmp_path / "front.safetensors"), "--out", str(views)]) == 0
    again, kept = memonf.load_scene(views), fields[0].record.cameras
    assert kept is not None
    found = {
        name: size
        for split in again.loaders
        for name, size in zip(
            again.split(split).names, again.split(split).cameras.sizes.tolist(), strict=True
        )
    }
    assert [found[name] for name in sorted(found)] == kept.sizes.tolist()
    merged = memonf.merge(fields, method="average").field
    assert merged.record.cameras is not None
    assert len(merged.record.cameras) == sum(len(field.record.cameras) for field in fields)
    predicted = predict(merged, fields, rays=64)
    assert len(predicted) == 2
    story = MergeStory(merged, fields, ("front", "rear"), {}, None, "")
    standpoints, shown = compared_from(story, 12)
    assert len(standpoints) == len(shown[0].pictures)
