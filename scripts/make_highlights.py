"""Score and picture the highlights of a glossy scene: truth, view-dependent parents, merges.

python scripts/make_highlights.py embedded:still_life FRONT REAR docs/images/highlights.png
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from PIL import Image

from memonf.data import load_scene
from memonf.evaluation.metrics import psnr
from memonf.io.checkpoint import load
from memonf.merging import merge
from memonf.rendering.volume_rendering import Renderer
from memonf.visualization.images import labelled_sheet, write_png
from memonf.visualization.video import to_bytes

SHOWN = ("test_1", "test_4", "test_32")
#: A highlight: the position-only merge is darker than the picture by more than this.
DARKER = 0.12
ROWS = ("truth", "its parent (nerf)", "merged (nerf)", "merged (tiny_nerf)")


def main() -> None:
    """Merge, score all pixels and the highlights, draw."""
    scene = load_scene(sys.argv[1])
    parents = [load(path) for path in sys.argv[2:4]]
    both = merge(parents).field
    flat = merge(parents, student="tiny_nerf", student_config={"width": 128}).field
    front, rear, merged, tiny = map(Renderer.of, (*parents, both, flat))
    views = scene.views("test")
    own = set(scene.views("test", "front").names)
    whole: list[list[float]] = [[], [], []]
    bright: list[list[float]] = [[], [], []]
    cells: list[list[np.ndarray]] = [[], [], [], []]
    for index, name in enumerate(views.names):
        truth = views.picture(index, scene.background_rgb)
        renderers = (front if name in own else rear, merged, tiny)
        seen = [renderer.view(views.cameras, index).rgb.clamp(0, 1) for renderer in renderers]
        highlight = truth.mean(-1) - seen[2].mean(-1) > DARKER
        for place, picture in enumerate(seen):
            whole[place].append(psnr(picture, truth))
            if highlight.sum() > 10:
                error = (picture - truth)[highlight].square().mean()
                bright[place].append(float(error))
        if name in SHOWN:
            for row, picture in zip(cells, (truth, *seen), strict=True):
                row.append(enlarged(picture))
    for label, all_views, errors in zip(ROWS[1:], whole, bright, strict=True):
        lit = -10 * math.log10(fmean(errors))
        print(f"{label}: {fmean(all_views):.2f} dB, highlights {lit:.1f} dB")
    sheet = labelled_sheet(list(zip(ROWS, cells, strict=True)), SHOWN)
    write_png(sheet, Path(sys.argv[4]))


def enlarged(picture: torch.Tensor) -> np.ndarray:
    """The middle of a 100×100 picture, four times as large."""
    middle = Image.fromarray(to_bytes(picture)[8:72, 14:86])
    return np.asarray(middle.resize((288, 256), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
