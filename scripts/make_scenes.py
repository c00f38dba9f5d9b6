"""Render the two embedded scenes and pack each into one data file.

    python scripts/make_scenes.py [--out DIR] [--only NAME] [--preview FILE.png]

``robot`` is diffuse: its colours do not depend on the view. ``still_life`` is glossy: highlights
and a mirrored sky move with the view. Both have a front (the side of y < 0) that differs plainly
from the rear, so that a field trained on one side knows nothing about the other.

Cameras follow the OpenGL convention (looking along -z, +y up in the picture; world +z up). They
stand on a sphere of radius 4 around the origin. The same files, byte for byte, come out each run.
"""

from __future__ import annotations

import argparse
import io
import time
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from raytracer import render
from scenes import SCENES

SIZE = 100
FOCAL = SIZE / 0.72  # as in the NeRF synthetic scenes, at this size
RADIUS = 4.0
TRAIN_VIEWS, TEST_VIEWS = 100, 50
OUT = Path(__file__).resolve().parent.parent / "src" / "memonf" / "data" / "scenes"

# ---------------------------------------------------------------------------- cameras


def look_at_origin(azimuth: float, elevation: float) -> NDArray[np.float32]:
    """Return the camera-to-world matrix of a camera that looks at the origin (degrees)."""
    a, e = np.radians(azimuth), np.radians(elevation)
    back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, RADIUS * back], axis=1)
    return pose.astype(np.float32)


def train_poses() -> NDArray[np.float32]:
    """Return views all around, of elevations from -5 to 60 degrees.

    Azimuths step by the plastic-number ratio, and elevations permute a regular grid by nearly its
    square, so that any first few views are spread well, too.
    """
    i = np.arange(TRAIN_VIEWS)
    azimuth = 360 * ((0.7548777 * i + 0.75) % 1)
    elevation = -5 + 65 * ((57 * i) % TRAIN_VIEWS + 0.5) / TRAIN_VIEWS
    return np.stack([look_at_origin(a, e) for a, e in zip(azimuth, elevation, strict=True)])


def test_poses() -> NDArray[np.float32]:
    """Return one smooth orbit, half in front and half at the rear, never on the border."""
    azimuth = 360 * (np.arange(TEST_VIEWS) + 0.5) / TEST_VIEWS
    elevation = 27.5 + 17.5 * np.sin(2 * np.radians(azimuth))
    return np.stack([look_at_origin(a, e) for a, e in zip(azimuth, elevation, strict=True)])


# ---------------------------------------------------------------------------- files


def make(name: str) -> dict[str, NDArray[np.generic]]:
    """Return a rendered scene in the packed layout."""
    build, title, description = SCENES[name]
    scene = build()
    packed: dict[str, NDArray[np.generic]] = {}
    for split, poses in (("train", train_poses()), ("test", test_poses())):
        packed[f"images_{split}"] = np.stack([render(scene, p, SIZE, FOCAL) for p in poses])
        packed[f"poses_{split}"] = poses
    return packed | {
        "focal": np.array(FOCAL),
        "aabb": scene.box(),
        "title": np.array(title),
        "description": np.array(description),
    }


def write_npz(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write arrays as ``np.savez_compressed`` does, but with a fixed date, at the best level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    with zipfile.ZipFile(draft, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, 9)
    draft.replace(path)


def contact_sheet(scenes: list[dict[str, NDArray[np.generic]]], columns: int = 10) -> Image.Image:
    """Return every fifth train view and the test orbit of each scene, over white."""
    views = np.concatenate(
        [np.concatenate([s["images_train"][::5], s["images_test"]]) for s in scenes]
    ).astype(np.float64)
    alpha = views[..., 3:] / 255
    flat = np.rint(views[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    rows = flat.reshape(-1, columns, SIZE, SIZE, 3).swapaxes(1, 2)
    return Image.fromarray(rows.reshape(-1, columns * SIZE, 3))


def main() -> None:
    """Render, pack and report."""
    parser = argparse.ArgumentParser(description="Render the embedded scenes.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the data files")
    parser.add_argument("--only", choices=sorted(SCENES), help="render this scene alone")
    parser.add_argument("--preview", type=Path, help="write a contact sheet to this PNG file")
    options = parser.parse_args()

    rendered = []
    for name in [options.only] if options.only else SCENES:
        start = time.perf_counter()
        rendered.append(make(name))
        path = options.out / f"{name}.npz"
        write_npz(path, rendered[-1])
        seconds = time.perf_counter() - start
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, rendered in {seconds:.0f} s")
    if options.preview:
        contact_sheet(rendered).save(options.preview)


if __name__ == "__main__":
    main()
