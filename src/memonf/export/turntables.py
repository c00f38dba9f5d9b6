"""Turntable cameras that suit a field."""

from __future__ import annotations

import math

from ..cameras import Cameras, turntable
from ..rendering import RadianceField

__all__ = ["field_turntable"]


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
    cameras = field.record.cameras
    if cameras is None:
        radius, angle = 1.6 * float((field.aabb[1] - field.aabb[0]).norm()), 40.0
        radius = min(radius, 0.5 * (field.record.near + field.record.far))
    else:
        radius = float((cameras.positions.cpu() - centre).norm(dim=1).median())
        half = cameras.width / 2 / float(cameras.intrinsics[0, 0])
        angle = math.degrees(2 * math.atan(half))
    return turntable(frames, size, radius, centre, elevation=elevation, field_of_view=angle)
