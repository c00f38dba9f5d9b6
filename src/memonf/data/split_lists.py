"""Splits by lists of file names: nerfstudio's ``train_filenames`` and its like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from .lookup import split_name
from .view_names import names_in_words

__all__ = ["listed_names", "split_by_names"]

#: In the order that they are read in.
SPLITS = ("train", "test", "val")


def listed_names(file: Path, content: Mapping[str, Any]) -> dict[str, list[str]]:
    """The lists of a file, by split.

    Raises:
        DataError: One is no list of names.
    """
    lists = {}
    for split in SPLITS:
        names = content.get(key := f"{split}_filenames")
        if names is None:
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{file}: `{key}`: expected a list of file names")
        lists[split] = names
    return lists


def split_by_names(
    file: Path, lists: Mapping[str, list[str]], names: Sequence[str], pictures: Mapping[int, str]
) -> tuple[dict[str, list[int]], list[str]]:
    """Places of the frames in each split, and notes.

    Names are compared as they are written, as nerfstudio does it, or with the files that are there.
    Without a list of training names, what the other lists leave is trained on; without any other
    list, what the list of training names leaves is held out.

    Args:
        file: That has the lists.
        lists: Split name -> names.
        names: Of all frames.
        pictures: Place of a frame -> its file in the data folder; frames without one are missing.

    Raises:
        DataError: A name in a list that no frame has.
    """
    places: dict[Any, set[int]] = {}
    for place, name in [*enumerate(names), *pictures.items()]:
        places.setdefault(split_name(name), set()).add(place)
    splits: dict[str, list[int]] = {}
    for split, listed in lists.items():
        strange = [name for name in listed if split_name(name) not in places]
        if strange:
            raise DataError(
                f"{file}: `{split}_filenames`: {len(strange)} of {len(listed)} names are those of "
                f"no frame: {names_in_words(strange)}; expected them as `file_path` has them "
                f"(first: {names[0]})"
            )
        chosen = sorted({place for name in listed for place in places[split_name(name)]})
        if split != "val" or chosen != splits.get("test"):  # nerfstudio wants both
            splits[split] = chosen
    taken = {place for chosen in splits.values() for place in chosen}
    rest = [place for place in pictures if place not in taken]
    notes = []
    if rest and "train" not in splits:
        notes.append(f"{frames_are(rest)} in no list of names: trained on")
        splits["train"], rest = rest, []
    if rest and list(splits) == ["train"]:
        notes.append(f"{frames_are(rest)} in no list of names: held out")
        splits["test"], rest = rest, []
    if rest:
        left = names_in_words([names[place] for place in rest])
        notes.append(f"{frames_are(rest)} in no list of names, left out: {left}")
    return {split: splits[split] for split in SPLITS if split in splits}, notes


def frames_are(places: Sequence[int]) -> str:
    """How many, with the verb."""
    return "1 frame is" if len(places) == 1 else f"{len(places)} frames are"
