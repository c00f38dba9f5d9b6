"""Splits that share no view: what is held out is never trained on, however it was listed.

One picture can be listed twice, under two paths (a link, another spelling), as a copy under another
name, or with the camera of another. Every reader asks `separated`, before any picture is decoded.
Two views are the same

* if they name the same file;
* if their files have equal content and they were taken from about the same place;
* if their cameras stand at the same pose and their pictures look alike, as those encoded anew do.

Equal content at other poses is no reason: renderings of a plain thing from two sides can agree. Nor
is another picture from the same pose, at another time or exposure; but it is said, and where views
are held out here those of one pose are held out together.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from .pictures import read_picture
from .view_names import names_in_words

__all__ = ["ListedView", "hold_out", "separated", "small"]

#: Of the cameras' extent, and of their axes: poses that differ by less are one pose.
SAME_POSE = 1e-5
#: The same of pictures with equal content, whose poses may have been solved for apart.
NEAR_POSE = 2e-2
#: Bytes at either end of a file that are compared before the whole.
ENDS = 1 << 16
#: Share of copies from other cameras above which the thing is plain, and no camera is wrong.
PLAIN = 0.25
#: Side of a small picture, and the mean difference (of 255) up to which two look alike.
SMALL, LOOKS_ALIKE = 16, 4.0
#: Pairs that each camera is in at most: where all stand at one place, these join them.
MOST_PAIRS = 8


@dataclass(frozen=True)
class ListedView:
    """A view as a data set lists it.

    Attributes:
        name: For messages.
        pose: (3, 4), camera to world.
        picture: Its file; None where pictures are no files of their own.
        look: Gives its picture made small, see `small`; None for that of the file.
    """

    name: str
    pose: np.ndarray
    picture: Path | None = None
    look: Callable[[], np.ndarray] | None = None

    def small(self) -> np.ndarray | None:
        """Its picture made small; None if it cannot be had."""
        if self.look is not None:
            return self.look()
        try:
            return None if self.picture is None else small(read_picture(self.picture))
        except DataError:  # whoever needs it says so
            return None


def separated(
    splits: Mapping[str, Sequence[ListedView]],
) -> tuple[dict[str, list[int]], list[str]]:
    """Which views of each split are kept so that none is trained on and held out as well.

    A view that a split lists twice counts once, by its first entry. One that is held out (in any
    split but ``train``) is taken from the training views; if that leaves none of them, the splits
    are copies of each other, and the views are trained on and not held out.

    Args:
        splits: Split name -> its views.

    Returns:
        Split name -> places of the views that are kept, in order; and notes.
    """
    views = [view for split in splits.values() for view in split]
    owners = [split for split, listed in splits.items() for _ in listed]
    poses = poses_of(views)
    once, copies = same_pictures(views, poses)
    same, others = shared_cameras(views, owners, poses, once)
    alike = joined(len(views), [*enumerate(once), *same])
    held = {alike[view]: owner for view, owner in enumerate(owners) if owner != "train"}
    leaked = [
        view for view, owner in enumerate(owners) if owner == "train" and alike[view] in held
    ]  # fmt: skip
    firsts: dict[tuple[str, int], int] = {}
    for view, owner in enumerate(owners):
        firsts.setdefault((owner, once[view]), view)
    twice = [
        view for view, owner in enumerate(owners)
        if firsts[owner, once[view]] != view and not (owner == "train" and alike[view] in held)
    ]  # fmt: skip
    trained = [view for view, owner in enumerate(owners) if owner == "train"]
    not_held = {alike[view] for view in trained} if len(leaked) == len(trained) else set()
    if not_held:  # a list that was copied: all are trained on, and none of them is held out
        leaked = [
            view
            for view, owner in enumerate(owners)
            if owner != "train" and alike[view] in not_held
        ]
    left_out = {*leaked, *twice}
    kept: dict[str, list[int]] = {}
    start = 0
    for split, listed in splits.items():
        kept[split] = [place for place in range(len(listed)) if start + place not in left_out]
        start += len(listed)
    notes = []
    if twice:
        notes.append(
            f"{counted(twice, 'view')} listed twice, counted once: {names_of(views, twice)}"
            + in_other_words(views, once, twice, poses)
        )
    if leaked:
        where_held = " and ".join(dict.fromkeys(f"`{held[alike[view]]}`" for view in leaked))
        if not_held:
            notes.append(
                f"all {counted(trained, 'training view')} held out in {where_held} as well: "
                f"trained on, and not held out (first: {views[leaked[0]].name}); list each view "
                "in one split"
            )
        else:
            notes.append(
                f"{counted(leaked, 'training view')} held out in {where_held} as well, not "
                f"trained on: {names_of(views, leaked)}"
            )
    if others := sorted(set(others) - left_out):
        notes.append(
            f"{counted(others, 'training view')} from the camera of a held-out view, with another "
            f"picture, trained on: {names_of(views, others)}"
        )
    return kept, [*notes, *copies]


def shared_cameras(
    views: Sequence[ListedView], owners: Sequence[str], poses: np.ndarray, once: Sequence[int]
) -> tuple[list[tuple[int, int]], list[int]]:
    """Training views at the pose of a held-out one.

    Args:
        views: Of all splits.
        owners: Split of each.
        poses: Of each.
        once: First view that shows the same picture as each.

    Returns:
        Pairs of views that look alike; and training views whose pictures differ from those held
        out at their pose.
    """
    same, others = [], []
    looks: dict[int, np.ndarray | None] = {}
    for pair in close_pairs(poses, SAME_POSE):
        trained = [view for view in pair if owners[view] == "train"]
        if len(trained) != 1 or once[pair[0]] == once[pair[1]]:
            continue
        for view in pair:
            if view not in looks:
                looks[view] = views[view].small()
        if look_alike(looks[pair[0]], looks[pair[1]]):
            same.append(pair)
        else:
            others += trained
    return same, others


def hold_out(listed: Sequence[ListedView], every: int) -> list[bool]:
    """Which views are held out: one in `every`, and those that share its camera.

    Args:
        listed: Views that `separated` left, in the order that they are counted in.
        every: One in so many, the middle one.
    """
    held = np.zeros(len(listed), dtype=bool)
    held[every // 2 :: every] = True
    alike = joined(len(listed), close_pairs(poses_of(listed), SAME_POSE))
    cameras = {alike[view] for view in np.flatnonzero(held)}
    found = [alike[view] in cameras for view in range(len(listed))]
    return held.tolist() if all(found) else found


def poses_of(views: Sequence[ListedView]) -> np.ndarray:
    """(views, 3, 4) in double precision."""
    return np.array([view.pose for view in views], dtype=np.float64).reshape(-1, 3, 4)


def same_pictures(views: Sequence[ListedView], poses: np.ndarray) -> tuple[list[int], list[str]]:
    """First view that shows the same picture as each, and notes on copies that other cameras have.

    Views of the same file, and of equal files from about the same pose, show the same picture.
    """
    pairs: list[tuple[int, int]] = []
    of_path: dict[str, int] = {}
    files: dict[Path, int] = {}
    for place, view in enumerate(views):
        if view.picture is not None:
            first = of_path.setdefault(os.path.normpath(os.path.abspath(view.picture)), place)
            pairs.append((first, place))
            files.setdefault(view.picture, first)
    elsewhere: list[int] = []
    extent = extent_of(poses)
    for group in equal_files(list(files)) if tell_apart(poses) else []:
        firsts = [files[group[0]]]
        for other in (files[path] for path in group[1:]):
            near = alike_poses(poses[other], poses[firsts], NEAR_POSE, extent)
            if near.any():
                pairs.append((firsts[int(near.argmax())], other))
            else:
                firsts.append(other)
                elsewhere.append(other)
    notes = []
    if 0 < len(elsewhere) <= PLAIN * len(views):
        notes.append(
            f"{counted(elsewhere, 'picture')} a copy of another that has another camera: "
            f"{names_of(views, elsewhere)}; one of the cameras may be wrong"
        )
    return joined(len(views), pairs), notes


def equal_files(paths: Sequence[Path]) -> list[list[Path]]:
    """Files of equal content, in groups of two or more; files that are not there are in none.

    Only files of equal size and equal ends are read whole.
    """
    groups = [list(paths)]
    for key in (size_of, ends_of, content_of):
        finer = []
        for group in groups:
            by_key: dict[object, list[Path]] = {}
            for path in group:
                try:
                    by_key.setdefault(key(path), []).append(path)
                except OSError:  # whoever decodes it says so
                    continue
            finer += [found for found in by_key.values() if len(found) > 1]
        groups = finer
    return groups


def size_of(path: Path) -> int:
    """Bytes of a file."""
    return path.stat().st_size


def ends_of(path: Path) -> bytes:
    """What both ends of a file hold."""
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(max(0, path.stat().st_size - ENDS))
        return hashlib.sha256(head + file.read(ENDS)).digest()


def content_of(path: Path) -> bytes:
    """Digest of all that a file holds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def extent_of(poses: np.ndarray) -> float:
    """Farthest finite camera from the middle of all; 1 where they stand at one place."""
    centres = poses[:, :, 3][np.isfinite(poses).all((1, 2))]
    if not len(centres):
        return 1.0
    return float(np.abs(centres - np.median(centres, 0)).max()) or 1.0


def tell_apart(poses: np.ndarray) -> bool:
    """Whether there is more than one pose."""
    finite = poses[np.isfinite(poses).all((1, 2))]
    return len(finite) > 1 and bool(np.ptp(finite, 0).max() > SAME_POSE)


def small(pixels: np.ndarray) -> np.ndarray:
    """A picture (height, width, 3 or 4), 8 bit, as (`SMALL`, `SMALL`, 4) means of its parts."""
    picture = Image.fromarray(pixels).convert("RGBA")
    return np.asarray(picture.resize((SMALL, SMALL), Image.Resampling.BOX)).astype(np.float64)


def look_alike(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether two small pictures show the same; those that cannot be had are taken for it."""
    if one is None or other is None:
        return True
    return float(np.abs(one - other).mean()) <= LOOKS_ALIKE


def alike_poses(
    pose: np.ndarray, others: np.ndarray, tolerance: float, extent: float
) -> np.ndarray:
    """Which of some cameras (views, 3, 4) stand and look as one does: (views,) bool.

    Args:
        pose: (3, 4).
        others: The cameras.
        tolerance: Largest difference of the axes, and of the places in shares of the extent.
        extent: See `extent_of`.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # poses that are refused later
        apart = np.abs(others - pose)
        stand = apart[:, :, 3].max(1) <= tolerance * extent
        look = apart[:, :, :3].max((1, 2)) <= tolerance
    found: np.ndarray = stand & look
    return found


def close_pairs(poses: np.ndarray, tolerance: float) -> Iterator[tuple[int, int]]:
    """Pairs of cameras that stand and look alike, found along the axis they are spread most on.

    Where all are at one pose, poses tell nothing apart, and there are none.
    """
    finite = np.flatnonzero(np.isfinite(poses).all((1, 2)))
    if not tell_apart(poses):
        return
    extent = extent_of(poses)
    centres = poses[finite, :, 3]
    along = centres[:, np.ptp(centres, 0).argmax()]
    order = finite[np.argsort(along, kind="stable")]
    along = np.sort(along)
    ends = np.searchsorted(along, along + tolerance * extent, side="right")
    for place, end in enumerate(ends):
        others = order[place + 1 : end]
        if len(others):
            close = alike_poses(poses[order[place]], poses[others], tolerance, extent)
            for other in others[close][:MOST_PAIRS]:
                yield int(order[place]), int(other)


def joined(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """The least member of the set that each of `count` things is in, where pairs are in one set."""
    least = list(range(count))

    def root(place: int) -> int:
        while least[place] != place:
            least[place] = least[least[place]]
            place = least[place]
        return place

    for one, other in pairs:
        here, there = sorted((root(one), root(other)))
        least[there] = here
    return [root(place) for place in range(count)]


def counted(places: Sequence[int], what: str) -> str:
    """How many, with the verb."""
    return f"1 {what} is" if len(places) == 1 else f"{len(places)} {what}s are"


def names_of(views: Sequence[ListedView], places: Sequence[int]) -> str:
    """The names of some views, the first of them."""
    return names_in_words(list(dict.fromkeys(views[place].name for place in places)))


def in_other_words(
    views: Sequence[ListedView], once: Sequence[int], twice: Sequence[int], poses: np.ndarray
) -> str:
    """What is to be said of the second listing: other names, other poses."""
    said = ""
    firsts = [once[view] for view in twice]
    if any(
        views[view].name != views[first].name for view, first in zip(twice, firsts, strict=True)
    ):
        said += f" (the same pictures as {names_of(views, firsts)})"
    extent = extent_of(poses)
    differ = [
        view for view, first in zip(twice, firsts, strict=True)
        if not alike_poses(poses[first], poses[[view]], NEAR_POSE, extent).all()
    ]  # fmt: skip
    if differ:
        said += f"; the poses of {names_of(views, differ)} differ, the first is taken"
    return said
