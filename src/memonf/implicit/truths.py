"""What pointwise fields learn: meshes (distance, inside or not) and pictures; and parts of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ..cameras.frames import Placement
from ..data.capture import HELD_OUT_EVERY
from ..data.pictures import read_picture
from ..errors import DataError, InputError
from ..typing import Bool, Float, PathLike, Tensor
from .meshes import read_mesh, winding_numbers

__all__ = ["PARTS", "ImageTruth", "MeshTruth", "Truth", "open_truth"]

#: Part -> axis and side of the middle.
PARTS: Mapping[str, tuple[int, int]] = {
    "left": (0, -1), "right": (0, 1), "front": (1, -1), "rear": (1, 1), "below": (2, -1),
    "above": (2, 1),
}  # fmt: skip
#: Half a side of the box around a shape, and of the longer side of a picture.
HALF_SIDE, MARGIN = 1.0, 0.85
#: How thick a picture is.
THICKNESS = 0.05
#: Of the positions that a shape is learnt at: share near the surface, and how near.
NEAR_SHARE, NEARNESS = 0.6, (0.01, 0.05)


class Truth(ABC):
    """Something whose value is known at every position of a box.

    Attributes:
        name: Short name, of its file.
        field: Name of the architecture that learns it.
        aabb: (2, 3), scene units.
        placement: From the file's coordinates to the scene's.
        notes: What was repaired when the file was read, a sentence each.
    """

    name: str
    field: str
    aabb: Float[Tensor, "2 3"]
    placement: Placement | None = None
    notes: tuple[str, ...] = ()

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "points 3"]:
        """Random positions where the truth is worth knowing."""

    @abstractmethod
    def values(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points values"]:
        """The truth at positions."""

    def in_part(
        self, positions: Float[Tensor, "points 3"], part: str, overlap: float = 0.0
    ) -> Bool[Tensor, " points"]:
        """Which positions belong to a part: ``all``, or one of `PARTS`.

        Args:
            positions: Scene units.
            part: Name.
            overlap: How far beyond the middle the part goes, as a share of half the box.

        Raises:
            InputError: There is no such part.
        """
        if not 0 <= overlap <= 1:
            raise InputError(f"overlap: expected a share in [0, 1], received {overlap:g}")
        if part == "all":
            return torch.ones(len(positions), dtype=torch.bool, device=positions.device)
        if part not in PARTS:
            raise InputError(f"group: expected all, {', '.join(PARTS)}, received `{part}`")
        axis, side = PARTS[part]
        middle = self.aabb.mean(0)[axis].to(positions)
        half = 0.5 * (self.aabb[1] - self.aabb[0])[axis].to(positions)
        return side * (positions[:, axis] - middle) >= -overlap * half

    def positions(
        self, count: int, part: str, overlap: float, generator: torch.Generator
    ) -> Float[Tensor, "points 3"]:
        """Random positions in a part."""
        kept: list[Tensor] = []
        found = 0
        while found < count:
            drawn = self.draw(2 * count, generator)
            drawn = drawn[self.in_part(drawn, part, overlap)]
            if len(drawn) == 0:
                raise DataError(f"{self.name}: nothing is in part `{part}`")
            kept.append(drawn)
            found += len(drawn)
        return torch.cat(kept)[:count]


class ImageTruth(Truth):
    """A picture, its longer side from -1 to 1, y upwards.

    Args:
        path: Picture file; alpha is composited on white, grey is read as rgb.
    """

    field = "image"

    def __init__(self, path: PathLike) -> None:
        file = Path(path)
        pixels = torch.from_numpy(read_picture(file, upright=True).copy()).float() / 255
        if pixels.shape[-1] == 4:
            pixels = pixels[..., :3] * pixels[..., 3:] + 1 - pixels[..., 3:]
        self.name, self.pixels = file.stem, pixels
        height, width = pixels.shape[:2]
        self.pixel = 2 * HALF_SIDE / max(height, width)
        reach = torch.tensor([width * self.pixel / 2, height * self.pixel / 2, THICKNESS])
        self.aabb = torch.stack([-reach, reach])

    def at_pixels(self) -> Float[Tensor, "pixels 3"]:
        """Positions of all pixel centres, row by row from the top."""
        height, width = self.pixels.shape[:2]
        x = (torch.arange(width) + 0.5) * self.pixel + self.aabb[0, 0]
        y = self.aabb[1, 1] - (torch.arange(height) + 0.5) * self.pixel
        plane = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).view(-1, 2)
        return torch.cat([plane, torch.zeros(len(plane), 1)], -1)

    @property
    def held_out(self) -> Bool[Tensor, " pixels"]:
        """Which pixels nobody learns: one in eight, spread over all rows and columns."""
        height, width = self.pixels.shape[:2]
        row, column = torch.arange(height)[:, None], torch.arange(width)
        return ((column + 3 * row) % HELD_OUT_EVERY == 0).flatten()

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "points 3"]:
        """See `Truth.draw`: centres of pixels that are not held out."""
        learnt = self.at_pixels()[~self.held_out]
        return learnt[torch.randint(len(learnt), (count,), generator=generator)]

    def values(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """See `Truth.values`: the pixel that a position lies in."""
        height, width = self.pixels.shape[:2]
        column = ((positions[:, 0] - self.aabb[0, 0]) / self.pixel).floor().long()
        row = ((self.aabb[1, 1] - positions[:, 1]) / self.pixel).floor().long()
        return self.pixels[row.clamp(0, height - 1), column.clamp(0, width - 1)]


class MeshTruth(Truth):
    """A closed mesh, centred and scaled into the box ±1.

    Args:
        path: Mesh file that trimesh reads; closed, see `memonf.implicit.meshes`.
        inside: Whether the truth is inside or not (1 or 0), else the signed distance.

    Raises:
        InputError: The extra is missing.
        DataError: Not a mesh, not watertight, or its inside cannot be told.
    """

    def __init__(self, path: PathLike, *, inside: bool = False) -> None:
        self.name, self.inside = Path(path).stem, inside
        self.field = "occupancy" if inside else "sdf"
        self.mesh, centre, size, self.notes = read_mesh(Path(path))
        self.aabb = torch.tensor([[-HALF_SIDE] * 3, [HALF_SIDE] * 3])
        filled = 2 * MARGIN * HALF_SIDE
        self.placement = Placement(
            torch.eye(3, dtype=torch.float64), -torch.from_numpy(centre), filled / size
        )
        self.mesh.apply_scale(filled)

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "points 3"]:
        """See `Truth.draw`: most near the surface, the others anywhere."""
        near = round(NEAR_SHARE * count)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        import trimesh

        places, _ = trimesh.sample.sample_surface(self.mesh, near, seed=seed)
        spread = torch.tensor(NEARNESS)[torch.arange(near) % len(NEARNESS)]
        moved = torch.from_numpy(np.asarray(places)).float()
        moved = moved + spread[:, None] * torch.randn(near, 3, generator=generator)
        anywhere = torch.rand(count - near, 3, generator=generator) * 2 * HALF_SIDE - HALF_SIDE
        drawn = torch.cat([moved.clamp(-HALF_SIDE, HALF_SIDE), anywhere])
        return drawn[torch.randperm(count, generator=generator)]

    def values(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 1"]:
        """See `Truth.values`."""
        distance = self.distance(positions)
        return (distance < 0).float() if self.inside else distance

    def distance(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 1"]:
        """Signed distance, scene units, negative inside."""
        import igl

        places = positions.cpu().double().numpy()
        corners = np.ascontiguousarray(self.mesh.vertices, dtype=np.float64)
        faces = np.ascontiguousarray(self.mesh.faces, dtype=np.int64)
        distance = igl.signed_distance(
            places, corners, faces, igl.SignedDistanceType.SIGNED_DISTANCE_TYPE_UNSIGNED
        )[0]
        # libigl's own sign is 1 - 2 |w|, not ±1 where bodies go through each other.
        outside = winding_numbers(corners, faces, places) < 0.5
        found = np.where(outside, distance, -distance)
        return torch.from_numpy(found).float().to(positions.device)[:, None]


def open_truth(path: PathLike, field: str) -> Truth:
    """What a field of an architecture learns from a file.

    Args:
        path: A mesh or a picture.
        field: ``sdf``, ``occupancy`` or ``image``.
    """
    if field == "image":
        return ImageTruth(path)
    if field not in ("sdf", "occupancy"):
        raise InputError(f"--field: expected sdf, occupancy or image, received `{field}`")
    return MeshTruth(path, inside=field == "occupancy")
