"""The parents of a merge, with their symmetry, knowledge and sampled positions.

Nothing in a `MergeProblem` depends on the coefficients, so that one problem serves merges at many
coefficients.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

import torch

from ..fields import Field, known
from ..rendering.knowledge import Knowledge
from ..symmetry import Params, Symmetry, find_symmetry
from .checks import check_symmetry
from .parents import Parents
from .positions import Positions, sample_positions, trust_in

__all__ = ["MergeProblem", "PerParent"]

T = TypeVar("T")


class PerParent(Generic[T]):
    """One value for each parent, computed on access.

    Args:
        count: Number of parents.
        compute: Number of a parent -> its value.
        keep: Whether computed values stay in memory. If not, each is computed again on every
            access, so that no more than one needs to be in memory.
    """

    def __init__(self, count: int, compute: Callable[[int], T], *, keep: bool) -> None:
        self._compute = compute
        self._keep = keep
        self._kept: list[T | None] = [None] * count

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, number: int) -> T:
        value = self._kept[number]
        if value is None:
            value = self._compute(number)
            if self._keep:
                self._kept[number] = value
        return value

    def __iter__(self) -> Iterator[T]:
        return (self[number] for number in range(len(self)))


@dataclass(frozen=True)
class MergeProblem:
    """Parents to be merged; never changed.

    Example:
        >>> problem = memonf.merging.MergeProblem(Parents([front, rear]))
        >>> problem.symmetry.groups[0].name
        'layers.0'

    Attributes:
        parents: Two or more fields.
        seed: Seed of every random choice.
        keep: Whether what is computed for each parent stays in memory for the next coefficients;
            if not, two parents at most are in memory at a time.
        on_progress: Called by long methods with the share done, in [0, 1].
        began: Start of the merge, on the clock of `time.perf_counter`.
    """

    parents: Parents
    seed: int = 0
    keep: bool = False
    on_progress: Callable[[float], None] = lambda share: None
    began: float = field(default_factory=time.perf_counter)

    @cached_property
    def symmetry(self) -> Symmetry:
        """Symmetry of the first parent's architecture, verified on that parent.

        Raises:
            InputError: The forward pass cannot be read.
            MergeError: The symmetry found is invalid.
        """
        first = self.parents[0]
        symmetry = find_symmetry(first)
        check_symmetry(first, symmetry, self.seed)
        return symmetry

    @cached_property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Knowledge of each parent."""
        return tuple(known(parent) for parent in self.parents)

    @property
    def params(self) -> PerParent[Params]:
        """State of each parent, unaligned."""
        return self.per_parent(self.params_of, keep=False)

    def params_of(self, parent: int) -> Params:
        """State of one parent, unaligned."""
        return dict(self.parents[parent].state_dict())

    def per_parent(self, compute: Callable[[int], T], *, keep: bool | None = None) -> PerParent[T]:
        """One value for each parent; kept in memory by `keep`, by default that of the problem."""
        return PerParent(len(self.parents), compute, keep=self.keep if keep is None else keep)

    def generator(self, parent: int) -> torch.Generator:
        """Random number generator of a parent, independent of its place among the parents."""
        content = int(self.parents.facts[parent].content[:12], 16)
        return torch.Generator().manual_seed(self.seed ^ content)

    def positions(self, points: int, free_share: float, use_knowledge: bool) -> Positions:
        """Points where the parents have density, and in the box; equally many from each parent.

        Args:
            points: Number of points.
            free_share: Share of them drawn anywhere in the box, in [0, 1]. Activations in free
                space decide whether the free space of a merge is clear.
            use_knowledge: Whether points on matter are drawn where a parent saw it, and trust
                follows each parent's knowledge.
        """
        share = math.ceil(points / len(self.parents))
        placed, directions = [], []
        known_by = self.knowledge if use_knowledge else (None,) * len(self.parents)
        for number, parent in enumerate(self.parents):
            here, towards = sample_positions(
                parent, known_by[number], share, free_share, self.generator(number)
            )
            placed.append(here)
            directions.append(towards)
        joined = torch.cat(placed)
        trust = torch.ones(len(self.parents), len(joined), device=joined.device)
        if use_knowledge:
            trust = torch.stack([trust_in(knowledge, joined) for knowledge in self.knowledge])
        first = self.parents[0]
        inputs = [first.normalise(joined), torch.cat(directions) if first.view_dependent else None]
        return Positions(inputs, trust)

    def field_with(self, params: Params) -> Field:
        """A new field of the first parent's architecture with these params."""
        merged = copy.deepcopy(self.parents[0])
        merged.load_state_dict(params)
        return merged.eval()
