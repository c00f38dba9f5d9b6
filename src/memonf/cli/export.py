"""``memonf export``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from pydantic import Field as Limits

from ..data import Pictures, Scene, Views
from ..errors import InputError
from ..fields import Field
from ..io.checkpoint import load
from ..io.export.geometry import (
    LEVEL,
    MESHES,
    MOST_POINTS,
    Surface,
    surface,
    write_grid,
    write_mesh,
    write_points,
)
from ..io.export.onnx import in_double, write_onnx
from ..io.export.transforms import transforms, write_data_set
from ..rendering.volume_rendering import Renderer
from ..typing import Seed
from ..utils.devices import pick_device
from ..utils.files import check_fresh_folder, check_writable, write_json
from ..visualization.video import to_bytes
from .options import Common, Output, parse
from .progress import counting_progress
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf export merged.safetensors --out merged.glb
  memonf export merged.safetensors --out points.ply --kind points --points 200000
  memonf export merged.safetensors --out grid.npz --kind sparse-grid --resolution 256
  memonf export merged.safetensors --out merged.onnx
  memonf export merged.safetensors --out cameras.json
  memonf export merged.safetensors --out merged_views          # a folder: nerfstudio's layout\
"""

Kind = Literal["mesh", "points", "grid", "sparse-grid", "onnx", "cameras", "views"]
#: Kind -> endings that its file may have; the first kind with an ending is what is meant by it.
ENDINGS: dict[str, tuple[str, ...]] = {
    "mesh": MESHES, "points": (".ply",), "grid": (".npz",), "sparse-grid": (".npz",),
    "onnx": (".onnx",), "cameras": (".json",), "views": ("",),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Export(Common):
    """Write a field for other tools, in the coordinates of its capture.

    mesh (.ply, .glb, .obj): surface with vertex colours; points (.ply): points on it; grid,
    sparse-grid (.npz): density and colour; onnx: the network; cameras (.json): the training cameras
    as transforms.json; views (a folder): what the field shows from them, as a data set. Films and
    pictures are made by `memonf render`.

    Attributes:
        field: Field file.
        out: File or folder to write; its ending chooses the kind.
        kind: What to write, where the ending leaves a choice.
        resolution: Grid points along each side of the box; 256 for surfaces, 128 for grids.
        level: Density per scene unit above which something is solid.
        points: Number of points of a point cloud.
        seed: Seed of the choice of points.
    """

    field: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path, Output("any")]
    kind: Kind | None = None
    resolution: Annotated[int, Limits(ge=8, le=1024)] | None = None
    level: Annotated[float, Limits(gt=0, lt=1e6)] = LEVEL
    points: Annotated[int, Limits(ge=1, le=MOST_POINTS)] = 100_000
    seed: Seed = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Export, "export", args, EXAMPLES)
    kind = kind_of(options)
    (check_fresh_folder if kind == "views" else check_writable)(options.out)
    field = load(options.field, pick_device(options.device))
    outcome = {"out": str(options.out), "kind": kind, **WRITERS[kind](field, options)}
    if options.json:
        say(json.dumps(outcome))
    else:
        note = outcome.pop("note", None)
        figures = ", ".join(f"{value} {key}" for key, value in list(outcome.items())[2:])
        say(f"{options.out}: {kind}{f', {figures}' if figures else ''}")
        if note is not None:
            say(f"note: {note}")


def kind_of(options: Export) -> str:
    """What is to be written."""
    suffix = options.out.suffix.lower()
    if options.kind is None:
        for kind, endings in ENDINGS.items():
            if suffix in endings:
                return kind
        known = ", ".join(dict.fromkeys(end for ends in ENDINGS.values() for end in ends if end))
        raise InputError(
            f"--out {options.out}: expected {known}, or a folder; films: memonf render"
        )
    if suffix not in ENDINGS[options.kind]:
        wanted = ", ".join(ENDINGS[options.kind]) or "a folder"
        raise InputError(f"--out {options.out}: --kind {options.kind} is written to {wanted}")
    return options.kind


def mesh(field: Field, options: Export) -> dict[str, Any]:
    """Write the surface."""
    found = surface(field, options.resolution or 256, options.level)
    write_mesh(found, options.out)
    counts = {"vertices": len(found.vertices), "faces": len(found.faces)}
    return counts | far_note(found, options)


def points(field: Field, options: Export) -> dict[str, Any]:
    """Write points on the surface."""
    found = surface(field, options.resolution or 256, options.level)
    write_points(found, options.out, options.points, options.seed)
    return {"points": options.points} | far_note(found, options)


def far_note(found: Surface, options: Export) -> dict[str, str]:
    """How coordinates that single precision does not hold are written."""
    how = {
        ".ply": "coordinates are far from the origin and written in double precision",
        ".glb": "the surface is far from the origin, where the translation of its node moves it",
    }.get(options.out.suffix.lower())
    return {"note": how} if found.far and how is not None else {}


def grid(field: Field, options: Export) -> dict[str, Any]:
    """Write the dense grid."""
    return any_grid(field, options, sparse=False)


def sparse_grid(field: Field, options: Export) -> dict[str, Any]:
    """Write the sparse grid."""
    return any_grid(field, options, sparse=True)


def any_grid(field: Field, options: Export, *, sparse: bool) -> dict[str, Any]:
    """Write a grid."""
    resolution = options.resolution or 128
    write_grid(field, options.out, resolution, options.level, sparse=sparse)
    return {"points a side": resolution}


def onnx(field: Field, options: Export) -> dict[str, Any]:
    """Write the network."""
    outcome: dict[str, Any] = {"difference from the field": write_onnx(field, options.out)}
    if in_double(field):
        outcome["note"] = "coordinates are far from the origin: `positions` is double precision"
    return outcome


def cameras(field: Field, options: Export) -> dict[str, Any]:
    """Write the training cameras."""
    found = needed_cameras(field, options)
    names = [f"images/{view:05d}.png" for view in range(len(found))]
    write_json(options.out, transforms(found, names, field.record.placement))
    return {"cameras": len(found)}


def views(field: Field, options: Export) -> dict[str, Any]:
    """Write what the field shows from its training cameras, as a data set."""
    found = needed_cameras(field, options)
    renderer = Renderer.of(field)
    pictures = []
    with counting_progress("render", show=not options.quiet) as on_view:
        for view in range(len(found)):
            pictures.append(torch.from_numpy(to_bytes(renderer.view(found, view).rgb)))
            on_view(view + 1, len(found))
    names = tuple(f"{view:05d}" for view in range(len(found)))
    seen = Views(found, Pictures.of(pictures), names)
    record = field.record
    scene = Scene(
        record.scene, {"train": lambda: seen}, field.aabb.cpu(), record.near, record.far,
        record.background, placement=record.placement,
    )  # fmt: skip
    write_data_set(scene, {"train": seen}, options.out)
    return {"views": len(found)}


def needed_cameras(field: Field, options: Export) -> Any:
    """The field's training cameras, on the CPU.

    Raises:
        InputError: They are unknown.
    """
    if field.record.cameras is None:
        raise InputError(f"{options.field}: its cameras are unknown; there are none to write")
    return field.record.cameras.to("cpu")


WRITERS: dict[str, Callable[[Field, Export], dict[str, Any]]] = {
    "mesh": mesh, "points": points, "grid": grid, "sparse-grid": sparse_grid, "onnx": onnx,
    "cameras": cameras, "views": views,
}  # fmt: skip
