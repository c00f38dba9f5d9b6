"""Trained fields that cases measure something else on; trained once, off every clock."""

from __future__ import annotations

from pathlib import Path

import memonf

from .machine import fingerprint
from .processes import Run
from .scenes import open_scene

__all__ = ["train_field", "trained"]


def train_field(data: str, side: int | None, group: str, steps: int, seed: int, out: str) -> None:
    """Job: train a field of `steps` steps and save it."""
    settings = memonf.TrainSettings(steps=steps, seed=seed)
    memonf.save(memonf.train(open_scene(data, side), group=group, settings=settings), out)


def trained(run: Run, data: str, side: int | None, group: str, steps: int, seed: int) -> str:
    """Path of a trained field; it is there already if a case of the same code asked for it."""
    labels = [Path(data).name.replace(":", "_"), side or "whole", group, steps, seed]
    code = fingerprint(Path(__file__))
    path = run.folder / f"{'-'.join(map(str, [*labels, code]))}.safetensors"
    if not path.exists():
        run(train_field, data=data, side=side, group=group, steps=steps, seed=seed, out=str(path))
    return str(path)
