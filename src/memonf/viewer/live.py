"""A field while it learns: a page that follows a training, and lets it pause."""

from __future__ import annotations

import copy
import time
from typing import Any

from ..fields import Field
from ..training import Progress, Trainer
from .contents import Contents
from .serving import close_page, open_page

__all__ = ["LiveView"]

#: Seconds between two looks at the field.
EVERY = 2.0
NAME = "field"


class LiveView:
    """Follows a training by being called after each step; it changes nothing of it.

    Args:
        trainer: The training.
        host: Address that the page is served on.
        port: Port; the first free one if None.
        size: Height of good pictures, pixels.

    Attributes:
        address: Where a browser finds the page.
    """

    def __init__(
        self, trainer: Trainer, *, host: str = "127.0.0.1", port: int | None = None, size: int = 256
    ) -> None:
        self.trainer = trainer
        self.contents = Contents({NAME: snapshot(trainer.field)})
        self.panel, self.address = open_page(self.contents, host=host, port=port, size=size)
        self.panel.gallery.settled = False  # good pictures would take their time from the training
        self._paused = False
        self._looked = time.monotonic()
        gui = self.panel.server.gui
        self._button = gui.add_button("Pause training")
        self._button.on_click(self.pause_or_go_on)
        self._text = gui.add_markdown("")

    def __call__(self, progress: Progress) -> None:
        """See what a step has done."""
        done = progress.fraction >= 1
        if done or time.monotonic() - self._looked >= EVERY:
            self._looked = time.monotonic()
            self.look_again(settled=done)
            self._text.content = (
                f"step {progress.step}, {100 * progress.fraction:.0f} %, batch PSNR "
                f"{progress.psnr:.1f} dB, {progress.seconds:.0f} s"
            )

    def look_again(self, *, settled: bool) -> None:
        """Show the field as it is now; in a good picture where it stays so for a while."""
        self.contents.fields[NAME] = self.contents.parents[NAME] = snapshot(self.trainer.field)
        self.panel.gallery.forget()
        self.panel.gallery.settled = settled
        self.panel.repaint()

    def paused(self) -> bool:
        """Whether somebody wants the training to wait; see `train_to_file`."""
        return self._paused

    def pause_or_go_on(self, event: Any = None) -> None:
        """What the button does."""
        self._paused = not self._paused
        self._button.label = "Go on training" if self._paused else "Pause training"
        self.panel.gallery.settled = self._paused
        self.panel.repaint()

    def close(self) -> None:
        """Close the page."""
        close_page(self.panel)


def snapshot(field: Field) -> Field:
    """The field as it is now, for others to look at."""
    return copy.deepcopy(field).eval()
