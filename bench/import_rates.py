"""At which share of the usual rates a student of a stranger's architecture learns best.

python bench/import_rates.py DATA THEIRS.safetensors MINE.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import memonf
from memonf.fields.classic_nerf import ClassicNerf

SHARES, VIEWS = (0.3, 0.6, 1.0), 8


def main() -> None:
    """Merge by `distill` at each share, score by one ray and by 4x4 rays a pixel."""
    scene, parents = memonf.load_scene(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    for share in SHARES:
        ClassicNerf.rate_scale = share
        merged = memonf.merge(parents, "distill").field
        found = [
            memonf.evaluate(merged, scene, most_views=VIEWS, supersample=rays).psnr
            for rays in (1, 4)
        ]
        print(f"| {share:g} | {found[0]:.2f} | {found[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
