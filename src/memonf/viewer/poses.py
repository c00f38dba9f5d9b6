"""Between the viewer's cameras and ours; the one place where the two conventions meet.

The viewer's cameras look along +z with +x right and +y down (OpenCV) and turn by unit quaternions
(w, x, y, z); ours look along -z with +y up, see `memonf.cameras.cameras`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..cameras.cameras import Cameras
from ..typing import Float, Tensor

__all__ = ["camera_seen", "viewer_pose"]

#: From one convention to the other, and back: y and z change their signs.
FLIP = np.diag([1.0, -1.0, -1.0])


def camera_seen(
    wxyz: Sequence[float] | np.ndarray,
    position: Sequence[float] | np.ndarray,
    field_of_view: float,
    width: int,
    height: int,
) -> Cameras:
    """One camera that shows what the viewer's shows.

    Args:
        wxyz: Unit quaternion of the viewer's camera.
        position: Its centre, scene units.
        field_of_view: Vertical, radians, in (0, π).
        width: Pixels.
        height: Pixels.
    """
    w, *xyz = np.asarray(wxyz, dtype=float)
    rotation = Rotation.from_quat([*xyz, w]).as_matrix() @ FLIP
    pose = np.concatenate([rotation, np.asarray(position, dtype=float)[:, None]], 1)
    focal = 0.5 * height / math.tan(0.5 * field_of_view)
    return Cameras.pinhole(torch.tensor(pose, dtype=torch.float32)[None], focal, width, height)


def viewer_pose(camera_to_world: Float[Tensor, "3 4"]) -> tuple[np.ndarray, np.ndarray]:
    """Quaternion (w, x, y, z) and centre of the viewer's camera that shows what ours shows."""
    pose = camera_to_world.detach().cpu().double().numpy()
    x, y, z, w = Rotation.from_matrix(pose[:, :3] @ FLIP).as_quat()
    return np.array([w, x, y, z]), pose[:, 3]
