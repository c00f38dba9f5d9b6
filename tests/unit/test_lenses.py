"""Lenses bend rays as OpenCV's and COLMAP's models say, and back."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
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
    write_transforms,
)
from conftest import small_field
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import memonf
from memonf.cameras.cameras import Cameras, same_size, turntable
from memonf.cameras.distortion import PROJECTIONS, Lens, Lenses
from memonf.data.capture import panorama
from memonf.errors import DataError, InputError
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.export.transforms import transforms
from memonf.rendering.knowledge import SOLID_RESOLUTION, observe
from memonf.rendering.occupancy_grid import OccupancyGrid
from memonf.visualization.survey import survey

RATIONAL = replace(LENS, q1=0.05, q2=-0.02, q3=0.01)
PRISM = replace(FISHEYE, p1=0.003, p2=-0.002, s1=0.004, s3=-0.006)
FOV = Lens(projection="fov", omega=0.9)
SPHERE = Lens(projection="equirectangular")
#: COLMAP's model, its parameters behind focal length and middle, and the lens.
COLMAP = {
    "SIMPLE_PINHOLE": ([], Lens()),
    "PINHOLE": ([], Lens()),
    "SIMPLE_RADIAL": ([0.09], Lens(k1=0.09)),
    "RADIAL": ([0.09, -0.12], Lens(k1=0.09, k2=-0.12)),
    "OPENCV": ([0.09, -0.12, 0.003, -0.002], replace(LENS, k3=0.0)),
    "FULL_OPENCV": ([0.09, -0.12, 0.003, -0.002, 0.02, 0.05, -0.02, 0.01], RATIONAL),
    "FISHEYE": ([], Lens(projection="fisheye")),
    "SIMPLE_FISHEYE": ([], Lens(projection="fisheye")),
    "SIMPLE_RADIAL_FISHEYE": ([0.05], Lens(projection="fisheye", k1=0.05)),
    "RADIAL_FISHEYE": ([0.05, -0.01], Lens(projection="fisheye", k1=0.05, k2=-0.01)),
    "OPENCV_FISHEYE": ([0.05, -0.01, 0.004, -0.001], FISHEYE),
    "THIN_PRISM_FISHEYE": ([0.05, -0.01, 0.003, -0.002, 0.004, -0.001, 0.004, -0.006], PRISM),
    "FOV": ([0.9], FOV),
    "EQUIRECTANGULAR": ([], SPHERE),
}
ALL_ROUND = ("EQUIRECTANGULAR",)


def directions(count: int, *, widest: float) -> torch.Tensor:
    """Random directions (right, down, ahead), at most an angle off the axis."""
    generator = torch.Generator().manual_seed(0)
    angle, turn, length = torch.rand(3, count, generator=generator, dtype=torch.float64)
    angle, turn = angle * widest, turn * 2 * math.pi
    found = torch.stack([turn.cos() * angle.sin(), turn.sin() * angle.sin(), angle.cos()], 1)
    return found * (0.5 + length[:, None])


def colmap_camera(model: str) -> tuple[pycolmap.Camera, tuple[float, float, float, float]]:
    """One of COLMAP's cameras, and its intrinsics as they are here."""
    tail, _ = COLMAP[model]
    if model == "EQUIRECTANGULAR":
        pixels = panorama(40, 20)
        return pycolmap.Camera(model=model, width=40, height=20, params=[40.0, 20.0]), pixels
    known = pycolmap.Camera.create_from_model_name(1, model, 1.0, 2, 2).params_info
    head = [20.0, 11.0, 9.5] if known.startswith("f,") else [20.0, 21.0, 11.0, 9.5]
    camera = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=[*head, *tail])
    return camera, (20.0, 20.0 if len(head) == 3 else 21.0, 11.0, 9.5)


@pytest.mark.parametrize("model", list(COLMAP))
def test_lenses_are_those_of_colmap(model: str) -> None:
    """Its own camera models say where directions fall, and ours lead back."""
    camera, (fx, fy, cx, cy) = colmap_camera(model)
    rays = directions(200, widest=3.0 if model in ALL_ROUND else 0.7)
    expected = np.stack([camera.img_from_cam(ray) for ray in rays.numpy()]).reshape(-1, 2)
    lenses = Lenses.of([COLMAP[model][1]])
    seen = lenses.distort(rays.float(), 0)
    pixels = seen.double() * torch.tensor([fx, fy]) + torch.tensor([cx, cy])
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-4)
    back = torch.nn.functional.normalize(lenses.undistort(seen, 0), dim=1)
    there = torch.nn.functional.normalize(rays, dim=1).float()
    torch.testing.assert_close(back, there, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "lens", [LENS, RATIONAL, replace(RATIONAL, s1=0.01, s2=-0.02, s3=0.03, s4=0.01)]
)
def test_perspectives_are_those_of_opencv(lens: Lens) -> None:
    cv2 = pytest.importorskip("cv2")
    rays = directions(200, widest=0.7)
    values = [lens.k1, lens.k2, lens.p1, lens.p2, lens.k3, lens.q1, lens.q2, lens.q3,
              lens.s1, lens.s2, lens.s3, lens.s4]  # fmt: skip
    expected, _ = cv2.projectPoints(
        rays.numpy(), np.zeros(3), np.zeros(3), np.eye(3), np.array(values)
    )
    lenses = Lenses.of([lens])
    seen = lenses.distort(rays.float(), 0)
    np.testing.assert_allclose(seen.numpy(), expected.reshape(-1, 2), atol=2e-6)
    back = lenses.undistort(seen, 0)
    torch.testing.assert_close(
        back[:, :2] / back[:, 2:], (rays[:, :2] / rays[:, 2:]).float(), rtol=0, atol=1e-5
    )


def test_fisheyes_are_those_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    rays = directions(200, widest=1.4)
    values = np.array([FISHEYE.k1, FISHEYE.k2, FISHEYE.k3, FISHEYE.k4])
    plane = (rays[:, :2] / rays[:, 2:]).numpy()[None]
    expected = cv2.fisheye.distortPoints(plane, np.eye(3), values)[0]
    seen = Lenses.of([FISHEYE]).distort(rays.float(), 0)
    np.testing.assert_allclose(seen.numpy(), expected, atol=2e-6)


def test_fisheyes_see_behind_themselves() -> None:
    rays = directions(300, widest=2.2)
    lenses = Lenses.of([Lens(projection="fisheye", k1=0.02, k2=0.001)])
    back = torch.nn.functional.normalize(
        lenses.undistort(lenses.distort(rays.float(), 0), 0), dim=1
    )
    there = torch.nn.functional.normalize(rays, dim=1).float()
    torch.testing.assert_close(back, there, rtol=0, atol=1e-4)


@pytest.mark.parametrize("lens", [LENS, RATIONAL, FISHEYE, PRISM, FOV, SPHERE])
def test_a_ray_meets_the_pixel_that_it_left(lens: Lens) -> None:
    pixels = panorama(WIDTH, HEIGHT) if lens == SPHERE else (24.0, 24.5, 11.0, 9.5)
    cameras = Cameras(
        turntable(1, 24, 5.0, torch.zeros(3)).camera_to_world,
        torch.tensor([pixels]), same_size(1, WIDTH, HEIGHT), Lenses.of([lens]),
    )  # fmt: skip
    rays = cameras.view_rays(0)
    rows, columns, depth, inside = cameras.project(rays.origins + 2.5 * rays.directions, 0)
    assert inside.all()
    assert (depth > 0).all()
    assert (depth <= 2.5 + 1e-5).all()
    assert (rows * WIDTH + columns).tolist() == list(range(WIDTH * HEIGHT))


def test_depth_bounds_what_a_length_spans() -> None:
    """Points beside one another are no further apart in pixels than fx · length / depth says."""
    for lens in (FISHEYE, SPHERE):
        rays = directions(400, widest=2.0 if lens == FISHEYE else 3.0)
        lenses = Lenses.of([replace(lens, k1=0.0, k2=0.0, k3=0.0, k4=0.0)])
        step = 1e-4 * torch.nn.functional.normalize(rays.roll(1, 0), dim=1)
        apart = (lenses.distort(rays + step, 0) - lenses.distort(rays, 0)).norm(dim=1)
        bound = 1e-4 / lenses.depth(rays, 0)
        assert (apart <= 1.05 * bound)[bound < 0.01].all()


def test_a_lens_that_does_not_reach_the_borders_is_said(tmp_path: Path) -> None:
    """Newton's method finds no way back through a polynomial that folds."""
    scene = memonf.load_scene(write_transforms(tmp_path / "a", world_cameras(LENS)))
    assert not any("borders" in note for note in scene.notes)
    folding = Lens(projection="fisheye", k1=-3.0)
    scene = memonf.load_scene(write_transforms(tmp_path / "b", world_cameras(folding)))
    assert any("9 pictures does not reach their borders" in note for note in scene.notes)


def test_lenses_of_several_kinds_stand_side_by_side() -> None:
    kinds = [LENS, Lens(), FISHEYE, FOV, SPHERE, PRISM]
    lenses = Lenses.of(kinds)
    assert [lenses.lens(view).projection for view in range(6)] == [k.projection for k in kinds]
    rays = directions(60, widest=0.6).float()
    views = torch.arange(60) % 6
    together = lenses.distort(rays, views)
    for view, lens in enumerate(kinds):
        alone = Lenses.of([lens]).distort(rays[views == view], 0)
        torch.testing.assert_close(together[views == view], alone, rtol=0, atol=1e-6)
    assert Lenses.join([lenses[:2], lenses[2:]]).projection.tolist() == lenses.projection.tolist()
    assert Lenses.ideal(2).lens(1).pinhole


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        (Lens(k1=math.nan), "lens 1: expected finite coefficients"),
        (
            Lens(projection="fov"),
            r"lens 1: `omega`: expected radians in \(0.0001, pi\), received 0",
        ),
    ],
)
def test_unusable_lenses_are_refused(lens: Lens, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Lenses.of([Lens(), lens]).check()


@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("model", ["FULL_OPENCV", "THIN_PRISM_FISHEYE", "FOV", "EQUIRECTANGULAR"])
def test_colmap_gives_back_the_cameras(model: str, kind: str, tmp_path: Path) -> None:
    camera, pixels = colmap_camera(model)
    cameras = Cameras(
        world_cameras().camera_to_world, torch.tensor([pixels]).expand(VIEWS, 4),
        same_size(VIEWS, camera.width, camera.height), Lenses.of([COLMAP[model][1]] * VIEWS),
    )  # fmt: skip
    found = pycolmap.Reconstruction()
    camera.camera_id = 1
    found.add_camera_with_trivial_rig(camera)
    for view in range(VIEWS):
        pose = cameras.camera_to_world[view].double().numpy()
        rotation = pose[:, :3] @ np.diag([1.0, -1.0, -1.0])
        matrix = np.concatenate([rotation.T, -rotation.T @ pose[:, 3:]], 1)
        image = pycolmap.Image(image_id=view + 1, camera_id=1, name=f"view_{view}.png")
        found.add_image_with_trivial_frame(image, pycolmap.Rigid3d(matrix))
    (tmp_path / "sparse").mkdir()
    getattr(found, f"write_{kind}")(tmp_path / "sparse")
    (tmp_path / "images").mkdir()
    for view in range(VIEWS):
        Image.new("RGB", (camera.width, camera.height)).save(
            tmp_path / "images" / f"view_{view}.png"
        )
    assert_same_rays(all_cameras(tmp_path), cameras, 1e-5)


@pytest.mark.parametrize("lens", [RATIONAL, PRISM, FOV, SPHERE, replace(FISHEYE, p1=0.01)])
def test_transforms_give_back_the_cameras(lens: Lens, tmp_path: Path) -> None:
    cameras = world_cameras(lens)
    assert_same_rays(all_cameras(write_transforms(tmp_path, cameras)), cameras)
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert not any("camera_model" in frame for frame in content["frames"])


def test_cameras_of_several_models_in_one_file(tmp_path: Path) -> None:
    kinds = [LENS, Lens(), FISHEYE, FOV, SPHERE, PRISM, RATIONAL, LENS, FISHEYE]
    cameras = replace(world_cameras(), lenses=Lenses.of(kinds))
    assert_same_rays(all_cameras(write_transforms(tmp_path, cameras)), cameras)
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert "camera_model" not in content
    assert [frame["camera_model"] for frame in content["frames"]][2:5] == [
        "OPENCV_FISHEYE", "FOV", "EQUIRECTANGULAR",
    ]  # fmt: skip


def test_a_lens_that_no_model_has_is_not_written() -> None:
    with pytest.raises(InputError, match="a perspective lens with k4, q1: no camera model"):
        transforms(world_cameras(Lens(k4=0.1, q1=0.1)), [str(view) for view in range(VIEWS)])


@pytest.mark.parametrize(
    ("model", "keys", "lens"),
    [
        ("SIMPLE_RADIAL_FISHEYE", {"k1": 0.05}, Lens(projection="fisheye", k1=0.05)),
        ("RADIAL_FISHEYE", {"k1": 0.05, "k2": 0.01}, Lens(projection="fisheye", k1=0.05, k2=0.01)),
        ("OPENCV", {"k1": 0.1, "k4": 0.01}, Lens(k1=0.1, k4=0.01)),
        ("FULL_OPENCV", {"k1": 0.1, "k4": 0.01, "k6": 0.02}, Lens(k1=0.1, q1=0.01, q3=0.02)),
        ("OPENCV", {"k1": 0.1, "is_fisheye": True}, Lens(projection="fisheye", k1=0.1)),
        ("PINHOLE", {"k5": 0.0, "omega": 0}, Lens()),
    ],
)
def test_keys_of_a_lens(model: str, keys: dict, lens: Lens, tmp_path: Path) -> None:
    write_transforms(tmp_path, world_cameras(Lens()))
    file = tmp_path / "transforms.json"
    content = json.loads(file.read_text()) | {"camera_model": model} | keys
    for frame in content["frames"]:
        for key in [key for key in frame if key in ("k1", "k2", "k3", "k4", "p1", "p2")]:
            del frame[key]
    file.write_text(json.dumps(content))
    lenses = memonf.load_scene(tmp_path).split("train").cameras.lenses
    found = Lens() if lenses is None else lenses.lens(0)
    assert found.projection == lens.projection
    assert found.coefficients == pytest.approx(lens.coefficients)


@pytest.mark.parametrize(
    ("model", "key", "message"),
    [
        (
            "OPENCV",
            "k5",
            r"`k5`: camera model OPENCV has no such coefficient \(FULL_OPENCV has it\)",
        ),
        ("OPENCV_FISHEYE", "sx1", r"OPENCV_FISHEYE has no such .* \(THIN_PRISM_FISHEYE has it\)"),
        ("EQUIRECTANGULAR", "k1", "`k1`: camera model EQUIRECTANGULAR has no such coefficient"),
        ("FOV", "p1", "`p1`: camera model FOV has no such coefficient"),
        ("FISHEYE624", "k1", "camera model `FISHEYE624`; known are OPENCV"),
    ],
)
def test_coefficients_of_other_models_are_refused(
    model: str, key: str, message: str, tmp_path: Path
) -> None:
    write_transforms(tmp_path, world_cameras(Lens()))
    file = tmp_path / "transforms.json"
    content = json.loads(file.read_text())
    content["camera_model"] = model
    content["frames"][0][key] = 0.1
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        memonf.load_scene(tmp_path)


def panoramas(folder: Path, **keys: float) -> Path:
    """Nine panoramas of 24 x 12 with nothing but a camera model and a pose."""
    poses = world_cameras().camera_to_world.double()
    write_pictures(folder / "images")
    for file in (folder / "images").iterdir():
        Image.open(file).resize((24, 12)).save(file)
    frames = [
        {"file_path": f"images/view_{view}.png",
         "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]], **keys}
        for view, pose in enumerate(poses)
    ]  # fmt: skip
    content = {"camera_model": "EQUIRECTANGULAR", "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def test_panoramas_see_all_round(tmp_path: Path) -> None:
    scene = memonf.load_scene(panoramas(tmp_path))
    cameras = scene.split("train").cameras
    rays = cameras.view_rays(0).directions.view(12, 24, 3)
    local = rays @ cameras.camera_to_world[0, :, :3]
    for part, axis in ((local[5:7, 11:13], (0, 0, -1)), (local[5:7, 17:19], (1, 0, 0)),
                       (local[:1], (0, 1, 0))):  # fmt: skip
        mean = torch.nn.functional.normalize(part.mean((0, 1)), dim=0)
        torch.testing.assert_close(mean, torch.tensor(axis).float(), rtol=0, atol=1e-5)
    assert survey(scene)["lens"] == "panorama (equirectangular)"
    # They look nowhere: the scene lies around their middle.
    everyone = torch.cat([scene.split(name).cameras.positions for name in scene.loaders])
    assert float(everyone.mean(0).norm()) < 1e-5
    settings = memonf.TrainSettings(steps=3, rays=64, grid=16)
    field = memonf.train(scene, config=TinyNerfConfig(width=16, depth=2), settings=settings)
    assert field.record.knowledge.seen_share > 0.9
    memonf.save(field, tmp_path / "field.safetensors")
    back = memonf.load(tmp_path / "field.safetensors").record.cameras
    assert back.lenses.lens(0) == SPHERE
    assert math.degrees(float(back.angles.max())) == pytest.approx(150)


def test_panoramas_that_are_said_to_span_less_are_named(tmp_path: Path) -> None:
    scene = memonf.load_scene(panoramas(tmp_path, fl_x=24.0, fl_y=12.0))
    assert any("panoramas span 180 by 180 degrees" in note for note in scene.notes)


@pytest.mark.parametrize("lens", [LENS, FISHEYE, PRISM, FOV, SPHERE])
def test_silhouettes_behind_a_lens_carve_no_matter(lens: Lens) -> None:
    """A ball in the silhouettes that each lens shows of it, from cameras all round and within."""
    poses = turntable(10, 24, 2.0, torch.zeros(3), elevation=20.0).camera_to_world
    pixels = panorama(96, 48) if lens == SPHERE else (50.0, 50.0, 48.0, 24.0)
    cameras = Cameras(
        poses, torch.tensor([pixels]).expand(10, 4), same_size(10, 96, 48), Lenses.of([lens] * 10)
    )
    middle = torch.tensor([0.3, -0.2, 0.1])

    def silhouette(view: int) -> torch.Tensor:
        rays = cameras.view_rays(view)
        along = ((middle - rays.origins) * rays.directions).sum(-1)
        nearest = (rays.origins + rays.directions * along[:, None] - middle).norm(dim=-1)
        return ((nearest < 0.5) & (along > 0)).byte().view(48, 96) * 255

    grid = OccupancyGrid(torch.tensor([[-1.0] * 3, [1.0] * 3]), 32)
    grid.carve(cameras, (silhouette(view) for view in range(10)))
    distance = (grid.centres() - middle).norm(dim=-1)
    assert grid.occupied[distance < 0.45].all()
    assert float(grid.occupied[distance > 0.8].float().mean()) < 0.05


def test_a_panorama_knows_what_is_behind_it() -> None:
    box = torch.tensor([[-1.5] * 3, [1.5] * 3])
    grid = OccupancyGrid(box, SOLID_RESOLUTION)
    grid.density = torch.zeros_like(grid.density)
    camera = turntable(1, 24, 0.5, torch.zeros(3))
    pixels = torch.tensor([panorama(48, 24)])
    sphere = Cameras(camera.camera_to_world, pixels, same_size(1, 48, 24), Lenses.of([SPHERE]))
    assert observe(grid, sphere).seen_share > 0.99
    assert observe(grid, camera).seen_share < 0.5


def test_lenses_of_version_4_files_are_read(tmp_path: Path) -> None:
    field = small_field("tiny_nerf")
    cameras = replace(world_cameras(), lenses=Lenses.of([LENS, FISHEYE] * 4 + [LENS]))
    field.record = replace(field.record, cameras=cameras)
    path = tmp_path / "field.safetensors"
    memonf.save(field, path)
    assert memonf.load(path).record.cameras.lenses.lens(1).projection == "fisheye"
    with safe_open(path, framework="pt") as archive:
        header = json.loads(archive.metadata()["memonf"])
        tensors = {name: archive.get_tensor(name) for name in list(archive.keys())}
    header["format_version"] = 4
    tensors["camera.lenses"] = tensors["camera.lenses"][:, :6].contiguous()
    tensors["camera.fisheye"] = (
        tensors.pop("camera.projection") == PROJECTIONS.index("fisheye")
    ).byte()
    save_file(tensors, path, {"memonf": json.dumps(header)})
    back = memonf.load(path).record.cameras
    assert_same_rays(back, cameras)
