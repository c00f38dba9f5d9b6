"""Pictures that a data set names, found as they lie in its folder.

Names come from other machines: with backslashes, with roots of another disk, with an ending that
was converted since, in another case. What can mean one file alone is read, and said; what can mean
two is refused. A name never leads out of the folder; a link that lies in it is followed wherever it
leads, since whoever owns the folder made it.
"""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from ..errors import DataError

__all__ = ["ENDINGS", "PictureFinder", "broken_link", "lexical", "none_there", "smaller_folders"]

#: Endings of pictures that are read, in any case; the first is Blender's, whose files leave it out.
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
#: What stands before a path on another machine: an address, a drive.
ADDRESS, DRIVE = re.compile(r"^file:/*(?=/)"), re.compile(r"^[A-Za-z]:(?=/|$)")
#: The folder of pictures in their full size; ``images_2``, ``images_4`` hold smaller ones.
IMAGES = "images"
#: Names that are listed in an error.
LISTED = 3
#: What was read otherwise than it is written, and how that is said.
KINDS = {
    "folder": "lie in another folder than their names say",
    "size": "are smaller copies, intrinsics follow their size",
    "ending": "have another ending than their names say",
    "spelling": "are spelt otherwise than their names say",
}


@dataclass
class PictureFinder:
    """Finds the pictures (and masks) that the files of one data set name.

    Attributes:
        folder: Where names begin.
        missing: Names that no file was found for, in the order they were asked for.
        smaller: Whether ``images_2`` and its like may stand for ``images``.
        copies: Files that were found so.
    """

    folder: Path
    missing: list[str] = field(default_factory=list)
    smaller: bool = True
    copies: set[Path] = field(default_factory=set)
    _entries: dict[Path, dict[str, list[str]]] = field(default_factory=dict, repr=False)
    _led: dict[Path, tuple[tuple[str, ...], str]] = field(default_factory=dict, repr=False)
    _said: dict[str, list[tuple[str, str]]] = field(default_factory=dict, repr=False)

    def find(self, name: str, where: str, *, alone: bool = True) -> Path | None:
        """The file that a name means; None, and remembered, if it is not there.

        Args:
            name: As the data set has it.
            where: Place of the name, for messages.
            alone: Whether its last part alone can tell the file. A mask that has the name of its
                picture is told by its folder.

        Raises:
            DataError: No usable path, one that leads out of the folder, or one of several files.
        """
        check_usable(name, where)
        literal = lexical(self.folder, name)
        if literal is not None and os.path.isfile(literal):
            return self.known(literal, split_name(name)[0], name, where)
        for spelling in dict.fromkeys((name, unquote(name))):
            if (found := self.search(spelling, where, alone)) is not None:
                return found
        link = None if literal is None else broken_link(literal, self.folder)
        self.missing.append(name if link is None else f"{name} ({link})")
        return None

    def search(self, name: str, where: str, alone: bool) -> Path | None:
        """The file that a name can mean, if it is not there to the letter."""
        parts, leads_out = split_name(name)
        if name.startswith(("/", "..")) and (literal := lexical(self.folder, name)) is not None:
            parts, leads_out = literal.relative_to(self.folder).parts, False
        outside = str(self.folder / name) if leads_out else ""
        starts = [parts[start:] for start in range(len(parts)) if start + 1 < len(parts) or alone]
        for tried in [*starts, (IMAGES, *parts[-1:])] if alone else starts or [parts]:
            found = self.match(tried, where, name)
            if found is None:
                continue
            if os.path.isfile(outside) and not same_file(outside, found):
                break
            self.note(name, tried, found, dropped=tried != parts)
            return self.known(found, parts, name, where)
        if ".." in parts[:1] or os.path.isfile(outside):
            raise DataError(
                f"{where}: `{name[:200]}` leads out of the data folder; copy it inside, or make a "
                "link there and name that"
            )
        return None

    def match(self, parts: Sequence[str], where: str, name: str) -> Path | None:
        """The one file below the folder whose path is spelt like this, if there is one."""
        at = self.folder
        for part in parts[:-1]:
            spelt = self.spelt(at, part, where, name)
            if spelt is None and self.smaller and folded(part) == IMAGES:
                spelt = next((found.name for found in smaller_folders(at)), None)
            if spelt is None or not os.path.isdir(at / spelt):
                return None
            at = at / spelt
        for wanted in endings_of(parts[-1]):
            there = [
                spelt for ending in wanted
                if (spelt := self.spelt(at, ending, where, name)) and os.path.isfile(at / spelt)
            ]  # fmt: skip
            if len(there) > 1:
                raise ambiguous(where, name, there)
            if there:
                return at / there[0]
        return None

    def spelt(self, folder: Path, part: str, where: str, name: str) -> str | None:
        """How an entry of a folder is really spelt: to the letter, else in another case or form."""
        if folder not in self._entries:
            entries: dict[str, list[str]] = {}
            try:
                for entry in sorted(os.listdir(folder)):
                    entries.setdefault(folded(entry), []).append(entry)
            except OSError:  # no folder, or one that must not be read
                pass
            self._entries[folder] = entries
        there = self._entries[folder].get(folded(part), [])
        if part in there:
            return part
        if len(there) > 1:
            raise ambiguous(where, name, there)
        return there[0] if there else None

    def known(self, found: Path, parts: tuple[str, ...], name: str, where: str) -> Path:
        """Remember by which name a file was found.

        Raises:
            DataError: Another name, which means another file, led there already.
        """
        stem, ending = os.path.splitext(parts[-1])
        last = stem if ending.lower() in ENDINGS else parts[-1]
        words = tuple(folded(part) for part in (*parts[:-1], last))
        before, other = self._led.setdefault(found, (words, name))
        shorter, longer = sorted((before, words), key=len)
        if longer[len(longer) - len(shorter) :] != shorter:
            raise DataError(
                f"{where}: `{name}` and `{other}` both lead to {found}, since one of them is not "
                f"there; copy the pictures to where they are named in {self.folder}"
            )
        return found

    def note(self, name: str, asked: Sequence[str], found: Path, *, dropped: bool) -> None:
        """Remember that a file was read otherwise than its name is written.

        Args:
            name: As the data set has it.
            asked: Its parts that were looked for.
            found: The file.
            dropped: Whether it lies in another folder than the name says.
        """
        shown = found.relative_to(self.folder)
        folders = zip(asked[:-1], shown.parts[:-1], strict=True)
        if dropped:
            kind = "folder"
        elif any(folded(part) != folded(there) for part, there in folders):
            kind = "size"
            self.copies.add(found)
        elif folded(asked[-1]) == folded(found.name):
            kind = "spelling"
        elif folded(asked[-1]) == folded(found.stem) and "\\" not in name:
            return  # an ending that was left out is no departure
        else:
            kind = "ending"
        self._said.setdefault(kind, []).append((name, shown.as_posix()))

    def notes(self) -> list[str]:
        """What was read otherwise than it is written, a sentence a kind."""
        said = []
        for kind, names in self._said.items():
            (name, shown), count = names[0], len(names)
            files = "1 file does" if count == 1 else f"{count} files do"
            said.append(f"{files} not lie as named ({KINDS[kind]}): `{name}` is read as `{shown}`")
        return said


def none_there(names: Sequence[str], where: str, named_in: str, folder: Path) -> DataError:
    """The error if no picture at all was found.

    Args:
        names: Of the pictures.
        where: Data set.
        named_in: File that names them.
        folder: Where names begin.
    """
    first = ", ".join(list(dict.fromkeys(names))[:LISTED])
    return DataError(
        f"{where}: none of the {len(names)} images named in {named_in} exist (first: {first}; "
        f"looked in {folder})"
    )


def check_usable(name: str, where: str) -> None:
    """Refuse names that no system takes.

    Raises:
        DataError: A zero byte, an empty name, or a name that is too long.
    """
    if "\0" in name:
        raise DataError(f"{where}: a file name with a zero byte")
    parts = split_name(name)[0]
    longest = max((len(part.encode("utf-8", "surrogatepass")) for part in parts), default=0)
    if not parts or len(name) > 4000 or longest > 255:
        raise DataError(f"{where}: `{name[:80]}` is no usable path")


def split_name(name: str) -> tuple[tuple[str, ...], bool]:
    """The parts of a path in either notation, and whether it begins at a root or above."""
    text = DRIVE.sub("/", ADDRESS.sub("", name.strip()).replace("\\", "/"))
    rooted = text.startswith("/")
    parts: list[str] = []
    for part in text.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts), rooted or parts[:1] == [".."]


def lexical(folder: Path, name: str) -> Path | None:
    """Where a name leads by its letters alone, if that is in the folder; links are not followed."""
    for root in (os.path.abspath(folder), os.path.realpath(folder)):
        path = os.path.normpath(os.path.join(root, name))
        if path.startswith(root.rstrip(os.sep) + os.sep):
            return folder / os.path.relpath(path, root)
    return None


def endings_of(part: str) -> Iterator[Sequence[str]]:
    """File names that a name can mean, those that are as likely together, the likeliest first."""
    yield [part]
    yield [part + ENDINGS[0]]
    yield [part + ending for ending in ENDINGS[1:]]
    stem, ending = os.path.splitext(part)
    if ending[1:].isalpha():  # `view.0001` has none
        yield [stem + other for other in ENDINGS if other != ending.lower()]


def folded(part: str) -> str:
    """What two spellings of one name have in common: case, composition of accents, blanks."""
    return unicodedata.normalize("NFC", part).casefold().strip()


def smaller_folders(folder: Path) -> list[Path]:
    """``images_2``, ``images_4``, … in a folder, the largest pictures first."""
    numbered = [
        (int(digits), found)
        for found in folder.glob(f"{IMAGES}_*")
        if (digits := found.name.removeprefix(f"{IMAGES}_")).isdecimal() and found.is_dir()
    ]
    return [found for _, found in sorted(numbered)]


def same_file(one: str, other: Path) -> bool:
    """Whether two files have the same content."""
    try:
        return filecmp.cmp(one, other)
    except OSError:
        return False


def broken_link(path: Path, folder: Path) -> str | None:
    """In words, that a path or a folder on its way is a link to what is not there."""
    for place in [path, *path.parents]:
        if place == folder:
            return None
        if place.is_symlink() and not place.exists():
            what = "" if place == path else f"`{place.relative_to(folder)}` "
            return f"{what}is a link to {os.readlink(place)}, which is not there"
    return None


def ambiguous(where: str, name: str, there: Sequence[str]) -> DataError:
    """The error if a name can mean several files."""
    several = ", ".join(f"`{spelt}`" for spelt in there)
    return DataError(f"{where}: `{name}` is not there and may mean {several}; name one of them")
