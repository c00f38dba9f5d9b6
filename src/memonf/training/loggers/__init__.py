"""Following a training: `json_lines` files by default, `tensorboard` when asked for.

A tracker watches; it never touches the training, whose params are the same bytes without it.
"""

from __future__ import annotations

from .base import OnStep, Tracker, together, tracked
from .json_lines import JsonLines, log_path, training_seconds
from .tensorboard import TensorBoard, check_tensorboard

__all__ = [
    "JsonLines",
    "OnStep",
    "TensorBoard",
    "Tracker",
    "check_tensorboard",
    "log_path",
    "together",
    "tracked",
    "training_seconds",
]
