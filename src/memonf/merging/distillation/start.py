"""The field that a function-space merge starts from: the one of least error on the lessons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from ...errors import InputError
from ...fields import Field, FieldConfig, build_field
from ...symmetry import Params
from ...typing import Float, Tensor
from ..aligning import ByActivations
from ..coefficients import Coefficients
from ..combining.base import combine_params
from ..correcting.repair import Repaired
from ..parents import check_alike
from ..parts import Parts
from ..problem import MergeProblem
from .lessons import Lesson, join_lessons, ray_error

__all__ = ["Start", "pick_start"]


class Start(NamedTuple):
    """What a merged field starts from.

    Attributes:
        kind: parent, merge or scratch.
        parent: Number of the parent, if it is one.
    """

    kind: str
    parent: int | None = None

    def described(self) -> dict[str, Any]:
        """For a merge's report."""
        return {"start": self.kind, "start_parent": self.parent}


def pick_start(
    problem: MergeProblem,
    coefficients: Sequence[float],
    name: str,
    config: FieldConfig,
    aabb: Float[Tensor, "2 3"],
    lessons: Sequence[Lesson],
    wanted: str = "best",
) -> tuple[Field, Start]:
    """The field that a merge starts from, and what it is.

    Args:
        problem: The parents.
        coefficients: Weight of each parent, sum 1.
        name: Architecture of the merged field.
        config: Its configuration.
        aabb: (2, 3), its box, scene units.
        lessons: By which the best start is picked.
        wanted: See `Distill.start`.
    """
    student = build_field(name, config, aabb.cpu(), seed=problem.seed).to(aabb.device).eval()
    facts = problem.parents.facts
    alike = [
        number
        for number, parent in enumerate(facts)
        if (parent.name, parent.config) == (name, config)
        and torch.allclose(parent.aabb, aabb, rtol=0, atol=1e-6)
    ]
    if wanted == "merge":
        check_alike(facts)
        if len(alike) < len(facts):
            raise InputError("start `merge`: the student's architecture is not that of the parents")
        student.load_state_dict(repaired_average(problem, coefficients))
        return student, Start("merge")
    if wanted == "parent":
        if 0 not in alike:
            raise InputError("start `parent`: the student's architecture is not that of parent 1")
        student.load_state_dict(problem.params[0])
        return student, Start("parent", 0)
    if wanted == "scratch" or not alike:
        return student, Start("scratch")
    lesson = join_lessons(lessons)
    background = torch.tensor(facts[0].record.background).to(aabb)
    least, chosen = math.inf, (Start("scratch"), dict(student.state_dict()))
    for start, state in starts_like(problem, coefficients, alike):
        student.load_state_dict(state)
        density, rgb = student(lesson.samples.positions, lesson.directions)
        error = float(ray_error(lesson, density, rgb, background))
        if error < least:
            least, chosen = error, (start, {key: tensor.clone() for key, tensor in state.items()})
    student.load_state_dict(chosen[1])
    return student, chosen[0]


def starts_like(
    problem: MergeProblem, coefficients: Sequence[float], alike: Sequence[int]
) -> Iterator[tuple[Start, Params]]:
    """Each parent of the student's kind, and their average if all of them are."""
    facts = problem.parents.facts
    # In the order of their content: sums of floats depend on the order, merges must not.
    ordered = sorted(alike, key=lambda number: facts[number].content)
    for number in ordered:
        yield Start("parent", number), problem.params[number]
    if len(alike) == len(facts):
        everyone = (problem.params[number] for number in ordered)
        yield Start("merge"), combine_params(everyone, [coefficients[n] for n in ordered])


def repaired_average(problem: MergeProblem, coefficients: Sequence[float]) -> Params:
    """The parents aligned by activations, averaged and repaired."""
    parts = Parts(align=ByActivations(), correct=Repaired())
    return parts.prepare(problem).merge(Coefficients(tuple(coefficients)))[0]
