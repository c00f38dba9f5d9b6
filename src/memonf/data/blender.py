"""NeRF-synthetic folders: ``transforms_{train,val,test}.json`` beside RGBA pictures.

Reference:
    Mildenhall et al. 2020, arXiv 2003.08934; the layout of its ``nerf_synthetic`` data.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cameras.cameras import Cameras
from ..errors import DataError
from .background import (
    BORDER_VIEWS,
    COLOUR_KEYS,
    SWITCHES,
    Background,
    Colour,
    behind_pictures,
    colour_note,
    colour_of_file,
    colour_text,
    named_colour,
)
from .base import Scene, Views
from .keys import KeyNotes, Keys
from .lookup import ENDINGS, PictureFinder, none_there
from .masks import unnamed_notes
from .pictures import picture_header, read_picture, read_pictures
from .poses import rigid
from .sources import read_json
from .splits import ListedView, separated
from .storage import keep
from .view_names import picture_names, view_names

__all__ = ["can_read", "read"]

#: NeRF-synthetic objects lie well inside this box; its cameras circle at a distance of about 4.
HALF_SIDE = 1.5
NEAR, FAR = 2.0, 6.0
SPLITS = ("train", "val", "test")
#: Widths over heights that differ by no more than this share are one shape, rounded to pixels.
SAME_SHAPE = 0.02
#: Keys that are read; a file with others that change the cameras is read as a capture.
SYNTHETIC_FILE = frozenset(
    {"frames", "camera_angle_x", "camera_angle_y", "n_frames", *COLOUR_KEYS, *SWITCHES}
)
SYNTHETIC_FRAME = frozenset({"file_path", "transform_matrix"})
FILE_KEYS, FRAME_KEYS = Keys(SYNTHETIC_FILE), Keys(SYNTHETIC_FRAME)


def can_read(path: Path) -> bool:
    """Whether `path` is a folder in this layout."""
    return path.is_dir() and any((path / f"transforms_{name}.json").exists() for name in SPLITS)


@dataclass(frozen=True)
class Listed:
    """What a ``transforms_*.json`` lists: its pictures and their cameras.

    Attributes:
        file: The file.
        paths: Pictures.
        poses: (views, 3, 4), rigid.
        angles: Horizontal and vertical field of view, radians; the vertical one None where pixels
            are square.
        background: Colour behind everything and the key that says it; None if it is not said.
        notes: What was found, a sentence each.
        missing: Of each picture that is not there, its name and where it stands in the file.
    """

    file: Path
    paths: tuple[Path, ...]
    poses: np.ndarray
    angles: tuple[float, float | None]
    background: tuple[Colour, str] | None
    notes: tuple[str, ...]
    missing: Mapping[int, tuple[str, str]]

    def there(self) -> tuple[Path, ...]:
        """The pictures that are there.

        Raises:
            DataError: There is none.
        """
        found = [path for place, path in enumerate(self.paths) if place not in self.missing]
        if not found:
            names = [name for name, _ in self.missing.values()]
            raise none_there(names, f"{self.file.parent}", self.file.name, self.file.parent)
        return tuple(found)

    def only(self, places: Sequence[int]) -> Listed:
        """Some of its views."""
        missing = {new: self.missing[old] for new, old in enumerate(places) if old in self.missing}
        paths = tuple(self.paths[place] for place in places)
        return replace(self, paths=paths, poses=self.poses[list(places)], missing=missing)


def read(path: Path, background: Background = "auto") -> Scene:
    """Open the folder; pictures are read when a split is first asked for.

    Args:
        path: The folder.
        background: Colour behind everything; ``auto`` for what the files say, else white behind
            pictures with alpha and the colour of the borders of those without.

    Raises:
        DataError: Broken JSON, missing keys, keys that are refused, no picture of the first split,
            unusable poses, training views that are all held out as well.
    """
    finder = PictureFinder(path, smaller=False)
    files = {name: path / f"transforms_{name}.json" for name in SPLITS}
    every = {name: listed(finder, file) for name, file in files.items() if file.exists()}
    kept, shared = separated(views_of(every))
    splits = {name: split.only(kept[name]) for name, split in every.items() if kept[name]}
    first = next(iter(splits.values()))
    notes = [note for split in splits.values() for note in split.notes]
    notes += [*shared, *finder.notes()]
    first_there = first.there()
    pictures = [*first_there, *(
        picture for split in list(splits.values())[1:]
        for place, picture in enumerate(split.paths) if place not in split.missing
    )]  # fmt: skip
    notes += unnamed_notes(path, pictures)
    colour, noted = background_of(background, first)
    half = torch.full((3,), HALF_SIDE)
    aabb = torch.stack([-half, half])
    with_alpha = sum(picture_header(picture).channels == 4 for picture in pictures)
    if 0 < with_alpha < len(pictures):
        notes.append(
            f"{with_alpha} of {len(pictures)} pictures have an alpha channel, the others count as "
            "opaque"
        )
    notes += noted
    return Scene(
        name=path.resolve().name,
        loaders={name: partial(read_split, split) for name, split in splits.items()},
        aabb=aabb,
        near=NEAR,
        far=FAR,
        background=colour,
        background_given=background != "auto",
        notes=tuple(dict.fromkeys(notes)),
    )


def views_of(splits: Mapping[str, Listed]) -> dict[str, list[ListedView]]:
    """What tells the views of all splits apart."""
    names = iter(picture_names([path for split in splits.values() for path in split.paths]))
    return {
        name: [
            ListedView(next(names), pose, path)
            for path, pose in zip(split.paths, split.poses, strict=True)
        ]
        for name, split in splits.items()
    }


def background_of(background: Background, first: Listed) -> tuple[Colour, list[str]]:
    """The colour behind everything, and a note on where it comes from if that is not plain."""
    named = named_colour(background)
    if named is not None:
        return named, []
    if first.background is not None:
        colour, key = first.background
        return colour, [f"background {colour_text(colour)} from `{key}`"]
    pictures = first.there()
    step = -(-len(pictures) // BORDER_VIEWS)
    colour, translucent = behind_pictures(map(read_picture, pictures[::step]))
    return colour, [] if translucent else [colour_note(colour)]


def listed(finder: PictureFinder, file: Path) -> Listed:
    """Read one ``transforms_*.json``.

    Raises:
        DataError: Broken JSON, missing keys, unusable poses.
    """
    content = read_json(file)
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        raise DataError(f"{file}: expected a list `frames` with at least one frame")
    keys = KeyNotes()
    keys.look(content, FILE_KEYS, f"{file}")
    paths, poses, missing = [], [], {}
    for number, frame in enumerate(frames):
        where = f"{file}: frame {number}"
        if not isinstance(frame, dict) or not {"file_path", "transform_matrix"} <= frame.keys():
            raise DataError(f"{where}: expected keys `file_path` and `transform_matrix`")
        keys.look(frame, FRAME_KEYS, where, "frames")
        name = str(frame["file_path"])
        picture = finder.find(name, where)
        if picture is None:
            ending = "" if Path(name).suffix.lower() in ENDINGS else ENDINGS[0]
            missing[number] = (finder.missing[-1] + ending, where)
            picture = finder.folder / (name + ending)
        paths.append(picture)
        poses.append(pose_matrix(frame["transform_matrix"], where))
    turned, scaled = rigid(np.stack(poses), picture_names(paths), f"{file}")
    across = angle_of(content, "camera_angle_x", file)
    down = angle_of(content, "camera_angle_y", file) if "camera_angle_y" in content else None
    return Listed(
        file, tuple(paths), turned, (across, down), colour_of_file(content, f"{file}"),
        (*keys.notes(), *(f"{file.name}: {note}" for note in scaled)), missing,
    )  # fmt: skip


def angle_of(content: dict[str, Any], key: str, file: Path) -> float:
    """A field of view in radians."""
    angle = content.get(key)
    if not isinstance(angle, (int, float)) or not 0 < angle < math.pi:
        raise DataError(f"{file}: `{key}`: expected radians in (0, pi), received {angle!r}")
    return float(angle)


def cameras_of(split: Listed, sizes: Sequence[tuple[int, int]]) -> Cameras:
    """The cameras of a split, for pictures of these sizes.

    Raises:
        DataError: Pictures of another shape than the first, unusable poses.
    """
    across, down = split.angles
    width, height = sizes[0]
    for picture, size in zip(split.paths, sizes, strict=True):
        if not math.isclose(size[0] / size[1], width / height, rel_tol=SAME_SHAPE):
            raise DataError(
                f"{picture}: {size[0]}x{size[1]} pixels, the first picture has {width}x{height}: "
                "one `camera_angle_x` cannot be right for both; give each frame `w`, `h` and `fl_x`"
            )
    focal = 0.5 * width / math.tan(0.5 * across)
    try:
        cameras = Cameras.pinhole(torch.from_numpy(split.poses), focal, width, height)
    except DataError as error:
        raise DataError(f"{split.file}: {error}") from None
    if down is not None:
        cameras.intrinsics[:, 1] = 0.5 * height / math.tan(0.5 * down)
    return cameras.with_sizes(torch.tensor(sizes))


def read_split(split: Listed) -> Views:
    """Read all pictures of a split.

    Raises:
        DataError: A picture that is not there or cannot be read, or one of another shape than the
            first.
    """
    split.there()
    for name, where in split.missing.values():
        more = len(split.missing) - 1
        raise DataError(
            f"{where}: picture {name} is not there{f' (and {more} more)' * (more > 0)}; copy it or "
            "remove the frame"
        )
    headers = [picture_header(picture) for picture in split.paths]
    sizes = [header.stored for header in headers]
    channels = max(header.channels for header in headers)
    cameras = cameras_of(split, sizes)
    images = keep(
        read_pictures(split.paths, channels=channels), sizes, channels,
        origin=str(split.file.resolve()), sources=split.paths,
    )  # fmt: skip
    return Views(cameras, images, view_names(split.paths))


def pose_matrix(values: Any, where: str) -> np.ndarray:
    """Upper three rows of a 4x4 (or 3x4) camera-to-world matrix, in double precision."""
    matrix: np.ndarray = np.empty(0)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        matrix = np.asarray(values, dtype=np.float64)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise DataError(f"{where}: `transform_matrix`: expected 4x4 numbers")
    if len(matrix) == 4 and not np.allclose(matrix[3], (0, 0, 0, 1), rtol=0, atol=1e-6):
        raise DataError(
            f"{where}: `transform_matrix`: expected 0 0 0 1 as its last row, received "
            f"{' '.join(f'{value:g}' for value in matrix[3])}; is it transposed?"
        )
    return matrix[:3]
