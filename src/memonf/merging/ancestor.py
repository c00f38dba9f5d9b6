"""The params that all parents were trained from, and what each of them learnt since.

Symbols: θ_0 params of the ancestor, θ_i of parent i; τ_i = θ_i − θ_0 its *task vector*; c_i
coefficient.

Every trained field records the content hash of its params before the first step. Parents share an
ancestor if these hashes are equal; nothing else is believed. The ancestor's own params are drawn
anew from the recorded seed, or read from the file that the parents were started from, and must have
that hash. Files from before the hash was recorded started from the shared initial params where
their record says so.

Reference:
    Ilharco et al. 2022, Editing Models with Task Arithmetic, arXiv 2212.04089.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field as Limits

from ..checkpoint import content_hash, load
from ..errors import MergeError
from ..fields import Field, build_field
from ..symmetry import Params
from ..training import INITIAL_PARAMS, SHARED_SEED
from .base import SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass
from .parents import ParentFacts

__all__ = ["AncestorMethod", "find_ancestor", "task_vectors"]

INSTEAD = "merge them with `distill` or `activation_matching_repair`, which need no common start"


@settings_dataclass(**SETTINGS)
class AncestorMethod(MergeMethod):
    """Ancestor plus a combination of the task vectors. Running statistics are averaged.

    Attributes:
        ancestor: Field file that the parents were trained from; empty to draw the initial params
            anew.
        strength: Length of the step away from the ancestor. With coefficients c_i, which sum to 1,
            1 takes the mean of the task vectors; their sum, scaled by s, is a strength of s times
            the number of parents.
    """

    ancestor: str = ""
    strength: Annotated[float, Limits(ge=0)] = 1.0

    needs_ancestor = True
    symmetric = True

    @abstractmethod
    def step(self, problem: MergeProblem, ancestor: Params) -> Params:
        """The combined task vectors, in float64, by the names of the trained params."""

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        ancestor = find_ancestor(problem, self.ancestor)
        step = self.step(problem, ancestor)
        parents = (problem.params(number) for number in range(len(problem.parents)))
        averaged = combine_params(parents, problem.coefficients)
        return averaged | {
            name: (ancestor[name].double() + self.strength * change).to(ancestor[name].dtype)
            for name, change in step.items()
        }


def task_vectors(problem: MergeProblem, ancestor: Params) -> Iterator[Params]:
    """τ of all parents, in float64, one after the other."""
    names = [name for name, _ in problem.parents[0].named_parameters()]
    for number in range(len(problem.parents)):
        params = problem.params(number)
        yield {name: params[name].double() - ancestor[name].double() for name in names}


def find_ancestor(problem: MergeProblem, file: str) -> Params:
    """Params that all parents were trained from.

    Args:
        problem: The parents.
        file: Field file of the ancestor; empty to draw its params anew.

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
    found = content_hash(ancestor)
    if found != origins[0]:
        where = f"ancestor {file}: holds" if file else "ancestor: the initial params drawn anew are"
        raise MergeError(
            f"{where} {found[:12]}…, the parents were trained from {origins[0][:12]}…; give the "
            f"field file that they were started from (--ancestor FILE, ancestor=), or {INSTEAD}"
        )
    return dict(ancestor.to(facts[0].aabb.device).state_dict())


def origin_of(parent: ParentFacts, number: int) -> str:
    """Content hash of what a parent was before its first step."""
    training = parent.record.training
    recorded = training.get(INITIAL_PARAMS)
    if isinstance(recorded, str):
        return recorded
    if training.get("initialization") == "shared":  # a file from before the hash was recorded
        return content_hash(drawn_anew(parent))
    kind = "a merged field" if parent.record.lineage else "a field"
    raise MergeError(
        f"parent {number}: {kind} with no record of the params that it was trained from; {INSTEAD}"
    )


def drawn_anew(parent: ParentFacts) -> Field:
    """A fresh field as `training.new_trainer` draws it for a parent's record."""
    training = parent.record.training
    seed = training.get("seed") if training.get("initialization") == "independent" else None
    if not isinstance(seed, int):
        seed = SHARED_SEED
    return build_field(parent.name, parent.config, parent.aabb.cpu(), seed=seed)
