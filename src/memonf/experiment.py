"""The whole experiment on one data set: train parents, merge them by every method, show it.

Every piece of work is a job: a frozen dataclass that can be sent to another process, runs on one
thread and leaves its result in a file. Two single-threaded jobs side by side use two cores better
than one job with two threads. A field that is already there, trained with the same settings, is
used as it is, so an interrupted experiment continues where it stopped.

Called by ``memonf compare`` and ``memonf demo``; the report package draws what comes back.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from ._version import __version__
from .checkpoint import load, save
from .data import Scene, load_scene
from .errors import FieldFileError, InputError
from .evaluation import evaluate, spread
from .export.turntables import field_turntable
from .export.video import to_bytes
from .fields import FIELDS, Field, FieldConfig, known
from .merging import METHODS, merge
from .metrics import psnr
from .rendering import Renderer
from .resume import train_to_file
from .training import INITIAL_PARAMS, TrainSettings, new_trainer
from .workers import Observer, Workers, report
from .yardsticks import BLENDS, STARTS, Blend

__all__ = [
    "CompareSettings",
    "Curve",
    "Outcome",
    "Scored",
    "compare",
]

GROUPS = ("front", "rear")
#: About a seventh of the time that the joint field takes with the default length of training.
DISTILL_STEPS = 700
BATCH_NORM = "_batch_norm"
#: Shown unless others are asked for: the original experiment's methods and the best of the others.
SHOWN = (
    "average", "average_repair", "weight_matching", "weight_matching_repair",
    "activation_matching", "activation_matching_repair", "combined_matching",
    "combined_matching_repair", "least_squares", "gauss_newton", "distill",
)  # fmt: skip


@dataclass(frozen=True)
class CompareSettings:
    """What the experiment consists of.

    Attributes:
        data: Data set.
        field: Architecture.
        config: Its configuration.
        train: Training of each parent; the joint field takes the steps of both together.
        seeds: Number of seed pairs: pair k trains front with seed + 2 k, rear with seed + 2 k + 1.
        methods: Merge methods; empty for `SHOWN`, ``("all",)`` for all.
        batch_norm: Whether to train and merge batch-norm parents as well.
        joint: Whether to train the joint field.
        yardsticks: Whether to score blends, and distillation from other starts.
        distill_steps: Steps of each distillation.
        front: Horizontal direction (x, y) towards the front cameras; None for the format's own.
        overlap: Degrees of azimuth that front and rear share in training.
        most_views: Score at most this many test views; None for all.
        frames: Frames of each turntable; 0 for none.
        size: Side of the turntable's frames, pixels.
        curve_points: Coefficients on each interpolation curve, ends included; 0 for none.
        curve_views: Test views that curves are scored on.
        workers: Processes at work at once.
        device: Where each process works.
        command: The command line that makes the experiment again.
    """

    data: str
    field: str = "tiny_nerf"
    config: FieldConfig | None = None
    train: TrainSettings = TrainSettings()
    seeds: int = 1
    methods: tuple[str, ...] = ()
    batch_norm: bool = True
    joint: bool = True
    yardsticks: bool = True
    distill_steps: int = DISTILL_STEPS
    front: tuple[float, float] | None = None
    overlap: float = 0.0
    most_views: int | None = None
    frames: int = 60
    size: int = 160
    curve_points: int = 11
    curve_views: int = 20
    workers: int = 1
    device: str = "cpu"
    command: str = ""

    def scene(self) -> Scene:
        """Open the data set."""
        return load_scene(self.data, front=self.front)

    def method_names(self) -> list[str]:
        """The methods to run, known names only."""
        if self.methods != ("all",):
            for name in self.methods:
                METHODS[name]
            return list(self.methods or SHOWN)
        shared = self.train.initialization == "shared"
        names = [name for name in METHODS if shared or not METHODS[name].needs_ancestor]
        return [*SHOWN, *(name for name in names if name not in SHOWN)]


@dataclass(frozen=True)
class Scored:
    """A field with its scores and pictures.

    Attributes:
        name: ``front``, ``rear``, ``joint`` or a method; batch-norm ones end in ``_batch_norm``.
        method: ``train`` or the merge method.
        seed: Number of the seed pair.
        seconds: Time its training or merge took.
        psnr: dB on each group.
        ssim: On each group.
        views: Number of test views of each group.
        path: Its field file; None for yardsticks that have none.
        pictures: Renderings of the chosen test views, uint8 (height, width, 3); first pair only.
        picture_psnr: dB of each of them.
        frames: Turntable, uint8 (height, width, 3) each; first pair only.
    """

    name: str
    method: str
    seed: int
    seconds: float
    psnr: dict[str, float]
    ssim: dict[str, float]
    views: dict[str, int]
    path: Path | None
    pictures: tuple[np.ndarray, ...] = ()
    picture_psnr: tuple[float, ...] = ()
    frames: tuple[np.ndarray, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row for each group, as in ``scores.json``."""
        return [
            {
                "name": self.name,
                "method": self.method,
                "group": group,
                "seed": self.seed,
                "psnr": self.psnr[group],
                "ssim": self.ssim[group],
                "seconds": self.seconds,
            }
            for group in self.psnr
        ]


@dataclass(frozen=True)
class Curve:
    """PSNR along the coefficients between two parents.

    Attributes:
        name: The method.
        coefficients: Weight of the rear parent.
        psnr: dB on all curve views at each coefficient.
    """

    name: str
    coefficients: tuple[float, ...]
    psnr: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """All that came out.

    Attributes:
        settings: Settings, versions and machine, as plain values.
        fields: Every scored field, parents first.
        curves: Interpolation curves of the first seed pair.
        truth: The chosen test views, uint8 (height, width, 3).
        view_names: Their names and groups.
        seconds: Wall time of the whole.
    """

    settings: dict[str, Any]
    fields: tuple[Scored, ...]
    curves: tuple[Curve, ...]
    truth: tuple[np.ndarray, ...]
    view_names: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class TrainJob:
    """Train one field into a file."""

    settings: CompareSettings
    title: str
    group: str
    train: TrainSettings
    config: FieldConfig
    out: Path

    def run(self) -> Path:
        """Train, or keep the file if it is what training would give."""
        scene = self.settings.scene()
        trainer = new_trainer(
            scene, group=self.group, overlap=self.settings.overlap, field=self.settings.field,
            config=self.config, settings=self.train, device=self.settings.device,
        )  # fmt: skip
        if already_trained(self.out, trainer.field):
            add_knowledge(self.out)
            report(self.title, 1.0, "found")
            return self.out

        def on_step(progress: Any) -> None:
            if progress.step % 5 == 0 or trainer.done:
                figures = (
                    f"batch PSNR {progress.psnr:5.2f} dB {progress.rays_per_second:7.0f} rays/s"
                )
                report(self.title, progress.fraction, figures)

        train_to_file(trainer, self.out, resume=True, on_step=on_step)
        return self.out


@dataclass(frozen=True)
class ScoreJob:
    """Merge if there are parents, then score and picture one field."""

    settings: CompareSettings
    title: str
    name: str
    seed: int
    path: Path
    parents: tuple[Path, ...] = ()

    def run(self) -> Scored:
        """Do it."""
        device = self.settings.device
        name = self.name.removesuffix(BATCH_NORM)
        method = "train"
        path: Path | None = self.path
        scored: Field | Blend
        if name in BLENDS:
            parents = [load(parent, device) for parent in self.parents]
            method, scored, seconds = name, Blend(parents, BLENDS[name]), 0.0
            path = None
        elif self.parents:
            method = "distill" if name in STARTS else name
            settings = STARTS.get(name, {})
            if method == "distill":
                settings = {**settings, "steps": self.settings.distill_steps}
            # Parents are of one scene by construction, however short they were trained.
            result = merge(
                self.parents, method, seed=self.seed, device=device, force=True, **settings
            )
            scored, seconds = result.field, float(result.report["seconds"])
            save(scored, self.path)
        else:
            scored = load(self.path, device)
            seconds = float(scored.record.training["seconds_done"])
        scene = self.settings.scene()
        score, by_group, counts = group_scores(scored, scene, self.settings.most_views)
        views, _ = picture_views(scene)
        pictures: tuple[np.ndarray, ...] = ()
        picture_psnr: tuple[float, ...] = ()
        frames: tuple[np.ndarray, ...] = ()
        if self.seed == 0:
            renderer = Renderer.of(scored)
            drawn = [renderer.view(views.cameras, index).rgb.cpu() for index in range(len(views))]
            truths = [views.picture(i, scene.background_rgb) for i in range(len(views))]
            pictures = tuple(to_bytes(picture) for picture in drawn)
            picture_psnr = tuple(psnr(p, t) for p, t in zip(drawn, truths, strict=True))
            frames = turntable_frames(scored, self.settings.frames, self.settings.size)
        report(self.title, 1.0, f"PSNR {score['all']:5.2f} dB")
        return Scored(
            self.name, method, self.seed, seconds, score, by_group, counts, path, pictures,
            picture_psnr, frames,
        )  # fmt: skip


@dataclass(frozen=True)
class CurveJob:
    """Score merges of two parents along the coefficients."""

    settings: CompareSettings
    title: str
    method: str
    parents: tuple[Path, ...]

    def run(self) -> Curve:
        """Do it; the ends are the parents themselves."""
        scene = self.settings.scene()
        parents = [load(path, self.settings.device) for path in self.parents]
        steps = np.linspace(0.0, 1.0, self.settings.curve_points).round(6).tolist()
        values = []
        for done, share in enumerate(steps, 1):
            shares = [1 - share, share]
            merged = merge(parents, self.method, coefficients=shares, force=True).field
            values.append(evaluate(merged, scene, most_views=self.settings.curve_views).psnr)
            report(self.title, done / len(steps), "")
        return Curve(self.method, tuple(steps), tuple(values))


def group_scores(
    scored: Field | Blend, scene: Scene, most_views: int | None
) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """Mean PSNR, SSIM and number of all test views and of each group's, each rendered once."""
    scores = evaluate(scored, scene, most_views=most_views)
    of_view = {view.name: view for view in scores.views}
    psnrs, ssims, counts = {}, {}, {"all": len(scores.views)}
    for group in GROUPS:
        names = [name for name in scene.views("test", group).names if name in of_view]
        psnrs[group] = fmean(of_view[name].psnr for name in names)
        ssims[group] = fmean(of_view[name].ssim for name in names)
        counts[group] = len(names)
    return {**psnrs, "all": scores.psnr}, {**ssims, "all": scores.ssim}, counts


def oracle(front: Scored, rear: Scored, groups: Sequence[str]) -> Scored:
    """Scores of each view's own parent.

    Args:
        front: Parent of the front views.
        rear: Parent of the rear views.
        groups: Group of each chosen picture.
    """
    of = {"front": front, "rear": rear}

    def both(values: dict[str, dict[str, float]]) -> dict[str, float]:
        own = {group: values[group][group] for group in GROUPS}
        total = sum(own[group] * front.views[group] for group in GROUPS)
        return {**own, "all": total / front.views["all"]}

    shown = range(len(front.pictures))
    return Scored(
        "oracle" + (BATCH_NORM if BATCH_NORM in front.name else ""),
        "oracle",
        front.seed,
        0.0,
        both({group: parent.psnr for group, parent in of.items()}),
        both({group: parent.ssim for group, parent in of.items()}),
        front.views,
        None,
        tuple(of[groups[place]].pictures[place] for place in shown),
        tuple(of[groups[place]].picture_psnr[place] for place in shown),
    )


def picture_views(scene: Scene, each: int = 2) -> tuple[Any, list[str]]:
    """A few test views of each group, evenly spread, for the reconstructions."""
    parts = [spread(scene.views("test", group), each + 2) for group in GROUPS]
    picked = [part[list(range(1, len(part) - 1))] for part in parts]
    cameras = picked[0].cameras
    joined = replace(
        cameras,
        camera_to_world=torch.cat([part.cameras.camera_to_world for part in picked]),
        intrinsics=torch.cat([part.cameras.intrinsics for part in picked]),
    )
    names = sum((part.names for part in picked), ())
    groups = [group for group, part in zip(GROUPS, picked, strict=True) for _ in range(len(part))]
    images = torch.cat([part.images for part in picked])
    return type(picked[0])(joined, images, names), groups


def turntable_frames(scored: Field | Blend, frames: int, size: int) -> tuple[np.ndarray, ...]:
    """One turn around the middle of a field's box, at the distance of its training cameras."""
    if frames == 0:
        return ()
    cameras = field_turntable(scored, frames, size)
    renderer = Renderer.of(scored)
    return tuple(to_bytes(renderer.view(cameras, index).rgb) for index in range(frames))


def already_trained(path: Path, fresh: Field) -> bool:
    """Whether a field file holds what training `fresh` would give."""
    if not path.exists():
        return False
    try:
        found = load(path)
    except FieldFileError:
        return False
    wanted, known = fresh.record.training, found.record.training
    # What a training began with was not always recorded.
    known = {INITIAL_PARAMS: wanted[INITIAL_PARAMS], **known}
    return (
        found.config == fresh.config
        and torch.equal(found.aabb, fresh.aabb.cpu())
        and (found.record.group, found.record.scene) == (fresh.record.group, fresh.record.scene)
        and all(known.get(key) == value for key, value in wanted.items())
    )


def add_knowledge(path: Path) -> None:
    """Record what a field saw in a file from before that was recorded."""
    found = load(path)
    if found.record.knowledge is None:
        found.record = replace(found.record, knowledge=known(found))
        save(found, path)


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
    views, groups = picture_views(scene)
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
    with Workers(settings.workers) as workers:
        workers.run(training, observe)
        results = workers.run([*scoring, *curves], observe)
    fields = [result for result in results if isinstance(result, Scored)]
    by_name = {(scored.name, scored.seed): scored for scored in fields}
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
        tuple(result for result in results if isinstance(result, Curve)),
        tuple(to_bytes(views.picture(i, scene.background_rgb)) for i in range(len(views))),
        tuple(f"{group} {name}" for group, name in zip(groups, views.names, strict=True)),
        time.perf_counter() - started,
    )


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
