"""What combining hands to a correction."""

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
        figures: What combining reports.
        mix_statistics: Statistics of the aligned parents -> those that the merged units are to
            have, where a unit is not simply the average of the parents' units of its place.
    """

    params: Params
    figures: dict[str, Any] = field(default_factory=dict)
    mix_statistics: Callable[[Sequence[Statistics]], Statistics] | None = None
