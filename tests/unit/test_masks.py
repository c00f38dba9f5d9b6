"""Which pixels count: masks of every kind, where tools put them, and what nothing counts in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_files import HEIGHT, VIEWS, WIDTH, world_cameras, write_transforms
from PIL import Image

import memonf
from memonf.cli import main
from memonf.data import Pictures
from memonf.data.masks import something_in
from memonf.errors import DataError, InputError
from memonf.training import TrainSettings, new_trainer

#: The left third counts.
LEFT = np.zeros((HEIGHT, WIDTH), bool)
LEFT[:, : WIDTH // 3] = True


def palette(labels: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def with_alpha(colours: np.ndarray | int, alpha: np.ndarray) -> Image.Image:
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., :3] = colours
    pixels[..., 3] = alpha * 255
    return Image.fromarray(pixels)


PHOTO = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREEN = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
GREEN[LEFT] = (0, 255, 0)
KINDS: dict[str, tuple[Image.Image, str]] = {
    "grey": (Image.fromarray((LEFT * 255).astype(np.uint8)), "png"),
    "labels in grey": (Image.fromarray(LEFT.astype(np.uint8)), "png"),
    "1 bit": (Image.fromarray(LEFT), "png"),
    "16 bit": (Image.fromarray(LEFT.astype(np.uint16) * 65535), "png"),
    "labels of 16 bit": (Image.fromarray(LEFT.astype(np.uint16)), "png"),
    "32 bit": (Image.fromarray(LEFT.astype(np.int32)), "tiff"),
    "floats": (Image.fromarray(LEFT.astype(np.float32)), "tiff"),
    "green": (Image.fromarray(GREEN), "png"),
    "blue": (Image.fromarray(np.ascontiguousarray(GREEN[..., [0, 2, 1]])), "png"),
    "jpeg": (Image.fromarray((LEFT * 255).astype(np.uint8)), "jpg"),
    "coloured jpeg": (Image.fromarray(GREEN), "jpg"),
    "palette": (palette(LEFT, (0, 0, 0), (0, 128, 0)), "png"),
    "palette without black": (palette(LEFT, (68, 1, 84), (253, 231, 37)), "png"),
    "palette of one colour": (palette(LEFT, (9, 9, 9), (9, 9, 9)), "png"),
    "black and white by quantising": (palette(LEFT == 0, (255, 255, 255), (0, 0, 0)), "png"),
    "alpha of black": (with_alpha(0, LEFT), "png"),
    "alpha of white": (with_alpha(255, LEFT), "png"),
    "alpha of a cut-out": (with_alpha(PHOTO, LEFT), "png"),
    "alpha and colours": (with_alpha(GREEN, LEFT), "png"),
    "colours, all opaque": (with_alpha(GREEN, np.ones_like(LEFT)), "png"),
    "grey with alpha": (with_alpha(0, LEFT).convert("LA"), "png"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_every_kind(kind: str, tmp_path: Path) -> None:
    image, ending = KINDS[kind]
    path = tmp_path / f"mask.{ending}"
    image.save(path)
    found = something_in(path)
    # JPEG stores colours in blocks of 16 pixels: the edge moves by one or two.
    wrong = (found != LEFT).sum() / HEIGHT
    assert wrong <= (2 if ending == "jpg" else 0)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_transforms(tmp_path, world_cameras())


def name_masks(folder: Path, masks: dict[int, str]) -> None:
    file = folder / "transforms.json"
    content = json.loads(file.read_text())
    for view, name in masks.items():
        content["frames"][view]["mask_path"] = name
    file.write_text(json.dumps(content))


def write_masks(folder: Path, name: str, kind: str = "palette") -> list[str]:
    names = [name.format(view) for view in range(VIEWS)]
    for path in (folder / one for one in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        KINDS[kind][0].save(path)
    return names


def test_the_share_that_counts_is_shown(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = write_masks(capture, "masks/view_{}.png")
    name_masks(capture, dict(enumerate(names)))
    scene = memonf.load_scene(capture)
    assert scene.split("train").counted_share() == pytest.approx(1 / 3)
    assert main(["data", "inspect", str(capture)]) == 0
    assert "; 33.3 % of the pixels count" in capsys.readouterr().out
    name_masks(capture, dict.fromkeys(range(VIEWS), names[0]))


def test_masks_of_some_pictures_are_said(capture: Path) -> None:
    names = write_masks(capture, "masks/view_{}.png")
    name_masks(capture, {2: names[2]})
    notes = memonf.load_scene(capture).notes
    assert f"1 of {VIEWS} pictures have masks: all pixels of the others count" in notes


def test_masks_that_move_are_left_out(capture: Path) -> None:
    """instant-ngp's dynamic masks say what does not count."""
    write_masks(capture, "images/dynamic_mask_view_{}.png", "green")
    scene = memonf.load_scene(capture)
    mask = scene.split("train").mask(0)
    assert mask is not None
    assert np.array_equal(mask.numpy(), ~LEFT)
    assert any("what it shows is left out" in note for note in scene.notes)
    names = write_masks(capture, "masks/view_{}.png", "grey")
    name_masks(capture, dict(enumerate(names)))
    with pytest.raises(DataError, match="leave no pixel that counts"):  # both together
        new_trainer(memonf.load_scene(capture), settings=TrainSettings(steps=1))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("masks/view_{}.png", "`masks/`"), ("mask/view_{}.png.png", "`mask/`"),
        ("masks_2/view_{}.png", "`masks_2/`"), ("images/view_{}_mask.png", "`NAME_mask.png`"),
        ("images/view_{}.alpha.png", "`NAME.alpha.png`"),
    ],
)  # fmt: skip
def test_masks_that_nobody_names_are_said(name: str, said: str, capture: Path) -> None:
    write_masks(capture, name)
    scene = memonf.load_scene(capture)
    assert scene.split("train").masks is None
    assert any(note.startswith(f"not read: {said} of {VIEWS} of {VIEWS} pictures lie there")
               for note in scene.notes)  # fmt: skip


def test_formats_that_cannot_name_masks_take_those_that_lie_there(
    capture: Path, tmp_path: Path
) -> None:
    (capture / "transforms.json").unlink()
    rows = []
    for right, up, back, centre in world_cameras().camera_to_world.transpose(1, 2).numpy():
        matrix = np.stack([-up, right, back, centre, [HEIGHT, WIDTH, 23.0]], 1)
        rows.append([*matrix.flatten(), 2.0, 7.0])
    np.save(capture / "poses_bounds.npy", np.array(rows))
    write_masks(capture, "masks/view_{}.png.png")
    scene = memonf.load_scene(capture)
    mask = scene.split("train").mask(1)
    assert mask is not None
    assert np.array_equal(mask.numpy(), LEFT)
    assert any(note.startswith("masks from `masks`") for note in scene.notes)


def test_colmap_masks_are_taken_by_their_names(tmp_path: Path) -> None:
    from test_colmap import colmap_model

    folder = write_transforms(tmp_path, world_cameras())
    (folder / "transforms.json").unlink()
    (folder / "sparse" / "0").mkdir(parents=True)
    colmap_model(world_cameras(), "OPENCV").write(folder / "sparse" / "0")
    write_masks(folder, "masks/view_{}.png.png")
    scene = memonf.load_scene(folder)
    mask = scene.split("train").mask(0)
    assert mask is not None
    assert np.array_equal(mask.numpy(), LEFT)
    assert any(note.startswith("masks from `masks`") for note in scene.notes)


def test_masks_of_another_shape_are_refused(capture: Path) -> None:
    write_masks(capture, "masks/view_{}.png")
    Image.fromarray(LEFT.T.copy()).save(capture / "masks" / "view_0.png")
    name_masks(capture, {0: "masks/view_0.png"})
    with pytest.raises(
        DataError, match=r"view_0.png: a mask of 18x24 pixels for a picture of 24x18"
    ):
        memonf.load_scene(capture).split("train")
    Image.fromarray(LEFT.repeat(2, 0).repeat(2, 1)).save(capture / "masks" / "view_0.png")
    mask = memonf.load_scene(capture).split("train").mask(0)
    assert mask is not None
    assert np.array_equal(mask.numpy(), LEFT)


def test_training_on_no_pixel_is_refused(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (capture / "masks").mkdir()
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(capture / "masks" / "none.png")
    scene = memonf.load_scene(capture)
    front = scene.views("train", "front").names
    name_masks(capture, {int(name[5:]): "masks/none.png" for name in front})
    out = tmp_path / "f.safetensors"
    args = ["train", "--data", str(capture), "--out", str(out), "--steps", "1", "--grid", "16"]
    assert main([*args, "--group", "front", "--quiet"]) == 2
    assert "leave no pixel that counts" in capsys.readouterr().err
    assert not out.exists()
    new_trainer(memonf.load_scene(capture), group="rear", settings=TrainSettings(steps=1, grid=16))


def test_training_on_pictures_that_are_transparent_everywhere_is_refused(robot) -> None:
    import dataclasses

    train = robot.split("train")[[0, 1, 2]]
    clear = train.images.clone()
    clear[..., 3] = 0
    views = dataclasses.replace(train, stored=Pictures.of(clear), places=None)
    scene = dataclasses.replace(robot, loaders={"train": lambda: views}, _loaded={})
    assert torch.equal(scene.split("train").images, clear)
    with pytest.raises(DataError, match="all 3 training pictures are transparent everywhere"):
        new_trainer(scene, settings=TrainSettings(steps=1, grid=16))


def test_comparisons_refuse_a_group_without_scored_views(robot) -> None:
    from memonf.experiment import CompareSettings
    from memonf.experiment.jobs import picture_views

    assert len(picture_views(robot, CompareSettings(data="robot", most_views=8))[0]) == 4
    with pytest.raises(InputError, match="none of the scored test views is in group"):
        picture_views(robot, CompareSettings(data="robot", most_views=1))
