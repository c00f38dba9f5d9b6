"""Write generated parts into the README: the method table, and result tables of `memonf compare`.

    python scripts/update_tables.py README.md --results out/robot out/lego

Each part stands between two HTML comments; the rest of the file is left alone. ``--check`` writes
nothing and fails if the method table is out of date (the tests call it).
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from memonf.merging import METHODS


def method_table() -> str:
    """One row a method, from its class."""
    rows = ["| method | what it does | paper |", "|---|---|---|"]
    rows += [f"| `{name}` | {METHODS[name].summary} | {METHODS[name].paper} |" for name in METHODS]
    return "\n".join(rows)


def replaced(text: str, part: str, content: str) -> str:
    """Text with one generated part exchanged."""
    pattern = rf"(<!-- {part}: begin -->\n).*?(<!-- {part}: end -->)"
    new, count = re.subn(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"expected one part `{part}`, found {count}")
    return new


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--results", type=Path, nargs="*", help="folders of memonf compare")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = options.file.read_text(encoding="utf-8")
    text = replaced(before, "methods", method_table())
    if options.results:
        tables = [(folder / "scores.md").read_text(encoding="utf-8") for folder in options.results]
        text = replaced(text, "results", "\n".join(tables).rstrip())
    if options.check:
        sys.exit(0 if text == before else f"{options.file}: run scripts/update_tables.py")
    options.file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
