"""The result of combining, which a correction takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..symmetry import Params
from .unit_statistics import Statistics

__all__ = ["Combined"]


@dataclass(frozen=True)
class Combined:
    """Merged params before their statistics are corrected.

    Attributes:
        params: State of the merged field.
        figures: Figures for the report.
        mix_statistics: Statistics of the aligned parents -> target statistics of the merged units;
            None where each merged unit is the average of the parents' units at its slot.
    """

    params: Params
    figures: dict[str, Any] = field(default_factory=dict)
    mix_statistics: Callable[[Sequence[Statistics]], Statistics] | None = None
