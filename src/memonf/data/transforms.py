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

from ..errors import DataError
from .base import Scene
from .blender import SPLITS, pose_matrix
from .capture import Frame, Layout, Place, build_scene, left_out
from .sources import inside, read_json

__all__ = ["LAYOUT", "can_read", "read"]

#: Where a data set that MeMo NF wrote says how its scene lies.
LAYOUT = "memonf"
#: Keys that a NeRF-synthetic file does not have.
TELLING = {"fl_x", "fl_y", "k1", "aabb_scale", "camera_model", "w", LAYOUT}
#: A box of ``aabb_scale`` 1 has this side in world units: instant-ngp scales poses by 0.33.
NGP_UNIT = 1 / 0.33
#: nerfstudio's names of camera models, and whether they are fisheyes.
MODELS = {
    "OPENCV": False, "PINHOLE": False, "SIMPLE_PINHOLE": False, "PERSPECTIVE": False,
    "SIMPLE_RADIAL": False, "RADIAL": False, "OPENCV_FISHEYE": True,
}  # fmt: skip
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
        return "train" in files and bool(TELLING & read_json(files["train"]).keys())
    except DataError:
        return False  # the reader of the other layout says what is wrong


def read(path: Path, place: Place = "auto", half_side: float | None = None) -> Scene:
    """Open the capture; pictures are read when a split is first asked for.

    Args:
        path: The folder or the file.
        place: How the scene is placed, see `memonf.data.capture`.
        half_side: Half a side of the box, world units; None for that of ``aabb_scale``, or one that
            holds all cameras.

    Raises:
        DataError: Broken JSON, missing keys, unknown camera models, unusable poses.
    """
    files = files_of(path)
    folder = path if path.is_dir() else path.parent
    splits: dict[str, list[Frame]] = {}
    notes: list[str] = []
    missing: list[str] = []
    layout = None
    for split, file in files.items():
        content = read_json(file)
        frames = read_frames(folder, file, content, missing)
        if split != "all":
            splits[split] = frames
        else:
            splits = split_by_names(folder, file, content, frames)
        if half_side is None and "aabb_scale" in content:
            scale = number(content, "aabb_scale", f"{file}", 0.0)
            half_side = 0.5 * scale * NGP_UNIT
            notes.append(f"box from `aabb_scale` {scale:g}")
        if "applied_transform" in content:
            notes.append("`applied_transform` stays: world coordinates are those of its poses")
        if LAYOUT in content:
            layout = read_layout(content[LAYOUT], file)
    return build_scene(
        folder.resolve().name, splits, place=place, half_side=half_side, layout=layout,
        notes=[*dict.fromkeys(notes), *left_out(missing)],
    )  # fmt: skip


def read_layout(values: Any, file: Path) -> Layout:
    """The layout of a data set that MeMo NF wrote."""
    try:
        return Layout.from_dict(values)
    except DataError as error:
        raise DataError(f"{file}: `{LAYOUT}`: {error}") from None


def read_frames(
    folder: Path, file: Path, content: dict[str, Any], missing: list[str]
) -> list[Frame]:
    """Frames whose pictures are there; names of the others are added to `missing`."""
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        raise DataError(f"{file}: expected a list `frames` with at least one frame")
    found = []
    for number, frame in enumerate(frames):
        where = f"{file}: frame {number}"
        if not isinstance(frame, dict) or not {"file_path", "transform_matrix"} <= frame.keys():
            raise DataError(f"{where}: expected keys `file_path` and `transform_matrix`")
        name = str(frame["file_path"])
        picture = existing(inside(folder, name, where))
        if picture is None:
            missing.append(name)
            continue
        mask = frame.get("mask_path")
        found.append(
            read_frame(
                {**content, **frame}, where, picture,
                None if mask is None else inside(folder, str(mask), where),
            )
        )  # fmt: skip
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


def read_frame(values: dict[str, Any], where: str, picture: Path, mask: Path | None) -> Frame:
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
    if "fl_x" in values or "fl_y" in values:
        fx = number(values, "fl_x" if "fl_x" in values else "fl_y", where, 0.0)
        fy = number(values, "fl_y" if "fl_y" in values else "fl_x", where, 0.0)
    elif "camera_angle_x" in values:
        if size is None:
            raise DataError(f"{where}: `camera_angle_x` needs `w` and `h` beside it")
        angle = number(values, "camera_angle_x", where, 0.0)
        if angle >= math.pi:
            raise DataError(f"{where}: `camera_angle_x`: expected radians in (0, pi)")
        fx = fy = 0.5 * size[0] / math.tan(0.5 * angle)
    else:
        raise DataError(f"{where}: expected `fl_x`, or `camera_angle_x` with `w` and `h`")
    if ("cx" not in values or "cy" not in values) and size is None:
        raise DataError(f"{where}: expected `cx` and `cy`, or `w` and `h`")
    cx = number(values, "cx", where) if "cx" in values else 0.5 * (size or (0, 0))[0]
    cy = number(values, "cy", where) if "cy" in values else 0.5 * (size or (0, 0))[1]
    k1, k2, k3, k4, p1, p2 = (
        number(values, key, where) if key in values else 0.0 for key in LENS_KEYS
    )
    pose = pose_matrix(values["transform_matrix"], where)
    lens = (k1, k2, k3, k4, p1, p2)
    return Frame(picture, pose, (fx, fy, cx, cy), size, lens, fisheye, mask)


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
