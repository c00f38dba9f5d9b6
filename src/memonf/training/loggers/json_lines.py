"""A log of one JSON object a line, beside the field file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

from ...errors import OutputError
from ...typing import PathLike
from ...utils.files import check_writable, write_text
from .. import Progress, Trainer
from .base import due, scalars

__all__ = ["JsonLines", "log_path", "training_seconds"]


def log_path(out: PathLike) -> Path:
    """Where the log of the training of `out` stands: ``front.log.jsonl`` of front.safetensors."""
    return Path(out).with_suffix(".log.jsonl")


def training_seconds(field: PathLike, steps: int | None) -> float | None:
    """How long a training took, as the log beside its field file says.

    Measured times stand in the log alone: field files of one command are equal to the byte.

    Args:
        field: The field file.
        steps: Steps that it was trained for, as its record says; a log of other steps is of another
            training.

    Returns:
        Seconds; None where no log tells.
    """
    try:
        last = log_path(field).read_text(encoding="utf-8").splitlines()[-1]
        entry = json.loads(last)
        return float(entry["seconds"]) if entry["step"] == steps else None
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return None


class JsonLines:
    """Writes a line every few steps, each whole and at once.

    A resumed training goes on in the same file: lines of steps that it takes again, and a line
    torn by a crash, are dropped first. A training from the start begins the file anew.

    Args:
        path: File to write.
        trainer: The training that is watched.

    Raises:
        OutputError: `path` cannot be written.
    """

    def __init__(self, path: PathLike, trainer: Trainer) -> None:
        self.path = Path(path)
        self.trainer = trainer
        self.file: IO[str] | None = None
        check_writable(self.path)

    def __call__(self, progress: Progress) -> None:
        """Write a line if one is due."""
        try:
            if self.file is None:
                write_text(self.path, "".join(lines_before(self.path, progress.step)))
                self.file = self.path.open("a", encoding="utf-8")
            if due(progress):
                figures = scalars(self.trainer, progress)
                rounded = {name: float(f"{value:.6g}") for name, value in figures.items()}
                self.file.write(json.dumps({"step": progress.step, **rounded}) + "\n")
                self.file.flush()
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written: {error.strerror or error}; make room and go on "
                "with --resume, or train with --no-log"
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()


def lines_before(path: Path, step: int) -> list[str]:
    """The whole lines of an earlier log that are of steps before `step`."""
    if not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            earlier = line.endswith("\n") and json.loads(line)["step"] < step
        except (ValueError, KeyError, TypeError):
            continue
        if earlier:
            kept.append(line)
    return kept
