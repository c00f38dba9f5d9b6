"""What comes out of the experiment: fields with their scores and pictures, curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..fields import FieldConfig
from ..merging import LayerSimilarity
from ..utils.workers import Failure
from .contender import Contender
from .settings import CompareSettings

__all__ = [
    "Alignment",
    "Curve",
    "KnowledgePicture",
    "Outcome",
    "RunDescription",
    "Scored",
    "oracle",
]


@dataclass(frozen=True)
class Scored:
    """A field with its scores and pictures.

    Attributes:
        contender: What it is.
        seed: Number of the seed pair.
        seconds: Time its training or merge took; None where no log tells.
        parameters: Number of params that a picture of it needs: of blends and oracles, those of
            both parents.
        psnr: dB on each group.
        ssim: On each group.
        views: Number of test views of each group.
        view_psnr: dB of each of them, by name.
        path: Its field file; None for yardsticks that have none.
        pictures: Renderings of the chosen test views, uint8 (height, width, 3); first pair only.
        picture_psnr: dB of each of them.
        frames: Turntable, uint8 (height, width, 3) each; first pair only.
        start_parent: Number of the parent that a distillation started from, if it did from one.
    """

    contender: Contender
    seed: int
    seconds: float | None
    parameters: int
    psnr: dict[str, float]
    ssim: dict[str, float]
    views: dict[str, int]
    view_psnr: dict[str, float]
    path: Path | None
    pictures: tuple[np.ndarray, ...] = ()
    picture_psnr: tuple[float, ...] = ()
    frames: tuple[np.ndarray, ...] = ()
    start_parent: int | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One row for each group, as in ``scores.json``."""
        return [
            {
                "name": self.contender.key,
                "method": self.contender.produced_by,
                "group": group,
                "seed": self.seed,
                "psnr": self.psnr[group],
                "ssim": self.ssim[group],
            }
            for group in self.psnr
        ]


@dataclass(frozen=True)
class Curve:
    """PSNR along the coefficients between two parents.

    Attributes:
        method: Name of the merge method.
        coefficients: Weight of the second parent.
        psnr: dB on all curve views at each coefficient.
    """

    method: str
    coefficients: tuple[float, ...]
    psnr: tuple[float, ...]


@dataclass(frozen=True)
class KnowledgePicture:
    """What a parent knows, drawn.

    Attributes:
        name: The parent.
        path: PNG file.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Alignment:
    """What aligning two parents does to the likeness of their units.

    Attributes:
        layers: One entry for each group of units, in the order of the network.
        why_not: In words why the parents cannot be aligned; empty if they can.
    """

    layers: tuple[LayerSimilarity, ...] = ()
    why_not: str = ""


@dataclass(frozen=True)
class RunDescription:
    """With what an experiment was made.

    Attributes:
        settings: What was trained, merged and scored.
        config: Configuration of the fields without batch norm.
        scene: Name of the data set.
        background: Colour of the scene's background.
        version: Of memonf.
        torch: Version of PyTorch.
        python: Version of Python.
        machine: System, processor and cores.
    """

    settings: CompareSettings
    config: FieldConfig
    scene: str
    background: tuple[float, float, float]
    version: str
    torch: str
    python: str
    machine: str

    @property
    def steps(self) -> int:
        """Training steps of each parent, where they are not given by seconds."""
        return self.settings.train.step_goal

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as ``scores.json`` has them."""
        return {
            **asdict(self.settings),
            "data": Path(self.settings.data).name,
            "data_name": self.scene,
            "steps": self.steps,
            "background": list(self.background),
            "config": self.config.as_dict(),
            "version": self.version,
            "torch": self.torch,
            "python": self.python,
            "machine": self.machine,
        }


@dataclass(frozen=True)
class Outcome:
    """All that came out.

    Attributes:
        run: Settings, versions and machine.
        fields: Every scored field, parents first.
        curves: Interpolation curves of the first seed pair.
        alignment: Of the parents of the first seed pair.
        knowledge: Of each parent of the first seed pair.
        truth: The chosen test views, uint8 (height, width, 3).
        view_names: Their names and groups.
        seconds: Wall time of the whole.
        failures: Jobs that did not come to their end.
    """

    run: RunDescription
    fields: tuple[Scored, ...]
    curves: tuple[Curve, ...]
    alignment: Alignment
    knowledge: tuple[KnowledgePicture, ...]
    truth: tuple[np.ndarray, ...]
    view_names: tuple[str, ...]
    seconds: float
    failures: tuple[Failure, ...] = ()


def oracle(of: dict[str, Scored], groups: Sequence[str]) -> Scored:
    """Scores of each view's own parent.

    Args:
        of: Group -> parent of its views.
        groups: Group of each chosen picture.
    """
    parents = list(of.values())
    first = parents[0]

    def both(values: dict[str, dict[str, float]]) -> dict[str, float]:
        own = {group: values[group][group] for group in of}
        total = sum(own[group] * first.views[group] for group in of)
        return {**own, "all": total / first.views["all"]}

    shown = range(len(first.pictures))
    return Scored(
        Contender("oracle", "oracle", batch_norm=first.contender.batch_norm),
        first.seed,
        0.0,
        sum(parent.parameters for parent in parents),
        both({group: parent.psnr for group, parent in of.items()}),
        both({group: parent.ssim for group, parent in of.items()}),
        first.views,
        {},
        None,
        tuple(of[groups[place]].pictures[place] for place in shown),
        tuple(of[groups[place]].picture_psnr[place] for place in shown),
    )
