"""Where a scene lies in the coordinates of its capture: moved, turned upright and scaled to a box.

scene = scale · (rotation · world + translation). It is chosen once from all cameras of a capture,
saved with every field trained on it, and undone when something is exported.

World coordinates may be those of a map, millions of units from the origin: they are in double
precision until the placement is taken off, and again once it is undone. Scene coordinates are
small, and single precision holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import normalize

from ..errors import DataError
from ..typing import Float, Tensor
from .cameras import Cameras

__all__ = ["Placement", "looked_at", "single_precision_loss"]


@dataclass(frozen=True, eq=False)
class Placement:
    """A similarity from the capture's coordinates (world) to those of the field (scene).

    Attributes:
        rotation: (3, 3), proper.
        translation: (3,), world units, after the rotation.
        scale: Scene units per world unit, > 0.
    """

    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, " 3"]
    scale: float

    def to_scene(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        """World coordinates -> scene coordinates, in double precision."""
        rotation, translation = self.on(points.device)
        return self.scale * (points.double() @ rotation.T + translation)

    def to_world(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        """Scene coordinates -> world coordinates, in double precision."""
        rotation, translation = self.on(points.device)
        return (points.double() / self.scale - translation) @ rotation

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rotation and translation on a device, in double precision."""
        return self.rotation.double().to(device), self.translation.double().to(device)

    def cameras_to_scene(self, cameras: Cameras) -> Cameras:
        """The same cameras in scene coordinates, in single precision."""
        poses = cameras.camera_to_world
        rotation, _ = self.on(poses.device)
        turned, places = rotation @ poses[:, :, :3].double(), self.to_scene(poses[:, :, 3])
        return replace(cameras, camera_to_world=torch.cat([turned, places[:, :, None]], 2).float())

    def cameras_to_world(self, cameras: Cameras) -> Cameras:
        """The same cameras in the capture's coordinates, in double precision."""
        poses = cameras.camera_to_world
        rotation, _ = self.on(poses.device)
        turned, places = rotation.T @ poses[:, :, :3].double(), self.to_world(poses[:, :, 3])
        return replace(cameras, camera_to_world=torch.cat([turned, places[:, :, None]], 2))

    def then(self, after: Placement) -> Placement:
        """This similarity, and one from the scene's coordinates to those of another scene."""
        rotation, translation = after.on(self.rotation.device)
        moved = rotation @ self.translation.double() + translation / self.scale
        rotation = rotation @ self.rotation.double()
        return Placement(rotation, moved, after.scale * self.scale)

    def same_as(self, other: Placement) -> bool:
        """Whether both put every point of the scene at the same place, to 1e-4 of its unit."""
        corners = torch.eye(4, 3, dtype=torch.float64)
        there = other.to_scene(self.to_world(corners))
        return bool((corners - there).abs().max() < 1e-4)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "rotation": self.rotation.tolist(),
            "translation": self.translation.tolist(),
            "scale": self.scale,
        }

    @classmethod
    def from_dict(cls, values: Any) -> Placement:
        """What `as_dict` gave.

        Raises:
            DataError: It is none: other keys or shapes, no rotation, no scale above zero.
        """
        try:
            found = cls(
                torch.tensor(values["rotation"], dtype=torch.float64),
                torch.tensor(values["translation"], dtype=torch.float64),
                float(values["scale"]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
            raise DataError("placement: expected rotation, translation and scale") from None
        if found.rotation.shape != (3, 3) or found.translation.shape != (3,):
            raise DataError("placement: expected a 3x3 rotation and a translation of 3")
        off = (found.rotation @ found.rotation.T - torch.eye(3, dtype=torch.float64)).abs().max()
        proper = bool(off < 1e-4) and float(torch.linalg.det(found.rotation)) > 0
        if not (proper and found.translation.isfinite().all() and 0 < found.scale < 1e12):
            raise DataError("placement: expected a rotation, finite numbers and a scale > 0")
        return found

    @classmethod
    def around(
        cls,
        cameras: Cameras,
        half_side: float | None,
        half_scene: float,
        farthest: float = 0.0,
        *,
        centre: Sequence[float] | None = None,
        up: Float[Tensor, " 3"] | None = None,
    ) -> Placement:
        """Upright, centred on what the cameras look at, a box of the world scaled to the scene's.

        Args:
            cameras: All cameras of a capture, world coordinates.
            half_side: Half a side of the box, world units; None for 1.25 times the distance of the
                farthest camera from the centre, so that all of them stand in the box.
            half_scene: Half a side of the scene's box, scene units.
            farthest: Depth of the farthest thing that is known to be seen, world units; the box
                holds it where `half_side` does not say otherwise.
            centre: Middle of the box, world coordinates; None for what the cameras look at.
            up: Upward direction, world coordinates, unit length; None for the cameras' mean.
        """
        poses = cameras.camera_to_world.double()
        mean_up = normalize(poses[:, :, 1].mean(0), dim=0)
        rotation = upright(mean_up if up is None else up.double())
        middle = looked_at(poses) if centre is None else poses.new_tensor(centre)
        if half_side is None:
            seen = poses[:, :, 3] - farthest * poses[:, :, 2]
            corners = torch.cat([poses[:, :, 3], seen] if farthest > 0 else [poses[:, :, 3]])
            half_side = 1.25 * float((corners - middle).norm(dim=-1).max())
        if half_side <= 0:  # one camera, or all at one place
            half_side = 1.0
        return cls(rotation, -(rotation @ middle), half_scene / half_side)


def single_precision_loss(points: Float[Tensor, "points 3"]) -> float:
    """How far single precision moves points far from the origin, as a share of their extent."""
    extent = float((points.amax(0) - points.amin(0)).max())
    return float(points.abs().max()) * 2.0**-24 / max(extent, 1e-300)


def upright(up: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that turns a direction (unit length) to +z."""
    target = up.new_tensor([0.0, 0.0, 1.0])
    if not up.isfinite().all() or float(up.norm()) < 0.5:
        return torch.eye(3, dtype=up.dtype)
    cosine = float(up @ target)
    if cosine < -1 + 1e-9:  # upside down: half a turn about x
        return torch.diag(up.new_tensor([1.0, -1.0, -1.0]))
    axis = torch.linalg.cross(up, target)
    x, y, z = axis.tolist()
    skew = up.new_tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return torch.eye(3, dtype=up.dtype) + skew + skew @ skew / (1 + cosine)


def looked_at(poses: Float[Tensor, "views 3 4"]) -> Float[Tensor, " 3"]:
    """The point nearest to all optical axes; where they hardly converge, among the cameras.

    Axes that run alike meet nowhere or far away: the point is then taken ahead of the cameras' mean
    place by as much as they are spread.
    """
    mean = poses[:, :, 3].mean(0)
    # Around their mean: far from the origin the equations would lose all digits.
    places, ahead = poses[:, :, 3] - mean, -normalize(poses[:, :, 2], dim=-1)
    across = torch.eye(3, dtype=poses.dtype) - ahead[:, :, None] * ahead[:, None, :]
    total = across.mean(0)
    spread = float(places.norm(dim=-1).max())
    if float(torch.linalg.eigvalsh(total)[0]) > 1e-3:
        meeting = torch.linalg.solve(total, (across @ places[:, :, None])[:, :, 0].mean(0))
        before = ((meeting - places) * ahead).sum(-1) > 0
        if before.double().mean() > 0.5 and float(meeting.norm()) < 20 * max(spread, 1e-9):
            return mean + meeting
    return mean + spread * normalize(ahead.mean(0), dim=0)
