"""Write the tables of ``bench/which.py`` into the docs.

python scripts/make_which_table.py FOLDER docs/research/which.md

FOLDER holds ``which.jsonl``. The whole table goes beside the page (``which.csv``), summaries into
its parts ``widths`` and ``scenes``. The barrier is the mean of the parents' PSNR on all views minus
that of their merge with equal coefficients: below 0 the merge is better than its parents are.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeAlias

from make_planted_table import table
from update_tables import replaced

Row: TypeAlias = "dict[str, Any]"
Key: TypeAlias = "tuple[str, int, str]"

COLUMNS = (
    "scene", "width", "initialization", "name", "pairs", "front", "rear", "all", "barrier",
    "seconds",
)  # fmt: skip
PARENTS = ("front", "rear")
INITIAL = ("shared", "independent")


def whole_table(rows: list[Row]) -> list[Row]:
    """Medians over pairs, one row for each scene, width, kind of initial params and field."""
    pairs: dict[tuple[Any, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        pairs[row["scene"], row["width"], row["initialization"], row["pair"]][row["name"]] = row
    collected: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for (*key, _), fields in pairs.items():
        parents = fmean(fields[name]["all"] for name in PARENTS)
        for name, row in fields.items():
            collected[(*key, name)].append({**row, "barrier": parents - row["all"]})
    return [
        {
            **dict(zip(COLUMNS[:4], key, strict=True)),
            "pairs": len(found),
            **{
                column: round(median(row[column] for row in found), 2)
                for column in ("front", "rear", "all", "barrier", "seconds")
            },
        }
        for key, found in collected.items()
    ]


def below_oracle(rows: Iterable[Row]) -> dict[tuple[str, int, str, str], float]:
    """(name, width, initial params, scene) -> dB below the oracle on all views."""
    of = {(r["name"], r["width"], r["initialization"], r["scene"]): r["all"] for r in rows}
    return {key: value - of["oracle", *key[1:]] for key, value in of.items()}


def widths_table(rows: list[Row]) -> str:
    """Each method by width and initial params: dB below the oracle, median over the scenes."""
    gaps = below_oracle(rows)
    widths = sorted({row["width"] for row in rows})
    scenes = sorted({row["scene"] for row in rows})

    def gap(name: str, width: int, initial: str) -> float | None:
        found = [gaps[name, width, initial, s] for s in scenes if (name, width, initial, s) in gaps]
        return median(found) if found else None

    names = list(dict.fromkeys(r["name"] for r in rows if r["name"] not in (*PARENTS, "oracle")))
    middle = widths[len(widths) // 2]
    names.sort(
        key=lambda name: gap(name, middle, "shared") or gap(name, middle, "independent") or 0
    )
    names.reverse()
    seconds = {
        name: median(r["seconds"] for r in rows if r["name"] == name and r["width"] == middle)
        for name in names
    }
    body = []
    for name in names:
        cells = [gap(name, width, initial) for initial in INITIAL for width in widths]
        shown = ["–" if cell is None else f"{cell:+.1f}" for cell in cells]
        body.append([f"`{name}`", *shown, f"{seconds[name]:.1f}"])
    header = [f"{initial} {width}" for initial in INITIAL for width in widths]
    return table(["method", *header, f"seconds at {middle}"], body)


def scenes_table(rows: list[Row], width: int) -> str:
    """Front, rear and all of every method on each scene, at one width, both initial params."""
    scenes = sorted({row["scene"] for row in rows})
    of = {(r["name"], r["scene"], r["initialization"]): r for r in rows if r["width"] == width}
    names = list(dict.fromkeys(name for name, *_ in of))
    names.sort(key=lambda name: -fmean([of[k]["all"] for k in of if k[0] == name]))

    def cell(name: str, scene: str, initial: str) -> str:
        row = of.get((name, scene, initial))
        if row is None:
            return "–"
        parts = "/".join(f"{row[group]:.1f}" for group in ("front", "rear", "all"))
        return parts if name == "oracle" else f"{parts} ({row['barrier']:+.1f})"

    body = [
        [f"`{name}`", *(cell(name, scene, initial) for initial in INITIAL for scene in scenes)]
        for name in names
    ]
    header = [f"{scene}, {initial}" for initial in INITIAL for scene in scenes]
    return table(["field", *header], body)


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description="tables of which method when")
    parser.add_argument("folder", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--width", type=int, default=128)
    options = parser.parse_args()
    lines = (options.folder / "which.jsonl").read_text().splitlines()
    rows = whole_table([json.loads(line) for line in lines])
    rows.sort(key=lambda r: (r["initialization"] != "shared", r["width"], r["scene"], -r["all"]))
    with options.page.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = options.page.read_text(encoding="utf-8")
    text = replaced(text, "widths", widths_table(rows))
    text = replaced(text, "scenes", scenes_table(rows, options.width))
    options.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
