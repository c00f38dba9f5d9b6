"""What a case is: sides that are measured in turn, and what is claimed of them.

A case is one class in ``bench/cases``; the registry finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from memonf.utils.registry import Registry

from .figures import Claim, Measured
from .processes import Run

__all__ = ["CASES", "Case", "Options", "Side"]

CASES: Registry[Case] = Registry("benchmark case", package="cases", group="memonf.benchmark_cases")

#: Measures one side once; every job that it times runs in a fresh process of its own.
Side: TypeAlias = Callable[[Run], Measured]


@dataclass(frozen=True)
class Options:
    """What the command line decides.

    Attributes:
        data: Folder of NeRF-synthetic lego; cases that need it are left out where it is not.
        quick: A smoke run: tiny pictures, a few seconds a job.
        seed: Seed of every random choice.
        views: Held-out views to score on.
        ladder: Lengths of our trainings, seconds, ascending.
        reference_seconds: Longest training of the usual script.
        reference_steps: Steps of Tiny NeRF's own curve; 0 to extrapolate.
    """

    data: Path
    quick: bool = False
    seed: int = 0
    views: int = 25
    ladder: tuple[float, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    reference_seconds: float = 150.0
    reference_steps: int = 0


class Case(ABC):
    """Base of all cases."""

    name: ClassVar[str]
    #: Heading of its table.
    title: ClassVar[str]
    #: Must it be asked for by name?
    optional: ClassVar[bool] = False
    #: Does it need `Options.data`?
    needs_data: ClassVar[bool] = False

    @abstractmethod
    def settings(self, options: Options) -> dict[str, Any]:
        """All that its figures depend on, as plain values; what is kept is kept with these."""

    @abstractmethod
    def sides(self, settings: dict[str, Any]) -> dict[str, Side]:
        """The sides by name, in the order in which they take turns."""

    def claims(self) -> Sequence[Claim]:
        """What is claimed of the sides; none by default."""
        return ()
