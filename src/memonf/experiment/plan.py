"""Which jobs an experiment consists of, and which of them only a result calls for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.baselines import BLENDS, STARTS
from ..fields import FIELDS, FieldConfig
from ..merging import METHODS
from .contender import Contender
from .jobs import AlignmentJob, CurveJob, KnowledgeJob, ScoreJob, TrainJob
from .outcome import Scored
from .settings import CompareSettings

__all__ = ["FROM_PARENT", "Plan"]

DISTILLED = Contender.merge("distill")
#: The yardstick that is the same as `DISTILLED` if that starts from the first parent anyway.
FROM_PARENT = Contender("merge", "distill", "parent")


@dataclass
class Plan:
    """The jobs of an experiment.

    Attributes:
        settings: What to train, merge and score.
        variants: Configuration of each kind of parents; the second has batch norm.
        training: Fields to train; the longest first, so that no core waits at the end.
        scoring: Fields to merge, if they are merges, and to score.
        curves: Interpolation curves of the first seed pair.
        looks: What the parents of the first seed pair know, and how alike their units are.
        from_parent: By seed pair, the distillation from the first parent: another field than
            `distill` only where that starts elsewhere.
    """

    settings: CompareSettings
    variants: list[FieldConfig]
    training: list[TrainJob] = field(default_factory=list)
    scoring: list[ScoreJob] = field(default_factory=list)
    curves: list[CurveJob] = field(default_factory=list)
    looks: list[KnowledgeJob | AlignmentJob] = field(default_factory=list)
    from_parent: dict[int, ScoreJob] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: CompareSettings, out: Path) -> Plan:
        """Plan an experiment whose results go to a folder.

        Raises:
            InputError: The architecture does not support batch norm, and that is asked for.
        """
        plan = cls(settings, variants_of(settings))
        for seed in range(settings.seeds):
            plan.add_pair(seed, out / "fields" / f"pair{seed}")
        plan.training.sort(key=lambda job: job.group != "all")
        plan.looks = looks(settings, out)
        return plan

    @property
    def config(self) -> FieldConfig:
        """Configuration of the fields without batch norm."""
        return self.variants[0]

    def add_pair(self, seed: int, folder: Path) -> None:
        """Plan one seed pair: its trainings, merges, yardsticks and curves."""
        trained: list[TrainJob] = []
        if self.settings.joint:
            joint = Contender("joint", "joint")
            trained.append(train_job(self.settings, joint, "all", seed, self.config, folder))
        for config in self.variants:
            batch_norm = config is not self.config
            parents = [
                train_job(
                    self.settings, Contender("parent", group, batch_norm=batch_norm), group, seed,
                    config, folder,
                )
                for group in self.settings.groups
            ]  # fmt: skip
            trained += parents
            self.add_merges(seed, batch_norm, folder, tuple(job.out for job in parents))
        self.training += trained
        self.scoring += [ScoreJob(self.settings, job.contender, seed, job.out) for job in trained]

    def add_merges(
        self, seed: int, batch_norm: bool, folder: Path, parents: tuple[Path, ...]
    ) -> None:
        """Plan the merges of two parents, the yardsticks beside them, and curves between them."""
        settings, methods = self.settings, self.settings.method_names()
        contenders = [Contender.merge(method, batch_norm=batch_norm) for method in methods]
        if settings.yardsticks and not batch_norm:
            contenders += [Contender("blend", name) for name in BLENDS]
            if "distill" in methods:
                contenders += [Contender("merge", "distill", start) for start in STARTS]
        for contender in contenders:
            path = folder / f"{contender.key}.safetensors"
            job = ScoreJob(settings, contender, seed, path, parents)
            if contender == FROM_PARENT:
                self.from_parent[seed] = job
            else:
                self.scoring.append(job)
        if seed == 0 and settings.curve_points and not batch_norm:
            # Function-space merges do not follow the coefficients continuously.
            self.curves += [
                CurveJob(settings, f"curve {method}", method, parents)
                for method in methods
                if not METHODS[method].function_space
            ]

    def is_both(self, result: Any) -> bool:
        """Whether a result is that of `distill` and of the yardstick from the first parent."""
        distilled = isinstance(result, Scored) and result.contender == DISTILLED
        return distilled and result.start_parent == 0 and result.seed in self.from_parent

    def called_for_by(self, result: Any) -> list[ScoreJob]:
        """Jobs that a result calls for: that yardstick, where it is another field."""
        distilled = isinstance(result, Scored) and result.contender == DISTILLED
        if distilled and not self.is_both(result) and result.seed in self.from_parent:
            return [self.from_parent[result.seed]]
        return []


def variants_of(settings: CompareSettings) -> list[FieldConfig]:
    """The configuration asked for, and the same with batch norm if that is wanted too."""
    base = settings.config or FIELDS[settings.field].Config()
    variants = [base]
    if settings.batch_norm:
        if not hasattr(base, "batch_norm"):
            raise InputError(
                f"field `{settings.field}` does not support batch norm; pass batch_norm=False"
            )
        if not base.batch_norm:
            variants.append(replace(base, batch_norm=True))  # type: ignore[call-arg]
    return variants


def looks(settings: CompareSettings, out: Path) -> list[KnowledgeJob | AlignmentJob]:
    """Jobs that draw what the parents of the first seed pair know, and look at their units."""
    folder = out / "fields" / "pair0"
    paths = {group: folder / f"{group}.safetensors" for group in settings.groups}
    drawing = [
        KnowledgeJob(f"what {group} knows", group, path, out / "knowledge" / f"{group}.png")
        for group, path in paths.items()
    ]
    return [*drawing, AlignmentJob("units side by side", tuple(paths.values()))]


def train_job(
    settings: CompareSettings,
    contender: Contender,
    group: str,
    seed: int,
    config: FieldConfig,
    folder: Path,
) -> TrainJob:
    """The training of one field; the joint field takes the length of both parents together."""
    second = group == settings.groups[1]
    train = replace(settings.train, seed=settings.train.seed + 2 * seed + second)
    if group == "all":
        if train.seconds is not None:
            train = replace(train, seconds=2 * train.seconds)
        else:
            train = replace(train, steps=2 * train.step_goal)
    title = f"train {contender.key.replace('_', ' ')}, pair {seed}"
    out = folder / f"{contender.key}.safetensors"
    return TrainJob(settings, title, contender, group, train, config, out)
