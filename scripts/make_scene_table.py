"""Print the table of several scenes in docs/research/knowledge.md from `memonf compare` folders.

python scripts/make_scene_table.py out/lego out/chair out/robot out/still_life
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from memonf.merging import METHODS


def row(folder: Path) -> str:
    """One scene: yardsticks, merges, and what `distill` lacks and takes."""
    rows: list[dict[str, Any]] = json.loads((folder / "scores.json").read_text("utf-8"))["rows"]

    def of(name: str, group: str = "all") -> float:
        return float(median(r["psnr"] for r in rows if (r["name"], r["group"]) == (name, group)))

    found = {entry["name"] for entry in rows}
    weight_space = [n for n in METHODS if n in found and not METHODS[n].function_space]
    best = max(weight_space, key=of)
    lacks = [of("oracle", group) - of("distill", group) for group in ("front", "rear")]
    timings = json.loads((folder / "timings.json").read_text("utf-8"))["rows"]
    seconds, joint = (
        median(entry["seconds"] for entry in timings if entry["name"] == name)
        for name in ("distill", "joint")
    )
    return (
        f"| {folder.name} | {of('oracle'):.2f} | {of('joint'):.2f} | {of('blend'):.2f} | "
        f"{of(best):.2f} (`{best}`) | {of('gauss_newton'):.2f} | **{of('distill'):.2f}** | "
        f"−{lacks[0]:.2f}, −{lacks[1]:.2f} | {seconds:.1f} | {100 * seconds / joint:.0f} % |"
    )


def main() -> None:
    """Print the table."""
    print("| | oracle | joint | blend | best weight-space | `gauss_newton` | `distill` "
          "| front, rear below oracle | seconds | of joint's |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---|---:|---:|")
    for folder in sys.argv[1:]:
        print(row(Path(folder)))


if __name__ == "__main__":
    main()
