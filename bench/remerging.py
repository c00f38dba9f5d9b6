r"""Seconds of a merge whose parents were merged before: the table in docs/viewer.md.

    python bench/remerging.py front.safetensors rear.safetensors

The first merge aligns; the others, at five coefficients, reuse what it prepared (median).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

import memonf
from memonf.utils.malloc import keep_freed_memory
from memonf.viewer import Contents

SHARES = (0.1, 0.3, 0.6, 0.8, 0.45)


def main() -> None:
    """Print a row a method."""
    keep_freed_memory()
    contents = Contents({Path(path).stem: memonf.load(path) for path in sys.argv[1:3]})
    print("| method | first, s | again, s |\n|---|---:|---:|")
    for method in contents.methods:
        seconds = []
        for share in (0.5, *SHARES):
            started = time.perf_counter()
            contents.field(method, share)
            seconds.append(time.perf_counter() - started)
        print(f"| `{method}` | {seconds[0]:.2f} | {median(seconds[1:]):.2f} |", flush=True)


if __name__ == "__main__":
    main()
