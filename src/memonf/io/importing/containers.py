"""Tensors out of files that others made, without running anything that is in them.

What a file is stands in its first bytes, not in its name: archives and streams of PyTorch,
safetensors, NumPy's arrays, plain pickles. What it may be instead (an archive around a checkpoint,
a web page, a Git LFS pointer, a field of another program) is named.
"""

from __future__ import annotations

import mmap
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.torch import load_file

from ...errors import FieldFileError, decoding
from ...utils.safe_unpickle import load_arrays, short
from .torch_files import OtherArchive, is_legacy, read_legacy, read_plain, read_zip

__all__ = ["read_content"]

#: Larger than any network of a single scene, optimiser included.
MOST_BYTES = 4 << 30
#: Bytes that tell what a file is; members of an archive that messages name.
HEAD, FIRST_MEMBERS = 1024, 5

#: First bytes of files that hold a checkpoint, compressed or packed, and what unpacks them.
PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip"), b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"), b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"7z\xbc\xaf\x27\x1c": ("7z", "7z x"), b"Rar!": ("rar", "unrar x"),
}  # fmt: skip
#: First bytes of other files, and what they are.
OTHERS = {
    b"\x89HDF\r\n": "an HDF5 file (Keras); save its weights as a list of arrays, "
    "np.save('weights.npy', model.get_weights())",
    b"version https://git-lfs": "a Git LFS pointer, not the file it stands for; fetch that with "
    "`git lfs pull`",
    b"ply\n": "a PLY file, a mesh or splats; a NeRF's checkpoint is wanted here",
    b"ply\r\n": "a PLY file, a mesh or splats; a NeRF's checkpoint is wanted here",
    b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"%PDF": "a PDF",
    b"\x7fELF": "a program", b"MZ": "a program",
}  # fmt: skip
#: What first bytes of texts say, in lower case and without the space before them.
TEXTS = {
    b"<!doctype": "a web page", b"<html": "a web page", b"<?xml": "an XML text",
    b"<error": "an XML text", b"{": "a JSON text",
}  # fmt: skip


def read_content(path: Path) -> Any:
    """Content of a file: nested mappings, lists, tensors, arrays, numbers, texts; on the CPU.

    Objects of other classes are `memonf.utils.safe_unpickle.PickledObject`, which nobody ran.

    Raises:
        FieldFileError: Not there, too large, broken, or of another kind, which is named.
    """
    check_file(path)
    with decoding(f"{path}: cannot be read", FieldFileError), path.open("rb") as stream:
        head = stream.read(HEAD)
    refuse_others(path, head)
    if is_safetensors(head, path.stat().st_size):
        with decoding(f"{path}: cannot be read as safetensors", FieldFileError):
            with safe_open(path, "pt") as opened:
                own = "memonf" in (opened.metadata() or {})
            if own:
                raise FieldFileError(f"{path}: is a field of MeMo NF already; use it as it is")
            return load_file(path)
    if head.startswith(b"\x93NUMPY"):
        with decoding(f"{path}: cannot be read as a list of arrays", FieldFileError):
            return read_arrays(path)
    if head.startswith(b"PK\x03\x04"):
        return read_archive(path)
    with (
        decoding(f"{path}: cannot be read as a PyTorch checkpoint", FieldFileError),
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        if is_legacy(head):
            return read_legacy(mapped, len(mapped))
        return read_plain(mapped)


def check_file(path: Path) -> None:
    """Refuse what is no ordinary file of a sensible size."""
    try:
        if path.is_dir():
            raise FieldFileError(f"{path}: is a folder; name the checkpoint in it")
        if not path.exists():
            raise FieldFileError(f"{path}: there is no such file")
        if not path.is_file():
            raise FieldFileError(f"{path}: is no ordinary file")
        size = path.stat().st_size
    except OSError as error:
        raise FieldFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    if size == 0:
        raise FieldFileError(f"{path}: is empty; the download or copy failed, get it again")
    if size > MOST_BYTES:
        raise FieldFileError(f"{path}: {size >> 20} MiB; no network of one scene is so large")


def refuse_others(path: Path, head: bytes) -> None:
    """Name what is no checkpoint: packed ones, saved web pages, other programs' files.

    Raises:
        FieldFileError: It is such a file.
    """
    for magic, (kind, program) in PACKED.items():
        if head.startswith(magic):
            raise FieldFileError(f"{path}: is packed by {kind}: unpack it first (`{program}`)")
    if head[257:262] == b"ustar":
        raise FieldFileError(f"{path}: {said_of_tar(path)}")
    for magic, what in OTHERS.items():
        if head.startswith(magic):
            raise FieldFileError(f"{path}: is {what}")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what in TEXTS.items():
        if text.startswith(magic) and is_text(head):
            raise FieldFileError(
                f"{path}: is {what}, not a checkpoint; perhaps a download page was saved in its "
                "place: download the file itself"
            )


def is_text(head: bytes) -> bool:
    """Whether bytes are text: no control characters but those of lines."""
    return not any(byte < 32 and byte not in b"\t\r\n\f" for byte in head)


def said_of_tar(path: Path) -> str:
    """What a tar archive holds, by its first members."""
    names: list[str] = []
    try:
        with tarfile.open(path, "r:") as archive:
            while len(names) < FIRST_MEMBERS and (member := archive.next()) is not None:
                if member.isfile():
                    names.append(member.name)
    except Exception:  # a broken archive is one all the same
        return "is a tar archive whose end is missing; copy it again, then unpack it (`tar xf`)"
    return f"is an archive that holds {listed(names)}: unpack it first (`tar xf`)"


def listed(names: list[str]) -> str:
    """The first names of an archive."""
    first = ", ".join(map(short, names[: FIRST_MEMBERS - 1]))
    return (first or "no file") + (", ..." if len(names) >= FIRST_MEMBERS else "")


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins with the length of a JSON header, and the header."""
    return (
        len(head) > 8
        and int.from_bytes(head[:8], "little") <= size - 8
        and head[8:9] == b"{"
    )  # fmt: skip


def read_archive(path: Path) -> Any:
    """Content of a zip archive of PyTorch's.

    Raises:
        FieldFileError: Its end is missing, or it holds something else.
    """
    with decoding(f"{path}: cannot be read as a PyTorch checkpoint", FieldFileError):
        whole = zipfile.is_zipfile(path)
    if not whole:
        raise FieldFileError(
            f"{path}: its end is missing: {path.stat().st_size} bytes were copied, not all; "
            "download or copy it again"
        )
    with decoding(f"{path}: cannot be read as a PyTorch checkpoint", FieldFileError):
        try:
            return read_zip(path)
        except OtherArchive:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
    if names and all(name.endswith(".npy") for name in names):
        raise FieldFileError(
            f"{path}: is an .npz of arrays ({listed(names)}); save the params as a state_dict, "
            "or as a list of arrays in one .npy"
        )
    raise FieldFileError(
        f"{path}: is an archive that holds {listed(names)}: unpack it first (`unzip`)"
    )


def read_arrays(path: Path) -> Any:
    """Content of an ``.npy`` file: an array, or what NumPy pickled in its place."""
    stream = BytesIO(path.read_bytes())
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    _, _, dtype = read_header(stream)
    if not dtype.hasobject:
        stream.seek(0)
        return np.load(stream, allow_pickle=False)
    return load_arrays(stream)
