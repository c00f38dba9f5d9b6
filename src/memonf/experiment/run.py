"""Runs the planned jobs of the experiment in worker processes and gathers what comes back."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from .._version import __version__
from ..data import Scene
from ..export.video import to_bytes
from ..fields import FieldConfig
from ..workers import Observer, Workers
from ..yardsticks import BLENDS, FROM_PARENT, STARTS
from .jobs import curve_views, picture_views
from .outcome import Alignment, Curve, KnowledgePicture, Outcome, Scored, oracle
from .plan import Plan
from .settings import BATCH_NORM, CompareSettings

__all__ = ["compare"]


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
        OutputError: `out` cannot be written.
    """
    started = time.perf_counter()
    scene = settings.scene()
    views, groups = picture_views(scene, settings)
    for group in settings.groups:
        scene.views("train", group, settings.overlap)
    plan = Plan.of(settings, out)
    with Workers(settings.workers) as workers:
        workers.run(plan.training, observe)
        results = workers.run(
            [*plan.scoring, *plan.curves, *plan.looks], observe, plan.called_for_by
        )
    fields = in_order([result for result in results if isinstance(result, Scored)], plan, groups)
    by_name = {(scored.name, scored.seed): scored for scored in fields}
    between = [result for result in results if isinstance(result, Curve)]
    (alignment,) = (result for result in results if isinstance(result, Alignment))
    return Outcome(
        described(settings, scene, plan.config),
        tuple(fields),
        tuple(whole_curve(settings, scene, curve, by_name) for curve in between),
        alignment,
        tuple(result for result in results if isinstance(result, KnowledgePicture)),
        tuple(to_bytes(views.picture(i, scene.background_rgb)) for i in range(len(views))),
        tuple(f"{group} {name}" for group, name in zip(groups, views.names, strict=True)),
        time.perf_counter() - started,
    )


def in_order(scored: Sequence[Scored], plan: Plan, groups: Sequence[str]) -> list[Scored]:
    """All fields as tables show them, with those that follow from others.

    Those are the oracles, and the distillation from the first parent where `distill` is that.

    Args:
        scored: What was scored.
        plan: What was planned.
        groups: Group of each chosen picture.
    """
    fields = [*scored, *(replace(one, name=FROM_PARENT) for one in scored if plan.is_both(one))]
    by_name = {(one.name, one.seed): one for one in fields}
    halves = plan.settings.groups
    fields += [
        oracle({group: by_name[group + suffix, seed] for group in halves}, groups)
        for suffix, _ in plan.variants
        for seed in range(plan.settings.seeds)
    ]
    methods = plan.settings.method_names()
    order = [*halves, "oracle", *BLENDS, "joint", *methods, *STARTS]
    fields.sort(
        key=lambda f: (
            BATCH_NORM in f.name, order.index(f.name.removesuffix(BATCH_NORM)), f.seed
        )
    )  # fmt: skip
    return fields


def whole_curve(
    settings: CompareSettings, scene: Scene, between: Curve, scored: dict[tuple[str, int], Scored]
) -> Curve:
    """A curve with its ends, the parents, and its middle, the merge of equal coefficients."""
    names = curve_views(scene, settings)
    values = dict(zip(between.coefficients, between.psnr, strict=True))
    first, second = settings.groups
    for share, name in ((0.0, first), (0.5, between.name), (1.0, second)):
        values[share] = fmean(scored[name, 0].view_psnr[view] for view in names)
    steps = settings.curve_steps()
    return Curve(between.name, tuple(steps), tuple(values[share] for share in steps))


def described(settings: CompareSettings, scene: Scene, config: FieldConfig) -> dict[str, Any]:
    """Settings, versions and machine for the record."""
    return {
        **asdict(settings),
        "data": Path(settings.data).name,
        "data_name": scene.name,
        "steps": settings.train.step_goal,
        "background": list(scene.background),
        "config": config.as_dict(),
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
