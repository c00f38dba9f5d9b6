"""The field file: what comes back, and everything that is refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ARCHITECTURES, outputs, small_field
from safetensors import safe_open
from safetensors.torch import save_file

import memonf
from memonf.cameras.cameras import turntable
from memonf.errors import FieldFileError, OutputError
from memonf.fields import Field, known
from memonf.io.checkpoint import content_hash
from memonf.rendering.knowledge import RESOLUTION, SOLID_RESOLUTION, Knowledge


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
        (lambda h: h.update(format_version=99), "`format_version`: expected 5"),
        (lambda h: h.update(colour="red"), "unknown header key `colour`"),
        (lambda h: h.pop("near"), "header key `near` is missing"),
        (lambda h: h.update(architecture="tiny_nert"), "did you mean `tiny_nerf`"),
        (lambda h: h["config"].update(widht=3), "unknown config key `widht`; did you mean `width`"),
        (lambda h: h["config"].update(width=-1), "config `width`"),
        (lambda h: h["config"].update(width=16384), "the config says"),
        (lambda h: h.update(aabb=[[0, 0, 0], [0, 1, 1]]), "lower < upper"),
        (lambda h: h.update(far=1.0), "0 <= near < far"),
        (lambda h: h.update(background=[2, 0, 0]), r"three numbers in \[0, 1\]"),
        (lambda h: h.update(cameras={"width": 4, "height": 4}), "`cameras`: expected null or"),
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

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        memonf.save(small_field("tiny_nerf", seed=1), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["field.safetensors"]


def knowing_field(cells: int = RESOLUTION, solid_cells: int = SOLID_RESOLUTION) -> Field:
    """A field with knowledge of which every value is random."""
    field = small_field("tiny_nerf")
    generator = torch.Generator().manual_seed(3)
    views, sides = torch.randint(256, (2, cells, cells, cells), generator=generator)
    knowledge = Knowledge(
        field.aabb.clone(),
        views.to(torch.uint8),
        sides.to(torch.uint8),
        torch.rand((solid_cells,) * 3, generator=generator) < 0.3,
    )
    field.record = replace(field.record, knowledge=knowledge)
    return field


@pytest.mark.parametrize("resolutions", [(RESOLUTION, SOLID_RESOLUTION), (3, 5)])
def test_knowledge_comes_back_bit_by_bit(tmp_path: Path, resolutions: tuple[int, int]) -> None:
    field = knowing_field(*resolutions)
    memonf.save(field, tmp_path / "field.safetensors")
    back = memonf.load(tmp_path / "field.safetensors").record.knowledge
    assert back is not None
    for name in ("aabb", "views", "sides", "solid"):
        ours, theirs = getattr(field.record.knowledge, name), getattr(back, name)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs), name
    memonf.save(memonf.load(tmp_path / "field.safetensors"), tmp_path / "again.safetensors")
    first, again = ((tmp_path / f"{n}.safetensors").read_bytes() for n in ("field", "again"))
    assert first == again


def test_knowledge_is_small_and_no_part_of_the_content(tmp_path: Path) -> None:
    field = knowing_field()
    memonf.save(field, tmp_path / "with.safetensors")
    before = content_hash(field)
    field.record = replace(field.record, knowledge=None)
    memonf.save(field, tmp_path / "without.safetensors")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("with", "without")]
    assert 100_000 < sizes[0] - sizes[1] <= 300_000
    assert content_hash(field) == before


def test_a_version_1_file_knows_what_it_always_did(tmp_path: Path) -> None:
    path = tmp_path / "field.safetensors"
    field = small_field("nerf")
    memonf.save(field, path)

    def first_version(content) -> None:
        content["format_version"] = 1
        assert content.pop("knowledge") is None
        content["cameras"] = {"width": 16, "height": 16}

    rewrite(path, header=first_version, tensors=lambda t: t.pop("camera.sizes"))
    back = memonf.load(path)
    assert back.record.knowledge is None
    assert content_hash(back) == content_hash(field)
    found, expected = known(back), known(field)
    for name in ("views", "sides", "solid"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.seen_share > 0.5
    memonf.save(replace_knowledge(back, found), path)  # and is written as the newest
    assert torch.equal(memonf.load(path).record.knowledge.views, found.views)
    rewrite(path, header=lambda h: h.pop("knowledge"))
    with pytest.raises(FieldFileError, match="header key `knowledge` is missing"):
        memonf.load(path)


def test_a_version_3_file_has_one_size_for_all_pictures(tmp_path: Path) -> None:
    path = tmp_path / "field.safetensors"
    field = small_field("tiny_nerf")
    field.record = replace(field.record, cameras=turntable(3, 16, 4.0, torch.zeros(3)))
    memonf.save(field, path)

    def third_version(content) -> None:
        content |= {"format_version": 3}
        content["cameras"] = {"width": 16, "height": 12, "lenses": False}

    rewrite(path, header=third_version, tensors=lambda t: t.pop("camera.sizes"))
    assert memonf.load(path).record.cameras.sizes.tolist() == [[16, 12]] * 3
    rewrite(path, header=lambda h: h["cameras"].update(width=-16))
    with pytest.raises(FieldFileError, match="`cameras`: expected null or"):
        memonf.load(path)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (torch.ones(3, 2), r"`camera.sizes` is torch.float32, expected torch.int32"),
        (torch.zeros(3, 2, dtype=torch.int32), r"`camera.sizes`: expected pixels in \[1, 65536\]"),
        (
            torch.ones(2, 2, dtype=torch.int32),
            r"`camera.sizes` is \[2, 2\], the config",
        ),
    ],
)
def test_wrong_picture_sizes_are_refused(tmp_path: Path, sizes, message: str) -> None:
    path = tmp_path / "field.safetensors"
    field = small_field("tiny_nerf")
    field.record = replace(field.record, cameras=turntable(3, 16, 4.0, torch.zeros(3)))
    memonf.save(field, path)
    rewrite(path, tensors=lambda t: t.update({"camera.sizes": sizes}))
    with pytest.raises(FieldFileError, match=message):
        memonf.load(path)


def replace_knowledge(field: Field, knowledge: Knowledge) -> Field:
    field.record = replace(field.record, knowledge=knowledge)
    return field


@pytest.mark.parametrize(
    ("knowledge", "message"),
    [
        ({"cells": 39, "solid_cells": 80}, r"knowledge.views` is \[40, 40, 40\], the config says"),
        ({"cells": 40, "solid_cells": 79}, r"knowledge.solid` is \[64000\], the config says"),
        ({"cells": 257, "solid_cells": 80}, "`knowledge`: expected null or numbers of cells"),
        ({"cells": 40, "solid_cells": 10**9}, "numbers of cells along a side, at most 256"),
        ({"cells": 0, "solid_cells": 80}, "`knowledge`: expected null or"),
        ({"cells": 40, "solid_cells": -80}, "`knowledge`: expected null or"),
        ({"cells": 40.0, "solid_cells": 80}, "`knowledge`: expected null or"),
        ({"cells": "40", "solid_cells": 80}, "`knowledge`: expected null or"),
        ({"cells": 40}, "`knowledge`: expected null or"),
        ({"cells": 40, "solid_cells": 80, "more": 1}, "`knowledge`: expected null or"),
        ([40, 80], "`knowledge`: expected null or"),
        (None, "unknown tensor `knowledge"),
    ],
)
def test_lying_knowledge_headers_are_refused(tmp_path: Path, knowledge, message: str) -> None:
    path = tmp_path / "field.safetensors"
    memonf.save(knowing_field(), path)
    rewrite(path, header=lambda h: h.update(knowledge=knowledge))
    with pytest.raises(FieldFileError, match=message):
        memonf.load(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (lambda t: t.pop("knowledge.views"), r"`knowledge.views` \[40, 40, 40\] is missing"),
        (lambda t: t.pop("knowledge.sides"), r"`knowledge.sides` \[40, 40, 40\] is missing"),
        (lambda t: t.pop("knowledge.solid"), r"`knowledge.solid` \[64000\] is missing"),
        (
            lambda t: t.update({"knowledge.sides": t["knowledge.sides"][:-1].clone()}),
            r"`knowledge.sides` is \[39, 40, 40\]",
        ),
        (
            lambda t: t.update({"knowledge.solid": torch.zeros(64001, dtype=torch.uint8)}),
            r"`knowledge.solid` is \[64001\]",
        ),
        (
            lambda t: t.update({"knowledge.depth": torch.zeros(3)}),
            "unknown tensor `knowledge.depth`",
        ),
    ],
)
def test_wrong_knowledge_tensors_are_refused(tmp_path: Path, tensors, message: str) -> None:
    path = tmp_path / "field.safetensors"
    memonf.save(knowing_field(), path)
    rewrite(path, tensors=tensors)
    with pytest.raises(FieldFileError, match=message):
        memonf.load(path)


def test_knowledge_without_its_header_is_refused(tmp_path: Path) -> None:
    """A header that promises knowledge, and a file without any."""
    path = tmp_path / "field.safetensors"
    memonf.save(small_field("tiny_nerf"), path)
    rewrite(path, header=lambda h: h.update(knowledge={"cells": 40, "solid_cells": 80}))
    with pytest.raises(FieldFileError, match=r"tensor `knowledge.views` .* is missing"):
        memonf.load(path)


def test_reading_a_field_does_not_import_the_compiler(tmp_path: Path) -> None:
    """Torch's compiler and sympy take over a second, which every command would pay."""
    code = (
        "import sys; from memonf.io.checkpoint import load; [load(path) for path in sys.argv[1:]]; "
        "sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)"
    )
    files = [tmp_path / f"{kind}.safetensors" for kind in ARCHITECTURES]
    for kind, path in zip(ARCHITECTURES, files, strict=True):
        memonf.save(small_field(kind), path)
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], check=False)
    assert done.returncode == 0
