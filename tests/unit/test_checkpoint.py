"""The field file: what comes back, and everything that is refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import outputs, small_field
from safetensors import safe_open
from safetensors.torch import save_file

import memonf
from memonf.cameras import turntable
from memonf.checkpoint import content_hash
from memonf.errors import FieldFileError, OutputError


@pytest.fixture
def saved(tmp_path: Path, kind: str) -> Path:
    field = small_field(kind)
    cameras = turntable(3, 16, 4.0, torch.zeros(3))
    field.record = replace(field.record, near=2.0, far=6.0, cameras=cameras, group="front")
    memonf.save(field, tmp_path / "field.safetensors")
    return tmp_path / "field.safetensors"


def rewrite(path: Path, *, header=None, tensors=None) -> None:
    """Change a field file's header or tensors and write it again."""
    with safe_open(path, framework="pt") as archive:
        content = json.loads(archive.metadata()["memonf"])
        values = {name: archive.get_tensor(name) for name in list(archive.keys())}
    if header is not None:
        changed = header(content)
        content = changed if isinstance(changed, list) else content
    if tensors is not None:
        tensors(values)
    save_file(values, path, {"memonf": json.dumps(content)})


def test_a_field_comes_back_as_it_was(saved: Path, kind: str) -> None:
    original, back = small_field(kind), memonf.load(saved)
    assert torch.equal(outputs(original), outputs(back))
    assert content_hash(original) == content_hash(back)
    assert (back.record.near, back.record.far, back.record.group) == (2.0, 6.0, "front")
    assert back.record.cameras is not None
    assert len(back.record.cameras) == 3
    assert not back.training


def test_same_field_same_bytes(saved: Path) -> None:
    memonf.save(memonf.load(saved), saved.with_name("again.safetensors"))
    assert saved.read_bytes() == saved.with_name("again.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (lambda h: h.update(format_version=99), "`format_version`: expected 2"),
        (lambda h: h.update(colour="red"), "unknown header key `colour`"),
        (lambda h: h.pop("near"), "header key `near` is missing"),
        (lambda h: h.update(architecture="tiny_nert"), "did you mean `tiny_nerf`"),
        (lambda h: h["config"].update(widht=3), "unknown config key `widht`; did you mean `width`"),
        (lambda h: h["config"].update(width=-1), "config `width`"),
        (lambda h: h["config"].update(width=16384), "the config says"),
        (lambda h: h.update(aabb=[[0, 0, 0], [0, 1, 1]]), "lower < upper"),
        (lambda h: h.update(far=1.0), "0 <= near < far"),
        (lambda h: h.update(background=[2, 0, 0]), r"three numbers in \[0, 1\]"),
        (lambda h: h.update(cameras={"width": -4, "height": 4}), "`cameras`: expected null or"),
        (lambda h: h.update(cameras=None), "unknown tensor `camera"),
        (lambda h: [h], "not a JSON object"),
    ],
)
def test_lying_headers_are_refused(tmp_path: Path, header, message: str) -> None:
    path = tmp_path / "field.safetensors"
    field = small_field("tiny_nerf")
    field.record = replace(field.record, near=2.0, cameras=turntable(3, 16, 4.0, torch.zeros(3)))
    memonf.save(field, path)
    rewrite(path, header=header)
    with pytest.raises(FieldFileError, match=message):
        memonf.load(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (lambda t: t.pop("head.bias"), r"tensor `head.bias` \[4\] is missing"),
        (lambda t: t.update({"head.bias": torch.zeros(5)}), r"`head.bias` is \[5\]"),
        (lambda t: t.update({"tail": torch.zeros(5)}), "unknown tensor `tail`"),
        (lambda t: t["head.bias"].fill_(float("nan")), "`head.bias` holds NaN"),
    ],
)
def test_wrong_tensors_are_refused(tmp_path: Path, tensors, message: str) -> None:
    path = tmp_path / "field.safetensors"
    memonf.save(small_field("tiny_nerf"), path)
    rewrite(path, tensors=tensors)
    with pytest.raises(FieldFileError, match=message):
        memonf.load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "field.safetensors"
    with pytest.raises(FieldFileError, match="there is no such file"):
        memonf.load(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(FieldFileError, match="pickle"):
        memonf.load(path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(FieldFileError, match="pickle or a zip archive"):
        memonf.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(FieldFileError, match="without a `memonf` header"):
        memonf.load(path)
    memonf.save(small_field("tiny_nerf"), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FieldFileError, match="not a whole safetensors file"):
        memonf.load(path)
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(FieldFileError, match="not a whole safetensors file"):
        memonf.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "field.safetensors"
    memonf.save(small_field("tiny_nerf"), path)
    before = path.read_bytes()

    def full_disk(tensors, file, metadata):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memonf.checkpoint.save_file", full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        memonf.save(small_field("tiny_nerf", seed=1), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["field.safetensors"]
