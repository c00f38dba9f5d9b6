"""The page that shows an experiment: one HTML file beside its pictures, no script, no request."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ..experiment import Outcome, Scored
from ..files import write_text
from ..merging import METHODS
from .curves import curve_content
from .tables import described_name, summary_rows

__all__ = ["write_page"]


def write_page(outcome: Outcome, shown: list[Scored], out: Path) -> Path:
    """Fill the template and write ``index.html``."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        (files(__package__) / "page.html.jinja").read_text(encoding="utf-8")
    )
    rows = summary_rows(outcome)
    merges = [row for row in rows if row["name"].removesuffix("_batch_norm") in METHODS]
    best = max(merges, key=lambda row: row["all"]) if merges else None
    named = {row["name"]: row for row in rows}
    html = template.render(
        parents={group: named[group] for group in ("front", "rear")},
        average=named.get("average"),
        settings=outcome.settings,
        rows=[row | {"text": described_name(row["name"]).replace("`", "")} for row in rows],
        best=best,
        films=[scored.name for scored in shown if scored.frames],
        curves=curve_content(outcome),
        seconds=outcome.seconds,
    )
    page = out / "index.html"
    write_text(page, html)
    return page
