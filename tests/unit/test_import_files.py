"""Where in a checkpoint a network is, and what a file is instead of a checkpoint."""

from __future__ import annotations

import argparse
import gzip
import io
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memonf
from memonf.cli import main
from memonf.errors import FieldFileError, InputError
from memonf.io.importing import import_field, read_layers, read_net
from memonf.io.importing.layer_names import Hints, read_hints

BOX = torch.tensor([[-1.0] * 3, [1.0] * 3])
WIDTH = 6
ARGUMENTS = ["--box", "-1", "-1", "-1", "1", "1", "1", "--near", "2", "--far", "6"]


def state(seed: int = 0, prefix: str = "") -> dict[str, Tensor]:
    """A small net by yenchenlin's names."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"pts_linears.0": (WIDTH, 9), "pts_linears.1": (WIDTH, WIDTH),
              "output_linear": (4, WIDTH)}  # fmt: skip
    found = {}
    for name, shape in shapes.items():
        found[f"{prefix}{name}.weight"] = torch.randn(shape, generator=generator)
        found[f"{prefix}{name}.bias"] = torch.randn(shape[0], generator=generator)
    return found


def saved(content: Any, folder: Path, name: str = "c.ckpt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def is_net(path: Path, seed: int, hints: Hints | None = None, net: str = "fine") -> bool:
    field = import_field(path, BOX, layers=hints, net=net)
    return torch.equal(field.state_dict()["layers.0.bias"], state(seed)["pts_linears.0.bias"])


PREFIXES = [
    "", "module.", "model.", "net.", "nerf.", "models.fine.", "nerf_fine.", "_orig_mod.",
    "module._orig_mod.model.", "renderer.net.", "pipeline.model._orig_mod.fine.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("around", ["", "state_dict", "net", "ema.shadow", "model.params"])
def test_a_network_is_found_under_any_prefix(prefix: str, around: str, tmp_path: Path) -> None:
    content: Any = state(1, prefix)
    for key in reversed(around.split(".") if around else []):
        content = {key: content, "epoch": 3, "loss": np.float32(1)}
    assert is_net(saved(content, tmp_path), 1)


@pytest.mark.parametrize(
    ("content", "fine", "coarse"),
    [
        ({"network_fn_state_dict": state(1), "network_fine_state_dict": state(2)}, 2, 1),
        ({"model_coarse": state(1), "model_fine": state(2)}, 2, 1),
        ({"state_dict": state(1, "models.coarse.") | state(2, "models.fine.")}, 2, 1),
        ({"state_dict": state(1, "NeRFCoarse.") | state(2, "NeRFFine.")}, 2, 1),
        ({"coarse": {"model": state(1)}, "fine": {"model": state(2)}}, 2, 1),
        ({"net": state(1, "module.coarse_net.") | state(2, "module.fine_net.")}, 2, 1),
        ({"model": state(2), "ema_model": state(3)}, 2, 2),
    ],
)
def test_fine_and_coarse_are_told_apart(
    content: dict[str, Any], fine: int, coarse: int, tmp_path: Path
) -> None:
    path = saved(content, tmp_path)
    assert is_net(path, fine)
    assert is_net(path, coarse, net="coarse")


@pytest.mark.parametrize(
    ("content", "kind", "note"),
    [
        ({"network_fn_state_dict": state(), "network_fine_state_dict": None}, "coarse", "no fine"),
        ({"model_coarse_state_dict": state()}, "coarse", "no fine"),
        ({"net": state()}, "only", "does not say whether"),
        ({"net_refined": state()}, "only", "does not say whether"),
        ({"model_fine": state(), "model_coarse": state()}, "fine", ""),
        ({"model": state(), "model_ema": state()}, "only", "perhaps an average"),
    ],
)
def test_fine_is_said_of_a_fine_net_alone(
    content: dict[str, Any], kind: str, note: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = saved(content, tmp_path)
    net = read_net(path)
    assert net.kind == kind
    assert any(note in entry for entry in net.notes) or not note
    out = tmp_path / "o.safetensors"
    assert main(["import", str(path), *ARGUMENTS, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert ("fine net of" in printed.out) == (kind == "fine")
    assert note in printed.err
    assert memonf.load(out).record.training["net"] == kind


def test_a_net_that_is_not_there_is_not_replaced_by_the_fine_one(tmp_path: Path) -> None:
    path = saved({"model_fine": state()}, tmp_path)
    with pytest.raises(FieldFileError, match="holds no coarse net, but `model_fine` \\(fine\\)"):
        import_field(path, BOX, net="coarse")


def test_nets_that_are_not_told_apart_are_named(tmp_path: Path) -> None:
    path = saved([state(1), state(2)], tmp_path)
    with pytest.raises(FieldFileError, match=r"holds 2 nets, `0` .*`1` .*say which by `state: 0`"):
        import_field(path, BOX)
    assert is_net(path, 2, read_hints({"state": "1"}, "y"))


LAYERS = {"trunk": ["first", "second"], "both": "out"}


def renamed(seed: int, prefix: str = "") -> dict[str, Tensor]:
    new = {"pts_linears.0": "first", "pts_linears.1": "second", "output_linear": "out"}
    found = {}
    for name, value in state(seed).items():
        layer, _, part = name.rpartition(".")
        found[f"{prefix}{new[layer]}.{part}"] = value
    return found


@pytest.mark.parametrize(
    ("content", "hints"),
    [
        ({"net": renamed(1)}, {}),
        ({"net": renamed(1), "other": {"x.weight": torch.ones(3)}}, {}),
        ({"state_dict": renamed(1, "a.fine.") | renamed(2, "a.coarse.")}, {}),
        ({"state_dict": renamed(1, "a.fine.") | renamed(2, "a.coarse.")}, {"state": "a.fine"}),
        ({"state_dict": renamed(1, "a.b.") | renamed(2, "c.d.")}, {"state": "state_dict.a.b"}),
        ({"state_dict": renamed(1, "a.b.") | renamed(2, "c.d.")}, {"state": "state_dict/a/b/"}),
        ({"x": {"y": renamed(1)}, "z": renamed(2)}, {"state": "x"}),
        ({"net": {**renamed(1), "freqs": torch.ones(3)}}, {"ignore": ["freqs"]}),
        ({"net": {**renamed(1), "lpips.lin.w": torch.ones(3)}}, {"ignore": "lpips"}),
        ({"net": {**renamed(1), "lin.0.w": torch.ones(3)}}, {"ignore": ["net.lin*"]}),
        ({**renamed(1), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}, {}),
        ({"net": renamed(1), "ema": renamed(2)}, {}),
    ],
)
def test_layers_that_are_named_are_found_where_they_are(
    content: dict[str, Any], hints: dict[str, Any], tmp_path: Path
) -> None:
    assert is_net(saved(content, tmp_path), 1, read_hints({**LAYERS, **hints}, "names.yaml"))


def test_names_may_bring_their_own_prefix(tmp_path: Path) -> None:
    path = saved({"state_dict": renamed(1, "m.fine.") | renamed(2, "m.coarse.")}, tmp_path)
    named = {"trunk": ["m.coarse.first", "m.coarse.second"], "both": "m.coarse.out"}
    assert is_net(path, 2, read_hints(named, "y"))  # what lies beside them is no unknown layer
    assert read_net(path, layers=read_hints(named, "y")).kind == "coarse"


def test_a_yaml_file_may_leave_the_layers_to_a_code_base(tmp_path: Path) -> None:
    path = saved({"a": state(1), "b": state(2)}, tmp_path)
    (tmp_path / "where.yaml").write_text("state: b\norder: axis-major\n")
    net = read_net(path, layers=read_layers(tmp_path / "where.yaml"))
    assert net.names.name == "yenchenlin/nerf-pytorch"
    assert net.names.positions.words() == "order: axis-major, input: each"
    assert net.prefix == "b"


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"state": "nett"}, r"`state: nett`: no tensor is there; it holds `net`"),
        ({"trunk": ["frist", "second"]}, r"names `frist`, but no `frist.weight` is there; the file "
         r"holds `net.first.weight`"),
        ({"state": "net", "trunk": ["frist"]}, r"is there under `net`"),
        ({"trunk": ["first", "third"]}, r"tensor `third.weight` is missing"),
        ({"ignore": ["second"]}, r"tensor `second.weight` is missing"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_with_what_is(
    hints: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = saved({"net": renamed(1)}, tmp_path)
    with pytest.raises(InputError, match=message):
        import_field(path, BOX, layers=read_hints({**LAYERS, **hints}, "names.yaml"))


def test_a_tensor_of_no_layer_says_how_to_ignore_it(tmp_path: Path) -> None:
    path = saved({"net": {**state(1), "extra": torch.ones(2)}}, tmp_path)
    with pytest.raises(FieldFileError, match=r"`extra` is of no layer.*`ignore: \[extra\]`"):
        import_field(path, BOX)
    assert is_net(path, 1, read_hints({"ignore": ["extra"]}, "y"))


class Nerf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pts_linears = nn.ModuleList([nn.Linear(9, WIDTH), nn.Linear(WIDTH, WIDTH)])
        self.output_linear = nn.Linear(WIDTH, 4)
        self.load_state_dict(state(1))


@pytest.mark.parametrize(
    "around",
    [
        lambda net: net, lambda net: {"model": net},
        lambda net: {"step": np.int64(1), "nets": [net]},
        nn.DataParallel, lambda net: argparse.Namespace(model=net, lr=0.1),
        lambda net: {"loss": np.float64(1), "args": argparse.Namespace(a=1), **net.state_dict()},
        lambda net: {"callbacks": {argparse.ArgumentParser: {"best": Path("a")}},
                     "hyper_parameters": argparse.Namespace(x=torch.ones(2)),
                     "state_dict": net.state_dict()},
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["zip", "stream", "pickle"])
def test_modules_and_records_give_their_params(
    kind: str, around: Callable[[nn.Module], Any], tmp_path: Path
) -> None:
    content = around(Nerf())
    if kind == "pickle":
        (tmp_path / "c.pkl").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "c.pkl", _use_new_zipfile_serialization=kind == "zip")
    assert is_net(tmp_path / "c.pkl", 1)


def packed_tar(folder: Path, checkpoint: bytes) -> None:
    with tarfile.open(folder / "c.tar", "w") as archive:
        member = tarfile.TarInfo("logs/200000.tar")
        member.size = len(checkpoint)
        archive.addfile(member, io.BytesIO(checkpoint))


def packed_zip(folder: Path, checkpoint: bytes) -> None:
    with zipfile.ZipFile(folder / "c.tar", "w") as archive:
        archive.writestr("logs/200000.tar", checkpoint)


def written(content: bytes) -> Callable[[Path, bytes], None]:
    return lambda folder, _: (folder / "c.tar").write_bytes(content) and None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (packed_tar, "is an archive that holds logs/200000.tar: unpack it first"),
        (packed_zip, "is an archive that holds logs/200000.tar: unpack it first"),
        (lambda f, c: (f / "c.tar").write_bytes(gzip.compress(c)), "packed by gzip: unpack it"),
        (lambda f, c: (f / "c.tar").write_bytes(c[: len(c) // 2]), "its end is missing: .* bytes"),
        (lambda f, c: (f / "c.tar").mkdir(), "is a folder; name the checkpoint in it"),
        (written(b"7z\xbc\xaf\x27\x1c" + bytes(100)), "packed by 7z"),
        (written(b"\xfd7zXZ\0" + bytes(9)), "packed by xz"),
        (written(b"BZh91AY"), "packed by bzip2"),
        (written(b"\x28\xb5\x2f\xfd" + bytes(9)), "packed by zstd"),
        (written(b"Rar!\x1a\x07"), "packed by rar"),
        (written(b"<!DOCTYPE html><html>"), "is a web page, not a checkpoint"),
        (written(b"\n <html><head>"), "is a web page, not a checkpoint"),
        (written(b"<?xml version='1.0'?><Error>"), "is an XML text"),
        (written(b'{"error": "not found"}'), "is a JSON text"),
        (written(b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"),
         "is a Git LFS pointer.*`git lfs pull`"),
        (written(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is an HDF5 file"),
        (written(b"ply\nformat ascii 1.0\n"), "is a PLY file"),
        (written(b"\x89PNG\r\n\x1a\n"), "is a picture"),
        (written(b""), "is empty; the download or copy failed"),
        (written(bytes(range(200, 256)) * 9), "cannot be read as a PyTorch checkpoint"),
    ],
)  # fmt: skip
def test_what_a_file_is_instead_is_named(
    make: Callable[[Path, bytes], object], message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make(tmp_path, saved(state(1), tmp_path).read_bytes())
    out = tmp_path / "o.safetensors"
    assert main(["import", str(tmp_path / "c.tar"), *ARGUMENTS, "--out", str(out)]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert re.search(message, text), text
    assert "weights_only" not in text
    assert not out.exists()


def test_fields_of_ours_and_lists_of_arrays_are_named(tmp_path: Path) -> None:
    field = import_field(saved(state(1), tmp_path), BOX)
    memonf.save(field, tmp_path / "f.safetensors")
    with pytest.raises(FieldFileError, match="is a field of MeMo NF already"):
        import_field(tmp_path / "f.safetensors", BOX)
    np.savez(tmp_path / "a.npz", **{k: v.numpy() for k, v in state(1).items()})
    with pytest.raises(FieldFileError, match=r"is an .npz of arrays \(pts_linears.0.weight.npy"):
        import_field(tmp_path / "a.npz", BOX)


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    for name in ("weights", "net.bin", "net.th", "NET.PTH", "net.tar", "net.model"):
        assert is_net(saved(state(1), tmp_path, name), 1)


def test_names_in_a_file_do_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    path = saved({"\x1b[31mred": torch.ones(2, 2), "net": {**state(1), "\x1b[2J": torch.ones(1)}},
                 tmp_path)  # fmt: skip
    with pytest.raises(FieldFileError) as caught:
        import_field(path, BOX)
    assert "\x1b" not in str(caught.value)
    with pytest.raises(FieldFileError) as caught:
        import_field(saved({"\x1b[31mred": torch.ones(2, 2)}, tmp_path), BOX)
    assert "\x1b" not in str(caught.value)
