"""Which hidden unit of one parent is which hidden unit of another."""

from .activations import readouts, similarities
from .matcher import Match, Matcher
from .placement import best_permutation
from .universe import Member, match_many, way_between

__all__ = [
    "Match",
    "Matcher",
    "Member",
    "best_permutation",
    "match_many",
    "readouts",
    "similarities",
    "way_between",
]
