"""Scenes: pictures with cameras, in named splits, and the view groups that parents train on.

View groups: ``all``; ``front`` and ``rear``, cameras within and beyond ±90° of azimuth around the
front direction; ``sector K/N``, the K-th of N equal sectors, the first centred on the front.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from ..cameras import Cameras
from ..errors import DataError, InputError
from ..typing import Float, Tensor, UInt8

__all__ = ["Scene", "Views", "composite_on", "in_group"]


@dataclass(frozen=True)
class Views:
    """Pictures and the cameras that took them.

    Attributes:
        cameras: As many as images.
        images: (views, height, width, 3 or 4), 8 bit sRGB as stored; RGBA has straight alpha.
        names: Name of each view, for messages and captions.
    """

    cameras: Cameras
    images: UInt8[Tensor, "views height width channels"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, index: Tensor | list[int] | slice) -> Views:
        picked = torch.arange(len(self))[index].tolist()
        return Views(
            self.cameras[picked], self.images[picked], tuple(self.names[i] for i in picked)
        )

    def picture(self, view: int, background: Tensor) -> Float[Tensor, "height width 3"]:
        """One image in [0, 1], composited on a background colour (3,)."""
        return composite_on(self.images[view], background)

    def opacity(self) -> Float[Tensor, "views height width"] | None:
        """Alpha channel in [0, 1]; None for images without one."""
        return self.images[..., 3].float() / 255 if self.images.shape[-1] == 4 else None


def composite_on(pixels: UInt8[Tensor, "*pixels channels"], background: Tensor) -> Tensor:
    """8 bit RGB or straight RGBA -> float rgb in [0, 1] over `background` (broadcastable)."""
    values = pixels.float() / 255
    if values.shape[-1] == 3:
        return values
    alpha = values[..., 3:]
    return values[..., :3] * alpha + (1 - alpha) * background.to(values.device)


@dataclass(frozen=True)
class Scene:
    """A data set of one scene.

    Attributes:
        name: Short name, from its folder or file.
        loaders: Split name -> function that reads the split; each is read at most once.
        aabb: (2, 3), box that holds everything of interest, scene units.
        near: Nearest distance from a camera at which something is, scene units.
        far: Farthest such distance.
        background: Colour that RGBA images are composited on, rgb in [0, 1].
        front: Horizontal direction (x, y) from the scene's centre to the front cameras.
        title: A few words for people.
    """

    name: str
    loaders: Mapping[str, Callable[[], Views]]
    aabb: Float[Tensor, "2 3"]
    near: float
    far: float
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    front: tuple[float, float] = (0.0, -1.0)
    title: str = ""
    _loaded: dict[str, Views] = field(default_factory=dict, repr=False, compare=False)

    def split(self, name: str) -> Views:
        """All views of a split.

        Raises:
            DataError: The scene has no such split, or it cannot be read.
        """
        if name not in self.loaders:
            raise DataError(
                f"{self.name}: no split `{name}`; this scene has {', '.join(self.loaders)}"
            )
        if name not in self._loaded:
            self._loaded[name] = self.loaders[name]()
        return self._loaded[name]

    def views(self, split: str, group: str = "all", overlap: float = 0.0) -> Views:
        """Views of one split that belong to a view group.

        Args:
            split: ``train``, ``val`` or ``test``.
            group: ``all``, ``front``, ``rear`` or ``sector K/N``.
            overlap: Degrees of azimuth that neighbouring groups share, in [0, 180].

        Raises:
            DataError: No camera of the split is in the group.
        """
        views = self.split(split)
        member = in_group(views.cameras, group, self.aabb.mean(0), self.front, overlap)
        if not member.any():
            raise DataError(
                f"{self.name}: none of the {len(views)} `{split}` cameras is in group `{group}`; "
                "choose another --group or turn the front direction with --front"
            )
        return views[member.nonzero()[:, 0]]

    @property
    def background_rgb(self) -> Float[Tensor, " 3"]:
        """The background as a tensor."""
        return torch.tensor(self.background)


def in_group(
    cameras: Cameras,
    group: str,
    centre: Float[Tensor, " 3"],
    front: tuple[float, float],
    overlap: float = 0.0,
) -> Tensor:
    """Which cameras belong to a view group: (views,) bool.

    Args:
        cameras: Cameras to sort.
        group: See the module.
        centre: Point that azimuths are taken around, scene units.
        front: Horizontal direction (x, y) towards the front cameras.
        overlap: Degrees that neighbouring groups share.
    """
    if not 0 <= overlap <= 180:
        raise InputError(f"overlap: expected degrees in [0, 180], received {overlap}")
    if math.hypot(*front) < 1e-9:
        raise InputError("front: expected a horizontal direction, received (0, 0)")
    offset = (cameras.positions - centre.to(cameras.positions))[:, :2].double()
    ahead = offset[:, 0] * front[0] + offset[:, 1] * front[1]
    aside = offset[:, 1] * front[0] - offset[:, 0] * front[1]
    if group == "all":
        return torch.ones(len(cameras), dtype=torch.bool)
    azimuth = torch.rad2deg(torch.atan2(aside, ahead))
    if group in ("front", "rear"):
        if overlap == 0:
            return (ahead > 0) == (group == "front")
        return (
            azimuth.abs() < 90 + overlap / 2
            if group == "front"
            else (azimuth.abs() >= 90 - overlap / 2)
        )
    match = re.fullmatch(r"sector (\d+)/(\d+)", group)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(
            f"group: expected all, front, rear or `sector K/N` with 1 <= K <= N, received `{group}`"
        )
    sector, sectors = int(match[1]), int(match[2])
    from_middle = (azimuth - (sector - 1) * 360 / sectors + 180) % 360 - 180
    half = 180 / sectors
    if overlap == 0:
        return (from_middle >= -half) & (from_middle < half)
    return from_middle.abs() <= half + overlap / 2
