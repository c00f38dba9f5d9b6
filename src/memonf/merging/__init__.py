"""Merge methods: a base class and one method per file."""

from .base import METHODS, MergeMethod, MergeProblem, MergeResult, merge

__all__ = ["METHODS", "MergeMethod", "MergeProblem", "MergeResult", "merge"]
