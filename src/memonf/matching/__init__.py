"""Matching: which hidden unit of one parent corresponds to which hidden unit of another."""

from .activations import readouts, similarities
from .matcher import Match, Matcher
from .placement import best_permutation
from .universe import Member, match_many, steps_between

__all__ = [
    "Match",
    "Matcher",
    "Member",
    "best_permutation",
    "match_many",
    "readouts",
    "similarities",
    "steps_between",
]
