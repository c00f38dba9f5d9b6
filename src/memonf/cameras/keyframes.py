"""A path of cameras through a few that were chosen: smooth in place, turning evenly between."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp

from ..errors import DataError, InputError, nearest
from .cameras import Cameras, same_size

__all__ = ["CameraPath"]

FORMAT = "memonf camera path 1"


@dataclass(frozen=True)
class CameraPath:
    """Chosen cameras, passed one after the other in equal times.

    Attributes:
        poses: camera_to_world of each, 3 rows of 4 numbers, see `memonf.cameras.cameras`.
        fields_of_view: Vertical field of view of each, degrees.
    """

    poses: tuple[tuple[tuple[float, ...], ...], ...] = ()
    fields_of_view: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.poses)

    def joined(self, camera: Cameras) -> CameraPath:
        """The path with one camera more."""
        pose = tuple(tuple(map(float, row)) for row in camera.camera_to_world[0].tolist())
        angle = math.degrees(camera.vertical_angle(0))
        return CameraPath((*self.poses, pose), (*self.fields_of_view, angle))

    def cameras(self, frames: int, width: int, height: int) -> Cameras:
        """Cameras along the path, from the first that was chosen to the last.

        Args:
            frames: How many, >= 1.
            width: Pixels.
            height: Pixels.

        Raises:
            InputError: Fewer than two cameras were chosen.
        """
        if len(self) < 2:
            raise InputError(f"camera path: expected two cameras or more, it has {len(self)}")
        chosen = np.asarray(self.poses)
        times = np.arange(len(chosen), dtype=float)
        at = np.linspace(0, times[-1], frames)
        places = CubicSpline(times, chosen[:, :, 3], bc_type="natural")(at)
        turned = Slerp(times, Rotation.from_matrix(chosen[:, :, :3]))(at).as_matrix()
        angles = np.radians(np.interp(at, times, self.fields_of_view))
        focal = torch.tensor(0.5 * height / np.tan(0.5 * angles), dtype=torch.float32)
        middle = torch.tensor([width / 2, height / 2]).expand(frames, 2)
        poses = np.concatenate([turned, places[:, :, None]], 2)
        return Cameras(
            torch.tensor(poses, dtype=torch.float32),
            torch.cat([focal[:, None], focal[:, None], middle], 1),
            same_size(frames, width, height),
        )

    def as_json(self) -> str:
        """The path as a text file holds it."""
        frames = [
            {"camera_to_world": [list(row) for row in pose], "field_of_view": angle}
            for pose, angle in zip(self.poses, self.fields_of_view, strict=True)
        ]
        return json.dumps({"format": FORMAT, "frames": frames}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> CameraPath:
        """Read what `as_json` wrote.

        Raises:
            DataError: It is no such text, or a pose is none.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise DataError(
                    f"camera path: expected the format `{FORMAT}`, received {content['format']!r}"
                )
            known_keys(content, ("format", "frames"))
            path = cls()
            for frame in content["frames"]:
                known_keys(frame, ("camera_to_world", "field_of_view"))
                path = path.joined(one_camera(frame))
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"camera path: expected JSON with `format` and `frames` of `camera_to_world` and "
                f"`field_of_view`, received something else ({str(error).splitlines()[0]})"
            ) from None
        return path


def known_keys(values: dict[str, Any], known: tuple[str, ...]) -> None:
    """Refuse keys that this format does not have: they may mean another lens or frame."""
    for key in values:
        if key not in known:
            raise DataError(f"camera path: unknown key `{key:.40}`: {nearest(key, known)}")


def one_camera(frame: dict[str, Any]) -> Cameras:
    """The camera of one entry, its pose checked."""
    angle = float(frame["field_of_view"])
    if not 0 < angle < 180:
        raise DataError(f"camera path: field of view: expected 0 to 180 degrees, received {angle}")
    pose = torch.tensor(frame["camera_to_world"], dtype=torch.float32)
    if pose.shape not in {(3, 4), (4, 4)}:
        raise DataError(f"camera path: expected poses of 3 x 4, received {tuple(pose.shape)}")
    return Cameras.pinhole(pose[None], 0.5 / math.tan(math.radians(angle) / 2), 1, 1)
