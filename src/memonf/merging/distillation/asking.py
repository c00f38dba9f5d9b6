"""Evaluating the parents along rays of their own cameras, or at points."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from ...cameras.cameras import Cameras
from ...errors import MergeError
from ...rendering.knowledge import assumed_cameras
from ...utils.devices import available_memory, check_memory
from ..parents import ParentFacts
from ..problem import MergeProblem
from .lessons import BLOCK, Lesson, SharedGrid, draw_lesson, draw_point_lesson, join_lessons

#: Bytes that an answered ray takes, about: a dozen samples with all that is to be learnt there.
RAY_BYTES = 900
#: Share of the available memory that answers may take where they are asked for by time.
SHARE = 0.4

__all__ = ["ask_parents", "cameras_of"]


def ask_parents(
    problem: MergeProblem,
    coefficients: Sequence[float],
    shared: SharedGrid,
    rays: int | None,
    seconds: float | None = None,
) -> list[Lesson]:
    """Outputs of all parents along rays of their own cameras, one parent after another.

    The rays are divided by coefficients and numbers of cameras. Parents are evaluated in the order
    of their content hashes, so that the order in which they are given does not matter.

    Args:
        problem: The parents.
        coefficients: Weight of each parent, sum 1.
        shared: Where samples are taken.
        rays: Number of rays of all parents together; None to draw rays for `seconds`.
        seconds: Time for all parents. Each gets its share of it; then the rays of all are cut to
            the proportion that the slowest parent reached.

    Returns:
        One lesson for each parent with a coefficient above 0.

    Raises:
        MergeError: No ray of a parent meets matter.
    """
    facts = problem.parents.facts
    cameras = [cameras_of(parent) for parent in facts]
    weight = [share * len(own) for share, own in zip(coefficients, cameras, strict=True)]
    order = sorted(range(len(facts)), key=lambda number: (facts[number].content, number))
    room = available_memory(problem.parents[0].aabb.device)
    most = math.inf if room is None else SHARE * room / RAY_BYTES
    if rays is not None:
        check_memory(
            RAY_BYTES * rays, f"{rays:,} rays that the parents are asked along",
            "ask for fewer --rays or --steps", problem.parents[0].aabb.device,
        )  # fmt: skip
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
        while (
            drawn < wanted
            if wanted
            else (not drawn or (time.perf_counter() < until and drawn < part * most))
        ):
            count = min(BLOCK, wanted - drawn) if wanted else BLOCK
            if parent.asked_along == "points":
                seen = problem.knowledge[number]
                blocks.append(draw_point_lesson(parent, seen, shared, count, generator))
            else:
                blocks.append(draw_lesson(parent, own, shared, count, generator))
            drawn += count
        if not any(len(block.samples) for block in blocks):
            raise MergeError(
                f"parent {number + 1} cannot be distilled: no ray of its cameras meets matter; "
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
    """Cameras whose rays a parent is evaluated on; assumed all around if they are unknown."""
    return facts.record.cameras or assumed_cameras(facts.aabb)
