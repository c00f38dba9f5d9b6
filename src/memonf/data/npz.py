"""Scenes in one ``.npz`` file, in two layouts.

* bmild's ``tiny_nerf_data``: ``images`` (N, height, width, 3) float in [0, 1], ``poses``
  (N, 4, 4), ``focal``; the first 100 are for training, the rest for tests.
* packed: ``images_S`` uint8 RGB or RGBA and ``poses_S`` for splits S in train, val, test,
  ``focal``. The embedded scenes are in this layout.

Both may have ``aabb`` (2, 3), ``near``, ``far``, ``background`` (3,) and a ``title``.
"""

from __future__ import annotations

import itertools
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cameras.cameras import Cameras
from ..errors import DataError, decoding
from .background import (
    BORDER_VIEWS,
    Background,
    Colour,
    behind_pictures,
    colour_in,
    colour_note,
    named_colour,
)
from .base import Scene, Views
from .blender import FAR, HALF_SIDE, NEAR, SPLITS
from .keys import ELSEWHERE, REFUSED, SAID, KeyNotes, Keys
from .poses import rigid
from .splits import ListedView, separated, small
from .storage import keep

__all__ = ["can_read", "read"]

#: Number of training views of the one-array layout.
BMILD_TRAIN = 100
#: What arrays mean beside the pictures; cameras are pinholes with square pixels.
PINHOLE = "cameras of this layout are `focal` alone: write the set as transforms.json instead"
ARRAYS = Keys(
    frozenset({"images", "poses", "focal", "aabb", "title", "background", "near", "far"}
              | {f"{kind}_{name}" for kind in ("images", "poses") for name in SPLITS}),
    said={**SAID, "masks*": "not read: all pixels count; write the set as transforms.json",
          "bounds*": "not read: `near` and `far` are"},
    refused={**REFUSED, "k": PINHOLE, "k[1-4]": PINHOLE, "p[12]": PINHOLE, "c[xy]": PINHOLE,
             "f[xy]": PINHOLE, "fl_[xy]": PINHOLE, "focal_*": PINHOLE, "focal[xy]": PINHOLE,
             "intrinsic*": PINHOLE, "hwf": PINHOLE, "camera_angle_*": PINHOLE,
             "scale": ELSEWHERE, "offset": ELSEWHERE},
)  # fmt: skip
#: Bytes of anything in an archive but its pictures.
MOST_BYTES = 64 << 20


def can_read(path: Path) -> bool:
    """Whether `path` is a file that numpy writes archives as."""
    return path.is_file() and path.suffix == ".npz"


def read(path: Path, background: Background = "auto") -> Scene:
    """Open the archive; pictures are read when a split is first asked for.

    Args:
        path: The file.
        background: Colour behind everything; ``auto`` for what the archive says, else white behind
            pictures with alpha and the colour of the borders of those without.

    Raises:
        DataError: Not an archive, in neither layout, or with an array that is refused.
    """
    seen = KeyNotes()
    with decoding(f"{path}: cannot be read as .npz"):
        check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            keys = set(archive.files)
            asked = [key for key in archive.files if ARRAYS.meaning(key)[0] in ("refused", "said")]
            seen.look(dict.fromkeys(keys.difference(asked), True), ARRAYS, f"{path}")
            seen.look({key: array_of(archive, key) for key in asked}, ARRAYS, f"{path}")
            aabb = torch.from_numpy(array_of(archive, "aabb")).float() if "aabb" in keys else None
            title = str(array_of(archive, "title")) if "title" in keys else ""
            near, far = (
                float(array_of(archive, key)) if key in keys else default
                for key, default in (("near", NEAR), ("far", FAR))
            )
            said = array_of(archive, "background").tolist() if "background" in keys else None
    packed = [name for name in SPLITS if {f"images_{name}", f"poses_{name}"} <= keys]
    single = {"images", "poses"} <= keys
    if "focal" not in keys or not (packed or single):
        raise DataError(
            f"{path}: expected `focal` and `images`, `poses` or `images_train`, `poses_train`, …; "
            f"received {', '.join(sorted(keys)) or 'nothing'}"
        )
    if not 0 <= near < far < math.inf:
        raise DataError(f"{path}: expected 0 <= `near` < `far`, received {near} and {far}")
    parts: dict[str, tuple[str, slice]] = {name: (f"_{name}", slice(None)) for name in packed}
    if not packed:
        parts = {"train": ("", slice(0, BMILD_TRAIN)), "test": ("", slice(BMILD_TRAIN, None))}
        if empty(path, parts["test"][1]):
            del parts["test"]
    notes = seen.notes()
    views = {}
    for name, (suffix, part) in parts.items():
        cameras, _, found = cameras_of(path, suffix, part)
        notes += found
        places = place_names(f"poses{suffix}", part, len(cameras))
        poses = cameras.camera_to_world.numpy()
        looks = cache(partial(small_pictures, path, f"images{suffix}", part))
        views[name] = [
            ListedView(place, pose, look=partial(picture_of, looks, view))
            for view, (place, pose) in enumerate(zip(places, poses, strict=True))
        ]
    kept, shared = separated(views)
    notes += shared
    half = torch.full((3,), HALF_SIDE)
    aabb = torch.stack([-half, half]) if aabb is None else aabb
    suffix = next(iter(parts.values()))[0]
    colour, noted = background_of(background, said, path, f"images{suffix}")
    return Scene(
        name=path.stem,
        loaders={
            name: partial(read_arrays, path, *where, tuple(kept[name]))
            for name, where in parts.items()
            if kept[name]
        },
        aabb=aabb,
        near=near,
        far=far,
        background=colour,
        background_given=background != "auto",
        title=title,
        notes=tuple(dict.fromkeys([*notes, *noted])),
        box_given="aabb" in keys,
    )


def background_of(
    background: Background, said: Any, path: Path, key: str
) -> tuple[Colour, list[str]]:
    """The colour behind everything, and a note on where it comes from if that is not plain."""
    named = named_colour(background)
    if named is not None:
        return named, []
    if said is not None:
        return colour_in(said, f"{path}: `background`"), []
    colour, translucent = behind_pictures(read_pictures(path, key, slice(0, BORDER_VIEWS)))
    return colour, [] if translucent else [colour_note(colour)]


def empty(path: Path, part: slice) -> bool:
    """Whether a part of the one-array layout has no pictures."""
    with decoding(f"{path}: `images`: cannot be read"):
        shape = picture_shape(path, "images", part)
    return not shape or shape[0] == 0


def cameras_of(
    path: Path, suffix: str, part: slice
) -> tuple[Cameras, tuple[int, int, int, int], list[str]]:
    """Cameras of the poses whose key ends in `suffix`, shape of their pictures, and notes.

    Raises:
        DataError: Other shapes than expected, unusable poses.
    """
    key = f"images{suffix}"
    with decoding(f"{path}: `{key}`: cannot be read"):
        shape = picture_shape(path, key, part)
        with np.load(path, allow_pickle=False) as archive:
            poses = array_of(archive, f"poses{suffix}")[part]
            focal = float(array_of(archive, "focal"))
    if len(shape) != 4 or shape[-1] not in (3, 4) or shape[0] == 0:
        raise DataError(
            f"{path}: `{key}`: expected (views, height, width, 3 or 4) with at least one view, "
            f"received {shape}"
        )
    if poses.shape != (shape[0], 4, 4):
        raise DataError(
            f"{path}: `poses{suffix}`: expected ({shape[0]}, 4, 4), received {poses.shape}"
        )
    if poses.dtype.kind not in "fiu":
        raise DataError(f"{path}: `poses{suffix}`: expected numbers, received {poses.dtype}")
    places = place_names(f"poses{suffix}", part, shape[0])
    turned, notes = rigid(poses[:, :3], places, f"{path}")
    try:
        cameras = Cameras.pinhole(torch.from_numpy(turned), focal, shape[2], shape[1], places)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    views, height, width, channels = shape
    return cameras, (views, height, width, channels), notes


def picture_of(pictures: Callable[[], list[np.ndarray]], view: int) -> np.ndarray:
    """One of some pictures that are read when the first of them is asked for."""
    return pictures()[view]


def small_pictures(path: Path, key: str, part: slice) -> list[np.ndarray]:
    """All pictures of a part, made small."""
    return [small(picture) for picture in read_pictures(path, key, part)]


def names_of(suffix: str, count: int) -> tuple[str, ...]:
    """Names of the views of a split."""
    return tuple(f"{suffix.strip('_') or 'view'}_{index}" for index in range(count))


def place_names(key: str, part: slice, count: int) -> list[str]:
    """Name of each of `count` entries of a part of an array: its place in the whole."""
    return [f"{key}[{place}]" for place in range(part.start or 0, (part.start or 0) + count)]


def read_arrays(path: Path, suffix: str, part: slice, kept: tuple[int, ...]) -> Views:
    """Read the images and poses whose keys end in `suffix`; of `part`, those at places `kept`."""
    key = f"images{suffix}"
    cameras, shape, _ = cameras_of(path, suffix, part)
    images = keep(
        read_pictures(path, key, part), [(shape[2], shape[1])] * shape[0], shape[3],
        origin=f"{path.resolve()} {key} {part}", sources=[path],
    )  # fmt: skip
    views = Views(cameras, images, names_of(suffix, len(images)))
    return views if len(kept) == len(views) else views[list(kept)]


def array_of(archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    """An array of an archive; NumPy hands out a member that is none as its bytes.

    Raises:
        ValueError: It is none.
    """
    found = archive[key]
    if not isinstance(found, np.ndarray):
        raise ValueError(f"`{key}` is no array")
    return found


def check_sizes(path: Path) -> None:
    """Refuse an archive whose small arrays unpack to something huge: a bomb."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.startswith("images") and entry.file_size > MOST_BYTES:
                raise DataError(
                    f"{path}: `{entry.filename}` claims {entry.file_size} bytes, more than any "
                    "number of cameras takes"
                )


def picture_shape(path: Path, key: str, part: slice) -> tuple[int, ...]:
    """Shape of an array of an archive, without its numbers; `part` of the first axis."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        shape, _, _ = read_header(member)
    return (len(range(*part.indices(shape[0]))), *shape[1:]) if shape else shape


def read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape of the array in an open file, whether its first axis is the fastest, and its type.

    Raises:
        ValueError: It holds Python objects, or is no array.
    """
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, first_fastest, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, first_fastest, dtype


def read_pictures(path: Path, key: str, part: slice) -> Iterator[np.ndarray]:
    """Read pictures one after the other, as 8 bit.

    Raises:
        DataError: The archive is broken, or a value is not in [0, 1].
    """
    with (
        decoding(f"{path}: `{key}`: cannot be read"),
        zipfile.ZipFile(path) as archive,
        archive.open(f"{key}.npy") as member,
    ):
        shape, first_fastest, dtype = read_header(member)
        if first_fastest:
            pictures: Iterable[np.ndarray] = np.load(path, allow_pickle=False)[key]
        else:
            size = math.prod(shape[1:]) * dtype.itemsize
            pictures = (
                np.frombuffer(member.read(size), dtype).reshape(shape[1:]) for _ in range(shape[0])
            )
        for picture in itertools.islice(pictures, part.start, part.stop):
            yield to_bytes(picture, f"{path}: `{key}`")


def to_bytes(picture: np.ndarray, where: str) -> np.ndarray:
    """8 bit as it is, float in [0, 1] rounded to 8 bit."""
    if picture.dtype == np.uint8:
        return picture
    if not np.isfinite(picture).all() or picture.min() < 0 or picture.max() > 1:
        raise DataError(f"{where}: expected uint8, or float in [0, 1]")
    return np.round(picture * 255).astype(np.uint8)
