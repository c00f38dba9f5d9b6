"""Alignments that are searched by what the average of the parents, the midpoint, answers."""

from .sinkhorn import BySinkhorn
from .straight_through import ByStraightThrough

__all__ = ["BySinkhorn", "ByStraightThrough"]
