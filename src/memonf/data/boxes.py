"""Boxes that files say, and which cameras look into a box.

instant-ngp puts a point p of the world at ``scale`` · p + ``offset`` and trains a cube with sides
``aabb_scale`` around (0.5, 0.5, 0.5); that it cycles its axes afterwards turns the cube on itself.

Reference:
    Müller et al. 2022, instant-ngp: ``nerf_loader.cu`` and its notes on scene scale and offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..cameras.cameras import Cameras
from ..errors import DataError
from ..typing import Float, Tensor

__all__ = ["SaidBox", "box_of_file", "box_notes", "looking_into", "up_of_file"]

#: instant-ngp's ``scale`` and ``offset`` where a file says none.
NGP_SCALE, NGP_OFFSET = 0.33, (0.5, 0.5, 0.5)
#: Pixels along each side of a picture, and points along each side of a box, that are tried.
RAYS, POINTS = 7, 7
#: Cameras that are looked at, evenly spread; a note needs no more.
MOST_CAMERAS = 64


@dataclass(frozen=True)
class SaidBox:
    """A box as a file says it, world units.

    Attributes:
        half_side: Half a side.
        centre: Its middle; None for what the cameras look at.
        note: The keys that it comes from.
    """

    half_side: float
    centre: tuple[float, float, float] | None
    note: str


def box_of_file(content: Mapping[str, Any], where: str) -> SaidBox | None:
    """The box that ``aabb_scale``, ``scale``, ``offset`` or ``aabb`` say; None without them.

    Half a side is 0.5 ``aabb_scale`` / ``scale``, the centre (0.5 - ``offset``) / ``scale``. With
    ``aabb_scale`` alone the centre is left open: poses are then centred by whoever wrote them.

    Raises:
        DataError: A value that gives no box.
    """
    keys = [key for key in ("aabb_scale", "scale", "offset", "aabb") if key in content]
    if not keys:
        return None
    sides = numbers(content.get("aabb_scale", 1.0), 1, f"{where}: `aabb_scale`")[0]
    scale = numbers(content.get("scale", NGP_SCALE), 1, f"{where}: `scale`")[0]
    if not (sides > 0 and scale > 0):
        wrong = "aabb_scale" if sides <= 0 else "scale"
        raise DataError(f"{where}: `{wrong}`: expected a number above 0, received {content[wrong]}")
    said = content.get("offset", NGP_OFFSET)
    offset = numbers([said] * 3 if np.isscalar(said) else said, 3, f"{where}: `offset`")
    note = "box from " + ", ".join(f"`{key}` {short(content[key])}" for key in keys)
    if "aabb" in content:
        low, high = corners(content["aabb"], f"{where}: `aabb`")
        length, middle = float((high - low).max()), 0.5 * (low + high)
        return SaidBox(0.5 * sides * length, tuple(middle.tolist()), note)
    half_side = 0.5 * sides / scale
    if keys == ["aabb_scale"]:
        return SaidBox(half_side, None, note)
    return SaidBox(half_side, tuple(((0.5 - offset) / scale).tolist()), note)


def short(value: Any) -> str:
    """A value for a note."""
    return f"{value:g}" if isinstance(value, (int, float)) else f"{value!s:.60}"


def numbers(value: Any, count: int, where: str) -> np.ndarray:
    """So many finite numbers.

    Raises:
        DataError: Something else.
    """
    given = [value] if count == 1 else value
    plain = isinstance(given, (list, tuple)) and len(given) == count and all(
        isinstance(part, (int, float)) and not isinstance(part, bool) for part in given
    )  # fmt: skip
    if plain and np.isfinite(found := np.asarray(given, dtype=np.float64)).all():
        return found
    expected = "a number" if count == 1 else f"{count} numbers"
    raise DataError(f"{where}: expected {expected}, received {value!r:.80}")


def corners(value: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner of a box."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise DataError(f"{where}: expected two corners, received {value!r:.80}")
    one, other = (numbers(corner, 3, where) for corner in value)
    low, high = np.minimum(one, other), np.maximum(one, other)
    if not (high - low).max() > 0:
        raise DataError(f"{where}: expected a box with room in it, received {value!r:.80}")
    return low, high


def up_of_file(content: Mapping[str, Any], where: str) -> Float[Tensor, " 3"] | None:
    """The upward direction that ``up`` says, unit length, world coordinates.

    Raises:
        DataError: No direction.
    """
    if "up" not in content:
        return None
    up = torch.from_numpy(numbers(content["up"], 3, f"{where}: `up`"))
    if not float(up.norm()) > 0:
        raise DataError(f"{where}: `up`: expected a direction, received {content['up']}")
    return torch.nn.functional.normalize(up, dim=0)


def looking_into(
    cameras: Cameras, aabb: Float[Tensor, "2 3"], near: float, far: float
) -> Iterator[bool]:
    """Whether one camera after the other has some of a box in its picture, between near and far.

    Rays through a grid of pixels are tried, then points of the box: one finds large boxes, the
    other small ones.
    """
    at = torch.linspace(0, 1, RAYS)
    rows, columns = at.repeat_interleave(RAYS), at.repeat(RAYS)
    zero = torch.zeros(RAYS * RAYS, dtype=torch.long)
    for view in range(len(cameras)):
        camera = cameras[[view]]
        width, height = camera.size(0)
        rays = camera.rays(zero, rows * (height - 1), columns * (width - 1))
        inverse = 1 / torch.where(rays.directions == 0, 1e-12, rays.directions)
        to_low, to_high = ((corner - rays.origins) * inverse for corner in aabb)
        enters = torch.minimum(to_low, to_high).amax(1).clamp_min(near)
        leaves = torch.maximum(to_low, to_high).amin(1).clamp_max(far)
        yield bool((enters < leaves).any()) or sees_points(camera, aabb, near, far)


def sees_points(camera: Cameras, aabb: Float[Tensor, "2 3"], near: float, far: float) -> bool:
    """Whether one camera has a point of a grid in the box in its picture."""
    at = torch.linspace(0, 1, POINTS)
    points = aabb[0] + torch.cartesian_prod(at, at, at) * (aabb[1] - aabb[0])
    _, _, depth, inside = camera.project(points, 0)
    return bool((inside & (depth > near) & (depth < far)).any())


def box_notes(
    cameras: Cameras, aabb: Float[Tensor, "2 3"], near: float, far: float, remedy: str
) -> list[str]:
    """A note where no camera, or less than half of them, looks into the box.

    Args:
        cameras: Scene coordinates.
        aabb: The box.
        near: Nearest distance that is rendered.
        far: Farthest.
        remedy: What to correct.
    """
    step = -(-len(cameras) // MOST_CAMERAS)
    looked = cameras[torch.arange(0, len(cameras), step)]
    seeing = sum(looking_into(looked, aabb, near, far))
    if 2 * seeing >= len(looked):
        return []
    who = "no camera looks" if seeing == 0 else f"only {seeing} of {len(looked)} cameras look"
    sides = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in aabb.T.tolist())
    return [
        f"{who} into the box ({sides}) between near {near:.4g} and far {far:.4g}, and nothing is "
        f"trained elsewhere: {remedy}"
    ]
