"""Writes everything an experiment leaves to look at into one folder."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import shown
from ..experiment import Outcome, Scored
from ..utils.devices import cores
from ..utils.files import write_json, write_text
from ..visualization.images import INK, PAPER, labelled_sheet, write_png
from ..visualization.video import write_frames
from .curves import curve_content, draw_curves
from .experiment_page import experiment_page
from .page import write_page
from .tables import markdown_table, score_content, timing_content

__all__ = ["FILES", "captioned", "write_report"]

#: What is written into the folder itself; films beside it where there are any.
FILES = (
    "scores.json", "timings.json", "scores.md", "curves.json", "curves.png",
    "reconstructions.png", "index.html", "turntables.gif", "turntables.webp", "turntables.mp4",
)  # fmt: skip
FILMS = (".gif", ".webp", ".mp4")


def write_report(outcome: Outcome, out: Path) -> Path:
    """Write scores, curves, reconstructions, turntables and ``index.html``; return the page.

    Raises:
        OutputError: The folder cannot be written.
    """
    write_json(out / "scores.json", score_content(outcome))
    write_json(out / "timings.json", timing_content(outcome))
    write_text(out / "scores.md", markdown_table(outcome))
    if outcome.curves:
        write_json(out / "curves.json", curve_content(outcome))
        draw_curves(outcome, out / "curves.png")
    shown = [scored for scored in outcome.fields if scored.seed == 0]
    write_png(reconstructions(outcome, shown), out / "reconstructions.png")
    turned = [scored for scored in shown if scored.frames]
    if turned:
        together = captioned([(caption_of(scored), scored.frames) for scored in turned], columns=5)
        # The largest first, so that no core waits at the end.
        films: dict[Path, Sequence[np.ndarray]] = {out / "turntables": together}
        films |= {out / "turntables" / scored.contender.key: scored.frames for scored in turned}
        with ThreadPoolExecutor(cores()) as pool:  # encoders work outside Python's lock
            jobs = [
                pool.submit(write_frames, frames, path.with_name(path.name + suffix))
                for path, frames in films.items()
                for suffix in FILMS
            ]
            for job in jobs:
                job.result()
    page = out / "index.html"
    write_page(experiment_page(outcome), page)
    return page


def reconstructions(outcome: Outcome, shown: list[Scored]) -> np.ndarray:
    """Truth, parents and merges on the same held-out views, with each view's PSNR."""
    rows = [("truth", outcome.truth)]
    rows += [(row_label(scored), scored.pictures) for scored in shown]
    notes = [[""] * len(outcome.truth)]
    notes += [[f"{value:.1f} dB" for value in scored.picture_psnr] for scored in shown]
    return labelled_sheet(rows, outcome.view_names, notes=notes)


def caption_of(scored: Scored) -> str:
    """A field's name above its film."""
    return scored.contender.label + (" +bn" if scored.contender.batch_norm else "")


def row_label(scored: Scored) -> str:
    """A field's name beside its row of pictures."""
    plain = replace(scored.contender, batch_norm=False).key
    return plain + ("\n(batch norm)" if scored.contender.batch_norm else "")


def captioned(films: Sequence[tuple[str, Sequence[np.ndarray]]], columns: int) -> list[np.ndarray]:
    """Films in step side by side, each under its name, as frames of one film.

    Args:
        films: (name, frames) each; frames are uint8 (size, size, 3), equally many of equal size.
        columns: Films in a row.
    """
    size = films[0][1][0].shape[0]
    caption = 18
    font = ImageFont.load_default(max(9, size // 14))
    lines = -(-len(films) // columns)
    width = min(columns, len(films)) * size
    frames = []
    for index in range(len(films[0][1])):
        sheet = Image.new("RGB", (width, lines * (size + caption)), PAPER)
        draw = ImageDraw.Draw(sheet)
        for place, (name, film) in enumerate(films):
            left, top = place % columns * size, place // columns * (size + caption)
            draw.text((left + size / 2, top + caption / 2), shown(name), INK, font, "mm")
            sheet.paste(Image.fromarray(film[index]), (left, top + caption))
        frames.append(np.asarray(sheet))
    return frames
