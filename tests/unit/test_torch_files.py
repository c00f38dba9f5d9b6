"""PyTorch's files as data: what `torch.load` makes of them, whatever lies beside the tensors."""

from __future__ import annotations

import argparse
import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memonf.errors import FieldFileError
from memonf.io.importing.containers import read_content
from memonf.io.importing.nets import Checkpoint
from memonf.utils.safe_unpickle import PickledObject


def written(content: Any, folder: Path, kind: str) -> Path:
    file = folder / f"{kind}.pt"
    if kind == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    return file


KINDS = ["zip", "stream", "pickle"]
BASE = torch.arange(24, dtype=torch.float32).reshape(4, 6)
TENSORS = {
    "plain": BASE, "turned": BASE.T, "part": BASE[1:3, ::2], "empty": torch.zeros(0, 3),
    "number": torch.tensor(3.5), "half": BASE.half(), "bfloat16": BASE.bfloat16(),
    "double": BASE.double(), "int64": BASE.long(), "uint8": BASE.to(torch.uint8),
    "int8": BASE.to(torch.int8), "complex": torch.complex(BASE, BASE), "shared": BASE[0],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_those_of_torch(kind: str, tmp_path: Path) -> None:
    found = read_content(written(dict(TENSORS), tmp_path, kind))
    for name, expected in TENSORS.items():
        assert found[name].dtype == expected.dtype, name
        assert torch.equal(found[name], expected), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beside_the_tensors_is_no_hindrance(kind: str, tmp_path: Path) -> None:
    content = {
        "loss": np.float64(0.5), "step": np.int32(7), "args": argparse.Namespace(lr=1e-3),
        "callbacks": {argparse.ArgumentParser: {"best": torch.tensor(1.0)}}, "path": tmp_path,
        "device": torch.device("cpu"), "dtype": torch.float32, "size": torch.Size([3, 4]),
        "ordered": collections.OrderedDict(a=BASE), "default": collections.defaultdict(list, b=[1]),
        "state": {"w": BASE}, "parameter": nn.Parameter(BASE), "rng": torch.get_rng_state(),
        "optimizer": {"state": {0: {"step": 3, "exp_avg": BASE}}, "param_groups": [{"lr": 0.1}]},
        "error": ValueError("x"),
        "function": written, "array": np.eye(2, dtype=np.float32), "when": np.datetime64("2020"),
    }  # fmt: skip
    found = read_content(written(content, tmp_path, kind))
    assert found["loss"] == 0.5
    assert found["step"] == 7
    assert found["args"].state == {"lr": 1e-3}
    assert found["path"] == str(tmp_path)
    assert found["size"] == (3, 4)
    assert torch.equal(found["state"]["w"], BASE)
    assert torch.equal(found["parameter"], BASE)
    assert torch.equal(found["ordered"]["a"], BASE)
    np.testing.assert_array_equal(found["array"], np.eye(2))
    assert isinstance(found["error"], PickledObject)


def test_types_that_older_files_have_no_storage_for(tmp_path: Path) -> None:
    values = {"f8": torch.tensor([0.5, 2]).to(torch.float8_e4m3fn), "u2": torch.tensor([7]).to(
        torch.uint16)}  # fmt: skip
    found = read_content(written(values, tmp_path, "zip"))
    assert found["f8"].float().tolist() == [0.5, 2]
    assert found["u2"].long().tolist() == [7]


@pytest.mark.filterwarnings("ignore")  # torch says that it will drop them; files stay
def test_quantised_tensors_are_the_numbers_that_they_stand_for(tmp_path: Path) -> None:
    quantised = torch.quantize_per_tensor(BASE, 0.1, 3, torch.qint8)
    rows = torch.quantize_per_channel(BASE, torch.full((4,), 0.5), torch.zeros(4), 0, torch.qint8)
    found = read_content(written({"q": quantised, "rows": rows}, tmp_path, "zip"))
    torch.testing.assert_close(found["q"], quantised.dequantize())
    assert isinstance(found["rows"], PickledObject)  # of no single scale: a record
    assert "scheme" in found["rows"].reason


def test_sparse_tensors_are_records(tmp_path: Path) -> None:
    found = read_content(written({"s": BASE.to_sparse(), "w": BASE}, tmp_path, "zip"))
    assert isinstance(found["s"], PickledObject)
    assert torch.equal(found["w"], BASE)


def test_the_other_byte_order(tmp_path: Path) -> None:
    file = written({"w": BASE, "h": BASE.half()}, tmp_path, "zip")
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            if name.endswith("byteorder"):
                content = b"big"
            elif "/data/" in name:
                size = 4 if len(content) == BASE.nbytes else 2
                content = np.frombuffer(content, f"<u{size}").astype(f">u{size}").tobytes()
            archive.writestr(name, content)
    found = read_content(file)
    assert torch.equal(found["w"], BASE)
    assert torch.equal(found["h"], BASE.half())


class Network(nn.Module):
    """A whole module as `torch.save(model)` writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        self.register_buffer("kept", torch.ones(2))
        self.register_buffer("passing", torch.ones(2), persistent=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_module_is_its_state(kind: str, tmp_path: Path) -> None:
    network = Network()
    found = Checkpoint.of(read_content(written({"model": network}, tmp_path, kind)), "x")
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    assert found.tensors.keys() == state.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in state.items())


@pytest.mark.filterwarnings("ignore")
def test_a_traced_module_is_its_state(tmp_path: Path) -> None:
    network = Network()
    traced = torch.jit.trace(network.body, torch.zeros(1, 3))
    traced.save(tmp_path / "t.pt")
    found = Checkpoint.of(read_content(tmp_path / "t.pt"), "x")
    assert torch.equal(found.tensors["0.weight"], network.body[0].weight)


#: (offset, size, stride) of a tensor of six numbers.
LIES: list[tuple[Any, Any, Any]] = [
    (0, (7,), (1,)), (5, (2,), (1,)), (0, (2, 3), (4, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)),
    (0, (1 << 40,), (0,)), (0, (1 << 62, 4), (1, 1)), (0, (2,), (1, 1)), (0, (2,), ("1",)),
    (1 << 62, (1,), (1,)), (0, (1,) * 200, (1,) * 200), (0, (2.0,), (1,)), (True, (2,), (1,)),
]  # fmt: skip


class Lying:
    """A tensor that reaches where it should not."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        self.args = (storage, offset, size, stride, False, collections.OrderedDict())

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return torch._utils._rebuild_tensor_v2, self.args


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("kind", ["zip", "stream"])
def test_tensors_never_reach_beyond_their_storage(
    kind: str, lie: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    storage = torch.zeros(6).storage()
    content = {"w": Lying(storage, *lie), "honest": torch.ones(2)}
    found = read_content(written(content, tmp_path, kind))
    assert isinstance(found["w"], PickledObject), found["w"]
    assert found["w"].reason
    assert torch.equal(found["honest"], torch.ones(2))


def changed(file: Path, change: Callable[[str, bytes], bytes], compress: bool = False) -> Path:
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    how = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    return file


def test_storages_that_lie_are_refused(tmp_path: Path) -> None:
    file = written({"w": torch.zeros(300)}, tmp_path, "zip")
    short = changed(file, lambda name, content: content[:8] if "/data/" in name else content)
    with pytest.raises(FieldFileError, match="storage 0 is shorter than it says"):
        read_content(short)
    file = written({"w": torch.zeros(300)}, tmp_path, "stream")
    content = file.read_bytes()
    claimed = content.replace(b"M,\x01", b"J\xff\xff\xff\x7f")  # 300 numbers, then 2^31 - 1
    assert claimed != content
    file.write_bytes(claimed)
    with pytest.raises(FieldFileError, match="longer than the file"):
        read_content(file)


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    file = changed(written({"w": torch.zeros(3000)}, tmp_path, "zip"), lambda _, c: c, True)
    with pytest.raises(FieldFileError, match="PyTorch does not compress"):
        read_content(file)


def test_a_file_in_itself_ends(tmp_path: Path) -> None:
    ring: dict[str, Any] = {"w": torch.ones(2)}
    ring["again"] = ring
    assert list(Checkpoint.of(read_content(written(ring, tmp_path, "zip")), "x").tensors) == ["w"]
    wide: Any = [torch.ones(1)]
    for _ in range(40):
        wide = [wide, wide]
    with pytest.raises(FieldFileError, match="nested too deep"):
        Checkpoint.of(read_content(written({"w": wide}, tmp_path, "zip")), "x")


def test_torch_itself_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("torch.load")

    files = [written({"w": BASE}, tmp_path, kind) for kind in KINDS]
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    for file in files:
        assert torch.equal(read_content(file)["w"], BASE)
