"""Surfaces, points and grids of a field for other tools, in the coordinates of its capture.

A surface is where the density passes a level, by marching cubes; its colours are those that one
sees who looks straight at it. What a placement did is undone in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...cameras.frames import single_precision_loss
from ...errors import InputError
from ...fields import Field
from ...rendering.baking import FACTOR, BakedField
from ...rendering.occupancy_grid import CHUNK
from ...typing import Float, PathLike, Tensor
from ...utils.devices import check_memory
from ...utils.files import replacing

if TYPE_CHECKING:
    import trimesh

__all__ = [
    "LEVEL",
    "MESHES",
    "MOST_POINTS",
    "Surface",
    "surface",
    "write_grid",
    "write_mesh",
    "write_points",
]

#: Density, per scene unit, above which something is solid: a tenth of a unit lets e^-1 through.
LEVEL = 10.0
#: Points of a point cloud, and bytes that each takes while they are made.
MOST_POINTS, POINT_BYTES = 100_000_000, 700
#: Bytes that each point of a grid takes while a field is baked and a surface is found.
CELL_BYTES = 60
#: Formats of meshes, by ending.
MESHES = (".ply", ".glb", ".obj")
#: Share of a surface's extent that single precision may round its coordinates by.
MOST_LOSS = 1e-6
#: From z upwards, as everything here, to y upwards, as glTF demands.
Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Surface:
    """Where the density passes a level, in the capture's coordinates.

    Attributes:
        vertices: (vertices, 3).
        faces: (faces, 3), corners counterclockwise as seen from outside.
        normals: (vertices, 3), unit length, outwards.
        colours: (vertices, 3), 8 bit sRGB.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colours: np.ndarray

    @property
    def far(self) -> bool:
        """Whether single precision would move vertices by over a millionth of the extent."""
        return single_precision_loss(torch.from_numpy(self.vertices)) > MOST_LOSS

    def mesh(self, colours: np.ndarray | None = None) -> trimesh.Trimesh:
        """The surface as trimesh has it, in its own colours or others."""
        import trimesh

        chosen = self.colours if colours is None else colours
        return trimesh.Trimesh(
            self.vertices, self.faces, vertex_normals=self.normals, process=False,
            vertex_colors=np.concatenate([chosen, np.full_like(chosen[:, :1], 255)], 1),
        )  # fmt: skip


@torch.no_grad()
def surface(field: Field, resolution: int = 256, level: float = LEVEL) -> Surface:
    """Extract the surface; it is closed, also where matter meets the border of the box.

    Args:
        field: The field.
        resolution: Grid points along each side of its box; a multiple of 4.
        level: Density per scene unit, > 0.

    Raises:
        InputError: Nothing is that dense, settings out of range, or the extra is missing.

    Reference:
        Lewiner et al. 2003, Efficient implementation of marching cubes' cases.
    """
    try:
        import trimesh
        from skimage.measure import marching_cubes
    except ImportError:
        raise InputError(
            'meshes need trimesh and scikit-image: pip install "memonf[mesh]"'
        ) from None
    density = baked(field, resolution, level).values[0]
    if float(density.max()) <= level:
        raise InputError(
            f"no density above {level:g} per scene unit, the highest is "
            f"{float(density.max()):.3g}; lower --level"
        )
    padded = np.pad(density.cpu().numpy(), 1)
    corners, faces, _, _ = marching_cubes(padded, level, gradient_direction="ascent")
    cell = ((field.aabb[1] - field.aabb[0]) / resolution).cpu().double().numpy()
    vertices = field.aabb[0].cpu().double().numpy() + (corners.astype(float) - 0.5) * cell
    found = trimesh.Trimesh(vertices, faces, process=False)
    normals = np.array(found.vertex_normals)
    colours = colours_at(field, vertices, normals)
    placement = field.record.placement
    if placement is not None:
        vertices = placement.to_world(torch.from_numpy(vertices)).numpy()
        normals = normals @ placement.rotation.double().numpy()
    return Surface(vertices, np.asarray(faces), normals, colours)


def baked(field: Field, resolution: int, level: float) -> BakedField:
    """The field on a grid of points, settings checked."""
    if not 8 <= resolution <= 1024 or resolution % FACTOR:
        raise InputError(
            f"--resolution: expected a multiple of {FACTOR} in [8, 1024], received {resolution}"
        )
    if not 0 < level < 1e6:
        raise InputError(f"--level: expected a density > 0, received {level:g}")
    check_memory(
        CELL_BYTES * resolution**3, f"--resolution {resolution}",
        f"try --resolution {max(8, resolution // 2 // FACTOR * FACTOR)}", field.aabb.device,
    )  # fmt: skip
    return BakedField.of(field, resolution)


def colours_at(field: Field, vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Colours (points, 3), 8 bit, of one who looks straight at each point of a surface."""
    device = field.aabb.device
    positions = torch.from_numpy(vertices).float().to(device)
    # Half a float's rounding past the border nothing is known.
    positions = positions.clamp(field.aabb[0], field.aabb[1])
    towards = -torch.from_numpy(normals).float().to(device)
    parts = [
        field(positions[start : start + CHUNK], towards[start : start + CHUNK])[1]
        for start in range(0, len(positions), CHUNK)
    ]
    return (torch.cat(parts).clamp(0, 1) * 255).round().byte().cpu().numpy()


def write_mesh(found: Surface, path: PathLike) -> None:
    """Write a mesh with vertex colours.

    ``.ply`` and ``.obj`` keep sRGB colours and the capture's axes; ``.glb`` has linear colours and
    a node that turns z upwards to y upwards, as glTF wants both. Of a surface far from the origin
    (`Surface.far`) ``.ply`` has double coordinates, and the node of ``.glb`` moves it there.

    Raises:
        InputError: Another ending.
        OutputError: It cannot be written.
    """
    import trimesh

    suffix = Path(path).suffix.lower()
    if suffix not in MESHES:
        raise InputError(f"{path}: expected a name that ends in {', '.join(MESHES)}")
    with replacing(path) as temporary:
        if suffix == ".ply":
            temporary.write_bytes(ply(found.vertices, found.normals, found.colours, found.faces))
        elif suffix == ".obj":
            found.mesh().export(temporary, file_type="obj")
        else:
            light = (linear(found.colours / 255) * 255).round().astype(np.uint8)
            shift = np.eye(4)
            if found.far:  # vertices are single precision in any case, the node is not
                shift[:3, 3] = found.vertices.mean(0).round()
            exported = trimesh.Scene()
            near = replace(found, vertices=found.vertices - shift[:3, 3])
            exported.add_geometry(near.mesh(light), transform=Y_UP @ shift)
            exported.export(temporary, file_type="glb")


def linear(srgb: np.ndarray) -> np.ndarray:
    """Decode sRGB in [0, 1] to linear light."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def write_points(found: Surface, path: PathLike, count: int, seed: int) -> None:
    """Write points spread evenly over a surface, with normals and colours (PLY).

    Args:
        found: The surface.
        path: Ends in ``.ply``.
        count: Number of points, >= 1.
        seed: Of the choice of points.
    """
    import trimesh

    if not 1 <= count <= MOST_POINTS:
        raise InputError(
            f"--points: expected at least 1 and at most {MOST_POINTS}, received {count}"
        )
    check_memory(POINT_BYTES * count, f"--points {count}", "ask for fewer --points")
    mesh = found.mesh()
    places, faces = trimesh.sample.sample_surface(mesh, count, seed=seed % (1 << 63))
    weights = trimesh.triangles.points_to_barycentric(mesh.triangles[faces], places)
    corners = found.faces[faces]
    colours = np.einsum("pc,pck->pk", weights, found.colours[corners].astype(float))
    normals = np.einsum("pc,pck->pk", weights, found.normals[corners])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    with replacing(path) as temporary:
        temporary.write_bytes(ply(places, normals, colours.round().clip(0, 255)))


def ply(
    places: np.ndarray, normals: np.ndarray, colours: np.ndarray, faces: np.ndarray | None = None
) -> bytes:
    """A PLY file of points (points, 3), or of a mesh; coordinates far away are doubles."""
    far = single_precision_loss(torch.from_numpy(np.asarray(places))) > MOST_LOSS
    rows = np.empty(len(places), dtype=[
        *((name, "<f8" if far else "<f4") for name in ("x", "y", "z")),
        *((name, "<f4") for name in ("nx", "ny", "nz")),
        *((name, "u1") for name in ("red", "green", "blue")),
    ])  # fmt: skip
    for name, column in zip(
        rows.dtype.names or (), [*places.T, *normals.T, *colours.T], strict=True
    ):
        rows[name] = column
    kinds = {"<f8": "double", "<f4": "float", "|u1": "uchar"}
    listed = [f"property {kinds[rows.dtype[name].str]} {name}" for name in rows.dtype.names or ()]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *listed]
    triangles = np.empty(0 if faces is None else len(faces), [("count", "u1"), ("at", "<i4", 3)])
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        triangles["count"], triangles["at"] = 3, faces
    header += ["end_header", ""]
    return "\n".join(header).encode() + rows.tobytes() + triangles.tobytes()


@torch.no_grad()
def write_grid(
    field: Field, path: PathLike, resolution: int = 128, level: float = LEVEL, *, sparse: bool
) -> None:
    """Write density and colour on a grid of points (``.npz``).

    Both forms hold ``aabb`` (2, 3) and ``resolution``; cell (i, j, k) has its centre at ``aabb[0] +
    ((i, j, k) + 0.5) · (aabb[1] - aabb[0]) / resolution``; ``scene_to_world`` (4, 4) leads from
    there to the capture's coordinates, whose densities are ``density · world_scale``. The dense
    form holds ``density`` (n, n, n) and ``rgb`` (n, n, n, 3), float32; the sparse one ``indices``
    (cells, 3), ``density`` (cells,) and ``rgb`` (cells, 3) where the density is above the level.

    Args:
        field: The field.
        path: File to write.
        resolution: Points along each side; a multiple of 4.
        level: Density per scene unit, for the sparse form.
        sparse: Which form.
    """
    values = baked(field, resolution, level).values.cpu()
    density = values[0].numpy()
    rgb = (values[1:] / values[0].clamp_min(1e-9)).permute(1, 2, 3, 0).numpy()
    to_world, scale = scene_to_world(field)
    content: dict[str, Any] = {
        "aabb": field.aabb.cpu().numpy(), "resolution": np.int64(resolution),
        "scene_to_world": to_world, "world_scale": np.float64(scale),
    }  # fmt: skip
    if sparse:
        kept = density > level
        content |= {"indices": np.argwhere(kept).astype(np.int32), "level": np.float64(level),
                    "density": density[kept], "rgb": rgb[kept]}  # fmt: skip
    else:
        content |= {"density": density, "rgb": rgb}
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **content)


def scene_to_world(field: Field) -> tuple[Float[np.ndarray, "4 4"], float]:
    """Matrix from the field's coordinates to the capture's, and scene units per world unit."""
    matrix = np.eye(4)
    placement = field.record.placement
    if placement is None:
        return matrix, 1.0
    origin: Tensor = placement.to_world(torch.zeros(3, dtype=torch.float64))
    matrix[:3, :3] = placement.rotation.double().numpy().T / placement.scale
    matrix[:3, 3] = origin.numpy()
    return matrix, placement.scale
