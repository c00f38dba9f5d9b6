"""The colour behind everything: named, said by the file, or seen at the borders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from capture_files import world_cameras, write_transforms
from conftest import small_field
from PIL import Image

import memonf
from memonf.cameras.cameras import turntable
from memonf.cli import main
from memonf.data.background import behind_pictures, colour_text, named_colour
from memonf.errors import DataError, InputError

BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def disc(colour: int | tuple, size: int = 16, alpha: bool = False) -> np.ndarray:
    """A red disc on one colour, or on nothing."""
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[:] = colour
    at = np.arange(size) - size / 2 + 0.5
    inside = at[:, None] ** 2 + at[None] ** 2 < (0.3 * size) ** 2
    pixels[inside] = (220, 30, 30)
    opaque = (inside * 255).astype(np.uint8)[..., None]
    return np.concatenate([pixels, opaque], -1) if alpha else pixels


def write_synthetic(folder: Path, pixels: np.ndarray, views: int = 6, **top: Any) -> Path:
    """NeRF-synthetic layout: the same picture all round, for training and for tests."""
    for split, azimuth in (("train", -90.0), ("test", -60.0)):
        cameras = turntable(views, pixels.shape[0], 4.0, torch.zeros(3), start_azimuth=azimuth)
        poses = cameras.camera_to_world.tolist()
        (folder / split).mkdir(parents=True)
        frames = []
        for view, pose in enumerate(poses):
            Image.fromarray(pixels).save(folder / split / f"r_{view}.png")
            frames.append({"file_path": f"./{split}/r_{view}",
                           "transform_matrix": [*pose, [0, 0, 0, 1]]})  # fmt: skip
        content = {"camera_angle_x": 0.7, "frames": frames, **top}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("grey", "colour"), [(0, BLACK), (255, WHITE), (2, BLACK), (128, (0.502,) * 3)]
)
def test_the_synthetic_layout_without_alpha_stands_on_its_borders(
    grey: int, colour: tuple, tmp_path: Path
) -> None:
    scene = memonf.load_scene(write_synthetic(tmp_path / "s", disc(grey)))
    assert scene.background == colour
    (note,) = scene.notes
    assert f"the colour of their borders, {colour_text(colour)}" in note


def test_alpha_leaves_the_colour_open_and_an_alpha_of_255_does_not(tmp_path: Path) -> None:
    scene = memonf.load_scene(write_synthetic(tmp_path / "a", disc(0, alpha=True)))
    assert (scene.background, scene.notes) == (WHITE, ())
    assert scene.split("train").translucent
    opaque = np.concatenate([disc(0), np.full((16, 16, 1), 255, np.uint8)], -1)
    scene = memonf.load_scene(write_synthetic(tmp_path / "b", opaque))
    assert scene.background == BLACK
    assert not scene.split("train").translucent
    assert scene.split("train").alphas() is None


def test_archives_without_alpha_stand_on_their_borders(tmp_path: Path) -> None:
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[:, 2, 3] = 4.0
    for grey, colour in ((0, BLACK), (255, WHITE)):
        for keys in (("images_train", "poses_train"), ("images", "poses")):
            pictures = np.stack([disc(grey)] * 3)
            path = tmp_path / "scene.npz"
            np.savez(path, **dict(zip(keys, (pictures, poses.numpy()), strict=True)), focal=20.0)
            assert memonf.load_scene(path).background == colour
            assert memonf.load_scene(path, background="white").background == WHITE


def test_borders_of_one_colour_win_over_what_touches_them() -> None:
    touching = disc(0)
    touching[:, :3] = (200, 100, 50)
    assert behind_pictures([disc(0), touching]) == (BLACK, False)
    noisy = disc(0) + np.random.default_rng(0).integers(0, 3, (16, 16, 3), dtype=np.uint8)
    assert behind_pictures([noisy]) == (BLACK, False)
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], 64, 1).repeat(3, 2)
    (red, _, _), _ = behind_pictures([ramp])  # no one colour: the mean
    assert red == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("said", "colour"),
    [
        ({"background": "black"}, BLACK), ({"background_color": [255, 127.5, 0]}, (1.0, 0.5, 0.0)),
        ({"bg_color": [0.25, 0.5, 1.0]}, (0.25, 0.5, 1.0)),
        ({"background": "#ff0000"}, (1.0, 0.0, 0.0)),
        ({"white_transparent": True}, WHITE), ({"black_transparent": True}, BLACK),
        ({"white_background": False, "black_background": True}, BLACK),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["synthetic", "capture"])
def test_files_say_the_colour(said: dict, colour: tuple, layout: str, tmp_path: Path) -> None:
    if layout == "synthetic":
        folder = write_synthetic(tmp_path / "s", disc(77), **said)
    else:
        folder = write_transforms(tmp_path, world_cameras())
        content = json.loads((folder / "transforms.json").read_text())
        (folder / "transforms.json").write_text(json.dumps({**content, **said}))
    scene = memonf.load_scene(folder)
    assert scene.background == colour
    assert any(note.startswith(f"background {colour_text(colour)} from `") for note in scene.notes)
    assert memonf.load_scene(folder, background=(0.1, 0.2, 0.3)).background == (0.1, 0.2, 0.3)


def test_colours_that_are_none_are_refused(tmp_path: Path) -> None:
    for value in ("beige", [1, 2], [-1, 0, 0], [300, 0, 0], {"r": 1}):
        folder = write_synthetic(tmp_path / f"{value}"[:20].strip("[{"), disc(0), background=value)
        with pytest.raises(DataError, match="`background`: expected white, black"):
            memonf.load_scene(folder)
    for value in ("beige", (2, 0, 0), (0, 0)):
        with pytest.raises(InputError, match="--background: expected auto, white, black or three"):
            named_colour(value)


def run(*args: str) -> int:
    return main([*args, "--quiet"])


def test_the_choice_is_saved_with_the_field_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_synthetic(tmp_path / "s", disc(128)), tmp_path / "f.safetensors"
    small = ("--width", "16", "--depth", "2", "--frequencies", "2", "--skips")
    train = ("train", "--data", str(data), "--out", str(out), "--grid", "16", *small)
    assert run(*train, "--steps", "2", "--background", "0", "0", "0.25") == 0
    assert memonf.load(out).record.background == (0.0, 0.0, 0.25)
    capsys.readouterr()
    assert run("eval", str(out), "--data", str(data)) == 0
    assert "background (0, 0, 0.25)" in capsys.readouterr().out
    assert run("eval", str(out), "--data", str(data), "--background", "black") == 2
    assert "add `--background 0 0 0.25`" in capsys.readouterr().err
    parts = tmp_path / "parts"
    assert run("data", "split", str(data), "--out", str(parts), "--background", "black") == 0
    assert memonf.load_scene(parts / "front").background == BLACK
    assert memonf.load_scene(parts / "front", place="keep").background == BLACK


def test_training_starts_afresh_on_another_background(tmp_path: Path) -> None:
    """Neither an interrupted training nor a comparison takes up fields of another background."""
    from memonf.experiment.jobs import already_trained
    from memonf.training import TrainSettings, new_trainer
    from memonf.training.resume import run_settings, train_to_file

    data = write_synthetic(tmp_path / "s", disc(0))
    settings = TrainSettings(steps=1, rays=16, grid=16)
    one, other = (
        new_trainer(memonf.load_scene(data, background=colour), settings=settings)
        for colour in ("white", "black")
    )
    assert run_settings(one) != run_settings(other)
    train_to_file(one, tmp_path / "one.safetensors")
    fresh = new_trainer(memonf.load_scene(data, background="white"), settings=settings).field
    assert already_trained(tmp_path / "one.safetensors", fresh)
    assert not already_trained(tmp_path / "one.safetensors", other.field)


def test_fields_of_another_background_are_scored_on_pictures_with_alpha(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_synthetic(tmp_path / "s", disc(0, alpha=True))
    field = small_field("tiny_nerf")
    field.record = dataclasses.replace(field.record, background=BLACK, placement=None)
    memonf.save(field, tmp_path / "f.safetensors")
    assert run("eval", str(tmp_path / "f.safetensors"), "--data", str(data)) == 0
    assert "background (0, 0, 0), the field's own" in capsys.readouterr().out
