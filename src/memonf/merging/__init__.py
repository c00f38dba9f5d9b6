"""Merge methods: a base class and one method per file."""

from .alignment import LayerSimilarity, alignment_similarities
from .base import METHODS, MergeMethod, MergeProblem, MergeResult, merge
from .variation import LayerVariation, layer_variation

__all__ = [
    "METHODS",
    "LayerSimilarity",
    "LayerVariation",
    "MergeMethod",
    "MergeProblem",
    "MergeResult",
    "alignment_similarities",
    "layer_variation",
    "merge",
]
