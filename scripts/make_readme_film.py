"""Make the README's film from the turntables of a `memonf compare` or `memonf demo` folder.

python scripts/make_readme_film.py out/demo docs/images/turntables.webp
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from memonf.report.write import captioned
from memonf.visualization.video import write_frames

SHOWN = ("front", "rear", "average", "activation_matching_repair", "least_squares", "distill")


def main() -> None:
    """Read the single turntables and put them side by side."""
    folder, out = Path(sys.argv[1]) / "turntables", Path(sys.argv[2])
    films = []
    for name in SHOWN:
        with Image.open(folder / f"{name}.webp") as film:
            films.append(
                (name, [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(film)])
            )
    write_frames(captioned(films, columns=6), out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
