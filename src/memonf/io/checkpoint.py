"""The field file: safetensors with a JSON header. Reading it never executes code.

The tensors are the field's params and buffers under their own names, ``camera.*`` for the training
cameras, ``knowledge.*`` for what they saw. One metadata entry, ``memonf``, holds the header as
JSON: format version, architecture and config, box, near and far, background, view group, training
settings, lineage.
Unknown versions and keys are refused by name; shapes are checked against the config before any
memory is taken for the params. See ``docs/field-file.md``.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from .._version import __version__
from ..cameras.cameras import Cameras, same_size
from ..cameras.distortion import COEFFICIENTS, PROJECTIONS, Lenses
from ..cameras.frames import Placement
from ..errors import DataError, FieldFileError, InputError, nearest
from ..fields import FIELDS, Field, Record, build_field
from ..rendering.knowledge import Knowledge
from ..typing import PathLike, Tensor
from ..utils.files import is_utf8, write_tensors

__all__ = ["FORMAT_VERSION", "content_hash", "load", "save"]

#: Version 1 had no knowledge, version 2 no lenses and no placement, version 3 one picture size,
#: version 4 six coefficients of a lens.
FORMAT_VERSION = 5
READ_VERSIONS = (1, 2, 3, 4, 5)

HEADER_KEYS = (
    "format_version", "memonf_version", "architecture", "config", "aabb", "near", "far",
    "background", "cameras", "placement", "knowledge", "group", "scene", "training", "lineage",
)  # fmt: skip
POSES, INTRINSICS = "camera.camera_to_world", "camera.intrinsics"
SIZES, LENSES = "camera.sizes", "camera.lenses"
PROJECTION, FISHEYE = "camera.projection", "camera.fisheye"
VIEWS, SIDES, SOLID = "knowledge.views", "knowledge.sides", "knowledge.solid"
#: The box stands in the header, not among the tensors.
IN_HEADER = "aabb"
MOST_HEADER_CHARACTERS = 8 << 20
#: Pixels along a side of a picture.
MOST_SIDE = 1 << 16


def content_hash(field: Field) -> str:
    """SHA-256 over architecture, config, box, params and buffers: all that the field computes."""
    digest = hashlib.sha256()
    digest.update(json.dumps([field.name, field.config.as_dict()], sort_keys=True).encode())
    for name, tensor in sorted(field.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(field: Field, path: PathLike) -> None:
    """Write a field file, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    record = field.record
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in field.state_dict().items()
        if name != IN_HEADER
    }
    cameras = None
    if record.cameras is not None:
        tensors[POSES] = record.cameras.camera_to_world.cpu().contiguous()
        tensors[INTRINSICS] = record.cameras.intrinsics.cpu().contiguous()
        tensors[SIZES] = record.cameras.sizes.to("cpu", torch.int32)
        lenses = record.cameras.lenses
        cameras = {"lenses": lenses is not None}
        if lenses is not None:
            tensors[LENSES] = lenses.coefficients.cpu().contiguous()
            tensors[PROJECTION] = lenses.projection.to("cpu", torch.uint8)
    knowledge = None
    if record.knowledge is not None:
        found = record.knowledge.to("cpu")
        tensors |= {VIEWS: found.views, SIDES: found.sides}
        tensors[SOLID] = torch.from_numpy(np.packbits(found.solid.numpy()))
        knowledge = {"cells": len(found.views), "solid_cells": len(found.solid)}
    header = {
        "format_version": FORMAT_VERSION,
        "memonf_version": __version__,
        "architecture": field.name,
        "config": field.config.as_dict(),
        "aabb": field.aabb.tolist(),
        "near": record.near,
        "far": record.far,
        "background": list(record.background),
        "cameras": cameras,
        "placement": None if record.placement is None else record.placement.as_dict(),
        "knowledge": knowledge,
        "group": record.group,
        "scene": record.scene,
        "training": record.training,
        "lineage": record.lineage,
    }
    write_tensors(path, tensors, {"memonf": json.dumps(header, sort_keys=True)})


def load(path: PathLike, device: torch.device | str = "cpu") -> Field:
    """Read a field file.

    Args:
        path: A file written by `save`.
        device: Where the field is put.

    Returns:
        The field in evaluation mode, its `record` filled.

    Raises:
        FieldFileError: Not a field file, damaged, or of an unknown version or architecture.
    """
    file = Path(path)
    if not is_utf8(file):
        raise FieldFileError(f"{file}: expected a path in UTF-8; rename the file or its folder")
    refuse_other_kinds(file)
    try:
        with safe_open(file, framework="pt", device="cpu") as archive:
            header = parse_header(file, (archive.metadata() or {}).get("memonf"))
            with torch.device("meta"):  # shapes only: a lying config takes no memory
                outline = new_field(file, header)
            names = list(archive.keys())
            shapes = {name: list(archive.get_slice(name).get_shape()) for name in names}
            compare_shapes(file, shapes, expected_shapes(outline, header, shapes))
            tensors = {name: archive.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise FieldFileError(
            f"{file}: not a whole safetensors file ({error}); it is damaged or of another kind, "
            "copy or train it again"
        ) from None
    except OSError as error:
        raise FieldFileError(f"{file}: cannot be read: {error.strerror or error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise FieldFileError(f"{file}: `{name}` holds NaN or infinity; train the field again")
    cameras = read_cameras(file, header, tensors)
    placement = read_placement(file, header)
    knowledge = read_knowledge(file, header, tensors)
    field = new_field(file, header)
    missing = field.load_state_dict(tensors, strict=False).missing_keys
    assert set(missing) <= {IN_HEADER}, missing
    field.record = Record(
        near=float(header["near"]),
        far=float(header["far"]),
        background=tuple(header["background"]),
        cameras=cameras,
        placement=placement,
        knowledge=None if knowledge is None else knowledge.to(device),
        group=header["group"],
        scene=header["scene"],
        training=header["training"],
        lineage=header["lineage"],
    )
    return field.eval().to(device)


def refuse_other_kinds(file: Path) -> None:
    """Name the common files that are not field files, pickles above all."""
    try:
        with file.open("rb") as stream:
            start = stream.read(16)
    except FileNotFoundError:
        raise FieldFileError(
            f"{file}: there is no such file; `memonf train --data embedded:robot --out {file}` "
            "makes one"
        ) from None
    except OSError as error:
        raise FieldFileError(f"{file}: cannot be read: {error.strerror or error}") from None
    # A field file starts with eight bytes of length, of any value, and then its JSON header.
    pickled = start[:1] == b"\x80" and start[8:9] != b"{"
    if pickled or start[:4] == b"PK\x03\x04":
        raise FieldFileError(
            f"{file}: this is a pickle or a zip archive (a PyTorch checkpoint?), which can hold "
            "code and is never read; expected a field file that `memonf train` or `merge` wrote"
        )


def parse_header(file: Path, text: str | None) -> dict[str, Any]:
    """Parse and check the header; every value has its type and range afterwards."""

    def refuse(key: str, expected: str) -> NoReturn:
        raise FieldFileError(
            f"{file}: header `{key}`: expected {expected}, received {header.get(key)!r}"
        )

    if text is None or len(text) > MOST_HEADER_CHARACTERS:
        raise FieldFileError(
            f"{file}: a safetensors file without a `memonf` header; "
            "expected a field file that `memonf train` or `memonf merge` wrote"
        )
    header: dict[str, Any] = {}
    try:
        header = json.loads(text, parse_constant=lambda name: refuse("numbers", f"no {name}"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise FieldFileError(f"{file}: the header is not valid JSON: {error}") from None
    if not isinstance(header, dict):
        raise FieldFileError(f"{file}: the header is not a JSON object")
    if header.get("format_version") not in READ_VERSIONS:
        refuse("format_version", f"{FORMAT_VERSION} (update memonf to read newer files)")
    if header["format_version"] == 1:
        header.setdefault("knowledge", None)
    if header["format_version"] in (1, 2):
        header.setdefault("placement", None)
        if isinstance(header.get("cameras"), dict):
            header["cameras"].setdefault("lenses", False)
    for key in header:
        if key not in HEADER_KEYS:
            raise FieldFileError(f"{file}: unknown header key `{key}`; {nearest(key, HEADER_KEYS)}")
    for key in HEADER_KEYS:
        if key not in header:
            raise FieldFileError(f"{file}: header key `{key}` is missing; the file is damaged")
    for key, kind in (("architecture", str), ("group", str), ("scene", str), ("config", dict),
                      ("training", dict), ("lineage", dict)):  # fmt: skip
        if not isinstance(header[key], kind):
            refuse(key, f"a {kind.__name__}")
    box = header["aabb"]
    if not (
        isinstance(box, list)
        and len(box) == 2
        and all(isinstance(corner, list) and len(corner) == 3 for corner in box)
        and all(is_number(value) for corner in box for value in corner)
        and all(low < high for low, high in zip(*box, strict=True))
    ):
        refuse("aabb", "two corners of three numbers, lower < upper")
    near, far = header["near"], header["far"]
    if not (is_number(near) and is_number(far) and 0 <= near < far):
        refuse("near", "0 <= near < far")
    colour = header["background"]
    if not (
        isinstance(colour, list)
        and len(colour) == 3
        and all(is_number(value) and 0 <= value <= 1 for value in colour)
    ):
        refuse("background", "three numbers in [0, 1]")
    cameras = header["cameras"]
    one_size = {"width", "height"} if header["format_version"] < 4 else set()
    if cameras is not None and not (
        isinstance(cameras, dict)
        and cameras.keys() == one_size | {"lenses"}
        and all(isinstance(cameras[key], int) and 0 < cameras[key] <= MOST_SIDE for key in one_size)
        and isinstance(cameras["lenses"], bool)
    ):
        refuse("cameras", "null or whether there are lenses (before version 4, also a width and a "
               "height in pixels)")  # fmt: skip
    knowledge = header["knowledge"]
    if knowledge is not None and not (
        isinstance(knowledge, dict)
        and knowledge.keys() == {"cells", "solid_cells"}
        and all(isinstance(side, int) and 0 < side <= 256 for side in knowledge.values())
    ):
        refuse("knowledge", "null or numbers of cells along a side, at most 256")
    return header


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def new_field(file: Path, header: dict[str, Any]) -> Field:
    """Build the network that the header describes."""
    name = header["architecture"]
    try:
        config = FIELDS[name].Config.from_dict(header["config"], f"architecture `{name}`")
    except InputError as error:
        raise FieldFileError(f"{file}: {error}") from None
    return build_field(name, config, torch.tensor(header["aabb"], device="cpu"))


def expected_shapes(
    outline: Field, header: dict[str, Any], shapes: dict[str, list[int]]
) -> dict[str, list[int]]:
    """Names and shapes that the tensors of a file with this header must have."""
    expected = {
        name: list(tensor.shape)
        for name, tensor in outline.state_dict().items()
        if name != IN_HEADER
    }
    if header["cameras"] is not None:
        views = (shapes.get(POSES) or [0])[0]
        expected |= {POSES: [views, 3, 4], INTRINSICS: [views, 4]}
        if header["format_version"] >= 4:
            expected |= {SIZES: [views, 2]}
        if header["cameras"]["lenses"]:
            expected |= (
                {LENSES: [views, len(COEFFICIENTS)], PROJECTION: [views]}
                if header["format_version"] >= 5
                else {LENSES: [views, 6], FISHEYE: [views]}
            )
    if header["knowledge"] is not None:
        coarse, fine = header["knowledge"]["cells"], header["knowledge"]["solid_cells"]
        expected |= {VIEWS: [coarse] * 3, SIDES: [coarse] * 3, SOLID: [math.ceil(fine**3 / 8)]}
    return expected


def compare_shapes(
    file: Path, received: dict[str, list[int]], expected: dict[str, list[int]]
) -> None:
    """Refuse tensors that are missing, unknown or of another shape than the config says."""
    for name, shape in expected.items():
        if name not in received:
            raise FieldFileError(f"{file}: tensor `{name}` {shape} is missing; copy it again")
        if received[name] != shape:
            raise FieldFileError(
                f"{file}: `{name}` is {received[name]}, the config says {shape}; "
                "the file is damaged, train or copy it again"
            )
    for name in received:
        if name not in expected:
            raise FieldFileError(f"{file}: unknown tensor `{name}`; {nearest(name, expected)}")


def read_cameras(file: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Cameras | None:
    """Take the cameras out of the tensors and check them."""
    if header["cameras"] is None:
        return None
    lenses = None
    if header["cameras"]["lenses"]:
        lenses = read_lenses(file, header["format_version"], tensors)
    poses = tensors.pop(POSES).float()
    if header["format_version"] < 4:
        sizes = same_size(len(poses), header["cameras"]["width"], header["cameras"]["height"])
    else:
        sizes = read_sizes(file, tensors.pop(SIZES))
    cameras = Cameras(poses, tensors.pop(INTRINSICS).float(), sizes, lenses)
    try:
        cameras.check()
    except DataError as error:
        raise FieldFileError(f"{file}: camera {error}") from None
    return cameras


def read_lenses(file: Path, version: int, tensors: dict[str, Tensor]) -> Lenses:
    """Take the lenses out of the tensors."""
    coefficients = tensors.pop(LENSES).float()
    if version >= 5:
        projection = tensors.pop(PROJECTION)
        if projection.dtype != torch.uint8 or (projection >= len(PROJECTIONS)).any():
            raise FieldFileError(
                f"{file}: `{PROJECTION}`: expected 8 bit numbers below {len(PROJECTIONS)} "
                f"({', '.join(PROJECTIONS)})"
            )
        return Lenses(coefficients, projection.long())
    fisheye = tensors.pop(FISHEYE).bool()
    coefficients[fisheye, 4:] = 0.0  # p1 and p2 were not used by fisheyes
    more = len(COEFFICIENTS) - coefficients.shape[1]
    projection = fisheye.long() * PROJECTIONS.index("fisheye")
    return Lenses(torch.nn.functional.pad(coefficients, (0, more)), projection)


def read_sizes(file: Path, sizes: Tensor) -> Tensor:
    """Width and height of each picture, checked: (views, 2)."""
    if sizes.dtype != torch.int32:
        raise FieldFileError(f"{file}: `{SIZES}` is {sizes.dtype}, expected torch.int32")
    if ((sizes < 1) | (sizes > MOST_SIDE)).any():
        raise FieldFileError(f"{file}: `{SIZES}`: expected pixels in [1, {MOST_SIDE}]")
    return sizes.long()


def read_placement(file: Path, header: dict[str, Any]) -> Placement | None:
    """Take the placement out of the header and check it."""
    if header["placement"] is None:
        return None
    try:
        return Placement.from_dict(header["placement"])
    except DataError as error:
        raise FieldFileError(f"{file}: header {error}") from None


def read_knowledge(
    file: Path, header: dict[str, Any], tensors: dict[str, Tensor]
) -> Knowledge | None:
    """Take what the field saw out of the tensors and check it."""
    if header["knowledge"] is None:
        return None
    for name in (VIEWS, SIDES, SOLID):
        if tensors[name].dtype != torch.uint8:
            raise FieldFileError(f"{file}: `{name}` is {tensors[name].dtype}, expected 8 bit")
    fine = header["knowledge"]["solid_cells"]
    solid = np.unpackbits(tensors.pop(SOLID).numpy(), count=fine**3)
    return Knowledge(
        torch.tensor(header["aabb"], dtype=torch.float32),
        tensors.pop(VIEWS),
        tensors.pop(SIDES),
        torch.from_numpy(solid.astype(bool)).view(fine, fine, fine),
    )
