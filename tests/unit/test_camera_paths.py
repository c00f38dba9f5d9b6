"""Films follow paths that suit a field: all round, or where the cameras of a capture stood."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import small_field
from PIL import Image

import memonf
from memonf.cameras.cameras import turntable
from memonf.cameras.frames import Placement
from memonf.cameras.keyframes import CameraPath
from memonf.cli import main
from memonf.fields import Field
from memonf.visualization.turntables import field_path, field_turntable


def one_sided() -> Field:
    """A field of a capture whose cameras stand within 60° of azimuth, one of them upright."""
    field = small_field("tiny_nerf")
    cameras = turntable(36, 16, 4.0, torch.zeros(3), elevation=10.0)[[0, 1, 2, 3, 4, 5, 6]]
    place = Placement(torch.eye(3).double(), torch.zeros(3).double(), 1.0)
    field.record = dataclasses.replace(field.record, cameras=cameras, placement=place)
    return field


@pytest.mark.parametrize("path", ["sway", "spiral", "auto"])
def test_paths_stay_where_the_cameras_of_a_capture_stood(path: str) -> None:
    field = one_sided()
    cameras = field_path(field, 24, 32, path)
    assert len(cameras) == 24
    azimuth = torch.rad2deg(torch.atan2(cameras.positions[:, 1], cameras.positions[:, 0]))
    assert float(azimuth.min()) >= -90.01
    assert float(azimuth.max()) <= -29.9
    assert float(azimuth.max() - azimuth.min()) > 30
    torch.testing.assert_close(cameras.positions.norm(dim=1), torch.full((24,), 4.0))


def test_paths_go_all_round_where_the_cameras_did() -> None:
    field = small_field("tiny_nerf")
    for path in ("auto", "turntable", "spiral", "sway"):
        places = field_path(field, 36, 32, path).positions
        turned = torch.atan2(places[:, 1], places[:, 0])
        assert len((torch.rad2deg(turned) // 20).unique()) >= 12
    auto, turn = field_path(field, 8, 32), field_turntable(field, 8, 32)
    assert torch.equal(auto.camera_to_world, turn.camera_to_world)


def test_films_follow_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    field = one_sided()
    memonf.save(field, tmp_path / "field.safetensors")
    cameras = field.record.cameras
    assert cameras is not None
    (tmp_path / "tour.json").write_text(
        CameraPath().joined(cameras[[0]]).joined(cameras[[5]]).as_json()
    )
    render = ["render", str(tmp_path / "field.safetensors"), "--frames", "3", "--size", "16",
              "--quiet", "--preview"]  # fmt: skip
    for path in ("sway", str(tmp_path / "tour.json")):
        out = tmp_path / "film.gif"
        assert main([*render, "--path", path, "--out", str(out)]) == 0
        with Image.open(out) as film:
            assert film.n_frames > 1  # type: ignore[attr-defined]
    for path, message in (("round", "expected turntable, sway, spiral, auto"),
                          (str(tmp_path / "no.json"), "expected a file")):  # fmt: skip
        assert main([*render, "--path", path, "--out", str(tmp_path / "b.gif")]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "tour.json").write_text("[]")
    assert main([*render, "--path", str(tmp_path / "tour.json"), "--out", "b.gif"]) == 2
    assert "camera path" in capsys.readouterr().err
