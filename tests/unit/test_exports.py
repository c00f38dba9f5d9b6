"""What is written for other tools, read back by them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import trimesh
from conftest import BOX, small_field
from PIL import Image
from torch import Tensor

import memonf
from memonf.cameras.cameras import turntable
from memonf.cameras.frames import Placement
from memonf.cli import main
from memonf.errors import InputError
from memonf.fields import Field, Record
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import save
from memonf.io.export.geometry import LEVEL, surface, write_grid, write_mesh, write_points
from memonf.io.export.onnx import InWorld, write_onnx
from memonf.io.export.transforms import transforms

#: Where the density of `Ball` passes `LEVEL`.
RADIUS = 0.6


class Ball(Field):
    """A ball around the origin, red where x > 0 and green elsewhere."""

    name = "ball"

    def __init__(self, placement: Placement | None = None, radius: float = RADIUS) -> None:
        super().__init__(TinyNerfConfig(), BOX)
        self.radius = radius
        cameras = turntable(3, 12, 4.0, torch.zeros(3))
        self.record = Record(near=2.0, far=6.0, cameras=cameras, placement=placement)

    def raw(self, positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        depth = self.radius - positions.norm(dim=-1)
        red = positions[:, :1].sign() * 20
        return 5.5413 + 50 * depth, torch.cat([red, -red, torch.full_like(red, -20)], 1)


def placed() -> Placement:
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Placement(turn, torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64), 0.5)


def read_mesh(path: Path) -> trimesh.Trimesh:
    found = trimesh.load(path)
    return found.to_geometry() if isinstance(found, trimesh.Scene) else found


@pytest.mark.parametrize("ending", ["ply", "glb", "obj"])
def test_meshes_are_closed_coloured_and_where_the_density_is(ending: str, tmp_path: Path) -> None:
    write_mesh(surface(Ball(), 64), tmp_path / f"ball.{ending}")
    mesh = read_mesh(tmp_path / f"ball.{ending}")
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)  # > 0: outwards
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), RADIUS, atol=0.01)
    colours = mesh.visual.vertex_colors
    right = mesh.vertices[:, 0] > 0.05
    assert (colours[right, 0] > 250).all()
    assert (colours[right, 1] < 5).all()
    assert (colours[mesh.vertices[:, 0] < -0.05, 1] > 250).all()


def test_matter_at_the_border_of_the_box_is_closed(tmp_path: Path) -> None:
    write_mesh(surface(Ball(radius=1.3), 64), tmp_path / "cut.ply")
    mesh = read_mesh(tmp_path / "cut.ply")
    assert mesh.is_watertight
    assert mesh.bounds == pytest.approx(BOX.numpy(), abs=1 / 32)


def test_glb_has_y_upwards_and_linear_light(tmp_path: Path) -> None:
    field = Ball()
    field.raw = lambda positions, _: (  # type: ignore[method-assign]
        5.5413 + 50 * (0.5 - (positions - torch.tensor([0, 0, 0.4])).norm(dim=-1)),
        torch.zeros(len(positions), 3),
    )
    found = surface(field, 64)
    assert (found.colours == 128).all()
    write_mesh(found, tmp_path / "grey.glb")
    mesh = read_mesh(tmp_path / "grey.glb")
    assert mesh.centroid == pytest.approx([0, 0.4, 0], abs=0.01)
    assert (mesh.visual.vertex_colors[:, :3] == 55).all()  # ((128/255 + .055) / 1.055)^2.4


def test_placements_are_undone(tmp_path: Path) -> None:
    placement = placed()
    found = surface(Ball(placement), 64)
    centre = placement.to_world(torch.zeros(3, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(
        np.linalg.norm(found.vertices - centre, axis=1), RADIUS / placement.scale, atol=0.02
    )
    outwards = (found.vertices - centre) / np.linalg.norm(
        found.vertices - centre, axis=1, keepdims=True
    )
    assert ((outwards * found.normals).sum(1) > 0.99).all()
    write_grid(Ball(placement), tmp_path / "grid.npz", 16, sparse=True)
    grid = np.load(tmp_path / "grid.npz")
    cells = grid["aabb"][0] + (grid["indices"] + 0.5) * (grid["aabb"][1] - grid["aabb"][0]) / 16
    world = cells @ grid["scene_to_world"][:3, :3].T + grid["scene_to_world"][:3, 3]
    assert np.linalg.norm(world - centre, axis=1).max() < RADIUS / placement.scale + 0.02
    assert float(grid["world_scale"]) == placement.scale


def test_points_lie_on_the_surface(tmp_path: Path) -> None:
    found = surface(Ball(), 64)
    write_points(found, tmp_path / "a.ply", 5000, seed=1)
    cloud = trimesh.load(tmp_path / "a.ply")
    assert isinstance(cloud, trimesh.PointCloud)
    assert cloud.vertices.shape == (5000, 3)
    np.testing.assert_allclose(np.linalg.norm(cloud.vertices, axis=1), RADIUS, atol=0.012)
    assert np.abs(cloud.vertices.mean(0)).max() < 0.03  # evenly, all round
    assert (cloud.colors[cloud.vertices[:, 0] > 0.05, 0] > 250).all()
    write_points(found, tmp_path / "b.ply", 5000, seed=1)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_grids_hold_the_density_of_the_field(tmp_path: Path) -> None:
    field = Ball()
    write_grid(field, tmp_path / "dense.npz", 32, sparse=False)
    write_grid(field, tmp_path / "sparse.npz", 32, sparse=True)
    dense, sparse = np.load(tmp_path / "dense.npz"), np.load(tmp_path / "sparse.npz")
    side = torch.linspace(-1 + 1 / 32, 1 - 1 / 32, 32)
    places = torch.stack(torch.meshgrid(side, side, side, indexing="ij"), -1)
    expected = field.density(places).numpy()
    near = expected > 1
    np.testing.assert_allclose(dense["density"][near], expected[near], rtol=1e-4)
    kept = dense["density"] > LEVEL
    assert np.array_equal(sparse["indices"], np.argwhere(kept))
    assert np.array_equal(sparse["density"], dense["density"][kept])
    assert np.array_equal(sparse["rgb"], dense["rgb"][kept])


@pytest.mark.parametrize(
    ("architecture", "far"),
    [("tiny_nerf_skip", False), ("nerf_batch_norm", True), ("siren", False)],
)
def test_onnx_computes_what_the_field_does(architecture: str, far: bool, tmp_path: Path) -> None:
    """In the capture's coordinates; in double precision where single does not hold these."""
    placement = placed()
    if far:
        placement = dataclasses.replace(placement, translation=placement.translation + 1e7)
    field = small_field(architecture)
    field.record = dataclasses.replace(field.record, placement=placement)
    assert write_onnx(field, tmp_path / "field.onnx") < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "field.onnx")
    scene = torch.rand(77, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    directions = torch.nn.functional.normalize(scene.flip(0), dim=-1)
    world = placement.to_world(scene)
    given = {
        "positions": (world if far else world.float()).numpy(),
        "directions": (directions @ placement.rotation.float()).numpy(),
    }
    wanted = {entry.name: given[entry.name] for entry in session.get_inputs()}
    density, rgb = session.run(None, wanted)
    with torch.no_grad():
        expected = field(scene, directions)
    np.testing.assert_allclose(density, 0.5 * expected.density.numpy(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(rgb, expected.rgb.numpy(), atol=1e-4)


def test_an_onnx_network_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(99))
    truth = InWorld.forward

    def drifting(self: InWorld, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        density, rgb = truth(self, positions, directions)
        return density, rgb + 0.01 * next(calls)

    monkeypatch.setattr(InWorld, "forward", drifting)
    with pytest.raises(InputError, match=r"differs from the field by 0\.\d+"):
        write_onnx(small_field("tiny_nerf"), tmp_path / "field.onnx")
    assert not list(tmp_path.iterdir())


def test_cameras_and_views_are_data_sets(tmp_path: Path) -> None:
    field = small_field("tiny_nerf")
    field.record = dataclasses.replace(field.record, placement=placed())
    save(field, tmp_path / "field.safetensors")
    assert main(["export", str(tmp_path / "field.safetensors"), "--out",
                 str(tmp_path / "views"), "--quiet"]) == 0  # fmt: skip
    scene = memonf.load_scene(tmp_path / "views")
    train = scene.split("train")
    cameras = field.record.cameras
    assert cameras is not None
    torch.testing.assert_close(
        train.cameras.camera_to_world, cameras.camera_to_world, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(train.cameras.intrinsics, cameras.intrinsics)
    assert scene.placement is not None
    assert scene.placement.same_as(placed())
    assert torch.equal(scene.aabb, field.aabb)
    # What it shows is what the field shows: scored on it, nothing but rounding is lost.
    assert (
        memonf.evaluate(memonf.load(tmp_path / "field.safetensors"), scene, split="train").psnr > 45
    )
    assert main(["export", str(tmp_path / "field.safetensors"), "--out",
                 str(tmp_path / "c.json"), "--quiet"]) == 0  # fmt: skip
    content = json.loads((tmp_path / "c.json").read_text())
    names = [frame["file_path"] for frame in content["frames"]]
    assert content == transforms(cameras, names, placed())
    world = placed().cameras_to_world(cameras).camera_to_world[2]
    np.testing.assert_allclose(content["frames"][2]["transform_matrix"][:3], world, atol=1e-6)
    with Image.open(tmp_path / "views" / "images" / "train" / "00000.png") as picture:
        assert picture.size == cameras.size(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.stl"], "expected .ply, .glb, .obj, .npz, .onnx, .json, or a folder"),
        (["--out", "a.glb", "--kind", "points"], "--kind points is written to .ply"),
        (["--out", "a.glb", "--level", "1e5"], "no density above 100000"),
        (["--out", "a.glb", "--level", "-1"], "--level: expected more than 0 and less than 1e+06"),
        (["--out", "a.npz", "--resolution", "33"], "multiple of 4 in [8, 1024]"),
        (["--out", "a.ply", "--kind", "points", "--points", "0"], "--points: expected at least 1"),
        (["--out", "a.json"], "its cameras are unknown"),
    ],
)
def test_mistakes(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    field = small_field("tiny_nerf")
    if "a.json" in arguments:
        field.record = dataclasses.replace(field.record, cameras=None)
    save(field, tmp_path / "field.safetensors")
    if "--resolution" not in arguments:
        arguments = [*arguments, "--resolution", "32"]
    assert main(["export", "field.safetensors", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["field.safetensors"]
