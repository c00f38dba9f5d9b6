"""``transforms.json`` as nerfstudio and instant-ngp write it.

Intrinsics, lens and size stand once for all frames, or with each frame; poses are OpenGL's. A frame
whose picture is not there is left out and named. ``transforms_train.json`` and its like are the
splits, else nerfstudio's ``train_filenames`` and its like, else every eighth view is held out.

Reference:
    https://docs.nerf.studio/quickstart/data_conventions.html; Müller et al. 2022, instant-ngp.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DataError
from .background import Background, colour_of_file
from .base import Scene
from .blender import SPLITS, SYNTHETIC_FILE, SYNTHETIC_FRAME, pose_matrix
from .boxes import box_of_file, up_of_file
from .capture import Frame, Layout, Place, Said, build_scene, left_out
from .keys import JSON_FILE, JSON_FRAME, KeyNotes
from .masks import dynamic_mask, unnamed_notes
from .sources import inside, read_json

__all__ = ["LAYOUT", "can_read", "read"]

#: Where a data set that MeMo NF wrote says how its scene lies.
LAYOUT = "memonf"
#: Keys that a NeRF-synthetic file may have: all others that are read here make it a capture.
SYNTHETIC = SYNTHETIC_FILE | SYNTHETIC_FRAME
#: nerfstudio's names of camera models, and whether they are fisheyes.
MODELS = {
    "OPENCV": False, "PINHOLE": False, "SIMPLE_PINHOLE": False, "PERSPECTIVE": False,
    "SIMPLE_RADIAL": False, "RADIAL": False, "OPENCV_FISHEYE": True,
}  # fmt: skip
#: How files call the directions of a camera's columns, lower case: OpenGL's, or OpenCV's.
CONVENTION_KEYS = (
    "camera_convention", "pose_convention", "coordinate_convention", "coordinate_system",
)  # fmt: skip
OPENGL = ("opengl", "gl", "blender", "nerf", "nerfstudio", "instant-ngp", "rub")
OPENCV = ("opencv", "cv", "colmap", "rdf")
LENS_KEYS = ("k1", "k2", "k3", "k4", "p1", "p2")
#: Endings that are tried where a frame names its picture without one.
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".JPG", ".PNG")


def files_of(path: Path) -> dict[str, Path]:
    """The transforms files of a folder: the whole, or its splits."""
    if path.is_file():
        return {"all": path} if path.suffix == ".json" else {}
    splits = {name: path / f"transforms_{name}.json" for name in SPLITS}
    there = {name: file for name, file in splits.items() if file.is_file()}
    if "train" in there:
        return there
    whole = path / "transforms.json"
    return {"all": whole} if whole.is_file() else {}


def can_read(path: Path) -> bool:
    """Whether `path` is such a file, or a folder with one."""
    files = files_of(path)
    if "all" in files:
        return True
    try:
        return "train" in files and any(says_more(read_json(file)) for file in files.values())
    except DataError:
        return False  # the reader of the other layout says what is wrong


def says_more(content: dict[str, Any]) -> bool:
    """Whether a file has a key, its own or a frame's, that a NeRF-synthetic file does not have."""
    frames = content.get("frames")
    entries = [frame for frame in frames if isinstance(frame, dict)] if (
        isinstance(frames, list)) else []  # fmt: skip
    return bool((JSON_FILE.read - SYNTHETIC) & content.keys()) or any(
        (JSON_FRAME.read - SYNTHETIC) & frame.keys() for frame in entries
    )


def read(
    path: Path,
    place: Place = "auto",
    half_side: float | None = None,
    background: Background = "auto",
) -> Scene:
    """Open the capture; pictures are read when a split is first asked for.

    Args:
        path: The folder or the file.
        place: How the scene is placed, see `memonf.data.capture`.
        half_side: Half a side of the box, world units; None for that of the file, or one that holds
            all cameras.
        background: Colour behind everything; ``auto`` for that of the file or the pictures.

    Raises:
        DataError: Broken JSON, missing keys, keys that are refused, unusable poses.
    """
    files = files_of(path)
    folder = path if path.is_dir() else path.parent
    splits: dict[str, list[Frame]] = {}
    notes: list[str] = []
    missing: list[str] = []
    layout, said, keys = None, None, KeyNotes()
    for split, file in files.items():
        content = read_json(file)
        frames = read_frames(folder, file, content, missing, keys)
        if split != "all":
            splits[split] = frames
        else:
            splits = split_by_names(folder, file, content, frames)
        here = Said(
            box_of_file(content, f"{file}"), up_of_file(content, f"{file}"),
            colour_of_file(content, f"{file}"),
        )  # fmt: skip
        said = said or here
        if not same(said, here):
            notes.append(f"{file.name} says another box, up or background than the first file does")
        if LAYOUT in content:
            layout = read_layout(content[LAYOUT], file)
    pictures = [frame.picture for part in splits.values() for frame in part]
    named = any(frame.mask for part in splits.values() for frame in part)
    return build_scene(
        folder.resolve().name, splits, place=place, half_side=half_side, background=background,
        layout=layout, said=said or Said(),
        notes=[
            *dict.fromkeys(notes), *keys.notes(), *left_out(missing),
            *([] if named else unnamed_notes(folder, pictures)),
        ],
    )  # fmt: skip


def same(one: Said, other: Said) -> bool:
    """Whether two files say the same of their scene."""
    return (one.box, one.background) == (other.box, other.background) and (
        one.up is other.up is None
        or (one.up is not None and other.up is not None and torch.equal(one.up, other.up))
    )


def read_layout(values: Any, file: Path) -> Layout:
    """The layout of a data set that MeMo NF wrote."""
    try:
        return Layout.from_dict(values)
    except DataError as error:
        raise DataError(f"{file}: `{LAYOUT}`: {error}") from None


def read_frames(
    folder: Path, file: Path, content: dict[str, Any], missing: list[str], keys: KeyNotes
) -> list[Frame]:
    """Frames whose pictures are there; names of the others are added to `missing`.

    What is to be said of keys that are not read is added to `keys`.
    """
    keys.look(content, JSON_FILE, f"{file}")
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        raise DataError(f"{file}: expected a list `frames` with at least one frame")
    said = content.get("n_frames")
    if isinstance(said, int) and said < len(frames):
        keys.said["n_frames"] = f"{said:g} is not followed: all {len(frames)} frames are read"
    found = []
    for number, frame in enumerate(frames):
        where = f"{file}: frame {number}"
        if not isinstance(frame, dict) or not {"file_path", "transform_matrix"} <= frame.keys():
            raise DataError(f"{where}: expected keys `file_path` and `transform_matrix`")
        keys.look(frame, JSON_FRAME, where, "frames")
        name = str(frame["file_path"])
        picture = existing(inside(folder, name, where))
        if picture is None:
            missing.append(name)
            continue
        mask = frame.get("mask_path")
        found.append(
            read_frame(
                {**content, **frame}, where, picture,
                None if mask is None else inside(folder, str(mask), where), keys,
            )
        )  # fmt: skip
    moving = sum(frame.moving is not None for frame in found)
    if moving:
        keys.said["dynamic_mask_NAME.png"] = (
            f"lies beside {moving} of {len(found)} pictures: what it shows is left out"
        )
    return found


def existing(path: Path) -> Path | None:
    """The picture that a frame names, with an ending where it names none."""
    if path.is_file():
        return path
    if path.suffix == "":
        for ending in ENDINGS:
            if (other := path.with_name(path.name + ending)).is_file():
                return other
    return None


def read_frame(
    values: dict[str, Any], where: str, picture: Path, mask: Path | None, keys: KeyNotes
) -> Frame:
    """One frame; `values` are its own and, where it has none, those of all frames."""
    model = str(values.get("camera_model", "OPENCV"))
    if model not in MODELS:
        raise DataError(
            f"{where}: camera model `{model}`; known are {', '.join(MODELS)}: undistort the "
            "pictures, for example with COLMAP"
        )
    fisheye = MODELS[model] or bool(values.get("is_fisheye"))
    size = None
    if values.get("w") is not None and values.get("h") is not None:
        size = (round(number(values, "w", where, 1.0)), round(number(values, "h", where, 1.0)))
    fx, fy = focal_lengths(values, size, where, keys)
    if ("cx" not in values or "cy" not in values) and size is None:
        raise DataError(f"{where}: expected `cx` and `cy`, or `w` and `h`")
    cx = number(values, "cx", where) if "cx" in values else 0.5 * (size or (0, 0))[0]
    cy = number(values, "cy", where) if "cy" in values else 0.5 * (size or (0, 0))[1]
    k1, k2, k3, k4, p1, p2 = (
        number(values, key, where) if key in values else 0.0 for key in LENS_KEYS
    )
    pose = in_opengl(pose_matrix(values["transform_matrix"], where), values, where, keys)
    lens = (k1, k2, k3, k4, p1, p2)
    return Frame(
        picture, pose, (fx, fy, cx, cy), size, lens, fisheye, mask, moving=dynamic_mask(picture)
    )


def focal_lengths(
    values: dict[str, Any], size: tuple[int, int] | None, where: str, keys: KeyNotes
) -> tuple[float, float]:
    """Focal lengths fx and fy, pixels, of ``x_fov`` (degrees), ``fl_x`` or ``camera_angle_x``.

    What stands for one axis alone holds for both. The first that is there is taken, and another
    that contradicts it is said.

    Raises:
        DataError: None of them, or an angle without a size beside it.
    """
    found: dict[str, list[tuple[str, float]]] = {"x": [], "y": []}
    for place, axis in enumerate("xy"):
        for key, unit in ((f"{axis}_fov", math.pi / 180), (f"fl_{axis}", None),
                          (f"camera_angle_{axis}", 1.0)):  # fmt: skip
            if values.get(key) is None:
                continue
            value = number(values, key, where, 0.0)
            if unit is None:
                found[axis].append((key, value))
            elif size is None:
                if not found[axis]:
                    raise DataError(f"{where}: `{key}` needs `w` and `h` beside it")
            elif value * unit >= math.pi:
                most = "degrees in (0, 180)" if key.endswith("fov") else "radians in (0, pi)"
                raise DataError(f"{where}: `{key}`: expected {most}")
            else:
                found[axis].append((key, 0.5 * size[place] / math.tan(0.5 * value * unit)))
        for key, focal in found[axis][1:]:
            first, taken = found[axis][0]
            if abs(focal - taken) > 0.01 * taken:
                keys.said[key] = f"says another focal length than `{first}`, which is taken"
    if not found["x"] and not found["y"]:
        raise DataError(f"{where}: expected `fl_x`, or `camera_angle_x` with `w` and `h`")
    (_, fx), (_, fy) = (found["x"] or found["y"])[0], (found["y"] or found["x"])[0]
    return fx, fy


def in_opengl(pose: np.ndarray, values: dict[str, Any], where: str, keys: KeyNotes) -> np.ndarray:
    """A pose with columns right, up and back, where the file names another convention.

    Raises:
        DataError: A convention that is not known.
    """
    for key in CONVENTION_KEYS:
        said = str(values.get(key) or "opengl").lower()
        if said in OPENCV:
            keys.said[key] = f"{values[key]}: turned to OpenGL's"
            return pose * np.array([1.0, -1.0, -1.0, 1.0])
        if said not in OPENGL:
            raise DataError(
                f"{where}: `{key}`: expected OpenGL or OpenCV, received {values[key]!r:.40}; "
                "convert the poses to OpenGL's (right, up, back) and remove it"
            )
    return pose


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(values: dict[str, Any], key: str, where: str, above: float | None = None) -> float:
    """A finite number, above a bound if one is given (at least it, if the bound is 1)."""
    value = values[key]
    if not is_number(value) or abs(value) > 1e9:
        raise DataError(f"{where}: `{key}`: expected a number, received {value!r}")
    if above is not None and (value < above or value == 0):
        raise DataError(f"{where}: `{key}`: expected a number above {above:g}, received {value!r}")
    return float(value)


def split_by_names(
    folder: Path, file: Path, content: dict[str, Any], frames: list[Frame]
) -> dict[str, list[Frame]]:
    """Lists of file names as nerfstudio has them, where there are any; the same list once."""
    splits: dict[str, list[Frame]] = {}
    for split in ("train", "test", "val"):
        key = f"{split}_filenames"
        names = content.get(key)
        if isinstance(names, list):
            wanted = {existing(inside(folder, str(name), f"{file}: `{key}`")) for name in names}
            found = [frame for frame in frames if frame.picture in wanted]
            if found not in splits.values():  # nerfstudio wants `val` wherever there is `test`
                splits[split] = found
    return splits if splits.get("train") else {"train": frames}
