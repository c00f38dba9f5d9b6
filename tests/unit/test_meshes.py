"""Meshes as they come: turned at random, inside out, doubled, unmerged, far away; or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from memonf.errors import DataError
from memonf.implicit import MeshTruth
from memonf.implicit.meshes import read_mesh

Mesh = trimesh.Trimesh


def ball(radius: float = 1.0, at: tuple[float, ...] = (0, 0, 0), detail: int = 2) -> Mesh:
    made = trimesh.creation.icosphere(detail, radius=radius)
    made.apply_translation(at)
    return made


def turned(mesh: Mesh, share: float = 1.0) -> Mesh:
    """Triangles turned round: all, or a random share."""
    faces = np.array(mesh.faces)
    chosen = np.random.default_rng(0).random(len(faces)) < share
    faces[chosen] = faces[chosen, ::-1]
    return Mesh(mesh.vertices, faces, process=False)


def together(*meshes: Mesh) -> Mesh:
    return trimesh.util.concatenate(list(meshes))


def written(mesh: Mesh, folder: Path, name: str = "m.ply") -> Path:
    mesh.export(folder / name)
    return folder / name


def distances(truth: MeshTruth, *places: tuple[float, ...]) -> list[float]:
    """Signed distances at places of the file's coordinates, in its units."""
    assert truth.placement is not None
    world = torch.tensor(places, dtype=torch.float64)
    scene = truth.placement.to_scene(world)
    return [value / truth.placement.scale for value in truth.distance(scene)[:, 0].tolist()]


@pytest.mark.parametrize("share", [0.5, 0.02, 1.0, 0.0])
@pytest.mark.parametrize("name", ["m.ply", "m.stl", "m.obj", "m.off"])
def test_triangles_turned_at_random_are_turned_alike(
    share: float, name: str, tmp_path: Path
) -> None:
    truth = MeshTruth(written(turned(ball(), share), tmp_path, name))
    at_centre, outside = distances(truth, (0, 0, 0), (1.1, 0, 0))
    assert at_centre == pytest.approx(-1, abs=0.05)
    assert outside == pytest.approx(0.1, abs=0.02)
    assert truth.mesh.is_winding_consistent
    assert truth.mesh.volume > 0
    assert bool(truth.notes) == (share > 0)


@pytest.mark.parametrize(
    ("mesh", "note"),
    [
        # one of two inside out
        (lambda: together(ball(), turned(ball(0.5, (3, 0, 0)))), "1 of 2 bodies were inside out"),
        (lambda: together(turned(ball()), turned(ball(0.5, (3, 0, 0)))), "it was inside out"),
        # each at random
        (lambda: together(turned(ball(), 0.4), turned(ball(0.5, (3, 0, 0)), 0.6)), "triangles"),
        # doubled triangles, in either direction
        (lambda: together(ball(), Mesh(ball().vertices, ball().faces[:7])), "7 doubled"),
        (lambda: together(ball(), Mesh(ball().vertices, ball().faces[:7, ::-1])), "7 doubled"),
        # a triangle of no area, and a body of none
        (lambda: together(ball(), Mesh([[0, 0, 2]] * 3, [[0, 1, 2]], process=False)), ""),
        # a ball in the ball, turned alike
        (lambda: together(ball(), ball(0.5)), "taken for parts"),
    ],
)  # fmt: skip
def test_what_can_be_repaired_is_and_said(
    mesh: Callable[[], Mesh], note: str, tmp_path: Path
) -> None:
    truth = MeshTruth(written(mesh(), tmp_path))
    at_centre, outside = distances(truth, (0, 0, 0), (0, 0, 1.2))
    assert at_centre == pytest.approx(-1, abs=0.05)
    assert outside == pytest.approx(0.2, abs=0.05)
    if truth.mesh.bounds[1, 0] > 1.0:  # there is a second body
        assert distances(truth, (3, 0, 0)) != []
    assert any(note in said for said in truth.notes) or not note


@pytest.mark.parametrize(
    "mesh",
    [
        lambda: together(ball(), turned(ball(0.5))),
        lambda: together(turned(ball()), ball(0.5)),  # all of it inside out
        lambda: together(turned(ball(), 0.3), turned(ball(0.5), 0.4)),
        lambda: together(turned(ball(), 0.3), turned(ball(0.5))),
    ],
)
def test_a_cavity_stays_a_cavity(mesh: Callable[[], Mesh], tmp_path: Path) -> None:
    truth = MeshTruth(written(mesh(), tmp_path))
    in_cavity, in_shell, outside = distances(truth, (0, 0, 0), (0.75, 0, 0), (1.2, 0, 0))
    assert in_cavity == pytest.approx(0.5, abs=0.05)
    assert in_shell == pytest.approx(-0.25, abs=0.05)
    assert outside == pytest.approx(0.2, abs=0.05)


def test_bodies_that_go_through_each_other_are_both_solid(tmp_path: Path) -> None:
    truth = MeshTruth(written(together(ball(), ball(1, (1, 0, 0))), tmp_path))
    inside = distances(truth, (-0.5, 0, 0), (0.5, 0, 0), (1.5, 0, 0))
    assert max(inside) < 0
    assert min(inside) > -0.6  # no multiples of the distance where it is inside both
    assert min(distances(truth, (-1.2, 0, 0), (2.2, 0, 0))) > 0


def test_a_wall_between_two_bodies_is_no_surface(tmp_path: Path) -> None:
    left = trimesh.creation.box((1, 1, 1))
    right = Mesh(left.vertices * [-1, 1, 1] + [1, 0, 0], left.faces[:, ::-1])  # mirrored
    truth = MeshTruth(written(together(left, right), tmp_path))
    (wall,) = distances(truth, (0.5, 0, 0))
    assert wall == pytest.approx(-0.5, abs=0.01)
    assert any("walls" in said for said in truth.notes)


def open_ball() -> Mesh:
    return Mesh(ball().vertices, ball().faces[1:])


def with_nan() -> Mesh:
    corners = np.array(ball().vertices)
    corners[5] = np.nan
    return Mesh(corners, ball().faces, process=False)


def flat() -> Mesh:
    return Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]],
                [[0, 1, 2], [1, 3, 2], [0, 2, 3], [0, 3, 1]], process=False)  # fmt: skip


def klein_bottle(cells: int = 12) -> Mesh:
    """A surface with one side: a tube whose end is joined to its beginning mirrored."""
    corners, faces = [], []
    for i in range(cells):
        for j in range(cells):
            u, v = 2 * np.pi * i / cells, 2 * np.pi * (j + 0.5) / cells
            half, one, two = u / 2, np.sin(v), np.sin(2 * v)
            r = 3 + np.cos(half) * one - np.sin(half) * two
            z = np.sin(half) * one + np.cos(half) * two
            corners.append([r * np.cos(u), r * np.sin(u), z])

    def at(i: int, j: int) -> int:
        j = j if i < cells else cells - 1 - j
        return (i % cells) * cells + j % cells

    for i in range(cells):
        for j in range(cells):
            a, b, c, d = at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)
            faces += [[a, b, c], [a, c, d]]
    return Mesh(corners, faces, process=False)


def three_pages() -> Mesh:
    """Two tetrahedra that share an edge and are turned at random."""
    one = trimesh.creation.box((1, 1, 1))
    other = trimesh.creation.box((1, 1, 1))
    other.apply_translation([1, 1, 0])
    return turned(together(one, other), 0.4)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (open_ball, "not watertight: 3 edges"), (with_nan, "finite corners"),
        (flat, "no volume"), (klein_bottle, "one side alone"), (three_pages, "more than two"),
        (lambda: together(ball(), Mesh([[0, 0, 3], [1, 0, 3], [0, 1, 3]], [[0, 1, 2]])),
         "not watertight: 3 edges"),
    ],
)  # fmt: skip
def test_what_has_no_inside_is_refused(
    mesh: Callable[[], Mesh], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        MeshTruth(written(mesh(), tmp_path))


def test_map_coordinates_change_nothing(tmp_path: Path) -> None:
    shift = np.array([512345.0, 1e7, 310.0])
    far = ball(20)
    far.apply_translation(shift)
    (tmp_path / "far.obj").write_text(
        "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in far.vertices.tolist())
        + "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in far.faces.tolist())
    )
    near, away = MeshTruth(written(ball(20), tmp_path, "n.obj")), MeshTruth(tmp_path / "far.obj")
    places = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(away.values(places), near.values(places), rtol=0, atol=1e-6)
    assert away.placement is not None
    middle = away.placement.to_world(torch.zeros(1, 3, dtype=torch.float64))
    np.testing.assert_allclose(middle[0].numpy(), shift, atol=1e-6)


def test_rounded_map_coordinates_are_said(tmp_path: Path) -> None:
    far = ball(20, detail=1)
    far.apply_translation([512345.0, 1e6, 310.0])
    truth = MeshTruth(written(far, tmp_path, "m.stl"))  # single precision: steps of 1/16
    assert any("single precision" in said for said in truth.notes)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_size_does_not_matter(size: float, tmp_path: Path) -> None:
    *_, scale, notes = read_mesh(written(ball(size), tmp_path))
    assert scale == pytest.approx(2 * size, rel=0.01)
    assert notes == ()


def test_corners_that_differ_by_rounding_are_one(tmp_path: Path) -> None:
    loose = Mesh(ball().triangles.reshape(-1, 3), np.arange(3 * len(ball().faces)).reshape(-1, 3),
                 process=False)  # fmt: skip
    loose.vertices = loose.vertices + np.random.default_rng(0).uniform(-1, 1, (
        len(loose.vertices), 3)) * 1e-7  # fmt: skip
    truth = MeshTruth(written(loose, tmp_path, "m.ply"))
    assert any("rounding" in said for said in truth.notes)
    assert len(truth.mesh.faces) == len(ball().faces)
