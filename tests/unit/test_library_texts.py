"""What other packages say of broken files: passed on, but for advice to switch a check off."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memonf.data import load_scene
from memonf.data.pictures import read_picture
from memonf.errors import DataError, MemonfError, decoding, reason_of
from memonf.io.importing import import_field

#: No user is to be told of these.
NEVER = (
    "weights_only", "allow_pickle", "trust", "max_header_size", "MAX_IMAGE_PIXELS", "http",
    "Re-run", "LOAD_TRUNCATED", "torch.load", "pip install",
)  # fmt: skip


class Thing:
    """An object that would be code."""


def arrays_of_objects() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Thing(), None]), allow_pickle=True)
    return stream.getvalue()


def long_header() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(1, dtype=[(f"name{i}", "f4") for i in range(2000)]))
    return stream.getvalue()


def npz(key: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        arrays = {"images": np.zeros((3, 2, 2, 3)), "poses": np.zeros((3, 4, 4)), "focal": 1.0}
        np.savez(folder / "s.npz", **{**arrays, key: np.array([Thing(), None])})
        return folder / "s.npz"

    return make


def poses(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "images").mkdir()
        Image.new("RGB", (4, 4)).save(folder / "images" / "0.png")
        (folder / "poses_bounds.npy").write_bytes(content())
        return folder

    return make


@pytest.mark.parametrize(
    "make",
    [npz("poses"), npz("images"), npz("focal"), poses(arrays_of_objects), poses(long_header),
     poses(lambda: pickle.dumps(Thing()))],
)  # fmt: skip
def test_data_sets_of_objects_are_refused_without_advice(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        load_scene(make(tmp_path)).split("train")
    assert not [word for word in NEVER if word in str(caught.value)], caught.value


def test_checkpoints_are_refused_without_advice(tmp_path: Path) -> None:
    torch.save({"model": Thing()}, tmp_path / "a.pt")
    torch.save([Thing], tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "c.pt").write_bytes(pickle.dumps(Thing()))
    (tmp_path / "d.npy").write_bytes(arrays_of_objects())
    (tmp_path / "e.npy").write_bytes(long_header())
    for file in tmp_path.iterdir():
        with pytest.raises(MemonfError) as caught:
            import_field(file, torch.tensor([[-1.0] * 3, [1.0] * 3]))
        assert not [word for word in NEVER if word in str(caught.value)], caught.value


def test_pictures_are_refused_without_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("a.png", "cut.png"):
        with pytest.raises(DataError) as caught:
            read_picture(tmp_path / name)
        assert not [word for word in NEVER if word in str(caught.value)], caught.value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Weights only load failed. In PyTorch 2.6, we changed `weights_only`; re-run", "objects"),
        ("Object arrays cannot be loaded when allow_pickle=False", "holds objects"),
        ("Header info length (99999) is large and may not be safe to load securely.\nTo allow",
         "its header is far longer"),
        ("Image size (400000000 pixels) exceeds limit of 178956970 pixels, could be decompression "
         "bomb DOS attack.", "unpacks to far more than a picture"),
        ("[reconstruction.cc:78] Check failed: camera is missing", "Check failed: camera is"),
        ("pickle exhausted before seeing STOP", "its end is missing"),
        ("image file is truncated (3 bytes not processed)", "its end is missing"),
        ("Input should be a number\n    For further information visit https://errors.pydantic.dev",
         "Input should be a number"),
        ("bad value, see https://example.org/errors", "bad value"),
        ("No module named 'x'; pip install x", "it needs a package"),
        ("", "ValueError"), ("plain text", "plain text"),
        ("word " * 100, "word word"),
    ],
)  # fmt: skip
def test_reasons_are_short_and_free_of_advice(text: str, said: str) -> None:
    reason = reason_of(ValueError(text))
    assert said in reason
    assert len(reason) <= 204
    assert not [word for word in NEVER if word in reason]
    with pytest.raises(DataError, match="x: "), decoding("x"):
        raise ValueError(text)
