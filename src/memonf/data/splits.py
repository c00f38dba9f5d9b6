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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from .pictures import read_picture

__all__ = ["ListedView", "hold_out", "picture_names", "separated", "view_names"]

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
#: Names that a note lists.
LISTED = 5


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
    splits: Mapping[str, Sequence[ListedView]], where: str
) -> tuple[dict[str, list[int]], list[str]]:
    """Which views of each split are kept so that none is trained on and held out as well.

    A view that a split lists twice counts once, by its first entry. One that is held out (in any
    split but ``train``) is taken from the training views.

    Args:
        splits: Split name -> its views.
        where: Data set, for messages.

    Returns:
        Split name -> places of the views that are kept, in order; and notes.

    Raises:
        DataError: No training view is left.
    """
    views = [view for split in splits.values() for view in split]
    owners = [split for split, listed in splits.items() for _ in listed]
    poses = poses_of(views)
    once, copies = same_pictures(views, poses)
    pairs = [
        (one, other) for one, other in close_pairs(poses, SAME_POSE)
        if (owners[one] == "train") != (owners[other] == "train") and once[one] != once[other]
    ]  # fmt: skip
    looks = {view: views[view].small() for pair in pairs for view in pair}
    same = [look_alike(looks[one], looks[other]) for one, other in pairs]
    alike = joined(len(views), [
        *enumerate(once), *(pair for pair, found in zip(pairs, same, strict=True) if found)
    ])  # fmt: skip
    held = {alike[view]: owners[view] for view in range(len(views)) if owners[view] != "train"}
    kept: dict[str, list[int]] = {split: [] for split in splits}
    seen: set[tuple[str, int]] = set()
    twice: list[int] = []
    leaked: list[int] = []
    start = 0
    for split, listed in splits.items():
        for place in range(len(listed)):
            view = start + place
            if split == "train" and alike[view] in held:
                leaked.append(view)
            elif (split, once[view]) in seen:
                twice.append(view)
            else:
                seen.add((split, once[view]))
                kept[split].append(place)
        start += len(listed)
    if leaked and not kept["train"]:
        others = " and ".join(dict.fromkeys(f"`{held[alike[view]]}`" for view in leaked))
        raise DataError(
            f"{where}: all {len(leaked)} training views are held out in {others} as well (first: "
            f"{views[leaked[0]].name}); list each view in one split, or leave the other lists out "
            "to have some views held out"
        )
    notes = []
    if twice:
        notes.append(
            f"{counted(twice, 'view')} listed twice, counted once: {names_of(views, twice)}"
            + in_other_words(views, once, twice, poses)
        )
    if leaked:
        others = " and ".join(dict.fromkeys(f"`{held[alike[view]]}`" for view in leaked))
        notes.append(
            f"{counted(leaked, 'training view')} held out in {others} as well, not trained on: "
            f"{names_of(views, leaked)}"
        )
    posed = [min(pair, key=lambda view: owners[view] != "train") for pair in pairs]
    others = sorted({
        view for view, found in zip(posed, same, strict=True) if not found
    } - set(leaked))  # fmt: skip
    if others:
        notes.append(
            f"{counted(others, 'training view')} from the camera of a held-out view, with another "
            f"picture, trained on: {names_of(views, others)}"
        )
    return kept, [*notes, *copies]


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


def names_in_words(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


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


def view_names(pictures: Sequence[Path]) -> tuple[str, ...]:
    """A name of each picture that no other has: its stem, and as many folders as tell them apart.

    Pictures of one stem in one folder keep their endings. Case does not count: files are named so.
    """
    rivals: dict[str, list[Path]] = {}
    for path in pictures:
        rivals.setdefault(path.stem.casefold(), []).append(path)
    counts = {stem: spellings_of(paths) for stem, paths in rivals.items() if len(paths) > 1}
    names: list[str] = []
    for place, path in enumerate(pictures):
        stem = path.stem.casefold()
        name = path.stem
        if stem in counts:
            own = (spelt for spelt in spellings(path) if counts[stem][spelt.casefold()] == 1)
            name = next(own, f"{path.stem} {place}")
        names.append(name)
    return tuple(names)


def spellings(path: Path) -> Iterator[str]:
    """Names that a picture can have, the shortest first; with its ending only after all others."""
    folders = path.parts[:-1]
    for last in (path.stem, path.name):
        for depth in range(len(folders) + 1):
            yield "/".join([*folders[len(folders) - depth :], last])


def spellings_of(paths: Sequence[Path]) -> Counter[str]:
    """How many of some pictures each name fits."""
    return Counter(spelt.casefold() for path in paths for spelt in spellings(path))


def picture_names(pictures: Sequence[Path]) -> list[str]:
    """Name of each picture for messages: its path from the folder that holds them all."""
    if not pictures:
        return []
    common = Path(os.path.commonpath([os.path.abspath(path.parent) for path in pictures])).parent
    return [Path(os.path.abspath(path)).relative_to(common).as_posix() for path in pictures]
