"""Combinations of task vectors: changes of params since a common ancestor.

Symbols: θ_0 params of the ancestor, θ_i of parent i; τ_i = θ_i − θ_0 its *task vector*; c_i
coefficient.

Every trained field records the content hash of its params before the first step. Parents share an
ancestor only if these hashes are equal. The ancestor's params are drawn again from the recorded
seed, or read from the file that the parents were started from, and must have that hash. Files older
than this record were trained from the shared initial params if their record says so.

Reference:
    Ilharco et al. 2022, Editing Models with Task Arithmetic, arXiv 2212.04089.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ...errors import MergeError
from ...fields import Field, build_field
from ...io.checkpoint import content_hash, load
from ...symmetry import Params
from ...training import INITIAL_PARAMS, SHARED_SEED
from ..aligning.base import AlignedParents
from ..coefficients import Coefficients
from ..combined import Combined
from ..parents import ParentFacts
from ..problem import MergeProblem
from .base import Combine, CombineAt, combine_params

__all__ = [
    "AveragedSteps",
    "ElectedSteps",
    "FromAncestor",
    "ThinnedSteps",
    "agreeing",
    "dropped",
    "find_ancestor",
    "trimmed",
]

INSTEAD = "merge them with `distill` or `activation_matching_repair`, which need no common start"


@dataclass(frozen=True)
class FromAncestor(Combine):
    """Ancestor plus a combination of the task vectors. Running statistics are averaged.

    Attributes:
        ancestor: Field file that the parents were trained from; if empty, the initial params are
            drawn again from the recorded seed.
        strength: Length of the step away from the ancestor; 1 adds the mean of the task vectors.
    """

    ancestor: str = ""
    strength: float = 1.0

    @abstractmethod
    def step(self, task_vectors: TaskVectors, coefficients: Coefficients) -> Params:
        """The combined task vectors, in float64, by the names of the trained params."""

    def prepare(self, aligned: AlignedParents) -> CombineAt:
        """See `Combine.prepare`."""
        ancestor = find_ancestor(aligned.problem, self.ancestor)
        task_vectors = TaskVectors(aligned, ancestor)

        def at(coefficients: Coefficients) -> Combined:
            step = self.step(task_vectors, coefficients)
            averaged = combine_params(aligned.params, coefficients.overall)
            moved = {
                name: (ancestor[name].double() + self.strength * change).to(ancestor[name].dtype)
                for name, change in step.items()
            }
            return Combined(averaged | moved)

        return at


@dataclass(frozen=True)
class TaskVectors:
    """τ of all parents, computed one after another.

    Attributes:
        aligned: The parents.
        ancestor: θ_0.
    """

    aligned: AlignedParents
    ancestor: Params

    def __iter__(self) -> Iterator[Params]:
        names = [name for name, _ in self.aligned.problem.parents[0].named_parameters()]
        for params in self.aligned.params:
            yield {name: params[name].double() - self.ancestor[name].double() for name in names}

    def generator(self, number: int) -> torch.Generator:
        """Random number generator of one parent."""
        return self.aligned.problem.generator(number)


@dataclass(frozen=True)
class AveragedSteps(FromAncestor):
    """Σ cᵢ τᵢ (task arithmetic).

    Reference:
        Ilharco et al. 2022, Task Arithmetic, arXiv 2212.04089.
    """

    def step(self, task_vectors: TaskVectors, coefficients: Coefficients) -> Params:
        """See `FromAncestor.step`."""
        return combine_params(task_vectors, coefficients.overall)


@dataclass(frozen=True)
class ElectedSteps(FromAncestor):
    """Trim the task vectors, elect a sign for each param, and average those that agree (TIES).

    Of each τ_i the entries of largest magnitude are kept, over all params together; the sign of
    Σ cᵢ τᵢ is elected for each param, and the merged change is the weighted mean of the kept
    entries of that sign.

    Attributes:
        keep: Share of each task vector's entries that is kept, the largest ones.

    Reference:
        Yadav et al. 2023, TIES-Merging, arXiv 2306.01708.
    """

    keep: float = 0.8

    def step(self, task_vectors: TaskVectors, coefficients: Coefficients) -> Params:
        """See `FromAncestor.step`."""
        shares = coefficients.overall

        def kept() -> Iterator[Params]:
            return (trimmed(vector, self.keep) for vector in task_vectors)

        # Computed three times, so that the vectors of only one parent are in memory at a time.
        elected = combine_params(kept(), shares)
        agreed = combine_params((agreeing(vector, elected) for vector in kept()), shares)
        voters = combine_params((votes(agreeing(vector, elected)) for vector in kept()), shares)
        return {name: value / voters[name].clamp_min(1e-12) for name, value in agreed.items()}


@dataclass(frozen=True)
class ThinnedSteps(FromAncestor):
    """Drop entries of the task vectors at random, rescale the rest, and average (DARE).

    Each entry is kept with probability 1 − p and divided by it, so that the expected change is τ_i.

    Attributes:
        drop: p, share of each task vector's entries that is dropped.

    Reference:
        Yu et al. 2023, Language Models are Super Mario, arXiv 2311.03099.
    """

    drop: float = 0.1

    def step(self, task_vectors: TaskVectors, coefficients: Coefficients) -> Params:
        """See `FromAncestor.step`."""
        thinned = (
            dropped(vector, self.drop, task_vectors.generator(number))
            for number, vector in enumerate(task_vectors)
        )
        return combine_params(thinned, coefficients.overall)


def trimmed(vector: Params, keep: float) -> Params:
    """A task vector with all entries set to 0 except the share `keep` of largest magnitude."""
    magnitudes = torch.cat([value.abs().flatten() for value in vector.values()])
    dropped = len(magnitudes) - math.ceil(keep * len(magnitudes))
    if dropped == 0:
        return vector
    limit = magnitudes.kthvalue(dropped).values
    return {name: torch.where(value.abs() > limit, value, 0.0) for name, value in vector.items()}


def agreeing(vector: Params, elected: Params) -> Params:
    """The entries of a task vector that have the elected sign; others are zero."""
    return {
        name: torch.where(value * elected[name] > 0, value, 0.0) for name, value in vector.items()
    }


def votes(vector: Params) -> Params:
    """1 where a task vector has an entry, 0 elsewhere."""
    return {name: (value != 0).double() for name, value in vector.items()}


def dropped(vector: Params, share: float, generator: torch.Generator) -> Params:
    """A task vector with entries set to zero at random and the rest divided by `1 - share`."""
    return {
        name: value
        * (torch.rand(value.shape, generator=generator) >= share).to(value)
        / (1 - share)
        for name, value in vector.items()
    }


def find_ancestor(problem: MergeProblem, file: str) -> Params:
    """Params that all parents were trained from.

    Args:
        problem: The parents.
        file: Field file of the ancestor; if empty, its params are drawn again.

    Raises:
        MergeError: The parents share no ancestor, or it is not the one given or drawn.
        FieldFileError: The file cannot be read.
    """
    facts = problem.parents.facts
    origins = [origin_of(parent, number) for number, parent in enumerate(facts, 1)]
    for number, origin in enumerate(origins[1:], 2):
        if origin != origins[0]:
            raise MergeError(
                f"parent {number}: trained from params {origin[:12]}…, parent 1 from "
                f"{origins[0][:12]}…; this method needs parents of one ancestor: {INSTEAD}"
            )
    ancestor = load(file) if file else drawn_anew(facts[0])
    ancestor_hash = content_hash(ancestor)
    if ancestor_hash != origins[0]:
        where = f"ancestor {file}: params" if file else "ancestor: initial params drawn again"
        raise MergeError(
            f"{where}: expected hash {origins[0][:12]}…, from which the parents were trained, "
            f"received {ancestor_hash[:12]}…; give the field file that they were started from "
            f"(--ancestor FILE, ancestor=), or {INSTEAD}"
        )
    return dict(ancestor.to(facts[0].aabb.device).state_dict())


def origin_of(parent: ParentFacts, number: int) -> str:
    """Content hash of a parent's params before its first training step."""
    training = parent.record.training
    recorded = training.get(INITIAL_PARAMS)
    if isinstance(recorded, str):
        return recorded
    if training.get("initialization") == "shared":  # a file from before the hash was recorded
        return content_hash(drawn_anew(parent))
    kind = "a merged field" if parent.record.lineage else "a field"
    raise MergeError(f"parent {number}: {kind} without a record of its initial params; {INSTEAD}")


def drawn_anew(parent: ParentFacts) -> Field:
    """A fresh field as `training.new_trainer` draws it for a parent's record."""
    training = parent.record.training
    seed = training.get("seed") if training.get("initialization") == "independent" else None
    if not isinstance(seed, int):
        seed = SHARED_SEED
    return build_field(parent.name, parent.config, parent.aabb.cpu(), seed=seed)
