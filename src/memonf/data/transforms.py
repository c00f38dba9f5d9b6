"""``transforms.json`` as nerfstudio and instant-ngp write it.

Intrinsics, lens and size stand once for all frames, or with each frame; a size that is not there is
that of the pictures; poses are OpenGL's. A frame whose picture is not there is left out and named.
``transforms_train.json`` and its like are the splits (one of them named by itself means its
folder), else nerfstudio's ``train_filenames`` and its like, else every eighth view is held out.

Reference:
    https://docs.nerf.studio/quickstart/data_conventions.html; Müller et al. 2022, instant-ngp.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cameras.distortion import Lens, Projection
from ..errors import DataError
from .background import Background, colour_of_file
from .base import Scene
from .blender import SPLITS, SYNTHETIC_FILE, SYNTHETIC_FRAME, pose_matrix
from .boxes import box_of_file, up_of_file
from .capture import Frame, Layout, Place, Said, build_scene, left_out, panorama
from .keys import JSON_FILE, JSON_FRAME, KeyNotes
from .lookup import PictureFinder, none_there
from .masks import dynamic_mask, unnamed_notes
from .pictures import picture_header
from .sources import read_json
from .split_lists import listed_names, split_by_names

__all__ = ["LAYOUT", "can_read", "read"]

#: Where a data set that MeMo NF wrote says how its scene lies.
LAYOUT = "memonf"
WHOLE = "transforms.json"
#: Keys that a NeRF-synthetic file may have: all others that are read here make it a capture.
SYNTHETIC = SYNTHETIC_FILE | SYNTHETIC_FRAME
#: nerfstudio's and COLMAP's names of camera models, and what they project to.
MODELS: dict[str, Projection] = {
    "OPENCV": "perspective", "PINHOLE": "perspective", "SIMPLE_PINHOLE": "perspective",
    "PERSPECTIVE": "perspective", "SIMPLE_RADIAL": "perspective", "RADIAL": "perspective",
    "FULL_OPENCV": "perspective", "OPENCV_FISHEYE": "fisheye", "FISHEYE": "fisheye",
    "SIMPLE_FISHEYE": "fisheye", "SIMPLE_RADIAL_FISHEYE": "fisheye", "RADIAL_FISHEYE": "fisheye",
    "THIN_PRISM_FISHEYE": "fisheye", "FOV": "fov", "EQUIRECTANGULAR": "equirectangular",
}  # fmt: skip
#: Keys of a lens and what they are in `Lens`; models that have others than most.
LENS_KEYS = {key: key for key in ("k1", "k2", "k3", "k4", "p1", "p2")}
MODEL_KEYS: dict[str, dict[str, str]] = {
    "FULL_OPENCV": {**LENS_KEYS, "k4": "q1", "k5": "q2", "k6": "q3"},
    "THIN_PRISM_FISHEYE": {**LENS_KEYS, "sx1": "s1", "sy1": "s3"},
    "FOV": {"omega": "omega"},
    "EQUIRECTANGULAR": {},
}
ALL_LENS_KEYS = tuple(dict.fromkeys(key for keys in MODEL_KEYS.values() for key in keys))
#: How files call the directions of a camera's columns, lower case: OpenGL's, or OpenCV's.
CONVENTION_KEYS = (
    "camera_convention", "pose_convention", "coordinate_convention", "coordinate_system",
)  # fmt: skip
OPENGL = ("opengl", "gl", "blender", "nerf", "nerfstudio", "instant-ngp", "rub")
OPENCV = ("opencv", "cv", "colmap", "rdf")
#: Key of the layout that MeMo NF writes: the splits that the data set was written with.
WRITTEN_SPLITS = "splits"


def files_of(path: Path) -> dict[str, Path]:
    """The transforms files of a folder: its splits, or the whole, or what goes on beside others.

    instant-ngp trains on ``transforms.json`` and tests on ``transforms_test.json``.
    """
    if path.is_file():
        return {"all": path} if path.suffix.lower() == ".json" else {}
    splits = {name: path / f"transforms_{name}.json" for name in SPLITS}
    there = {name: file for name, file in splits.items() if file.is_file()}
    whole = path / WHOLE
    if "train" in there or not whole.is_file():
        return there
    return {"train": whole, **there} if there else {"all": whole}


def can_read(path: Path) -> bool:
    """Whether `path` is such a file, or a folder with one."""
    files = files_of(path)
    if "all" in files or WHOLE in (file.name for file in files.values()):
        return True
    try:
        return any(says_more(read_json(file)) for file in files.values())
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
    finder = PictureFinder(folder)
    divided = False
    layout, said, keys = None, None, KeyNotes()
    for split, file in files.items():
        content = read_json(file)
        named = read_frames(finder, file, content, keys)
        if split == "all" or file.name == WHOLE:
            splits, done, divided = split_by_lists(finder, file, content, named)
            notes += done
        else:
            splits[split] = [*splits.get(split, []), *named.values()]
        here = Said(
            box_of_file(content, f"{file}"), up_of_file(content, f"{file}"),
            colour_of_file(content, f"{file}"),
        )  # fmt: skip
        said = said or here
        if not same(said, here):
            notes.append(f"{file.name} says another box, up or background than the first file does")
        if LAYOUT in content:
            layout = read_layout(content[LAYOUT], file)
            divided |= WRITTEN_SPLITS in content[LAYOUT]
    if "train" in files and files["train"].name != WHOLE and (folder / WHOLE).is_file():
        notes.append(f"`{WHOLE}` is not read: {files['train'].name} and its like are the splits")
    if not any(splits.values()):
        listing = " and ".join(file.name for file in files.values())
        raise none_there(finder.missing, f"{folder}", listing, folder)
    pictures = [frame.picture for part in splits.values() for frame in part]
    masked = any(frame.mask for part in splits.values() for frame in part)
    return build_scene(
        folder.resolve().name, splits, place=place, half_side=half_side, background=background,
        layout=layout, said=said or Said(), divided=divided,
        notes=[
            *dict.fromkeys(notes), *keys.notes(), *finder.notes(), *left_out(finder.missing),
            *([] if masked else unnamed_notes(folder, pictures)),
        ],
    )  # fmt: skip


def split_by_lists(
    finder: PictureFinder, file: Path, content: dict[str, Any], named: dict[tuple[int, str], Frame]
) -> tuple[dict[str, list[Frame]], list[str], bool]:
    """The splits that a file's lists of names make; notes; whether no other view is held out."""
    lists = listed_names(file, content)
    layout = content.get(LAYOUT)
    written = layout.get(WRITTEN_SPLITS) if isinstance(layout, dict) else None
    if isinstance(written, list):  # others were listed for nerfstudio, which wants all three
        lists = {split: names for split, names in lists.items() if split in written}
    if not any(lists.values()):
        return {"train": list(named.values())}, [], False
    names = [str(frame["file_path"]) for frame in content["frames"]]
    pictures = {place: frame.picture for (place, _), frame in named.items()}
    places, notes = split_by_names(file, lists, names, {
        place: picture.relative_to(finder.folder).as_posix() for place, picture in pictures.items()
    })  # fmt: skip
    frames = {place: frame for (place, _), frame in named.items()}
    return {
        split: [frames[place] for place in chosen if place in frames]
        for split, chosen in places.items()
    }, notes, len(lists) > 1  # fmt: skip


def same(one: Said, other: Said) -> bool:
    """Whether two files say the same of their scene."""
    return (one.box, one.background) == (other.box, other.background) and (
        one.up is other.up is None
        or (one.up is not None and other.up is not None and torch.equal(one.up, other.up))
    )


def read_layout(values: Any, file: Path) -> Layout:
    """The layout of a data set that MeMo NF wrote."""
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key != WRITTEN_SPLITS}
    try:
        return Layout.from_dict(values)
    except DataError as error:
        raise DataError(f"{file}: `{LAYOUT}`: {error}") from None


def read_frames(
    finder: PictureFinder, file: Path, content: dict[str, Any], keys: KeyNotes
) -> dict[tuple[int, str], Frame]:
    """Frames whose pictures are there, by their place in the list and the name they have there.

    What is to be said of keys that are not read is added to `keys`.
    """
    keys.look(content, JSON_FILE, f"{file}")
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        raise DataError(f"{file}: expected a list `frames` with at least one frame")
    said = content.get("n_frames")
    if isinstance(said, int) and said < len(frames):
        keys.said["n_frames"] = f"{said:g} is not followed: all {len(frames)} frames are read"
    found: dict[tuple[int, str], Frame] = {}
    for number, frame in enumerate(frames):
        where = f"{file}: frame {number}"
        if not isinstance(frame, dict) or not {"file_path", "transform_matrix"} <= frame.keys():
            raise DataError(f"{where}: expected keys `file_path` and `transform_matrix`")
        keys.look(frame, JSON_FRAME, where, "frames")
        name = str(frame["file_path"])
        picture = finder.find(name, where)
        if picture is None:
            continue
        mask = frame.get("mask_path")
        values = with_matrix({**content, **frame}, where, keys)
        check_copy(finder, picture, values, f"{where}: `{name}`")
        found[number, name] = read_frame(
            values, where, picture,
            None if mask is None else found_mask(finder, str(mask), where), keys,
        )  # fmt: skip
    moving = sum(frame.moving is not None for frame in found.values())
    if moving:
        keys.said["dynamic_mask_NAME.png"] = (
            f"lies beside {moving} of {len(found)} pictures: what it shows is left out"
        )
    return found


def check_copy(finder: PictureFinder, picture: Path, values: dict[str, Any], where: str) -> None:
    """Refuse a smaller copy of a picture where nothing says what size the focal length is for.

    Raises:
        DataError: A focal length in pixels, and no size.
    """
    sized = not {"w", "h"}.isdisjoint(values)
    if picture in finder.copies and not sized and not {"fl_x", "fl_y"}.isdisjoint(values):
        raise DataError(
            f"{where} is not there but a smaller copy, {picture}: focal lengths in pixels need the "
            "size that they belong to; add `w` and `h`"
        )


def found_mask(finder: PictureFinder, name: str, where: str) -> Path:
    """The mask that a frame names.

    Raises:
        DataError: It is not there: what it leaves out would be trained on.
    """
    found = finder.find(name, f"{where}: `mask_path`", alone=False)
    if found is None:
        raise DataError(
            f"{where}: mask `{finder.missing[-1]}` is not there; copy it, or remove `mask_path`"
        )
    return found


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
    lens = lens_of(values, model, where)
    size = said_size(values, where, picture)
    width, height = size or picture_header(picture).upright
    scales = panorama_scale if lens.projection == "equirectangular" else focal_lengths
    fx, fy = scales(values, (width, height), where, keys)
    cx = number(values, "cx", where) if "cx" in values else 0.5 * width
    cy = number(values, "cy", where) if "cy" in values else 0.5 * height
    pose = in_opengl(pose_matrix(values["transform_matrix"], where), values, where, keys)
    return Frame(picture, pose, (fx, fy, cx, cy), size, lens, mask, moving=dynamic_mask(picture))


def lens_of(values: dict[str, Any], model: str, where: str) -> Lens:
    """The lens that a frame's keys say.

    Raises:
        DataError: A coefficient that its camera model does not have.
    """
    names = MODEL_KEYS.get(model, LENS_KEYS)
    found = {key: number(values, key, where) for key in ALL_LENS_KEYS if key in values}
    for key, value in found.items():
        if value != 0 and key not in names:
            others = " and ".join(
                f"{other} has it" for other in MODEL_KEYS if key in MODEL_KEYS[other]
            )
            raise DataError(
                f"{where}: `{key}`: camera model {model} has no such coefficient ({others}); "
                "correct `camera_model`, or undistort the pictures and remove it"
            )
    projection = MODELS[model]
    if values.get("is_fisheye") and projection == "perspective" and model != "FULL_OPENCV":
        projection = "fisheye"
    bending = {names[key]: value for key, value in found.items() if key in names}
    return Lens(projection=projection, **bending)


def panorama_scale(
    values: dict[str, Any], size: tuple[int, int], where: str, keys: KeyNotes
) -> tuple[float, float]:
    """Pixels per radian of a panorama: nerfstudio's ``fl_x`` and ``fl_y`` are those of half a turn.

    All round, 360 by 180 degrees, where a file says nothing; another span is said.
    """
    whole = panorama(*size)[:2]
    first, second = (
        number(values, key, where, 0.0) / math.pi if values.get(key) is not None else scale
        for key, scale in zip(("fl_x", "fl_y"), whole, strict=True)
    )
    across, down = (
        math.degrees(side / scale) for side, scale in zip(size, (first, second), strict=True)
    )
    if abs(across - 360) > 4 or abs(down - 180) > 4:
        keys.said["fl_x"] = f"says that panoramas span {across:.0f} by {down:.0f} degrees"
    return first, second


def with_matrix(values: dict[str, Any], where: str, keys: KeyNotes) -> dict[str, Any]:
    """The values, with those in ``intrinsic_matrix`` where NeuS2 and others write one.

    Raises:
        DataError: Not a matrix of 3x3 or more numbers, or one with skew.
    """
    if values.get("intrinsic_matrix") is None:
        return values
    matrix: np.ndarray = np.empty(0)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        matrix = np.asarray(values["intrinsic_matrix"], dtype=np.float64)
    if matrix.ndim != 2 or min(matrix.shape) < 3 or not np.isfinite(matrix).all():
        raise DataError(f"{where}: `intrinsic_matrix`: expected 3x3 numbers")
    if abs(matrix[0, 1]) > 1e-3 * abs(matrix[0, 0]):
        raise DataError(
            f"{where}: `intrinsic_matrix`: expected no skew, received {matrix[0, 1]:g}; undo it in "
            "the pictures"
        )
    found = {"fl_x": matrix[0, 0], "fl_y": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
    for key, value in found.items():
        if is_number(values.get(key)) and abs(values[key] - value) > 0.01 * abs(value):
            keys.said[key] = "differs from `intrinsic_matrix`, which is taken"
    return {**values, **{key: float(value) for key, value in found.items()}}


def focal_lengths(
    values: dict[str, Any], size: tuple[int, int], where: str, keys: KeyNotes
) -> tuple[float, float]:
    """Focal lengths fx and fy, pixels, of ``x_fov`` (degrees), ``fl_x`` or ``camera_angle_x``.

    What stands for one axis alone holds for both. The first that is there is taken, and another
    that contradicts it is said.

    Raises:
        DataError: None of them, or an angle that no camera has.
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
        raise DataError(
            f"{where}: expected `fl_x` or `camera_angle_x` (radians), beside the frames or in each"
        )
    (_, fx), (_, fy) = (found["x"] or found["y"])[0], (found["y"] or found["x"])[0]
    return fx, fy


def in_opengl(pose: np.ndarray, values: dict[str, Any], where: str, keys: KeyNotes) -> np.ndarray:
    """A pose with columns right, up and back, where the file names another convention.

    Raises:
        DataError: A convention that is not known.
    """
    if values.get("from_na"):  # of NeuS2
        keys.said["from_na"] = "says OpenCV's convention: turned to OpenGL's"
        return pose * np.array([1.0, -1.0, -1.0, 1.0])
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


def said_size(values: dict[str, Any], where: str, picture: Path) -> tuple[int, int] | None:
    """Width and height that the intrinsics belong to; None if they are those of the picture.

    One of them alone tells the other by the shape of the picture.
    """
    sides = [None if values.get(key) is None else number(values, key, where, 1.0) for key in "wh"]
    width, height = sides
    if width is None and height is None:
        return None
    across, down = picture_header(picture).upright if None in sides else (1, 1)
    width = (height or 0.0) * across / down if width is None else width
    height = width * down / across if height is None else height
    return round(width), round(height)


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
