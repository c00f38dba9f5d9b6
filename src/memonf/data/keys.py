"""What a reader makes of each key of a file: no key that changes a scene is skipped in silence.

A key is *read*; *harmless*, since nothing that is shown depends on it; *said*, since it means
something that is not done here; or *refused*, since pictures or rays would be wrong without it. Any
other key is named in a note. What holds no more than zeros, ``false`` or nothing asks for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ["JSON_FILE", "JSON_FRAME", "Keys", "KeyNotes", "asks_for_nothing"]

UNDISTORT = "undistort the pictures and remove it, for example with COLMAP or nerfstudio"
LENS = f"a coefficient of a lens model that is not known here: {UNDISTORT}"
MODEL = f"a lens model that is not known here: {UNDISTORT}"
SHUTTER = "the camera moves while a picture is taken, here it stands still: remove it to train so"
MITSUBA = "poses in Mitsuba's convention (left, up, ahead): convert them to OpenGL's and remove it"
ELSEWHERE = "moves or scales all poses in a way that is not known here: apply it and remove it"

#: Pattern -> why the key is refused unless it asks for nothing.
REFUSED = {
    "k[5-9]": LENS, "k[1-9][0-9]": LENS, "p[3-9]": LENS, "s[1-4]": LENS, "sx[1-4]": LENS,
    "sy[1-4]": LENS, "tau*": LENS, "b[12]": LENS, "skew": LENS, "xi": LENS, "radial*": LENS,
    "tangential*": LENS, "dist": LENS, "dist_*": LENS, "distortion*": LENS, "distcoef*": LENS,
    "*distortion": LENS, "lens*": MODEL, "ftheta*": MODEL, "f_theta*": MODEL, "latlong": MODEL,
    "equirectangular": MODEL, "panorama": MODEL, "spherical": MODEL, "orthographic": MODEL,
    "rolling_shutter*": SHUTTER, "rs_*": SHUTTER, "transform_matrix_start": SHUTTER,
    "transform_matrix_end": SHUTTER, "from_mitsuba": MITSUBA,
    "normal_mts_args": MITSUBA, "world_transform": ELSEWHERE, "world_matrix": ELSEWHERE,
    "scene_transform": ELSEWHERE, "scale_mat*": ELSEWHERE, "pose_scale": ELSEWHERE,
    "mask_color": "pixels of this colour do not count: write masks, and name them by `mask_path`",
}  # fmt: skip

#: Pattern -> what the key means elsewhere, and what is done here.
SAID = {
    "applied_transform": "stays: world coordinates are those of its poses",
    "applied_scale": "stays: world coordinates are those of its poses",
    "orientation_override": "not read: --place auto or keep says whether the scene is turned",
    "auto_scale_poses_factor": "not read: --place auto or keep says whether the scene is scaled",
    "scale_factor": "not read: --place auto or keep says whether the scene is scaled",
    "render_aabb*": "not read: it crops what instant-ngp shows, all of the box is trained here",
    "ply_file_path": "not read: a training starts without points",
    "n_extra_learnable_dims": "not read: all pictures are taken in one light",
    "driver_parameters": "not read: all pictures are taken in one light",
    "exposure*": "not read: all pictures are taken in one light",
    "time": "not read: the scene stands still",
    "envmap": "not read: behind everything is one colour, see --background",
    "sharpen": "not read: pictures are taken as they are",
    "fix_premult": "not read: pictures are taken as they are",
    "sharpness_discard_threshold": "not read: blurred pictures are trained on as well",
    "*velocity": "not read: cameras stand still while a picture is taken",
}

#: Nothing that is shown depends on these.
HARMLESS = (
    "rotation", "sharpness", "colmap_im_id", "colmap_image_id", "image_id", "img_id", "id",
    "frame_id", "frame_index", "index", "name", "label", "timestamp*", "n_images",
    "num_images", "num_frames", "date*", "version", "generator", "comment*", "description",
    "title", "depth*", "integer_depth_scale", "enable_depth_loading", "enable_ray_loading",
    "importance_sampling", "normal_path", "normal_file_path", "normals_path", "semantics*",
    "panoptic*", "*_label_path",
)  # fmt: skip


def asks_for_nothing(value: Any) -> bool:
    """Whether a value is zero, false, nothing, or a list of such."""
    if isinstance(value, np.ndarray):
        return value.size == 0 or (value.dtype.kind in "biuf" and not value.any())
    if isinstance(value, (list, tuple)):
        return all(asks_for_nothing(entry) for entry in value)
    return value is None or value == {} or value in (0, "", "none")


@dataclass(frozen=True, eq=False)
class Keys:
    """What a reader makes of the keys of one kind of mapping.

    Attributes:
        read: Keys that the reader looks at.
        harmless: Patterns of those that nothing depends on.
        said: Pattern -> what the key means, for a note.
        refused: Pattern -> why it is refused, and what to do.
    """

    read: frozenset[str]
    harmless: tuple[str, ...] = HARMLESS
    said: Mapping[str, str] = field(default_factory=lambda: SAID)
    refused: Mapping[str, str] = field(default_factory=lambda: REFUSED)

    @cached_property
    def known(self) -> dict[str, tuple[str, str]]:
        """Keys that were met -> what is made of them, and the reason."""
        return {}

    def meaning(self, key: str) -> tuple[str, str]:
        """``read``, ``harmless``, ``said``, ``refused`` or ``unread``, and the reason."""
        if key not in self.known:
            self.known[key] = self.found(key)
        return self.known[key]

    def found(self, key: str) -> tuple[str, str]:
        """See `meaning`; upper and lower case are alike but among those that are read."""
        if key in self.read:
            return "read", ""
        lower = key.lower()
        if any(fnmatchcase(lower, pattern) for pattern in self.harmless):
            return "harmless", ""
        for kind, table in (("refused", self.refused), ("said", self.said)):
            for pattern, reason in table.items():
                if fnmatchcase(lower, pattern):
                    return kind, reason
        return "unread", ""


@dataclass
class KeyNotes:
    """Gathers what is to be said of the keys of a data set's files."""

    said: dict[str, str] = field(default_factory=dict)
    unread: dict[str, dict[str, None]] = field(default_factory=dict)

    def look(self, values: Mapping[str, Any], keys: Keys, where: str, part: str = "") -> None:
        """Look at all keys of a mapping.

        Args:
            values: The mapping.
            keys: What its keys mean.
            where: What messages call it.
            part: What notes call it where many are alike: ``frames``.

        Raises:
            DataError: A key that is refused asks for something.
        """
        for key, value in values.items():
            kind, reason = keys.meaning(key)
            if kind in ("read", "harmless"):
                continue
            shown = key[:60] + ("…" if len(key) > 60 else "")
            if kind == "unread":
                self.unread.setdefault(part, {})[shown] = None
            elif not asks_for_nothing(value):
                if kind == "refused":
                    raise DataError(f"{where}: `{shown}`: {reason}")
                self.said[shown] = reason

    def notes(self) -> list[str]:
        """A sentence for each key that means something, and one for all others."""
        found = [f"`{key}` {reason}" for key, reason in self.said.items()]
        for part, names in self.unread.items():
            listed = listed_names(names)
            found.append(f"not read{f' of {part}' if part else ''}: {listed}")
        return found


def listed_names(names: Collection[str], most: int = 12) -> str:
    """Names for a note, the first of them if there are many."""
    shown: Iterable[str] = list(names)[:most]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{name}`" for name in shown) + more


#: Keys of a transforms file, and of each of its frames: size and lens may stand in either.
CAMERA = frozenset({
    "w", "h", "fl_x", "fl_y", "cx", "cy", "x_fov", "y_fov", "camera_angle_x", "camera_angle_y",
    "k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "sx1", "sy1", "omega", "camera_model",
    "is_fisheye", "camera_convention", "pose_convention", "coordinate_convention",
    "coordinate_system", "from_na", "intrinsic_matrix",
})  # fmt: skip
JSON_FILE = Keys(CAMERA | {
    "frames", "n_frames", "aabb_scale", "scale", "offset", "aabb", "up", "train_filenames",
    "val_filenames", "test_filenames", "background", "background_color", "background_colour",
    "bg_color", "bkgd", "alpha_color", "white_background", "white_bkgd", "white_transparent",
    "black_background", "black_transparent", "memonf",
})  # fmt: skip
JSON_FRAME = Keys(CAMERA | {"file_path", "transform_matrix", "mask_path"})
