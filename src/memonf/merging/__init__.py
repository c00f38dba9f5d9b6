"""Merge methods: a base class and one method per file."""

from .alignment import LayerSimilarity, alignment_similarities
from .base import METHODS, MergeMethod, MergeProblem, MergeResult, merge

__all__ = [
    "METHODS",
    "LayerSimilarity",
    "MergeMethod",
    "MergeProblem",
    "MergeResult",
    "alignment_similarities",
    "merge",
]
