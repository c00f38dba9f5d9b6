"""COLMAP's own reconstruction of a capture's photographs, held against the capture's cameras.

python bench/structure_from_motion.py fox_8 --out fox_colmap      (pip install "memonf[colmap]")

`--out` becomes a COLMAP capture, photographs and sparse models, that ``memonf train --data`` takes.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import pycolmap
import torch

import memonf
from memonf.cameras.cameras import Cameras
from memonf.typing import Tensor


def reconstruct(pictures: Path, folder: Path) -> None:
    """Features, exhaustive matches, incremental mapping; one OPENCV lens for all pictures."""
    folder.mkdir(parents=True)
    shutil.copytree(pictures, folder / "images")
    database = folder / "database.db"
    pycolmap.set_random_seed(0)
    pycolmap.extract_features(
        database, folder / "images", camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=pycolmap.ImageReaderOptions(camera_model="OPENCV"),
    )  # fmt: skip
    pycolmap.match_exhaustive(database)
    pycolmap.incremental_mapping(database, folder / "images", folder / "sparse")


def world_cameras(data: Path) -> dict[str, Cameras]:
    """Each picture's camera in the capture's own coordinates."""
    scene = memonf.load_scene(data, place="keep")
    parts = [scene.split(name) for name in scene.loaders]
    return {name: part.cameras[[view]] for part in parts for view, name in enumerate(part.names)}


def similarity(ours: Tensor, theirs: Tensor) -> tuple[Tensor, float, Tensor]:
    """Rotation, scale and shift that bring our points nearest to theirs (Umeyama 1991)."""
    centre, other = ours.mean(0), theirs.mean(0)
    left, values, right = torch.linalg.svd((theirs - other).mT @ (ours - centre))
    signs = torch.ones(3, dtype=ours.dtype)
    signs[2] = torch.det(left @ right).sign()
    turn = left @ torch.diag(signs) @ right
    scale = float((values * signs).sum() / (ours - centre).square().sum())
    return turn, scale, other - scale * turn @ centre


def main() -> None:
    """Reconstruct unless that is done, read both captures, print how far cameras are apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    started = time.perf_counter()
    if not options.out.exists():
        reconstruct(options.data / "images", options.out)
    seconds = time.perf_counter() - started
    found, given = world_cameras(options.out), world_cameras(options.data)
    both = sorted(found.keys() & given.keys())
    ours = Cameras.join([found[name] for name in both])
    theirs = Cameras.join([given[name] for name in both])
    here, there = ours.positions.double(), theirs.positions.double()
    turn, scale, shift = similarity(here, there)
    apart = (scale * here @ turn.mT + shift - there).norm(dim=-1)
    spread = (there - there.mean(0)).norm(dim=-1).mean()
    axes = [cameras.camera_to_world[:, :, :3].double() for cameras in (ours, theirs)]
    cosine = ((turn @ axes[0] * axes[1]).sum((1, 2)) - 1) / 2
    degrees = np.degrees(np.arccos(cosine.clip(-1, 1).numpy()))
    print(f"{len(both)} of {len(given)} cameras, {seconds:.0f} s")
    print(f"positions {float(apart.mean() / spread):.2%} of their spread apart, at most "
          f"{float(apart.max() / spread):.2%}")  # fmt: skip
    print(f"directions {degrees.mean():.2f} degrees apart, at most {degrees.max():.2f}")
    print(f"focal {ours.intrinsics[0, :2].tolist()} and {theirs.intrinsics[0, :2].tolist()}")


if __name__ == "__main__":
    main()
