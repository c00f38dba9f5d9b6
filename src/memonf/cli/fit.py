"""``memonf fit``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..fields.pointwise import PointConfig
from ..implicit import FitSettings, Fitter, open_truth
from ..training.resume import check_outputs, train_to_file
from ..utils.devices import pick_device
from .options import Common, NewFile, Switch, parse, with_settings
from .progress import counting_progress, resumable
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf fit spot.obj --group left --seed 1 --out left.safetensors
  memonf fit spot.obj --field occupancy --network siren --out whole.safetensors
  memonf fit coffee.png --field image --group right --frequencies 8 --out right.safetensors
  memonf fit ... --resume --out left.safetensors      # after an interruption\
"""


@dataclass(frozen=True, kw_only=True)
class Fit(Common):
    """Train a field beyond radiance: signed distance, occupancy, or a picture, on a part of it.

    Attributes:
        source: Watertight mesh, or picture.
        out: Field file to write.
        field: sdf, occupancy (of a mesh) or image (of a picture).
        group: all, or the part that is seen: left, right, front, rear, below, above.
        resume: Continue an interrupted training of the same --out.
    """

    source: Annotated[Path, tyro.conf.Positional]
    out: NewFile
    field: str = "sdf"
    group: str = "all"
    resume: Switch = False


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(with_settings(Fit, settings=FitSettings, config=PointConfig), "fit", args,
                    EXAMPLES)  # fmt: skip
    check_outputs(options.out)
    truth = open_truth(options.source, options.field)
    for note in truth.notes:
        say(f"{truth.name}: {note}", error=True)
    settings = options.settings  # type: ignore[attr-defined]
    fitter = Fitter(
        truth, group=options.group, config=options.config,  # type: ignore[attr-defined]
        settings=settings, device=pick_device(options.device),
    )  # fmt: skip
    with (
        counting_progress(f"fit {options.group}", show=not options.quiet) as show,
        resumable(options.out),
    ):
        field = train_to_file(
            fitter, options.out, resume=options.resume,
            on_step=lambda done: show(done, settings.steps),
        )  # fmt: skip
    outcome = {"out": str(options.out), "parameters": field.parameter_count(),
               **field.record.training}  # fmt: skip
    say(json.dumps(outcome) if options.json else (
        f"{options.out}: {field.name} of {truth.name}, part `{options.group}`, "
        f"{field.parameter_count()} params; `memonf score {options.out} --truth {options.source}`"
    ))  # fmt: skip
