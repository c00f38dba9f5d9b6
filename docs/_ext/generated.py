"""Pages that are made of the code whenever the site is built: verbs, methods, architectures.

They are written to ``docs/reference/``, which Git ignores there: what the code says is said once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from pathlib import Path
from typing import Any

from docstring_parser import DocstringStyle, parse

from memonf.cli.main import VERBS, main
from memonf.fields import FIELDS
from memonf.merging import METHODS
from update_tables import method_table

REFERENCE = Path(__file__).parents[1] / "reference"


def help_of(*words: str) -> str:
    """What a verb prints of itself, at a width that fits the page."""
    os.environ |= {"COLUMNS": "92", "NO_COLOR": "1", "TERM": "dumb"}
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return said.getvalue().rstrip()


def verbs_page() -> str:
    """The command line: what each verb prints of itself."""
    parts = ["# The command line", "", "What each verb prints with `--help`."]
    for verb, text in VERBS.items():
        parts += ["", f"## memonf {verb}", "", f"{text[0].upper()}{text[1:]}.", ""]
        parts += ["```text", help_of(verb), "```"]
    return "\n".join(parts) + "\n"


def settings_table(cls: Any) -> list[str]:
    """Settings of a class with their defaults and what their docstrings say."""
    said = {
        param.arg_name: " ".join((param.description or "").split())
        for base in reversed(cls.__mro__)
        for param in parse(base.__doc__ or "", DocstringStyle.GOOGLE).params
    }
    rows = ["", "| setting | default | |", "|---|---|---|"]
    for entry in dataclasses.fields(cls):
        default = getattr(cls(), entry.name)
        rows.append(f"| `{entry.name}` | `{default!r}` | {said.get(entry.name, '')} |")
    return rows if len(rows) > 3 else []


def methods_page() -> str:
    """All merge methods, from their classes."""
    parts = ["# Merge methods", "", method_table(), ""]
    parts += ["Which one when: [choosing](../choosing.md). Settings and what they claim:"]
    for name in METHODS:
        method = METHODS[name]
        claims = [
            text
            for text, holds in (
                ("`merge([a, a])` is `a`", method.idempotent),
                ("the order of the parents makes no difference", method.symmetric),
                ("takes parents of different architectures", method.any_architecture),
                ("takes coefficients by layer", method.layerwise),
            )
            if holds
        ]
        parts += ["", f"## {name}", "", f"{method.summary[0].upper()}{method.summary[1:]}."]
        parts += ["", f"Paper: {method.paper}."]
        parts += ["", f"Claims, held to by tests: {'; '.join(claims)}."] if claims else []
        parts += settings_table(method)
    return "\n".join(parts) + "\n"


def fields_page() -> str:
    """All architectures, from their classes."""
    parts = ["# Architectures", ""]
    for name in FIELDS:
        field = FIELDS[name]
        seen = "position and direction" if field.view_dependent else "position"
        first = (field.__doc__ or "").strip().splitlines()[0]
        parts += ["", f"## {name}", "", f"{first} Reads {seen}."]
        parts += settings_table(field.Config)
    return "\n".join(parts) + "\n"


def write_pages(app: Any) -> None:
    """Write all pages before the site is read; leave those alone that have not changed."""
    for name, page in (("cli", verbs_page), ("methods", methods_page), ("fields", fields_page)):
        path = REFERENCE / f"{name}.md"
        text = page()
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
