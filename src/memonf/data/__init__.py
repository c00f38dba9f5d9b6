"""Data sets: one format per file, and the scenes that come with the package."""

from __future__ import annotations

import dataclasses
from importlib.resources import as_file, files
from pathlib import Path

from ..errors import DataError, nearest
from ..typing import PathLike
from . import blender, colmap, llff, npz, transforms
from .background import Background, named_colour
from .base import Pictures, Scene, Views, composite_on, in_group
from .capture import Place
from .narrowing import narrowed, settled

__all__ = [
    "Background", "Pictures", "Place", "Scene", "Views", "composite_on", "embedded_scenes",
    "in_group", "load_scene",
]  # fmt: skip

#: Tried in this order: captures of the world, which are placed, and scenes that are as they are.
CAPTURES = (
    (transforms.can_read, transforms.read),
    (llff.can_read, llff.read),
    (colmap.can_read, colmap.read),
)
FORMATS = ((blender.can_read, blender.read), (npz.can_read, npz.read))
EMBEDDED = "embedded:"
#: Files that mean their folder: one split of several.
SPLIT_FILES = tuple(f"transforms_{split}.json" for split in blender.SPLITS)


def embedded_scenes() -> list[str]:
    """Names of the scenes that come with the package, for ``embedded:NAME``."""
    folder = files(__name__) / "scenes"
    return sorted(
        file.name.removesuffix(".npz") for file in folder.iterdir() if file.name.endswith(".npz")
    )


def load_scene(
    data: PathLike,
    *,
    front: tuple[float, float] | None = None,
    place: Place = "auto",
    half_side: float | None = None,
    background: Background = "auto",
) -> Scene:
    """Open a data set, whatever its format.

    Args:
        data: A NeRF-synthetic folder, a capture (``transforms.json`` of nerfstudio or instant-ngp,
            LLFF, COLMAP), an ``.npz`` file, or ``embedded:NAME``. The file of one split, as
            ``transforms_train.json``, means its folder.
        front: Horizontal direction (x, y) towards the front cameras; None for the format's own:
            -y for Blender scenes, the middle of the cameras for captures.
        place: Of captures: ``auto`` turns them upright, centres them and scales their box to ±1.5;
            ``keep`` leaves their coordinates; or the `Placement` of an earlier field.
        half_side: Of captures: half a side of the box, in the capture's units; None for one that
            holds all cameras, or what the capture says.
        background: Colour behind everything: rgb in [0, 1], ``white`` or ``black``; ``auto`` for
            what the data set says, else white behind pictures with an alpha channel and the colour
            of the borders of those without.

    Raises:
        DataError: Nothing there, in no known format, or not a capture where it has to be one.
        InputError: `background` is no colour.
    """
    named_colour(background)
    scene = open_scene(str(data), place, half_side, background)
    return scene if front is None else dataclasses.replace(scene, front=front)


def open_scene(data: str, place: Place, half_side: float | None, background: Background) -> Scene:
    """Find the format that reads `data`."""
    if data.startswith(EMBEDDED):
        name = data.removeprefix(EMBEDDED)
        if name not in embedded_scenes():
            raise DataError(
                f"no embedded scene `{name}`: {nearest(name, embedded_scenes())}; "
                "`memonf scenes` says what they show"
            )
        with as_file(files(__name__) / "scenes" / f"{name}.npz") as path:
            return npz.read(path, background)
    path = Path(data)
    if path.name in SPLIT_FILES and path.is_file():
        # Its views alone would be trained on and held out as well, whatever split they are.
        scene = open_scene(str(path.parent), place, half_side, background)
        note = f"{path.name} is one split of its folder: all of them are read"
        return dataclasses.replace(scene, notes=(note, *scene.notes))
    if not path.exists():
        raise DataError(
            f"{data}: there is no such file or folder; `memonf scenes` lists the embedded scenes"
        )
    for can_read, read_capture in CAPTURES:
        if can_read(path):
            return narrowed(read_capture(path, place, half_side, background))
    for can_read, read in FORMATS:
        if can_read(path):
            return settled(read(path, background), place, half_side)
    raise DataError(
        f"{data}: expected a folder with transforms_train.json (NeRF-synthetic), transforms.json "
        "(nerfstudio, instant-ngp), poses_bounds.npy (LLFF) or sparse/0 (COLMAP), or an .npz file "
        "with images, poses and focal; `--data embedded:robot` needs none of them"
    )
