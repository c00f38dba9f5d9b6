"""Parts of methods that bring the parents into the unit order of the first.

Alignments that are searched by what the midpoint answers are in `memonf.merging.midpoint`.
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
