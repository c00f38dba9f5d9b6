"""``memonf import``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from ..checkpoint import save
from ..data import load_scene
from ..devices import pick_device
from ..errors import InputError
from ..fields import Field, Record, known
from ..importing import import_field, read_layers
from ..training import BACKGROUND, GIVEN
from ..typing import Tensor
from .options import Common, NewFile, Switch, parse
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf import checkpoint199999.ckpt --data lego --out theirs.safetensors
  memonf import 200000.tar --box -1.5 -1.5 -1.5 1.5 1.5 1.5 --near 2 --far 6 \\
                --out theirs.safetensors
  memonf import model_200000.npy --net coarse --data lego --out coarse.safetensors
  memonf import state_dict.pt --layers names.yaml --data lego --out theirs.safetensors\
"""


@dataclass(frozen=True, kw_only=True)
class Import(Common):
    """Take over a NeRF that was trained elsewhere; no code in its file is run.

    Known are krrish94/nerf-pytorch (.ckpt), yenchenlin/nerf-pytorch (.tar), kwea123/nerf_pl (.ckpt)
    and bmild/nerf (.npy); other state_dicts by a YAML file that names the layers. Width, depth,
    encodings and skips are worked out from the params. What a checkpoint does not say (box, range,
    background, cameras) comes from the data set it was trained on, or from the flags.

    Attributes:
        checkpoint: .ckpt, .tar, .pt, .pth, .safetensors or .npy file.
        out: Field file to write.
        net: fine or coarse, where the checkpoint has both.
        layers: YAML file that names the layers (docs/howto/strangers.md).
        uneven_frequencies: Encodings whose frequencies are evenly spaced instead of doubling.
        data: Data set it was trained on: gives box, near, far, background and training cameras.
        group: View group of the data set that it saw.
        front: Horizontal direction (x y) towards the front cameras of the data set.
        box: Lower and upper corner (6 numbers), outside which the field is empty.
        near: Nearest distance that was rendered.
        far: Farthest distance.
        background: Colour behind everything, rgb in [0, 1].
        seed: Accepted by every verb; nothing is drawn at random here.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    out: NewFile
    net: str = "fine"
    layers: Path | None = None
    uneven_frequencies: Switch = False
    data: str | None = None
    group: str = "all"
    front: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="X Y")] = None
    box: tuple[float, float, float, float, float, float] | None = None
    near: float | None = None
    far: float | None = None
    background: tuple[float, float, float] | None = None
    seed: int = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Import, "import", args, EXAMPLES)
    aabb, record = surroundings(options)
    layers = None if options.layers is None else read_layers(options.layers)
    field = import_field(
        options.checkpoint, aabb, net=options.net, layers=layers,
        octave_steps=not options.uneven_frequencies,
    ).to(pick_device(options.device))  # fmt: skip
    field.record = record
    if record.cameras is not None:
        field.record = replace(record, knowledge=known(field))
    save(field, options.out)
    say(json.dumps(outcome(options, field)) if options.json else in_words(options, field))


def surroundings(options: Import) -> tuple[Tensor, Record]:
    """Box and record: of the data set, where one is named; flags win."""
    near, far, background, cameras = options.near, options.far, options.background, None
    aabb, scene_name = None, ""
    if options.data is not None:
        scene = load_scene(options.data, front=options.front, place="keep")
        cameras, scene_name, aabb = (
            scene.views("train", options.group).cameras,
            scene.name,
            scene.aabb,
        )
        near, far = scene.near if near is None else near, scene.far if far is None else far
        background = background or scene.background
    if options.box is not None:
        aabb = torch.tensor(options.box).reshape(2, 3)
    if aabb is None or near is None or far is None:
        raise InputError(
            "a checkpoint does not say where its scene lies: give --data, or --box, --near, --far"
        )
    if not (aabb.isfinite().all() and (aabb[0] < aabb[1]).all()):
        raise InputError(f"--box: expected lower corner < upper corner, received {aabb.tolist()}")
    if not 0 <= near < far:
        raise InputError(f"--near, --far: expected 0 <= near < far, received {near} and {far}")
    background = background or (1.0, 1.0, 1.0)
    if not all(0 <= value <= 1 for value in background):
        raise InputError(f"--background: expected numbers in [0, 1], received {background}")
    training = {"imported_from": options.checkpoint.name, "net": options.net}
    if options.background is not None:
        training[BACKGROUND] = GIVEN
    return aabb, Record(
        near=float(near), far=float(far), background=background, cameras=cameras,
        group=options.group, scene=scene_name, training=training,
    )  # fmt: skip


def outcome(options: Import, field: Field) -> dict[str, object]:
    """What was taken over, as plain values."""
    return {
        "out": str(options.out), "architecture": field.name, "config": field.config.as_dict(),
        "parameters": field.parameter_count(),
    }  # fmt: skip


def in_words(options: Import, field: Field) -> str:
    """What was taken over, and what to do next."""
    config = field.config.as_dict()
    said = (
        f"{options.out}: {options.net} net of {options.checkpoint.name}, {config['depth']} layers "
        f"of {config['width']}, {config['frequencies']} octaves, {field.parameter_count()} params"
    )
    follow = f"memonf eval {options.out} --data {options.data}" if options.data else (
        f"memonf render {options.out} --turntable --out turntable.gif")  # fmt: skip
    return f"{said}; look at it with `{follow}`"
