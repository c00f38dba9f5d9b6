"""Real captures: what their formats have in common once they are read.

Every format gives `Frame` by frame a picture with its camera, in the capture's own coordinates and
this project's camera convention. From there on all are treated alike: intrinsics follow the size of
each picture, every eighth view is held out where nothing says otherwise, and the scene is placed
(`memonf.cameras.frames`): upright, centred on what the cameras look at, its box scaled to ±1.5.

The world goes on outside the box of a capture. Fields know nothing there: what lies beyond is seen
as the background's colour, which is the mean colour of the pictures' borders (a *crop box*).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from ..cameras.cameras import Cameras
from ..cameras.distortion import Lens, Lenses
from ..cameras.frames import Placement
from ..errors import DataError
from ..typing import Float, Tensor, UInt8
from .background import BORDER_VIEWS, Background, Colour, behind_pictures, colour_text, named_colour
from .base import Pictures, Scene, Views
from .boxes import SaidBox, box_notes
from .masks import counted_pixels
from .pictures import picture_header, read_picture, read_pictures
from .poses import precision_notes, rigid
from .splits import ListedView, hold_out, separated
from .storage import keep
from .view_names import picture_names, view_names

__all__ = ["HELD_OUT_EVERY", "Frame", "Layout", "Place", "build_scene", "left_out"]

#: Half a side of the box of a placed capture, scene units; densities are made for this size.
HALF_SCENE = 1.5
#: One view in so many is held out where the capture does not say which.
HELD_OUT_EVERY = 8
#: Nearest thing that is rendered, in distances of the cameras from the middle.
NEAR_SHARE = 0.05
#: Widths over heights that differ by no more than this share are one shape, rounded to pixels.
SAME_SHAPE = 0.02
#: Names of missing pictures, and sizes, that are listed.
LISTED = 5

#: ``auto``: see `Placement.around`; ``keep``: the capture's own coordinates; or a placement.
Place: TypeAlias = "Literal['auto', 'keep'] | Placement"


@dataclass(frozen=True)
class Frame:
    """One picture of a capture and the camera that took it.

    Attributes:
        picture: Its file.
        pose: (3, 4), camera to world, this project's convention, world units.
        intrinsics: fx, fy, cx, cy in pixels of `size`.
        size: Width and height that the intrinsics belong to; None for those of the file.
        lens: What projects and bends the picture.
        mask: Picture that says which pixels count, see `memonf.data.masks`; None if all do.
        moving: Picture that says which pixels are left out; None for none.
        bounds: Nearest and farthest depth of what it shows, world units; None if unknown.
        upright: Whether the rotation that EXIF asks for is made; found by `fitted`.
        channels: Of the picture; found by `fitted`.
    """

    picture: Path
    pose: np.ndarray
    intrinsics: tuple[float, float, float, float]
    size: tuple[int, int] | None = None
    lens: Lens = Lens()
    mask: Path | None = None
    moving: Path | None = None
    bounds: tuple[float, float] | None = None
    upright: bool = False
    channels: int = 3


@dataclass(frozen=True)
class Said:
    """What a capture's own file says of the whole scene.

    Attributes:
        box: The box to train in; None for one that holds all cameras.
        up: Upward direction, world coordinates; None for the cameras' mean.
        background: Colour behind everything, and the key that says it.
    """

    box: SaidBox | None = None
    up: Float[Tensor, " 3"] | None = None
    background: tuple[Colour, str] | None = None


NOTHING_SAID = Said()


@dataclass(frozen=True)
class Layout:
    """Where a scene lies and how it is looked at, as a data set that MeMo NF wrote says it.

    Attributes:
        placement: From the capture's coordinates to the scene's; None where they are the same.
        aabb: (2, 3), scene units.
        near: Nearest distance from a camera at which something is, scene units.
        far: Farthest such distance.
        background: Colour behind everything, rgb in [0, 1].
        front: Horizontal direction (x, y) towards the front cameras.
    """

    placement: Placement | None
    aabb: Float[Tensor, "2 3"]
    near: float
    far: float
    background: tuple[float, float, float]
    front: tuple[float, float]

    @classmethod
    def of(cls, scene: Scene) -> Layout:
        """The layout of a scene."""
        return cls(*(getattr(scene, entry.name) for entry in fields(cls)))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        placement = None if self.placement is None else self.placement.as_dict()
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {**values, "placement": placement, "aabb": self.aabb.tolist()}

    @classmethod
    def from_dict(cls, values: Any) -> Layout:
        """What `as_dict` gave.

        Raises:
            DataError: It is none: other keys or shapes, an empty box or range.
        """
        if isinstance(values, dict) and (
            more := values.keys() - {entry.name for entry in fields(cls)}
        ):
            raise DataError(f"unknown key `{min(more)}`")
        try:
            placement = values["placement"]
            aabb = torch.tensor(values["aabb"], dtype=torch.float32)
            red, green, blue = (float(value) for value in values["background"])
            x, y = (float(value) for value in values["front"])
            found = cls(
                None if placement is None else Placement.from_dict(placement),
                aabb, float(values["near"]), float(values["far"]), (red, green, blue), (x, y),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                "expected placement, aabb, near, far, background and front as `memonf data split` "
                "writes them"
            ) from None
        box = aabb.shape == (2, 3) and bool(aabb.isfinite().all() & (aabb[0] < aabb[1]).all())
        if not (box and 0 <= found.near < found.far < math.inf and math.hypot(x, y) > 0):
            raise DataError("expected a box with room in it, 0 <= near < far, and a direction")
        return found


def build_scene(
    name: str,
    splits: Mapping[str, Sequence[Frame]],
    *,
    place: Place = "auto",
    half_side: float | None = None,
    background: Background = "auto",
    layout: Layout | None = None,
    said: Said = NOTHING_SAID,
    divided: bool = False,
    notes: Sequence[str] = (),
) -> Scene:
    """Make a scene of the frames of a capture.

    Args:
        name: Short name.
        splits: Frames of each split; of training frames alone every eighth is held out.
        place: How the scene is placed.
        half_side: Half a side of the box, world units; None for what the data set says, or one that
            holds all cameras.
        background: Colour behind everything; ``auto`` for what the data set says or shows.
        layout: What a data set that MeMo NF wrote says of all this; it holds unless something else
            was asked for.
        said: What any other data set says of it.
        divided: Whether the splits are the data set's own word: then none is held out besides.
        notes: What the reader has to say.

    Raises:
        DataError: No frame, unusable poses, training views that are all held out as well.
    """
    found = list(notes)
    if not any(splits.values()):
        raise DataError(f"{name}: expected one frame or more whose picture is there")
    parts, done = split_frames(name, splits, divided)
    kept = {split: [fitted(frame) for frame in part] for split, part in parts.items()}
    found += done
    frames = [frame for part in kept.values() for frame in part]
    found += what_differs(frames)
    poses, scaled = rigid(
        np.stack([frame.pose for frame in frames]),
        picture_names([frame.picture for frame in frames]),
        name,
    )
    world = cameras_of(name, frames, poses)
    box = said.box if half_side is None else SaidBox(half_side, None, "")
    kept_background = None if layout is None else layout.background
    box_given = isinstance(place, Placement) or half_side is not None
    box_given |= layout is not None and place == "auto"
    if layout is None or place != "auto" or half_side is not None:
        placement = placed_by(place, world, frames, box, said.up)
        layout = found_layout(world, placement, box)
        if said.box is not None:
            found.append(said.box.note + ("" if half_side is None else ": --half-side is taken"))
    colour, noted = background_of(background, kept_background, said, kept[next(iter(kept))])
    placed = placed_cameras(world, layout.placement)
    if layout.placement is None:
        found += precision_notes(name, placed.positions, layout.aabb, "place it (--place auto)")
    remedy = "correct the box that the file says, or set --half-side" if said.box else (
        "set --half-side")  # fmt: skip
    folded = int(placed.folded().sum())
    if folded:
        found.append(
            f"the lens of {folded} pictures does not reach their borders: it folds back before, or "
            "can see no further; mask what lies there, or correct its coefficients"
        )
    found += [*scaled, *noted, *masks_in_words(frames)]
    found += box_notes(placed, layout.aabb, layout.near, layout.far, remedy)
    loaders: dict[str, Callable[[], Views]] = {}
    start = 0
    for split, part in kept.items():
        cameras = placed[start : start + len(part)]
        loaders[split] = partial(read_views, tuple(part), cameras)
        start += len(part)
    return Scene(
        name=name,
        loaders=loaders,
        aabb=layout.aabb,
        near=layout.near,
        far=layout.far,
        background=colour,
        background_given=background != "auto",
        front=layout.front,
        placement=layout.placement,
        notes=tuple(found),
        box_given=box_given,
    )


def placed_by(
    place: Place, world: Cameras, frames: Sequence[Frame], box: SaidBox | None, up: Tensor | None
) -> Placement | None:
    """The placement that was asked for."""
    if isinstance(place, Placement):
        return place
    if place == "keep":
        return None
    bounds = [frame.bounds for frame in frames if frame.bounds is not None]
    farthest = max((far for _, far in bounds), default=0.0)
    half_side, centre = (None, None) if box is None else (box.half_side, box.centre)
    if centre is None and all(frame.lens.projection == "equirectangular" for frame in frames):
        x, y, z = world.positions.double().mean(0).tolist()  # a panorama looks nowhere
        centre = (x, y, z)
    return Placement.around(world, half_side, HALF_SCENE, farthest, centre=centre, up=up)


def placed_cameras(world: Cameras, placement: Placement | None) -> Cameras:
    """The cameras in scene coordinates, in single precision as fields have them."""
    if placement is not None:
        return placement.cameras_to_scene(world)
    return replace(world, camera_to_world=world.camera_to_world.float())


def found_layout(world: Cameras, placement: Placement | None, box: SaidBox | None) -> Layout:
    """What a capture does not say: box, range and front, from its cameras; white behind them."""
    placed = placed_cameras(world, placement)
    aabb = box_of(placed, placement, box)
    centre = aabb.mean(0)
    distances = (placed.positions - centre).norm(dim=-1)
    return Layout(
        placement,
        aabb,
        near=max(NEAR_SHARE * float(distances.median()), 1e-4),
        far=float(distances.max() + (aabb[1] - aabb[0]).norm()),
        background=(1.0, 1.0, 1.0),
        front=middle_direction(placed, centre),
    )


def background_of(
    background: Background,
    kept: Colour | None,
    said: Said,
    frames: Sequence[Frame],
) -> tuple[Colour, list[str]]:
    """The colour behind everything, and a note where the data set's own word chose it.

    Args:
        background: What was asked for.
        kept: That of the data set that a MeMo NF data set was cut from.
        said: What the data set says.
        frames: Whose borders are looked at.
    """
    named = named_colour(background)
    if named is not None:
        return named, []
    if kept is not None:
        return kept, []
    if said.background is not None:
        colour, key = said.background
        return colour, [f"background {colour_text(colour)} from `{key}`"]
    step = -(-len(frames) // BORDER_VIEWS)
    looked = (read_picture(frame.picture, upright=frame.upright) for frame in frames[::step])
    return behind_pictures(looked)[0], []


def masks_in_words(frames: Sequence[Frame]) -> list[str]:
    """A note where some pictures have masks and others have none."""
    masked = sum(frame.mask is not None or frame.moving is not None for frame in frames)
    if masked in (0, len(frames)):
        return []
    return [f"{masked} of {len(frames)} pictures have masks: all pixels of the others count"]


def left_out(missing: Sequence[str]) -> list[str]:
    """A note that names the pictures that are not there, if there are any."""
    if not missing:
        return []
    more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
    frames = "1 frame" if len(missing) == 1 else f"{len(missing)} frames"
    return [f"{frames} left out, the picture is missing: {', '.join(missing[:LISTED])}{more}"]


def split_frames(
    name: str, splits: Mapping[str, Sequence[Frame]], divided: bool
) -> tuple[dict[str, list[Frame]], list[str]]:
    """Splits that share no view, some of it held out where nothing was; and what was done."""
    views = dict(zip(splits, listed_views(splits.values()), strict=True))
    places, notes = separated(views)
    kept = {split: [splits[split][place] for place in found] for split, found in places.items()
            if found}  # fmt: skip
    if list(kept) != ["train"]:
        return kept, notes
    if divided:
        return kept, [*notes, "no view is held out: the data set's own splits have none"]
    ordered = sorted(kept["train"], key=lambda frame: frame.picture.name)
    (left,) = listed_views([ordered])
    held = hold_out(left, HELD_OUT_EVERY)
    train, test = (
        [frame for frame, out in zip(ordered, held, strict=True) if out == wanted]
        for wanted in (False, True)
    )
    if not any(held):
        return kept, [*notes, f"no view is held out: {len(held)} views are too few"]
    notes.append(f"every {HELD_OUT_EVERY}th view is held out for tests")
    more = sum(held) - len(range(HELD_OUT_EVERY // 2, len(held), HELD_OUT_EVERY))
    if more:
        notes.append(f"{more} more, since their cameras are those of held-out views")
    return {"train": train, "test": test}, notes


def listed_views(splits: Iterable[Sequence[Frame]]) -> list[list[ListedView]]:
    """What tells views apart, split by split."""
    splits = list(splits)
    names = iter(picture_names([frame.picture for frames in splits for frame in frames]))
    return [
        [ListedView(next(names), frame.pose, frame.picture) for frame in frames]
        for frames in splits
    ]


def fitted(frame: Frame) -> Frame:
    """The frame with the size that its picture has, and intrinsics that belong to it.

    The rotation that EXIF asks for is made, unless the camera was calibrated on the picture as it
    is stored.

    Raises:
        DataError: No picture, or one of another shape than its camera's.
    """
    header = picture_header(frame.picture)
    declared = frame.size
    if declared is not None and min(declared) < 1:
        raise DataError(f"{frame.picture}: its camera is for pictures of {declared} pixels")
    upright = header.stored != header.upright and not (
        declared is not None and math.isclose(
            declared[0] / declared[1], header.stored[0] / header.stored[1], rel_tol=SAME_SHAPE)
    )  # fmt: skip
    width, height = header.upright if upright else header.stored
    across, down = 1.0, 1.0
    if declared is not None:
        across, down = width / declared[0], height / declared[1]
        exchanged = math.isclose(width * declared[0], height * declared[1], rel_tol=SAME_SHAPE)
        if abs(across - down) * max(declared) > max(1.0, SAME_SHAPE * max(width, height)):
            raise DataError(
                f"{frame.picture}: {width}x{height} pixels, its camera is for "
                f"{declared[0]}x{declared[1]}; expected the same shape: write the size and the "
                "intrinsics of the picture as it is, or undo its cropping or turning"
                + (": width and height are exchanged" if exchanged else "")
            )
    fx, fy, cx, cy = frame.intrinsics
    return replace(
        frame, intrinsics=(fx * across, fy * down, cx * across, cy * down), size=(width, height),
        upright=upright, channels=header.channels,
    )  # fmt: skip


def panorama(width: int, height: int) -> tuple[float, float, float, float]:
    """Intrinsics of a picture of all directions: pixels per radian, and its middle."""
    return width / (2 * math.pi), height / math.pi, width / 2, height / 2


def what_differs(frames: Sequence[Frame]) -> list[str]:
    """Notes on pictures of several sizes, and on some with an alpha channel among others."""
    notes = []
    sizes = list(dict.fromkeys(frame.size for frame in frames if frame.size is not None))
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sizes[:LISTED])
        more = f" and {len(sizes) - LISTED} more" if len(sizes) > LISTED else ""
        notes.append(f"pictures of {len(sizes)} sizes: {listed}{more}; every pixel counts alike")
    with_alpha = sum(frame.channels == 4 for frame in frames)
    if 0 < with_alpha < len(frames):
        notes.append(
            f"{with_alpha} of {len(frames)} pictures have an alpha channel, the others count as "
            "opaque"
        )
    return notes


def cameras_of(name: str, frames: Sequence[Frame], poses: np.ndarray) -> Cameras:
    """Cameras of the frames in world coordinates, in double precision; see `Placement`."""
    lenses = None
    if not all(frame.lens.pinhole for frame in frames):
        lenses = Lenses.of([frame.lens for frame in frames])
    cameras = Cameras(
        torch.from_numpy(poses),
        torch.tensor([frame.intrinsics for frame in frames], dtype=torch.float32),
        torch.tensor([frame.size for frame in frames]),
        lenses,
    )
    try:
        cameras.check(picture_names([frame.picture for frame in frames]))
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    return cameras


def box_of(
    placed: Cameras, placement: Placement | None, box: SaidBox | None
) -> Float[Tensor, "2 3"]:
    """The scene's box: ±1.5 where it was scaled to it, else around what the cameras look at."""
    if placement is not None:
        half = torch.full((3,), HALF_SCENE)
        return torch.stack([-half, half])
    half_side, middle = (None, None) if box is None else (box.half_side, box.centre)
    found = Placement.around(placed, half_side, 1.0, centre=middle)
    centre = found.to_world(torch.zeros(3, dtype=torch.float64)).float()
    return torch.stack([centre - 1 / found.scale, centre + 1 / found.scale])


def middle_direction(cameras: Cameras, centre: Tensor) -> tuple[float, float]:
    """Horizontal direction from the centre with as many cameras on its left as on its right."""
    offset = (cameras.positions - centre)[:, :2].double()
    mean = torch.nn.functional.normalize(offset, dim=-1).mean(0)
    if float(mean.norm()) < 1e-6:
        return (0.0, -1.0)
    ahead, aside = offset @ mean, offset[:, 1] * mean[0] - offset[:, 0] * mean[1]
    turn = float(torch.atan2(aside, ahead).median())
    x, y = (mean / mean.norm()).tolist()
    return (
        x * math.cos(turn) - y * math.sin(turn),
        x * math.sin(turn) + y * math.cos(turn),
    )


def read_views(frames: Sequence[Frame], cameras: Cameras) -> Views:
    """Decode the pictures of a split, and its masks."""
    paths = [frame.picture for frame in frames]
    sizes = [cameras.size(view) for view in range(len(cameras))]
    channels = max(frame.channels for frame in frames)
    images = keep(
        read_pictures(paths, upright=[frame.upright for frame in frames], channels=channels),
        sizes, channels,
        origin="\n".join(str(path.resolve()) for path in paths), sources=paths,
    )  # fmt: skip
    masks = None
    if any(frame.mask is not None or frame.moving is not None for frame in frames):
        masks = Pictures.of(
            [read_mask(frame, size)[..., None] for frame, size in zip(frames, sizes, strict=True)]
        )
    return Views(cameras, images, view_names(paths), None, masks)


def read_mask(frame: Frame, size: tuple[int, int]) -> UInt8[Tensor, "height width"]:
    """Which pixels count (255) and which do not (0), at the width and height of the picture."""
    counted = counted_pixels(frame.mask, frame.moving, *size, upright=frame.upright)
    return counted.to(torch.uint8) * 255
