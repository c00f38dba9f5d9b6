"""Merging fields: `merge`, `Merger`, and everything that a method is made of.

A merge has two phases: a method `prepare`s the parents (alignment, statistics) and `combine`s them
at given coefficients. Most methods are three parts: `aligning` (or `midpoint`), `combining` and
`correcting`. `distillation` asks parents for their answers; `methods` holds the methods, one a
file.
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
