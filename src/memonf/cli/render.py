"""``memonf render``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..baking import preview
from ..cameras import Cameras
from ..checkpoint import load
from ..devices import pick_device
from ..errors import InputError
from ..export.pictures import write_png
from ..export.turntables import field_turntable
from ..export.video import FORMATS, to_bytes, write_frames
from ..files import check_writable
from ..rendering import FRAMES, PICTURES, Renderer
from .options import Common, Switch, parse
from .progress import counting_progress

__all__ = ["run"]

EXAMPLES = """\
  memonf render merged.safetensors --turntable --frames 60 --size 200 --out merged.gif
  memonf render merged.safetensors --turntable --preview --out merged.mp4
  memonf render merged.safetensors --azimuth 45 --elevation 20 --out merged.png\
"""


@dataclass(frozen=True, kw_only=True)
class Render(Common):
    """Make a turntable film (.gif, .webp, .mp4) or one picture (.png) of a field.

    Attributes:
        field: Field file.
        out: File to write; its ending chooses the format.
        turntable: One full turn around the middle of the field's box.
        frames: Frames of the turntable.
        size: Width and height in pixels.
        elevation: Degrees above the horizon.
        azimuth: For a picture: degrees around the up axis, 0 at the front (-y).
        fps: Frames a second.
        preview: Write the field out on a grid first: faster, softer, no dependence on direction.
        seed: Accepted by every verb; rendering draws nothing at random.
    """

    field: Annotated[Path, tyro.conf.Positional]
    out: Path
    turntable: Switch = False
    frames: int = 60
    size: int = 200
    elevation: float = 25.0
    azimuth: float = 0.0
    fps: float = 20.0
    preview: Switch = False
    seed: int = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Render, "render", args, EXAMPLES)
    suffix = options.out.suffix.lower()
    film = suffix in FORMATS
    if not film and suffix != ".png":
        raise InputError(
            f"--out {options.out}: expected .png, {', '.join(FORMATS)}; try "
            f"`memonf render {options.field} --out {options.out.with_suffix('.png')}`"
        )
    if options.turntable and not film:
        raise InputError(f"--turntable makes a film: --out must end in {', '.join(FORMATS)}")
    if film and not options.turntable:
        raise InputError(f"--out {options.out} is a film: add --turntable, or name a .png")
    for name, value in (("frames", options.frames), ("size", options.size), ("fps", options.fps)):
        if not value > 0:
            raise InputError(f"--{name}: expected a number > 0, received {value}")
    check_writable(options.out)
    field = load(options.field, pick_device(options.device))
    renderer = (
        preview(field) if options.preview else Renderer.of(field, FRAMES if film else PICTURES)
    )
    if not film:
        cameras = one_view(field_turntable(field, 360, options.size, options.elevation), options)
        write_png(to_bytes(renderer.view(cameras, 0).rgb), options.out)
    else:
        cameras = field_turntable(field, options.frames, options.size, options.elevation)
        frames = []
        with counting_progress("render", show=not options.quiet) as on_frame:
            for index in range(len(cameras)):
                frames.append(to_bytes(renderer.view(cameras, index).rgb))
                on_frame(index + 1, len(cameras))
        write_frames(frames, options.out, fps=options.fps)
    outcome = {"out": str(options.out), "frames": len(cameras), "size": options.size}
    print(json.dumps(outcome) if options.json else f"{options.out}: {len(cameras)} frame(s)")


def one_view(turn: Cameras, options: Render) -> Cameras:
    """The camera of a full turn in degrees that stands at the azimuth asked for."""
    return turn[[round(options.azimuth) % 360]]
