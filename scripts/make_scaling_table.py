"""Write the tables of ``bench/scaling.py`` into the docs.

python scripts/make_scaling_table.py FOLDER docs/research/speed-merging.md

FOLDER holds ``scaling.json``; the parts ``widths``, ``parents`` and ``points`` are filled.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from make_planted_table import table
from update_tables import replaced


def figures(row: dict[str, Any]) -> list[str]:
    """Least and median seconds, number of runs, peak memory."""
    seconds = [run["seconds"] for run in row["runs"]]
    peak = max(run["megabytes"] for run in row["runs"])
    return [f"{min(seconds):.2f}", f"{median(seconds):.2f}", f"{len(seconds)}", f"{peak:.0f}"]


def main() -> None:
    """Read, and fill the parts."""
    folder, page = Path(sys.argv[1]), Path(sys.argv[2])
    rows = json.loads((folder / "scaling.json").read_text())
    text = page.read_text(encoding="utf-8")
    measured = ["least s", "median s", "runs", "peak MB"]
    two = [row for row in rows if row["case"].get("parents") == 2]
    many = [row for row in rows if "parents" in row["case"] and row["case"]["width"] == 128]
    asked = [row for row in rows if "parents" not in row["case"]]
    text = replaced(text, "widths", table(
        ["what", "width", *measured],
        [[r["case"]["what"], str(r["case"]["width"]), *figures(r)] for r in two],
    ))  # fmt: skip
    text = replaced(text, "parents", table(
        ["parents", *measured],
        [[str(r["case"]["parents"]), *figures(r)] for r in many if r["case"]["what"] != "match"],
    ))  # fmt: skip
    text = replaced(text, "points", table(
        ["method", "points or rays", *measured],
        [
            [r["case"]["what"], str(r["case"].get("points") or r["case"]["rays"]), *figures(r)]
            for r in asked
        ],
    ))  # fmt: skip
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
