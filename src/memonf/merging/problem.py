"""The parents of a merge, and what every method looks up about them.

A `MergeProblem` holds nothing that depends on the coefficients, so that one problem serves merges
at many coefficients.
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
from ..knowledge import Knowledge
from ..symmetry import Params, Symmetry, find_symmetry
from .checks import check_symmetry
from .parents import Parents
from .positions import Positions, sample_positions, trust_in

__all__ = ["MergeProblem", "PerParent"]

T = TypeVar("T")


class PerParent(Generic[T]):
    """One value for each parent, computed when it is asked for.

    Args:
        count: Number of parents.
        compute: Number of a parent -> its value.
        keep: Whether values stay in memory once they are computed. If not, each is computed again
            every time, so that no more than one needs to be in memory.
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
    """Parents to be merged; read, never changed.

    Attributes:
        parents: Two or more fields.
        seed: Seed of every random choice.
        keep: Whether what is computed for each parent stays in memory for the next coefficients;
            if not, two parents at most are in memory at a time.
        on_progress: Methods that take long call it with the share done, in [0, 1].
        began: When the merge began, on the clock of `time.perf_counter`.
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
            MergeError: What was read is not a symmetry.
        """
        first = self.parents[0]
        symmetry = find_symmetry(first)
        check_symmetry(first, symmetry, self.seed)
        return symmetry

    @cached_property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """What each parent saw."""
        return tuple(known(parent) for parent in self.parents)

    @property
    def params(self) -> PerParent[Params]:
        """State of each parent as it is."""
        return self.per_parent(self.params_of, keep=False)

    def params_of(self, parent: int) -> Params:
        """State of one parent as it is."""
        return dict(self.parents[parent].state_dict())

    def per_parent(self, compute: Callable[[int], T], *, keep: bool | None = None) -> PerParent[T]:
        """One value for each parent; kept as the problem says, unless told otherwise."""
        return PerParent(len(self.parents), compute, keep=self.keep if keep is None else keep)

    def generator(self, parent: int) -> torch.Generator:
        """Random numbers that a parent draws alike whatever its place is."""
        content = int(self.parents.facts[parent].content[:12], 16)
        return torch.Generator().manual_seed(self.seed ^ content)

    def positions(self, points: int, free_share: float, use_knowledge: bool) -> Positions:
        """Points where the parents have density, and in the box; as many from each parent.

        Args:
            points: Number of points.
            free_share: Share of them drawn anywhere in the box, in [0, 1]. What units do in free
                space decides whether the air of a merge is clear.
            use_knowledge: Whether matter is taken where a parent saw it, and trust follows what
                each parent saw.
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
