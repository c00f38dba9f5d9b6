"""One self-contained HTML file: what it shows, as plain values, and how it is filled.

A page is a `Page`: tables, films, pictures, curves, maps and matrices, each of which may be left
out. Experiments and single merges make theirs in `experiment_page` and `merge_page`; the template
knows no more than this. Nothing is asked for from outside: pictures are data: addresses, style and
script stand in the file, and its content security policy forbids every request.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from ..errors import shown
from ..typing import PathLike
from ..utils.files import write_text
from .plots import CurvePlot

__all__ = ["Bar", "Film", "Layer", "Map", "Page", "Shown", "Standpoint", "write_page"]

#: Bytes that a page may have; a larger one is still written, and says so.
MOST_BYTES = 15 * 2**20


@dataclass(frozen=True)
class Film:
    """A turntable.

    Attributes:
        name: Of the field, for people.
        sheet: data: address of one picture with all frames, `columns` in a row.
        chosen: Whether it is shown at first.
    """

    name: str
    sheet: str
    chosen: bool


@dataclass(frozen=True)
class Standpoint:
    """A view, and what is to be seen from there.

    Attributes:
        name: Of the view, for people.
        reference: What fields are compared with, for people.
        picture: data: address of that.
    """

    name: str
    reference: str
    picture: str


@dataclass(frozen=True)
class Shown:
    """A field's pictures of all standpoints.

    Attributes:
        name: For people.
        pictures: data: addresses, one each.
        psnr: Of each against the reference, dB.
    """

    name: str
    pictures: tuple[str, ...]
    psnr: tuple[float, ...]


@dataclass(frozen=True)
class Map:
    """A picture with a sentence about it.

    Attributes:
        name: Its heading.
        picture: data: address.
        text: What it shows.
    """

    name: str
    picture: str
    text: str


@dataclass(frozen=True)
class Layer:
    """Two matrices of similarity between the units of two parents.

    Attributes:
        name: Group of units.
        units: How many.
        before: data: address of the matrix as the parents are.
        after: The same once they are aligned.
        diagonal_before: Mean on the diagonal.
        diagonal_after: The same once they are aligned.
    """

    name: str
    units: int
    before: str
    after: str
    diagonal_before: float
    diagonal_after: float


@dataclass(frozen=True)
class Bar:
    """What a field costs.

    Attributes:
        name: For people.
        seconds: To train or merge it; None where that is unknown.
        parameters: Numbers that a picture of it needs.
        time_width: Length of its bar of time, in percent; see `widths`.
        size_width: Length of its bar of size, in percent.
    """

    name: str
    seconds: float | None
    parameters: int
    time_width: float
    size_width: float


@dataclass(frozen=True)
class Page:
    """All that a page shows; what is empty is left out.

    Attributes:
        title: Heading.
        verdict: What came out, in a sentence.
        note: How figures were taken, in a sentence.
        headings: Of the table, the first over the names.
        rows: Name, figures as text, and whether the row stands out.
        table_caption: What the table holds.
        films: Turntables, all of as many frames.
        frames: Number of frames.
        columns: Frames in a row of each film's sheet.
        size: Side of a frame, pixels.
        views: Standpoints to compare fields from.
        views_note: What is compared there, in a sentence.
        shown: Fields to compare.
        first: Names of the two fields that are compared at first.
        curves: Interpolation curves.
        maps: What the parents know.
        layers: Similarity of the parents' units.
        layers_note: What it shows, or why it is not there.
        bars: Time and size.
        settings: Key and value, as text.
        command: The command line that makes the page again.
    """

    title: str
    verdict: str
    note: str
    command: str
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[str, tuple[str, ...], bool], ...] = ()
    table_caption: str = ""
    films: tuple[Film, ...] = ()
    frames: int = 0
    columns: int = 1
    size: int = 0
    views: tuple[Standpoint, ...] = ()
    views_note: str = ""
    shown: tuple[Shown, ...] = ()
    first: tuple[str, str] = ("", "")
    curves: CurvePlot | None = None
    maps: tuple[Map, ...] = ()
    layers: tuple[Layer, ...] = ()
    layers_note: str = ""
    bars: tuple[Bar, ...] = ()
    settings: tuple[tuple[str, str], ...] = field(default_factory=tuple)

    def script_data(self) -> dict[str, Any]:
        """What the page's script works on."""
        return {
            "films": [asdict(film) for film in self.films],
            "frames": self.frames,
            "columns": self.columns,
            "size": self.size,
            "views": [asdict(view) for view in self.views],
            "shown": [asdict(shown) for shown in self.shown],
            "first": list(self.first),
        }


def write_page(page: Page, path: PathLike) -> int:
    """Write a page as one HTML file; return its size in bytes.

    Warns if it is larger than `MOST_BYTES`: mails and browsers may refuse it.

    Raises:
        OutputError: The file cannot be written.
    """
    html = environment().get_template("page.html.jinja").render(page=page)
    write_text(path, html)
    size = len(html.encode())
    if size > MOST_BYTES:
        warnings.warn(
            f"{path} has {size / 2**20:.0f} MiB, more than {MOST_BYTES / 2**20:.0f}: "
            "fewer --frames or a smaller --size make it lighter",
            stacklevel=2,
        )
    return size


def environment() -> Environment:
    """Templates of this package; all text is escaped and `shown`, unknown names are errors."""
    return Environment(
        autoescape=True,
        finalize=lambda value: shown(value) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: (files(__package__) / name).read_text("utf-8")),
    )


def widths(bars: Sequence[tuple[str, float | None, int]]) -> tuple[Bar, ...]:
    """Bars for (name, seconds, params) each.

    Time is drawn from zero on a root scale, so that tenths of seconds and minutes fit on a page;
    size on a linear one.
    """
    longest = max((seconds or 0.0 for _, seconds, _ in bars), default=0.0) or 1.0
    largest = max((size for *_, size in bars), default=0) or 1
    return tuple(
        Bar(
            name, seconds, size, round(100 * ((seconds or 0.0) / longest) ** 0.5, 1),
            round(100 * size / largest, 1),
        )
        for name, seconds, size in bars
    )  # fmt: skip
