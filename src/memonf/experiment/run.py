"""Runs the planned jobs of the experiment in worker processes and gathers what comes back."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from .._version import __version__
from ..data import Scene
from ..errors import ExperimentError
from ..fields import FieldConfig, outline
from ..training.room import training_memory
from ..utils.devices import check_memory
from ..utils.workers import Failure, Observer, Workers
from ..visualization.video import to_bytes
from .contender import Contender
from .jobs import curve_views, picture_views
from .outcome import (
    Alignment,
    Curve,
    KnowledgePicture,
    Outcome,
    RunDescription,
    Scored,
    oracle,
)
from .plan import FROM_PARENT, Plan
from .settings import CompareSettings

__all__ = ["compare"]

#: Bytes of each pixel of a turntable: its frames, and those of all turntables side by side.
FRAME_BYTES = 9


def compare(
    settings: CompareSettings, out: Path, observe: Observer = lambda title, share, figures: None
) -> Outcome:
    """Run the experiment; field files go to `out`/fields.

    Args:
        settings: What to train, merge and score.
        out: Folder of the results.
        observe: Told of every job's progress.

    Raises:
        DataError: The data set cannot be read, or has no test views.
        ExperimentError: No job came to its end; if only some failed, the outcome lists them.
        OutputError: `out` cannot be written.
    """
    started = time.perf_counter()
    scene = settings.scene()
    views, groups = picture_views(scene, settings)
    for group in settings.groups:
        scene.views("train", group, settings.overlap)
    plan = Plan.of(settings, out)
    check_room(settings, scene, plan)
    with Workers(settings.workers) as workers:
        trained = workers.run(plan.training, observe)
        ready, stranded = sorted_out(plan, trained)
        results = [*trained, *workers.run(ready, observe, plan.called_for_by), *stranded]
    failures = tuple(result for result in results if isinstance(result, Failure))
    scored = [result for result in results if isinstance(result, Scored)]
    if not scored:
        raise ExperimentError(f"nothing could be scored; {failures[0].title}: {failures[0].reason}")
    fields = in_order(scored, plan, groups)
    first_pair = {scored.contender: scored for scored in fields if scored.seed == 0}
    between = [result for result in results if isinstance(result, Curve)]
    no_alignment = Alignment(why_not="The parents' units were not compared: see what failed.")
    alignment = next((one for one in results if isinstance(one, Alignment)), no_alignment)
    return Outcome(
        described(settings, scene, plan.config),
        tuple(fields),
        tuple(
            whole_curve(settings, scene, curve, first_pair)
            for curve in between
            if all(end in first_pair for end in ends_of(settings, curve).values())
        ),
        alignment,
        tuple(result for result in results if isinstance(result, KnowledgePicture)),
        tuple(to_bytes(views.picture(i, scene.background_rgb)) for i in range(len(views))),
        tuple(f"{group} {name}" for group, name in zip(groups, views.names, strict=True)),
        time.perf_counter() - started,
        failures,
    )


def check_room(settings: CompareSettings, scene: Scene, plan: Plan) -> None:
    """Refuse an experiment whose trainings at work at once, or whose films, do not fit.

    Raises:
        InputError: The message has the figures.
    """
    field = outline(settings.field, plan.config, scene.aabb)
    at_once = min(settings.workers, len(plan.training))
    check_memory(
        at_once * training_memory(field, settings.train),
        f"{at_once} trainings of {field.parameter_count():,} params at once",
        "ask for fewer --workers, fewer --rays or a smaller --width", settings.device,
    )  # fmt: skip
    films = sum(job.seed == 0 for job in plan.scoring)
    check_memory(
        FRAME_BYTES * films * settings.frames * settings.size**2,
        f"{films} turntables of {settings.frames} frames of {settings.size} pixels",
        "ask for fewer --frames or a smaller --size",
    )  # fmt: skip


def in_order(scored: Sequence[Scored], plan: Plan, groups: Sequence[str]) -> list[Scored]:
    """All fields as tables show them, with those that follow from others.

    Those are the oracles, and the distillation from the first parent where `distill` is that.

    Args:
        scored: What was scored.
        plan: What was planned.
        groups: Group of each chosen picture.
    """
    same = (replace(one, contender=FROM_PARENT) for one in scored if plan.is_both(one))
    fields = [*scored, *same]
    found = {(one.contender, one.seed): one for one in fields}
    halves = plan.settings.groups
    for batch_norm in {one.contender.batch_norm for one in scored}:
        parents = {group: Contender("parent", group, batch_norm=batch_norm) for group in halves}
        for seed in range(plan.settings.seeds):
            of_group = {
                group: found[parent, seed]
                for group, parent in parents.items()
                if (parent, seed) in found
            }
            if len(of_group) == len(halves):  # else one of them failed
                fields.append(oracle(of_group, groups))
    methods = plan.settings.method_names()
    return sorted(fields, key=lambda one: (one.contender.order(halves, methods), one.seed))


def whole_curve(
    settings: CompareSettings, scene: Scene, between: Curve, scored: dict[Contender, Scored]
) -> Curve:
    """A curve with its ends, the parents, and its middle, the merge of equal coefficients."""
    names = curve_views(scene, settings)
    values = dict(zip(between.coefficients, between.psnr, strict=True))
    for share, contender in ends_of(settings, between).items():
        values[share] = fmean(scored[contender].view_psnr[view] for view in names)
    steps = settings.curve_steps()
    return Curve(between.method, tuple(steps), tuple(values[share] for share in steps))


def ends_of(settings: CompareSettings, curve: Curve) -> dict[float, Contender]:
    """What is scored anyway at the ends and in the middle of a curve, by coefficient."""
    first, second = settings.groups
    return {
        0.0: Contender("parent", first),
        0.5: Contender.merge(curve.method),
        1.0: Contender("parent", second),
    }


def sorted_out(plan: Plan, trained: Sequence[Any]) -> tuple[list[Any], list[Failure]]:
    """Jobs whose trained fields are there, and a failure for each of the others.

    An older file may stand in the place of a field whose training failed; it is not looked at.

    Args:
        plan: What was planned.
        trained: Results of the trainings.
    """
    missing = {
        job.out
        for job, result in zip(plan.training, trained, strict=True)
        if isinstance(result, Failure)
    }
    ready, stranded = [], []
    for job in [*plan.scoring, *plan.curves, *plan.looks]:
        without = [path.stem for path in job.needs if path in missing]
        if without:
            stranded.append(Failure(job.title, f"it needs `{without[0]}`, whose training failed"))
        else:
            ready.append(job)
    return ready, stranded


def described(settings: CompareSettings, scene: Scene, config: FieldConfig) -> RunDescription:
    """Settings, versions and machine for the record."""
    return RunDescription(
        settings, config, scene.name, scene.background, __version__, torch.__version__,
        platform.python_version(),
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    )  # fmt: skip
