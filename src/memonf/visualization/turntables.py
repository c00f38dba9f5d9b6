"""Paths of cameras that suit a field: turntables, and others for what was seen from one side."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..cameras.cameras import Cameras, look_at, turntable
from ..typing import Float, Tensor

if TYPE_CHECKING:
    from ..rendering.volume_rendering import RadianceField

__all__ = ["PATHS", "field_path", "field_turntable"]

#: Cameras that span less than this, in degrees of azimuth, saw one side: a full turn would mostly
#: show what nobody saw.
ONE_SIDE = 150.0
#: Where a path stays within the cameras: outer ones have no neighbours beyond them.
INNER = (0.1, 0.9)
#: Turns of a spiral around a scene that was seen from all sides.
SPIRAL_TURNS = 2


def field_turntable(
    field: RadianceField, frames: int, size: int, elevation: float = 25.0
) -> Cameras:
    """One turn around the middle of a field's box, at its cameras' distance and field of view.

    A field without known cameras is seen with its whole box in the picture, unless its far
    distance would hide it from there.

    Args:
        field: The field.
        frames: Number of cameras, the first at the front (-y).
        size: Width and height in pixels.
        elevation: Degrees above the horizontal plane.
    """
    centre = field.aabb.mean(0).cpu()
    radius, angle = view_from(field)
    return turntable(frames, size, radius, centre, elevation=elevation, field_of_view=angle)


def field_path(field: RadianceField, frames: int, size: int, path: str = "auto") -> Cameras:
    """A path that suits a field.

    Args:
        field: The field.
        frames: Number of cameras.
        size: Width and height in pixels.
        path: One of `PATHS`; ``auto`` is a turntable, and a sway where the cameras of a capture saw
            one side alone.
    """
    if path == "auto":
        path = "sway" if seen_from_one_side(field) else "turntable"
    return PATHS[path](field, frames, size)


def sway(field: RadianceField, frames: int, size: int) -> Cameras:
    """From side to side and back within what the cameras saw, and a little up and down."""
    phase = torch.arange(frames, dtype=torch.float64) * (2 * math.pi / frames)
    return around(field, size, 0.5 - 0.5 * phase.cos(), 0.5 + 0.5 * phase.sin())


def spiral(field: RadianceField, frames: int, size: int) -> Cameras:
    """From low to high while turning; in circles that widen and narrow where one side was seen."""
    share = torch.arange(frames, dtype=torch.float64) / frames
    if not seen_from_one_side(field):
        return around(field, size, SPIRAL_TURNS * share, 0.5 - 0.5 * (2 * math.pi * share).cos())
    reach = 0.5 * (math.pi * share).sin()
    phase = 2 * math.pi * 3 * share
    return around(field, size, 0.5 + reach * phase.cos(), 0.5 + reach * phase.sin())


#: Name -> what makes the path.
PATHS: dict[str, Callable[[RadianceField, int, int], Cameras]] = {
    "turntable": field_turntable, "sway": sway, "spiral": spiral,
}  # fmt: skip


def around(field: RadianceField, size: int, across: Tensor, up: Tensor) -> Cameras:
    """Cameras at shares of the azimuths and elevations that the field's cameras had.

    Args:
        field: The field.
        size: Width and height in pixels.
        across: (frames,), 0 at the first and 1 at the last azimuth (of a full turn where the
            cameras stand all round).
        up: (frames,), 0 at the lowest and 1 at the highest elevation.
    """
    centre = field.aabb.mean(0).cpu()
    radius, angle = view_from(field)
    start, span, lowest, highest = ranges(field)
    azimuth = start + span * across
    elevation = lowest + (highest - lowest) * up
    offset = torch.stack(
        [azimuth.cos() * elevation.cos(), azimuth.sin() * elevation.cos(), elevation.sin()], -1
    ).float()
    focal = 0.5 * size / math.tan(0.5 * math.radians(angle))
    return Cameras.pinhole(look_at(centre + radius * offset, centre), focal, size, size)


def view_from(field: RadianceField) -> tuple[float, float]:
    """Distance from the middle of the box, and field of view of a square picture, degrees."""
    cameras = field.record.cameras
    if cameras is None:
        radius = 1.6 * float((field.aabb[1] - field.aabb[0]).norm())
        return min(radius, 0.5 * (field.record.near + field.record.far)), 40.0
    centre = field.aabb.mean(0).cpu()
    radius = float((cameras.positions.cpu() - centre).norm(dim=1).median())
    # All of upright pictures, too; of several sizes, all of most.
    return radius, math.degrees(float(cameras.angles.amax(1).median()))


def offsets(field: RadianceField) -> Float[Tensor, "views 3"]:
    """Where the field's cameras stand around the middle of its box; all round if unknown."""
    if field.record.cameras is None:
        return turntable(36, 1, 1.0, torch.zeros(3)).positions.double()
    return (field.record.cameras.positions.cpu() - field.aabb.mean(0).cpu()).double()


def ranges(field: RadianceField) -> tuple[float, float, float, float]:
    """Azimuth of the first camera and span to the last, lowest and highest elevation; radians."""
    places = offsets(field)
    inner = torch.tensor(INNER, dtype=torch.float64)
    elevation = torch.atan2(places[:, 2], places[:, :2].norm(dim=-1))
    lowest, highest = elevation.quantile(inner).tolist()
    if not seen_from_one_side(field):
        return -math.pi / 2, 2 * math.pi, lowest, highest
    mean = torch.nn.functional.normalize(places[:, :2], dim=-1).mean(0)
    middle = math.atan2(mean[1], mean[0])
    first, last = from_middle(places, middle).quantile(inner).tolist()
    return middle + first, last - first, lowest, highest


def from_middle(places: Tensor, middle: float) -> Tensor:
    """Azimuths from a middle one, radians in [-π, π)."""
    azimuth = torch.atan2(places[:, 1], places[:, 0]) - middle
    return (azimuth + math.pi) % (2 * math.pi) - math.pi


def seen_from_one_side(field: RadianceField) -> bool:
    """Whether the field is of a capture whose cameras all stood on one side."""
    if field.record.placement is None or field.record.cameras is None:
        return False
    places = offsets(field)
    mean = torch.nn.functional.normalize(places[:, :2], dim=-1).mean(0)
    aside = from_middle(places, math.atan2(mean[1], mean[0]))
    return math.degrees(float(aside.max() - aside.min())) < ONE_SIDE
