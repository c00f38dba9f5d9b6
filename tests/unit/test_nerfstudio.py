"""What this project writes and reads, held against nerfstudio's own reader and cameras."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import memonf
from memonf.cameras.cameras import Cameras, same_size, turntable
from memonf.cameras.distortion import Lens, Lenses
from memonf.data import Scene
from memonf.io.export.transforms import transforms, write_data_set
from memonf.utils.files import write_json

parser = pytest.importorskip(
    "nerfstudio.data.dataparsers.nerfstudio_dataparser",
    reason="needs `pip install --no-deps nerfstudio opencv-python-headless`",
)

pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
FOX = Path(os.environ.get("MEMONF_DATA", Path(__file__).parents[3] / "shared" / "data")) / "fox_8"
WIDTH, HEIGHT, VIEWS = 24, 18, 16
LENSES = {
    "perspective": Lens(k1=0.09, k2=-0.12, k3=0.02, p1=0.003, p2=-0.002),
    "fisheye": Lens(projection="fisheye", k1=0.05, k2=-0.01, k3=0.004, k4=-0.001),
    "decentred fisheye": Lens(projection="fisheye", k1=0.05, p1=0.003, p2=-0.002),
    "panorama": Lens(projection="equirectangular"),
}
#: nerfstudio takes a lens back by ten Newton steps in single precision.
CLOSE = 2e-4


def theirs(folder: Path, split: str) -> tuple[list[str], Tensor, Tensor]:
    """Pictures, origins and directions of all rays as nerfstudio has them, in world coordinates."""
    config = parser.NerfstudioDataParserConfig(
        data=folder, orientation_method="none", center_method="none", auto_scale_poses=False,
        load_3D_points=False,
    )  # fmt: skip
    read = config.setup().get_dataparser_outputs(split)
    rays = [
        read.cameras.generate_rays(camera_indices=view, keep_shape=True)
        for view in range(len(read.image_filenames))
    ]
    names = [path.stem for path in read.image_filenames]
    return (
        names,
        torch.stack([bundle.origins.reshape(-1, 3) for bundle in rays]),
        torch.stack([bundle.directions.reshape(-1, 3) for bundle in rays]),
    )


def ours(scene: Scene, split: str) -> tuple[list[str], Tensor, Tensor]:
    """The same of a scene that keeps its world coordinates, in the order of the names."""
    views = scene.split(split)
    order = sorted(range(len(views)), key=lambda view: views.names[view])
    rays = [views.cameras.view_rays(view) for view in order]
    return (
        [views.names[view] for view in order],
        torch.stack([bundle.origins for bundle in rays]),
        torch.stack([bundle.directions for bundle in rays]),
    )


def assert_alike(folder: Path, scene: Scene, split: str) -> None:
    names, origins, directions = theirs(folder, split)
    own_names, own_origins, own_directions = ours(scene, split)
    assert names == own_names
    torch.testing.assert_close(origins, own_origins, rtol=0, atol=1e-5)
    torch.testing.assert_close(directions, own_directions, rtol=0, atol=CLOSE)


@pytest.fixture(params=list(LENSES))
def capture(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A capture as other tools write it: one file, pictures beside it, no splits."""
    poses = turntable(VIEWS, 24, 5.0, torch.tensor([3.0, -4.0, 2.0]), elevation=20.0)
    focal = 21.0 + torch.arange(VIEWS)
    intrinsics = torch.stack(
        [focal, focal + 0.5, torch.full((VIEWS,), 11.0), torch.full((VIEWS,), 9.5)], 1
    )
    lenses = Lenses.of([LENSES[request.param]] * VIEWS)
    cameras = Cameras(poses.camera_to_world, intrinsics, same_size(VIEWS, WIDTH, HEIGHT), lenses)
    names = [f"images/{view:02}.png" for view in range(VIEWS)]
    (tmp_path / "images").mkdir()
    for view, name in enumerate(names):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 9 * view, np.uint8)).save(tmp_path / name)
    write_json(tmp_path / "transforms.json", transforms(cameras, names))
    return tmp_path


def test_what_is_written_is_what_nerfstudio_sees(capture: Path, tmp_path: Path) -> None:
    scene = memonf.load_scene(capture, place="auto")
    assert scene.placement is not None
    views = {split: scene.split(split) for split in scene.loaders}
    assert list(views) == ["train", "test"]
    out = tmp_path / "written"
    write_data_set(scene, views, out)
    world = memonf.load_scene(capture, place="keep")
    for split in views:
        assert_alike(out, world, split)
    assert theirs(out, "val")[0] == theirs(out, "test")[0]
    # Read by ourselves, it lies where it lay.
    again = memonf.load_scene(out)
    assert list(again.loaders) == ["train", "test"]
    assert again.placement is not None
    assert again.placement.same_as(scene.placement)


def test_one_split_is_divided_by_whoever_reads_it(capture: Path, tmp_path: Path) -> None:
    scene = memonf.load_scene(capture)
    write_data_set(scene, {"train": scene.split("train")}, tmp_path / "written")
    names = {split: theirs(tmp_path / "written", split)[0] for split in ("train", "val")}
    assert set(names["train"]).isdisjoint(names["val"])
    assert sorted(names["train"] + names["val"]) == sorted(scene.split("train").names)


@pytest.mark.skipif(not FOX.exists(), reason="the fox capture is not at hand")
def test_a_real_capture_is_read_alike(tmp_path: Path) -> None:
    scene = memonf.load_scene(FOX)
    write_data_set(scene, {name: scene.split(name) for name in scene.loaders}, tmp_path / "fox")
    world = memonf.load_scene(FOX, place="keep")
    for split in ("train", "test"):
        assert_alike(tmp_path / "fox", world, split)
