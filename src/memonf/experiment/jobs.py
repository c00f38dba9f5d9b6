"""The pieces of work of the experiment, each a job for a worker process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from ..data import Scene, Views
from ..errors import FieldFileError, InputError, MergeError
from ..evaluation.baselines import BLENDS, Blend
from ..evaluation.evaluate import Scores, evaluate, scored_views, spread
from ..fields import Field, FieldConfig, known
from ..io.checkpoint import load, save
from ..merging import alignment_similarities, merge
from ..rendering.baking import BakedField
from ..rendering.volume_rendering import FRAMES, PICTURES, Renderer
from ..training import INITIAL_PARAMS, TrainSettings, new_trainer
from ..training.loggers import JsonLines, log_path, together, tracked, training_seconds
from ..training.resume import train_to_file
from ..typing import Tensor
from ..utils.workers import report
from ..visualization.knowledge import draw_knowledge
from ..visualization.turntables import field_turntable
from ..visualization.video import to_bytes
from .contender import Contender
from .kept import KeptResult
from .outcome import Alignment, Curve, KnowledgePicture, Scored
from .settings import CompareSettings

__all__ = [
    "AlignmentJob",
    "CurveJob",
    "KnowledgeJob",
    "ScoreJob",
    "TrainJob",
    "curve_views",
    "picture_views",
]

#: Turntable frames on a picture of knowledge, and their side in pixels.
KNOWLEDGE_FRAMES, KNOWLEDGE_SIZE = 4, 160


@dataclass(frozen=True)
class TrainJob:
    """Train one field into a file."""

    settings: CompareSettings
    title: str
    contender: Contender
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

        with tracked(JsonLines(log_path(self.out), trainer)) as track:
            train_to_file(trainer, self.out, resume=True, on_step=together(on_step, track))
        return self.out


@dataclass(frozen=True)
class ScoreJob:
    """Merge if there are parents, then score and picture one field."""

    settings: CompareSettings
    contender: Contender
    seed: int
    path: Path
    parents: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """Name for progress bars."""
        return f"{self.contender.key} {self.seed}"

    @property
    def needs(self) -> tuple[Path, ...]:
        """Trained fields without which there is nothing to do."""
        return self.parents or (self.path,)

    def run(self) -> Scored:
        """Merge, score and draw; or find what an earlier call left of the same job."""
        kept = KeptResult.of(self, self.path.with_suffix(".scored.npz"))
        found = kept.scored(self.contender)
        if found is None:
            found = self.scored()
            kept.keep(found)
        report(self.title, 1.0, f"PSNR {found.psnr['all']:5.2f} dB")
        return found

    def scored(self) -> Scored:
        """Do the work."""
        device, contender = self.settings.device, self.contender
        path: Path | None = self.path
        start_parent: int | None = None
        seconds: float | None
        scored: Field | Blend
        if contender.kind == "blend":
            parents = [load(parent, device) for parent in self.parents]
            scored, seconds = Blend(parents, BLENDS[contender.name]), 0.0
            path = None
        elif contender.kind == "merge":
            settings = contender.settings(self.settings.distill_steps)
            # Parents are of one scene by construction, however short they were trained.
            result = merge(
                self.parents, contender.name, seed=self.seed, device=device, force=True, **settings
            )
            scored, seconds = result.field, float(result.report["seconds"])
            start_parent = result.report.get("distill", {}).get("start_parent")
            save(scored, self.path)
        else:
            scored = load(self.path, device)
            seconds = training_seconds(self.path, scored.record.training["steps_done"])
        scene = self.settings.scene()
        renderer, in_motion = made_ready(scored, self.settings.frames > 0 and self.seed == 0)
        drawn: dict[str, Tensor] = {}
        scores = evaluate(
            scored, scene, most_views=self.settings.most_views, renderer=renderer,
            on_picture=drawn.__setitem__,
        )  # fmt: skip
        score, similarity, counts = group_scores(scores, scene, self.settings.groups)
        view_psnr = {view.name: view.psnr for view in scores.views}
        names = picture_views(scene, self.settings)[0].names
        frames: tuple[np.ndarray, ...] = ()
        if in_motion is not None:
            cameras = field_turntable(scored, self.settings.frames, self.settings.size)
            views = (in_motion.view(cameras, index) for index in range(len(cameras)))
            frames = tuple(to_bytes(view.rgb) for view in views)
        return Scored(
            contender, self.seed, seconds, scored.parameter_count(), score, similarity,
            counts, view_psnr, path,
            tuple(to_bytes(drawn[name]) for name in names), tuple(view_psnr[n] for n in names),
            frames, start_parent,
        )  # fmt: skip


@dataclass(frozen=True)
class CurveJob:
    """Score merges of two parents at some coefficients between the ends and the middle.

    At the ends are the parents themselves, in the middle is the merge: those are scored anyway.
    """

    settings: CompareSettings
    title: str
    method: str
    parents: tuple[Path, ...]

    @property
    def needs(self) -> tuple[Path, ...]:
        """Trained fields without which there is nothing to do."""
        return self.parents

    def run(self) -> Curve:
        """Do it."""
        scene = self.settings.scene()
        names = curve_views(scene, self.settings)
        parents = [load(path, self.settings.device) for path in self.parents]
        steps = [share for share in self.settings.curve_steps() if share not in (0.0, 0.5, 1.0)]
        values = []
        for done, share in enumerate(steps, 1):
            shares = [1 - share, share]
            merged = merge(parents, self.method, coefficients=shares, force=True).field
            values.append(
                evaluate(merged, scene, most_views=self.settings.most_views, only=names).psnr
            )
            report(self.title, done / len(steps), "")
        return Curve(self.method, tuple(steps), tuple(values))


@dataclass(frozen=True)
class KnowledgeJob:
    """Draw what a parent knows."""

    title: str
    name: str
    path: Path
    picture: Path

    @property
    def needs(self) -> tuple[Path, ...]:
        """Trained fields without which there is nothing to do."""
        return (self.path,)

    def run(self) -> KnowledgePicture:
        """Do it."""
        field = load(self.path)
        self.picture.parent.mkdir(parents=True, exist_ok=True)
        draw_knowledge(
            field, known(field), self.picture, name=self.name, frames=KNOWLEDGE_FRAMES,
            size=KNOWLEDGE_SIZE,
        )  # fmt: skip
        report(self.title, 1.0, "")
        return KnowledgePicture(self.name, self.picture)


@dataclass(frozen=True)
class AlignmentJob:
    """Look at how alike the units of two parents act, before and after they are aligned."""

    title: str
    parents: tuple[Path, ...]

    @property
    def needs(self) -> tuple[Path, ...]:
        """Trained fields without which there is nothing to do."""
        return self.parents

    def run(self) -> Alignment:
        """Do it."""
        try:
            found = Alignment(tuple(alignment_similarities(self.parents)))
        except (InputError, MergeError) as error:
            found = Alignment(why_not=str(error))
        report(self.title, 1.0, "")
        return found


def curve_views(scene: Scene, settings: CompareSettings) -> tuple[str, ...]:
    """Names of the views that curves are scored on, among those that all fields are scored on."""
    scored = scored_views(scene, "test", "all", settings.most_views)
    return spread(scored, settings.curve_views).names


def group_scores(
    scores: Scores, scene: Scene, groups: tuple[str, str]
) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """Mean PSNR, SSIM and number of all scored views and of each group's."""
    of_view = {view.name: view for view in scores.views}
    psnrs, ssims, counts = {}, {}, {"all": len(scores.views)}
    for group in groups:
        names = [name for name in scene.views("test", group).names if name in of_view]
        psnrs[group] = fmean(of_view[name].psnr for name in names)
        ssims[group] = fmean(of_view[name].ssim for name in names)
        counts[group] = len(names)
    return {**psnrs, "all": scores.psnr}, {**ssims, "all": scores.ssim}, counts


def picture_views(
    scene: Scene, settings: CompareSettings, each: int = 2
) -> tuple[Views, list[str]]:
    """A few of each group's scored views, evenly spread, and their groups: what is shown."""
    test = scene.views("test", "all")
    scored = set(scored_views(scene, "test", "all", settings.most_views).names)
    places, groups = [], []
    for group in settings.groups:
        own = [name for name in scene.views("test", group).names if name in scored]
        if not own:
            raise InputError(
                f"{scene.name}: none of the scored test views is in group `{group}`; score more by "
                "--most-views, or look at their masks"
            )
        inner = torch.linspace(0, len(own) - 1, each + 2).round().long()[1:-1]
        places += [test.names.index(own[place]) for place in inner.tolist()]
        groups += [group] * each
    return test[places], groups


def made_ready(field: Field | Blend, film: bool) -> tuple[Renderer, Renderer | None]:
    """A field made ready for pictures to score and, if wanted, for the frames of a film.

    Where colours do not depend on the viewing direction it is baked for films, by the same look at
    it: a frame then costs half, and cannot be told from one of the network
    (docs/research/speed.md).
    """
    if film and not field.view_dependent:
        baked = BakedField.of(field, PICTURES.resolution, PICTURES.factor)
        return Renderer.of(field, grid=baked.grid), baked.renderer()
    renderer = Renderer.of(field)
    return renderer, replace(renderer, march=FRAMES.fitting(field).march) if film else None


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
        and found.record.background == fresh.record.background
        and all(known.get(key) == value for key, value in wanted.items())
    )


def add_knowledge(path: Path) -> None:
    """Record what a field saw in a file from before that was recorded."""
    found = load(path)
    if found.record.knowledge is None:
        found.record = replace(found.record, knowledge=known(found))
        save(found, path)
