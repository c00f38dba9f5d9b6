"""What the experiment consists of."""

from __future__ import annotations

from dataclasses import dataclass

from ..data import Background, Scene, load_scene
from ..errors import InputError
from ..fields import FieldConfig
from ..merging import METHODS
from ..training import TrainSettings

__all__ = ["DISTILL_STEPS", "HALVES", "SHOWN", "CompareSettings"]

#: Pairs of view groups that all cameras fall into, each into one.
HALVES = (("front", "rear"), ("left", "right"))
#: About a seventh of the time that the joint field takes with the default length of training.
DISTILL_STEPS = 700
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
        groups: View groups of the two parents, one of `HALVES`.
        seeds: Number of seed pairs: pair k trains the first parent with seed + 2 k, the second with
            seed + 2 k + 1.
        methods: Merge methods; empty for `SHOWN`, ``("all",)`` for all.
        batch_norm: Whether to train and merge batch-norm parents as well.
        joint: Whether to train the joint field.
        yardsticks: Whether to score blends, and distillation from other starts.
        distill_steps: Steps of each distillation.
        front: Horizontal direction (x, y) towards the front cameras; None for the format's own.
        keep_coordinates: Whether a capture stays in its own coordinates.
        half_side: Half a side of a capture's box, its units; None for one with all cameras in it.
        background: Colour behind everything; ``auto`` for what the data set says or shows.
        overlap: Degrees of azimuth that the groups share in training.
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
    groups: tuple[str, str] = HALVES[0]
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
    keep_coordinates: bool = False
    half_side: float | None = None
    background: Background = "auto"
    overlap: float = 0.0
    most_views: int | None = 40
    frames: int = 60
    size: int = 128
    curve_points: int = 5
    curve_views: int = 20
    workers: int = 1
    device: str = "cpu"
    command: str = ""

    def __post_init__(self) -> None:
        if self.groups not in HALVES:
            known = " or ".join(f"`{one} {other}`" for one, other in HALVES)
            raise InputError(
                f"groups: expected {known}, received `{' '.join(self.groups)}`; other groups are "
                "trained by `memonf train --group` and merged by `memonf merge`"
            )

    def scene(self) -> Scene:
        """Open the data set."""
        return load_scene(
            self.data, front=self.front, place="keep" if self.keep_coordinates else "auto",
            half_side=self.half_side, background=self.background,
        )  # fmt: skip

    def curve_steps(self) -> list[float]:
        """Weights of the second parent on each interpolation curve, from 0 to 1."""
        return [round(k / max(1, self.curve_points - 1), 6) for k in range(self.curve_points)]

    def method_names(self) -> list[str]:
        """The methods to run, known names only."""
        if self.methods != ("all",):
            for name in self.methods:
                METHODS[name]
            return list(self.methods or SHOWN)
        shared = self.train.initialization == "shared"
        names = [
            name
            for name in METHODS
            if METHODS[name].listed and (shared or not METHODS[name].needs_ancestor)
        ]
        return [*SHOWN, *(name for name in names if name not in SHOWN)]
