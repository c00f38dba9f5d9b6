"""``memonf demo``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field as Limits

from ..experiment import CompareSettings
from ..training import TrainSettings
from ..typing import Seed
from ..utils.devices import pick_device
from ..utils.workers import default_workers
from .compare import run_compare
from .options import Common, ResultsFolder, parse, shown_command

__all__ = ["run"]

EXAMPLES = """\
  memonf demo --out demo
  memonf demo --out demo --scene still_life\
"""

STEPS = 400
#: About a seventh of the time that the joint field takes.
DISTILL_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class Demo(Common):
    """Run the whole experiment on an embedded scene: a few minutes on two cores.

    Attributes:
        out: Folder for the results.
        scene: Embedded scene, see `memonf scenes`.
        seed: Seed of the parents.
        steps: Training steps of each parent.
    """

    out: ResultsFolder = Path("demo")
    scene: str = "robot"
    seed: Seed = 0
    steps: Annotated[int, Limits(ge=1, le=10_000_000)] = STEPS


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Demo, "demo", args, EXAMPLES)
    device = str(pick_device(options.device))
    settings = CompareSettings(
        data=f"embedded:{options.scene}",
        train=TrainSettings(steps=options.steps, seed=options.seed),
        distill_steps=DISTILL_STEPS,
        curve_points=5,
        curve_views=8,
        most_views=16,
        size=100,
        workers=default_workers(device),
        device=device,
        command=shown_command("demo", args),
    )
    run_compare(settings, options.out, quiet=options.quiet, as_json=options.json)
