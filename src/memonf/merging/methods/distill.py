"""Distillation: a field trained on the parents' outputs where they saw, without any image.

Called by ``memonf merge`` as the default. Parents may be of any architecture, size, box and
background; they are evaluated one after another, so that at most two of them are in memory.

Three steps: the parents' outputs along rays of their own cameras are collected
(`memonf.merging.distillation`), the start of least error is picked, and the student is trained on
the outputs, and on the space that was seen empty, with the trainer's optimisers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field as Limits

from ...errors import InputError
from ...fields import FIELDS, Field, FieldConfig, build_field, outline
from ...symmetry import Params
from ...training import TrainSettings, build_optimizers
from ...training.room import QUICK, step_products
from ...utils.devices import seconds_of
from ..coefficients import Coefficients
from ..distillation.asking import ask_parents
from ..distillation.lessons import Lesson, SharedGrid, join_lessons
from ..distillation.start import pick_start
from ..distillation.targets import Targets
from ..method import METHODS, SETTINGS, Figures, MergeMethod, settings_dataclass
from ..parents import union_box
from ..problem import MergeProblem

__all__ = ["Distill"]

#: How often each ray is used for training: a new ray costs as much as half a step, and up to four
#: uses train as well as new rays do.
ROUNDS = 4
#: With a budget in seconds, the share of it in which lessons are collected.
COLLECTING = 0.15
#: Points per step in space that was seen empty.
EMPTY_POINTS = 512
#: Peak learning rates of Muon and Adam by start: a better start needs smaller changes.
RATES = {"parent": (0.01, 8e-3), "merge": (0.02, 8e-3), "scratch": (0.05, 1e-2)}
WARM_UP = 10
#: Steps over which the loss in empty space reaches its full weight. A fresh network that is trained
#: on empty space from the first step never learns thin structures.
EMPTY_RAMP = {"parent": 1, "merge": 1, "scratch": 100}


@METHODS.register("distill")
@settings_dataclass(**SETTINGS)
class Distill(MergeMethod["PreparedLessons"]):
    """Train a field, at points and along rays, on each parent's outputs where that parent saw.

    Attributes:
        steps: Steps of the student.
        budget: Seconds for the whole merge instead of steps; the result then depends on the
            machine.
        rays: Rays drawn for each step, shared among the parents by coefficients and cameras.
        start: Where the student starts: the ``best`` of all parents and their average, ``merge``
            (activation matching and REPAIR), ``parent`` (the first one) or ``scratch``.
        student: Architecture of the student; that of the parent with the most params if left out.
        student_config: Values of its configuration that differ from the default, or from the
            parent's if it is of the same architecture.
    """

    steps: Annotated[int, Limits(ge=1, le=10_000_000)] = 700
    budget: Annotated[float, Limits(gt=0, le=10_000_000)] | None = None
    rays: Annotated[int, Limits(ge=1, le=1 << 22)] = 2048
    start: Literal["best", "merge", "parent", "scratch"] = "best"
    student: str = ""
    student_config: dict[str, str | int | float | bool] = Limits(default_factory=dict)

    summary = "taught by the parents at points and along rays where each of them saw"
    paper = "Hinton et al. 2015, Distilling the knowledge in a neural network, arXiv 1503.02531"
    needs_positions = True
    needs_knowledge = True
    function_space = True
    any_architecture = True
    idempotent = False
    #: From the best start and on one background; other starts and a merge's background follow the
    #: first parent.
    symmetric = True

    def prepare(self, problem: MergeProblem) -> PreparedLessons:
        """See `MergeMethod.prepare`."""
        aabb = union_box(problem.parents.facts)
        shared = SharedGrid.of(problem.parents, problem.knowledge, aabb)
        name, config = self.architecture(problem)
        return PreparedLessons(problem, shared, name, config, time.perf_counter() - problem.began)

    def combine(self, state: PreparedLessons, coefficients: Coefficients) -> tuple[Params, Figures]:
        """See `MergeMethod.combine`."""
        problem, shared, shares = state.problem, state.shared, coefficients.overall
        clock = Clock(self.steps, self.budget, time.perf_counter() - state.seconds)
        if self.budget is None:
            rays = math.ceil(self.steps / ROUNDS) * self.rays
            lessons = ask_parents(problem, shares, shared, rays)
        else:
            lessons = ask_parents(problem, shares, shared, None, COLLECTING * self.budget)
        parts = max(1, round(sum(lesson.drawn for lesson in lessons) / self.rays))
        collected = clock.seconds
        self.check_budget(state, sum(len(lesson.samples) for lesson in lessons) / parts)
        first = [lesson.part(0, parts) for lesson in lessons]
        student, start = pick_start(
            problem, shares, state.name, state.config, shared.grid.aabb, first, self.start
        )
        steps, psnr = teach(student, start.kind, problem, shared, lessons, parts, clock)
        figures = {
            "student": state.name,
            **start.described(),
            "steps": steps,
            "rays": round(sum(lesson.drawn for lesson in lessons)),
            "seconds_collecting": round(collected, 3),
            "seconds_learning": round(clock.seconds - collected, 3),
            "psnr_against_parents": round(psnr, 2),
        }
        return dict(student.state_dict()), {"distill": figures}

    def check_budget(self, state: PreparedLessons, samples: float) -> None:
        """Refuse a budget in which a large student could not take a single step.

        Args:
            state: The student.
            samples: Samples of a step.

        Raises:
            InputError: The message has the figures.
        """
        student = outline(state.name, state.config, state.shared.grid.aabb)
        if self.budget is None or student.parameter_count() < QUICK:
            return
        count = 3 * student.parameter_count() * (samples + EMPTY_POINTS) + step_products(student)
        needed = seconds_of(count, state.shared.grid.aabb.device)
        if needed > self.budget:
            raise InputError(
                f"--budget {self.budget:g}: one step of a student of "
                f"{student.parameter_count():,} params takes about {needed:.0f} s on this machine; "
                "give more time, or ask for a smaller --student-config width"
            )

    def outline(self, problem: MergeProblem) -> Field:
        """See `MergeMethod.outline`."""
        aabb = union_box(problem.parents.facts)
        return build_field(*self.architecture(problem), aabb.cpu()).to(aabb.device)

    def architecture(self, problem: MergeProblem) -> tuple[str, FieldConfig]:
        """Name and configuration of the student."""
        largest = max(
            range(len(problem.parents)),
            key=lambda number: (
                problem.parents[number].parameter_count(), problem.parents.facts[number].content
            ),
        )  # fmt: skip
        like = problem.parents.facts[largest]
        name = self.student or like.name
        base = like.config.as_dict() if name == like.name else {}
        config = FIELDS[name].Config.from_dict({**base, **self.student_config}, "student")
        return name, config


@dataclass(frozen=True)
class PreparedLessons:
    """What does not depend on the coefficients.

    Attributes:
        problem: The parents.
        shared: Where the parents together found matter, and where they found none.
        name: Architecture of the student.
        config: Its configuration.
        seconds: Time taken so far, which a budget includes.
    """

    problem: MergeProblem
    shared: SharedGrid
    name: str
    config: FieldConfig
    seconds: float


class Clock:
    """How far a distillation is: by steps, or by seconds where it has a budget."""

    def __init__(self, steps: int, budget: float | None, began: float) -> None:
        self.steps, self.budget, self.began = steps, budget, began

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def fraction(self, step: int) -> float:
        """Share done, in [0, 1]."""
        done = step / self.steps if self.budget is None else self.seconds / self.budget
        return min(1.0, done)


def teach(
    student: Field,
    start: str,
    problem: MergeProblem,
    shared: SharedGrid,
    lessons: Sequence[Lesson],
    parts: int,
    clock: Clock,
) -> tuple[int, float]:
    """Train the student in place: (steps taken, PSNR against the parents at the end in dB)."""
    rates = tuple(rate * student.rate_scale for rate in RATES[start])
    ramp = EMPTY_RAMP[start]
    settings = TrainSettings(muon_rate=rates[0], adam_rate=rates[1], weight_decay=0.0)
    optimizers = build_optimizers(student, settings)
    generator = torch.Generator().manual_seed(problem.seed)
    background = torch.tensor(problem.parents.facts[0].record.background).to(student.aabb)
    cell = float(shared.grid.cell.min())
    student.train()
    step, mean_error = 0, math.nan
    while (fraction := clock.fraction(step)) < 1 or step == 0:
        rate = min(1.0, (step + 1) / WARM_UP) * (0.05 + 0.475 * (1 + math.cos(math.pi * fraction)))
        for optimizer, peak in zip(optimizers, rates[-len(optimizers) :], strict=True):
            optimizer.rate = peak * rate
        lesson = join_lessons([own.part(step % parts, parts) for own in lessons])
        empty = shared.empty_points(EMPTY_POINTS, generator)
        targets = Targets(lesson, empty, cell, background)
        with torch.enable_grad():
            density, rgb = student(targets.positions, targets.directions)
            errors = targets.errors(density, rgb)
            loss = errors.total(min(1.0, (step + 1) / ramp))
            loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        error = float(errors.along_rays.detach())
        mean_error = error if math.isnan(mean_error) else 0.95 * mean_error + 0.05 * error
        problem.on_progress(clock.fraction(step))
    student.eval()
    return step, -10 * math.log10(max(mean_error, 1e-12))
