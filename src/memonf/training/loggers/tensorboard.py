"""Scalars, pictures and settings for TensorBoard; imported by torch only when asked for."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec

from ...errors import InputError
from ...rendering.volume_rendering import SKETCHES, Renderer
from ...typing import PathLike
from ...utils.files import check_folder
from .. import Progress, Trainer
from .base import due, scalars

__all__ = ["TensorBoard", "check_tensorboard"]

#: Pictures over a training, about; each costs about as much as a few steps.
PICTURES = 10


def check_tensorboard() -> None:
    """Find out before long work whether events can be written.

    Raises:
        InputError: The package is missing.
    """
    if find_spec("tensorboard") is None:
        raise InputError(
            "--tensorboard: the package tensorboard is not installed; "
            'install it with `pip install "memonf[tensorboard]"`, or leave --tensorboard out'
        )


class TensorBoard:
    """Writes events into a folder; `tensorboard --logdir FOLDER` shows them.

    The pictures show the first training view as the field sees it.

    Args:
        folder: Where to write.
        trainer: The training that is watched.

    Raises:
        InputError: The package tensorboard is missing.
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: PathLike, trainer: Trainer) -> None:
        check_tensorboard()
        check_folder(folder)
        from torch.utils.tensorboard import SummaryWriter

        self.trainer = trainer
        self.folder = str(folder)
        self.make_writer = SummaryWriter
        self.writer: SummaryWriter | None = None
        self.pictured = -1

    def __call__(self, progress: Progress) -> None:
        """Write scalars if they are due, and a picture at every tenth of the training."""
        if self.writer is None:
            # Events of steps that a resumed training takes again are hidden by `purge_step`.
            self.writer = self.make_writer(self.folder, purge_step=progress.step)
            self.describe()
        if due(progress):
            for name, value in scalars(self.trainer, progress).items():
                self.writer.add_scalar(f"train/{name}", value, progress.step)
        if int(progress.fraction * PICTURES) > self.pictured:
            self.pictured = int(progress.fraction * PICTURES)
            self.picture(progress.step)

    def describe(self) -> None:
        """Write what is trained and how."""
        assert self.writer is not None
        field = self.trainer.field
        about = {
            "architecture": field.name,
            "group": field.record.group,
            "config": field.config.as_dict(),
            "settings": dataclasses.asdict(self.trainer.settings),
        }
        self.writer.add_text("config", f"```json\n{json.dumps(about, indent=2)}\n```", 0)

    def picture(self, step: int) -> None:
        """Draw the first training view; nothing is drawn at random, and norms are left alone."""
        assert self.writer is not None
        trainer = self.trainer
        trainer.field.eval()
        seen = Renderer.of(trainer.field, SKETCHES).view(trainer.cameras, 0).rgb
        trainer.field.train()
        name = f"training view {trainer.views.names[0]}"
        self.writer.add_image(name, seen.clamp(0, 1).cpu().numpy(), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still held back."""
        if self.writer is not None:
            self.writer.close()
