"""Write generated parts into the docs: the method table, and result tables of `memonf compare`.

    python scripts/update_tables.py docs/results.md robot=out/demo lego=out/lego
    python scripts/update_tables.py README.md
    python scripts/update_tables.py docs/choosing.md

A part stands between two HTML comments, ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``; the
rest of the file is left alone. NAME=FOLDER fills a part with the folder's ``scores.md``. The part
``methods`` is filled from the classes, and ``NAME-short`` with the main rows of the part NAME of
docs/results.md. ``--check`` writes nothing and fails if one of these two is out of date (a test
calls it).
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from memonf.merging import METHODS, ComposedMethod
from memonf.merging.combining.base import Averaged
from memonf.merging.correcting.base import Uncorrected

RESULTS = Path(__file__).parents[1] / "docs" / "results.md"
#: Rows of a short table: how they begin in the long one.
MAIN_ROWS = (
    "| parent front |", "| parent rear |", "| oracle (each view by the parent of its group) |",
    "| joint (all images) |", "| `average` |", "| `combined_matching_repair` |",
    "| `least_squares` |", "| `distill` |",
)  # fmt: skip
FAMILIES = (
    "Align and average", "Align, average, correct the statistics",
    "Combine by more than the mean", "Ask the parents",
)  # fmt: skip


def family_of(method: type[Any]) -> str:
    """Which of the four families a method belongs to, by its parts."""
    if not issubclass(method, ComposedMethod):
        return FAMILIES[3]
    parts = method().parts()
    if not isinstance(parts.combine, Averaged):
        return FAMILIES[2]
    return FAMILIES[0] if isinstance(parts.correct, Uncorrected) else FAMILIES[1]


def method_table() -> str:
    """The methods in four families, one row each, from their classes."""
    tables = []
    for family in FAMILIES:
        rows = [f"**{family}**", "", "| method | what it does | looks at | paper |"]
        rows.append("|---|---|---|---|")
        rows += [method_row(name) for name in METHODS if family_of(METHODS[name]) == family]
        tables.append("\n".join(rows))
    return "\n\n".join(tables)


def method_row(name: str) -> str:
    """One row of the method table."""
    method = METHODS[name]
    looked_at = [
        word
        for word, looks in (
            ("a common start", method.needs_ancestor),
            ("points in space", method.needs_positions),
            ("what parents saw", method.needs_knowledge),
        )
        if looks
    ]
    return f"| `{name}` | {method.summary} | {', '.join(looked_at)} | {method.paper} |"


def short_table(name: str) -> str:
    """Head and main rows of a table of docs/results.md, without explanations and SSIM."""
    part = RESULTS.read_text("utf-8").partition(f"<!-- {name}: begin -->")[2]
    lines = part.partition(f"<!-- {name}: end -->")[0].splitlines()
    head = lines.index(next(line for line in lines if line.startswith("| field |")))
    kept = [line for start in MAIN_ROWS for line in lines if line.startswith(start)]
    if len(kept) != len(MAIN_ROWS):
        sys.exit(f"docs/results.md: `{name}`: expected {len(MAIN_ROWS)} rows, found {len(kept)}")
    short = []
    for line in [*lines[head : head + 2], *kept]:
        cells = line.strip("|").split("|")
        cells[0] = re.sub(r" \(.*\)", "", cells[0])
        short.append("|" + "|".join([*cells[:4], cells[5]]) + "|")
    return "\n".join(short)


def replaced(text: str, part: str, content: str) -> str:
    """Text with one generated part exchanged."""
    pattern = rf"(<!-- {part}: begin -->\n).*?(<!-- {part}: end -->)"
    new, count = re.subn(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"expected one part `{part}`, found {count}")
    return new


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description="write generated parts into the docs")
    parser.add_argument("file", type=Path)
    parser.add_argument("parts", nargs="*", help="NAME=FOLDER of a memonf compare")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = options.file.read_text(encoding="utf-8")
    text = before
    if "<!-- methods: begin -->" in text:
        text = replaced(text, "methods", method_table())
    for name in re.findall(r"<!-- (\w+)-short: begin -->", text):
        text = replaced(text, f"{name}-short", short_table(name))
    for part in options.parts:
        name, _, folder = part.partition("=")
        text = replaced(text, name, (Path(folder) / "scores.md").read_text("utf-8").rstrip())
    if options.check:
        sys.exit(0 if text == before else f"{options.file}: run scripts/update_tables.py")
    options.file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
