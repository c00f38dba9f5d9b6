"""Merging fields: `merge`, `Merger`, and the parts of merge methods.

A merge has two phases: `prepare` does what depends on the parents alone (alignment, statistics),
`combine` merges at given coefficients. Most methods consist of three parts: `aligning` (or
`midpoint`), `combining` and `correcting`. `distillation` evaluates the parents as teachers;
`methods` contains the methods, one per file.
"""

from .api import Merger, MergeResult, merge
from .combining.base import combine_params
from .layer_similarity import LayerSimilarity, alignment_similarities
from .layer_variation import LayerVariation, layer_variation
from .method import METHODS, SETTINGS, MergeMethod, build_method, settings_dataclass
from .parts import AlignedMethod, ComposedMethod, Parts, SampledMethod
from .problem import MergeProblem

__all__ = [
    "METHODS",
    "SETTINGS",
    "AlignedMethod",
    "ComposedMethod",
    "LayerSimilarity",
    "LayerVariation",
    "MergeMethod",
    "MergeProblem",
    "MergeResult",
    "Merger",
    "Parts",
    "SampledMethod",
    "alignment_similarities",
    "build_method",
    "combine_params",
    "layer_variation",
    "merge",
    "settings_dataclass",
]
