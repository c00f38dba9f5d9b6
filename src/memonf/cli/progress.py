"""Live progress on standard error, so that standard output stays clean for scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..errors import shown
from ..training import Progress as TrainingProgress
from ..training.resume import state_path
from .terminal import console

__all__ = [
    "counting_progress",
    "jobs_progress",
    "resumable",
    "training_bars",
    "training_progress",
    "training_text",
]


def bars_of(*columns: ProgressColumn, show: bool) -> Progress:
    """Bars with these columns behind a mark that turns, on standard error."""
    drawn_on = console(error=True)
    turning = SpinnerColumn("dots" if drawn_on.encoding.startswith("utf") else "line")
    return Progress(turning, *columns, console=drawn_on, disable=not show)


def text_column(text: str) -> TextColumn:
    """A column of text as it is: brackets in names mean nothing."""
    return TextColumn(text, markup=False)


def training_bars(show: bool) -> Progress:
    """Bars for one or more trainings: share done, PSNR, speed, time left."""
    return bars_of(
        text_column("{task.description}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        text_column("{task.fields[figures]}"),
        show=show,
    )


def training_text(progress: TrainingProgress) -> str:
    """The figures beside a bar."""
    minutes, seconds = divmod(round(progress.remaining), 60)
    return (
        f"batch PSNR {progress.psnr:5.2f} dB  {progress.rays_per_second / 1000:5.1f}k rays/s  "
        f"ETA {minutes}:{seconds:02d}"
    )


@contextmanager
def training_progress(title: str, *, show: bool) -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar for one training; yields its `on_step`."""
    with training_bars(show) as bars:
        task = bars.add_task(shown(title), total=1.0, figures="")

        def on_step(progress: TrainingProgress) -> None:
            bars.update(task, completed=progress.fraction, figures=training_text(progress))

        yield on_step


@contextmanager
def counting_progress(title: str, *, show: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar for countable work; yields a function of (done, total)."""
    with bars_of(
        text_column("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        show=show,
    ) as bars:
        task = bars.add_task(shown(title), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def jobs_progress(*, show: bool) -> Iterator[Callable[[str, float, str], None]]:
    """A bar for each job at work; finished ones stay as a line. Yields the observer."""
    with bars_of(
        text_column("{task.description:<44}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        text_column("{task.fields[figures]}"),
        show=show,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def observe(title: str, share: float, figures: str) -> None:
            if title not in tasks:
                tasks[title] = bars.add_task(shown(title), total=1.0, figures="")
            bars.update(tasks[title], completed=share, figures=shown(figures))

        yield observe


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Tell who interrupts a training into a file how to go on with it."""
    try:
        yield
    except KeyboardInterrupt:
        if not state_path(out).exists():
            raise
        raise KeyboardInterrupt(
            f"{state_path(out)} holds the state, the same command with --resume continues"
        ) from None
