"""What a job of an experiment left, so that the next call does only what is missing.

A result stands beside its field file, as arrays and JSON, with a digest of all that it follows
from: settings, the fields it was made of, the views it was scored on, and the version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._version import __version__
from ..utils.files import replacing
from .contender import Contender
from .outcome import Scored

if TYPE_CHECKING:
    from .jobs import ScoreJob

__all__ = ["KeptResult"]

#: Arrays of a result, and what is read off them.
ARRAYS = ("pictures", "frames")


@dataclass(frozen=True)
class KeptResult:
    """Where the result of a job is kept, and what it follows from.

    Attributes:
        file: Its file, ``.npz``.
        digest: Of all that the result follows from.
        path: Field file of the result.
    """

    file: Path
    digest: str
    path: Path

    @classmethod
    def of(cls, job: ScoreJob, file: Path) -> KeptResult:
        """The result of a job that scores a field."""
        settings = job.settings
        scene = settings.scene()
        views = scene.views("test", "all")
        content = hashlib.sha256()
        follows_from = [
            __version__, job.contender.key, job.seed, settings.distill_steps, settings.most_views,
            settings.frames, settings.size, settings.groups, scene.aabb.tolist(), scene.background,
            views.names, views.cameras.camera_to_world.tolist(), views.cameras.intrinsics.tolist(),
            views.cameras.sizes.tolist(),
        ]  # fmt: skip
        content.update(json.dumps(follows_from).encode())
        for needed in job.needs:
            content.update(needed.read_bytes())
        return cls(file, content.hexdigest(), job.path)

    def scored(self, contender: Contender) -> Scored | None:
        """The result that is kept; None if there is none, or if it follows from something else."""
        try:
            with np.load(self.file, allow_pickle=False) as archive:
                values = json.loads(str(archive["values"]))
                if values.pop("digest") != self.digest:
                    return None
                arrays = {name: tuple(archive[name]) for name in ARRAYS if name in archive}
        except (OSError, ValueError, KeyError):  # none, or not whole
            return None
        if values.pop("has_file") and not self.path.exists():
            return None
        path = self.path if contender.kind != "blend" else None
        values["picture_psnr"] = tuple(values["picture_psnr"])
        return Scored(**{"contender": contender, "path": path, **values, **arrays})

    def keep(self, scored: Scored) -> None:
        """Write a result, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        values: dict[str, Any] = {
            entry.name: getattr(scored, entry.name)
            for entry in fields(scored)
            if entry.name not in ("contender", "path", *ARRAYS)
        }
        values |= {"digest": self.digest, "has_file": scored.path is not None}
        arrays: dict[str, Any] = {
            name: stacked(getattr(scored, name)) for name in ARRAYS if getattr(scored, name)
        }
        with replacing(self.file) as temporary, temporary.open("wb") as file:
            np.savez(file, values=np.array(json.dumps(values)), **arrays)


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size as one array."""
    return np.stack(list(pictures))
