"""COLMAP's sparse models, binary or text, with their pictures; read by pycolmap.

The model lies in ``sparse/0``, ``sparse``, ``colmap/sparse/0`` or the folder itself, the pictures
in ``images``, or smaller copies in ``images_2`` and its like. Where COLMAP could not join all
pictures it leaves several models, each in coordinates of its own, in ``sparse/0``, ``sparse/1``, …:
that of most pictures is read. Poses are world to camera in OpenCV's convention; pixel centres are
at half integers, as here. A picture that is not there is left out and named. Points are not needed.

Reference:
    Schönberger and Frahm 2016, Structure-from-Motion Revisited, https://colmap.github.io/format.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from shutil import copyfile
from struct import error as struct_error
from struct import unpack_from
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..cameras.distortion import Lens, Projection
from ..errors import DataError, InputError, decoding
from .background import Background
from .base import Scene
from .capture import Frame, Place, build_scene, left_out, panorama
from .lookup import PictureFinder, none_there, smaller_folders
from .masks import masks_beside, masks_note

__all__ = ["can_read", "read"]

PLACES = ("sparse", "colmap/sparse", "")
#: Camera model -> what it projects to; its coefficients are named by COLMAP.
MODELS: dict[str, Projection] = {
    "SIMPLE_PINHOLE": "perspective", "PINHOLE": "perspective", "SIMPLE_RADIAL": "perspective",
    "RADIAL": "perspective", "OPENCV": "perspective", "FULL_OPENCV": "perspective",
    "OPENCV_FISHEYE": "fisheye", "SIMPLE_RADIAL_FISHEYE": "fisheye", "RADIAL_FISHEYE": "fisheye",
    "THIN_PRISM_FISHEYE": "fisheye", "FISHEYE": "fisheye", "SIMPLE_FISHEYE": "fisheye",
    "FOV": "fov", "EQUIRECTANGULAR": "equirectangular",
}  # fmt: skip
#: COLMAP's names of coefficients that have others here.
RENAMED = {"k": "k1", "sx1": "s1", "sy1": "s3"}
RATIONAL = {"k4": "q1", "k5": "q2", "k6": "q3"}
#: Binary files with lists of lists: bytes before the inner count (a name ends them, or not), and
#: bytes of each inner entry. A count that lies would make pycolmap ask for all memory.
BINARIES = (("images.bin", 64, 24), ("points3D.bin", 43, 8))


def model_folders(path: Path) -> list[Path]:
    """Where sparse models lie: all of the first place that has any, in the order of their names."""
    for place in PLACES:
        folder = path / place
        numbered = sorted(folder.glob("[0-9]*")) if place else []
        if found := [model for model in [*numbered, folder] if model_kind(model)]:
            return found
    return []


def model_kind(folder: Path) -> str | None:
    """Ending of the files of a model, if there is one in this folder."""
    for kind in ("bin", "txt"):
        if (folder / f"cameras.{kind}").is_file():
            return kind
    return None


def picture_count(folder: Path) -> int:
    """How many pictures a model says it has, without reading it."""
    file = folder / f"images.{model_kind(folder)}"
    if not file.is_file():
        return 0
    with file.open("rb") as stream:
        if file.suffix == ".bin":
            return int.from_bytes(stream.read(8), "little")
        return sum(1 for _ in listed_images(stream))


def can_read(path: Path) -> bool:
    """Whether `path` is a folder with a sparse model."""
    return path.is_dir() and bool(model_folders(path))


def read(
    path: Path,
    place: Place = "auto",
    half_side: float | None = None,
    background: Background = "auto",
) -> Scene:
    """Open the capture; see `memonf.data.capture`.

    Raises:
        DataError: A broken model, a camera model that is not known, no picture.
        InputError: pycolmap is not installed.
    """
    folders = model_folders(path)
    folder = max(folders, key=picture_count)
    model = open_model(folder)
    with decoding(f"{folder}: names of pictures"):  # they may be no text
        names = names_in_text(folder)
        images = sorted(
            ((names.get(image.image_id, image.name), image)
             for image in model.images.values() if image.has_pose),
            key=lambda named: named[0],
        )  # fmt: skip
    if not images:
        raise DataError(f"{folder}: no image of the model has a pose; run the mapper again")
    finder, pictures = find_pictures(path, folder, [name for name, _ in images])
    masks = masks_beside(path, [name for name, _ in images])
    frames = [
        replace(frame_of(model, image, picture, folder), mask=masks.get(name))
        for (name, image), picture in zip(images, pictures, strict=True) if picture is not None
    ]  # fmt: skip
    if not frames:
        listing = f"{(folder / 'images').relative_to(path)}.{model_kind(folder)}"
        raise none_there(finder.missing, f"{path}", listing, finder.folder)
    notes = [f"model in `{folder.relative_to(path)}`, {len(model.points3D)} points"]
    if len(folders) > 1:
        notes.append(f"{len(folders)} models that were not joined; this one has most pictures")
    if finder.folder != path / "images":
        shown = finder.folder.relative_to(path)
        smaller = finder.folder in smaller_folders(path)
        notes.append(f"pictures from `{shown}`{', intrinsics follow their size' * smaller}")
    notes += [
        *finder.notes(), *left_out(finder.missing),
        *masks_note(path, masks, [frame.picture for frame in frames]),
    ]  # fmt: skip
    return build_scene(
        path.resolve().name, {"train": frames}, place=place, half_side=half_side,
        background=background, notes=notes,
    )  # fmt: skip


def open_model(folder: Path) -> Any:
    """The sparse model, once its files are what their headers say."""
    try:
        import pycolmap
    except ImportError:
        raise InputError(
            f'{folder}: COLMAP models are read by pycolmap: pip install "memonf[colmap]"'
        ) from None
    for name, head, counted in BINARIES:
        if (file := folder / name).is_file() and (name == "images.bin" or file.stat().st_size):
            check_counts(file, head, counted)
    with decoding(f"{folder}: cannot be read as a COLMAP model"):
        points = folder / f"points3D.{model_kind(folder)}"
        if points.is_file() and (points.suffix == ".txt" or points.stat().st_size):
            return pycolmap.Reconstruction(folder)
        with TemporaryDirectory() as temporary:  # pycolmap asks for points; cameras need none
            whole = Path(temporary)
            for name in ("cameras", "images", "rigs", "frames"):
                if (file := folder / f"{name}.{model_kind(folder)}").is_file():
                    copyfile(file, whole / file.name)
            (whole / points.name).write_bytes(b"" if points.suffix == ".txt" else bytes(8))
            return pycolmap.Reconstruction(whole)


def check_counts(file: Path, head: int, counted: int) -> None:
    """Refuse a binary file whose counts claim more than it holds.

    Args:
        file: ``images.bin`` or ``points3D.bin``.
        head: Bytes of an entry before its name, or before its inner count.
        counted: Bytes of what the inner count counts.
    """
    broken = DataError(f"{file}: truncated, or its counts are not true; export the model again")
    named = file.name == "images.bin"
    try:
        with file.open("rb") as handle, mmap(handle.fileno(), 0, access=ACCESS_READ) as content:
            (entries,) = unpack_from("<Q", content)
            at = 8
            for _ in range(entries):
                at += head
                if named and (at := content.find(b"\0", at) + 1) == 0:
                    raise broken
                (inner,) = unpack_from("<Q", content, at)
                at += 8 + inner * counted
                if at > len(content):
                    raise broken
    except (struct_error, ValueError, OverflowError):  # ends too early; or it is empty
        raise broken from None


def find_pictures(
    path: Path, folder: Path, names: list[str]
) -> tuple[PictureFinder, list[Path | None]]:
    """Where the pictures lie, and each of them; of the first folder that has any."""
    roots = [path / "images", folder / "images", *smaller_folders(path), path]
    tried = []
    for root in dict.fromkeys(root for root in roots if root.is_dir()):
        finder = PictureFinder(root)
        found = [finder.find(name, f"{folder}: picture `{name}`") for name in names]
        if any(found):
            return finder, found
        tried.append((finder, found))
    return tried[0]


def names_in_text(folder: Path) -> dict[int, str]:
    """Image id -> name of a text model; pycolmap keeps a name up to its first space.

    Of a binary model, which has no such limit, nothing.
    """
    if model_kind(folder) != "txt":
        return {}
    with (folder / "images.txt").open("rb") as stream:
        return {
            int(words[0]): words[9].decode()
            for line in listed_images(stream) if len(words := line.split(None, 9)) == 10
        }  # fmt: skip


def listed_images(stream: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of an ``images.txt`` that begin an image; that of its points follows, empty or not."""
    lines = iter(stream)
    for line in lines:
        if (stripped := line.strip()) and not stripped.startswith(b"#"):
            yield stripped
            next(lines, None)


def frame_of(model: Any, image: Any, picture: Path, folder: Path) -> Frame:
    """One picture and its camera, in this project's convention."""
    camera = model.cameras[image.camera_id]
    kind = camera.model.name
    if kind not in MODELS:
        raise DataError(
            f"{folder}: camera model `{kind}`; known are {', '.join(MODELS)}: undistort the "
            "pictures with `colmap image_undistorter`"
        )
    if not (0 < camera.width < 1e6 and 0 < camera.height < 1e6):
        raise DataError(
            f"{folder}: camera {image.camera_id}: {camera.width}x{camera.height} pixels"
        )
    pixels, lens = intrinsics_of(camera)
    matrix = np.asarray(image.cam_from_world().matrix(), dtype=np.float64)
    rotation = matrix[:, :3].T
    centre = -rotation @ matrix[:, 3]
    right, down, ahead = rotation.T
    return Frame(
        picture,
        np.stack([right, -down, -ahead, centre], 1),
        pixels,
        (int(camera.width), int(camera.height)),
        lens,
    )


def intrinsics_of(camera: Any) -> tuple[tuple[float, float, float, float], Lens]:
    """Focal lengths and principal point of one of `MODELS`, pixels, and its lens."""
    kind = camera.model.name
    names = [name.strip() for name in camera.params_info.split(",")]
    values = {name: float(value) for name, value in zip(names, camera.params, strict=True)}
    if MODELS[kind] == "equirectangular":
        return panorama(int(camera.width), int(camera.height)), Lens(projection="equirectangular")
    focal = values.pop("f", None)
    fx, fy = (values.pop("fx"), values.pop("fy")) if focal is None else (focal, focal)
    pixels = (fx, fy, values.pop("cx"), values.pop("cy"))
    renamed = RENAMED | (RATIONAL if kind == "FULL_OPENCV" else {})
    bending = {renamed.get(name, name): value for name, value in values.items()}
    return pixels, Lens(projection=MODELS[kind], **bending)
