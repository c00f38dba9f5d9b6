"""Plans the jobs of the experiment, runs them in worker processes and gathers what comes back."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from .._version import __version__
from ..data import Scene
from ..errors import InputError
from ..export.video import to_bytes
from ..fields import FIELDS, FieldConfig
from ..merging import METHODS
from ..workers import Observer, Workers
from ..yardsticks import BLENDS, FROM_PARENT, STARTS
from .jobs import (
    AlignmentJob,
    CurveJob,
    KnowledgeJob,
    ScoreJob,
    TrainJob,
    curve_views,
    picture_views,
)
from .outcome import Alignment, Curve, KnowledgePicture, Outcome, Scored, oracle
from .settings import BATCH_NORM, GROUPS, CompareSettings

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
    methods = settings.method_names()
    views, groups = picture_views(scene, settings)
    for group in GROUPS:
        scene.views("train", group, settings.overlap)
    base = settings.config or FIELDS[settings.field].Config()
    variants = [("", base)]
    if settings.batch_norm:
        if not hasattr(base, "batch_norm"):
            raise InputError(f"field `{settings.field}` knows no batch norm; pass batch_norm=False")
        if not base.batch_norm:
            variants.append((BATCH_NORM, replace(base, batch_norm=True)))  # type: ignore[call-arg]
    training: list[TrainJob] = []
    scoring: list[ScoreJob] = []
    curves: list[CurveJob] = []
    for seed in range(settings.seeds):
        folder = out / "fields" / f"pair{seed}"
        if settings.joint:
            training.append(train_job(settings, "joint", "all", seed, "", base, folder))
        for suffix, config in variants:
            parents = [
                train_job(settings, group, group, seed, suffix, config, folder) for group in GROUPS
            ]
            training += parents
            paths = tuple(job.out for job in parents)
            yardsticks: list[str] = []
            if settings.yardsticks and not suffix:
                yardsticks = [*BLENDS, *(STARTS if "distill" in methods else ())]
            for method in [*methods, *yardsticks]:
                name = method + suffix
                path = folder / f"{name}.safetensors"
                scoring.append(ScoreJob(settings, f"{name} {seed}", name, seed, path, paths))
                # Function-space merges do not follow the coefficients continuously.
                curved = method in METHODS and not METHODS[method].function_space
                if seed == 0 and settings.curve_points and not suffix and curved:
                    curves.append(CurveJob(settings, f"curve {method}", method, paths))
        scoring += [
            ScoreJob(settings, f"{job.out.stem} {seed}", job.out.stem, seed, job.out)
            for job in training
            if job.out.parent == folder
        ]
    # The longest first, so that no core waits at the end.
    training.sort(key=lambda job: job.group != "all")
    # Where `distill` itself starts from the first parent, that yardstick is the same field.
    from_parent = {job.seed: job for job in scoring if job.name == FROM_PARENT}
    scoring = [job for job in scoring if job.name != FROM_PARENT]

    def started_elsewhere(result: Any) -> list[ScoreJob]:
        distilled = isinstance(result, Scored) and result.name == "distill"
        if distilled and result.start_parent != 0 and result.seed in from_parent:
            return [from_parent[result.seed]]
        return []

    with Workers(settings.workers) as workers:
        workers.run(training, observe)
        results = workers.run([*scoring, *curves, *looks(out)], observe, started_elsewhere)
    fields = [result for result in results if isinstance(result, Scored)]
    fields += [
        replace(scored, name=FROM_PARENT)
        for scored in fields
        if scored.name == "distill" and scored.start_parent == 0 and scored.seed in from_parent
    ]
    by_name = {(scored.name, scored.seed): scored for scored in fields}
    between = [result for result in results if isinstance(result, Curve)]
    (alignment,) = (result for result in results if isinstance(result, Alignment))
    fields += [
        oracle(by_name[f"front{suffix}", seed], by_name[f"rear{suffix}", seed], groups)
        for suffix, _ in variants
        for seed in range(settings.seeds)
    ]
    order = ["front", "rear", "oracle", *BLENDS, "joint", *methods, *STARTS]
    fields.sort(
        key=lambda f: (
            BATCH_NORM in f.name, order.index(f.name.removesuffix(BATCH_NORM)), f.seed
        )
    )  # fmt: skip
    return Outcome(
        described(settings, scene, base),
        tuple(fields),
        tuple(whole_curve(settings, scene, curve, by_name) for curve in between),
        alignment,
        tuple(result for result in results if isinstance(result, KnowledgePicture)),
        tuple(to_bytes(views.picture(i, scene.background_rgb)) for i in range(len(views))),
        tuple(f"{group} {name}" for group, name in zip(groups, views.names, strict=True)),
        time.perf_counter() - started,
    )


def looks(out: Path) -> list[KnowledgeJob | AlignmentJob]:
    """Jobs that draw what the parents of the first seed pair know, and look at their units."""
    paths = {group: out / "fields" / "pair0" / f"{group}.safetensors" for group in GROUPS}
    drawing = [
        KnowledgeJob(f"what {group} knows", group, path, out / "knowledge" / f"{group}.png")
        for group, path in paths.items()
    ]
    return [*drawing, AlignmentJob("units side by side", tuple(paths.values()))]


def whole_curve(
    settings: CompareSettings, scene: Scene, between: Curve, scored: dict[tuple[str, int], Scored]
) -> Curve:
    """A curve with its ends, the parents, and its middle, the merge of equal coefficients."""
    names = curve_views(scene, settings)
    values = dict(zip(between.coefficients, between.psnr, strict=True))
    for share, name in ((0.0, "front"), (0.5, between.name), (1.0, "rear")):
        values[share] = fmean(scored[name, 0].view_psnr[view] for view in names)
    steps = settings.curve_steps()
    return Curve(between.name, tuple(steps), tuple(values[share] for share in steps))


def train_job(
    settings: CompareSettings,
    name: str,
    group: str,
    seed: int,
    suffix: str,
    config: FieldConfig,
    folder: Path,
) -> TrainJob:
    """The training of one field; the joint field takes the length of both parents together."""
    train = replace(settings.train, seed=settings.train.seed + 2 * seed + (group == "rear"))
    if group == "all":
        if train.seconds is not None:
            train = replace(train, seconds=2 * train.seconds)
        else:
            train = replace(train, steps=2 * train.step_goal)
    title = f"train {name}{suffix.replace('_', ' ')}, pair {seed}"
    return TrainJob(settings, title, group, train, config, folder / f"{name}{suffix}.safetensors")


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
