"""What function-space merges begin with: the parents' answers, and the best field to start from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from ..cameras import Cameras
from ..errors import InputError, MergeError
from ..fields import Field, FieldConfig, build_field
from ..knowledge import assumed_cameras
from ..symmetry import Params
from ..typing import Float, Tensor
from .base import MergeProblem, combine_params
from .lessons import (
    BLOCK,
    Lesson,
    SharedGrid,
    draw_lesson,
    draw_point_lesson,
    join_lessons,
    ray_error,
)
from .parents import ParentFacts, check_alike
from .repair import ActivationMatchingRepair

__all__ = ["Start", "ask_parents", "cameras_of", "pick_start"]


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


def ask_parents(
    problem: MergeProblem, shared: SharedGrid, rays: int | None, seconds: float | None = None
) -> list[Lesson]:
    """The answers of all parents along rays of their own cameras, one parent after the other.

    Parents share the rays by coefficients and numbers of cameras. They are asked in the order of
    their content, so that the order in which they are given does not matter.

    Args:
        problem: The parents.
        shared: Where samples are taken.
        rays: Rays in all; None to ask for `seconds`.
        seconds: Time for all; each parent gets its part of it, and what the slowest answers in its
            part, in proportion, is what counts of all.

    Returns:
        One lesson a parent.

    Raises:
        MergeError: A parent has nothing to teach.
    """
    facts = problem.parents.facts
    cameras = [cameras_of(parent) for parent in facts]
    weight = [share * len(own) for share, own in zip(problem.coefficients, cameras, strict=True)]
    order = sorted(range(len(facts)), key=lambda number: (facts[number].content, number))
    lessons, parts = [], []
    for number in order:
        if weight[number] == 0:
            continue
        parent, generator = problem.parents[number], problem.generator(number)
        own = cameras[number].to(parent.aabb.device)
        part = weight[number] / sum(weight)
        until = time.perf_counter() + part * (seconds or 0.0)
        blocks = []
        drawn, wanted = 0, None if rays is None else max(1, round(rays * part))
        while drawn < wanted if wanted else not drawn or time.perf_counter() < until:
            count = min(BLOCK, wanted - drawn) if wanted else BLOCK
            if parent.asked_along == "points":
                seen = problem.knowledge[number]
                blocks.append(draw_point_lesson(parent, seen, shared, count, generator))
            else:
                blocks.append(draw_lesson(parent, own, shared, count, generator))
            drawn += count
        if not any(len(block.samples) for block in blocks):
            raise MergeError(
                f"parent {number + 1} has nothing to teach: no ray of its cameras meets matter; "
                "look at it with `memonf render`, and leave it out"
            )
        lessons.append(join_lessons(blocks))
        parts.append(part)
    if rays is not None:
        return lessons
    least = min(lesson.drawn / part for lesson, part in zip(lessons, parts, strict=True))
    return [
        lesson.head(least * part / lesson.drawn)
        for lesson, part in zip(lessons, parts, strict=True)
    ]


def cameras_of(facts: ParentFacts) -> Cameras:
    """The cameras that a parent is asked along; assumed all round where they are unknown."""
    return facts.record.cameras or assumed_cameras(facts.aabb)


def pick_start(
    problem: MergeProblem,
    name: str,
    config: FieldConfig,
    aabb: Float[Tensor, "2 3"],
    lessons: Sequence[Lesson],
    wanted: str = "best",
) -> tuple[Field, Start]:
    """The field that a merge starts from, and what it is.

    Args:
        problem: The parents.
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
            raise InputError("start `merge`: the student is not of the parents' kind")
        student.load_state_dict(ActivationMatchingRepair().combine(problem))
        return student, Start("merge")
    if wanted == "parent":
        if 0 not in alike:
            raise InputError("start `parent`: the student is not of the first parent's kind")
        student.load_state_dict(problem.params(0))
        return student, Start("parent", 0)
    if wanted == "scratch" or not alike:
        return student, Start("scratch")
    lesson = join_lessons(lessons)
    background = torch.tensor(facts[0].record.background).to(aabb)
    least, chosen = math.inf, (Start("scratch"), dict(student.state_dict()))
    for start, state in starts_like(problem, alike):
        student.load_state_dict(state)
        density, rgb = student(lesson.samples.positions, lesson.directions)
        error = float(ray_error(lesson, density, rgb, background))
        if error < least:
            least, chosen = error, (start, {key: tensor.clone() for key, tensor in state.items()})
    student.load_state_dict(chosen[1])
    return student, chosen[0]


def starts_like(problem: MergeProblem, alike: Sequence[int]) -> Iterator[tuple[Start, Params]]:
    """Each parent of the student's kind, and their average if all of them are."""
    facts = problem.parents.facts
    # In the order of their content: sums of floats depend on the order, merges must not.
    ordered = sorted(alike, key=lambda number: facts[number].content)
    for number in ordered:
        yield Start("parent", number), problem.params(number)
    if len(alike) == len(facts):
        everyone = (problem.params(number) for number in ordered)
        yield Start("merge"), combine_params(everyone, [problem.coefficients[n] for n in ordered])
