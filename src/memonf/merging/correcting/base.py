"""Base of corrections, which restore the statistics of merged units that combining changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from ...symmetry import Params
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined

__all__ = ["Correct", "CorrectAt", "Uncorrected"]

#: Corrects what was combined at some coefficients.
CorrectAt: TypeAlias = "Callable[[Combined, Coefficients], Params]"


class Correct(ABC):
    """Base of corrections."""

    #: Whether it samples activations.
    needs_positions: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, aligned: AlignedParents) -> CorrectAt:
        """Do what does not depend on the coefficients; return the correction for given ones."""


@dataclass(frozen=True)
class Uncorrected(Correct):
    """The params as they were combined."""

    def prepare(self, aligned: AlignedParents) -> CorrectAt:
        """See `Correct.prepare`."""
        return lambda combined, coefficients: combined.params
