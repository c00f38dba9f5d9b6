"""Scenes: pictures with cameras, in named splits, and the view groups that parents train on.

View groups: ``all``; ``front`` and ``rear``, cameras within and beyond ±90° of azimuth around the
front direction; ``left`` and ``right`` of that direction, as one sees it who looks at the scene
from the front; ``sector K/N``, the K-th of N equal sectors, the first centred on the front.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from ..cameras.cameras import Cameras
from ..cameras.frames import Placement, looked_at
from ..errors import DataError, InputError
from ..rendering.occupancy_grid import CLEAR_ALPHA
from ..typing import Bool, Float, Int, Tensor, UInt8
from .hull import Seen, find_object, outline
from .storage import IN_MEMORY, Pictures

__all__ = ["Pictures", "Scene", "Views", "composite_on", "in_group"]


@dataclass(frozen=True)
class Views:
    """Pictures and the cameras that took them.

    Attributes:
        cameras: As many as names.
        stored: 8 bit sRGB as stored; RGBA has straight alpha. The pictures of a split are stored
            once: views that are a part of it share them.
        names: Name of each view, for messages and captions.
        places: Which of the stored pictures each view is; None for all of them in their order.
        masks: One channel for each of the stored pictures, 0 at pixels that are neither trained on
            nor scored; None if all count.
    """

    cameras: Cameras
    stored: Pictures
    names: tuple[str, ...]
    places: Int[Tensor, " views"] | None = None
    masks: Pictures | None = None

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, index: Tensor | list[int] | slice) -> Views:
        picked = torch.arange(len(self))[index]
        places = picked if self.places is None else self.places[picked]
        names = tuple(self.names[view] for view in picked.tolist())
        return Views(self.cameras[picked], self.stored, names, places, self.masks)

    def place(self, view: int) -> int:
        """Which of the stored pictures one view is."""
        return view if self.places is None else int(self.places[view])

    def image(self, view: int) -> UInt8[Tensor, "height width channels"]:
        """One picture as it is stored; no copy."""
        return self.stored[self.place(view)]

    @property
    def images(self) -> UInt8[Tensor, "views height width channels"]:
        """All pictures of views that agree in size; a copy where they are a part of those stored.

        Raises:
            InputError: They differ in size.
        """
        sizes = self.cameras.distinct_sizes
        if len(sizes) != 1:
            raise InputError(f"views: expected pictures of one size, received {len(sizes)} sizes")
        stored = self.stored if self.places is None else self.stored.picked(self.places)
        width, height = sizes[0]
        return stored.pixels.view(len(self), height, width, stored.channels)

    def picture(self, view: int, background: Tensor) -> Float[Tensor, "height width 3"]:
        """One image in [0, 1], composited on a background colour (3,)."""
        return composite_on(self.image(view), background)

    def to(self, device: torch.device | str) -> Views:
        """Return the same views for work on `device`.

        Pictures that are too large for memory stay where they are: only what `pixels` is asked for
        travels.
        """
        cameras = self.cameras.to(device)
        here = torch.device(device).type == self.stored.pixels.device.type
        if here or self.stored.pixels.nbytes > IN_MEMORY:
            return replace(self, cameras=cameras)
        stored, masks = self.stored, self.masks
        if self.places is not None:
            stored = stored.picked(self.places)
            masks = None if masks is None else masks.picked(self.places)
        masks = None if masks is None else masks.to(device)
        return Views(cameras, stored.to(device), self.names, None, masks)

    def pixels(self, index: Int[Tensor, " pixels"]) -> UInt8[Tensor, "pixels channels"]:
        """Single pixels, counted as by `Cameras.places`; on the cameras' device."""
        index = self.stored_index(index.to(self.stored.pixels.device))
        return self.stored.pixels[index].to(self.cameras.positions.device)

    def counted(self, index: Int[Tensor, " pixels"]) -> Tensor | None:
        """Which single pixels count, counted like those of `pixels`; None if all do."""
        if self.masks is None:
            return None
        index = self.stored_index(index.to(self.masks.pixels.device))
        return self.masks.pixels[index, 0].to(self.cameras.positions.device) > 0

    def stored_index(self, index: Int[Tensor, " pixels"]) -> Int[Tensor, " pixels"]:
        """Where single pixels of these views stand among those of the stored pictures."""
        if self.places is None:
            return index
        ends, shifts = self.shifts
        return index + shifts[torch.searchsorted(ends, index, right=True)]

    @cached_property
    def shifts(self) -> tuple[Int[Tensor, " views"], Int[Tensor, " views"]]:
        """One past the last pixel of each view, and how far off it is stored."""
        assert self.places is not None
        areas, starts = self.stored.areas[self.places], self.stored.starts[self.places]
        ends = areas.cumsum(0)
        return ends, starts - (ends - areas)

    def mask(self, view: int) -> Bool[Tensor, "height width"] | None:
        """Which pixels of one view count; None if all do."""
        if self.masks is None:
            return None
        return self.masks[self.place(view)][..., 0] > 0

    def alphas(self) -> Iterator[UInt8[Tensor, "height width"]] | None:
        """Alpha channel of one view after another, 8 bit; None for images without one."""
        if not self.translucent:
            return None
        return (self.image(view)[..., 3] for view in range(len(self)))

    @property
    def translucent(self) -> bool:
        """Whether the background shows through anywhere: an alpha of 255 in all pixels is none."""
        return self.stored.channels == 4 and any(
            bool((self.image(view)[..., 3] < 255).any()) for view in range(len(self))
        )

    def counted_share(self) -> float:
        """Share of all pixels that count, in [0, 1]."""
        if self.masks is None:
            return 1.0
        counted = [self.mask(view) for view in range(len(self))]
        total = sum(mask.numel() for mask in counted if mask is not None)
        return sum(int(mask.sum()) for mask in counted if mask is not None) / max(total, 1)


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
        placement: From the capture's coordinates to the scene's; None where they are the same.
        notes: What was found and done when the data set was opened, a sentence each.
        background_given: Whether the caller named the background.
        box_given: Whether the box was asked for or stands in the data set; it is then kept.
    """

    name: str
    loaders: Mapping[str, Callable[[], Views]]
    aabb: Float[Tensor, "2 3"]
    near: float
    far: float
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    front: tuple[float, float] = (0.0, -1.0)
    title: str = ""
    placement: Placement | None = None
    notes: tuple[str, ...] = ()
    background_given: bool = False
    box_given: bool = False
    _loaded: dict[str, Views] = field(default_factory=dict, repr=False, compare=False)
    _seen: list[Seen | None] = field(default_factory=list, repr=False, compare=False)

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
            group: ``all``, ``front``, ``rear``, ``left``, ``right`` or ``sector K/N``.
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
        return views if member.all() else views[member.nonzero()[:, 0]]

    def seen(self) -> Seen | None:
        """The object that the alpha channels of the training views outline; None if they do not.

        All groups of views have the same. It is looked for once, in the box if that was given, else
        as far from what the cameras look at as they stand, and as far again.
        """
        if not self._seen:
            self._seen.append(self.find_seen())
        return self._seen[0]

    def find_seen(self) -> Seen | None:
        """Look for `seen`."""
        views = self.split("train")
        alphas = views.alphas()
        if alphas is None:
            return None
        outlines = [
            outline(views.names[view], views.cameras[[view]], alpha > CLEAR_ALPHA)
            for view, alpha in enumerate(alphas)
        ]
        box = self.aabb
        if not self.box_given and self.placement is None:
            middle = looked_at(views.cameras.camera_to_world.double()).float()
            reach = 2 * (views.cameras.positions - middle).norm(dim=-1).max()
            box = torch.stack([
                torch.minimum(box[0], middle - reach), torch.maximum(box[1], middle + reach)
            ])  # fmt: skip
        return find_object(outlines, box)

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
    if group in ("left", "right"):
        # Left and right of somebody who looks from the front: +90° and -90° are their middles.
        middle = 90 if group == "right" else -90
        if overlap == 0:
            return (aside < 0) == (group == "left")
        from_middle = (azimuth - middle + 180) % 360 - 180
        return from_middle.abs() <= 90 + overlap / 2
    match = re.fullmatch(r"sector (\d+)/(\d+)", group)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(
            f"group: expected all, front, rear, left, right or `sector K/N` with 1 <= K <= N, "
            f"received `{group}`; try `--group front`"
        )
    sector, sectors = int(match[1]), int(match[2])
    from_middle = (azimuth - (sector - 1) * 360 / sectors + 180) % 360 - 180
    half = 180 / sectors
    if overlap == 0:
        return (from_middle >= -half) & (from_middle < half)
    return from_middle.abs() <= half + overlap / 2
