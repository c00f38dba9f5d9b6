"""Draw the vertices of an exported mesh or point cloud from two sides (PNG), for the docs.

Usage: python scripts/draw_points.py MESH.ply OUT.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from memonf.cameras.cameras import turntable
from memonf.visualization.images import write_png

SIDE, DISTANCE = 300, 4.0
AZIMUTHS = (-60.0, 120.0)


def drawn(vertices: torch.Tensor, colours: np.ndarray, azimuth: float) -> np.ndarray:
    """The points nearest to the camera, one pixel each, on white."""
    camera = turntable(
        1, SIDE, DISTANCE, torch.zeros(3), elevation=25.0, field_of_view=40.0,
        start_azimuth=azimuth,
    )  # fmt: skip
    rows, columns, depth, inside = camera.project(vertices, 0)
    order = torch.argsort(depth, descending=True)
    order = order[inside[order]]  # the nearest are drawn last
    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    picture[rows[order].numpy(), columns[order].numpy()] = colours[order.numpy()]
    return picture


def main() -> None:
    """Draw the file that the command line names."""
    found: Any = trimesh.load(sys.argv[1])
    colours = found.colors if isinstance(found, trimesh.PointCloud) else found.visual.vertex_colors
    vertices = torch.tensor(np.asarray(found.vertices), dtype=torch.float32)
    pictures = [drawn(vertices, np.asarray(colours)[:, :3], azimuth) for azimuth in AZIMUTHS]
    write_png(np.concatenate(pictures, 1), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
