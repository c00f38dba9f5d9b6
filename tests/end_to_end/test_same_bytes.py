"""The same command writes the same bytes, at whatever time and however long it takes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from conftest import knowing_pair
from PIL import Image

from memonf.cli import main
from memonf.io.checkpoint import save

pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
pytest.importorskip("trimesh", reason="the extra `mesh` is not installed")

SMALL = ["--width", "16", "--depth", "2"]
#: Every verb that writes, on fields a and b, a data set and a picture in the current folder.
COMMANDS = [
    ["train", "--data", "scene.npz", *SMALL, "--steps", "4", "--rays", "64", "--out",
     "trained.safetensors"],
    ["fit", "truth.png", "--field", "image", *SMALL, "--steps", "3", "--points", "64", "--out",
     "fitted.safetensors"],
    ["score", "fitted.safetensors", "--truth", "truth.png", "--png", "scored.png"],
    ["merge", "a.safetensors", "b.safetensors", "--method", "weight_matching",
     "--force", "--without-evidence", "--out", "merged.safetensors"],
    ["merge", "a.safetensors", "b.safetensors", "--steps", "3", "--rays", "64",
     "--force", "--without-evidence", "--out", "distilled.safetensors"],
    ["inspect", "merged.safetensors", "--recipe", "merge.yaml"],
    ["inspect", "a.safetensors", "--png", "a.png"],
    ["data", "inspect", "scene.npz", "--png", "scene.png"],
    ["data", "split", "scene.npz", "--out", "parts"],
    ["render", "a.safetensors", "--size", "16", "--out", "picture.png"],
    *(["render", "a.safetensors", "--turntable", "--frames", "2", "--size", "16", "--out", name]
      for name in ("film.gif", "film.webp", "film.mp4")),
    *(["export", "a.safetensors", "--resolution", "16", "--out", name]
      for name in ("mesh.ply", "mesh.glb", "mesh.obj", "grid.npz", "cameras.json", "views")),
    ["export", "a.safetensors", "--out", "network.onnx"],
    ["export", "a.safetensors", "--kind", "points", "--points", "50", "--out", "points.ply"],
    ["export", "a.safetensors", "--kind", "sparse-grid", "--resolution", "16", "--out",
     "sparse.npz"],
]  # fmt: skip
#: What a clock measured stands here, and nowhere else.
MEASURED = ".log.jsonl"


def written(folder: Path) -> dict[str, bytes]:
    """Every file that was written, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if not path.name.endswith(MEASURED)
    }


def test_every_output_is_the_same_at_another_time(
    tmp_path: Path, little_scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = {name: getattr(time, name) for name in ("time", "localtime", "gmtime")}
    shades = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    found = []
    for number, name in enumerate(("now", "later")):
        ahead = 40_000_000 * number
        now = lambda ahead=ahead: clocks["time"]() + ahead  # noqa: E731
        monkeypatch.setattr(time, "time", now)
        for zone in ("localtime", "gmtime"):
            shifted = lambda at=None, zone=zone: clocks[zone](time.time() if at is None else at)  # noqa: E731
            monkeypatch.setattr(time, zone, shifted)
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        (folder / "scene.npz").write_bytes(little_scene.read_bytes())
        Image.fromarray(shades).save("truth.png")
        for field, file in zip(knowing_pair(), ("a", "b"), strict=True):
            save(field, f"{file}.safetensors")
        for command in COMMANDS:
            quiet = ["--quiet"] if command[0] not in ("inspect", "data", "score") else []
            assert main([*command, *quiet]) == 0, command
        found.append(written(folder))
    first, second = found
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert len(first) > 30
