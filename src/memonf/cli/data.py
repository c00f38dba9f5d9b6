"""``memonf data``: look at a data set before training, or write parts of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field as Limits

from ..data import Background, Scene, load_scene
from ..errors import InputError
from ..evaluation.evaluate import sizes_in_words
from ..io.export.transforms import write_data_set
from ..typing import Seed
from ..utils.files import check_fresh_folder
from ..visualization.survey import draw_survey, survey
from .data_options import chosen_place
from .options import Common, Finite, NewFile, ResultsFolder, parse
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf data inspect fox
  memonf data inspect fox --png fox.png
  memonf data split fox --groups left right --out parts
  memonf data split lego --groups "sector 1/3" "sector 2/3" "sector 3/3" --out parts\
"""


@dataclass(frozen=True, kw_only=True)
class Data(Common):
    """Print and draw what a data set holds, or write parts of it as data sets of their own.

    The parts of a split lie in the coordinates of the whole, so that fields trained on them can be
    merged; each holds the training and the held-out views of its group.

    Attributes:
        action: What to do.
        data: NeRF-synthetic folder, capture (transforms.json, LLFF, COLMAP), .npz file, or
            embedded:NAME.
        png: For inspect: picture of cameras, box and azimuths to write.
        groups: For split: view groups, each a part.
        overlap: For split: degrees of azimuth that neighbouring groups share.
        out: For split: folder to write, one folder a part in it.
        front: Horizontal direction (x y) towards the front cameras; the format's own if left out.
        place: Where a capture lies: auto, keep (its own coordinates), or a field file's placement.
        half_side: Half a side of a capture's box, in its own units; all cameras if left out.
        background: Colour behind everything: white, black or R G B in [0, 1]; auto: what the data
            says, else white behind pictures with alpha and the borders' colour of others.
        seed: Accepted by every verb; nothing is drawn at random here.
    """

    action: Annotated[Literal["inspect", "split"], tyro.conf.Positional]
    data: Annotated[str, tyro.conf.Positional]
    png: NewFile | None = None
    groups: tuple[str, ...] = ("front", "rear")
    overlap: Annotated[float, Limits(ge=0, le=180)] = 0.0
    out: ResultsFolder | None = None
    front: Annotated[tuple[Finite, Finite] | None, tyro.conf.arg(metavar="X Y")] = None
    place: str = "auto"
    half_side: Annotated[float, Limits(gt=0, le=1e12)] | None = None
    background: Background = "auto"
    seed: Seed = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Data, "data", args, EXAMPLES)
    place = chosen_place(options.place)
    if options.png is not None and (
        options.action != "inspect" or options.png.suffix.lower() != ".png"
    ):
        raise InputError(f"--png {options.png}: expected a name that ends in .png, for inspect")
    if options.action == "split":
        check_split(options)
    scene = load_scene(
        options.data, front=options.front, place=place, half_side=options.half_side,
        background=options.background,
    )  # fmt: skip
    content = split(scene, options) if options.action == "split" else inspect(scene, options)
    if options.json:
        say(json.dumps(content))


def inspect(scene: Scene, options: Data) -> dict[str, Any]:
    """Print what was found, and draw it."""
    found = survey(scene)
    if options.png is not None:
        draw_survey(scene, options.png)
        found["png"] = str(options.png)
    if options.json:
        return found
    for key, value in found.items():
        if key == "splits":
            for name, row in value.items():
                sizes = sizes_in_words(scene.split(name).cameras)
                groups = ", ".join(f"{row[group]} {group}" for group in
                                   ("front", "rear", "left", "right"))  # fmt: skip
                kind = "RGBA" if row["channels"] == 4 else "RGB"
                counted = "" if row["counted"] == 1 else (
                    f"; {100 * row['counted']:.3g} % of the pixels count")  # fmt: skip
                say(f"{name}: {row['views']} views of {sizes}, {kind}; {groups}{counted}")
        elif key == "notes":
            for note in value:
                say(f"note: {note}")
        elif key == "object":
            say(f"object: {object_in_words(value)}")
        elif key == "placement":
            say(f"placement: {placement_in_words(value)}")
        else:
            say(f"{key}: {value}")
    return found


def object_in_words(found: dict[str, Any] | None) -> str:
    """How large what is seen is in the box."""
    if found is None:
        return "nothing outlines one, and the cameras do not look at one place"
    size = f"half a side of {found['half_side']:.3g}, {found['share']:.2g} of the box"
    return f"{size} (from {found['from']})" + (f"; {found['hint']}" if found["hint"] else "")


def placement_in_words(placement: dict[str, Any] | None) -> str:
    """What was done to the data set's coordinates."""
    if placement is None:
        return "none: the coordinates are the data set's own"
    return f"turned upright, centred, times {placement['scale']:.6g}; undone on export"


def check_split(options: Data) -> None:
    """Refuse parts that cannot be written, before any is."""
    if options.out is None:
        raise InputError("--out: expected the folder to write the parts into, received none")
    if len(set(options.groups)) != len(options.groups) or not options.groups:
        raise InputError("--groups: expected one or more view groups, each once")
    for group in options.groups:
        check_fresh_folder(folder_of(group, options))


def folder_of(group: str, options: Data) -> Path:
    """Where the part of a view group goes."""
    assert options.out is not None
    return options.out / group.replace(" ", "_").replace("/", "_of_")


def split(scene: Scene, options: Data) -> dict[str, Any]:
    """Write each part."""
    parts = {}
    for group in options.groups:
        views = {"train": scene.views("train", group, options.overlap)}
        for name in scene.loaders:
            if name != "train":
                try:
                    views[name] = scene.views(name, group, options.overlap)
                except InputError:  # it has no such view: the part goes without
                    continue
        folder = folder_of(group, options)
        write_data_set(scene, views, folder, divided=True)
        parts[group] = {
            "folder": str(folder), **{name: len(part) for name, part in views.items()}
        }  # fmt: skip
        if not options.json:
            counts = ", ".join(f"{len(part)} {name}" for name, part in views.items())
            say(f"{folder}: {counts} views of `{group}`")
    return parts
