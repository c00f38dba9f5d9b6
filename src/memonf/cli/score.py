"""``memonf score``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import InputError
from ..fields.pointwise import PointField
from ..implicit import draw, open_truth, score
from ..io.checkpoint import load
from ..typing import Seed
from ..utils.devices import pick_device
from .options import Common, NewFile, parse
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf score merged.safetensors --truth spot.obj --png merged.png
  memonf score left.safetensors --truth coffee.png --group right --json\
"""


@dataclass(frozen=True, kw_only=True)
class Score(Common):
    """Score a field of `memonf fit`, or a merge of such, on its mesh or picture, and draw it.

    Attributes:
        field: Field file.
        truth: The mesh or the picture.
        group: all, or a part of it: left, right, front, rear, below, above.
        png: Picture to draw: the picture itself, or slices of a shape.
        seed: Seed of the positions that shapes are compared at.
    """

    field: Annotated[Path, tyro.conf.Positional]
    truth: Path
    group: str = "all"
    png: NewFile | None = None
    seed: Seed = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Score, "score", args, EXAMPLES)
    if options.png is not None and options.png.suffix.lower() != ".png":
        raise InputError(f"--png {options.png}: expected a name that ends in .png")
    field = load(options.field, pick_device(options.device))
    if not isinstance(field, PointField):
        raise InputError(
            f"{options.field}: a radiance field, `{field.name}`; score it with "
            f"`memonf eval {options.field} --data ...`"
        )
    truth = open_truth(options.truth, field.name)
    for note in truth.notes:
        say(f"{truth.name}: {note}", error=True)
    found = score(field, truth, options.group, options.seed)
    if options.png is not None:
        draw(field, truth, options.png)
    if options.json:
        say(json.dumps({"field": str(options.field), "group": options.group, **found}))
        return
    figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in found.items())
    say(f"{options.field}: {figures}")
    say(f"  {truth.name}, `{options.group}`; positions are drawn anew, pixels are those held out")
