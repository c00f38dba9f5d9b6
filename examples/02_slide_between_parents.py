"""Slide the coefficient from one parent to the other: a row of pictures for each method.

python examples/02_slide_between_parents.py robot/front.safetensors robot/rear.safetensors
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import memonf
from memonf.visualization.images import labelled_sheet, write_png
from memonf.visualization.turntables import field_turntable
from memonf.visualization.video import to_bytes

METHODS = ("average", "weight_matching", "activation_matching_repair")


def main() -> None:
    """Merge again and again; a merger keeps what does not depend on the coefficients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--shares", type=int, default=5, help="merges from one end to the other")
    parser.add_argument("--size", type=int, default=160, help="of each picture, pixels")
    parser.add_argument("--out", type=Path, default=Path("slide.png"))
    arguments = parser.parse_args()

    parents = [memonf.load(arguments.first), memonf.load(arguments.second)]
    cameras = field_turntable(parents[0], 1, arguments.size)
    shares = [step / (arguments.shares - 1) for step in range(arguments.shares)]
    rows = []
    for method in METHODS:
        pictures, seconds = [], []
        # Aligning takes most of a merge's time, and is the same for every coefficient.
        merger = memonf.Merger(parents, method)
        for share in shares:
            began = time.perf_counter()
            merged = merger.at([1 - share, share])
            seconds.append(time.perf_counter() - began)
            view = memonf.Renderer.of(merged.field).view(cameras, 0)
            pictures.append(to_bytes(view.rgb))
        rows.append((method.replace("_", "\n"), pictures))
        print(f"{method}: " + ", ".join(f"{merge:.2f} s" for merge in seconds))
    write_png(labelled_sheet(rows, [f"{share:.0%}" for share in shares]), arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
