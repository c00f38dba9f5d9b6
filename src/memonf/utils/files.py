"""Writing results so that nothing is ever half-written, and nothing but a regular file is replaced.

A result is written into a temporary folder beside its place, then renamed over it. Symbolic links
are followed first, so that the link stays and its target is replaced (or created, if it is
missing). Devices, pipes, sockets and folders are refused, as is a ring of links. The permissions of
a file that is replaced are kept, its owner too where the system allows; another hard link of it
keeps the old content.

Verbs find out before long work whether their outputs can be written: `check_writable` for files,
`check_folder` for folders that results are added to, `check_fresh_folder` for new folders.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError

__all__ = [
    "check_folder",
    "check_fresh_folder",
    "check_room",
    "check_writable",
    "destination",
    "is_utf8",
    "remove_unfinished",
    "replacing",
    "replacing_folder",
    "same_place",
    "write_json",
    "write_tensors",
    "write_text",
]

#: What is no regular file, in words.
KINDS = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
#: Characters of the name that a temporary file keeps, so that long names stay within the limit.
KEPT_NAME, KEPT_ENDING = 32, 16
#: Temporary folders of results that are being written.
unfinished: set[Path] = set()
umask_lock = threading.Lock()


@contextmanager
def reported(target: Path, advice: str = "choose another place") -> Iterator[None]:
    """Turn what the system says of a file that cannot be written into an error of ours."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written: {error.strerror or error}; {advice}"
        ) from error


def destination(path: str | os.PathLike[str], *, folder: bool = False) -> Path:
    """Where writing to `path` ends: symbolic links followed, to a target that may be missing.

    Args:
        path: Name of a result.
        folder: Whether a folder is to be written instead of a file.

    Raises:
        OutputError: There is something that is not replaced: a device, a pipe, a socket, a folder
            (or a file, for `folder`), or a ring of links.
    """
    target = Path(path)
    if "\0" in str(target):
        raise OutputError(f"{str(target)!r}: a file name cannot hold null characters")
    if not is_utf8(target):
        raise OutputError(f"{target}: expected a name in UTF-8; choose another name or folder")
    end = Path(os.path.realpath(target))
    with reported(target):
        try:
            state = target.stat()
        except FileNotFoundError:
            return end
    via = f" (a link to {end})" if target.is_symlink() else ""
    is_folder = stat.S_ISDIR(state.st_mode)
    if is_folder and not folder:
        raise OutputError(f"{target}{via}: is a folder; name a file in it")
    if not (is_folder or stat.S_ISREG(state.st_mode)):
        kind = KINDS.get(stat.S_IFMT(state.st_mode), "a special file")
        raise OutputError(
            f"{target}{via}: is {kind}; only regular files are written or replaced, choose "
            "another place"
        )
    if folder and not is_folder:
        raise OutputError(f"{target}{via}: is a file; name a folder")
    if not os.path.lexists(end):  # an open file of this process that was removed meanwhile
        raise OutputError(f"{target}{via}: has no name in any folder; choose another place")
    return end


def same_place(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two names lead to one file or folder, there or not."""
    with suppress(OSError, ValueError):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Hand out a temporary path beside `path`; rename it over `path` if the block succeeds.

    On any failure what was written is removed and an existing `path` stays as it was.

    Raises:
        OutputError: `path` is no regular file (see `destination`), its folder cannot be made or
            written, or the disk is full.
    """
    target = Path(path)
    end = destination(target)
    suffix = end.suffix if len(os.fsencode(end.suffix)) <= KEPT_ENDING else ""
    with folder_beside(target, end) as folder:
        # In a folder of its own: writers may make temporary files beside theirs.
        temporary = folder / f"new{suffix}"
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        take_permissions(temporary, end, 0o666)
        temporary.replace(end)


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Hand out a temporary folder beside `path`; rename it to `path` if the block succeeds.

    On any failure it is removed. `path` must not be there, or be an empty folder.

    Raises:
        OutputError: The folder cannot be made or written, or the disk is full.
    """
    target = Path(path)
    end = destination(target, folder=True)
    with folder_beside(target, end) as folder:
        yield folder
        take_permissions(folder, end, 0o777)
        folder.replace(end)


@contextmanager
def folder_beside(target: Path, end: Path) -> Iterator[Path]:
    """A temporary folder, private, beside the place of a result; removed at the end.

    Args:
        target: What messages call the result.
        end: Its place.
    """
    folder: Path | None = None
    try:
        with reported(target, "make room or choose another place; nothing was changed"):
            end.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{shortened(end.stem)}."
            folder = Path(tempfile.mkdtemp(dir=end.parent, prefix=prefix))
            unfinished.add(folder)
            yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.discard(folder)


def remove_unfinished() -> None:
    """Remove what is half-written, before the process ends without unwinding."""
    for path in tuple(unfinished):
        shutil.rmtree(path, ignore_errors=True)


def shortened(name: str) -> str:
    """The beginning of a name, whole characters of at most `KEPT_NAME` bytes."""
    return os.fsencode(name)[:KEPT_NAME].decode("utf-8", "ignore")


def take_permissions(temporary: Path, end: Path, fresh: int) -> None:
    """Give a temporary file what its place has: permissions and owner, or those of a new file.

    Args:
        temporary: Private, as temporary files are.
        end: What is to be replaced, if it is there.
        fresh: Permissions of a new one, before the process's mask.
    """
    try:
        state = end.stat()
    except FileNotFoundError:
        temporary.chmod(fresh & ~current_umask())
        return
    temporary.chmod(0o600 if temporary.is_file() else 0o700)
    own = temporary.stat()
    if hasattr(os, "chown") and (own.st_uid, own.st_gid) != (state.st_uid, state.st_gid):
        with suppress(OSError):  # only some users may give a file away
            os.chown(temporary, state.st_uid, state.st_gid)
    temporary.chmod(stat.S_IMODE(state.st_mode) & fresh)


def current_umask() -> int:
    """The process's file mode mask (temporary files are made private, results should not be)."""
    with umask_lock:  # another thread would read, and put back, the mask of this moment
        mask = os.umask(0)
        os.umask(mask)
    return mask


def is_utf8(path: Path) -> bool:
    """Whether a path is text: other names are bytes that some libraries do not open."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether `path` can be written at its end; nothing is made.

    Raises:
        OutputError: It is no regular file (see `destination`) or protected, or its folder cannot be
            made or refuses new files.
    """
    target = Path(path)
    end = destination(target)
    check_replaceable(target, end)
    with reported(target):
        check_takes_files(end.parent)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether files can be written into a folder, there or not.

    Raises:
        OutputError: It is a file, cannot be made, or refuses new files.
    """
    target = Path(path)
    end = destination(target, folder=True)
    with reported(target):
        check_takes_files(end)


def check_fresh_folder(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether a new folder can be made at `path`.

    Raises:
        InputError: Something is in it.
        OutputError: It is a file or a mount point, or the folder above refuses new ones.
    """
    target = Path(path)
    end = destination(target, folder=True)
    with reported(target):
        if end.is_dir() and any(end.iterdir()):
            raise InputError(f"{target}: is there already; choose another --out or remove it")
        check_replaceable(target, end)
        check_takes_files(end.parent)


def check_replaceable(target: Path, end: Path) -> None:
    """Refuse what is there, and what the system would not let be replaced at the end.

    Raises:
        OutputError: A file that must not be written to (by its permissions, or as another user's in
            a folder such as /tmp), or something mounted.
    """
    if not end.exists():
        return
    if not os.access(end, os.W_OK):
        raise OutputError(
            f"{target}: is protected from being written; choose another place or `chmod u+w` it"
        )
    if is_mounted(end):
        raise OutputError(
            f"{target}: is mounted there and cannot be replaced; choose another place"
        )
    if hasattr(os, "geteuid"):
        above, user = end.parent.stat(), os.geteuid()
        kept = above.st_mode & stat.S_ISVTX and user not in (0, above.st_uid, end.stat().st_uid)
        if kept:
            raise OutputError(
                f"{target}: belongs to another user, and {end.parent} keeps it; choose another "
                "place"
            )


def is_mounted(end: Path) -> bool:
    """Whether a file or folder is a mount point, as in containers."""
    if sys.platform.startswith("linux"):
        with suppress(OSError), open("/proc/self/mountinfo", "rb") as table:
            points = {line.split()[4] for line in table}
            escaped = os.fsencode(end)
            for letter in b"\\ \t\n":  # as the table writes them
                escaped = escaped.replace(bytes([letter]), b"\\%03o" % letter)
            return escaped in points
    return os.path.ismount(end)


def check_takes_files(folder: Path) -> None:
    """Make and forget a file in a folder, or in the nearest one above that is there."""
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass


def check_room(path: str | os.PathLike[str], needed: float, advice: str) -> None:
    """Refuse before long work what does not fit on the disk.

    Args:
        path: What is to be written.
        needed: Bytes that it takes at least.
        advice: What to ask for instead.

    Raises:
        OutputError: There is less room.
    """
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{Path(path)}: takes about {needed / 1e9:.3g} GB, {folder} has {free / 1e9:.3g} GB "
            f"free; {advice}"
        )


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write indented JSON whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file whole or not at all.

    Args:
        path: File to write.
        tensors: By name, contiguous and on the CPU.
        metadata: Texts of its header.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        try:
            save_file(dict(tensors), temporary, dict(metadata))
        except SafetensorError as error:  # a full disk surfaces as this
            raise OSError(str(error)) from error
