"""The whole experiment on one data set: train parents, merge them by every method, show it.

Every piece of work is a job: a frozen dataclass that can be sent to another process, runs on one
thread and leaves its result in a file. Two single-threaded jobs side by side use two cores better
than one job with two threads. A field that is already there, trained with the same settings, is
used as it is, so an interrupted experiment continues where it stopped.

Called by ``memonf compare`` and ``memonf demo``; the report package draws what comes back.
"""

from __future__ import annotations

from .contender import Contender
from .jobs import TrainJob
from .outcome import Alignment, Curve, KnowledgePicture, Outcome, RunDescription, Scored
from .run import compare
from .settings import DISTILL_STEPS, HALVES, CompareSettings

__all__ = [
    "DISTILL_STEPS",
    "HALVES",
    "Alignment",
    "CompareSettings",
    "Contender",
    "Curve",
    "KnowledgePicture",
    "Outcome",
    "RunDescription",
    "Scored",
    "TrainJob",
    "compare",
]
