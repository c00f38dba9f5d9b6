"""Alignments: parts of methods that align the parents' units to those of the first parent.

Alignments that are searched by the midpoint's outputs are in `memonf.merging.midpoint`.
"""

from .base import Align, AlignedParents, Sampling, Unaligned
from .similarity import ByActivations, ByBoth, ByWeights, MatcherAlignment

__all__ = [
    "Align",
    "AlignedParents",
    "ByActivations",
    "ByBoth",
    "ByWeights",
    "MatcherAlignment",
    "Sampling",
    "Unaligned",
]
