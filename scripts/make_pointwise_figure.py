"""Draw pointwise fields beside each other: pictures in a row, slices of shapes in a column.

Usage: python scripts/make_pointwise_figure.py TRUTH OUT.webp FIELD.safetensors ...
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from memonf.fields.pointwise import PointField
from memonf.implicit import draw, open_truth, score
from memonf.io.checkpoint import load

#: Height of the line of text above each picture, and the widest a picture is shown, pixels.
LINE, WIDEST = 18, 300


def main() -> None:
    """Draw what the command line names."""
    source, out, files = Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
    shown = []
    shape = True
    for file in files:
        field = load(file)
        assert isinstance(field, PointField)
        truth = open_truth(source, field.name)
        shape = field.name != "image"
        with tempfile.TemporaryDirectory() as folder:
            draw(field, truth, Path(folder) / "a.png")
            picture = Image.open(Path(folder) / "a.png").convert("RGB")
        if not shape:
            picture.thumbnail((WIDEST, WIDEST))
        line = Image.new("RGB", (picture.width, LINE), "white")
        found = ", ".join(f"{name} {value:.3g}" for name, value in score(field, truth).items())
        words = f"{file.stem}: {found}"
        ImageDraw.Draw(line).text((4, 3), words, fill="black", font=ImageFont.load_default(12))
        shown.append(np.concatenate([np.asarray(line), np.asarray(picture)]))
    Image.fromarray(np.concatenate(shown, 0 if shape else 1)).save(out, quality=90)


if __name__ == "__main__":
    main()
