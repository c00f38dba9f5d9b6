"""Cameras and the rays through their pixels; the one place where the camera convention lives.

Cameras look along -z, +x is right, +y is up (OpenGL, Blender). `camera_to_world` is 3x4, world +z
is up. The centre of pixel (row i, column j) lies at (j + 0.5, i + 0.5). Loaders convert whatever
they read to this convention.

Ray directions have unit length, so the distance t along a ray is in scene units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..errors import DataError
from ..typing import Bool, Float, Int, Tensor
from .distortion import PROJECTIONS, Lenses, named_view

__all__ = ["Cameras", "Rays", "look_at", "same_size", "turntable"]

#: Widest field of view that a pinhole stands in for a wide lens with: 150 degrees.
MOST_ANGLE = math.radians(150)


@dataclass(frozen=True)
class Rays:
    """Half lines in world space.

    Attributes:
        origins: (rays, 3), scene units.
        directions: (rays, 3), unit length.
    """

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: slice | Tensor) -> Rays:
        return Rays(self.origins[index], self.directions[index])


@dataclass(frozen=True)
class Cameras:
    """Cameras of pictures of any sizes: pinholes, behind lenses where those are known.

    Attributes:
        camera_to_world: (views, 3, 4), rigid: rotation columns right, up, back, then the centre.
            Single precision in scene units, double in the units of a capture (`Placement`).
        intrinsics: (views, 4), focal lengths fx, fy and principal point cx, cy, in pixels.
        sizes: (views, 2), width and height of each picture, pixels; see `same_size`.
        lenses: What distorts the pictures; None for nothing.
    """

    camera_to_world: Float[Tensor, "views 3 4"]
    intrinsics: Float[Tensor, "views 4"]
    sizes: Int[Tensor, "views 2"]
    lenses: Lenses | None = None

    @classmethod
    def pinhole(
        cls,
        camera_to_world: Tensor,
        focal: float,
        width: int,
        height: int,
        names: Sequence[str] | None = None,
    ) -> Cameras:
        """Cameras with square pixels and a centred principal point.

        Args:
            camera_to_world: (views, 3, 4) or (views, 4, 4).
            focal: Focal length in pixels, > 0.
            width: Pixels.
            height: Pixels.
            names: Of the views, for messages; None for their places.

        Raises:
            DataError: Poses that are not finite or not rigid, or a focal length <= 0.
        """
        poses = torch.as_tensor(camera_to_world, dtype=torch.float32)[:, :3, :4].contiguous()
        if not (math.isfinite(focal) and focal > 0):
            raise DataError(f"focal length: expected a number > 0, received {focal}")
        intrinsics = torch.tensor([focal, focal, width / 2, height / 2]).expand(len(poses), 4)
        cameras = cls(poses, intrinsics.contiguous(), same_size(len(poses), width, height))
        cameras.check(names)
        return cameras

    def check(self, names: Sequence[str] | None = None) -> None:
        """Refuse sizes without a pixel, values that are not finite, and non-rotation matrices.

        Args:
            names: Of the views, for messages; None for their places.

        Raises:
            DataError: Names the first such view.
        """
        if self.lenses is not None:
            self.lenses.check(names)
        empty = (self.sizes < 1).any(1)
        if empty.any():
            index = int(empty.nonzero()[0])
            width, height = self.sizes[index].tolist()
            raise DataError(
                f"size {named_view(index, names)}: expected pixels > 0, received {width}x{height}"
            )
        usable = self.intrinsics.isfinite().all(1) & (self.intrinsics[:, :2] > 0).all(1)
        if not usable.all():
            index = int((~usable).nonzero()[0])
            raise DataError(
                f"intrinsics {named_view(index, names)}: expected finite numbers and focal lengths "
                f"> 0, received {self.intrinsics[index].tolist()}"
            )
        finite = self.camera_to_world.isfinite().flatten(1).all(1)
        if not finite.all():
            index = int((~finite).nonzero()[0])
            raise DataError(
                f"pose {named_view(index, names)}: expected finite numbers; leave the view out, or "
                "write its pose again"
            )
        rotation = self.camera_to_world[:, :, :3].double()
        gram_error = (rotation.mT @ rotation - torch.eye(3, device=rotation.device)).abs()
        wrong = (gram_error.flatten(1).amax(1) > 1e-2) | (torch.linalg.det(rotation) < 0)
        if wrong.any():
            index = int(wrong.nonzero()[0])
            raise DataError(
                f"pose {named_view(index, names)}: expected a rotation (orthonormal, "
                f"determinant +1), received {not_a_rotation(rotation[index])}"
            )

    def __len__(self) -> int:
        return len(self.camera_to_world)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Cameras:
        lenses = None if self.lenses is None else self.lenses[index]
        return replace(
            self, camera_to_world=self.camera_to_world[index],
            intrinsics=self.intrinsics[index], sizes=self.sizes[index], lenses=lenses,
        )  # fmt: skip

    def to(self, device: torch.device | str) -> Cameras:
        """Return the same cameras on `device`."""
        return replace(
            self, camera_to_world=self.camera_to_world.to(device),
            intrinsics=self.intrinsics.to(device), sizes=self.sizes.to(device),
            lenses=None if self.lenses is None else self.lenses.to(device),
        )  # fmt: skip

    @classmethod
    def join(cls, parts: Sequence[Cameras]) -> Cameras:
        """The cameras of all parts, one part after the other."""
        lenses = None
        if any(part.lenses is not None for part in parts):
            lenses = Lenses.join([part.lenses or Lenses.ideal(len(part)) for part in parts])
        return cls(
            torch.cat([part.camera_to_world for part in parts]),
            torch.cat([part.intrinsics for part in parts]),
            torch.cat([part.sizes for part in parts]),
            lenses,
        )

    @property
    def positions(self) -> Float[Tensor, "views 3"]:
        """Camera centres, scene units."""
        return self.camera_to_world[:, :, 3]

    def size(self, view: int) -> tuple[int, int]:
        """Width and height of one picture, pixels."""
        width, height = self.sizes[view].tolist()
        return width, height

    @property
    def angles(self) -> Float[Tensor, "views 2"]:
        """Horizontal and vertical field of view, radians, double; bending is left aside.

        At most `MOST_ANGLE`: a pinhole that looks through such a camera cannot see all round.
        """
        spans = self.sizes / self.intrinsics[:, :2].double()
        found = 2 * (spans / 2).atan()
        if self.lenses is not None:  # planes of other projections are measured in angles
            found = torch.where((self.lenses.projection > 0)[:, None], spans, found)
        return found.clamp_max(MOST_ANGLE)

    def vertical_angle(self, view: int) -> float:
        """Vertical field of view of one picture, radians; see `angles`."""
        return float(self.angles[view, 1])

    @property
    def distinct_sizes(self) -> list[tuple[int, int]]:
        """Every width and height that occurs, once, in the order of their views."""
        return list(dict.fromkeys((width, height) for width, height in self.sizes.tolist()))

    def resized(self, width: int, height: int) -> Cameras:
        """Return cameras with the same field of view and pictures of one size, pixels."""
        return self.with_sizes(same_size(len(self), width, height))

    def fitted(self, side: int, *, enlarged: bool = True) -> Cameras:
        """Return cameras with the same field of view and `side` pixels along the longer side.

        Args:
            side: Pixels.
            enlarged: Whether smaller pictures become larger.
        """
        shrink = self.sizes.amax(1, keepdim=True).double() / side
        if not enlarged:
            shrink = shrink.clamp_min(1.0)
        return self.with_sizes((self.sizes / shrink).round().long().clamp_min(1))

    def with_sizes(self, sizes: Int[Tensor, "views 2"]) -> Cameras:
        """Return cameras with the same field of view at other picture sizes, pixels."""
        sizes = sizes.to(self.sizes)
        scale = (sizes.double() / self.sizes).repeat(1, 2).to(self.intrinsics)
        return replace(self, intrinsics=self.intrinsics * scale, sizes=sizes)

    @cached_property
    def ends(self) -> Int[Tensor, " views"]:
        """One past the last pixel of each view, all pixels counted view by view, row by row."""
        return self.sizes.prod(1).cumsum(0)

    @property
    def pixel_count(self) -> int:
        """Pixels of all views together."""
        return int(self.ends[-1]) if len(self) else 0

    def places(self, pixels: Int[Tensor, " pixels"]) -> tuple[Tensor, Tensor, Tensor]:
        """View, row and column of pixels that are counted view by view, row by row: (pixels,)."""
        views = torch.searchsorted(self.ends, pixels, right=True)
        widths, heights = self.sizes[views].unbind(1)
        within = pixels - (self.ends[views] - widths * heights)
        return views, within // widths, within % widths

    def rays(
        self,
        views: Int[Tensor, " rays"],
        rows: Float[Tensor, " rays"] | Int[Tensor, " rays"],
        columns: Float[Tensor, " rays"] | Int[Tensor, " rays"],
    ) -> Rays:
        """Rays through pixel centres.

        Args:
            views: Camera of each ray.
            rows: Pixel row of each ray, 0 at the top.
            columns: Pixel column of each ray, 0 at the left.
        """
        fx, fy, cx, cy = self.intrinsics[views].unbind(-1)
        x = (columns + 0.5 - cx) / fx
        y = (cy - rows - 0.5) / fy
        local = torch.stack([x, y, -torch.ones_like(x)], -1)
        if self.lenses is not None:
            right, down, ahead = self.lenses.undistort(torch.stack([x, -y], -1), views).unbind(-1)
            local = torch.stack([right, -down, -ahead], -1)
        poses = self.camera_to_world[views]
        directions = (poses[:, :, :3] @ local[:, :, None].to(poses))[:, :, 0]
        return Rays(poses[:, :, 3], torch.nn.functional.normalize(directions, dim=-1))

    def project(
        self, points: Float[Tensor, "points 3"], view: int
    ) -> tuple[Tensor, Tensor, Float[Tensor, " points"], Bool[Tensor, " points"]]:
        """Pixel that each point falls on in one view.

        Returns:
            Row, column and depth (points,) of each point, and whether it is in the picture. A
            length at a point spans about fx · length / depth pixels: depth is measured along the
            optical axis, and around it for lenses that see all round (`Lenses.depth`); scene units.
        """
        pose, (fx, fy, cx, cy) = self.camera_to_world[view], self.intrinsics[view].unbind()
        local = (points.to(pose) - pose[:, 3]) @ pose[:, :3]
        depth = -local[:, 2]
        if self.lenses is None:
            columns = (cx + fx * local[:, 0] / depth).floor().long()
            rows = (cy - fy * local[:, 1] / depth).floor().long()
        else:
            directions = local * local.new_tensor([1.0, -1.0, -1.0])
            seen = self.lenses.distort(directions, view)
            columns = (cx + fx * seen[:, 0]).floor().long()
            rows = (cy + fy * seen[:, 1]).floor().long()
            depth = self.lenses.depth(directions, view)
            depth = torch.where(off_axis(directions) <= self.widest(view), depth, 0.0)
        width, height = self.size(view)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        return rows, columns, depth, inside & (depth > 0)

    def widest(self, view: int) -> float:
        """Largest angle off the axis, radians, at which a view with a lens sees anything.

        A polynomial folds back far outside the picture; what lies beyond the outline is not seen.
        """
        assert self.lenses is not None
        if self.all_round(view):
            return math.pi
        directions = self.lenses.undistort(self[[view]].outline()[0], view)
        return 1.02 * float(off_axis(directions).max())

    def all_round(self, view: int) -> bool:
        """Whether the left and right borders of a picture meet: a panorama."""
        if self.lenses is None:
            return False
        return PROJECTIONS[int(self.lenses.projection[view])] == "equirectangular"

    def outline(self) -> Float[Tensor, "views points 2"]:
        """Places along the borders of each picture, before the intrinsics."""
        along = torch.linspace(0, 1, 17).to(self.intrinsics)
        zero, one = torch.zeros_like(along), torch.ones_like(along)
        outline = torch.cat([torch.stack(side, -1) for side in (
            (along, zero), (along, one), (zero, along), (one, along))])  # fmt: skip
        pixels = outline * self.sizes[:, None]
        return (pixels - self.intrinsics[:, None, 2:]) / self.intrinsics[:, None, :2]

    def folded(self) -> Bool[Tensor, " views"]:
        """Whether a lens does not lead to the borders of its picture, to half a pixel.

        Its polynomial folds back before them, or the picture is larger than all that it can see.
        """
        if self.lenses is None:
            return torch.zeros(len(self), dtype=torch.bool)
        outline = self.outline()
        views = torch.arange(len(self)).repeat_interleave(outline.shape[1])
        seen = outline.flatten(0, 1)
        there = self.lenses.distort(self.lenses.undistort(seen, views), views)
        off = ((there - seen) * self.intrinsics[views, :2]).abs().amax(1)
        return ~(off.view(len(self), -1).amax(1) < 0.5)

    def view_rays(self, view: int, part: range | None = None) -> Rays:
        """Rays of one view, row by row: of all pixels (height * width), or of a part of them."""
        width, height = self.size(view)
        part = range(height * width) if part is None else part
        pixels = torch.arange(part.start, part.stop, device=self.camera_to_world.device)
        return self.rays(torch.full_like(pixels, view), pixels // width, pixels % width)


def off_axis(directions: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
    """Angle of directions (right, down, ahead) from the optical axis, radians."""
    return torch.atan2(directions[:, :2].norm(dim=-1), directions[:, 2])


def same_size(views: int, width: int, height: int) -> Int[Tensor, "views 2"]:
    """`Cameras.sizes` of views whose pictures all have one size, pixels."""
    return torch.tensor([width, height]).expand(views, 2).contiguous()


def not_a_rotation(matrix: Float[Tensor, "3 3"]) -> str:
    """What is wrong with a matrix that is no rotation, and what to do."""
    lengths = matrix.norm(dim=0)
    scale = float(lengths.square().mean().sqrt())
    gram = matrix.mT @ matrix / max(scale, 1e-30) ** 2
    if float((gram - torch.eye(3).to(gram)).abs().max()) > 1e-2:
        shown = ", ".join(f"{length:.4g}" for length in lengths.tolist())
        return f"columns that are sheared, or {shown} long; undo it in the file"
    if float(torch.linalg.det(matrix)) < 0:
        return "a mirrored one (determinant -1); negate one axis in the file"
    return f"one that is scaled by {scale:.4g}; divide the three columns by it in the file"


def look_at(eye: Float[Tensor, "views 3"], target: Float[Tensor, " 3"]) -> Tensor:
    """Poses (views, 3, 4) of cameras at `eye` that look at `target` with world +z up.

    An eye straight above or below the target takes world +y as its up direction.
    """
    back = torch.nn.functional.normalize(eye - target, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).to(eye).expand_as(back)
    vertical = back[:, 2:].abs() > 0.9999
    up = torch.where(vertical, torch.tensor([0.0, 1.0, 0.0]).to(eye), up)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=-1)
    return torch.stack([right, torch.linalg.cross(back, right), back, eye], -1)


def turntable(
    frames: int,
    size: int,
    radius: float,
    target: Float[Tensor, " 3"],
    *,
    elevation: float = 30.0,
    field_of_view: float = 40.0,
    start_azimuth: float = -90.0,
) -> Cameras:
    """Cameras on a circle around `target`, one full turn, the first at the front (-y).

    Args:
        frames: Number of cameras, >= 1.
        size: Width and height in pixels.
        radius: Distance to the target, scene units.
        target: Point to look at.
        elevation: Degrees above the horizontal plane.
        field_of_view: Horizontal angle in degrees.
        start_azimuth: Azimuth of the first camera, degrees from +x to +y.
    """
    azimuth = torch.deg2rad(start_azimuth + torch.arange(frames) * (360.0 / frames))
    height = torch.full_like(azimuth, math.sin(math.radians(elevation)))
    ground = math.cos(math.radians(elevation))
    offset = torch.stack([azimuth.cos() * ground, azimuth.sin() * ground, height], -1)
    target = target.cpu().float()
    focal = 0.5 * size / math.tan(0.5 * math.radians(field_of_view))
    return Cameras.pinhole(look_at(target + radius * offset, target), focal, size, size)
