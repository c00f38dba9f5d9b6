"""Draw what fields show of a capture's held-out views, row by row under the photographs.

Usage: python scripts/make_capture_figure.py DATA OUT.webp FIELD.safetensors ...
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from memonf.data import load_scene
from memonf.evaluation.evaluate import evaluate
from memonf.io.checkpoint import load
from memonf.visualization.video import to_bytes

#: Height of the line of text above each row, pixels.
LINE = 18


def titled(pictures: list[np.ndarray], title: str) -> np.ndarray:
    """Pictures side by side under a title."""
    row = np.concatenate(pictures, 1)
    line = Image.new("RGB", (row.shape[1], LINE), "white")
    ImageDraw.Draw(line).text((4, 3), title, fill="black", font=ImageFont.load_default(12))
    return np.concatenate([np.asarray(line), row])


def main() -> None:
    """Draw what the command line names."""
    data, out, files = sys.argv[1], Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
    fields = [load(file) for file in files]
    scene = load_scene(data, place=fields[0].record.placement or "auto")
    test = scene.views("test")
    truths = [to_bytes(test.picture(view, scene.background_rgb)) for view in range(len(test))]
    rows = [titled(truths, "held-out photographs")]
    for file, field in zip(files, fields, strict=True):
        shown: dict[str, np.ndarray] = {}

        def keep(name: str, picture: Tensor, shown: dict[str, np.ndarray] = shown) -> None:
            shown[name] = to_bytes(picture)

        scores = evaluate(field, scene, on_picture=keep)
        each = ", ".join(f"{view.psnr:.1f}" for view in scores.views)
        rows.append(titled(list(shown.values()), f"{file.stem}: {scores.psnr:.2f} dB ({each})"))
    Image.fromarray(np.concatenate(rows)).save(out, quality=90)


if __name__ == "__main__":
    main()
