"""Pictures are stored once, as 8 bit, in memory or in a mapped file, and it makes no difference."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import memonf
from memonf.data import base, blender, storage
from memonf.errors import DataError
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import content_hash
from memonf.training import TrainSettings, new_trainer

SMALL = TinyNerfConfig(width=16, depth=2, frequencies=3)
VIEWS = 12


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every split is too large for memory; the folder that its pixels go to."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(storage.CACHE, str(folder))
    for module in (storage, base):
        monkeypatch.setattr(module, "IN_MEMORY", 0)
    return folder


@pytest.fixture
def robot_folder(tmp_path: Path, robot: memonf.Scene) -> Path:
    """A few pictures of the robot as PNG, from the front and the rear."""
    views = robot.split("train")[:VIEWS]
    frames = []
    for index, pose in enumerate(views.cameras.camera_to_world):
        Image.fromarray(views.image(index).numpy()).save(tmp_path / f"r_{index}.png")
        matrix = [*pose.tolist(), [0, 0, 0, 1]]
        frames.append({"file_path": f"r_{index}", "transform_matrix": matrix})
    angle = 2 * np.arctan(50 / float(views.cameras.intrinsics[0, 0]))
    content = {"camera_angle_x": angle, "frames": frames}
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    return tmp_path


def packed(path: Path, images: np.ndarray) -> Path:
    poses = np.tile(np.eye(4, dtype=np.float32), (len(images), 1, 1))
    np.savez_compressed(path, images_train=images, poses_train=poses, focal=9.0)
    return path


def only_file(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "LA", "P"])
def test_pictures_of_a_folder(
    mode: str, where: str, robot_folder: Path, request: pytest.FixtureRequest
) -> None:
    expected = []
    for index in range(VIEWS):
        path = robot_folder / f"r_{index}.png"
        picture = Image.open(path).convert(mode)
        picture.save(path)
        stored = Image.open(path)  # a palette may have an entry that nothing shows through
        transparent = mode in ("RGBA", "LA") or "transparency" in stored.info
        expected.append(np.asarray(stored.convert("RGBA" if transparent else "RGB")))
    if where == "file":
        request.getfixturevalue("cache")
    views = memonf.load_scene(robot_folder).split("train")
    assert views.images.dtype == torch.uint8
    np.testing.assert_array_equal(views.images.numpy(), np.stack(expected))


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "first axis fastest"])
def test_pictures_of_an_archive(
    kind: str, where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    exact = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 4), dtype=np.uint8)
    images = np.asfortranarray(exact) if kind == "first axis fastest" else exact
    if kind.startswith("float"):
        images = exact.astype(kind) / np.array(255, kind)
    if where == "file":
        request.getfixturevalue("cache")
    views = memonf.load_scene(packed(tmp_path / "scene.npz", images)).split("train")
    np.testing.assert_array_equal(views.images.numpy(), exact)


def test_both_parts_of_one_array_have_files_of_their_own(tmp_path: Path, cache: Path) -> None:
    images = np.random.default_rng(0).random((103, 4, 4, 3), np.float32)
    poses = np.tile(np.eye(4, dtype=np.float32), (103, 1, 1))
    np.savez(tmp_path / "tiny.npz", images=images, poses=poses, focal=5.0)
    scene = memonf.load_scene(tmp_path / "tiny.npz")
    expected = np.round(images * 255).astype(np.uint8)
    np.testing.assert_array_equal(scene.split("train").images.numpy(), expected[:100])
    np.testing.assert_array_equal(scene.split("test").images.numpy(), expected[100:])
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("group", ["all", "front"])
def test_training_from_a_file_gives_the_same_bytes(
    group: str, robot_folder: Path, request: pytest.FixtureRequest
) -> None:
    def trained() -> str:
        scene = memonf.load_scene(robot_folder)
        settings = TrainSettings(steps=3, rays=256, grid=24)
        return content_hash(memonf.train(scene, group=group, config=SMALL, settings=settings))

    in_memory = trained()
    cache = request.getfixturevalue("cache")
    assert trained() == in_memory
    assert only_file(cache).stat().st_size > VIEWS * 100 * 100 * 4


def test_a_group_shares_the_pictures_of_its_split(robot: memonf.Scene) -> None:
    whole, front = robot.split("train"), robot.views("train", "front")
    front = front[1:].to("cpu")
    assert front.stored.pixels.data_ptr() == whole.stored.pixels.data_ptr()
    expected = whole.images[[whole.names.index(name) for name in front.names]]
    assert torch.equal(front.images, expected)
    assert torch.equal(front.image(3), expected[3])
    index = torch.tensor([0, 10_000, 70_123])
    assert torch.equal(front.pixels(index), expected.flatten(0, 2)[index])
    alphas = front.alphas()
    assert alphas is not None
    assert torch.equal(torch.stack(list(alphas)), expected[..., 3])


def test_pixels_follow_the_cameras_to_a_device(
    robot: memonf.Scene, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large pictures stay; small ones go along. The device without numbers stands for any."""
    front = robot.views("train", "front")
    assert front.to("meta").stored.pixels.device.type == "cpu"
    assert front.to("meta").pixels(torch.arange(5)).device.type == "meta"
    monkeypatch.setattr(base, "IN_MEMORY", 2**28)
    assert front.to("meta").stored.pixels.device.type == "meta"
    assert len(front.to("meta").stored) == len(front)


def test_a_file_is_found_again(robot_folder: Path, cache: Path, monkeypatch) -> None:
    before = memonf.load_scene(robot_folder).split("train").images

    def decode_again(paths: list[Path], **how: Any) -> Iterator[np.ndarray]:
        raise AssertionError("decoded again")
        yield

    monkeypatch.setattr(blender, "read_pictures", decode_again)
    assert torch.equal(memonf.load_scene(robot_folder).split("train").images, before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: os.truncate(file, file.stat().st_size // 2),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(bytes(file.stat().st_size)),
        lambda file: file.write_bytes(file.read_bytes() + b"more"),
    ],
    ids=["truncated", "empty", "foreign", "longer"],
)
def test_a_spoilt_file_is_made_anew(spoil: Any, robot_folder: Path, cache: Path) -> None:
    before = memonf.load_scene(robot_folder).split("train").images.clone()
    spoil(only_file(cache))
    assert torch.equal(memonf.load_scene(robot_folder).split("train").images, before)
    assert only_file(cache).stat().st_size == before.numel() + 32


def test_other_sources_replace_the_file(robot_folder: Path, cache: Path) -> None:
    before = memonf.load_scene(robot_folder).split("train").images
    kept = before.clone()
    Image.new("RGBA", (100, 100), "red").save(robot_folder / "r_3.png")
    after = memonf.load_scene(robot_folder).split("train").images
    assert after[3].float().mean((0, 1)).tolist() == [255, 0, 0, 255]
    assert torch.equal(before, kept), "what is mapped stays as it was"
    only_file(cache)


def test_a_broken_picture_leaves_no_file(robot_folder: Path, cache: Path) -> None:
    whole = (robot_folder / "r_7.png").read_bytes()
    (robot_folder / "r_7.png").write_bytes(whole[: len(whole) // 2])  # its header is sound
    with pytest.raises(DataError, match=r"r_7.png: cannot be read"):
        memonf.load_scene(robot_folder).split("train")
    assert not list(cache.iterdir())


def test_a_folder_that_cannot_be_written_is_named(robot_folder: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot be kept: .*MEMONF_CACHE"):
        memonf.load_scene(robot_folder).split("train")


def test_where_the_files_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(storage.CACHE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert storage.cache_folder() == tmp_path / "memonf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert storage.cache_folder() == Path.home() / ".cache" / "memonf"
    monkeypatch.setenv(storage.CACHE, str(tmp_path / "here"))
    assert storage.cache_folder() == tmp_path / "here"


def test_one_picture_at_a_time_is_in_memory(tmp_path: Path, cache: Path) -> None:
    shape = (64, 128, 128, 4)
    pictures = (np.full(shape[1:], value, np.uint8) for value in range(shape[0]))
    tracemalloc.start()
    images = storage.keep(pictures, [(128, 128)] * 64, 4, origin="here", sources=[])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [int(images[index][5, 6, 2]) for index in range(64)] == list(range(64))
    assert most < 4 * np.prod(shape[1:])


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor made in its block that is not a view of `known`."""

    def __init__(self, known: torch.Tensor) -> None:
        super().__init__()
        self.known = known.untyped_storage().data_ptr()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() != self.known:
                    self.bytes = max(self.bytes, storage.nbytes())
        return out


@pytest.mark.parametrize("group", ["all", "front"])
def test_training_copies_no_pictures(group: str, robot: memonf.Scene) -> None:
    stored = robot.split("train").stored.pixels
    settings = TrainSettings(steps=1, rays=64, grid=16)
    with Largest(stored) as largest:
        new_trainer(robot, group=group, config=SMALL, settings=settings).step()
    assert 10_000 < largest.bytes < 0.25 * stored.nbytes
