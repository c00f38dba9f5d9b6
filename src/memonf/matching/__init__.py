"""Which hidden unit of one parent is which hidden unit of another."""

from .activations import match_activations
from .assignment import best_permutation
from .weights import WeightMatch, match_params

__all__ = ["WeightMatch", "best_permutation", "match_activations", "match_params"]
