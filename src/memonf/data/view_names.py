"""Names of views: one for each, short, for captions, scores and messages."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["names_in_words", "picture_names", "view_names"]

#: Names that a note lists.
LISTED = 5


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


def names_in_words(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
