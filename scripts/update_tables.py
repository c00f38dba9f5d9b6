"""Write generated parts into the docs: the method table, and result tables of `memonf compare`.

    python scripts/update_tables.py README.md robot=out/demo lego=out/lego

A part stands between two HTML comments, ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``; the
rest of the file is left alone. NAME=FOLDER fills a part with the folder's ``scores.md``; the part
``methods`` is always filled from the classes. ``--check`` writes nothing and fails if the method
table is out of date (a test calls it).
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from memonf.merging import METHODS


def method_table() -> str:
    """One row a method, from its class."""
    rows = ["| method | what it does | looks at | paper |", "|---|---|---|---|"]
    for name in METHODS:
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
        rows.append(f"| `{name}` | {method.summary} | {', '.join(looked_at)} | {method.paper} |")
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
    parser = argparse.ArgumentParser(description="write generated parts into the docs")
    parser.add_argument("file", type=Path)
    parser.add_argument("parts", nargs="*", help="NAME=FOLDER of a memonf compare")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = options.file.read_text(encoding="utf-8")
    text = before
    if "<!-- methods: begin -->" in text:
        text = replaced(text, "methods", method_table())
    for part in options.parts:
        name, _, folder = part.partition("=")
        text = replaced(text, name, (Path(folder) / "scores.md").read_text("utf-8").rstrip())
    if options.check:
        sys.exit(0 if text == before else f"{options.file}: run scripts/update_tables.py")
    options.file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
