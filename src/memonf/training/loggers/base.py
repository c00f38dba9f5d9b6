"""What a tracker is, what it sees of a step, and how several observers become one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Protocol

from .. import Progress, Trainer

__all__ = ["EVERY", "OnStep", "Tracker", "due", "scalars", "together", "tracked"]

#: What `train` and `train_to_file` call after each step.
OnStep = Callable[[Progress], None]

#: Steps between two entries.
EVERY = 10


class Tracker(Protocol):
    """An observer of steps that holds something open."""

    def __call__(self, progress: Progress) -> None:
        """Look at a step."""

    def close(self) -> None:
        """Write what is still held back."""


def due(progress: Progress, every: int = EVERY) -> bool:
    """Whether a step is written down: the first, every `every`-th and the last."""
    return progress.step == 1 or progress.step % every == 0 or progress.fraction >= 1


def scalars(trainer: Trainer, progress: Progress) -> dict[str, float]:
    """The figures of a step; losses and rates of its own, PSNR over the last steps."""
    figures = {
        "seconds": progress.seconds,
        "fraction": progress.fraction,
        "batch_psnr": progress.psnr,
        "rays_per_second": progress.rays_per_second,
        "samples_per_ray": progress.samples_per_ray,
        "occupied": float(trainer.grid.occupied.float().mean()),
    }
    figures |= {f"loss_{name}": value for name, value in trainer.losses.items()}
    for optimizer in trainer.optimizers:
        figures[f"rate_{type(optimizer).__name__.lower()}"] = optimizer.rate
    return figures


def together(*observers: OnStep) -> OnStep:
    """One observer that calls all of these, in this order."""

    def on_step(progress: Progress) -> None:
        for observer in observers:
            observer(progress)

    return on_step


@contextmanager
def tracked(*trackers: Tracker) -> Iterator[OnStep]:
    """One observer for these trackers; all are closed at the end, however it comes."""
    with ExitStack() as stack:
        for tracker in trackers:
            stack.enter_context(closing(tracker))
        yield together(*trackers)
