"""What this machine is, how fast it is at our work, and what to do about what is slow."""

from __future__ import annotations

from .examine import Examination, examine
from .findings import Finding
from .machine import cpu_model, describe_machine
from .packages import EXTRAS, extras, versions
from .speed import devices, speeds

__all__ = [
    "EXTRAS",
    "Examination",
    "Finding",
    "cpu_model",
    "describe_machine",
    "devices",
    "examine",
    "extras",
    "speeds",
    "versions",
]
