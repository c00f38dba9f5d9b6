"""Meshes whose inside is known: closed, all triangles turned outwards; repaired, or refused.

What is inside is told by the winding number: how many times the surface goes round a place. It
means something if the surface is closed and its triangles are turned alike. Files come otherwise:
corners stored once a triangle, triangles turned at random, doubled, of no area, bodies inside out.
What can be put right without a guess is, and said in the notes; the rest is refused by name.

A *body* is a piece whose triangles hang together by their edges. A body within another and turned
the other way round is a cavity.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..errors import DataError, InputError, decoding

if TYPE_CHECKING:
    import trimesh

__all__ = ["read_mesh", "winding_numbers"]

MOST_MESH_BYTES = 1 << 30
#: Coordinates of a mesh are smaller than this, and it is larger than one part in it.
FARTHEST = 1e9
#: Formats of meshes that name no other files, or none that is read.
MESHES = (".obj", ".off", ".ply", ".stl")
#: Corners are one if they are so near, as a share of the mesh's size: as written, or rounded.
SAME, ROUNDED = 1e-8, 1e-5
#: A body encloses more than this, as a share of the cube around it.
FLAT = 1e-9
#: Bodies of which it is found out which lies in which.
MOST_BODIES = 2048
#: Triangles of a body that are asked whether they lie in another.
PLACES = 200
#: Spacing of single precision: one part in so many.
SINGLE = 1 << 23

Corners = np.ndarray
Faces = np.ndarray


def read_mesh(file: Path) -> tuple[trimesh.Trimesh, np.ndarray, float, tuple[str, ...]]:
    """A closed mesh whose triangles are turned outwards.

    Args:
        file: Mesh file.

    Returns:
        The mesh, moved to the origin and scaled to a longest side of 1; where its middle (3,) was
        and its longest side, in the file's coordinates; what was repaired, a sentence each.

    Raises:
        InputError: The extra is missing.
        DataError: Not a mesh, not closed, or its inside cannot be told.
    """
    corners, faces = corners_and_faces(file)
    lower, upper = corners.min(0), corners.max(0)
    centre, size = (lower + upper) / 2, float((upper - lower).max())
    notes = list(rounding_note(corners, size))
    # Far from the origin, or tiny, nothing can be compared before this.
    corners = (corners - centre) / size
    corners, faces, said = closed(corners, faces, file)
    faces, changed, turned = turned_alike(faces, file)
    faces, outward = turned_outwards(corners, faces, changed, file)
    import trimesh

    used, faces = np.unique(faces, return_inverse=True)  # what was left out takes no room
    corners, faces = corners[used], faces.reshape(-1, 3)
    lower, upper = corners.min(0), corners.max(0)
    middle, share = (lower + upper) / 2, float((upper - lower).max())
    mesh = trimesh.Trimesh((corners - middle) / share, faces, process=False)
    centre, size = centre + middle * size, size * share
    if not (mesh.is_winding_consistent and mesh.volume > 0):
        raise DataError(f"{file}: its triangles cannot be turned so that inside means something")
    return mesh, centre, size, (*notes, *said, *turned, *outward)


def corners_and_faces(file: Path) -> tuple[Corners, Faces]:
    """Corners (corners, 3) and triangles (faces, 3) of a file, finite; only those that are used."""
    try:
        import igl  # noqa: F401
        import trimesh
    except ImportError:
        raise InputError(
            f'{file}: meshes are learnt with trimesh and libigl: pip install "memonf[shapes]"'
        ) from None
    if file.suffix.lower() not in MESHES:
        raise DataError(f"{file}: expected a mesh, {', '.join(MESHES)}")
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    if file.stat().st_size > MOST_MESH_BYTES:
        raise DataError(f"{file}: larger than a mesh that can be learnt here; simplify it")
    with decoding(f"{file}: cannot be read as a mesh"):
        found: Any = trimesh.load(file, force="mesh", process=False, skip_materials=True)
        corners = np.array(found.vertices, dtype=np.float64)
        faces = np.array(found.faces, dtype=np.int64)
        usable = corners.ndim == 2 and corners.shape[1:] == (3,) and len(faces) > 0
        usable = usable and int(faces.min()) >= 0 and int(faces.max()) < len(corners)
        if usable:
            used, faces = np.unique(faces, return_inverse=True)
            corners, faces = corners[used], faces.reshape(-1, 3)
            usable = bool((np.abs(corners) < FARTHEST).all())
            usable = usable and bool(np.ptp(corners, axis=0).max() > 1 / FARTHEST)
    if not usable:
        raise DataError(f"{file}: no mesh of triangles with finite corners")
    return corners, faces


def rounding_note(corners: Corners, size: float) -> list[str]:
    """Whether corners were rounded to single precision far from the origin."""
    step = float(np.abs(corners).max()) / SINGLE
    single = corners.astype(np.float32).astype(np.float64)
    if step < size / 1000 or not np.array_equal(corners, single):
        return []
    return [
        f"its corners lie far from the origin and were stored in single precision: rounded to "
        f"{step:.2g}, of a size of {size:.2g}; export it with its origin in the middle"
    ]


def merged(corners: Corners, faces: Faces, tolerance: float) -> tuple[Corners, Faces]:
    """Corners in one place made one, triangles that have no area then left out."""
    _, first, place = np.unique(
        np.round(corners / tolerance).astype(np.int64), axis=0, return_index=True,
        return_inverse=True,
    )  # fmt: skip
    faces = place.reshape(-1)[faces]
    a, b, c = faces.T
    return corners[first], faces[(a != b) & (b != c) & (c != a)]


def edges_of(faces: Faces) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Undirected edges: which edge each of 3 F sides is, its direction (±1), faces an edge has."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.sort(sides, 1)
    key = ends[:, 0] * (faces.max() + 1) + ends[:, 1]
    _, edge, count = np.unique(key, return_inverse=True, return_counts=True)
    return edge.reshape(-1), np.where(sides[:, 0] < sides[:, 1], 1, -1), count


def holes(faces: Faces) -> int:
    """Edges that an odd number of triangles has."""
    return int((edges_of(faces)[2] % 2).sum()) if len(faces) else 1


def closed(corners: Corners, faces: Faces, file: Path) -> tuple[Corners, Faces, list[str]]:
    """The surface without doubled triangles, its corners merged as far as it takes to close it.

    Raises:
        DataError: It has holes.
    """
    notes: list[str] = []
    first: Faces | None = None
    for tolerance in (SAME, ROUNDED):
        joined, sides = merged(corners, faces, tolerance)
        first = sides if first is None else first
        single, pairs = without_doubles(sides)
        for kept, why in (
            (single, "doubled triangles were left out"),
            (pairs, "triangles of walls between two bodies were left out"),
            (sides, ""),
        ):
            if holes(kept) == 0:
                if tolerance == ROUNDED:
                    notes.append("corners that differ by rounding were made one")
                if len(kept) < len(sides):
                    notes.append(f"{len(sides) - len(kept)} {why}")
                return joined, kept, notes
    assert first is not None
    count = holes(first)
    raise DataError(
        f"{file}: the mesh is not watertight: {count} edges have a triangle on one side alone, so "
        "that inside means nothing; close its holes"
    )


def without_doubles(faces: Faces) -> tuple[Faces, Faces]:
    """Of triangles with the same corners one is kept; or none of two, but where they are a body."""
    _, first, count = np.unique(np.sort(faces, 1), axis=0, return_index=True, return_counts=True)
    odd = count % 2 == 1
    doubled = faces[first[~odd]]
    whole = np.zeros(len(doubled), dtype=bool)
    if len(doubled):
        body = bodies_of(doubled)
        for number in range(int(body.max()) + 1):
            whole[body == number] = holes(doubled[body == number]) == 0
    kept = np.concatenate([first[odd], first[~odd][whole]])
    return faces[np.sort(first)], faces[np.sort(kept)]


def turned_alike(faces: Faces, file: Path) -> tuple[Faces, np.ndarray, list[str]]:
    """Triangles turned so that neighbours go along their edge in opposite directions.

    Each triangle stands twice in a graph, as it is and turned; neighbours that go the same way are
    joined as-is to turned. What hangs together there is turned alike; a triangle that hangs
    together with itself turned is of a surface with one side.

    Raises:
        DataError: The surface has one side alone, or edges of four triangles that do not cancel.
    """
    edge, direction, count = edges_of(faces)
    if not np.bincount(edge, weights=direction).any():
        return faces, np.zeros(len(faces), dtype=bool), []
    if (count > 2).any():
        raise DataError(
            f"{file}: {int((count > 2).sum())} edges have more than two triangles and are not "
            "turned alike, so that inside means nothing; make it a manifold"
        )
    number = len(faces)
    by_edge = np.argsort(edge, kind="stable")
    one, other = by_edge[::2], by_edge[1::2]
    same_way = direction[one] == direction[other]
    left, right = one % number, other % number
    rows = np.concatenate([left, left + number])
    columns = np.concatenate([right + number * same_way, right + number * ~same_way])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), (2 * number, 2 * number))
    _, label = connected_components(graph, directed=False)
    as_is, turned = label[:number], label[number:]
    if (as_is == turned).any():
        raise DataError(f"{file}: its surface has one side alone, so that nothing is inside")
    # Of each body's two ways, the one that leaves more triangles as they are.
    votes = np.bincount(as_is, minlength=label.max() + 1)
    keep = (votes[as_is] > votes[turned]) | ((votes[as_is] == votes[turned]) & (as_is < turned))
    faces = np.where(keep[:, None], faces, faces[:, ::-1])
    said = f"{int((~keep).sum())} of {number} triangles were turned to agree with the others"
    return faces, ~keep, [said]


def bodies_of(faces: Faces) -> np.ndarray:
    """Which body each triangle belongs to."""
    edge, _, _ = edges_of(faces)
    number = len(faces)
    order = np.argsort(edge, kind="stable")
    joined = edge[order][1:] == edge[order][:-1]
    one, other = order[:-1][joined] % number, order[1:][joined] % number
    graph = coo_array((np.ones(len(one)), (one, other)), (number, number))
    return connected_components(graph, directed=False)[1]


def volumes(corners: Corners, faces: Faces, body: np.ndarray) -> np.ndarray:
    """Signed volume of each body, positive if it is turned outwards."""
    a, b, c = (corners[faces[:, side]] for side in range(3))
    count = int(body.max()) + 1
    # Around each body's own middle: bodies far from the origin cancel badly.
    share = np.bincount(body, minlength=count)
    middle = np.stack(
        [np.bincount(body, weights=a[:, axis], minlength=count) / share for axis in range(3)], 1
    )[body]
    parts = np.einsum("ij,ij->i", a - middle, np.cross(b - middle, c - middle)) / 6
    return np.bincount(body, weights=parts, minlength=count)


def turned_outwards(
    corners: Corners, faces: Faces, changed: np.ndarray, file: Path
) -> tuple[Faces, list[str]]:
    """Bodies that lie in no other turned outwards, and with them what lies in them.

    A body within another stays as it is turned towards that: the other way round it is a cavity.
    Turned alike it is a part of what is around it, and no surface. Where its own triangles were
    turned at random it is taken for a cavity of what is solid around it.

    Args:
        corners: (corners, 3).
        faces: (faces, 3), turned alike within each body.
        changed: Triangles that were turned for that.
        file: For messages.

    Raises:
        DataError: Nothing encloses a volume, or a cavity is in nothing.
    """
    body = bodies_of(faces)
    volume = volumes(corners, faces, body)
    flat = np.abs(volume) < FLAT
    notes = []
    if flat.all():
        raise DataError(f"{file}: its triangles enclose no volume, so that nothing is inside")
    if flat.any():
        faces, changed = faces[~flat[body]], changed[~flat[body]]
        notes.append(f"{int(flat.sum())} bodies of no volume were left out")
        body = bodies_of(faces)
        volume = volumes(corners, faces, body)
    if len(volume) > MOST_BODIES and (volume < 0).any():
        raise DataError(
            f"{file}: {len(volume)} bodies, some turned inwards: which are cavities is found out "
            f"for {MOST_BODIES} at most; turn them outwards or leave small ones out"
        )
    within = containers(corners, faces, body)
    mixed = np.bincount(body, weights=changed) > 0
    wanted = directions(volume, within, mixed)
    flip = wanted != np.sign(volume)
    if flip.any():
        faces = np.where(flip[body][:, None], faces[:, ::-1], faces)
        whole = flip & ~mixed
        if whole.any():
            notes.append(
                "it was inside out and was turned" if whole.all()
                else f"{int(whole.sum())} of {len(flip)} bodies were inside out and were turned"
            )  # fmt: skip
    solid_around = within @ wanted
    buried = (solid_around >= 1) & (wanted > 0)
    if ((solid_around < 1) & (wanted < 0)).any():
        raise DataError(f"{file}: a body is turned inwards where nothing solid is around it")
    if (mixed & (wanted < 0)).any():
        notes.append(
            f"{int((mixed & (wanted < 0)).sum())} bodies within others are turned at random: taken "
            "for cavities"
        )
    if buried.any():
        faces = faces[~buried[body]]
        notes.append(
            f"{int(buried.sum())} bodies lie within others and are turned alike: taken for parts "
            "of them (a cavity is turned the other way round)"
        )
    return faces, notes


def directions(volume: np.ndarray, within: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """How each body should be turned: 1 outwards, -1 inwards; see `turned_outwards`."""
    wanted = np.sign(volume)
    depth = within.sum(1)
    for outer in np.flatnonzero(depth == 0):
        if wanted[outer] < 0 and not mixed[outer]:
            wanted[within[:, outer] & ~mixed] *= -1
        wanted[outer] = 1
    for number in np.flatnonzero(mixed & (depth > 0))[np.argsort(depth[mixed & (depth > 0)])]:
        wanted[number] = -1 if wanted[within[number]].sum() >= 1 else 1
    return wanted


def containers(corners: Corners, faces: Faces, body: np.ndarray) -> np.ndarray:
    """Which bodies lie in which: (bodies, bodies), a row says what a body lies in."""
    count = int(body.max()) + 1
    within = np.zeros((count, count), dtype=bool)
    if count == 1 or count > MOST_BODIES:  # all are turned outwards then
        return within
    parts = [faces[body == number] for number in range(count)]
    lower = np.array([corners[part].min((0, 1)) for part in parts])
    upper = np.array([corners[part].max((0, 1)) for part in parts])
    for outer in range(count):
        inner = np.flatnonzero(
            (lower >= lower[outer]).all(1) & (upper <= upper[outer]).all(1)
            & (np.arange(count) != outer)
        )  # fmt: skip
        if len(inner):
            tested = [parts[number][:: max(1, len(parts[number]) // PLACES)] for number in inner]
            places = np.concatenate([corners[part].mean(1) for part in tested])
            inside = np.abs(winding_numbers(corners, parts[outer], places)) > 0.5
            starts = np.cumsum([0, *map(len, tested[:-1])])
            # Bodies that go through each other are not within: both are solid.
            within[inner, outer] = np.logical_and.reduceat(inside, starts)
    return within


def winding_numbers(corners: Corners, faces: Faces, places: np.ndarray) -> np.ndarray:
    """How many times a surface goes round each place: 1 inside, 0 outside."""
    import igl

    return np.asarray(igl.fast_winding_number(
        np.ascontiguousarray(corners, dtype=np.float64),
        np.ascontiguousarray(faces, dtype=np.int64),
        np.ascontiguousarray(places, dtype=np.float64),
    )).reshape(-1)  # fmt: skip
