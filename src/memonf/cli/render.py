"""``memonf render``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field as Limits

from ..cameras.cameras import Cameras
from ..cameras.keyframes import CameraPath
from ..data.sources import read_bytes
from ..errors import DataError, InputError
from ..fields import Field
from ..io.checkpoint import load
from ..rendering.baking import preview
from ..rendering.volume_rendering import FRAMES, PICTURES, Renderer
from ..typing import Seed
from ..utils.devices import pick_device
from ..visualization.images import write_png
from ..visualization.turntables import PATHS, field_path, field_turntable
from ..visualization.video import FORMATS, MOST_FRAMES, Film, check_film, drawn, write_frames
from .options import Common, NewFile, Switch, parse
from .progress import counting_progress
from .terminal import say

__all__ = ["run"]

#: Bytes; a camera takes some hundreds.
MOST_PATH = 1 << 24

EXAMPLES = """\
  memonf render merged.safetensors --turntable --frames 60 --size 200 --out merged.gif
  memonf render merged.safetensors --turntable --preview --out merged.mp4
  memonf render fox.safetensors --path sway --frames 60 --out fox.mp4
  memonf render merged.safetensors --path tour.json --frames 120 --out tour.webp
  memonf render merged.safetensors --azimuth 45 --elevation 20 --out merged.png\
"""


@dataclass(frozen=True, kw_only=True)
class Render(Common):
    """Make a turntable film (.gif, .webp, .mp4) or one picture (.png) of a field.

    Attributes:
        field: Field file.
        out: File to write; its ending chooses the format.
        turntable: One full turn around the middle of the field's box; short for --path turntable.
        path: Of a film: turntable, sway (side to side within what the cameras saw), spiral, auto
            (turntable, or sway for a capture from one side), or a camera path file (.json) as the
            viewer saves it.
        frames: Frames of the film.
        size: Width and height in pixels.
        elevation: Degrees above the horizon.
        azimuth: For a picture: degrees around the up axis, 0 at the front (-y).
        fps: Frames a second.
        preview: Write the field out on a grid first: faster, softer, no dependence on direction.
        seed: Accepted by every verb; rendering draws nothing at random.
    """

    field: Annotated[Path, tyro.conf.Positional]
    out: NewFile
    turntable: Switch = False
    path: str | None = None
    frames: Annotated[int, Limits(ge=1, le=MOST_FRAMES)] = 60
    size: Annotated[int, Limits(ge=1, le=65535)] = 200
    elevation: Annotated[float, Limits(ge=-90, le=90)] = 25.0
    azimuth: Annotated[float, Limits(ge=-3600, le=3600)] = 0.0
    fps: Annotated[float, Limits(ge=0.01, le=1000)] = 20.0
    preview: Switch = False
    seed: Seed = 0


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
    path = "turntable" if options.turntable and options.path is None else options.path
    if path is not None and not film:
        flag = "--turntable" if options.turntable else "--path"
        raise InputError(f"{flag} makes a film: --out must end in {', '.join(FORMATS)}")
    if film and path is None:
        raise InputError(f"--out {options.out} is a film: add --turntable, or name a .png")
    check_film(options.out, options.frames if film else 1, options.size, options.size)
    field = load(options.field, pick_device(options.device))
    renderer = (
        preview(field) if options.preview else Renderer.of(field, FRAMES if film else PICTURES)
    )
    if not film:
        cameras = one_view(field_turntable(field, 360, options.size, options.elevation), options)
        with counting_progress("render", show=not options.quiet) as on_ray:
            write_png(drawn(renderer, cameras, 0, on_ray), options.out)
    else:
        assert path is not None
        cameras = film_cameras(field, path, options)
        with counting_progress("render", show=not options.quiet) as on_frame:
            film_of_them = Film(renderer, cameras, on_frame)
            write_frames(film_of_them, options.out, fps=options.fps)
    outcome = {"out": str(options.out), "frames": len(cameras), "size": options.size}
    say(json.dumps(outcome) if options.json else f"{options.out}: {len(cameras)} frame(s)")


def film_cameras(field: Field, path: str, options: Render) -> Cameras:
    """The cameras of a film."""
    if path == "turntable":
        return field_turntable(field, options.frames, options.size, options.elevation)
    if path in (*PATHS, "auto"):
        return field_path(field, options.frames, options.size, path)
    file = Path(path)
    if file.suffix.lower() != ".json":
        raise InputError(
            f"--path {path}: expected {', '.join(PATHS)}, auto, or a camera path file (.json)"
        )
    try:
        chosen = CameraPath.from_json(read_bytes(file, MOST_PATH).decode())
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"--path {path}: {error}") from None
    return chosen.cameras(options.frames, options.size, options.size)


def one_view(turn: Cameras, options: Render) -> Cameras:
    """The camera of a full turn in degrees that stands at the azimuth asked for."""
    return turn[[round(options.azimuth) % 360]]
