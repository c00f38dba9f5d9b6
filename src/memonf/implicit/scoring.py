"""How near a pointwise field comes to its truth, in the measures of its kind."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..errors import InputError
from ..fields import Field
from ..fields.pointwise import PointField
from ..io.export.geometry import surface
from ..rendering.occupancy_grid import in_chunks
from .truths import ImageTruth, MeshTruth, Truth

__all__ = ["score"]

#: Points in the box for errors and IoU, on each surface for Chamfer; grid for the field's surface.
POINTS, ON_SURFACE, GRID = 200_000, 30_000, 128
#: Density where the opacity over a length of 1 is one half: the surface.
HALF_OPAQUE = math.log(2)


@torch.no_grad()
def score(field: Field, truth: Truth, group: str = "all", seed: int = 0) -> dict[str, float]:
    """Compare a field with its truth on a part of it.

    Args:
        field: A pointwise field.
        truth: The truth, of the field's kind.
        group: ``all`` or a part.
        seed: Seed of the positions; they are not those of training.

    Returns:
        Of pictures: ``psnr`` of the part's held-out pixels, dB. Of shapes: ``iou`` of the inside;
        ``error`` (signed distance: mean absolute, anywhere in the box) and ``error_near`` (within
        0.05 of the surface), both scene units; ``chamfer``: mean distance from either surface to
        the other, half the sum, scene units; infinite if the field has no surface.

    Raises:
        InputError: The field is of another kind.
    """
    if not isinstance(field, PointField) or field.name != truth.field:
        raise InputError(f"{truth.name}: is learnt by `{truth.field}`, the field is `{field.name}`")
    if isinstance(truth, ImageTruth):
        positions = truth.at_pixels()[truth.held_out]
        positions = positions[truth.in_part(positions, group)]
        error = (asked(field, positions) - truth.values(positions)).double().square().mean()
        return {"psnr": -10 * math.log10(max(float(error), 1e-12))}
    assert isinstance(truth, MeshTruth)
    return shape_scores(field, truth, group, seed)


def asked(field: PointField, positions: torch.Tensor) -> torch.Tensor:
    """The field's values, on the CPU."""
    return in_chunks(field.values, positions.to(field.aabb.device)).cpu()


def shape_scores(field: PointField, truth: MeshTruth, group: str, seed: int) -> dict[str, float]:
    """See `score`."""
    generator = torch.Generator().manual_seed(seed + 10_000)
    lower, upper = truth.aabb
    positions = lower + torch.rand(POINTS, 3, generator=generator) * (upper - lower)
    positions = positions[truth.in_part(positions, group)]
    distance, said = truth.distance(positions)[:, 0], asked(field, positions)[:, 0]
    inside = distance < 0
    found = said > 0.5 if truth.inside else said < 0
    scores = {"iou": float((inside & found).sum() / (inside | found).sum().clamp_min(1))}
    if not truth.inside:
        near = distance.abs() < 0.05
        scores["error"] = float((said - distance).abs().mean())
        scores["error_near"] = float((said - distance)[near].abs().mean())
    scores["chamfer"] = chamfer(field, truth, group, seed)
    return scores


def chamfer(field: PointField, truth: MeshTruth, group: str, seed: int) -> float:
    """Half the sum of the mean distances from each surface to the other, in a part."""
    import trimesh

    try:
        own = surface(field, GRID, HALF_OPAQUE)
    except InputError:
        return math.inf  # nothing is inside
    vertices = own.vertices
    if field.record.placement is not None:  # back from the file's coordinates
        vertices = field.record.placement.to_scene(torch.from_numpy(vertices)).numpy()
    clouds = []
    for mesh in (trimesh.Trimesh(vertices, own.faces, process=False), truth.mesh):
        points = np.asarray(trimesh.sample.sample_surface(mesh, ON_SURFACE, seed=seed)[0])
        kept = truth.in_part(torch.from_numpy(points), group).numpy()
        if not kept.any():
            return math.inf
        clouds.append(points[kept])
    one, other = clouds
    return float(0.5 * (cKDTree(other).query(one)[0].mean() + cKDTree(one).query(other)[0].mean()))
